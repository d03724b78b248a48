"""Exact values: sums of number * rational function * square roots * exp(rational function) * (1, asin, erf, ...).

The rational functions live in one field of SymPy's, with the generators s_i = sqrt(q_i), s_j = sqrt(q_j), rho, the
parameters, and the imaginary unit when there are sines (its square is put to -1 at the end). A value is a table from
kernels to rational functions, so that terms meet and cancel exactly and no simplification is ever guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import sympy as sp
from sympy.polys.fields import FracField, sfield
from sympy.polys.orderings import lex

__all__ = ["Q_I", "Q_J", "RHO", "Fraction", "Key", "Table", "Value", "ValueField"]

Q_I, Q_J = sp.symbols("q_i q_j", positive=True)
RHO = sp.Symbol("rho", real=True)
_S_I, _S_J = sp.symbols("s_i s_j", positive=True)
_VARIANCES = {_S_I: sp.sqrt(Q_I), _S_J: sp.sqrt(Q_J)}

Fraction = Any  # an element of a field of rational functions (SymPy is untyped)


class Key(NamedTuple):
    """A kernel: number * sqrt(product of roots) * exp(exponent) * special; exponent None is 0."""

    number: sp.Expr = sp.S.One
    roots: frozenset[sp.Expr] = frozenset()
    exponent: Fraction = None
    special: sp.Expr = sp.S.One


Value = tuple[Key, Fraction]
Table = dict[Key, Fraction]


class ValueField:
    """The arithmetic of values whose constants are built from given ones.

    Args:
        elements: what must be in the field besides s_i, s_j, rho and rational numbers.
        constants: what will be given to ``constant``: of these, the factors with symbols are in the field.
    """

    def __init__(self, elements: Iterable[sp.Expr], constants: Iterable[sp.Expr]) -> None:
        factors = [factor for constant in constants for factor in sp.Mul.make_args(constant)]
        kept = [*elements, *filter(_in_field, factors)]
        found, _ = sfield([_S_I, _S_J, RHO, *(factor.xreplace({sp.I: sp.S.One}) for factor in kept)])
        imaginary = (sp.I,) if any(factor.has(sp.I) for factor in kept) else ()
        self._field = FracField((*found.symbols, *imaginary), sp.QQ, lex)
        self._is_complex = bool(imaginary)
        self._roots: dict[Fraction, Value] = {}
        self._expressions: dict[Value, sp.Expr] = {}
        self.zero, self.one = self._field.zero, self._field.one
        self.s_i, self.s_j, self.rho = (self.element(symbol) for symbol in (_S_I, _S_J, RHO))

    # -- making values -----------------------------------------------------------------------------------------------

    def element(self, expr: sp.Expr) -> Fraction:
        """A rational function of the generators."""
        return self._field.from_expr(expr)

    def constant(self, expr: sp.Expr) -> Value:
        """A constant: what is in the field, and the numbers (powers of pi, square roots) that are not."""
        inside, outside = self.one, sp.S.One
        for factor in sp.Mul.make_args(expr):
            if _in_field(factor):
                inside *= self.element(factor)
            else:
                outside *= factor
        return Key(number=outside), inside

    def exponential(self, exponent: Fraction) -> Value:
        """exp(exponent)."""
        return Key(exponent=exponent or None), self.one

    def inverse_root(self, radicand: Fraction) -> Value:
        """1/sqrt(radicand) of a positive element: irreducible factors of odd multiplicity stay under the root."""
        if radicand not in self._roots:
            number, outside, roots = sp.S.One, self.one, set()
            for polynomial, side in ((radicand.numer, -1), (radicand.denom, 1)):
                constant, factors = _factors(polynomial.as_expr())
                for factor, multiplicity in factors:
                    power = side * (multiplicity // 2)
                    if multiplicity % 2:
                        roots.add(factor)
                        power -= 1 if side < 0 else 0  # 1/sqrt(p) is sqrt(p)/p
                    outside *= self.element(factor) ** power
                number *= sp.sqrt(constant) ** side
            rational, rest = number.as_coeff_Mul()
            self._roots[radicand] = (Key(number=rest, roots=frozenset(roots)), outside * self.element(rational))
        return self._roots[radicand]

    def function(self, value: sp.Expr, factor: sp.Expr = sp.S.One) -> Table:
        """Factor times the value of a special function, evaluated by SymPy (a sign may have come out, or a number)."""
        name = next((part for part in sp.Mul.make_args(value) if part.is_Function), sp.S.One)
        key, weight = self.constant(value / name * factor)
        return {key._replace(special=name): weight} if weight else {}

    # -- arithmetic --------------------------------------------------------------------------------------------------

    def times(self, *values: Value) -> Value:
        """The product."""
        number, roots, exponent, special, weight = sp.S.One, frozenset[sp.Expr](), None, sp.S.One, self.one
        for key, factor in values:
            number *= key.number
            weight *= factor
            for twice in roots & key.roots:
                weight *= self.element(twice)
            roots ^= key.roots
            if key.exponent is not None:
                exponent = key.exponent if exponent is None else (exponent + key.exponent) or None
            special *= key.special
        rational, rest = number.as_coeff_Mul()
        if rational != 1:
            weight *= self.element(rational)
        return Key(rest, roots, exponent, special), weight

    def add(self, total: Table, part: Table, factor: Value) -> None:
        """Total += factor * part, in place."""
        for key, weight in part.items():
            product, value = self.times((key, weight), factor)
            value = total.get(product, self.zero) + value
            if value:
                total[product] = value
            else:
                total.pop(product, None)

    def real(self, element: Fraction) -> tuple[Fraction, Fraction]:
        """The real and the imaginary part; denominators are real."""
        if not self._is_complex:
            return element, self.zero
        expr = sp.expand(element.numer.as_expr())
        imaginary = expr.coeff(sp.I)
        below = self._field.from_expr(element.denom.as_expr())
        return self.element(sp.expand(expr - sp.I * imaginary)) / below, self.element(imaginary) / below

    def mirrored(self, element: Fraction) -> Fraction:
        """The element with -rho in the place of rho."""
        return self.element(element.as_expr().subs(RHO, -RHO))

    # -- expressions -------------------------------------------------------------------------------------------------

    def expression(self, value: Value) -> sp.Expr:
        """A real value without exponential and special function in q_i, q_j and rho, its polynomials factored."""
        if value not in self._expressions:
            self._expressions[value] = self._expression(*value)
        return self._expressions[value]

    @staticmethod
    def _expression(key: Key, weight: Fraction) -> sp.Expr:
        number = key.number
        powers: dict[sp.Expr, sp.Expr] = {root: sp.Rational(1, 2) for root in key.roots}
        for polynomial, side in ((weight.numer, 1), (weight.denom, -1)):
            constant, factors = _factors(polynomial.as_expr())
            number *= constant**side
            for factor, power in factors:
                powers[factor] = powers.get(factor, sp.S.Zero) + side * power
        minus, plus = powers.get(1 - RHO, 0), powers.get(1 + RHO, 0)
        if minus == plus != 0:
            del powers[1 - RHO], powers[1 + RHO]
            powers[1 - RHO**2] = minus
        return number * sp.Mul(*(_tidy(factor) ** power for factor, power in powers.items()))


def _in_field(factor: sp.Expr) -> bool:
    """Whether a factor of a constant belongs to the rational functions; other numbers (roots, pi) are kept outside."""
    return bool(factor.is_Rational or factor.has(sp.I) or factor.free_symbols)


def _factors(polynomial: sp.Expr) -> tuple[sp.Expr, list[tuple[sp.Expr, int]]]:
    """A constant, and irreducible factors that are positive at a point of the domain, with their multiplicities."""
    constant, factors = sp.factor_list(polynomial)
    signs = [1 if _sample(factor) > 0 else -1 for factor, _ in factors]
    constant *= sp.prod(sign ** int(power) for sign, (_, power) in zip(signs, factors, strict=True))
    return constant, [(sign * factor, int(power)) for sign, (factor, power) in zip(signs, factors, strict=True)]


def _sample(polynomial: sp.Expr) -> sp.Expr:
    """The value at a point of the domain."""
    values = {_S_I: sp.Rational(7, 10), _S_J: sp.Rational(11, 10), RHO: sp.Rational(1, 3)}
    for symbol in polynomial.free_symbols - set(values):
        values[symbol] = sp.Rational(-13, 10) if symbol.is_negative else sp.Rational(17, 10)
    return sp.N(polynomial.subs(values))


def _tidy(polynomial: sp.Expr) -> sp.Expr:
    """The polynomial in q_i, q_j: (1 + q_i)(1 + q_j) - rho^2 q_i q_j, and not its expansion."""
    plain = polynomial.subs(_VARIANCES)
    return sp.collect(plain, RHO, sp.factor) if plain.is_Add else plain
