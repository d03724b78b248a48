r"""The kernels beyond the four coefficients: what distinguishes networks whose four coefficients agree.

Off the diagonal, with s = <x_i, x_j> and chi_i = ||x_i||^2 - tau0^2, a kernel is, to third order and without the terms
s chi chi and s chi^2, which are smaller in norm (``expansion.norm_exponent``),

    a1 s + a3 s^2 + a2 chi_i chi_j + mixed s (chi_i + chi_j) + cubic s^3 + square s^2 (chi_i + chi_j)
        + norms (chi_i^2 chi_j + chi_i chi_j^2),

and on the diagonal its value moves by ``diagonal`` chi_i. The coefficients follow from Taylor's formula for
g(q_i, q_j, c) = E[phi_c(u) phi_c(v)], whose derivatives at c = 0 are d^(i+j+k) g/dq_i^i dq_j^j dc^k =
m_(2i+k) m_(2j+k)/2^(i+j), m_k = E[phi^(k)(tau xi)] (Price's theorem). Plain functions of ``+ - * /``, as in
``theory.equations``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from equikernel.theory.equations import ExplicitState, ImplicitCK, ImplicitNTK, gain_linear, gain_norm

__all__ = [
    "LayerMoments",
    "ThirdOrder",
    "explicit_third_order",
    "implicit_third_order",
    "input_third_order",
]


@dataclass(frozen=True)
class LayerMoments:
    """Moments of phi at tau that reach third order.

    V, d1, d2, h, v as in ``theory.moments``; d3, d4 = E[phi'''], E[phi'''']; h_q = d^2 E[phi_c^2]/dq^2 with the bias
    frozen; v_q = dv/dq. v and v_q have no meaning where phi jumps.
    """

    V: Any
    d1: Any
    d2: Any
    h: Any
    v: Any
    d3: Any
    d4: Any
    h_q: Any
    v_q: Any


@dataclass(frozen=True)
class _Terms:
    """The third-order terms of a kernel; ``diagonal`` is the first-order change of its diagonal."""

    mixed: Any
    cubic: Any
    square: Any
    norms: Any
    diagonal: Any


@dataclass(frozen=True)
class ThirdOrder:
    """Third-order terms of CK and NTK, and ``curvature``: q_i = tau^2 + alpha4 chi_i + curvature chi_i^2."""

    ck: _Terms
    ntk: _Terms
    curvature: Any


@dataclass(frozen=True)
class _Slopes:
    """E[phi'(u) phi'(v)] = one + s s1 + (chi_i + chi_j) norm + s^2 s2 + s (chi_i + chi_j) both + ..."""

    one: Any
    s1: Any
    norm: Any
    s2: Any
    both: Any


def _slopes(m: LayerMoments, a1: Any, a3: Any, mixed: Any, a4: Any) -> _Slopes:
    """Of an argument with covariance a1 s + a3 s^2 + mixed s (chi_i + chi_j) and variances tau^2 + a4 chi."""
    d2_2 = m.d2 * m.d2
    return _Slopes(
        one=m.d1 * m.d1,
        s1=d2_2 * a1,
        norm=m.d1 * m.d3 * a4 / 2,
        s2=d2_2 * a3 + m.d3 * m.d3 * a1 * a1 / 2,
        both=d2_2 * mixed + m.d2 * m.d4 * a1 * a4 / 2,
    )


def _new_terms(m: LayerMoments, a1: Any, a2: Any, a3: Any, a4: Any, mixed: Any, curvature: Any) -> _Terms:
    """Third-order terms of E[phi_c phi_c] that come from the lower orders of its argument."""
    d2_2, d13, d24 = m.d2 * m.d2, m.d1 * m.d3, m.d2 * m.d4
    return _Terms(
        mixed=d13 * a1 * a4 / 2,
        cubic=d2_2 * a1 * a3 + m.d3 * m.d3 * a1 * a1 * a1 / 6,
        square=d2_2 * a1 * mixed + d13 * a3 * a4 / 2 + d24 * a1 * a1 * a4 / 4,
        norms=d2_2 * curvature * a4 / 4 + d13 * a2 * a4 / 2 + d24 * a4 * a4 * a4 / 16,
        diagonal=m.h * a4,
    )


def _product(slopes: _Slopes, b1: Any, b2: Any, b3: Any, mixed: Any) -> tuple[Any, Any, Any, Any]:
    """Third-order terms (mixed, cubic, square, norms) of slopes times a kernel, less those of its own third order."""
    return (
        slopes.norm * b1,
        slopes.s1 * b3 + slopes.s2 * b1,
        slopes.s1 * mixed + slopes.norm * b3 + slopes.both * b1,
        slopes.norm * b2,
    )


def input_third_order(rate: Any = 1) -> ThirdOrder:
    """Of the input itself: Sigma = X X^T, Theta = rate X X^T."""
    return ThirdOrder(_Terms(0, 0, 0, 0, 1), _Terms(0, 0, 0, 0, rate), 0)


def explicit_third_order(
    s: ExplicitState, t: ThirdOrder, m: LayerMoments, rate: Any = 1, *, ntk: bool = True
) -> ThirdOrder:
    """One layer: ``s`` and ``t`` are those before it, the moments are at its input scale; see ``explicit_layer``.

    Without ``ntk`` the terms of the NTK are left as they are and have no meaning.
    """
    one = m.d1 * m.d1
    new = _new_terms(m, s.alpha1, s.alpha2, s.alpha3, s.alpha4, t.ck.mixed, t.curvature)
    ck = _Terms(
        mixed=one * t.ck.mixed + new.mixed,
        cubic=one * t.ck.cubic + new.cubic,
        square=one * t.ck.square + new.square,
        norms=one * t.ck.norms + new.norms,
        diagonal=new.diagonal,
    )
    curvature = m.h * t.curvature + m.h_q * s.alpha4 * s.alpha4 / 2
    if not ntk:
        return ThirdOrder(ck, t.ntk, curvature)
    slopes = _slopes(m, s.alpha1, s.alpha3, t.ck.mixed, s.alpha4)
    mixed, cubic, square, norms = _product(slopes, s.beta1, s.beta2, s.beta3, t.ntk.mixed)
    tangent = _Terms(
        mixed=rate * ck.mixed + one * t.ntk.mixed + mixed,
        cubic=rate * ck.cubic + one * t.ntk.cubic + cubic,
        square=rate * ck.square + one * t.ntk.square + square,
        norms=rate * ck.norms + one * t.ntk.norms + norms,
        diagonal=rate * ck.diagonal + m.v * t.ntk.diagonal + s.kappa2 * m.v_q * s.alpha4,
    )
    return ThirdOrder(ck, tangent, curvature)


def implicit_third_order(
    ck: ImplicitCK, ntk: ImplicitNTK | None, m: LayerMoments, sigma_a2: Any, sigma_b2: Any, trained: str = "aA"
) -> ThirdOrder:
    """Of a DEQ: the moments are at tau*, ``ntk`` is None where only the CK is wanted (its terms are then the CK's)."""
    a2, linear = sigma_a2, gain_linear(m.d1, sigma_a2)
    # Lambda = sigma_a2 G + sigma_b2 s: the coefficients of G's argument beyond the first order are sigma_a2 times G's
    lambda2, lambda3, a4 = a2 * ck.alpha2, a2 * ck.alpha3, ck.alpha4
    curvature = a2 * m.h_q * a4 * a4 / (2 * gain_norm(m.h, sigma_a2))
    mixed = m.d1 * m.d3 * ck.lambda1 * a4 / 2 / linear
    new = _new_terms(m, ck.lambda1, lambda2, lambda3, a4, a2 * mixed, curvature)
    terms = _Terms(mixed, new.cubic / linear, new.square / linear, new.norms / linear, new.diagonal)
    if ntk is None or trained == "a":
        return ThirdOrder(terms, terms, curvature)
    slopes = _slopes(m, ck.lambda1, lambda3, a2 * mixed, a4)
    # K = N + sigma_a2 K * slopes, N = G, with sigma_b2 s * slopes added where B is trained
    extra = sigma_b2 if trained == "aAB" else 0
    beta1, beta2, beta3 = ntk.beta1, ntk.beta2, ntk.beta3
    k_mixed = (terms.mixed + extra * slopes.norm + a2 * slopes.norm * beta1) / linear
    p = _product(slopes, beta1, beta2, beta3, k_mixed)
    diagonal = 1 - a2 * m.v
    slope = terms.diagonal + m.v_q * a4 * a2 * ntk.kappa2
    if trained == "aAB":
        tau02 = (ntk.kappa2 * diagonal - ck.gamma2) / (sigma_b2 * m.v)
        slope = slope + sigma_b2 * (m.v + tau02 * m.v_q * a4)
    k = _Terms(
        mixed=k_mixed,
        cubic=(terms.cubic + extra * slopes.s2 + a2 * p[1]) / linear,
        square=(terms.square + extra * slopes.both + a2 * p[2]) / linear,
        norms=(terms.norms + a2 * p[3]) / linear,
        diagonal=slope / diagonal,
    )
    return ThirdOrder(terms, k, curvature)
