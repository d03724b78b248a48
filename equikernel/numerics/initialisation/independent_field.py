"""The statistics of a fixed point whose u = W z is independent of x: iid and orthogonal weights."""

from __future__ import annotations

from fractions import Fraction

from equikernel.numerics.initialisation.branch import Branch, BranchPoint, fixed_point
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Precision
from equikernel.numerics.initialisation.result import MeanField, finer
from equikernel.theory.activation import Activation
from equikernel.theory.initialisation_nonlinear import input_noise, length_fluctuation, tangent_length, tangent_square

__all__ = ["independent_field"]


def independent_field(
    phi: Activation, family: str, sigma: Fraction, law: InputLaw, precision: Precision, *, confirm: bool
) -> MeanField:
    """The fixed point reached from short states, and its statistics.

    Raises:
        NoFixedPointError, ConvergenceError: see ``branch.fixed_point``.
    """
    branch = Branch(phi, law)
    point = fixed_point(branch, sigma**2, precision)
    s, i = precision.number(sigma**2), point.integrals
    stable = bool(point.chi < 1)
    m1, m2 = (law.moment(k, precision.number) for k in (1, 2))
    noise = input_noise(i.p4 - i.p2 * i.p2, i.p3 - i.p2 * i.p1, i.p2 - i.p1 * i.p1, m1, m2)
    return MeanField(
        activation=phi.name,
        family=family,
        sigma=sigma,
        law=law,
        digits=precision.digits,
        mean_square=point.q,
        chi=point.chi,
        stability=point.chi,
        stable=stable,
        kappa=point.kappa,
        tangent_length=tangent_length(point.chi) if stable else None,
        tangent_square=tangent_square(family, s, i.d2, i.d4) if stable else None,
        radius=precision.sqrt(point.chi),
        length_noise=length_fluctuation(family, noise, point.kappa, point.q) if stable else None,
        residual=_residual(branch, point, sigma**2, finer(precision) if confirm else precision),
        status="solved" if stable else "unstable",
    )


def _residual(branch: Branch, point: BranchPoint, s: Fraction, fine: Precision) -> float:
    q = fine.number(point.q)
    again = branch.at(fine.number(s) * q, fine)
    return float(max(abs(q - again.q) / q, abs(point.chi - fine.number(s) * again.integrals.d2)))
