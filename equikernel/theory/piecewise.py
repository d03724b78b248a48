"""Breakpoints of an expression and its smooth pieces between them.

Every switch (Abs, sign, Heaviside, Max, Min, Piecewise, and the conditions in them) is governed by the sign of a
function of x. The zeros of those functions cut the line into intervals; on each, the branches are resolved at one
sample point, and neighbours that turn out to be the same expression are joined again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mpmath
import sympy as sp
from sympy.logic.boolalg import Boolean

from equikernel.errors import ActivationError
from equikernel.theory.multiprecision import MpArithmetic, mp_arithmetic
from equikernel.theory.program import Program, X
from equikernel.theory.roots import Breakpoint, compiled, evaluate, has_zero, real_zeros
from equikernel.theory.wording import brief

__all__ = [
    "Piece",
    "PiecewiseProgram",
    "Resolver",
    "check_domain",
    "partition",
    "sample_point",
    "smooth_pieces",
    "switch_factors",
    "switch_functions",
    "switch_points",
    "value_at",
]

_SWITCHES = (sp.Abs, sp.sign, sp.Heaviside, sp.Max, sp.Min, sp.Piecewise)
_ZERO = mpmath.mpf(10) ** -45  # at 60 digits, smaller values at a computed breakpoint are zero
# where these functions have poles, those have zeros
_POLES: dict[type, type] = {sp.tan: sp.cos, sp.sec: sp.cos, sp.cot: sp.sin, sp.csc: sp.sin}
_POLES |= {sp.coth: sp.sinh, sp.csch: sp.sinh}
_SAME_DIGITS = 400  # breakpoints that agree to so many digits are the same
_FAILURES = (ValueError, ZeroDivisionError, OverflowError)


@dataclass(frozen=True)
class Piece:
    """A smooth expression on the open interval (lower, upper); None stands for an infinite end."""

    lower: Breakpoint | None
    upper: Breakpoint | None
    expr: sp.Expr

    def contains(self, point: Breakpoint | Any) -> bool:
        """Whether a breakpoint or an mpmath number lies strictly inside."""
        return self._place(point) > 0

    def touches(self, point: Breakpoint | Any) -> bool:
        """Whether it lies inside or at an end."""
        return self._place(point) >= 0

    def _place(self, point: Breakpoint | Any) -> int:
        """1 inside, 0 at an end (to 380 digits), -1 outside."""
        place = 1
        if isinstance(point, Breakpoint) and point.bracket is not None and self._misses(*point.bracket):
            return -1
        for end, side in ((self.lower, 1), (self.upper, -1)):
            if end is None:
                continue
            for digits in (40, _SAME_DIGITS):
                arithmetic = mp_arithmetic(digits)
                at = point.value(arithmetic) if isinstance(point, Breakpoint) else arithmetic.context.mpf(point)
                gap = side * (at - end.value(arithmetic))
                near = abs(gap) <= arithmetic.context.mpf(10) ** (20 - digits) * max(1, abs(at))
                if not near:
                    break
            place = min(place, 0 if near else 1 if gap > 0 else -1)
        return place

    def _misses(self, low: Any, high: Any) -> bool:
        """Whether the interval [low, high] lies outside: then a zero in it need not be computed."""
        arithmetic = mp_arithmetic(40)
        return (self.lower is not None and high < self.lower.value(arithmetic)) or (
            self.upper is not None and low > self.upper.value(arithmetic)
        )


@dataclass(frozen=True)
class PiecewiseProgram:
    """Programs between breakpoints, and the values at the breakpoints (functions of a multiprecision arithmetic)."""

    breakpoints: tuple[Breakpoint, ...]
    programs: tuple[Program, ...]
    values: tuple[Callable[[MpArithmetic], Any], ...]

    def run(self, arithmetic: MpArithmetic, x: Any) -> Any:
        """The value at one multiprecision number."""
        for k, at in enumerate(self.breakpoints):
            point = at.value(arithmetic)
            if x == point:
                return self.values[k](arithmetic)
            if x < point:
                return self.programs[k].run(arithmetic, x)
        return self.programs[-1].run(arithmetic, x)

    def derivative(self) -> PiecewiseProgram:
        """The derivative away from the breakpoints; at a breakpoint, the mean of the two one-sided derivatives."""
        programs = tuple(p.derivative() for p in self.programs)
        values = tuple(_mean_of_sides(programs[k], programs[k + 1], at) for k, at in enumerate(self.breakpoints))
        return PiecewiseProgram(self.breakpoints, programs, values)


def _mean_of_sides(left: Program, right: Program, at: Breakpoint) -> Callable[[MpArithmetic], Any]:
    def mean(arithmetic: MpArithmetic) -> Any:
        point = at.value(arithmetic)
        try:
            return (left.run(arithmetic, point) + right.run(arithmetic, point)) / 2
        except _FAILURES:
            return arithmetic.context.nan

    return mean


def smooth_pieces(expr: sp.Expr) -> tuple[Piece, ...]:
    """The pieces of an expression, from left to right.

    Raises:
        ActivationError: a switch changes infinitely often, or a function is not supported.
    """
    pieces: list[Piece] = []
    for lower, upper in partition(expr):
        resolved = Resolver(sample_point(lower, upper)).expression(expr)
        if pieces and (pieces[-1].expr == resolved or sp.expand(pieces[-1].expr - resolved) == 0):
            pieces[-1] = Piece(pieces[-1].lower, upper, pieces[-1].expr)
        else:
            pieces.append(Piece(lower, upper, resolved))
    return tuple(pieces)


def partition(expr: sp.Expr) -> tuple[tuple[Breakpoint | None, Breakpoint | None], ...]:
    """The open intervals on which every switch of the expression keeps its branch, from left to right."""
    edges: list[Breakpoint | None] = [None, *_sorted_unique(switch_points(expr)), None]
    return tuple(itertools.pairwise(edges))


def switch_points(expr: sp.Expr) -> Iterator[Breakpoint]:
    """Where a switch of the expression may change its branch, in no order, and some more than once."""
    for function in switch_functions(expr):
        yield from _switch_points(function)


def value_at(expr: sp.Expr, at: Breakpoint) -> Callable[[MpArithmetic], Any]:
    """The value of the full expression at a breakpoint, branches decided there."""
    program = compiled(Resolver(at.value(mp_arithmetic(60)), at_zero=True).expression(expr))
    return lambda arithmetic: program.run(arithmetic, at.value(arithmetic))


def check_domain(piece: Piece) -> None:
    """Refuse a piece that is complex, undefined or unbounded somewhere on its closed interval.

    Raises:
        ActivationError: names the subexpression and the remedy.
    """
    for node in sp.preorder_traversal(piece.expr):
        if isinstance(node, sp.Expr) and node.has(X):
            _check_node(node, piece)
    for end in (piece.lower, piece.upper):
        if end is None:
            continue
        try:
            evaluate(piece.expr, end.value(mp_arithmetic(60)), 60)
        except _FAILURES:
            raise ActivationError(
                f"the activation is undefined or unbounded next to x = {brief(end.to_sympy())}, where it reads "
                f"{brief(piece.expr)}; an activation must have finite one-sided limits "
                "(write a removable singularity out with where)"
            ) from None


def _check_node(node: sp.Expr, piece: Piece) -> None:
    """Refuse one subexpression that is undefined inside the piece."""
    if isinstance(node, sp.log):
        _require_positive(node, node.args[0], piece)
    elif node.is_Pow and not node.exp.is_Integer:
        _require_positive(node, node.base, piece)
    elif node.is_Pow and node.exp.is_negative and has_zero(node.base, piece.contains):
        raise _undefined(node, f"{brief(node.base)} vanishes there")
    elif type(node) in _POLES and has_zero(_POLES[type(node)](node.args[0]), piece.contains):
        raise _undefined(node, "it has poles")


def _require_positive(node: sp.Expr, base: sp.Expr, piece: Piece) -> None:
    if base.is_positive:
        return
    try:
        sample = evaluate(base, sample_point(piece.lower, piece.upper))
    except _FAILURES:
        sample = mpmath.mpf(-1)
    if sample <= 0 or has_zero(base, piece.contains):
        raise _undefined(node, f"{brief(base)} is not positive there")


def _undefined(node: sp.Expr, why: str) -> ActivationError:
    return ActivationError(
        f"{brief(node)} is undefined on part of the real line ({why}); an activation must be real and finite for "
        "every x: restrict it with where(...), or shift its argument"
    )


def switch_functions(expr: sp.Expr) -> Iterator[sp.Expr]:
    """The functions of x whose signs decide the branches of the expression, outermost first."""
    for node in sp.preorder_traversal(expr):
        yield from _switch_functions(node)


def switch_factors(function: sp.Expr) -> Iterator[tuple[Piece, sp.Expr]]:
    """Smooth expressions, and the pieces they belong to, among whose zeros are all sign changes of a switch function.

    A function changes sign at its zeros, at its poles, and where its own switches jump.
    """
    for piece in smooth_pieces(function):
        if piece.expr.has(X):
            yield piece, piece.expr
            for node in sp.preorder_traversal(piece.expr):
                if node.is_Pow and node.exp.is_negative and node.base.has(X):
                    yield piece, node.base
                elif type(node) in _POLES and node.has(X):
                    yield piece, _POLES[type(node)](node.args[0])


def _switch_points(function: sp.Expr) -> Iterator[Breakpoint]:
    for piece, factor in switch_factors(function):
        for zero in real_zeros(factor):
            if piece.touches(zero):
                yield zero
    # the pieces of the switch function itself may jump across zero
    if function.has(*_SWITCHES):
        for piece in smooth_pieces(function):
            if piece.upper is not None:
                yield piece.upper


def _switch_functions(node: Any) -> list[sp.Expr]:
    """The functions of x whose sign decides the branch taken at ``node``."""
    if isinstance(node, (sp.Abs, sp.sign, sp.Heaviside)):
        return [node.args[0]]
    if isinstance(node, (sp.Max, sp.Min)):
        args = list(node.args)
        return [a - b for i, a in enumerate(args) for b in args[i + 1 :]]
    if isinstance(node, sp.core.relational.Relational):
        return [node.lhs - node.rhs]
    return []


def _sorted_unique(points: Iterator[Breakpoint]) -> list[Breakpoint]:
    arithmetic = mp_arithmetic(60)
    unique: list[tuple[Any, Breakpoint]] = []
    pairs: list[tuple[Any, Breakpoint]] = [(p.value(arithmetic), p) for p in points]
    for value, point in sorted(pairs, key=lambda pair: pair[0]):
        if unique and abs(value - unique[-1][0]) <= _ZERO * max(1, abs(value)):
            _require_equal(unique[-1][1], point)
            if unique[-1][1].exact is None and point.exact is not None:
                unique[-1] = (value, point)
            continue
        unique.append((value, point))
    return [point for _, point in unique]


def _require_equal(a: Breakpoint, b: Breakpoint) -> None:
    """Refuse two breakpoints that differ, but so little that the piece between them would be lost.

    Raises:
        ActivationError: names them.
    """
    if a == b or (a.exact is not None and a.exact == b.exact):
        return
    arithmetic = mp_arithmetic(_SAME_DIGITS)
    first, second = a.value(arithmetic), b.value(arithmetic)
    if abs(first - second) > arithmetic.context.mpf(10) ** (20 - _SAME_DIGITS) * max(1, abs(first)):
        raise ActivationError(
            f"two breakpoints near x = {mpmath.nstr(first, 6)} are {mpmath.nstr(abs(first - second), 3)} apart; "
            "breakpoints must be equal, or differ by more than 1e-45: make them so"
        )


def sample_point(lower: Breakpoint | None, upper: Breakpoint | None) -> Any:
    """A point inside an interval that is a zero of nothing in particular."""
    arithmetic = mp_arithmetic(60)
    c = arithmetic.context
    if lower is None and upper is None:
        return c.mpf("0.5772156649")
    if lower is None or upper is None:
        sign, end = (-1, upper) if lower is None else (1, lower)
        point = end.value(arithmetic) if end is not None else c.zero
        return point + sign * (1 + abs(point)) * c.mpf("0.618033988")
    low = lower.value(arithmetic)
    return low + (upper.value(arithmetic) - low) * c.mpf("0.4142135623")


class Resolver:
    """Replaces every switch by the branch taken at one point."""

    def __init__(self, point: Any, *, at_zero: bool = False) -> None:
        self.point = point
        self.at_zero = at_zero

    def sign(self, expr: sp.Expr) -> int:
        """The sign of a resolved expression at the point; 0 only when it vanishes (identically, unless at_zero)."""
        if not expr.has(X):
            return int(sp.sign(expr))
        try:
            value = evaluate(expr, self.point, 60)
        except _FAILURES:
            raise ActivationError(
                f"{brief(expr)} is undefined at x = {mpmath.nstr(self.point, 6)}, where a branch depends on it; "
                "an activation must be real and finite for every x: restrict it with where(...)"
            ) from None
        if abs(value) > _ZERO:
            return 1 if value > 0 else -1
        if self.at_zero:
            return 0
        value = evaluate(expr, self.point, 400)  # a tiny value inside an interval is not a zero
        return 0 if abs(value) < mpmath.mpf(10) ** -360 else (1 if value > 0 else -1)

    def expression(self, expr: sp.Expr) -> sp.Expr:
        if not expr.has(*_SWITCHES):
            return expr
        if isinstance(expr, sp.Piecewise):
            for branch, condition in expr.args:
                if self.truth(condition):
                    return self.expression(branch)
            raise ActivationError(
                f"the activation has no value near x = {mpmath.nstr(self.point, 6)}: no branch of {brief(expr)} "
                "applies; give the last branch the condition True"
            )
        args = [self.expression(a) for a in expr.args]
        if isinstance(expr, sp.Abs):
            return self.sign(args[0]) * args[0]
        if isinstance(expr, sp.sign):
            return sp.Integer(self.sign(args[0]))
        if isinstance(expr, sp.Heaviside):
            sign = self.sign(args[0])
            return sp.Integer((sign + 1) // 2) if sign else args[1]
        if isinstance(expr, (sp.Max, sp.Min)):
            best = args[0]
            for other in args[1:]:
                sign = self.sign(other - best)
                if sign > 0 if isinstance(expr, sp.Max) else sign < 0:
                    best = other
            return best
        return expr.func(*args)

    def truth(self, condition: Boolean) -> bool:
        if condition in (sp.true, sp.false):
            return bool(condition)
        if isinstance(condition, sp.And):
            return all(self.truth(c) for c in condition.args)
        if isinstance(condition, sp.Or):
            return any(self.truth(c) for c in condition.args)
        if isinstance(condition, sp.Not):
            return not self.truth(condition.args[0])
        if not isinstance(condition, sp.core.relational.Relational):
            raise ActivationError(f"the condition {brief(condition)} is not supported; use <, <=, >, >=, and, or, not")
        sign = self.sign(self.expression(condition.lhs) - self.expression(condition.rhs))
        outcomes: dict[type, bool] = {
            sp.StrictGreaterThan: sign > 0,
            sp.StrictLessThan: sign < 0,
            sp.GreaterThan: sign >= 0,
            sp.LessThan: sign <= 0,
            sp.Equality: sign == 0,
            sp.Unequality: sign != 0,
        }
        return outcomes[type(condition)]
