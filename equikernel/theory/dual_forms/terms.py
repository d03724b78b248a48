"""An activation as a finite sum of terms c x^n exp(a0 + a x + b x^2) erf(alpha_1 x)..., sgn being erf at infinity.

On the two half-lines phi is a sum without signum; sgn(x) (phi_+ - phi_-)/2 + (phi_+ + phi_-)/2 is phi itself. Sums of
such terms are multiplied out here, under a budget, without any algebra of SymPy's that could run away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import sympy as sp

from equikernel.errors import NoClosedFormError
from equikernel.theory.activation import Activation
from equikernel.theory.program import X

__all__ = ["SIGNUM", "Expansion", "Term", "derivative", "expansion"]

SIGNUM = sp.oo  # erf(alpha x) -> sgn(x) as alpha -> oo
_MAX_TERMS = 48
_MAX_DEGREE = 12
_MAX_DEGREE_WITH_FUNCTIONS = 4  # beside exponentials and error functions, whose algebra grows fast with the degree
_SWITCHES = (sp.Abs, sp.sign, sp.Heaviside, sp.Max, sp.Min, sp.Piecewise)


@dataclass(frozen=True)
class Term:
    """x^degree exp(offset + rate x + curvature x^2) prod_k erf(scales[k] x), times delta(x) if ``pinned``.

    ``offset`` and ``rate`` are complex, ``curvature`` is at most 0, a scale is positive, and infinite for the signum.
    """

    degree: int = 0
    rate: sp.Expr = sp.S.Zero
    curvature: sp.Expr = sp.S.Zero
    scales: tuple[sp.Expr, ...] = ()
    offset: sp.Expr = sp.S.Zero
    pinned: bool = False

    @property
    def is_polynomial(self) -> bool:
        """Whether it is a power of x, up to the sign of x."""
        return self.rate == self.curvature == 0 and not set(self.scales) - {SIGNUM}

    def __mul__(self, other: Term) -> Term:
        scales = sorted((*self.scales, *other.scales), key=sp.default_sort_key)
        signs = scales.count(SIGNUM)
        finite = [s for s in scales if s != SIGNUM]
        return Term(
            self.degree + other.degree,
            sp.expand(self.rate + other.rate),
            sp.expand(self.curvature + other.curvature),
            (*finite, *[SIGNUM] * (signs % 2)),
            sp.expand(self.offset + other.offset),
        )

    def to_sympy(self, x: sp.Expr = X) -> sp.Expr:
        """The term as an expression in ``x``."""
        factors = [sp.sign(x) if scale == SIGNUM else sp.erf(scale * x) for scale in self.scales]
        if self.pinned:
            factors.append(sp.DiracDelta(x))
        return sp.Mul(x**self.degree, sp.exp(self.offset + self.rate * x + self.curvature * x**2), *factors)


Expansion = Mapping[Term, sp.Expr]


def expansion(phi: Activation | sp.Expr) -> Expansion:
    """The terms of an activation, or of an expression in ``X`` and real parameters, with their coefficients.

    Raises:
        NoClosedFormError: names the part of phi that is not in the class, and why.
    """
    left, right = (_expand(side) for side in _half_lines(phi))
    half = sp.Rational(1, 2)
    terms = _sum(_scaled(left, half), _scaled(right, half))
    step = _sum(_scaled(right, half), _scaled(left, -half))
    return _sum(terms, _product(step, {Term(scales=(SIGNUM,)): sp.S.One}))


def derivative(terms: Expansion) -> Expansion:
    """The derivative, in the sense of distributions: a jump at 0 gives a pinned term."""
    total: dict[Term, sp.Expr] = {}
    for term, coefficient in terms.items():
        parts: dict[Term, sp.Expr] = {}
        if term.degree:
            parts[replace(term, degree=term.degree - 1)] = sp.Integer(term.degree)
        if term.rate != 0:
            parts[term] = term.rate
        if term.curvature != 0:
            parts[replace(term, degree=term.degree + 1)] = 2 * term.curvature
        for k, scale in enumerate(term.scales):
            rest = replace(term, scales=term.scales[:k] + term.scales[k + 1 :])
            if scale != SIGNUM:
                parts = _sum(
                    parts, _product({rest: sp.S.One}, {Term(curvature=-(scale**2)): 2 * scale / sp.sqrt(sp.pi)})
                )
            elif rest.degree == 0 and not rest.scales:
                parts = _sum(parts, {Term(offset=term.offset, pinned=True): sp.Integer(2)})
        total = _sum(total, _scaled(parts, coefficient))
    return total


# -- the two half-lines ----------------------------------------------------------------------------------------------


def _half_lines(phi: Activation | sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Phi for x < 0 and for x > 0, without switches."""
    if isinstance(phi, Activation):
        for at in phi.breakpoints:
            if at.exact != 0:
                raise NoClosedFormError(
                    f"E[phi(u) phi(v)] of {phi.name} has no closed form here: phi has a breakpoint at "
                    f"x = {at.to_sympy()}, and P(u > a, v > b) is elementary only for a = b = 0 (elsewhere it is "
                    "Owen's T function)"
                )
        return phi.pieces[0].expr, phi.pieces[-1].expr
    positive = sp.Symbol("x", positive=True)
    sides = []
    for sign in (-1, 1):
        side = phi.subs(X, sign * positive)
        if side.has(*_SWITCHES):
            switch = next(node for node in sp.preorder_traversal(side) if isinstance(node, _SWITCHES))
            raise NoClosedFormError(
                f"E[phi(u) phi(v)] has no closed form here: the branch of {switch} is not decided by the sign of x; "
                "phi may switch at x = 0 only, and a parameter that decides a branch needs an assumption "
                "(positive=True)"
            )
        sides.append(side.subs(positive, sign * X))
    return sides[0], sides[1]


# -- sums of terms ---------------------------------------------------------------------------------------------------


def _sum(*parts: Expansion) -> dict[Term, sp.Expr]:
    total: dict[Term, sp.Expr] = {}
    for part in parts:
        for term, coefficient in part.items():
            total[term] = total.get(term, sp.S.Zero) + coefficient
    expanded = {term: sp.expand(coefficient) for term, coefficient in total.items()}
    return {term: coefficient for term, coefficient in expanded.items() if coefficient != 0}


def _scaled(part: Expansion, factor: sp.Expr) -> dict[Term, sp.Expr]:
    return {term: factor * coefficient for term, coefficient in part.items()}


def _product(a: Expansion, b: Expansion) -> dict[Term, sp.Expr]:
    product = _sum(*({s * t: x * y for s, x in a.items()} for t, y in b.items()))
    degrees = [(term.degree, _MAX_DEGREE if term.is_polynomial else _MAX_DEGREE_WITH_FUNCTIONS) for term in product]
    if len(product) > _MAX_TERMS or any(degree > most for degree, most in degrees):
        raise NoClosedFormError(
            f"a closed form of E[phi(u) phi(v)] is derived for at most {_MAX_TERMS} terms of degree at most "
            f"{_MAX_DEGREE}, or {_MAX_DEGREE_WITH_FUNCTIONS} beside exponentials and error functions; phi has "
            f"{len(product)} of degree {max(degrees)[0]}: use the numbers (numerics.dual.pair_duals) instead"
        )
    return product


def _expand(expr: sp.Expr) -> dict[Term, sp.Expr]:
    """A smooth expression in ``X`` as a sum of terms."""
    if X not in expr.free_symbols:
        return {Term(): expr} if expr != 0 else {}
    if expr == X:
        return {Term(degree=1): sp.S.One}
    if expr.is_Add:
        return _sum(*(_expand(arg) for arg in expr.args))
    if expr.is_Mul:
        total: dict[Term, sp.Expr] = {Term(): sp.S.One}
        for arg in expr.args:
            total = _product(total, _expand(arg))
        return total
    rule = _RULES.get(expr.func)
    if rule is not None:
        return rule(expr)
    raise _outside(expr)


def _power(expr: sp.Expr) -> dict[Term, sp.Expr]:
    base, exponent = expr.args
    if X not in base.free_symbols and base.is_positive:
        return _exponential(sp.exp(exponent * sp.log(base), evaluate=False))
    if exponent.is_Integer and exponent > 0:
        total = factor = _expand(base)
        for _ in range(int(exponent) - 1):
            total = _product(total, factor)
        return total
    inverse = _expand(base) if exponent.is_Integer else {}
    if len(inverse) == 1:
        ((term, coefficient),) = inverse.items()
        if term.degree == 0 and not term.scales:
            rate, curvature = exponent * term.rate, _damping(exponent * term.curvature, expr)
            offset = sp.expand(exponent * term.offset)
            return {Term(rate=sp.expand(rate), curvature=sp.expand(curvature), offset=offset): coefficient**exponent}
    raise _outside(expr)


def _exponential(expr: sp.Expr) -> dict[Term, sp.Expr]:
    constant, rate, curvature = _quadratic(expr.args[0], expr)
    return {Term(rate=rate, curvature=_damping(curvature, expr), offset=constant): sp.S.One}


def _damping(curvature: sp.Expr, expr: sp.Expr) -> sp.Expr:
    if curvature == 0 or curvature.is_negative:
        return curvature
    raise NoClosedFormError(
        f"{expr} needs a coefficient of x**2 that is known to be negative, got {curvature}: otherwise "
        "E[phi(u) phi(v)] exists for small variances at most; declare the parameter positive=True"
    )


def _oscillation(expr: sp.Expr) -> dict[Term, sp.Expr]:
    """sin, cos, sinh and cosh of a linear function, by exponentials."""
    hyperbolic = expr.func in {sp.sinh, sp.cosh}
    unit = sp.S.One if hyperbolic else sp.I
    constant, rate = _linear(expr.args[0], expr)
    even = expr.func in {sp.cos, sp.cosh}
    plus = {Term(rate=unit * rate, offset=unit * constant): sp.Rational(1, 2)}
    minus = {Term(rate=-unit * rate, offset=-unit * constant): sp.Rational(1, 2)}
    return _sum(plus, minus) if even else _scaled(_sum(plus, _scaled(minus, sp.S.NegativeOne)), 1 / unit)


def _error_function(expr: sp.Expr) -> dict[Term, sp.Expr]:
    constant, scale = _linear(expr.args[0], expr)
    if constant != 0:
        raise NoClosedFormError(
            f"E[phi(u) phi(v)] with {expr} has no closed form here: two error functions that do not vanish at the "
            "same place give Owen's T function"
        )
    if scale.is_positive:
        value = {Term(scales=(scale,)): sp.S.One}
    elif scale.is_negative:
        value = {Term(scales=(-scale,)): sp.S.NegativeOne}
    else:
        raise NoClosedFormError(f"the sign of {scale} in {expr} is not known: declare the parameter positive=True")
    return value if expr.func is sp.erf else _sum({Term(): sp.S.One}, _scaled(value, sp.S.NegativeOne))


def _quadratic(argument: sp.Expr, expr: sp.Expr) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    if not argument.is_polynomial(X) or sp.degree(argument, X) > 2:
        raise _outside(expr)
    polynomial = sp.Poly(argument, X)
    constant, rate, curvature = (sp.expand(polynomial.coeff_monomial(X**k)) for k in range(3))
    return constant, rate, curvature


def _linear(argument: sp.Expr, expr: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    constant, rate, curvature = _quadratic(argument, expr)
    if curvature != 0:
        raise _outside(expr)
    return constant, rate


def _outside(expr: sp.Expr) -> NoClosedFormError:
    return NoClosedFormError(
        f"E[phi(u) phi(v)] has no closed form here: {expr} is not a finite sum of terms x**n*exp(a*x + b*x**2), "
        "b <= 0, with factors sin, cos, erf(c*x) and sgn(x)"
    )


_RULES: dict[type, Callable[[sp.Expr], dict[Term, sp.Expr]]] = {
    sp.Pow: _power,
    sp.exp: _exponential,
    sp.erf: _error_function,
    sp.erfc: _error_function,
    **dict.fromkeys((sp.sin, sp.cos, sp.sinh, sp.cosh), _oscillation),
}
