"""The high-dimensional coefficients of DEQs with GOE weights, and the constant that centres their activation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from equikernel.errors import ConvergenceError
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.kernel import kernel_sample
from equikernel.numerics.initialisation.precision import Array, Precision, converged
from equikernel.numerics.initialisation.response import Response
from equikernel.numerics.initialisation.symmetric import Symmetric, scale_of_u
from equikernel.numerics.quadrature import Nodes
from equikernel.theory.activation import Activation, activation
from equikernel.theory.equations import ImplicitCK, ImplicitNTK, implicit_ntk_coefficients
from equikernel.theory.initialisation_kernel import response_drift, symmetric_ck_coefficients, total_slope

__all__ = ["GoeCoefficients", "effective_hermite", "goe_centre", "goe_coefficients"]

_STEPS = 60


def goe_centre(act: str | Activation, sigma_a2: float, sigma_b2: float, norm2: float) -> float:
    """The constant c with E[phi(u) - c] = 0 at the fixed point of a sample of squared norm ``norm2``, GOE weights.

    By the secant method on E[phi(u)] - c; absolute error about 1e-14 sqrt(E phi^2).

    Raises:
        ConvergenceError: it did not settle.
    """
    phi = activation(act)
    if phi.parity == "odd":
        return 0.0

    def mean(c: float) -> tuple[float, Symmetric]:
        found = kernel_sample(phi, "goe", sigma_a2, sigma_b2, norm2, c).integrals
        return float(found.mean), found

    before = 0.0
    value, found = mean(before)
    c = before + value / float(found.opening)
    for _ in range(_STEPS):
        now, found = mean(c)
        if abs(now) <= 1e-15 * (abs(c) + math.sqrt(found.square)) or now == value:
            return c
        before, c, value = c, c - now * (c - before) / (now - value), now
        if abs(c - before) <= 1e-15 * abs(c):
            return c
    raise ConvergenceError(f"the centring constant of {phi.name} with GOE weights did not settle; reduce sigma_a2")


@dataclass(frozen=True)
class GoeCoefficients:
    """High-dimensional coefficients of a DEQ with GOE weights.

    Attributes:
        tau: sqrt(Var g) at samples of squared norm tau0^2, a standard deviation.
        centre: the constant subtracted from phi.
        chi: response there.
        ck: of the conjugate kernel.
        ntk: of the neural tangent kernel.
    """

    tau: float
    centre: float
    chi: float
    ck: ImplicitCK
    ntk: ImplicitNTK


def goe_coefficients(
    act: str | Activation, sigma_a2: float, sigma_b2: float, tau0: float = 1.0, *, train_input: bool = False
) -> GoeCoefficients:
    """The high-dimensional coefficients for GOE weights, phi centred at samples of squared norm tau0^2.

    The conjugate kernel's are those of ``theory.initialisation_kernel``; the tangent kernel's follow from them as for
    i.i.d. weights, with chi, E psi'' and E psi'^2 for d1, d2 and v, since K_NTK = K/(1 - sigma_a^2 E psi_x' psi_y')
    holds for GOE weights too. Relative error about 1e-12. Derived for this package (docs/initialisation.md); checked
    against finite differences of ``kernel_pair``.

    Args:
        act: activation with bounded slope.
        sigma_a2: variance of A.
        sigma_b2: variance of B.
        tau0: standard deviation of the data.
        train_input: whether B is trained too.

    Raises:
        ConvergenceError, UnstableError, InputError: see ``kernel_sample``.
    """
    norm2 = float(tau0) ** 2
    centre = goe_centre(act, sigma_a2, sigma_b2, norm2)
    point = kernel_sample(act, "goe", sigma_a2, sigma_b2, norm2, centre)
    i = point.integrals
    drift = response_drift(i.response_v, i.response_a, sigma_a2)
    d2 = 2 * i.mean_v
    ck = symmetric_ck_coefficients(
        i.square,
        i.response,
        d2,
        total_slope(i.mean_v, i.mean_a, drift),
        total_slope(i.square_v, i.square_a, drift),
        float(sigma_a2),
        float(sigma_b2),
    )
    ntk = implicit_ntk_coefficients(
        ck, i.response, d2, i.replicon, float(sigma_a2), float(sigma_b2), norm2, train_input=train_input
    )
    return GoeCoefficients(math.sqrt(point.v), centre, float(point.chi), ck, ntk)


def effective_hermite(act: str | Activation, point: Response, order: int, centre: float = 0.0) -> Array:
    """A_k = E[psi(sqrt v xi) he_k(xi)], k = 0 ... order, he_k orthonormal, of the effective activation at one sample.

    K(x, y) = sum_k A_k(x) A_k(y) rho^k for samples with preactivation correlation rho (Mehler), so that whatever sums
    Hermite series for i.i.d. weights does so for GOE weights, given these coefficients. Absolute error about 1e-13.

    Args:
        act: activation.
        point: the sample's fixed point, from ``kernel_sample``.
        order: the highest k.
        centre: the constant subtracted from phi.

    Raises:
        AccuracyError: the quadrature did not converge.
    """
    phi, plain = activation(act), Precision()
    law = InputLaw("centre", atoms=(-Fraction(centre),))
    root = math.sqrt(point.v)

    def terms(nodes: Nodes, m: Any) -> list[Array]:
        psi = nodes.phi - centre
        xi = (nodes.y - point.a * psi) / root
        weight = nodes.dy * (1 - point.a * nodes.slope) * m.exp(-xi * xi / 2) / (root * m.root_two_pi) * psi
        rows = [np.ones_like(xi), xi]
        for k in range(1, order):
            rows.append((xi * rows[k] - math.sqrt(k) * rows[k - 1]) / math.sqrt(k + 1))
        return [weight[:, None] * np.stack(rows[: order + 1], axis=1)]

    (found,) = converged(phi, scale_of_u(phi, point.v, point.a, law, plain), plain, terms)
    return np.asarray(found)
