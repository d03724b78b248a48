"""Linear combinations of transcendental kernels with rational coefficients: the normal form of a closed form.

A closed form is sum_k c_k K_k, where K_k is a product of square roots, exp, erf, asin, atan, ... and c_k is a rational
function of tau and the parameters. Equal kernels are collected as soon as they meet, so that what cancels is gone, and
simplification is one ``factor`` of each small coefficient: no search, the same result every time. Combinations have the
operators of numbers, so that the formulas of ``theory.moments`` run on them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import sympy as sp

__all__ = ["Combination", "OpenIntegral", "inverse_root", "rational"]


_LONG = 12  # terms of a coefficient


class OpenIntegral(sp.Symbol):  # type: ignore[misc]  # SymPy is untyped
    """The symbol of a base integral without closed form; its name is the sentence that says why."""


class Combination:
    """The sum of ``coefficient * kernel`` over ``terms``; a kernel may have the factor i, until ``real`` is called."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[sp.Expr, sp.Expr] | None = None) -> None:
        self.terms = {kernel: c for kernel, c in (terms or {}).items() if c != 0}

    @classmethod
    def of(cls, expr: Any) -> Combination:
        """A product (not a sum of kernels) as a combination of one term."""
        coefficient, kernel = _split(sp.sympify(expr))
        return cls({kernel: coefficient})

    @classmethod
    def total(cls, parts: Iterable[Combination]) -> Combination:
        """The sum of combinations, each coefficient brought to lowest terms once."""
        gathered: defaultdict[sp.Expr, list[sp.Expr]] = defaultdict(list)
        for part in parts:
            for kernel, c in part.terms.items():
                gathered[kernel].append(c)
        return cls({kernel: cs[0] if len(cs) == 1 else rational(sp.Add(*cs)) for kernel, cs in gathered.items()})

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __add__(self, other: Combination) -> Combination:
        return Combination.total((self, other))

    def __neg__(self) -> Combination:
        return Combination({kernel: -c for kernel, c in self.terms.items()})

    def __sub__(self, other: Combination) -> Combination:
        return self + -other

    def __mul__(self, other: Any) -> Combination:
        factor = other if isinstance(other, Combination) else Combination.of(other)
        products = ((_split(p * q), c1 * c2) for p, c1 in self.terms.items() for q, c2 in factor.terms.items())
        return Combination.total(Combination({kernel: rational(c * c12)}) for (c, kernel), c12 in products)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Combination:
        return self * Combination.of(1 / sp.sympify(other))

    def real(self) -> Combination:
        """The real part: the terms without a factor i."""
        return Combination({kernel: c for kernel, c in self.terms.items() if not kernel.has(sp.I)})

    def atoms(self, kind: type) -> set[sp.Basic]:
        """The sub-expressions of a kind in the kernels."""
        return {atom for kernel in self.terms for atom in kernel.atoms(kind)}

    def to_expr(self) -> sp.Expr:
        """The sum as a SymPy expression, ``1 - erf`` written as erfc and common factors in front."""
        terms = (_squares(_factored(c) * kernel) for kernel, c in self.complemented().terms.items())
        factored = sp.factor_terms(sp.Add(*terms), radical=False, sign=False)
        # factor_terms leaves products such as (3/8)*1 unevaluated
        return factored.replace(lambda e: e.is_Mul and sp.S.One in e.args, lambda e: sp.Mul(*e.args))

    def complemented(self) -> Combination:
        """The same sum, c K - c K erf(z) joined to c K erfc(z) and c K + c K erf(z) to c K (1 + erf(z))."""
        terms = dict(self.terms)
        for kernel in sorted(self.terms, key=sp.default_sort_key):
            for error_function in (f for f in sp.Mul.make_args(kernel) if isinstance(f, sp.erf)):
                rest = kernel / error_function
                if kernel not in terms or rest not in terms:
                    continue
                if terms[kernel] in {terms[rest], -terms[rest]}:
                    opposite = terms.pop(kernel) == -terms[rest]
                    joined = rest * (sp.erfc(error_function.args[0]) if opposite else 1 + error_function)
                    # the joined kernel may be there already: from a combination that was complemented before
                    terms[joined] = rational(terms.get(joined, sp.S.Zero) + terms.pop(rest))
        return Combination(terms)


@lru_cache(maxsize=8192)
def rational(coefficient: sp.Expr) -> sp.Expr:
    """A rational function in lowest terms, so that equal coefficients compare equal.

    Multiplied out where the denominator is a monomial, which is fast at any degree; factored otherwise.
    """
    if not coefficient.has(sp.Add):
        return coefficient
    if _has_sum_below(coefficient):
        coefficient = sp.factor(coefficient)
        if _has_sum_below(coefficient):
            return coefficient
    return sp.expand(coefficient)


def _factored(coefficient: sp.Expr) -> sp.Expr:
    """A coefficient as it is printed: factored, unless it is so long that nobody would see the factors."""
    return coefficient if len(sp.Add.make_args(coefficient)) > _LONG else sp.factor(coefficient)


def _has_sum_below(coefficient: sp.Expr) -> bool:
    """Whether a denominator has more than one term."""
    return any(power.exp.is_negative and power.base.has(sp.Add) for power in coefficient.atoms(sp.Pow))


@lru_cache(maxsize=4096)
def inverse_root(base: sp.Expr) -> Combination:
    """base^(-1/2), positive factors apart, so that equal roots of different products are recognised."""
    numerator, denominator = sp.fraction(sp.factor(base))
    return Combination.of(_root_of_product(numerator) ** -1 * _root_of_product(denominator))


def _root_of_product(product: sp.Expr) -> sp.Expr:
    factors = sp.Mul.make_args(product)
    return sp.Mul(*(sp.sqrt(f) for f in factors)) if all(f.is_positive for f in factors) else sp.sqrt(product)


@lru_cache(maxsize=8192)
def _split(product: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """(rational coefficient, kernel) of a product; roots in a kernel have exponent 1/2 (integers) or -1/2."""
    coefficient: list[sp.Expr] = []
    kernel: list[sp.Expr] = []
    exponents: list[sp.Expr] = []
    for factor in sp.Mul.make_args(product):
        base, exponent = factor.as_base_exp() if not isinstance(factor, sp.exp) else (factor, sp.S.One)
        if factor == sp.I:  # in kernels, because factoring over the Gaussian rationals is slow
            kernel.append(factor)
        elif isinstance(factor, sp.exp):
            exponents.append(factor.args[0])
        elif base is sp.E:  # a number of its own to SymPy, and no exp
            exponents.append(exponent)
        elif exponent.is_Integer:
            (coefficient if _is_rational(base) else kernel).append(factor)
        elif (2 * exponent).is_Integer and not base.is_Rational:
            whole = exponent + sp.Rational(1, 2)
            coefficient.append(base**whole)
            kernel.append(base ** sp.Rational(-1, 2))
        else:
            kernel.append(factor)
    exponential = sp.exp(rational(sp.Add(*exponents)))
    return sp.Mul(*coefficient), sp.Mul(exponential, *kernel)


def _is_rational(base: sp.Expr) -> bool:
    if isinstance(base, OpenIntegral):
        return False
    return bool(base.is_Rational or base.is_Symbol or base == sp.pi or (base.is_Add and not base.has(sp.Function)))


def _squares(product: sp.Expr) -> sp.Expr:
    """(p + q)(p - q), which ``factor`` makes, as p^2 - q^2."""
    sums = [f for f in sp.Mul.make_args(product) if f.is_Add or (f.is_Pow and f.base.is_Add and f.exp.is_Integer)]
    for k, left in enumerate(sums):
        for right in sums[k + 1 :]:
            base1, exponent = left.as_base_exp()
            base2, other = right.as_base_exp()
            terms1, terms2 = set(base1.args), set(base2.args)
            if exponent == other and len(terms1) == len(terms2) == 2 and len(terms1 & terms2) == 1:
                joined = sp.expand(base1 * base2)
                if len(joined.args) == 2:
                    return _squares(product / (left * right)) * joined**exponent
    return product
