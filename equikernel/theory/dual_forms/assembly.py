"""From a table of values to the expression that a paper would print."""

from __future__ import annotations

import sympy as sp

from equikernel.errors import NoClosedFormError
from equikernel.theory.dual_forms.values import RHO, Fraction, Key, Table, ValueField

__all__ = ["assembled"]

_ARCSINE = sp.asin(RHO)


def assembled(values: ValueField, table: Table) -> sp.Expr:
    """The real part of a value, as an expression in q_i, q_j, rho and the parameters.

    exp(A + B) and exp(A - B), B odd in rho, become cosh(B) and sinh(B); asin(rho) becomes pi - acos(rho) where that is
    shorter; what all terms have in common is taken out.

    Raises:
        NoClosedFormError: an error function of a complex argument.
    """
    groups: dict[tuple[Fraction, Fraction, sp.Expr], Table] = {}
    for key, weight in table.items():
        if key.special.has(sp.I):
            raise NoClosedFormError(
                f"E[phi(u) phi(v)] has no closed form here: it contains {key.special}, an error function of a complex "
                "number"
            )
        exponent = values.real(values.zero if key.exponent is None else key.exponent)
        group = groups.setdefault((*exponent, key.special), {})
        values.add(group, {key._replace(exponent=None, special=sp.S.One): weight}, (Key(), values.one))
    parts: list[sp.Expr] = []
    plain = groups.pop((values.zero, values.zero, sp.S.One), {})
    arcsine = groups.pop((values.zero, values.zero, _ARCSINE), {})
    while groups:
        (size, phase, special), group = groups.popitem()
        odd = (size - values.mirrored(size)) / 2
        partner = groups.pop((size - 2 * odd, phase, special), None) if odd and not phase else None
        if partner is None:
            parts.append(special * _oscillating(values, group, size, phase))
        else:
            parts.append(special * _hyperbolic(values, (group, partner), size - odd, odd))
    total = sp.Add(*parts, _with_arccosine(values, plain, arcsine))
    return sp.factor_terms(total)


def _scaled(values: ValueField, *parts: tuple[Table, sp.Expr]) -> Table:
    total: Table = {}
    for part, factor in parts:
        values.add(total, part, values.constant(factor))
    return total


def _sum(values: ValueField, table: Table, *, imaginary: bool = False) -> sp.Expr:
    """The real (or imaginary) part of a table without exponentials and special functions."""
    parts = [(key, values.real(weight)[imaginary]) for key, weight in table.items()]
    return sp.Add(*(values.expression((key, weight)) for key, weight in parts if weight))


def _exponent(values: ValueField, exponent: Fraction) -> sp.Expr:
    return values.expression((Key(), exponent)) if exponent else sp.S.Zero


def _oscillating(values: ValueField, table: Table, size: Fraction, phase: Fraction) -> sp.Expr:
    """Re(table e^(size + i phase))."""
    real = _sum(values, table)
    if phase:
        angle = _exponent(values, phase)
        real = real * sp.cos(angle) - _sum(values, table, imaginary=True) * sp.sin(angle)
    return real * sp.exp(_exponent(values, size))


def _hyperbolic(values: ValueField, pair: tuple[Table, Table], even: Fraction, odd: Fraction) -> sp.Expr:
    """Re(a e^(even + odd) + b e^(even - odd))."""
    a, b = pair
    cosine = _sum(values, _scaled(values, (a, sp.S.One), (b, sp.S.One)))
    sine = _sum(values, _scaled(values, (a, sp.S.One), (b, sp.S.NegativeOne)))
    angle = _exponent(values, odd)
    return sp.exp(_exponent(values, even)) * (cosine * sp.cosh(angle) + sine * sp.sinh(angle))


def _with_arccosine(values: ValueField, plain: Table, arcsine: Table) -> sp.Expr:
    """The sum plain + arcsine*asin(rho), or the same with asin(rho) = (pi - acos(rho)) - pi/2."""
    rest, weight = _sum(values, plain), _sum(values, arcsine)
    shifted = _sum(values, _scaled(values, (plain, sp.S.One), (arcsine, -sp.pi / 2)))
    if (sp.count_ops(shifted), len(str(shifted))) < (sp.count_ops(rest), len(str(rest))):
        return shifted + weight * (sp.pi - sp.acos(RHO))
    return rest + weight * _ARCSINE
