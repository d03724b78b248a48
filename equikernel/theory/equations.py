"""The four equations, the NTK coefficients and the explicit recursion, each formula once.

Plain functions of ``+ - * /``: they run on SymPy symbols, floats, NumPy arrays and mpmath numbers alike. Notation as
in [Ling24]: sigma_a2, sigma_b2 and q are variances; V, d1, d2, h, v are the moments of ``theory.moments`` at
tau = sqrt(q).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "ExplicitState",
    "ImplicitCK",
    "ImplicitNTK",
    "explicit_input",
    "explicit_layer",
    "fixed_point_map",
    "fixed_point_slope",
    "gain_linear",
    "gain_norm",
    "implicit_ck_coefficients",
    "implicit_ntk_coefficients",
    "ntk_entry",
]


def fixed_point_map(V: Any, sigma_a2: Any, sigma_b2: Any, tau02: Any) -> Any:
    """T(q) = sigma_a2 V(q) + sigma_b2 tau0^2, whose fixed point is q* = tau*^2 ([Ling24])."""
    return sigma_a2 * V + sigma_b2 * tau02


def fixed_point_slope(V_slope: Any, sigma_a2: Any) -> Any:
    """T'(q) = sigma_a2 h: re-centring does not change the slope, since it multiplies E[phi_c] = 0."""
    return sigma_a2 * V_slope


def gain_linear(slope: Any, sigma_a2: Any) -> Any:
    """1 - sigma_a2 d1^2: how an inner product is amplified through the equilibrium."""
    return 1 - sigma_a2 * slope * slope


def gain_norm(V_slope: Any, sigma_a2: Any) -> Any:
    """1 - sigma_a2 h: how a squared norm is amplified through the equilibrium."""
    return 1 - sigma_a2 * V_slope


@dataclass(frozen=True)
class ImplicitCK:
    """Coefficients of the high-dimensional implicit conjugate kernel."""

    gamma2: Any
    lambda1: Any
    alpha1: Any
    alpha2: Any
    alpha3: Any
    alpha4: Any


@dataclass(frozen=True)
class ImplicitNTK:
    """Coefficients of the high-dimensional implicit neural tangent kernel."""

    beta1: Any
    beta2: Any
    beta3: Any
    kappa2: Any


def implicit_ck_coefficients(V: Any, d1: Any, d2: Any, h: Any, sigma_a2: Any, sigma_b2: Any) -> ImplicitCK:
    """The four equations beyond q* ([Ling24]), with moments at tau*.

    lambda1 = sigma_b2/(1 - sigma_a2 d1^2), alpha4 = sigma_b2/(1 - sigma_a2 h), alpha1 = d1^2 lambda1,
    alpha2 = d2^2 alpha4^2/(4 (1 - sigma_a2 d1^2)), alpha3 = d2^2 lambda1^2/(2 (1 - sigma_a2 d1^2)), gamma^2 = V.
    """
    linear = gain_linear(d1, sigma_a2)
    lambda1 = sigma_b2 / linear
    alpha4 = sigma_b2 / gain_norm(h, sigma_a2)
    return ImplicitCK(
        gamma2=V,
        lambda1=lambda1,
        alpha1=d1 * d1 * lambda1,
        alpha2=d2 * d2 * alpha4 * alpha4 / (4 * linear),
        alpha3=d2 * d2 * lambda1 * lambda1 / (2 * linear),
        alpha4=alpha4,
    )


def implicit_ntk_coefficients(
    ck: ImplicitCK, d1: Any, d2: Any, v: Any, sigma_a2: Any, sigma_b2: Any, tau02: Any, *, train_input: bool
) -> ImplicitNTK:
    """beta1..beta3 and kappa^2 for trained readout and A ([Ling24]), plus B when ``train_input``.

    With linear = 1 - sigma_a2 d1^2 and delta1 = sigma_a2 d2^2 lambda1: beta1 = alpha1/linear, beta2 = alpha2/linear,
    beta3 = (alpha3 + beta1 delta1)/linear, kappa^2 = gamma^2/(1 - sigma_a2 v). Training B adds sigma_b2 d1^2/linear to
    beta1, sigma_b2 d2^2 lambda1/linear^2 to beta3 and sigma_b2 tau0^2 v/(1 - sigma_a2 v) to kappa^2.
    """
    linear = gain_linear(d1, sigma_a2)
    beta1 = ck.alpha1 / linear
    beta2 = ck.alpha2 / linear
    beta3 = (ck.alpha3 + beta1 * sigma_a2 * d2 * d2 * ck.lambda1) / linear
    diagonal = 1 - sigma_a2 * v
    kappa2 = ck.gamma2 / diagonal
    if train_input:
        beta1 = beta1 + sigma_b2 * d1 * d1 / linear
        beta3 = beta3 + sigma_b2 * d2 * d2 * ck.lambda1 / (linear * linear)
        kappa2 = kappa2 + sigma_b2 * tau02 * v / diagonal
    return ImplicitNTK(beta1, beta2, beta3, kappa2)


def ntk_entry(G: Any, G_dot: Any, s: Any, sigma_a2: Any, sigma_b2: Any, trained: str) -> Any:
    """One entry of the exact implicit NTK ([Feng23]; "aA" is the implicit NTK of [Ling24]).

    a: G;  aA: G/(1 - sigma_a2 G_dot);  aAB: (G + sigma_b2 s G_dot)/(1 - sigma_a2 G_dot), with s = <x_i, x_j>.
    """
    if trained == "a":
        return G
    numerator = G if trained == "aA" else G + sigma_b2 * s * G_dot
    return numerator / (1 - sigma_a2 * G_dot)


@dataclass(frozen=True)
class ExplicitState:
    """Coefficients of an explicit network after some layers; tau2 = tau_l^2 is the diagonal of the CK."""

    tau2: Any
    alpha1: Any
    alpha2: Any
    alpha3: Any
    alpha4: Any
    beta1: Any
    beta2: Any
    beta3: Any
    kappa2: Any


def explicit_input(tau02: Any, rate: Any = 1) -> ExplicitState:
    """The state of the input itself: Sigma = X X^T, Theta = rate X X^T; see ``explicit_layer``."""
    return ExplicitState(tau02, 1, 0, 0, 1, rate, 0, 0, rate * tau02)


def explicit_layer(s: ExplicitState, V: Any, d1: Any, d2: Any, h: Any, v: Any, rate: Any = 1) -> ExplicitState:
    """One layer of the explicit recursion ([Ling24], [Gu22]), moments of sigma_l at tau_(l-1).

    alpha1 <- d1^2 alpha1, alpha2 <- d1^2 alpha2 + d2^2 alpha4^2/4, alpha3 <- d1^2 alpha3 + d2^2 alpha1^2/2,
    alpha4 <- h alpha4, beta1 <- eta alpha1' + d1^2 beta1, beta2 <- eta alpha2' + d1^2 beta2,
    beta3 <- eta alpha3' + d1^2 beta3 + d2^2 alpha1 beta1, kappa^2 <- eta V + v kappa^2 (primes: new values).

    ``rate`` = eta is the learning rate of the weights that act on this layer's output (1 for the readout's): the sum
    Theta = Sigma_L + sum_l eta_l Sigma_(l-1) * Sigma'_l * ... * Sigma'_L has its term eta Sigma_l put in here.
    """
    d1_2, d2_2 = d1 * d1, d2 * d2
    alpha1 = d1_2 * s.alpha1
    alpha2 = d1_2 * s.alpha2 + d2_2 * s.alpha4 * s.alpha4 / 4
    alpha3 = d1_2 * s.alpha3 + d2_2 * s.alpha1 * s.alpha1 / 2
    return ExplicitState(
        tau2=V,
        alpha1=alpha1,
        alpha2=alpha2,
        alpha3=alpha3,
        alpha4=h * s.alpha4,
        beta1=rate * alpha1 + d1_2 * s.beta1,
        beta2=rate * alpha2 + d1_2 * s.beta2,
        beta3=rate * alpha3 + d1_2 * s.beta3 + d2_2 * s.alpha1 * s.beta1,
        kappa2=rate * V + v * s.kappa2,
    )
