"""Nonlinear DEQs z = phi(W z) + x at initialisation: formulas, once the Gaussian integrals are known.

Notation: N-dimensional z, u = W z, d = phi'(u), J = diag(d) W, q = |z|^2/N, s = sigma^2 (a variance); Q stands for q as
an argument. Plain functions of ``+ - * /``; the integrals are the business of ``numerics.initialisation``. Source:
[Agarwala22]; derived for this package by dynamical mean-field theory, at leading order in 1/N, and checked against
simulation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ReluGoe",
    "input_noise",
    "length_fluctuation",
    "relu_goe",
    "symmetric_fluctuation",
    "tangent_length",
    "tangent_square",
]


def tangent_length(chi: Any, static: Any = 1) -> Any:
    """T = tau((I-J)^-T (I-J)^-1) = E[(1 - a d)^-2]/(1 - chi).

    For iid and orthogonal W: a = 0, so the numerator ``static`` is 1, and chi = s E d^2 = radius(J)^2. For symmetric W:
    a = s chi with the response chi, and R = s E[(d/(1 - a d))^2] takes the place of chi in the denominator.
    """
    return static / (1 - chi)


def tangent_square(family: str, s: Any, second: Any, fourth: Any) -> Any:
    """tau(((I-J)^-T (I-J)^-1)^2) = (1 + a2)/(1 - chi)^4 with chi = s E d^2.

    a2 = s^2 (E d^4 - (E d^2)^2) (iid), s^2 E d^4 - 2 chi^2 (orthogonal).

    Args:
        family: "iid" or "orthogonal"; for goe it is not known.
        s: sigma^2.
        second: E d^2.
        fourth: E d^4.
    """
    chi = s * second
    excess = s * s * fourth - (1 if family == "iid" else 2) * chi * chi
    return (1 + excess) / (1 - chi) ** 4


def input_noise(square_variance: Any, covariance: Any, variance: Any, x1: Any, x2: Any) -> Any:
    """V_z = E_x Var_u((phi(u) + x)^2) for u independent of x.

    Var phi^2 + 4 E[x] Cov(phi^2, phi) + 4 E[x^2] Var phi.
    """
    return square_variance + 4 * x1 * covariance + 4 * x2 * variance


def length_fluctuation(family: str, V_z: Any, kappa: Any, q: Any) -> Any:
    """N Var q at fixed x: V_z/(1 - kappa)^2 (iid), [V_z - 2 kappa^2 q^2]/(1 - kappa)^2 (orthogonal).

    kappa = s dE[z^2]/dv at v = s q. Orthogonal W conserves |z|, hence the smaller noise.
    """
    kept = 2 * kappa * kappa * q * q if family == "orthogonal" else 0
    return (V_z - kept) / (1 - kappa) ** 2


def symmetric_fluctuation(L: tuple[tuple[Any, Any], ...], K: tuple[tuple[Any, Any], ...]) -> Any:
    """N Var q = [L^-1 K L^-T]_11 at fixed x, for GOE W.

    L = [[1 - dq/dQ, -dq/da], [-dchi/dQ, 1/s - dchi/da]], K = [[V_z, C], [C, 1/s - E_x(E_g y)^2]], with
    C = E_x Cov_g(z^2, y), y = dz/dg and a = s chi.
    """
    determinant = L[0][0] * L[1][1] - L[0][1] * L[1][0]
    first, second = L[1][1] / determinant, -L[0][1] / determinant
    return first * first * K[0][0] + 2 * first * second * K[0][1] + second * second * K[1][1]


@dataclass(frozen=True)
class ReluGoe:
    """ReLU with GOE weights and symmetric x.

    Attributes:
        response: chi = (1 - S2)/(2s), S2 = sqrt(1 - 2s).
        replicon: rho = (1 - S2)/(1 + S2), which is R = s E y^2.
        gain: q/E[x^2] and T alike, (1 + rho + rho^2/2)/(1 - rho).
        edge: sqrt(2s), the spectral edge of J.
    """

    response: Any
    replicon: Any
    gain: Any
    edge: Any


def relu_goe(s: Any, sqrt: Callable[[Any], Any]) -> ReluGoe:
    """The closed forms of ``ReluGoe``, for s < 1/2; written with 1 - S2 = 2s/(1 + S2). Derived and checked."""
    above = 1 + sqrt(1 - 2 * s)
    rho = 2 * s / (above * above)
    return ReluGoe(1 / above, rho, (1 + rho + rho * rho / 2) / (1 - rho), sqrt(2 * s))
