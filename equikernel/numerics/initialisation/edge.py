"""The spectral edge of J = diag(phi'(u)) W for symmetric W, with a certificate of the minimisation.

With d = phi'(u), the resolvent of J at a real lambda outside the spectrum is parametrised for GOE weights by t in
(0, 1/sup d): lambda^2 = s f(t), f(t) = E[d/(1 - t d)]/t = E[d]/t + E[d^2/(1 - t d)]. With E d >= 0 both terms are
convex in t, so the minimum is unique, and two tangents bound it from below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import scipy.optimize

from equikernel.errors import AccuracyError
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Precision, slope_range
from equikernel.numerics.initialisation.response import Response
from equikernel.numerics.initialisation.symmetric import spectral
from equikernel.theory.activation import Activation

__all__ = ["Edge", "goe_edge"]

_NO_DRIFT = 1e-12  # |E d| below this multiple of sqrt(E d^2) is zero to rounding
_STEPS = 40
_LEAST = 2.0**-40  # relative distance from 1/sup phi' at which the search stops


@dataclass(frozen=True)
class Edge:
    """Where the spectrum of J ends on the real axis: at -value and value.

    Attributes:
        value: the edge; R = 1 exactly where it is 1.
        t: the minimiser.
        lower, upper: certificate: the minimum of the computed convex function lies between, by its tangents at two
            points. Accuracy of the integrals themselves, about 1e-13 (or that of ``digits``), comes on top.
        boundary: whether the infimum is at t = 1/sup phi', where the law of d thins out too fast for a minimum inside.
    """

    value: Any
    t: Any
    lower: Any
    upper: Any
    boundary: bool = False


class _Convex:
    """f(t), f'(t), f''(t) and the edge sqrt(s f); mirrored (d -> -d) where E d < 0."""

    def __init__(self, activation: Activation, point: Response, law: InputLaw, precision: Precision) -> None:
        self.activation, self.point, self.law, self.precision = activation, point, law, precision
        drift, second, _, _ = self.raw(precision.number(0))
        self.second = second
        self.sign = -1 if drift < 0 else 1
        self.drift = self.sign * drift
        low, high = slope_range(activation)
        steepest = high if self.sign > 0 else -low
        self.end = 1.0 / steepest if steepest > 0 else math.inf

    @property
    def flat(self) -> bool:
        return bool(self.drift <= _NO_DRIFT * self.precision.sqrt(self.second))

    def raw(self, t: Any) -> tuple[Any, Any, Any, Any]:
        return spectral(self.activation, self.point.v, self.point.a, t, self.law, self.precision)

    def at(self, t: Any) -> tuple[Any, Any, Any]:
        t = self.precision.number(t)
        _, second, third, fourth = self.raw(self.sign * t)
        value = self.drift / t + second
        slope = -self.drift / (t * t) + self.sign * third
        return value, slope, 2 * self.drift / t**3 + 2 * fourth


def goe_edge(activation: Activation, s: Any, point: Response, law: InputLaw, precision: Precision) -> Edge:
    """The edge sqrt(s min f) at a fixed point; for phi' of one sign it bounds the whole spectrum, which is real.

    Where phi' has both signs the spectrum is complex, and the edge is where its support crosses the real axis. If
    E phi' = 0 (even phi and symmetric x) that is sqrt(s E d^2).

    Raises:
        AccuracyError: the quadrature did not converge.
    """
    f = _Convex(activation, point, law, precision)
    s = precision.number(s)
    if f.flat:
        value = precision.sqrt(s * f.second)
        return Edge(value, precision.number(0), value, value)
    plain = f if precision.digits is None else _Convex(activation, point, law, Precision())
    bottom, top = _bracket(plain)
    if bottom == top:
        value = precision.sqrt(s * f.at(top)[0])
        return Edge(value, precision.number(top), value, value, boundary=True)
    t: Any = scipy.optimize.brentq(lambda k: float(plain.at(k)[1]), bottom, top, xtol=1e-300, rtol=1e-15)
    if precision.digits is not None:
        t = _newton(f, t)
    lower, upper = _certificate(f, t)
    return Edge(precision.sqrt(s * f.at(t)[0]), t, precision.sqrt(s * lower), precision.sqrt(s * upper))


def _bracket(f: _Convex) -> tuple[float, float]:
    """Two t between which f' changes sign; twice the last t that could be reached if it does not."""
    low, share = 0.0, 0.5
    while share > _LEAST:
        high = f.end * (1 - share) if math.isfinite(f.end) else 1 / share - 1
        try:
            if f.at(high)[1] >= 0:
                break
        except AccuracyError:  # the law of phi' thins out towards its supremum
            return low, low
        low, share = high, share / 2
    else:
        return low, low
    while low == 0.0 or f.at(low)[1] >= 0:
        low = high / 2 if low == 0.0 else low / 2
    return low, high


def _newton(f: _Convex, t: Any) -> Any:
    t = f.precision.number(t)
    for _ in range(_STEPS):
        _, slope, bend = f.at(t)
        t -= slope / bend
        if abs(slope / bend) <= f.precision.unit**0.6 * t:  # the minimum is stationary: half the digits suffice
            break
    return t


def _certificate(f: _Convex, t: Any) -> tuple[Any, Any]:
    """Bounds of min f: the tangents left and right of the minimiser meet below it, the values lie above."""
    width = t * f.precision.number(1e-7 if f.precision.digits is None else f.precision.unit**0.5)
    for _ in range(30):
        left, right = t - width, t + width
        (fa, da, _), (fb, db, _) = f.at(left), f.at(right)
        if da < 0 < db:
            meeting = (fb - fa + da * left - db * right) / (da - db)
            return fa + da * (meeting - left), min(fa, fb)
        width *= 2
    return 0 * t, f.at(t)[0]
