"""The high-dimensional coefficients of DEQs with GOE weights, and the constant that centres their activation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from equikernel.errors import ConvergenceError, InputError, UnstableError
from equikernel.numerics.initialisation.branch import critical_point, smallest
from equikernel.numerics.initialisation.centred import CentredBranch
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.kernel import kernel_sample
from equikernel.numerics.initialisation.precision import Precision, require_lipschitz
from equikernel.numerics.initialisation.response import ResponseProblem, evaluate, goe_transform
from equikernel.numerics.initialisation.result import finer
from equikernel.numerics.initialisation.symmetric import Symmetric
from equikernel.numerics.moments import without_constant
from equikernel.theory.activation import Activation, activation
from equikernel.theory.equations import ImplicitCK, ImplicitNTK, implicit_ntk_coefficients
from equikernel.theory.initialisation_kernel import response_drift, symmetric_ck_coefficients, total_slope
from equikernel.theory.models import require_trained

__all__ = ["GoeCoefficients", "goe_centre", "goe_coefficients", "goe_residual"]

_STEPS = 60


def goe_centre(act: str | Activation, sigma_a2: float, sigma_b2: float, norm2: float) -> float:
    """The constant c with E[phi(u) - c] = 0 at the fixed point of a sample of squared norm ``norm2``, GOE weights.

    By the secant method on E[phi(u)] - c, from a point of the branch of centred fixed points where it leaves the stable
    region on the way; absolute error about 1e-14 sqrt(E phi^2).

    Raises:
        UnstableError: the centred network has no stable fixed point; names the critical sigma_a2.
        ConvergenceError, NoFixedPointError: it was not reached.
        InputError: phi' is unbounded, or x = 0.
    """
    phi, s = activation(act), float(sigma_a2)
    require_lipschitz(phi)
    if phi.parity == "odd":
        kernel_sample(phi, "goe", s, sigma_b2, norm2)
        return 0.0
    bias = float(sigma_b2) * float(norm2)
    if not (bias > 0 and math.isfinite(bias)):
        raise InputError(f"expected a positive finite sigma_b2 |x|^2 to centre the activation at; got {bias:g}")
    branch = CentredBranch(phi, bias)
    try:
        return _centre_near(phi, s, bias, branch.centre)
    except UnstableError:
        pass
    critical = critical_point(CentredBranch(phi, bias)).sigma ** 2
    if s >= critical:
        raise UnstableError(
            f"{phi.name} with goe weights, centred, has no stable fixed point at sigma_a2 = {s:.6g}, sigma_b2 |x|^2 = "
            f"{bias:.6g}; the critical sigma_a2 is {critical:.7g}: reduce sigma_a2"
        )
    branch.at(smallest(branch, s))
    return branch.centre


def _centre_near(phi: Activation, sigma_a2: float, bias: float, start: float) -> float:
    """The secant method for E[phi(u)] = c."""

    def excess(c: float) -> tuple[float, Symmetric]:
        found = kernel_sample(phi, "goe", sigma_a2, 1.0, bias, c).integrals
        return float(found.mean), found

    before = start
    value, found = excess(before)
    c = before + value / float(found.opening)
    for _ in range(_STEPS):
        now, found = excess(c)
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
        activation: phi, less a large constant if it has one.
        q: Var g at samples of squared norm tau0^2, a variance.
        centre: the constant subtracted from that.
        chi: response there.
        stability: R = sigma_a^2 E psi'^2, below 1.
        ck: of the conjugate kernel.
        ntk: of the neural tangent kernel.
    """

    activation: Activation
    q: float
    centre: float
    chi: float
    stability: float
    ck: ImplicitCK
    ntk: ImplicitNTK


def goe_coefficients(
    act: str | Activation, sigma_a2: float, sigma_b2: float, tau0: float = 1.0, trained: str = "aA"
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
        trained: which parameters the NTK trains: "a", "aA" or "aAB".

    Raises:
        ConvergenceError, UnstableError, InputError: see ``kernel_sample``.
    """
    require_trained(trained)
    s, b, norm2 = float(sigma_a2), float(sigma_b2), float(tau0) ** 2
    phi = activation(act)
    require_lipschitz(phi)
    phi = without_constant(phi, math.sqrt(b * norm2))
    centre = goe_centre(phi, s, b, norm2)
    point = kernel_sample(phi, "goe", s, b, norm2, centre)
    i = point.integrals
    drift = response_drift(i.response_v, i.response_a, s)
    d2, mean_slope = 2 * i.mean_v, total_slope(i.mean_v, i.mean_a, drift)
    chi = 0.0 if phi.parity == "even" else float(i.response)
    if phi.parity == "odd":
        d2 = mean_slope = 0.0
    ck = symmetric_ck_coefficients(
        i.square,
        chi,
        d2,
        mean_slope,
        total_slope(i.square_v, i.square_a, drift),
        s,
        b,
    )
    ntk = ImplicitNTK(ck.alpha1, ck.alpha2, ck.alpha3, ck.gamma2)
    if trained != "a":
        ntk = implicit_ntk_coefficients(ck, chi, d2, i.replicon, s, b, norm2, train_input=trained == "aAB")
    return GoeCoefficients(phi, point.v, centre, chi, float(point.replicon), ck, ntk)


def goe_residual(found: GoeCoefficients, sigma_a2: float, sigma_b2: float, tau0: float) -> float:
    """The relative defect of the equations of (K, chi) at ``found``, recomputed with 32 digits.

    Raises:
        InputError: a Python function for an activation, which has no more digits.
    """
    bias = float(sigma_b2) * float(tau0) ** 2
    problem = ResponseProblem(found.activation, goe_transform(float(sigma_a2)), InputLaw.centring(found.centre), bias)
    exact = evaluate(problem, found.ck.gamma2, found.chi, finer(Precision()))
    return math.inf if exact is None else exact.size
