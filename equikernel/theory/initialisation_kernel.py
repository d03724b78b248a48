"""The conjugate kernel of a DEQ with GOE weights: coefficients of its expansion in high dimension.

z = phi_c(u)/sqrt m, u = sigma_a A z + sigma_b B x, A symmetric Gaussian (GOE), B Gaussian. For each sample
u = g + a phi_c(u), a = sigma_a^2 chi with the sample's own response chi = E dphi_c(u)/dg, so that
K(x, y) = E psi_x(g) psi_y(g'), where psi_x(g) = phi_c(u) is the effective activation and (g, g') is Gaussian with
covariance Lambda = sigma_a^2 K + sigma_b^2 x.y. Plain functions of ``+ - * /``. Source: [Agarwala22] for the setting;
derived for this package (docs/initialisation.md) and checked against the exact pair equation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from equikernel.theory.equations import ImplicitCK, gain_linear, implicit_ck_coefficients

__all__ = ["response_drift", "symmetric_ck_coefficients", "total_slope"]


def response_drift(response_v: Any, response_a: Any, sigma_a2: Any) -> Any:
    """da/dv along a = sigma_a^2 chi(v, a): sigma_a^2 chi_v/(1 - sigma_a^2 chi_a)."""
    return sigma_a2 * response_v / (1 - sigma_a2 * response_a)


def total_slope(partial_v: Any, partial_a: Any, drift: Any) -> Any:
    """df/dv = f_v + f_a da/dv: the effective activation itself changes with the variance v of g."""
    return partial_v + partial_a * drift


def symmetric_ck_coefficients(
    gamma2: Any, chi: Any, d2: Any, mean_slope: Any, square_slope: Any, sigma_a2: Any, sigma_b2: Any
) -> ImplicitCK:
    """alpha1 ... alpha4, lambda1, gamma^2 of the high-dimensional conjugate kernel.

    lambda1 = sigma_b2/(1 - sigma_a2 chi^2), alpha4 = sigma_b2/(1 - sigma_a2 square_slope), alpha1 = chi^2 lambda1,
    alpha2 = mean_slope^2 alpha4^2/(1 - sigma_a2 chi^2), alpha3 = d2^2 lambda1^2/(2 (1 - sigma_a2 chi^2)). With i.i.d.
    weights mean_slope = d2/2, square_slope = h, chi = d1: the four equations of [Ling24].

    Args:
        gamma2: E psi^2 at tau0, psi centred.
        chi: E psi'.
        d2: E psi'' at fixed psi.
        mean_slope: dE psi/dv in all, see ``total_slope``.
        square_slope: dE psi^2/dv in all.
        sigma_a2: variance of A.
        sigma_b2: variance of B.
    """
    ck = implicit_ck_coefficients(gamma2, chi, d2, square_slope, sigma_a2, sigma_b2)
    return replace(ck, alpha2=mean_slope * mean_slope * ck.alpha4 * ck.alpha4 / gain_linear(chi, sigma_a2))
