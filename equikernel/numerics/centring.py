"""The one number that the exact kernels need of the scalar equation: tau*, at which the network is centred."""

from __future__ import annotations

import math
from typing import Any

from equikernel.numerics.fixed_points import rounded_root, scan_fixed_points, selected_fixed_point
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.solve import solve
from equikernel.theory.equations import fixed_point_map, fixed_point_slope
from equikernel.theory.models import DEQ, exact_number

__all__ = ["centring_scale"]


def centring_scale(deq: DEQ, tau0: Any) -> float:
    """tau* = sqrt(q*), q* the smallest stable solution of q = sigma_a2 Var phi(sqrt(q) xi) + sigma_b2 tau0^2.

    Through ``solve``, which confirms it with many digits; for a plain Python function by the same scan and Newton's
    iteration in float64, about 1e-15 relative accuracy divided by 1 - sigma_a2 h.

    Args:
        deq: the network.
        tau0: standard deviation of the data (tau0^2 is the mean squared norm of a sample).

    Raises:
        InputError: tau0 is not positive and finite.
        NoFixedPointError: T(q) = q has no solution.
        UnstableError: no solution is stable.
        AccuracyError, ConvergenceError: the fixed point could not be computed accurately.
    """
    if deq.activation.has_expression:
        return float(solve(deq, tau0, trained="a").tau)
    tau0 = float(exact_number(tau0, "tau0", positive=True))
    sigma_a2, sigma_b2 = float(deq.sigma_a2), float(deq.sigma_b2)

    def defect_at(q: float) -> tuple[float, float]:
        moments = gaussian_moments(deq.activation, math.sqrt(q))
        mapped = fixed_point_map(moments.V.value, sigma_a2, sigma_b2, tau0 * tau0)
        return q - mapped, 1.0 - fixed_point_slope(moments.h.value, sigma_a2)

    point = selected_fixed_point(deq, scan_fixed_points(deq, tau0))
    return math.sqrt(rounded_root(deq.activation.name, point.q, defect_at)[0])
