"""Smooth pieces of expressions with symbolic parameters: branches are decided by the assumptions on the symbols.

``theory.piecewise`` decides branches numerically, at a sample point; with parameters there is none. Here an expression
becomes pieces from the leaves up: the arguments of a switch are cut at their common breakpoints, the switch function is
cut at its zeros where it is linear in x, and signs and orders of breakpoints follow from the assumptions (c positive
makes -c < c). What the assumptions leave open is one sentence naming the sign that has to be known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import sympy as sp
from sympy.logic.boolalg import Boolean

from equikernel.errors import ActivationError, NoClosedFormError
from equikernel.theory.closed_forms.integrals import Interval
from equikernel.theory.program import X
from equikernel.theory.roots import Breakpoint, real_zeros

__all__ = ["Smooth", "exact_point", "parametric_pieces"]

_SWITCHES = (sp.Abs, sp.sign, sp.Heaviside, sp.Max, sp.Min, sp.Piecewise)


class Smooth(NamedTuple):
    """A smooth expression on an open interval."""

    interval: Interval
    expr: sp.Expr


def parametric_pieces(expr: sp.Expr) -> list[Smooth]:
    """The smooth pieces of an expression in x and parameters, left to right.

    Raises:
        ActivationError: a sign or an order of breakpoints does not follow from the assumptions on the parameters, or a
            switch function with parameters is not linear in x.
    """
    joined: list[Smooth] = []
    for piece in _pieces(expr):
        if joined and sp.expand(joined[-1].expr - piece.expr) == 0:
            joined[-1] = Smooth(Interval(joined[-1].interval.lower, piece.interval.upper), piece.expr)
        else:
            joined.append(piece)
    return joined


def exact_point(point: Breakpoint) -> sp.Expr:
    """A breakpoint as an exact number.

    Raises:
        NoClosedFormError: it is only known as the zero of an expression.
    """
    if point.exact is None:
        raise NoClosedFormError(
            f"the breakpoint {float(point):.6g} is the zero of an expression and has no closed form, so that no "
            "integral up to it has one"
        )
    return point.exact


def _pieces(expr: sp.Expr) -> list[Smooth]:
    if not expr.has(*_SWITCHES):
        return [Smooth(Interval(), expr)]
    if isinstance(expr, sp.Piecewise):
        return _branches(expr)
    parts = _aligned([_pieces(argument) for argument in expr.args])
    result: list[Smooth] = []
    for interval, args in parts:
        if isinstance(expr, (sp.Max, sp.Min)):
            result += _extreme(isinstance(expr, sp.Max), interval, args)
        elif isinstance(expr, (sp.Abs, sp.sign, sp.Heaviside)):
            for part, sign in _signs(args[0], interval):
                value = {sp.Abs: sign * args[0], sp.sign: sp.Integer(sign)}.get(type(expr), sp.Rational(1 + sign, 2))
                result.append(Smooth(part, value))
        else:
            result.append(Smooth(interval, expr.func(*args)))
    return result


def _extreme(largest: bool, interval: Interval, args: Sequence[sp.Expr]) -> list[Smooth]:
    best = [Smooth(interval, args[0])]
    for other in args[1:]:
        best = [
            Smooth(part, other if (sign > 0) == largest and sign else piece.expr)
            for piece in best
            for part, sign in _signs(other - piece.expr, piece.interval)
        ]
    return best


def _branches(expr: sp.Piecewise) -> list[Smooth]:
    """The pieces of a Piecewise: cut where a condition changes, then the first branch whose condition holds."""
    truths = [_truth(condition) for _, condition in expr.args]
    values = [_pieces(branch) for branch, _ in expr.args]
    count = len(truths)
    result = []
    for interval, parts in _aligned([*truths, *values]):
        chosen = next((parts[count + k] for k in range(count) if parts[k] == sp.true), None)
        if chosen is None:
            raise ActivationError(
                f"no branch of {expr} applies for {interval}; give the last branch the condition True"
            )
        result.append(Smooth(interval, chosen))
    return result


def _truth(condition: Boolean) -> list[Smooth]:
    """Where a condition is true: pieces with the values true and false."""
    if condition in (sp.true, sp.false):
        return [Smooth(Interval(), condition)]
    if isinstance(condition, (sp.And, sp.Or, sp.Not)):
        parts = _aligned([_truth(argument) for argument in condition.args])
        return [Smooth(interval, condition.func(*values)) for interval, values in parts]
    if not isinstance(condition, sp.core.relational.Relational):
        raise ActivationError(f"the condition {condition} is not supported; use <, <=, >, >=, and, or, not")
    positive = isinstance(condition, (sp.StrictGreaterThan, sp.GreaterThan, sp.Unequality))
    negative = isinstance(condition, (sp.StrictLessThan, sp.LessThan, sp.Unequality))
    equal = isinstance(condition, (sp.GreaterThan, sp.LessThan, sp.Equality))
    holds = {1: positive, -1: negative, 0: equal}
    return [
        Smooth(part, sp.true if holds[sign] else sp.false)
        for piece in _pieces(condition.lhs - condition.rhs)
        for part, sign in _signs(piece.expr, piece.interval)
    ]


def _aligned(families: Sequence[Sequence[Smooth]]) -> list[tuple[Interval, list[sp.Expr]]]:
    """Several families of pieces over the line, cut at their common breakpoints."""
    points: list[sp.Expr] = []
    for family in families:
        for piece in family[:-1]:
            _insert(points, piece.interval.upper)
    edges = [None, *points, None]
    result = []
    for lower, upper in itertools.pairwise(edges):
        values = [next(p.expr for p in family if _reaches(p.interval.upper, upper)) for family in families]
        result.append((Interval(lower, upper), values))
    return result


def _reaches(end: sp.Expr | None, upper: sp.Expr | None) -> bool:
    """Whether a piece that ends at ``end`` covers what ends at ``upper``."""
    return end is None or (upper is not None and _order(end, upper) >= 0)


def _insert(points: list[sp.Expr], point: sp.Expr) -> None:
    for place, other in enumerate(points):
        order = _order(point, other)
        if order == 0:
            return
        if order < 0:
            points.insert(place, point)
            return
    points.append(point)


def _order(left: sp.Expr, right: sp.Expr) -> int:
    return _sign(left - right)


def _sign(expr: sp.Expr) -> int:
    """The sign of an expression without x, from assumptions."""
    for candidate in (expr, sp.expand(expr), sp.factor(expr)):
        if candidate.is_zero:
            return 0
        if candidate.is_positive:
            return 1
        if candidate.is_negative:
            return -1
    raise ActivationError(
        f"the sign of {sp.factor(expr)} decides where the pieces of the activation begin and end, and it does not "
        "follow from the assumptions on the parameters: declare it, as in Symbol('c', positive=True), or put in numbers"
    )


def _signs(function: sp.Expr, interval: Interval) -> list[tuple[Interval, int]]:
    """The sign of a smooth function on an interval, cut at its zeros."""
    function = sp.expand(function)
    if not function.has(X):
        return [(interval, _sign(function))]
    if function.is_polynomial(X) and sp.degree(function, X) == 1:
        slope, constant = function.coeff(X, 1), function.coeff(X, 0)
        direction = _sign(slope)
        return _cut(interval, [sp.factor(-constant / slope)], lambda k: direction if k else -direction)
    known = 1 if function.is_positive else -1 if function.is_negative else 0
    if known:
        return [(interval, known)]
    if function.free_symbols != {X}:
        raise ActivationError(
            f"a branch depends on the sign of {function}: with parameters only functions that are linear in x can be "
            "resolved; put in numbers"
        )
    zeros = [exact_point(zero) for zero in real_zeros(function)]
    return _cut(interval, zeros, lambda k: _sample_sign(function, zeros, k))


def _sample_sign(function: sp.Expr, zeros: Sequence[sp.Expr], k: int) -> int:
    """The sign of a function without parameters between its zeros number k - 1 and k."""
    if not zeros:
        point = sp.S.Zero
    elif k == 0:
        point = zeros[0] - 1
    else:
        point = zeros[-1] + 1 if k == len(zeros) else (zeros[k - 1] + zeros[k]) / 2
    return int(sp.sign(function.subs(X, point).evalf(30)))


def _cut(interval: Interval, zeros: Sequence[sp.Expr], sign: Callable[[int], int]) -> list[tuple[Interval, int]]:
    """(part, sign(k)) of an interval cut at increasing zeros; k zeros lie to the left of a part."""
    result: list[tuple[Interval, int]] = []
    lower = interval.lower
    for k, zero in enumerate(zeros):
        if lower is not None and _order(zero, lower) <= 0:
            continue
        if interval.upper is not None and _order(zero, interval.upper) >= 0:
            return [*result, (Interval(lower, interval.upper), sign(k))]
        result.append((Interval(lower, zero), sign(k)))
        lower = zero
    return [*result, (Interval(lower, interval.upper), sign(len(zeros)))]
