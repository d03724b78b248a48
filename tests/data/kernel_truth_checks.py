"""The quadrature behind kernel_truth.json against closed forms, and against plain integration in other variables.

The plain integration takes u = sqrt(q_i) x, v = sqrt(q_j) (rho x + sqrt(1 - rho^2) y), splits y at the kinks of v, and
x at those of u and ever finer towards the places where a kink of v sweeps through. It knows phi alone, from definitions
of its own: the derivatives go over to the density,

    E[phi'(u) phi'(v)] = E[phi(u) phi(v) (x y/t + rho (1 - y^2)/t^2)]/sqrt(q_i q_j),  t = sqrt(1 - rho^2).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import mpmath
from flint import arb
from kernel_truth_functions import FUNCTIONS, exact
from kernel_truth_quadrature import duals

__all__ = ["check_quadrature"]

_NODES, _END, _WIDTH = 32, 13, 2
_AGREE = 1e-20
_CORRELATIONS = ("-0.6", "0.9999999999")
_VARIANCES = ("1.3", "0.7")


def _clip(x: arb, low: float, high: float) -> arb:
    return x.max(arb(low)).min(arb(high))


def _selu(x: arb) -> arb:
    alpha, scale = exact("1.6732632423543772848170429916717"), exact("1.0507009873554804934193349852946")
    return scale * (x.max(arb(0)) + alpha * (x.min(arb(0)).exp() - 1))


_PLAIN: dict[str, Callable[[arb], arb]] = {
    "relu": lambda x: x.max(arb(0)),
    "leaky_relu": lambda x: x.max(x / 100),
    "abs": abs,
    "hard_tanh": lambda x: _clip(x, -1, 1),
    "relu6": lambda x: _clip(x, 0, 6),
    "where(x>1,x-1,where(x<-0.5,0.3*(x+0.5),0))": lambda x: (x - 1).max(arb(0)) + 3 * (x + 0.5).min(arb(0)) / 10,
    "hard_swish": lambda x: x * _clip(x / 6 + 0.5, 0, 1),
    "squared_relu": lambda x: x.max(arb(0)) ** 2,
    "elu": lambda x: x.max(arb(0)) + x.min(arb(0)).exp() - 1,
    "selu": _selu,
    "softsign": lambda x: x / (1 + abs(x)),
    "tanh": lambda x: (2 / (1 + (-2 * x).exp())) - 1,
    "gelu": lambda x: x * (-x / arb(2).sqrt()).erfc() / 2,
    "silu": lambda x: x * (1 + (x / 2).tanh()) / 2,
    "softplus": lambda x: x.max(arb(0)) + (-abs(x)).exp().log1p() if x != 0 else arb(2).log(),
    "cos": arb.cos,
    "sin(3*x)/3+x/4": lambda x: (3 * x).sin() / 3 + x / 4,
    "exp": arb.exp,
}


@functools.cache
def _rule() -> list[tuple[arb, arb]]:
    return [arb.legendre_p_root(_NODES, k, weight=True) for k in range(_NODES)]


def _points(edges: list[arb]) -> list[tuple[arb, arb]]:
    """Points, and weights times the normal density, between consecutive edges."""
    found = []
    for low, high in itertools.pairwise(edges):
        middle, half = (low + high) / 2, (high - low) / 2
        for node, weight in _rule():
            x = (middle + half * node).mid()
            found.append((x, (half * weight * (-x * x / 2).exp() / (2 * arb.pi()).sqrt()).mid()))
    return found


def _edges(centres: list[arb], finest: arb | None) -> list[arb]:
    """Edges from -_END to _END at most _WIDTH apart, with the centres, and geometric ones about them down to finest."""
    edges = {float(k): arb(k) for k in range(-_END, _END + 1, _WIDTH)}
    for centre in centres:
        near = [centre]
        distance = finest
        while distance is not None and distance < _WIDTH:
            near += [centre - distance, centre + distance]
            distance = 2 * distance
        edges |= {float(x): x.mid() for x in near if abs(x) < _END}
    return [edges[key] for key in sorted(edges)]


def _plain_duals(name: str, q_i: arb, q_j: arb, rho: arb) -> tuple[arb, arb]:
    phi, kinks = _PLAIN[name], [exact(k) for k in FUNCTIONS[name].kinks]
    t = (1 - rho**2).sqrt()
    r_i, r_j = q_i.sqrt(), q_j.sqrt()
    finest = t / 2 if kinks else None
    value, slope = arb(0), arb(0)
    outer = [k / r_i for k in kinks] + [k / (r_j * rho) for k in kinks]
    for x, weight in _points(_edges(outer, finest)):
        u = phi(r_i * x)
        base = r_j * rho * x
        for y, other in _points(_edges([(k - base) / (r_j * t) for k in kinks], None)):
            part = weight * other * u * phi(base + r_j * t * y)
            value += part
            slope += part * (x * y / t + rho * (1 - y * y) / t**2)
    return value, slope / (r_i * r_j)


def _closed_forms(q_i: str, q_j: str, rho: str) -> dict[str, tuple[mpmath.mpf, mpmath.mpf]]:
    """E[phi(u) phi(v)] and E[phi'(u) phi'(v)] of relu (Cho & Saul 2009), cos and exp."""
    a, b, r = mpmath.mpf(q_i), mpmath.mpf(q_j), mpmath.mpf(rho)
    root = mpmath.sqrt(a * b)
    angle = mpmath.acos(r)
    value = root * (mpmath.sin(angle) + (mpmath.pi - angle) * r) / (2 * mpmath.pi)
    summed, apart = mpmath.exp(-(a + b) / 2 - root * r), mpmath.exp(-(a + b) / 2 + root * r)
    grown = mpmath.exp((a + b) / 2 + root * r)
    return {
        "relu": (value, (mpmath.pi - angle) / (2 * mpmath.pi)),
        "cos": ((apart + summed) / 2, (apart - summed) / 2),
        "exp": (grown, grown),
    }


def check_quadrature() -> dict[str, str]:
    """The largest differences from closed forms and from plain integration.

    Raises:
        ArithmeticError: one is above 1e-20.
    """
    worst = {"closed forms": 0.0, "plain integration": 0.0}
    q_i, q_j = (exact(q) for q in _VARIANCES)
    with mpmath.workdps(50):
        for rho in _CORRELATIONS:
            closed = _closed_forms(*_VARIANCES, rho)
            for name, function in FUNCTIONS.items():
                found = duals(function, q_i, q_j, exact(rho), 32)
                plain = _plain_duals(name, q_i, q_j, exact(rho))
                rivals = {"plain integration": plain}
                if name in closed:
                    value, slope = (arb(mpmath.nstr(x, 45)) for x in closed[name])
                    rivals["closed forms"] = value, slope
                for rival, expected in rivals.items():
                    difference = max(abs(float(x - y)) for x, y in zip(found, expected, strict=True))
                    worst[rival] = max(worst[rival], difference)
                    if not difference <= _AGREE:
                        raise ArithmeticError(f"{name} at rho = {rho} differs from {rival} by {difference:.1e}")
    return {rival: f"{difference:.1e}" for rival, difference in worst.items()}
