"""The conjugate kernel of DEQs z = phi_c(sigma_a A z + sigma_b B x)/sqrt m with iid, orthogonal or GOE A.

phi_c = phi - centre. With GOE weights each sample has its own response chi and so its own effective activation
psi_x(g) = phi_c(u), u = g + sigma_a^2 chi_x phi_c(u): chi differs between samples of different norm, and two samples
are coupled through the covariance of (g_x, g_y) alone. Derivation: docs/initialisation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from equikernel.errors import ConvergenceError, InputError, NoFixedPointError, UnstableError
from equikernel.numerics.initialisation.critical import critical_goe, goe_response
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.pair_table import NEARLY_PARALLEL, PairTable
from equikernel.numerics.initialisation.precision import Precision
from equikernel.numerics.initialisation.response import (
    Response,
    ResponseProblem,
    Transform,
    solve_response,
)
from equikernel.theory.activation import Activation, activation
from equikernel.theory.initialisation import require_family

__all__ = ["KernelPair", "kernel_pair", "kernel_sample", "pair_kernel"]

_PLAIN = Precision()
_STEPS = 60
_MARGIN = 1e-7  # of 1 - R, and of the determinant that vanishes at a fold
_LAST_STEP = 1e-9  # of K: Newton's iteration leaves its square
_LAST_GAP, _NO_GAP = 1e-9, 1e-22  # of 1 - |rho|, relative and absolute
Distance = Callable[[float], float]


@dataclass(frozen=True)
class KernelPair:
    """The kernel of two samples.

    Attributes:
        xx, yy, xy: K(x, x), K(y, y), K(x, y).
        chi_x, chi_y: responses E psi'; for iid and orthogonal weights they are E phi' and play no part.
        slope: E psi_x' psi_y', the derivative of K(x, y) in the covariance.
        stability_x, stability_y: R = sigma_a^2 E psi'^2, below 1.
    """

    xx: float
    yy: float
    xy: float
    chi_x: float
    chi_y: float
    slope: float
    stability_x: float
    stability_y: float


def kernel_sample(
    act: str | Activation, family: str, sigma_a2: float, sigma_b2: float, norm2: float, centre: float = 0.0
) -> Response:
    """The fixed point (K(x, x), chi) of one sample: K = E phi_c(u)^2, chi = E dphi_c(u)/dg.

    u = g + a phi_c(u), Var g = sigma_a^2 K + sigma_b^2 |x|^2, a = sigma_a^2 chi for GOE weights and 0 else. Relative
    error about 1e-13.

    Args:
        act: activation with bounded slope.
        family: "iid", "orthogonal" or "goe".
        sigma_a2: variance of A.
        sigma_b2: variance of B.
        norm2: |x|^2.
        centre: the constant subtracted from phi.

    Raises:
        InputError: unknown family, unbounded slope, or x = 0 where phi(0) = centre (then z = 0).
        ConvergenceError: no fixed point was reached (iid, orthogonal).
        UnstableError: no fixed point (goe), or R >= 1; the message names the critical sigma_a2 (goe).
    """
    phi = activation(act)
    bias = float(sigma_b2) * float(norm2)
    if not (bias >= 0 and math.isfinite(bias)):
        raise InputError(f"expected a finite sigma_b2 |x|^2, 0 or more; got {bias:g}")
    law = InputLaw.centring(centre)
    s = float(sigma_a2)
    if require_family(family) != "goe":
        without = Transform(lambda c: 0 * c, lambda c: s + 0 * c, lambda c: 0 * c, family)
        point = solve_response(ResponseProblem(phi, without, law, bias), _PLAIN)
        found = _is_stable(point)
    else:
        try:
            point = goe_response(phi, s, law, _PLAIN, bias)
            found = _is_stable(point)
        except (ConvergenceError, NoFixedPointError):
            found = False
    if not found:
        critical = critical_goe(phi, law, bias) if family == "goe" else None
        limit = "" if critical is None else f"; the critical sigma_a2 is {critical.sigma**2:.7g}"
        raise UnstableError(
            f"{phi.name} with {family} weights has no stable fixed point at sigma_a2 = {s:.6g}, sigma_b2 |x|^2 = "
            f"{bias:.6g}{limit}: reduce sigma_a2"
        )
    return point


def _is_stable(point: Response) -> bool:
    """R < 1, and before the fold of the branch: both by so much that float64 can tell."""
    (a, b), (c, d) = point.derivatives
    return bool(point.replicon < 1 - _MARGIN and a * d - b * c > _MARGIN)


def kernel_pair(
    act: str | Activation,
    family: str,
    sigma_a2: float,
    sigma_b2: float,
    gram: tuple[float, float, float],
    centre: float = 0.0,
) -> KernelPair:
    """K(x, x), K(y, y), K(x, y) for (|x|^2, |y|^2, x.y) = ``gram``.

    K(x, y) = E psi_x(g) psi_y(g'), Cov = sigma_a^2 K + sigma_b^2 <.,.>. Its slope in K is at most
    sigma_a^2 sqrt(E psi_x'^2 E psi_y'^2) < 1 by Cauchy and Schwarz, so the solution is unique and Newton's iteration
    from it safe. Absolute error about 1e-13 sqrt(K(x,x) K(y,y)); the slope of nearly parallel samples of an activation
    with kinks is as accurate as the root of |x|^2 + |y|^2 - 2 |x.y|. See ``pair_table``.

    Args:
        act: activation with bounded slope.
        family: "iid", "orthogonal" or "goe".
        sigma_a2: variance of A.
        sigma_b2: variance of B.
        gram: |x|^2, |y|^2 and x.y.
        centre: the constant subtracted from phi.

    Raises:
        InputError: x.y is no inner product of such samples; see also ``kernel_sample``.
        ConvergenceError, UnstableError: see ``kernel_sample``.
    """
    phi = activation(act)
    norm_x, norm_y, inner = map(float, gram)
    if not inner * inner <= norm_x * norm_y * (1 + 1e-14):
        raise InputError(f"expected |x.y| <= |x| |y|; got |x|^2 = {norm_x:g}, |y|^2 = {norm_y:g}, x.y = {inner:g}")
    x = kernel_sample(phi, family, sigma_a2, sigma_b2, norm_x, centre)
    y = x if norm_x == norm_y else kernel_sample(phi, family, sigma_a2, sigma_b2, norm_y, centre)
    if norm_x == norm_y == inner:
        K, slope = float(x.q), float(x.integrals.replicon)
    else:
        b = float(sigma_b2)
        table = PairTable(phi, x, y, centre)
        K, slope = pair_kernel(
            table, float(sigma_a2), b * inner, lambda sign: b * max(norm_x + norm_y - 2 * sign * inner, 0.0)
        )
    return KernelPair(
        float(x.q), float(y.q), K, float(x.chi), float(y.chi), slope, float(x.replicon), float(y.replicon)
    )


def pair_kernel(table: PairTable, sigma_a2: float, bias: float, distance: Distance) -> tuple[float, float]:
    """K = E psi_x psi_y at covariance sigma_a2 K + bias, and E psi_x' psi_y', by Newton's iteration from K = 0.

    Args:
        table: of the two samples.
        sigma_a2: variance of A.
        bias: sigma_b2 x.y.
        distance: sigma_b2 |x - sign y|^2 as a function of the sign, for nearly parallel samples.

    Raises:
        AccuracyError: features too narrow for the quadrature.
        ConvergenceError: it did not settle.
    """
    K = 0.0
    bound = math.sqrt(table.x.q * table.y.q)
    for _ in range(_STEPS):
        covariance = sigma_a2 * K + bias
        if abs(covariance) >= NEARLY_PARALLEL * table.root:
            return _ridge_kernel(table, sigma_a2, covariance / table.root, distance)
        value, slope = table.at(covariance)
        step = (value - K) / (1 - sigma_a2 * slope)
        K = min(max(K + step, -bound), bound)
        if abs(step) <= _LAST_STEP * bound:
            return K, table.at(sigma_a2 * K + bias)[1]
    raise _not_settled(table)


def _ridge_kernel(table: PairTable, sigma_a2: float, rho: float, distance: Distance) -> tuple[float, float]:
    """The same in gap = 1 - |rho|, from the variance of g_x - sign g_y.

    2 sqrt(v_x v_y) gap + (sqrt(v_x) - sqrt(v_y))^2 = sigma_a2 E (psi_x - sign psi_y)^2 + sigma_b2 |x - sign y|^2.
    """
    x, y, sign = table.x, table.y, math.copysign(1.0, rho)
    apart = (x.v - y.v) ** 2 / (math.sqrt(x.v) + math.sqrt(y.v)) ** 2
    given = (distance(sign) - apart) / (2 * table.root)
    gap = min(max(1 - abs(rho), given, 0.0), 1.0)
    for _ in range(_STEPS):
        found = table.ridge(gap, sign)
        step = (gap - given - sigma_a2 * found.distance / (2 * table.root)) / (1 - sigma_a2 * found.slope)
        moved = min(max(gap - step, 0.0), 1.0)
        settled = abs(moved - gap) <= max(_LAST_GAP * gap, _NO_GAP)
        gap = moved
        if settled:
            found = table.ridge(gap, sign)
            return sign * 0.5 * (x.q + y.q - found.distance), found.slope
    raise _not_settled(table)


def _not_settled(table: PairTable) -> ConvergenceError:
    return ConvergenceError(
        f"Newton's iteration for the kernel of a pair of samples ({table.phi.name}) did not settle; reduce sigma_a2"
    )
