"""The coefficients of the kernels, derived from the expansion of the kernel map g(q, q', c) = E[phi_c(u) phi_c(v)].

(u, v) is Gaussian with variances q, q' and covariance c. The density solves the heat equations d/dq = (d/du)^2/2,
d/dq' = (d/dv)^2/2 and Price's d/dc = d/du d/dv, so that at c = 0, where u and v are independent,

    (d/dq)^a (d/dq')^b (d/dc)^k g = 2^-(a+b) d_(k+2a) d_(k+2b),    d_k = E[phi_c^(k)(tau* xi)],    d_0 = 0 (centring).

Taylor's formula about (q*, q*, 0) is applied to q_i = q* + O(chi_i), c = O(s), with s = <x_i, x_j> and
chi_i = |x_i|^2 - tau0^2, all of size p^(-1/2). A term s^a chi_i^b chi_j^c is kept when the matrix of its
off-diagonal entries does not vanish in operator norm (``norm_exponent``); the diagonal is a matter of its own.
``theory.equations`` states the results; here they are derived, and the tests compare the two ([Ling24], section 3).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import sympy as sp

__all__ = [
    "CHI_I",
    "CHI_J",
    "Expansion",
    "S",
    "Term",
    "kernel_derivative",
    "kernel_terms",
    "mean_derivative",
    "norm_exponent",
    "terms",
]

S, CHI_I, CHI_J = sp.symbols("s chi_i chi_j", real=True)
_ORDER = 2  # entries of third order make a matrix of Frobenius norm O(p^(-1/2))
_SECOND_ORDER_DEVIATION = sp.Symbol("r", real=True)


def mean_derivative(k: int) -> sp.Expr:
    """d_k = E[phi_c^(k)(tau* xi)] as a symbol; d_0 = 0, because phi_c is centred at tau*."""
    return sp.Symbol(f"d{k}", real=True) if k else sp.S.Zero


def kernel_derivative(a: int, b: int, k: int) -> sp.Expr:
    """(d/dq)^a (d/dq')^b (d/dc)^k g at (q*, q*, 0): 2^-(a+b) d_(k+2a) d_(k+2b)."""
    return mean_derivative(k + 2 * a) * mean_derivative(k + 2 * b) / 2 ** (a + b)


@dataclass(frozen=True)
class Expansion:
    """A kernel to the accuracy kept: linear s + norms chi_i chi_j + square s^2 off the diagonal, q_i beside it.

    Attributes:
        linear: coefficient of s = <x_i, x_j>.
        norms: coefficient of chi_i chi_j.
        square: coefficient of s^2 (whose mean is S_ab/p, S_ab = tr(C_a C_b)/p, not centred).
        deviation: q_i - q* = deviation chi_i + O(chi_i^2), q_i a variance.
    """

    linear: Any
    norms: Any
    square: Any
    deviation: Any = 0

    @property
    def entry(self) -> sp.Expr:
        """An off-diagonal entry."""
        return self.linear * S + self.norms * CHI_I * CHI_J + self.square * S**2

    def variance_deviation(self, chi: sp.Symbol) -> sp.Expr:
        """q_i - q*, with a second-order term of unknown coefficient (centring makes it drop out)."""
        return self.deviation * chi + _SECOND_ORDER_DEVIATION * chi**2


@dataclass(frozen=True)
class Term:
    """A term coefficient * s^a chi_i^b chi_j^c, and the size p^exponent of its matrix in operator norm."""

    monomial: sp.Expr
    coefficient: sp.Expr
    exponent: sp.Rational

    @property
    def kept(self) -> bool:
        """Whether the matrix fails to vanish as p grows."""
        return bool(self.exponent >= 0)


def norm_exponent(a: int, b: int, c: int) -> sp.Rational:
    """The exponent e with ||matrix of s_ij^a chi_i^b chi_j^c, i != j|| = O(p^e), n proportional to p.

    a = 0: the rank-one matrix of chi^b and chi^c, vectors of norm O(p^((1 - b)/2)) and O(p^((1 - c)/2)).
    a = 1: D^b E D^c with ||E|| = ||X X^T|| = O(1) and D = diag(chi), ||D|| = O(p^(-1/2)).
    a = 2: as a = 0 with entries smaller by 1/p, for s_ij^2 is S_ab/p up to O(p^(-1/2)) in norm.
    a > 2: the Frobenius norm of entries O(p^(-(a + b + c)/2)).
    """
    deviations = sp.Rational(b + c, 2)
    return -deviations if a == 1 else 1 - sp.Rational(a, 2) - deviations


def terms(polynomial: sp.Expr) -> tuple[Term, ...]:
    """The terms of a polynomial in s, chi_i, chi_j up to the second order, lowest order first."""
    found = []
    for (a, b, c), coefficient in sp.Poly(sp.expand(polynomial), S, CHI_I, CHI_J).terms():
        if a + b + c <= _ORDER:
            found.append((a + b + c, Term(S**a * CHI_I**b * CHI_J**c, sp.factor(coefficient), norm_exponent(a, b, c))))
    return tuple(term for _, term in sorted(found, key=lambda pair: (pair[0], str(pair[1].monomial))))


def kernel_terms(inner: Expansion, times: int = 0) -> tuple[Term, ...]:
    """Taylor's formula for (d/dc)^times g at the covariances and variances of ``inner``, off the diagonal.

    ``times`` = 1 is the derivative kernel E[phi'(u) phi'(v)] (Price), wanted to first order only.
    """
    steps = (inner.variance_deviation(CHI_I), inner.variance_deviation(CHI_J), inner.entry)
    order = _ORDER - times
    total = sp.S.Zero
    for powers in itertools.product(range(order + 1), repeat=3):
        if sum(powers) <= order:
            a, b, k = powers
            weight = sp.Mul(*(step**n / sp.factorial(n) for step, n in zip(steps, powers, strict=True)))
            total += kernel_derivative(a, b, k + times) * weight
    return tuple(t for t in terms(total) if sp.total_degree(t.monomial, S, CHI_I, CHI_J) <= order)
