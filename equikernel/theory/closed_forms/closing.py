"""``closed_form_moments``: the Gaussian moments of an activation as expressions in tau and in its parameters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import sympy as sp

from equikernel.errors import ActivationError, NoClosedFormError
from equikernel.theory import moments as formulas
from equikernel.theory.activation import Activation, activation, exact_expression
from equikernel.theory.closed_forms.atoms import Atom, Sum, atoms_of, differentiate, multiply
from equikernel.theory.closed_forms.combination import Combination, OpenIntegral
from equikernel.theory.closed_forms.forms import DERIVED, RAW, ClosedForms, Expectation
from equikernel.theory.closed_forms.integrals import TAU, GaussianIntegrals, Interval
from equikernel.theory.closed_forms.pieces import Smooth, exact_point, parametric_pieces
from equikernel.theory.closed_forms.steps import expectation, shares
from equikernel.theory.grammar import parse
from equikernel.theory.program import X

__all__ = ["closed_form_moments", "function_of"]

_Integrand = list[tuple[Interval, Sum]]


def closed_form_moments(
    phi: Activation | sp.Expr | str, parameters: Mapping[str, sp.Symbol] | None = None
) -> ClosedForms:
    """Closed forms of the six raw Gaussian moments of phi and of mean, V, d1, d2, h, v, in ``TAU``.

    The class: phi is a finite sum of x^n exp(a x + b x^2) cos(w x) prod erf(alpha x + beta) (with sin, cosh, Phi, ...)
    on each of finitely many intervals. The integrals are exact (``closed_forms.integrals``), nothing is fitted.

    Args:
        phi: an activation, the name of one, a string of the grammar, or a SymPy expression in x and parameters, which
            are real symbols with the assumptions that decide the order of the breakpoints (c positive makes -c < c).
        parameters: the parameters in a string, by name; see ``theory.grammar.parse``.

    Raises:
        NoClosedFormError: no moment has a closed form; the sentence names the factor outside the class. Where only some
            have none, they are in ``reasons``.
        ActivationError: phi is no activation, or assumptions do not decide a sign that its pieces depend on.
    """
    return _closed_form_moments(function_of(phi, parameters))


def function_of(
    phi: Activation | sp.Expr | str, parameters: Mapping[str, sp.Symbol] | None = None
) -> Activation | sp.Expr:
    """What closed forms are made of: an activation, or an exact expression where parameters are left open."""
    if isinstance(phi, str) and parameters:
        phi = parse(phi, parameters)
    if isinstance(phi, sp.Expr):
        phi = phi.xreplace({s: X for s in phi.free_symbols if str(s) == "x"})
        if phi.free_symbols - {X}:
            return exact_expression(phi)
    return activation(phi)


@lru_cache(maxsize=256)
def _closed_form_moments(phi: Activation | sp.Expr) -> ClosedForms:
    expr, pieces = _decomposed(phi)
    function = [(piece.interval, atoms_of(piece.expr)) for piece in pieces]
    integrals = GaussianIntegrals()
    values: dict[str, Combination] = {}
    reasons: dict[str, str] = {}
    expectations = []
    for name, integrand in _integrands(function).items():
        try:
            if name == "v":
                _require_continuity(pieces)
            pieces_of_integrand = integrand()
            value = expectation(pieces_of_integrand, integrals)
        except NoClosedFormError as error:
            reasons[name] = str(error)
            continue
        if _is_open(value, name, reasons):
            continue
        values[name] = value
        expectations.append(Expectation(name, tuple(shares(pieces_of_integrand)), value))
    _derive(values, reasons)
    if len(values) == 0:
        raise NoClosedFormError(f"no Gaussian moment of {expr} has a closed form here: {reasons['m0']}")
    return ClosedForms(
        expr=expr,
        pieces=tuple(pieces),
        expressions=MappingProxyType({name: _shorter(name, values) for name in (*RAW, *DERIVED) if name in values}),
        reasons=MappingProxyType(reasons),
        expectations=tuple(expectations),
        integrals=tuple(integrals.steps),
    )


def _decomposed(phi: Activation | sp.Expr) -> tuple[sp.Expr, list[Smooth]]:
    if isinstance(phi, Activation):
        ends = [exact_point(point) for point in phi.breakpoints]
        edges = zip([None, *ends], [*ends, None], strict=True)
        return phi.expr, [Smooth(Interval(*e), piece.expr) for e, piece in zip(edges, phi.pieces, strict=True)]
    if not phi.has(X):
        raise ActivationError(f"an activation must depend on x; got {phi}")
    unusable = sorted(str(s) for s in phi.free_symbols if not s.is_extended_real or s == TAU)
    if unusable:
        raise ActivationError(
            f"the parameters of an activation must be real symbols other than {TAU}; declare {', '.join(unusable)} as "
            "in Symbol('a', real=True)"
        )
    return phi, parametric_pieces(phi)


def _integrands(function: _Integrand) -> dict[str, Callable[[], _Integrand]]:
    """The integrands of the raw moments, made when they are asked for: any of them may be outside the class."""
    by_x2 = {Atom(n=2): TAU**-2, Atom(): sp.S.NegativeOne}

    def each(make: Callable[[Sum], Sum]) -> Callable[[], _Integrand]:
        return lambda: [(interval, make(f)) for interval, f in function]

    def square(f: Sum) -> Sum:
        return multiply(f, f)

    return {
        "m0": each(lambda f: f),
        "s0": each(square),
        "m1": each(lambda f: multiply({Atom(n=1): 1 / TAU}, f)),
        "m2": each(lambda f: multiply(by_x2, f)),
        "s2": each(lambda f: multiply(by_x2, square(f))),
        "v": each(lambda f: square(differentiate(f))),
    }


def _is_open(value: Combination, name: str, reasons: dict[str, str]) -> bool:
    """Whether integrals without closed form are left in a moment; then the first is its reason."""
    left = sorted(str(symbol) for symbol in value.atoms(OpenIntegral))
    if left:
        reasons[name] = left[0]
    return bool(left)


def _require_continuity(pieces: Sequence[Smooth]) -> None:
    """Refuse E[phi'^2] where phi jumps.

    Raises:
        NoClosedFormError: names the point.
    """
    for left, right in itertools.pairwise(pieces):
        point = left.interval.upper
        gap = sp.expand(right.expr.subs(X, point) - left.expr.subs(X, point))
        if gap != 0 and not _vanishes(gap):
            raise NoClosedFormError(f"E[phi'^2] is infinite, since phi jumps at x = {point}")


def _vanishes(gap: sp.Expr) -> bool:
    """Whether an expression is zero, to 900 digits, at irrational values of its parameters."""
    symbols = sorted(gap.free_symbols, key=str)
    values = {s: (-1 if s.is_negative else 1) * sp.sqrt(sp.prime(k + 5)) for k, s in enumerate(symbols)}
    return bool(abs(gap.subs(values).evalf(15, maxn=1000)) < sp.Rational(1, 10**900))


_FORMULAS: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "mean": (("m0",), lambda m0: m0),
    "V": (("m0", "s0"), formulas.variance),
    "d1": (("m1",), lambda m1: formulas.mean_slope(m1, TAU)),
    "d2": (("m2",), lambda m2: formulas.curvature(m2, TAU)),
    "h": (("m0", "m2", "s2"), lambda m0, m2, s2: formulas.variance_slope(m0, m2, s2, TAU)),
}


def _derive(values: dict[str, Combination], reasons: dict[str, str]) -> None:
    """mean, V, d1, d2, h where the raw moments they are made of are known."""
    for name, (arguments, formula) in _FORMULAS.items():
        missing = [argument for argument in arguments if argument not in values]
        if missing:
            reasons[name] = reasons[missing[0]]
        else:
            values[name] = formula(*(values[argument].complemented() for argument in arguments))


def _shorter(name: str, values: Mapping[str, Combination]) -> sp.Expr:
    """A moment as an expression: V and h multiplied out, or as they are defined, whichever is shorter."""
    expanded = values[name].to_expr()
    if name not in {"V", "h"}:
        return expanded
    arguments, formula = _FORMULAS[name]
    plain = formula(*(values[argument].to_expr() for argument in arguments))
    return min(expanded, _distributed(plain), key=lambda e: e.count_ops())


def _distributed(product: sp.Expr) -> sp.Expr:
    """A product with one sum as the sum of products."""
    sums = [factor for factor in sp.Mul.make_args(product) if factor.is_Add]
    if not product.is_Mul or len(sums) != 1:
        return product
    return sp.Add(*(product / sums[0] * term for term in sums[0].args))
