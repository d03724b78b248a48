"""Six moments with proved error bounds, by both engines, against one moment by mpmath.quad without any.

    .venv/bin/python benchmarks/balls.py --out balls.json
    .venv/bin/python benchmarks/balls.py --activations tanh gelu --digits 15 50

"integral" is adaptive Gauss-Legendre in ball arithmetic, "trapezoid" the certified sinh-trapezoid; what they search for
once for an activation is found in the round that is not counted. mpmath.quad integrates phi^2 against the normal
density, split at the kink, up to 100 digits. Accuracy is the worst of V, d1, d2, h and v that do not vanish, as proved.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import mpmath
from flint import arb
from timing import arguments, take_turns, write_record

from equikernel.numerics.balls.context import bits_of_digits, precision
from equikernel.numerics.balls.moments import ball_moments
from equikernel.theory.activation import activation

_TAU = "0.9"
_MPMATH_DIGITS = 100  # beyond, one moment takes minutes
_PLAIN: dict[str, Callable[[Any], Any]] = {
    "tanh": mpmath.tanh,
    "swish": lambda x: x / (1 + mpmath.exp(-x)),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "relu": lambda x: max(x, mpmath.mpf(0)),
}


def with_mpmath(phi: Callable[[Any], Any], digits: int) -> Any:
    """E[phi(tau xi)^2] by mpmath.quad with five guard digits."""
    with mpmath.workdps(digits + 5):
        t = mpmath.mpf(_TAU)
        return mpmath.quad(lambda x: phi(t * x) ** 2 * mpmath.npdf(x), [-mpmath.inf, 0, mpmath.inf])


def run(name: str, digits: int, repeats: int) -> dict[str, Any]:
    """One activation at so many digits: times, ratios, and the digits proved."""
    act, bits = activation(name), bits_of_digits(digits)
    with precision(bits + 20):
        tau = arb(_TAU).mid()
    contenders: dict[str, Callable[[], Any]] = {
        engine: partial(ball_moments, act, tau, bits, engine) for engine in ("integral", "trapezoid")
    }
    proved = {
        engine: min(b.rel_accuracy_bits() for _, b in moments().items() if b != 0) * 0.30103
        for engine, moments in contenders.items()
    }
    if digits <= _MPMATH_DIGITS:
        contenders["mpmath.quad, one moment"] = lambda: with_mpmath(_PLAIN[name], digits)
    seconds = take_turns(contenders, repeats)
    medians = {who: taken["median"] for who, taken in seconds.items()}
    fastest = min(medians["integral"], medians["trapezoid"])
    return {
        "activation": name,
        "digits": digits,
        "seconds": seconds,
        "digits_proved": proved,
        "trapezoid_over_integral": medians["trapezoid"] / medians["integral"],
        "mpmath_over_fastest": medians.get("mpmath.quad, one moment", float("nan")) / fastest,
    }


def main() -> None:
    """Run, print a line for each activation and number of digits, and write the record."""
    parser = arguments("rigorous moments by two engines against mpmath.quad", repeats=3)
    parser.add_argument("--activations", nargs="+", choices=sorted(_PLAIN), default=list(_PLAIN))
    parser.add_argument("--digits", nargs="+", type=int, default=[15, 50, 100, 300, 1000])
    given = parser.parse_args()
    rows = []
    for digits in given.digits:
        for name in given.activations:
            row = run(name, digits, given.repeats)
            times = ", ".join(
                f"{who} {1e3 * t['median']:.3g} ms ({1e3 * t['least']:.3g} to {1e3 * t['largest']:.3g})"
                for who, t in row["seconds"].items()
            )
            proved = ", ".join(f"{who} {d:.0f}" for who, d in row["digits_proved"].items())
            ratios = f"trapezoid/integral {row['trapezoid_over_integral']:.2f}"
            if digits <= _MPMATH_DIGITS:
                ratios += f", mpmath (one moment)/fastest (six) {row['mpmath_over_fastest']:.1f}"
            else:
                del row["mpmath_over_fastest"]
            rows.append(row)
            print(f"{name}, {digits} digits: {times}; {ratios}; digits proved: {proved}", flush=True)
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
