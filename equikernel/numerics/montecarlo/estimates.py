"""Estimates with error bars, and what sums over points say about both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import InputError

__all__ = ["MonteCarloDual", "MonteCarloDuals", "independent_estimate", "replicated_estimate"]

FloatArray = npt.NDArray[np.float64]
_EPS = 2.0**-52
_ROUNDING = 16.0  # units of rounding in a mean of float64 terms: those of a term (phi twice), and of partial sums
_UNSEEN = 3.0  # the rule of three: an event that N points have missed has a probability below 3/N, at 95 %


@dataclass(frozen=True)
class MonteCarloDual:
    """Estimates of E[phi_c(u) phi_c(v)] and E[phi'(u) phi'(v)] with their standard errors, for one pair.

    Attributes:
        value: mean over the replicates of the estimates of E[phi_c(u) phi_c(v)].
        value_error: its standard error, from the scatter of the replicates, with the rounding of the sums; where the
            replicates do not scatter at all, the rule of three for what no point has seen.
        slope: the same for E[phi'(u) phi'(v)]; None when phi' is not square integrable.
        slope_error: its standard error, or None.
        replicates: number R of independent scrambles: (estimate - truth)/error follows, to the extent that the
            replicates are normal, Student's t distribution with R - 1 degrees of freedom.
    """

    value: float
    value_error: float
    slope: float | None
    slope_error: float | None
    replicates: int

    def z(self, value: float) -> float:
        """(value - estimate)/error: how many standard errors a claimed E[phi_c(u) phi_c(v)] is away."""
        return float(_standardised(value, self.value, self.value_error))

    def z_slope(self, slope: float) -> float:
        """The same for a claimed E[phi'(u) phi'(v)].

        Raises:
            InputError: phi' is not square integrable, so that there is no estimate.
        """
        return float(_standardised(slope, self.slope, self.slope_error))


@dataclass(frozen=True)
class MonteCarloDuals:
    """The same for many pairs: arrays of the shape to which the variances and covariances broadcast.

    Attributes:
        value: estimates of E[phi_c(u) phi_c(v)].
        value_error: their standard errors. The points are common to all pairs, so errors of different pairs are
            correlated.
        slope: estimates of E[phi'(u) phi'(v)]; None when phi' is not square integrable, or was not asked for.
        slope_error: their standard errors, or None.
        degrees: degrees of freedom of Student's t distribution, which (estimate - truth)/error follows as far as the
            estimates are normal.
    """

    value: FloatArray
    value_error: FloatArray
    slope: FloatArray | None
    slope_error: FloatArray | None
    degrees: int

    def z(self, value: Any) -> FloatArray:
        """(value - estimate)/error: how many standard errors claimed E[phi_c(u) phi_c(v)] are away."""
        return _standardised(value, self.value, self.value_error)

    def z_slope(self, slope: Any) -> FloatArray:
        """The same for claimed E[phi'(u) phi'(v)].

        Raises:
            InputError: E[phi'(u) phi'(v)] was not estimated.
        """
        return _standardised(slope, self.slope, self.slope_error)


def _standardised(claim: Any, estimate: Any, error: Any) -> FloatArray:
    """(claim - estimate)/error, where an estimate without any error (of an integrand that vanishes) allows no gap."""
    if estimate is None:
        raise InputError(
            "E[phi'(u) phi'(v)] was not estimated, because phi' is not square integrable or slope=False: compare values"
        )
    gap = np.asarray(claim, dtype=np.float64) - estimate
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gap == 0.0, 0.0, gap / error)


def replicated_estimate(sums: FloatArray, samples: int) -> tuple[FloatArray, FloatArray]:
    """Means and standard errors over replicates, (P,) each.

    Replicates that agree to rounding have seen the integrand take the same values in the same proportions. That says
    nothing about events rarer than all the points together, so the error is then the rule of three, 3 size/(N R).

    Args:
        sums: of w f, (w f)^2 and |w f| over the points of every replicate, (R, P, 3).
        samples: points N of a replicate.
    """
    replicates, points = len(sums), len(sums) * samples
    # replicates last and contiguous: NumPy then adds those of one pair in the same order for any number of pairs
    totals, sizes = (np.ascontiguousarray(sums[..., k].T) for k in (0, 2))
    scatter = np.std(totals / samples, axis=-1, ddof=1) / math.sqrt(replicates)
    return totals.sum(axis=-1) / points, _error(scatter, sizes.sum(axis=-1) / points, points)


def independent_estimate(sums: FloatArray, samples: int) -> tuple[FloatArray, FloatArray]:
    """Means of independent terms and standard errors, sqrt((mean f^2 - (mean f)^2)/(N - 1)), (P,) each.

    Args:
        sums: of f, f^2 and |f|, (P, 3).
        samples: number N of terms.
    """
    mean, mean_square, size = (sums / samples).T
    variance = mean_square - mean * mean
    # a difference below the rounding of its terms is no variance at all
    variance[variance <= _ROUNDING * _EPS * mean_square] = 0.0
    return mean, _error(np.sqrt(variance / (samples - 1)), size, samples)


def _error(scatter: FloatArray, size: FloatArray, points: int) -> FloatArray:
    """The standard error from the scatter, with rounding; the rule of three where nothing scatters."""
    rounding = _ROUNDING * _EPS * size
    seen = np.where(scatter <= rounding, _UNSEEN * size / points, scatter)
    total: FloatArray = np.hypot(seen, rounding)
    return total
