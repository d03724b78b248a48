"""Randomised quasi-Monte Carlo of the dual activations: a cross-check that shares nothing with the quadratures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import InputError
from equikernel.theory.activation import Activation

__all__ = ["MonteCarloDual", "dual_moments_mc"]

FloatArray = npt.NDArray[np.float64]
_BITS = 53  # points are multiples of 2^-53, all of which float64 can tell apart
_EPS = 2.0**-52
_PARALLEL = 4.0  # units of rounding within which a covariance counts as +-sqrt(q_i q_j)
_SUMMATION = 4.0  # units of rounding in a mean of float64 terms: those of a term, and NumPy's pairwise sum


@dataclass(frozen=True)
class MonteCarloDual:
    """Estimates of E[phi_c(u) phi_c(v)] and E[phi'(u) phi'(v)] with their standard errors.

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
        return _standardised(value - self.value, self.value_error)

    def z_slope(self, slope: float) -> float:
        """The same for a claimed E[phi'(u) phi'(v)].

        Raises:
            InputError: phi' is not square integrable, so that there is no estimate.
        """
        if self.slope is None or self.slope_error is None:
            raise InputError("phi' is not square integrable, so E[phi'(u) phi'(v)] was not estimated: compare values")
        return _standardised(slope - self.slope, self.slope_error)


def _standardised(difference: float, error: float) -> float:
    """difference/error, where an estimate without any error (of an integrand that vanishes) allows no difference."""
    if error:
        return difference / error
    return math.copysign(math.inf, difference) if difference else 0.0


def dual_moments_mc(
    activation: Activation,
    q_i: float,
    q_j: float,
    lam: float,
    centre: float,
    samples: int = 2**16,
    replicates: int = 16,
    seed: int = 0,
) -> MonteCarloDual:
    """E[phi_c(u) phi_c(v)] and E[phi'(u) phi'(v)], (u, v) ~ N(0, [[q_i, lam], [lam, q_j]]), phi_c = phi - centre.

    u = sqrt(q_i) a, v = (lam/sqrt(q_i)) a + sqrt(q_j - lam^2/q_i) b with (a, b) the normal quantiles of a Sobol
    sequence, scrambled anew in every replicate (Owen 1998). The error of a replicate is about N^(-3/2) for smooth phi,
    about N^(-1) with kinks and N^(-3/4) with jumps, N = ``samples``. Honest as far as the replicates are normal; phi
    of exponential growth has heavy tails, which few samples may miss. Same seed, same bits on one machine.

    Args:
        activation: phi.
        q_i: variance of u, not negative.
        q_j: variance of v, not negative.
        lam: covariance, |lam| <= sqrt(q_i q_j); equality up to a few units of rounding is rho = +-1.
        centre: the constant subtracted from phi.
        samples: points in each replicate, a power of two.
        replicates: independent scrambles, at least 2.
        seed: an integer of at least 0.

    Raises:
        InputError: an argument outside its domain.
    """
    _check_counts(samples, replicates, seed)
    along, across = _correlation(q_i, q_j, lam)
    with_slope = activation.has_square_integrable_derivative
    phi = activation.function("numpy")
    slope = activation.derivative("numpy") if with_slope else None
    values, slopes = np.empty(replicates), np.empty(replicates)
    sizes = np.zeros(2)
    for k, stream in enumerate(np.random.SeedSequence(seed).spawn(replicates)):
        a, b = _normal_points(samples, stream)
        u = math.sqrt(q_i) * a
        v = math.sqrt(q_j) * (along * a + across * b)
        product = (phi(u) - centre) * (phi(v) - centre)
        values[k], sizes[0] = product.mean(), max(sizes[0], np.abs(product).mean())
        if slope is not None:
            product = slope(u) * slope(v)
            slopes[k], sizes[1] = product.mean(), max(sizes[1], np.abs(product).mean())
    value, value_error = _summary(values, sizes[0], samples)
    if not with_slope:
        return MonteCarloDual(value, value_error, None, None, replicates)
    return MonteCarloDual(value, value_error, *_summary(slopes, sizes[1], samples), replicates)


def _normal_points(samples: int, stream: np.random.SeedSequence) -> tuple[FloatArray, FloatArray]:
    """Two columns of standard normals, (samples,) each, from one scrambled Sobol sequence."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    sobol: Any = qmc.Sobol(2, scramble=True, bits=_BITS, seed=np.random.default_rng(stream))
    # half a grid step keeps the points off 0, where the quantile is infinite
    points = np.maximum(sobol.random(samples), 2.0**-54)
    return ndtri(points[:, 0]), ndtri(points[:, 1])


def _check_counts(samples: Any, replicates: Any, seed: Any) -> None:
    for name, count, least in (("samples", samples, 2), ("replicates", replicates, 2), ("seed", seed, 0)):
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise InputError(f"{name} must be a whole number of at least {least}; got {count!r}")
    if samples & (samples - 1):
        raise InputError(f"samples must be a power of two, for which Sobol points are balanced; got {samples}")


def _correlation(q_i: float, q_j: float, lam: float) -> tuple[float, float]:
    """(rho, sqrt(1 - rho^2)) of a pair, without cancellation near rho = +-1; (0, 1) when a variance is zero."""
    for name, q in (("q_i", q_i), ("q_j", q_j)):
        if not (math.isfinite(q) and q >= 0.0):
            raise InputError(f"{name} must be a finite variance of at least 0; got {q!r}")
    scale = math.sqrt(q_i) * math.sqrt(q_j)
    # the inner product of parallel vectors misses the product of their norms by rounding, on either side
    slack = _PARALLEL * _EPS * scale
    if not abs(lam) <= scale + slack:
        raise InputError(f"lam must be a covariance, |lam| <= sqrt(q_i q_j) = {scale:.17g}; got {lam!r}")
    if scale == 0.0:
        return 0.0, 1.0
    if abs(lam) >= scale - slack:
        return math.copysign(1.0, lam), 0.0
    return lam / scale, math.sqrt((scale - lam) / scale * ((scale + lam) / scale))


def _summary(estimates: FloatArray, size: float, samples: int) -> tuple[float, float]:
    """Mean and standard error over replicates; ``size`` is the mean absolute term.

    Replicates that agree to rounding have seen the integrand take the same values in the same proportions. That says
    nothing about events rarer than all the points together, so the error is then the rule of three, 3 size/(N R).
    """
    rounding = _SUMMATION * _EPS * size
    error = float(np.std(estimates, ddof=1)) / math.sqrt(len(estimates))
    if error <= rounding:
        error = 3.0 * size / (samples * len(estimates))
    return float(np.mean(estimates)), math.hypot(error, rounding)
