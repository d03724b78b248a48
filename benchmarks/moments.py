"""The Gaussian moments V, d1, d2, h, v and the mean: equikernel against mpmath.quad (and SciPy's quad at 15 digits).

    .venv/bin/python benchmarks/moments.py --out moments.json

The plain implementation is six integrals against the normal density, split at the kinks, phi and phi' written by hand.
"first" is a new activation, analysed and compiled; "again" the same activation at another scale, for which tabulated
values of phi are used again, as in a scan for fixed points. Errors are relative to 80 digits, the largest of V, d1, d2,
h and v that do not vanish.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import scipy.integrate
import scipy.special
from timing import arguments, take_turns, write_record

from equikernel.numerics.moments import gaussian_moments
from equikernel.theory.activation import activation

_TAU = "0.9"
_NAMES = ("V", "d1", "d2", "h", "v")


@dataclass(frozen=True)
class Plain:
    """Phi and phi' in mpmath and in floats, and the kinks."""

    text: str
    kinks: tuple[int, ...]
    mp: tuple[Callable[[Any], Any], Callable[[Any], Any]]
    floats: tuple[Callable[[float], float], Callable[[float], float]]


def _float_cdf(x: float) -> float:
    return float(scipy.special.ndtr(x))


def _float_density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


_PLAIN = {
    "relu": Plain(
        "max(x, 0)",
        (0,),
        (lambda x: max(x, mpmath.mpf(0)), lambda x: mpmath.mpf(x > 0)),
        (lambda x: max(x, 0.0), lambda x: float(x > 0.0)),
    ),
    "tanh": Plain(
        "tanh(x)",
        (),
        (mpmath.tanh, lambda x: mpmath.sech(x) ** 2),
        (math.tanh, lambda x: 1.0 - math.tanh(x) ** 2),
    ),
    "gelu": Plain(
        "x*Phi(x)",
        (),
        (lambda x: x * mpmath.ncdf(x), lambda x: mpmath.ncdf(x) + x * mpmath.npdf(x)),
        (lambda x: x * _float_cdf(x), lambda x: _float_cdf(x) + x * _float_density(x)),
    ),
}


def _combine(m0: Any, s0: Any, m1: Any, m2: Any, s2: Any, v: Any, tau: Any) -> dict[str, Any]:
    """The moments from E[f], E[f^2], E[xi f], E[(xi^2 - 1) f], E[(xi^2 - 1) f^2] and E[phi'^2]."""
    return {
        "V": s0 - m0**2,
        "d1": m1 / tau,
        "d2": m2 / tau**2,
        "h": (s2 - 2 * m0 * m2) / (2 * tau**2),
        "v": v,
    }


def with_mpmath(plain: Plain, digits: int, tau: str = _TAU) -> dict[str, Any]:
    """By mpmath.quad with five guard digits."""
    with mpmath.workdps(digits + 5):
        t = mpmath.mpf(tau)
        phi, slope = plain.mp
        ends = [-mpmath.inf, *plain.kinks, mpmath.inf] if plain.kinks else [-mpmath.inf, 0, mpmath.inf]

        def mean(f: Callable[[Any], Any]) -> Any:
            return mpmath.quad(lambda x: f(x) * mpmath.npdf(x), ends)

        return _combine(
            mean(lambda x: phi(t * x)),
            mean(lambda x: phi(t * x) ** 2),
            mean(lambda x: x * phi(t * x)),
            mean(lambda x: (x * x - 1) * phi(t * x)),
            mean(lambda x: (x * x - 1) * phi(t * x) ** 2),
            mean(lambda x: slope(t * x) ** 2),
            t,
        )


def with_scipy(plain: Plain, tau: str = _TAU) -> dict[str, float]:
    """By scipy.integrate.quad with a tolerance of 1e-14, on half-lines or between kinks."""
    t = float(tau)
    phi, slope = plain.floats

    def mean(f: Callable[[float], float]) -> float:
        ends = [-math.inf, *(plain.kinks or (0,)), math.inf]
        return math.fsum(
            scipy.integrate.quad(lambda x: f(x) * _float_density(x), a, b, epsabs=1e-14, epsrel=1e-13, limit=200)[0]
            for a, b in itertools.pairwise(ends)
        )

    return _combine(
        mean(lambda x: phi(t * x)),
        mean(lambda x: phi(t * x) ** 2),
        mean(lambda x: x * phi(t * x)),
        mean(lambda x: (x * x - 1) * phi(t * x)),
        mean(lambda x: (x * x - 1) * phi(t * x) ** 2),
        mean(lambda x: slope(t * x) ** 2),
        t,
    )


def _largest_error(found: dict[str, Any], truth: dict[str, Any]) -> float:
    with mpmath.workdps(90):
        return max(float(abs(found[k] / truth[k] - 1)) for k in truth if abs(truth[k]) > mpmath.mpf(10) ** -60)


def run(name: str, digits: int, repeats: int) -> dict[str, Any]:
    """One activation at so many digits: times, ratios and errors."""
    plain = _PLAIN[name]
    fresh = itertools.count(1)
    scales = itertools.cycle(["0.83", "0.87", "0.91", "0.95"])
    known = activation(plain.text)

    def first() -> Any:
        # another constant makes another activation with the same moments, so that nothing is found tabulated
        return gaussian_moments(activation(f"{plain.text} + {next(fresh)}/{1000 + digits}"), _TAU, digits)

    contenders: dict[str, Callable[[], Any]] = {
        "equikernel first": first,
        "equikernel again": lambda: gaussian_moments(known, next(scales), digits),
        "mpmath.quad": lambda: with_mpmath(plain, digits),
    }
    if digits <= 15:
        contenders["scipy.quad"] = lambda: with_scipy(plain)
    truth = with_mpmath(plain, 80)
    moments = gaussian_moments(known, _TAU, digits)
    found: dict[str, dict[str, Any]] = {
        "equikernel": {k: getattr(moments, k).value for k in _NAMES},
        "mpmath.quad": with_mpmath(plain, digits),
    }
    if digits <= 15:
        found["scipy.quad"] = with_scipy(plain)
        # in float64 the scale is the float 0.9, and so it is in the truth
        truth = with_mpmath(plain, 80, repr_exactly(float(_TAU)))
        found["mpmath.quad"] = with_mpmath(plain, digits, repr_exactly(float(_TAU)))
    seconds = take_turns(contenders, repeats)
    return {
        "activation": name,
        "digits": digits,
        "seconds": seconds,
        "mpmath_over_first": seconds["mpmath.quad"]["median"] / seconds["equikernel first"]["median"],
        "mpmath_over_again": seconds["mpmath.quad"]["median"] / seconds["equikernel again"]["median"],
        "errors": {who: _largest_error(values, truth) for who, values in found.items()},
    }


def repr_exactly(value: float) -> str:
    """All binary digits of a float, as a decimal."""
    with mpmath.workdps(60):
        return str(mpmath.nstr(mpmath.mpf(value), 58))


def main() -> None:
    """Run, print a line for each activation and number of digits, and write the record."""
    given = arguments("Gaussian moments against mpmath.quad", repeats=5).parse_args()
    rows = []
    for digits in (15, 50):
        for name in _PLAIN:
            row = run(name, digits, given.repeats)
            rows.append(row)
            times = ", ".join(
                f"{who} {1e3 * t['median']:.3g} ms ({1e3 * t['least']:.3g} to {1e3 * t['largest']:.3g})"
                for who, t in row["seconds"].items()
            )
            accuracy = ", ".join(f"{who} {error:.0e}" for who, error in row["errors"].items())
            print(
                f"{name}, {digits} digits: {times}; mpmath/first {row['mpmath_over_first']:.1f}, "
                f"mpmath/again {row['mpmath_over_again']:.1f}; errors: {accuracy}"
            )
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
