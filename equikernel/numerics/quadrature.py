"""Double-exponential quadrature against Gaussian weights, on the pieces of an activation, in either arithmetic.

Each piece is mapped to the line so that the trapezoidal rule converges exponentially whatever happens at its ends
[TakahasiMori74]: y = s sinh t (whole line), y = b +- s exp(t - e^-t) (half-line), tanh-sinh (interval). Values of phi
and phi' are kept by scale and level, so that moments at another tau only cost new Gaussian weights. Levels halve the
step until two agree; the difference bounds the error of the coarser one and is reported for the finer one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import astuple, dataclass, replace
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

from equikernel.errors import AccuracyError
from equikernel.numerics.arithmetic import UNIT_ROUNDOFF
from equikernel.theory.activation import Activation, BoundedFunction
from equikernel.theory.multiprecision import MpArithmetic, mp_arithmetic
from equikernel.theory.program import Program
from equikernel.theory.roots import Breakpoint

__all__ = ["Nodes", "Rule", "not_converged", "rule"]

ObjectArray = npt.NDArray[Any]
_MP_ULPS = 16
_WORTH = 32 * UNIT_ROUNDOFF  # of the root mean square: smaller errors of single values are not repaired
FIRST_LEVEL = 2
LAST_LEVEL_FLOAT64 = 14
LAST_LEVEL_MP = 11  # at 60 digits; one more for each doubling of the digits


@dataclass(frozen=True)
class Nodes:
    """Nodes y, weights dy (without the Gaussian density), phi and phi' with error bounds, over all pieces."""

    y: ObjectArray
    dy: ObjectArray
    phi: ObjectArray
    phi_error: ObjectArray
    slope: ObjectArray
    slope_error: ObjectArray


class _Float64Math:
    """What the maps need, on float64 arrays."""

    sinh = staticmethod(np.sinh)
    cosh = staticmethod(np.cosh)
    exp = staticmethod(np.exp)
    tanh = staticmethod(np.tanh)
    half_pi = math.pi / 2
    root_two_pi = math.sqrt(2 * math.pi)

    @staticmethod
    def grid(low: float, high: float, step: float, odd: bool) -> ObjectArray:
        start, stop = math.ceil(low / step), math.floor(high / step)
        k = np.arange(start, stop + 1)
        return (k[k % 2 != 0] if odd else k) * step


class _MpMath:
    """What the maps need, on object arrays of mpmath numbers."""

    def __init__(self, arithmetic: MpArithmetic) -> None:
        c = arithmetic.context
        self.context = c
        self.sinh = np.frompyfunc(c.sinh, 1, 1)
        self.cosh = np.frompyfunc(c.cosh, 1, 1)
        self.exp = np.frompyfunc(c.exp, 1, 1)
        self.tanh = np.frompyfunc(c.tanh, 1, 1)
        self.half_pi = c.pi / 2
        self.root_two_pi = c.sqrt(2 * c.pi)

    def grid(self, low: float, high: float, step: float, odd: bool) -> ObjectArray:
        start, stop = math.ceil(low / step), math.floor(high / step)
        points = [self.context.mpf(k) * step for k in range(start, stop + 1) if k % 2 or not odd]
        array = np.empty(len(points), dtype=object)
        array[:] = points
        return array


def _map(m: Any, lower: Any, upper: Any, scale: Any, reach: float, digits: int, step: float, odd: bool) -> Any:
    """Nodes and dy of one piece: ``lower``/``upper`` None for an infinite end, ``reach`` where the weight has died."""
    decay = digits * math.log(10.0) + 10.0
    if lower is None and upper is None:
        limit = math.asinh(reach / float(scale))
        t = m.grid(-limit, limit, step, odd)
        return scale * m.sinh(t), scale * m.cosh(t) * step
    if lower is None or upper is None:
        base, sign = (upper, -1) if lower is None else (lower, 1)
        far = max(abs(reach - sign * float(base)) / float(scale), 2.0)
        t = m.grid(-math.log(decay + 8.0) - 0.5, math.log(far) + 1.0, step, odd)
        decreasing = m.exp(-t)
        distance = scale * m.exp(t - decreasing)
        y, dy = base + sign * distance, distance * (1 + decreasing) * step
        return (y[::-1], dy[::-1]) if sign < 0 else (y, dy)
    half = (upper - lower) / 2
    limit = math.asinh(decay / math.pi) + 0.25
    t = m.grid(-limit, limit, step, odd)
    u = m.half_pi * m.sinh(t)
    # distances to the nearer end keep their relative accuracy: 1 - tanh|u| = 2/(1 + e^(2|u|))
    complement = 2 / (1 + m.exp(2 * abs(u)))
    distance = half * complement
    y = np.where(np.array([bool(v < 0) for v in u]), lower + distance, upper - distance)
    dy = half * complement * (2 - complement) * m.half_pi * m.cosh(t) * step
    return y, dy


def _reach(activation: Activation, tau: float, digits: int) -> float:
    """|y| beyond which the Gaussian weight has killed phi^2, whatever its (at most exponential) growth."""
    sigmas = math.sqrt(2.0 * math.log(10.0) * (digits + 12)) + 1.0 + activation.growth.degree / 4.0
    return tau * (sigmas + 2.0 * activation.growth.rate * tau)


class Rule:
    """Nodes of one activation in float64 (``digits`` None) or mpmath, tabulated by octave of tau and level."""

    def __init__(self, activation: Activation, digits: int | None) -> None:
        self.activation = activation
        self.digits = 18 if digits is None else digits
        extra = max(0, math.ceil(math.log2(self.digits / 60.0)))
        self.last_level = LAST_LEVEL_FLOAT64 if digits is None else LAST_LEVEL_MP + extra
        self._arithmetic = None if digits is None else mp_arithmetic(digits)
        self.math: Any = _Float64Math if self._arithmetic is None else _MpMath(self._arithmetic)
        self._nodes: dict[tuple[int, int], Nodes] = {}
        self._converged: dict[int, int] = {}

    def converged_level(self, tau: Any) -> int:
        """The level at which the moments converged earlier in this octave of tau (the first level if never)."""
        return self._converged.get(math.ceil(math.log2(tau)), FIRST_LEVEL)

    @property
    def unit(self) -> float:
        """Unit roundoff of the arithmetic."""
        return UNIT_ROUNDOFF if self._arithmetic is None else 10.0**-self.digits

    def tail(self, tau: Any) -> float:
        """The weight times (1 + xi^2) phi^2 where it is cut off, from the growth of phi: what truncation may cost."""
        reach = _reach(self.activation, 2.0 ** math.ceil(math.log2(tau)), self.digits)
        growth = self.activation.growth
        log_phi = growth.rate * reach + growth.degree * math.log1p(reach)
        square = (reach / float(tau)) ** 2
        return math.exp(max(min(2.0 * log_phi + math.log1p(square) - 0.5 * square, 700.0), -700.0))

    def remember_level(self, tau: Any, level: int) -> None:
        """Note the level at which the moments at ``tau`` converged."""
        self._converged[math.ceil(math.log2(tau))] = level

    def nodes(self, tau: Any, level: int) -> Nodes:
        """All nodes with step 2^-level, good for any tau in the octave of ``tau`` (a standard deviation)."""
        key = (math.ceil(math.log2(tau)), level)
        if key not in self._nodes:
            new = self._new_nodes(key[0], level)
            if level > FIRST_LEVEL:
                old = self.nodes(tau, level - 1)
                halved = replace(old, dy=old.dy / 2)
                new = Nodes(*(np.concatenate(pair) for pair in zip(astuple(halved), astuple(new), strict=True)))
            self._nodes[key] = new
        return self._nodes[key]

    def _new_nodes(self, octave: int, level: int) -> Nodes:
        tau = 2.0**octave
        reach = _reach(self.activation, tau, self.digits)
        scale = self._number(min(1.0, tau))
        parts = []
        ends = (None, *self.activation.breakpoints, None)
        for k, (left, right) in enumerate(itertools.pairwise(ends)):
            if (left is not None and float(left) >= reach) or (right is not None and float(right) <= -reach):
                continue
            lower, upper = self._end(left, reach), self._end(right, reach)
            y, dy = _map(self.math, lower, upper, scale, reach, self.digits, 2.0**-level, level > FIRST_LEVEL)
            # nodes that rounded onto an end carry less than one unit of the last digit
            inside = (abs(y) <= reach) & (True if lower is None else y > lower) & (True if upper is None else y < upper)
            y, dy = y[inside.astype(bool)], dy[inside.astype(bool)]
            parts.append((y, dy, *self._values(k, y, dy, tau)))
        return Nodes(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _number(self, value: float) -> Any:
        return value if self._arithmetic is None else self._arithmetic.context.mpf(value)

    def _end(self, end: Breakpoint | None, reach: float) -> Any:
        """A breakpoint in this arithmetic, or None when it is infinite or lies where the weight is nil."""
        if end is None or abs(float(end)) > reach:
            return None
        return float(end) if self._arithmetic is None else end.value(self._arithmetic)

    def _values(self, k: int, y: ObjectArray, dy: ObjectArray, tau: float) -> list[ObjectArray]:
        """Phi, its error bounds, phi' and its error bounds at points of the k-th piece."""
        if self._arithmetic is None:
            weight = np.exp(-0.5 * (y / tau) ** 2) * (1 + (y / tau) ** 2)
            return [array for f in self.activation.float64_piece(k) for array in _bounded(f, y, weight, dy)]
        programs = (self.activation.program.programs[k], self.activation.derivative_program.programs[k])
        values = [_many_digits(program, self._arithmetic, y) for program in programs]
        # a few units of the last digit: cancellation is what digits are for
        return [array for value in values for array in (value, abs(value) * (_MP_ULPS * self.unit))]


def _many_digits(program: Program, arithmetic: MpArithmetic, y: ObjectArray) -> ObjectArray:
    values = np.empty(y.shape, dtype=object)
    for i, point in enumerate(y):
        values[i] = program.run(arithmetic, point)
    return values


def _bounded(
    function: BoundedFunction, y: ObjectArray, weight: ObjectArray, dy: ObjectArray
) -> tuple[ObjectArray, ObjectArray]:
    """Float64 values and error bounds.

    A value whose error, weighted, is a few ulps of the root mean square over the piece is left as it is: far out, a
    cancelled tail may cost more to repair than all the rest.
    """

    def needed(value: ObjectArray, error: ObjectArray) -> Any:
        finite = np.where(np.isfinite(value), value, 0.0)
        square = float(np.sum(weight * dy * finite**2))
        return ~(weight * error <= _WORTH * math.sqrt(square / max(float(np.sum(weight * dy)), 1e-300)))

    return function(y, needed)


_RULES: dict[tuple[Activation, int | None, int], Rule] = {}


def rule(activation: Activation, digits: int | None = None) -> Rule:
    """The activation's rule in float64, or with ``digits`` working digits; shared by all that integrate it."""
    key = (activation, digits, 0 if digits is None else id(mp_arithmetic(digits)))
    if key not in _RULES:
        _RULES[key] = Rule(activation, digits)
    return _RULES[key]


def not_converged(activation: Activation, tau: Any, digits: int) -> AccuracyError:
    """The error for a quadrature that ran out of levels."""
    narrow = "rescale the activation so that its features have width about 1"
    remedy = f"ask for fewer digits, or {narrow}" if activation.has_expression else f"declare its kinks, or {narrow}"
    return AccuracyError(
        f"the Gaussian moments of {activation.name} at tau = {mpmath.nstr(mpmath.mpf(tau), 6)} did not converge to "
        f"{digits} digits; {remedy}"
    )
