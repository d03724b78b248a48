"""Real zeros of the expressions that switch a piecewise activation, exactly where possible.

Polynomials with rational coefficients are isolated by Sturm sequences, invertible functions are peeled off
symbolically, products are split. What is left is scanned for sign changes and kept as an isolating interval that is
refined to whatever precision is asked for. An expression with too many sign changes to be sure of is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import mpmath
import sympy as sp

from equikernel.errors import ActivationError
from equikernel.theory.multiprecision import MpArithmetic, mp_arithmetic, sympy_to_mpf
from equikernel.theory.program import Program, X, compile_expression
from equikernel.theory.wording import brief

__all__ = ["Breakpoint", "compiled", "evaluate", "has_zero", "real_zeros", "scanned_factors"]

_SCAN_POINTS = 1501
_SCAN_LIMIT = mpmath.mpf(10) ** 6
_MAX_SIGN_CHANGES = 24
_MINIMA_TRIED = 12  # a touching zero shows among the smallest minima of the scan
_FAILURES = (ValueError, ZeroDivisionError, OverflowError)


@dataclass(frozen=True)
class Breakpoint:
    """A point of the line: ``exact`` when it has a closed form, else the only zero of ``program`` in ``bracket``."""

    exact: sp.Expr | None
    program: Program | None = None
    bracket: tuple[mpmath.mpf, mpmath.mpf] | None = None

    def value(self, arithmetic: MpArithmetic) -> Any:
        """The point as a number of ``arithmetic``."""
        if self.exact is not None:
            try:
                return arithmetic.constant(self.exact)
            except ValueError:
                raise ActivationError(
                    f"a branch changes at {brief(self.exact)}, which is not a real number: an activation must be real "
                    "for every x"
                ) from None
        return _refine(self, arithmetic.digits, arithmetic)

    def __float__(self) -> float:
        return float(self.value(mp_arithmetic(40)))

    def to_sympy(self) -> sp.Expr:
        """The exact point, or its first 30 digits."""
        if self.exact is not None:
            return self.exact
        return sp.Float(str(self.value(mp_arithmetic(40))), 30)


@cache
def _refined(breakpoint_: Breakpoint, digits: int) -> Any:
    program, bracket = breakpoint_.program, breakpoint_.bracket
    if program is None or bracket is None:
        raise AssertionError("a breakpoint has an exact value or a bracket")
    arithmetic = MpArithmetic(digits + 15)
    c = arithmetic.context
    low, high = c.mpf(bracket[0]), c.mpf(bracket[1])
    low_sign = c.sign(program.run(arithmetic, low))
    for _ in range(60):  # bisection until secant steps are safe
        middle = (low + high) / 2
        if c.sign(program.run(arithmetic, middle)) == low_sign:
            low = middle
        else:
            high = middle
    tolerance = c.mpf(10) ** (-digits - 8) * max(abs(low), abs(high), c.mpf(1e-30))
    slope = program.derivative()
    point = (low + high) / 2
    for _ in range(200):
        derivative = slope.run(arithmetic, point)
        step = program.run(arithmetic, point) / derivative if derivative else c.inf
        candidate = point - step
        if not low <= candidate <= high:
            candidate = (low + high) / 2
            step = candidate - point
        if c.sign(program.run(arithmetic, candidate)) == low_sign:
            low = candidate
        else:
            high = candidate
        point = candidate
        if abs(step) <= tolerance:
            return point
    return point


def _refine(breakpoint_: Breakpoint, digits: int, arithmetic: MpArithmetic) -> Any:
    try:
        return arithmetic.context.mpf(_refined(breakpoint_, digits))
    except _FAILURES:
        low, high = breakpoint_.bracket or (mpmath.nan, mpmath.nan)
        raise ActivationError(
            f"a function on whose sign a branch depends changes it between {mpmath.nstr(low, 6)} and "
            f"{mpmath.nstr(high, 6)}, where it is undefined or overflows; restrict it with where(...)"
        ) from None


def evaluate(expr: sp.Expr, point: Any, digits: int = 40) -> Any:
    """The smooth expression at an mpmath number, to ``digits`` working digits; raises ValueError where undefined."""
    arithmetic = mp_arithmetic(digits)
    return compiled(expr).run(arithmetic, arithmetic.context.mpf(point))


@cache
def compiled(expr: sp.Expr) -> Program:
    """``compile_expression``, remembered."""
    return compile_expression(expr)


@lru_cache(maxsize=1024)
def real_zeros(expr: sp.Expr) -> tuple[Breakpoint, ...]:
    """Points where the smooth expression changes sign (and, for polynomials, every real zero), in increasing order.

    Raises:
        ActivationError: the sign changes cannot be isolated, as for ``sin(x)``, which has infinitely many.
    """
    found = sorted(_zeros(sp.sympify(expr)), key=_rough)
    return tuple(b for b, previous in zip(found, [None, *found], strict=False) if previous is None or b != previous)


def _rough(zero: Breakpoint) -> float:
    """About where a zero is, without refining it: that may fail far out, where nobody looks."""
    return float(zero) if zero.bracket is None else float(zero.bracket[0])


def has_zero(expr: sp.Expr, inside: Callable[[Breakpoint | Any], bool]) -> bool:
    """Whether the smooth expression vanishes, if only by touching, in a set ``inside`` (of breakpoints and numbers)."""
    if expr.is_positive or expr.is_negative:
        return False
    try:
        zeros = real_zeros(expr)
    except ActivationError:
        return True
    if any(inside(b) for b in zeros):
        return True
    if expr.is_polynomial(X):
        return False
    program = compiled(expr)
    points = [(x, v) for x, v in _scan(program) if inside(x)]
    minima = [
        (abs(b), xa, xc)
        for (xa, a), (_, b), (xc, c) in zip(points, points[1:], points[2:], strict=False)
        if abs(b) < abs(a) and abs(b) < abs(c)
    ]
    smallest = sorted(minima)[:_MINIMA_TRIED]
    return any(_minimum(program, xa, xc) < mpmath.mpf(10) ** -20 for _, xa, xc in smallest)


def _minimum(program: Program, low: Any, high: Any) -> Any:
    """The smallest |value| between two points around an interior minimum, by golden section at 60 digits."""
    arithmetic = mp_arithmetic(60)
    c = arithmetic.context
    ratio = (c.sqrt(5) - 1) / 2
    a, b = c.mpf(low), c.mpf(high)

    def size(point: Any) -> Any:
        try:
            return abs(program.run(arithmetic, point))
        except _FAILURES:
            return c.inf

    for _ in range(140):
        left, right = b - ratio * (b - a), a + ratio * (b - a)
        if size(left) < size(right):
            b = right
        else:
            a = left
    return size((a + b) / 2)


def _factors(expr: sp.Expr) -> Iterator[sp.Expr]:
    """Expressions whose zeros together are those of ``expr``: products split, invertible functions undone, exactly."""
    if not expr.has(X) or expr.is_positive or expr.is_negative:
        return
    if expr.is_Mul:
        for factor in expr.args:
            yield from _factors(factor)
        return
    if expr.is_Pow and expr.exp.is_number:
        if expr.exp.is_positive:
            yield from _factors(expr.base)
        return
    peeled = None if _polynomial(expr) is not None else _peel(expr)
    if peeled is None:
        yield expr
        return
    for inner in peeled:
        yield from _factors(inner)


def _polynomial(factor: sp.Expr) -> sp.Poly | None:
    """The factor as a polynomial whose zeros are found exactly: rational coefficients, or degree 1."""
    if not factor.is_polynomial(X):
        return None
    polynomial = sp.Poly(factor, X)
    rational = all(c.is_Rational for c in polynomial.all_coeffs())
    return polynomial if rational or polynomial.degree() == 1 else None


def scanned_factors(expr: sp.Expr) -> tuple[sp.Expr, ...]:
    """The factors of a smooth expression whose zeros ``real_zeros`` finds by a scan, not by algebra: not a proof."""
    return tuple(f for f in _factors(sp.sympify(expr)) if _polynomial(f) is None)


def _zeros(expr: sp.Expr) -> Iterator[Breakpoint]:
    for factor in _factors(expr):
        polynomial = _polynomial(factor)
        if polynomial is None:
            yield from _scanned_zeros(factor)
        elif polynomial.degree() == 1:
            a, b = polynomial.all_coeffs()
            yield Breakpoint(-b / a)  # not simplified: SymPy simplifies atanh(1 - 1e-45) to 0
        else:
            yield from _rational_polynomial_zeros(polynomial)


def _rational_polynomial_zeros(polynomial: sp.Poly) -> Iterator[Breakpoint]:
    for factor, _ in polynomial.factor_list()[1]:
        if factor.degree() <= 2:
            for root in sp.roots(factor, multiple=True):
                if root.is_real:
                    yield Breakpoint(root)
            continue
        program = compiled(factor.as_expr())
        for (low, high), _ in factor.intervals(eps=sp.Rational(1, 1000)):
            if low == high:
                yield Breakpoint(sp.sympify(low))
            else:
                yield Breakpoint(None, program, (mpmath.mpf(low.p) / low.q, mpmath.mpf(high.p) / high.q))


# f(h) = t  =>  h = inverse(t) when t is in the open range of f
_INVERSES: dict[type, tuple[Callable[[sp.Expr], sp.Expr], sp.Expr, sp.Expr]] = {
    sp.exp: (sp.log, sp.S.Zero, sp.oo),
    sp.log: (sp.exp, -sp.oo, sp.oo),
    sp.tanh: (sp.atanh, -sp.S.One, sp.S.One),
    sp.sinh: (sp.asinh, -sp.oo, sp.oo),
    sp.asinh: (sp.sinh, -sp.oo, sp.oo),
    sp.atan: (sp.tan, -sp.pi / 2, sp.pi / 2),
    sp.erf: (sp.erfinv, -sp.S.One, sp.S.One),
}


def _peel(expr: sp.Expr) -> list[sp.Expr] | None:
    """Expressions h - inverse(t) with the zeros of ``a f(h) + c``, f invertible; None when it has another form."""
    offset, rest = expr.as_independent(X, as_Add=True)
    scale, core = rest.as_independent(X, as_Add=False)
    target = -offset / scale
    if type(core) in _INVERSES:
        inverse, low, high = _INVERSES[type(core)]
        if not (_below(low, target) and _below(target, high)):
            return []
        return [core.args[0] - inverse(target)]
    if core.is_Pow and core.exp.is_Integer and core.exp > 1 and core.base.has(X) and core.base != X:
        value = sympy_to_mpf(target, mp_arithmetic(40))
        if core.exp % 2:
            return [core.base - sp.real_root(target, core.exp)]
        if value < 0:
            return []
        root = sp.root(target, core.exp)
        return [core.base - root, core.base + root]
    return None


def _below(a: sp.Expr, b: sp.Expr) -> bool:
    """Whether a < b; constants that agree to 380 digits are equal.

    Raises:
        ActivationError: they differ by less than 1e-20, so that an inverse function there has no digits left.
    """
    if -sp.oo in (a, b) or sp.oo in (a, b):
        return bool(a < b)
    gap = sympy_to_mpf(b - a, mp_arithmetic(400))
    if 0 in (a, b):
        return bool(gap > 0)
    if mpmath.mpf(10) ** -380 < abs(gap) < mpmath.mpf(10) ** -20:
        raise ActivationError(
            f"a branch depends on whether a function that saturates at {a if a.is_Integer else b} has passed a number "
            "within 1e-20 of that; move the threshold, or write the condition on x itself"
        )
    return bool(gap >= mpmath.mpf(10) ** -20)


def _scan(program: Program) -> Iterator[tuple[Any, Any]]:
    """Values on a grid uniform in asinh x, where they exist."""
    arithmetic = mp_arithmetic(20)
    c = arithmetic.context
    limit = c.asinh(_SCAN_LIMIT)
    for k in range(_SCAN_POINTS):
        # an irrational offset keeps the grid off the zeros of simple expressions
        x = c.sinh(limit * (2 * c.mpf(k) + c.mpf("0.137")) / _SCAN_POINTS - limit)
        try:
            yield x, program.run(arithmetic, x)
        except _FAILURES:
            continue


def _scanned_zeros(expr: sp.Expr) -> Iterator[Breakpoint]:
    program = compiled(expr)
    nonzero = [(x, v) for x, v in _scan(program) if v != 0]
    brackets = [(xa, xb) for (xa, a), (xb, b) in itertools.pairwise(nonzero) if (a > 0) != (b > 0)]
    if len(brackets) > _MAX_SIGN_CHANGES:
        raise ActivationError(
            f"the breakpoints cannot be isolated: {brief(expr)} changes sign more than {_MAX_SIGN_CHANGES} times; "
            "an activation must have finitely many breakpoints"
        )
    for low, high in brackets:
        rational = _rational_zero(expr, program, low, high)
        yield rational or Breakpoint(None, program, (mpmath.mpf(low), mpmath.mpf(high)))


def _rational_zero(expr: sp.Expr, program: Program, low: Any, high: Any) -> Breakpoint | None:
    """The zero in a bracket as a fraction with denominator up to 1000, when substituting it gives exactly 0."""
    try:
        approximate = Fraction(float(Breakpoint(None, program, (mpmath.mpf(low), mpmath.mpf(high)))))
    except ActivationError:
        return None
    fraction = approximate.limit_denominator(1000)
    candidate = sp.Rational(fraction.numerator, fraction.denominator)
    return Breakpoint(candidate) if expr.subs(X, candidate) == 0 else None
