"""An activation as a finite sum of terms c x^n exp(a0 + a x + b x^2) erf(alpha_1 x)..., sgn being erf at infinity.

On the two half-lines phi is a sum of atoms (``closed_forms.atoms``), and phi itself is
``(phi_+ + phi_-)/2 + sgn(x) (phi_+ - phi_-)/2``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy as sp

from equikernel.errors import ActivationError, NoClosedFormError
from equikernel.theory.activation import Activation
from equikernel.theory.closed_forms.atoms import Atom, atoms_of
from equikernel.theory.closed_forms.pieces import parametric_pieces
from equikernel.theory.program import X

__all__ = ["SIGNUM", "Expansion", "Term", "derivative", "expansion"]

SIGNUM = sp.oo  # erf(alpha x) -> sgn(x) as alpha -> oo
_RESERVED = {"q_i", "q_j", "rho", "s_i", "s_j"}
_MAX_TERMS = 48
_MAX_DEGREE = 12
_MAX_DEGREE_WITH_FUNCTIONS = 4  # beside exponentials and error functions, whose algebra grows fast with the degree


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
        ActivationError: assumptions do not decide the pieces, or parameters are not real.
    """
    left, right = (_terms(side) for side in _half_lines(phi))
    half = sp.Rational(1, 2)
    step = _sum(_scaled(right, half), _scaled(left, -half))
    signed = {replace(term, scales=(*term.scales, SIGNUM)): coefficient for term, coefficient in step.items()}
    terms = _sum(_scaled(left, half), _scaled(right, half), signed)
    degrees = [(term.degree, _MAX_DEGREE if term.is_polynomial else _MAX_DEGREE_WITH_FUNCTIONS) for term in terms]
    if len(terms) > _MAX_TERMS or any(degree > most for degree, most in degrees):
        raise NoClosedFormError(
            f"a closed form of E[phi(u) phi(v)] is derived for at most {_MAX_TERMS} terms of degree at most "
            f"{_MAX_DEGREE}, or {_MAX_DEGREE_WITH_FUNCTIONS} beside exponentials and error functions; phi has "
            f"{len(terms)} of degree {max(degrees)[0]}: use the numbers (numerics.dual.pair_duals) instead"
        )
    return terms


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
                narrower = replace(rest, curvature=sp.expand(rest.curvature - scale**2))
                parts = _sum(parts, {narrower: 2 * scale / sp.sqrt(sp.pi)})
            elif rest.degree == 0 and not rest.scales:
                parts = _sum(parts, {Term(offset=term.offset, pinned=True): sp.Integer(2)})
        total = _sum(total, _scaled(parts, coefficient))
    return total


# -- the two half-lines ----------------------------------------------------------------------------------------------


def _half_lines(phi: Activation | sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Phi for x < 0 and for x > 0, without switches."""
    if isinstance(phi, Activation):
        pieces = [piece.expr for piece in phi.pieces]
        breakpoints = [at.to_sympy() for at in phi.breakpoints]
    else:
        reserved = sorted(_RESERVED & {str(symbol) for symbol in phi.free_symbols})
        if reserved:
            raise ActivationError(
                f"the parameters of an activation must not be called {', '.join(reserved)}, which the dual activation "
                "is a function of; rename them"
            )
        complex_ = sorted(str(symbol) for symbol in phi.free_symbols if not symbol.is_real)
        if complex_:
            raise ActivationError(
                f"the parameters of an activation must be real; got {', '.join(complex_)}: declare them as in "
                'Symbol("a", real=True)'
            )
        smooth = parametric_pieces(phi)
        pieces = [piece.expr for piece in smooth]
        breakpoints = [piece.interval.upper for piece in smooth[:-1]]
    for at in breakpoints:
        if at != 0:
            raise NoClosedFormError(
                f"E[phi(u) phi(v)] has no closed form here: phi has a breakpoint at x = {at}, and P(u > a, v > b) is "
                "elementary only for a = b = 0 (elsewhere it is Owen's T function)"
            )
    return pieces[0], pieces[-1]


def _terms(expr: sp.Expr) -> dict[Term, sp.Expr]:
    """A smooth expression as a sum of terms, cosines as two exponentials."""
    total: dict[Term, sp.Expr] = {}
    for atom, coefficient in atoms_of(expr).items():
        scales = _scales(atom)
        if not (atom.b == 0 or atom.b.is_negative):
            raise NoClosedFormError(
                f"{atom.to_expr()} needs a coefficient of x**2 that is known to be negative, got {atom.b}: otherwise "
                "E[phi(u) phi(v)] exists for small variances at most; declare the parameter positive=True"
            )
        for part in sp.Add.make_args(sp.expand(coefficient)):
            factor, offset = _separated(part)
            term = Term(atom.n, atom.a + sp.I * atom.w, atom.b, scales, offset)
            if atom.w == 0:
                total = _sum(total, {term: factor})
                continue
            mirror = replace(term, rate=atom.a - sp.I * atom.w, offset=sp.conjugate(offset))
            half = sp.Rational(1, 2)
            total = _sum(total, {term: factor * half}, {mirror: sp.conjugate(factor) * half})
    return total


def _separated(coefficient: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """A constant as (factor, offset), factor * exp(offset)."""
    factors = sp.Mul.make_args(coefficient)
    offset = sp.Add(*(factor.args[0] for factor in factors if isinstance(factor, sp.exp)))
    return sp.Mul(*(factor for factor in factors if not isinstance(factor, sp.exp))), sp.expand(offset)


def _scales(atom: Atom) -> tuple[sp.Expr, ...]:
    for alpha, beta in atom.erfs:
        if beta != 0:
            raise NoClosedFormError(
                f"E[phi(u) phi(v)] with {sp.erf(alpha * X + beta)} has no closed form here: an error function that "
                "does not vanish at x = 0 gives Owen's T function"
            )
        if not alpha.is_positive:
            raise NoClosedFormError(
                f"the sign of {alpha} in {sp.erf(alpha * X)} is not known: declare the parameter positive=True"
            )
    return tuple(alpha for alpha, _ in atom.erfs)


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
