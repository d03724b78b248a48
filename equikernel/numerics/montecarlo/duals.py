"""E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for given variances and covariances, by two samplers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import AccuracyError, InputError
from equikernel.numerics.montecarlo.estimates import (
    MonteCarloDual,
    MonteCarloDuals,
    independent_estimate,
    replicated_estimate,
)
from equikernel.numerics.montecarlo.integrands import Compiled, Functions, HasFunctions, Integrand
from equikernel.numerics.montecarlo.nets import LARGEST_NET
from equikernel.numerics.montecarlo.sums import net_sums, stream_sums
from equikernel.theory.activation import Activation

__all__ = ["dual_moments_mc", "independent_duals", "sobol_duals"]

FloatArray = npt.NDArray[np.float64]
_EPS = 2.0**-52
_PARALLEL = 4.0  # units of rounding within which a covariance counts as +-sqrt(q_i q_j)
_AT_ONCE = 1024  # pairs whose sums are held at once, a kilobyte or three each
_FINITE = [0, 2, 3, 5]  # the sums that have to be; squares may overflow, which makes an error infinite
_LONGEST_STREAM = 2**40


def sobol_duals(
    activation: Activation | HasFunctions,
    q_i: Any,
    q_j: Any,
    lam: Any,
    *,
    centre: Any = 0.0,
    slope: bool = True,
    samples: int = 2**16,
    replicates: int = 16,
    seed: int = 0,
) -> MonteCarloDuals:
    """E[phi_c(u) phi_c(v)] and E[phi'(u) phi'(v)], (u, v) ~ N(0, [[q_i, lam], [lam, q_j]]), phi_c = phi - centre.

    u = sqrt(q_i) a, v = (lam/sqrt(q_i)) a + sqrt(q_j - lam^2/q_i) b with (a, b) the weighted points of R scrambled
    Sobol nets (``numerics.montecarlo.nets``). With N = ``samples`` the error of a replicate falls about like N^(-1.4)
    for continuous phi (N^(-1.1) for exp), and N^(-3/4) where phi jumps, or phi' for the slope. The standard error is
    that of the mean of R independent replicates.

    The points are made once for each (samples, replicates, seed) and kept: 12 bytes times samples times replicates, up
    to 64 MiB for one set, at most four sets. Larger sets are made anew by every call, in parts of 64 MiB or of one
    replicate (24 bytes a sample while it is made). Same arguments, same bits on one machine, for any number of threads
    and whatever other pairs are asked for.

    Args:
        activation: phi, or any object with ``function("numpy")`` and ``derivative("numpy")``.
        q_i: variances of u, not negative.
        q_j: variances of v, not negative.
        lam: covariances, |lam| <= sqrt(q_i q_j); equality up to a few units of rounding is rho = +-1.
        centre: the constant subtracted from phi. These four broadcast.
        slope: whether to estimate E[phi'(u) phi'(v)] too (where phi' is square integrable).
        samples: points in each replicate, a power of two, at most 2^24.
        replicates: independent scrambles R, at least 2.
        seed: an integer of at least 0.

    Raises:
        InputError: an argument outside its domain.
        AccuracyError: phi overflows float64 at some point.
    """
    _check_count("samples", samples, 2)
    _check_count("replicates", replicates, 2)
    _check_count("seed", seed, 0)
    if samples & (samples - 1) or samples > LARGEST_NET:
        raise InputError(
            f"samples must be a power of two, for which Sobol points are balanced, and at most 2^24; got {samples}: "
            "take more replicates for more points"
        )
    source = partial(net_sums, samples=samples, replicates=replicates, seed=seed)
    estimate = partial(replicated_estimate, samples=samples)
    return _estimates(activation, (q_i, q_j, lam, centre), slope, source, estimate, replicates - 1)


def independent_duals(
    activation: Activation | HasFunctions,
    q_i: Any,
    q_j: Any,
    lam: Any,
    *,
    centre: Any = 0.0,
    slope: bool = True,
    samples: int = 2**22,
    seed: int = 0,
) -> MonteCarloDuals:
    """The same by plain Monte Carlo: the mean of N independent terms, and its standard error sd/sqrt(N).

    Pair n of normals is a function of n and the seed (``numerics.montecarlo.normals``), and sums are made in fixed
    parts: same arguments, same bits on one machine, for any number of threads. The error falls like N^(-1/2); this is
    the cross-check of ``sobol_duals``, with which it shares the transformation to normals but neither points nor error
    bars. Memory does not grow with N.

    Args:
        activation: as in ``sobol_duals``.
        q_i: as there.
        q_j: as there.
        lam: as there.
        centre: as there.
        slope: as there.
        samples: number of terms N, at least 2 and at most 2^40.
        seed: an integer of at least 0.

    Raises:
        InputError: an argument outside its domain.
        AccuracyError: phi overflows float64 at some point.
    """
    _check_count("samples", samples, 2)
    _check_count("seed", seed, 0)
    if samples > _LONGEST_STREAM:
        raise InputError(
            f"samples must be at most 2^40; got {samples}: sobol_duals reaches a smaller error in less time"
        )
    source = partial(stream_sums, samples=samples, seed=seed)
    estimate = partial(independent_estimate, samples=samples)
    return _estimates(activation, (q_i, q_j, lam, centre), slope, source, estimate, samples - 1)


def dual_moments_mc(
    activation: Activation | HasFunctions,
    q_i: float,
    q_j: float,
    lam: float,
    centre: float,
    samples: int = 2**16,
    replicates: int = 16,
    seed: int = 0,
) -> MonteCarloDual:
    """``sobol_duals`` for one pair, in plain numbers."""
    many = sobol_duals(activation, q_i, q_j, lam, centre=centre, samples=samples, replicates=replicates, seed=seed)
    slope, slope_error = (None if x is None else float(x) for x in (many.slope, many.slope_error))
    return MonteCarloDual(float(many.value), float(many.value_error), slope, slope_error, replicates)


_Source = Callable[[Integrand, FloatArray], FloatArray]
_Estimate = Callable[[FloatArray], tuple[FloatArray, FloatArray]]


def _estimates(
    activation: Activation | HasFunctions,
    variances: tuple[Any, Any, Any, Any],
    slope: bool,
    source: _Source,
    estimate: _Estimate,
    degrees: int,
) -> MonteCarloDuals:
    """The sums of a source, turned into estimates, a number of pairs at a time."""
    shape, pairs = _pairs(*variances)
    slope = slope and getattr(activation, "has_square_integrable_derivative", True)
    value, value_error, rate, rate_error = np.empty((4, len(pairs)))
    for start in range(0, len(pairs), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        sums = _sums(source, activation, slope, pairs[some])
        value[some], value_error[some] = estimate(sums[..., :3])
        rate[some], rate_error[some] = estimate(sums[..., 3:])
    value, value_error, rate, rate_error = (x.reshape(shape) for x in (value, value_error, rate, rate_error))
    return MonteCarloDuals(value, value_error, rate if slope else None, rate_error if slope else None, degrees)


def _sums(source: _Source, activation: Activation | HasFunctions, slope: bool, pairs: FloatArray) -> FloatArray:
    """Sums for some pairs: by compiled loops where there are any, and by NumPy functions elsewhere.

    Zero variances are for the functions, whose values at breakpoints are phi's own, and so are pairs for which a
    compiled loop has overflowed.
    """
    if not isinstance(activation, Activation) or not activation.has_expression:
        return _careful_sums(source, activation, slope, pairs)
    sums = source(Compiled(activation, slope), pairs)
    degenerate = (pairs[:, 0] == 0.0) | (pairs[:, 1:3] == 0.0).all(axis=1)
    if degenerate.any():
        phi, rate = (function("numpy", accurate=False) for function in (activation.function, activation.derivative))
        sums[..., degenerate, :] = source(Functions(phi, rate if slope else None), pairs[degenerate])
    missing = ~_is_finite(sums)
    if missing.any():
        sums[..., missing, :] = _careful_sums(source, activation, slope, pairs[missing])
    return sums


def _careful_sums(source: _Source, activation: Activation | HasFunctions, slope: bool, pairs: FloatArray) -> FloatArray:
    """Sums by the activation's own functions, which are slower and overflow last.

    Raises:
        AccuracyError: they overflow.
    """
    functions = Functions(activation.function("numpy"), activation.derivative("numpy") if slope else None)
    sums = source(functions, pairs)
    finite = _is_finite(sums)
    if not finite.all():
        r, s, t, _ = pairs[np.argmin(finite)]
        raise AccuracyError(
            f"phi(u) phi(v) or phi'(u) phi'(v) is not finite in float64 at some point of the pair with variances "
            f"{r * r:.4g} and {s * s + t * t:.4g}: rescale the activation or the data"
        )
    return sums


def _is_finite(sums: FloatArray) -> npt.NDArray[np.bool_]:
    """Pair by pair, whether all that an estimate needs is finite, (P,)."""
    return np.asarray(np.isfinite(sums[..., _FINITE]).all(axis=(*range(sums.ndim - 2), -1)))


def _check_count(name: str, count: Any, least: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < least:
        raise InputError(f"{name} must be a whole number of at least {least}; got {count!r}")


def _pairs(q_i: Any, q_j: Any, lam: Any, centre: Any) -> tuple[tuple[int, ...], FloatArray]:
    """The common shape, and rows (r, s, t, centre), (P, 4), with u = r a, v = s a + t b.

    s = sqrt(q_j) rho and t = sqrt(q_j) sqrt(1 - rho^2), without cancellation near rho = +-1.
    """
    named = {"q_i": q_i, "q_j": q_j, "lam": lam, "centre": centre}
    arrays = {name: np.asarray(x) for name, x in named.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "iuf":
            raise InputError(f"{name} must be a real number or an array of them; got {_brief(named[name])}")
    try:
        q_i, q_j, lam, centre = np.broadcast_arrays(*(a.astype(np.float64) for a in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(f"q_i, q_j, lam and centre must have shapes that broadcast; got {shapes}") from None
    for name, q in (("q_i", q_i), ("q_j", q_j)):
        _require(np.isfinite(q) & (q >= 0.0), q, f"{name} must be a finite variance of at least 0")
    _require(np.isfinite(centre), centre, "centre must be finite")
    scale = np.sqrt(q_i) * np.sqrt(q_j)
    # the inner product of parallel vectors misses the product of their norms by rounding, on either side
    slack = _PARALLEL * _EPS * scale
    _require(np.abs(lam) <= scale + slack, lam, "lam must be a covariance, |lam| <= sqrt(q_i q_j)")
    with np.errstate(invalid="ignore", divide="ignore"):
        along = np.where(np.abs(lam) >= scale - slack, np.sign(lam), lam / scale)
        across = np.sqrt(np.maximum((scale - lam) / scale * ((scale + lam) / scale), 0.0))
    across = np.where(np.abs(along) == 1.0, 0.0, np.where(scale > 0.0, across, 1.0))
    columns = (np.sqrt(q_i), np.sqrt(q_j) * along, np.sqrt(q_j) * across, centre)
    return q_i.shape, np.stack([c.ravel() for c in columns], axis=-1)


def _require(holds: npt.NDArray[np.bool_], values: FloatArray, what: str) -> None:
    if not holds.all():
        first = tuple(int(k) for k in np.argwhere(~holds)[0])
        place = f" at index {first}" if first else ""
        raise InputError(f"{what}; got {float(values[first])!r}{place}")


def _brief(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.40}"
