"""The published recipe of [Ling24] against equikernel's designs, in one run.

    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/design_recipe.py --out design_recipe.json

The recipe, written anew after the code published with the paper (github.com/StephenLi24/INN_eqvi_ENN, the files
two_layer_lrelu.py and one_layer_tanh.py): tau by 20 iterations from 0; the DEQ's moments by scipy.integrate.quad;
closed forms for two layers max(a x, b x), or one layer a clip(x, -c, c); then SLSQP with tol = 1e-10 on the sum of
squares of the four differences, from (a, b) = (1, 0.1) in both layers, or (a, c) = (0.1, 0.1). It computes the DEQ's
moments anew in every evaluation, by NumPy's functions on single numbers; "lean" is the same search with the moments
computed once, by the functions of the standard library. tau0 = 1 and sigma_b2 = 1 - sigma_a2 throughout.

equikernel is given the same family; where that has no solution it says so ("proved"), and a family that has one is
timed as "auto". Residuals are the largest relative difference of the four coefficients, computed with 30 digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from design_common import SIGMAS, deq_of, largest_residual, markdown, nearby
from designs import verdict
from scipy.integrate import quad
from scipy.special import erf, erfc, expit
from timing import arguments, take_turns, write_record

from equikernel.errors import SolutionError
from equikernel.numerics.designs.equivalent import equivalent_network
from equikernel.numerics.explicit import explicit_coefficients
from equikernel.theory.models import DEQ, ExplicitNetwork

__all__ = ["Found", "recipe"]

_ITERATIONS, _TOLERANCE = 20, 1e-10
_STARTS = {"leaky-relu": (1.0, 0.1, 1.0, 0.1), "hard-tanh": (0.1, 0.1)}
_CASES = {"relu": "leaky-relu", "tanh": "hard-tanh", "gelu": "leaky-relu", "silu": "leaky-relu", "elu": "leaky-relu"}
_Function = Callable[[float], float]
# as published, NumPy's functions on single numbers; gelu, silu and elu are not in the published code
_PUBLISHED: Mapping[str, _Function] = {
    "relu": lambda x: np.maximum(0, x),
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * erfc(-x / np.sqrt(2)),
    "silu": lambda x: x * expit(x),
    "elu": lambda x: np.maximum(0, x) + np.expm1(np.minimum(0, x)),
}
_LEAN: Mapping[str, _Function] = {
    "relu": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "gelu": lambda x: 0.5 * x * math.erfc(-x / math.sqrt(2.0)),
    "silu": lambda x: x / (1.0 + math.exp(-x)) if x > -700.0 else 0.0,
    "elu": lambda x: x if x > 0.0 else math.expm1(x),
}
_Four = tuple[float, float, float, float]  # alpha1, alpha2, alpha3, and gamma^2 - tau0^2 alpha1


@dataclass(frozen=True)
class Found:
    """What SLSQP returned: the layers' parameters, its verdict, the sum of squares, and its evaluations."""

    x: tuple[float, ...]
    success: bool
    sum_of_squares: float
    evaluations: int


@dataclass(frozen=True)
class _Moments:
    """Gaussian moments of phi by ``quad``, with phi and the density in one of two ways."""

    phi: _Function
    density: _Function

    @classmethod
    def of(cls, name: str, *, lean: bool) -> _Moments:
        if lean:
            return cls(_LEAN[name], lambda x: math.exp(-x * x / 2.0) / math.sqrt(2.0 * math.pi))
        return cls(_PUBLISHED[name], lambda x: np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))

    def mean(self, f: _Function, tau: float, bias: float = 0.0, power: int = 1) -> float:
        """E[f(xi) (phi(tau xi) - bias)^power]."""
        phi, density = self.phi, self.density
        return float(quad(lambda x: f(x) * (phi(tau * x) - bias) ** power * density(x), -np.inf, np.inf)[0])

    def scale(self, sigma_a2: float) -> tuple[float, float]:
        """Tau and the mean of phi(tau xi), by iteration."""
        tau, bias = 0.0, 0.0
        for _ in range(_ITERATIONS):
            bias = self.mean(lambda x: 1.0, tau)
            tau = math.sqrt(sigma_a2 * self.mean(lambda x: 1.0, tau, bias, 2) + 1.0 - sigma_a2)
        return tau, bias


def _of_deq(moments: _Moments, sigma_a2: float, tau: float, bias: float) -> _Four:
    """The DEQ's coefficients, from G = (Lambda - sigma_b2 s)/sigma_a2 in the coefficients of Lambda."""
    twice_h = moments.mean(lambda x: x * x - 1.0, tau, bias, 2) / tau**2
    d1 = moments.mean(lambda x: x, tau, bias) / tau
    d2 = moments.mean(lambda x: x * x - 1.0, tau, bias) / tau**2
    sigma_b2, gain = 1.0 - sigma_a2, 1.0 - sigma_a2 * d1**2
    linear, norm = sigma_b2 / gain, sigma_b2 / (1.0 - sigma_a2 * twice_h / 2.0)
    second = d2**2 / gain
    return (
        (linear - sigma_b2) / sigma_a2,
        second * norm**2 / 4.0,
        second * linear**2 / 2.0,
        (tau**2 - linear) / sigma_a2,
    )


def _leaky_relu(x: np.ndarray[Any, np.dtype[np.float64]]) -> _Four:
    """Two layers max(a x, b x)."""
    first, second = x[:2], x[2:]
    p1, p2 = (float(a + b) ** 2 / 4.0 for a, b in (first, second))
    # V/tau^2, which is h as well, and d2^2 tau^2
    v1, v2 = (((a * a + b * b) * (math.pi - 1.0) + 2.0 * a * b) / (2.0 * math.pi) for a, b in (first, second))
    s1, s2 = ((a - b) ** 2 / (2.0 * math.pi) for a, b in (first, second))
    of_second = s2 / v1 if v1 > 0.0 else math.inf
    alpha1 = p1 * p2
    return (
        alpha1,
        p2 * s1 / 4.0 + of_second * v1**2 / 4.0,
        p2 * s1 / 2.0 + of_second * p1**2 / 2.0,
        v1 * v2 - alpha1,
    )


def _hard_tanh(x: np.ndarray[Any, np.dtype[np.float64]]) -> _Four:
    """One layer a clip(x, -c, c)."""
    a, c = map(float, x)
    inside = float(erf(c / math.sqrt(2.0)))
    alpha1 = a * a * inside**2
    density = math.exp(-c * c / 2.0) * math.sqrt(2.0 / math.pi)
    return alpha1, 0.0, 0.0, a * a * (inside + c * (c * float(erfc(c / math.sqrt(2.0))) - density)) - alpha1


_OF_NETWORK = {"leaky-relu": _leaky_relu, "hard-tanh": _hard_tanh}


def recipe(name: str, family: str, sigma_a2: float, *, lean: bool = False) -> Found:
    """The published search, or the same made lean."""
    moments, of_network = _Moments.of(name, lean=lean), _OF_NETWORK[family]
    tau, bias = moments.scale(sigma_a2)
    known = _of_deq(moments, sigma_a2, tau, bias) if lean else None

    def sum_of_squares(x: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        target = known or _of_deq(moments, sigma_a2, tau, bias)
        return sum((wanted - got) ** 2 for wanted, got in zip(target, of_network(x), strict=True))

    result = scipy.optimize.minimize(sum_of_squares, _STARTS[family], method="SLSQP", tol=_TOLERANCE)
    return Found(tuple(map(float, result.x)), bool(result.success), float(result.fun), int(result.nfev))


def network_of(family: str, x: tuple[float, ...]) -> ExplicitNetwork:
    """The network that the parameters stand for, its coefficients held against the closed forms used above."""
    if family == "leaky-relu":
        net = ExplicitNetwork.of(*(f"max({a!r}*x, {b!r}*x)" for a, b in (x[:2], x[2:])))
    else:
        net = ExplicitNetwork.of(f"{x[0]!r}*hard_tanh(x, {-abs(x[1])!r}, {abs(x[1])!r})")
    found = explicit_coefficients(net, ntk=False)
    expected = (found.alpha1, found.alpha2, found.alpha3, found.tau2 - found.alpha1)
    assert np.allclose(_OF_NETWORK[family](np.array(x)), expected, rtol=1e-9, atol=1e-12), (family, x)
    return net


def _ours(deqs: Iterator[DEQ], family: str) -> None:
    try:
        equivalent_network(next(deqs), 1, family=family)
    except SolutionError:
        return


def measure(name: str, sigma_a2: str, repeats: int) -> dict[str, Any]:
    """One DEQ: what both found, and the seconds of both in turns."""
    family = _CASES[name]
    found = recipe(name, family, float(sigma_a2))
    deq = deq_of(name, sigma_a2)
    row: dict[str, Any] = {"activation": name, "sigma_a2": sigma_a2, "family": family, "recipe": vars(found)}
    row["recipe_residual"] = largest_residual(network_of(family, found.x), deq, "ck")
    try:
        design = equivalent_network(deq, 1, family=family)
        row["outcome"], row["residual"] = "solved", largest_residual(design.network, deq, "ck")
    except SolutionError as error:
        row["outcome"], row["sentence"] = verdict(error), str(error)
    auto = equivalent_network(deq, 1)
    row["auto"], row["auto_residual"] = auto.family, largest_residual(auto.network, deq, "ck")  # type: ignore[union-attr]
    again = [iter(nearby(name, sigma_a2, 2 * (repeats + 1))[k::2]) for k in range(2)]
    row["seconds"] = take_turns(
        {
            "recipe": lambda: recipe(name, family, float(sigma_a2)),
            "lean": lambda: recipe(name, family, float(sigma_a2), lean=True),
            "equikernel": lambda: _ours(again[0], family),
            "auto": lambda: _ours(again[1], "auto"),
        },
        repeats,
    )
    return row


def _milliseconds(taken: Mapping[str, float]) -> str:
    return f"{1e3 * taken['median']:.0f} ({1e3 * taken['least']:.0f}-{1e3 * taken['largest']:.0f})"


def _line(row: Mapping[str, Any]) -> str:
    ours = f"{row['residual']:.0e}" if row["outcome"] == "solved" else row["outcome"]
    seconds = row["seconds"]
    cells = [row["activation"], row["sigma_a2"], row["family"]]
    cells += ["success" if row["recipe"]["success"] else "failure", f"{row['recipe_residual']:.1e}", ours]
    cells += [f"{row['auto_residual']:.0e}, {row['auto']}"]
    cells += [_milliseconds(seconds[who]) for who in ("recipe", "lean", "equikernel", "auto")]
    return markdown([*cells, f"{seconds['recipe']['median'] / seconds['equikernel']['median']:.1f}"])


def main() -> None:
    """Print the table, and write the record."""
    parser = arguments("The published recipe against equikernel's designs", repeats=3)
    parser.add_argument("--names", nargs="+", default=list(_CASES), choices=list(_CASES))
    parser.add_argument("--sigma-a2", nargs="+", default=list(SIGMAS))
    given = parser.parse_args()
    columns = ["activation", "sigma_a2", "family", "recipe says", "its residual", "ours", "auto"]
    columns += ["recipe, ms", "lean, ms", "ours, ms", "auto, ms", "recipe / ours"]
    print(markdown(columns) + f"\n|{'---|' * len(columns)}")
    rows = []
    for name in given.names:
        for sigma_a2 in given.sigma_a2:
            rows.append(measure(name, sigma_a2, given.repeats))
            print(_line(rows[-1]), flush=True)
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
