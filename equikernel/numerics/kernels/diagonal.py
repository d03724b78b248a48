"""The variances q_i of the samples: one scalar fixed point each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import NoFixedPointError
from equikernel.numerics.kernels.table import HermiteTable

__all__ = ["sample_variances"]

FloatArray = npt.NDArray[np.float64]
_GROWTH = 0.25  # of q, the longest step up
_FARTHEST = 1e9  # variances beyond this multiple of the largest in sight do not exist
_NOISE = 1e-28  # phi_c(0)^2 below this multiple of the reference variance is rounding of the centre
_STEPS = 60
_SETTLED = 1e-15


def sample_variances(
    table: HermiteTable, centre: float, sigma_a2: float, bias: FloatArray, reference: float, first: int = 0
) -> FloatArray:
    """The smallest root of q = sigma_a2 E[phi_c(sqrt(q) xi)^2] + bias_i for every sample, shape (n,).

    Brackets grow from below (q >= bias_i), by Newton's step or geometrically, whichever is less; then Newton's
    iteration stays inside them.

    Args:
        table: of the activation.
        centre: the constant subtracted from phi.
        sigma_a2: hidden variance.
        bias: sigma_b2 ||x_i||^2, not negative.
        reference: a variance that sets the scale, tau*^2.
        first: number of the first sample, for errors.

    Raises:
        NoFixedPointError: names the first sample without a root.
    """
    result = np.zeros_like(bias)
    rest = (float(table.activation(0.0)) - centre) ** 2 * sigma_a2
    # phi_c(0) may be zero only up to rounding: then a zero sample stays at zero
    active = (bias > 0.0) | (rest > _NOISE * reference)
    if not active.any():
        return result
    if sigma_a2 == 0.0:
        return bias.copy()
    b = bias[active]

    def excess(q: FloatArray, which: Any) -> tuple[FloatArray, FloatArray]:
        value, slope = table.energies(q).second_moment(centre)
        return q - sigma_a2 * value - b[which], 1.0 - sigma_a2 * slope

    low = b.copy()
    high = np.maximum(b, 1e-6 * reference) * (1.0 + 1e-15)
    pending = np.arange(len(b))
    farthest = _FARTHEST * max(reference, float(b.max()))
    while len(pending):
        at = high[pending]
        value, slope = excess(at, pending)
        # a longer step than Newton's might pass two near roots; where the excess is concave Newton's does not
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = np.where(slope > 0.0, -value / slope, np.inf)
        step = np.minimum(newton, _GROWTH * at)
        short = (value < 0.0) & (step > _SETTLED * at)
        pending, at, step = pending[short], at[short], step[short]
        low[pending] = at
        high[pending] = at + step
        beyond = pending[high[pending] > farthest]
        if len(beyond):
            sample = first + np.flatnonzero(active)[beyond[0]]
            raise NoFixedPointError(
                f"sample {sample} has no fixed point: q = sigma_a2 E[phi_c^2] + sigma_b2 ||x||^2 has no solution for "
                f"{table.activation.name}; reduce sigma_a2 or the norm of the sample"
            )
    result[active] = _newton(excess, low, high)
    return result


def _newton(excess: Any, low: FloatArray, high: FloatArray) -> FloatArray:
    """Newton's iteration from above, by bisection where a step leaves the bracket [low, high].

    Samples that have settled are left alone, so that their last bits do not depend on the others.
    """
    q = high.copy()
    pending = np.arange(len(q))
    for _ in range(_STEPS):
        at = q[pending]
        value, slope = excess(at, pending)
        above = value >= 0.0
        high[pending[above]], low[pending[~above]] = at[above], at[~above]
        with np.errstate(divide="ignore", invalid="ignore"):
            candidate = at - value / slope
        inside = (candidate >= low[pending]) & (candidate <= high[pending]) & (candidate > 0.0)
        q[pending] = np.where(inside, candidate, 0.5 * (low[pending] + high[pending]))
        pending = pending[np.abs(q[pending] - at) > _SETTLED * at]
        if not len(pending):
            break
    return q
