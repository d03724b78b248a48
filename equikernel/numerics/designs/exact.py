"""The equations of a design in ball arithmetic, with their derivatives: what is refined and certified.

Sums of functions have their moments as forms in ball enclosures of the functions' own; families with closed forms have
those. For any other family the moments come from quadrature to many digits: then the balls hold estimated errors, there
are no derivatives, and nothing can be proved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Protocol

import sympy as sp
from flint import arb, ctx

from equikernel.numerics.balls.context import exact, precision
from equikernel.numerics.balls.functions import mpf_ball
from equikernel.numerics.balls.moments import BallMoments, ball_moments
from equikernel.numerics.closed_form_balls import ball_walk
from equikernel.numerics.designs.functionals import closed_layer
from equikernel.numerics.designs.problem import DesignProblem
from equikernel.numerics.moments import gaussian_moments
from equikernel.theory.activation import Activation, activation
from equikernel.theory.closed_forms import TAU
from equikernel.theory.equations import explicit_input, explicit_layer
from equikernel.theory.families import LayerFamily
from equikernel.theory.sensitivities import Tangent

__all__ = ["ExactProblem", "decimal_of_ball", "linear_forms"]

_FIVE = ("V", "d1", "d2", "h", "v")
_Five = tuple[Any, Any, Any, Any, Any]


class ExactLayer(Protocol):
    """V, d1, d2, h, v of a layer in ball arithmetic."""

    differentiable: bool

    def moments(self, parameters: Sequence[Tangent], tau: Tangent) -> _Five: ...


@dataclass(frozen=True)
class _LinearLayer:
    """Forms in the parameters, at one scale."""

    linear: dict[str, list[arb]]
    quadratic: dict[str, list[list[arb]]]
    differentiable = True

    def moments(self, parameters: Sequence[Tangent], tau: Tangent) -> _Five:
        n = range(len(parameters))
        zero = Tangent(arb(0), arb(0))
        found = {name: sum((parameters[i] * row[i] for i in n), zero) for name, row in self.linear.items()}
        for name, form in self.quadratic.items():
            total = zero
            for i in n:
                total = total + parameters[i] * parameters[i] * form[i][i]
                for j in range(i):
                    total = total + parameters[i] * parameters[j] * (2 * form[i][j])
            found[name] = total
        return tuple(found[name] for name in _FIVE)  # type: ignore[return-value]  # five names


@lru_cache(maxsize=64)
def linear_forms(basis: tuple[sp.Expr, ...], tau: Fraction, bits: int) -> _LinearLayer:
    """The forms of a sum of functions in x and ``TAU`` at standard deviation ``tau``, to about 2^-bits."""
    scale = sp.Rational(tau.numerator, tau.denominator)
    functions = [f.subs(TAU, scale) for f in basis]

    def enclosed(expr: sp.Expr) -> BallMoments:
        return ball_moments(Activation(expr), exact(tau), bits)

    alone = [enclosed(f) for f in functions]
    linear = {name: [getattr(m, name) for m in alone] for name in ("d1", "d2")}
    quadratic = {name: [[arb(0)] * len(alone) for _ in alone] for name in ("V", "h", "v")}
    for i, first in enumerate(alone):
        for j in range(i + 1):
            both = first if i == j else enclosed(functions[i] + functions[j])
            for name, form in quadratic.items():
                field = "v_or_none" if name == "v" else name
                whole, left, right = (getattr(m, field) for m in (both, first, alone[j]))
                if None in (whole, left, right):
                    whole = left = right = arb.nan()
                form[i][j] = form[j][i] = whole if i == j else (whole - left - right) / 2
    return _LinearLayer(linear, quadratic)


@dataclass(frozen=True)
class _ClosedLayer:
    """Closed forms and their derivatives in the parameters and tau."""

    symbols: tuple[sp.Symbol, ...]
    expressions: tuple[sp.Expr, ...]
    slopes: tuple[tuple[sp.Expr, ...], ...]
    differentiable = True

    def moments(self, parameters: Sequence[Tangent], tau: Tangent) -> _Five:
        inputs = [*parameters, tau]
        walk = ball_walk({s: x.value for s, x in zip(self.symbols, inputs, strict=True)})
        found = []
        for expr, slopes in zip(self.expressions, self.slopes, strict=True):
            if expr is sp.oo:
                found.append(Tangent(arb.nan(), arb.nan()))
                continue
            moved = [x for x in zip(slopes, inputs, strict=True) if x[1].slope != 0]
            slope = sum((walk(e).real * x.slope for e, x in moved), arb(0))
            found.append(Tangent(walk(expr).real, slope))
        return tuple(found)  # type: ignore[return-value]  # five expressions


@lru_cache(maxsize=64)
def _closed_layer(layer: LayerFamily) -> _ClosedLayer | None:
    closed = closed_layer(layer)
    if closed is None:
        return None
    symbols = (*layer.parameters, TAU)
    expressions = tuple(closed.expressions[name] for name in _FIVE)
    return _ClosedLayer(symbols, expressions, tuple(tuple(sp.diff(e, s) for s in symbols) for e in expressions))


@dataclass(frozen=True)
class _QuadratureLayer:
    """Moments of the activation at the balls' midpoints, to the current precision."""

    layer: LayerFamily
    ntk: bool
    differentiable = False

    def moments(self, parameters: Sequence[Tangent], tau: Tangent) -> _Five:
        digits = max(int(ctx.prec * 0.30103) - 10, 16)
        numbers = [decimal_of_ball(x.value, digits + 8) for x in (*parameters, tau)]
        *values, scale = numbers
        found = gaussian_moments(activation(self.layer.written(values, scale)), scale, digits)
        balls = []
        for m in (found.V, found.d1, found.d2, found.h, found.v if self.ntk else None):
            ball = arb(0) if m is None else _ball(m.value) + arb(0, _ball(m.error))
            balls.append(Tangent(ball, arb(0)))
        return tuple(balls)  # type: ignore[return-value]  # five moments


def _ball(number: Any) -> arb:
    return mpf_ball(number) if hasattr(number, "_mpf_") else arb(number)


def decimal_of_ball(ball: arb, digits: int) -> str:
    """The midpoint as a decimal string: up to 15 digits the shortest one of its float."""
    if digits <= 15:
        return repr(float(ball.mid()))
    text = str(ball.mid().str(digits, radius=False))
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


class ExactProblem:
    """F(x) = 0 in balls: x are all parameters, layer by layer, and the learning rates where they are unknowns.

    Args:
        problem: the equations.
        targets: the coefficients as balls.
        bits: working precision.
    """

    def __init__(self, problem: DesignProblem, targets: Mapping[str, arb], bits: int) -> None:
        self.problem, self.targets, self.bits = problem, targets, bits
        known = (True, *problem.gauged)
        self._layers = [self._layer(f, fixed) for f, fixed in zip(problem.layers, known, strict=True)]
        gauges = (f"tau_{k + 1}" for k, g in enumerate(problem.gauged) if g)
        self.names = (*problem.target.fields, *gauges, *(f"{name}_{k + 1}" for name, k in self._cancelled))

    @property
    def _cancelled(self) -> list[tuple[str, int]]:
        """As in the problem, in the order of the layers."""
        return sorted(self.problem.cancelled, key=lambda pair: pair[1])

    def _layer(self, family: LayerFamily, fixed: bool) -> ExactLayer:
        if family.basis is not None and fixed:
            with precision(self.bits):
                return linear_forms(family.basis, self.problem.target.tau0, self.bits)
        return _closed_layer(family) or _QuadratureLayer(family, self.problem.target.ntk)

    @property
    def differentiable(self) -> bool:
        """Whether there are derivatives, and the balls are proofs."""
        return all(layer.differentiable for layer in self._layers)

    def values(self, x: Sequence[arb]) -> list[arb]:
        """F(x), relative as in ``DesignProblem``."""
        return [f.value for f in self._along(x, None)[0]]

    def columns(self, x: Sequence[arb], unknowns: Sequence[int]) -> list[list[arb]]:
        """The derivatives of F in some of the unknowns: a list of columns."""
        return [[f.slope for f in self._along(x, k)[0]] for k in unknowns]

    def scales(self, x: Sequence[arb]) -> list[arb]:
        """The standard deviation of every layer's input."""
        return [tau.value for tau in self._along(x, None)[1]]

    def _along(self, x: Sequence[arb], direction: int | None) -> tuple[list[Tangent], list[Tangent]]:
        problem = self.problem
        with precision(self.bits):
            inputs = [Tangent(value, arb(int(k == direction))) for k, value in enumerate(x)]
            count = sum(problem.sizes)
            rates = inputs[count:] if problem.free_rates else [1] * problem.depth
            tau0 = exact(problem.target.tau0)
            tau = Tangent(tau0, arb(0))
            state = explicit_input(Tangent(tau0 * tau0, arb(0)), rates[0])
            gauges, vanishing, first, scales = [], [], 0, [tau]
            for k, layer in enumerate(self._layers):
                size = problem.sizes[k]
                V, d1, d2, h, v = layer.moments(inputs[first : first + size], tau)
                v = v if problem.target.ntk else 0
                state = explicit_layer(state, V, d1, d2, h, v, (*rates, 1)[k + 1])
                found = {"d1": d1, "d2": d2}
                vanishing += [found[n] / arb(problem.cancelled_unit(n, k)) for n, j in problem.cancelled if j == k]
                first += size
                if k < problem.depth - 1:
                    if problem.gauged[k]:
                        gauges.append(V / (tau0 * tau0) - 1)
                    else:
                        root = V.value.sqrt()
                        tau = Tangent(root, V.slope / (2 * root))
                    scales.append(tau)
            equations = [
                (_tangent(getattr(state, field)) - self.targets[name]) / arb(problem.target.units[name])
                for name, (field, _) in problem.target.fields.items()
            ]
            return [*equations, *gauges, *vanishing], scales


def _tangent(value: Any) -> Tangent:
    return value if isinstance(value, Tangent) else Tangent(arb(value), arb(0))
