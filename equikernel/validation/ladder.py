"""Kernels of finite networks over a ladder of widths, extrapolated to infinite width and scored against the theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import DataError, InputError
from equikernel.numerics.class_statistics import unbiased_trace_products
from equikernel.numerics.data import data_matrix
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.empirical import (
    EmpiricalKernel,
    NetworkOptions,
    average_draws,
    kept_entries,
    network_draws,
    require_count,
    root_mean_square,
)

__all__ = ["WidthLadder", "WidthRow", "ZSummary", "fit_ladder", "width_ladder"]

Array = NDArray[np.float64]

_FEWEST_DRAWS = 4  # the correlation of entries is estimated without bias from four draws on
_CORRELATED_DRAWS = 256  # of a width, from which correlations are estimated: the work grows with their square
_SIGNIFICANCE = 1e-3


@dataclass(frozen=True)
class ZSummary:
    """z-scores of the entries i <= j, and what to expect of them if the theory is right.

    Each score is Student's t of its entry taken to the normal scale: with few draws a standard error is itself
    uncertain, and t = 3 is no rare event. The scores are N(0, 1) but correlated: one draw moves all entries.

    Attributes:
        entries: N, the number of scores.
        effective: the number of independent scores with the same variance of sum z^2, N/(1 + (N-1) mean r^2).
        mean: and ``mean_error``, its standard deviation given the correlations.
        std: root mean square of z, expected near 1.
        beyond3: fraction with |z| > 3; expected 0.0027.
        largest: max |z|.
        expected_largest: its expectation were the N scores independent, an upper bound for correlated ones.
        largest_bound: exceeded with probability at most 1e-3 whatever the correlations (Sidak's inequality).
        p_value: of sum z^2, taken as N/effective times a chi-square with ``effective`` degrees of freedom.
        consistent: p_value >= 1e-3 and largest <= largest_bound.
    """

    entries: int
    effective: float
    mean: float
    mean_error: float
    std: float
    beyond3: float
    largest: float
    expected_largest: float
    largest_bound: float
    p_value: float
    consistent: bool

    def to_dict(self) -> dict[str, Any]:
        """Field name -> number."""
        return dict(vars(self))


@dataclass(frozen=True)
class WidthRow:
    """One width: root mean squares over all entries.

    Attributes:
        deviation: of mean kernel - exact kernel, Monte-Carlo error and bias together.
        monte_carlo: of the standard errors: the part that more draws remove.
        bias2: mean of (mean - exact)^2 - standard_error^2: the squared bias without it; unbiased, so perhaps negative.
        fitted_bias: of slope/m: the part that only a larger width removes, from the fit, without the exact kernel.
    """

    width: int
    draws: int
    deviation: float
    monte_carlo: float
    bias2: float
    fitted_bias: float

    def to_dict(self) -> dict[str, Any]:
        """Field name -> number."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class WidthLadder:
    """Empirical kernels at several widths, extrapolated to infinite width and compared with the exact kernel.

    Attributes:
        kernels: one a width, in increasing order.
        limit: (n, n), the extrapolation; ``limit_error`` its standard error.
        slope: (n, n), the coefficient of 1/m; ``slope_error`` its standard error.
        dof: (n, n), degrees of freedom of ``limit_error`` (Welch-Satterthwaite).
        z: (n, n), (limit - exact)/limit_error on the normal scale, where float64 tails end at 38.4.
        misfit: mean square of the standardised residuals of the fit, near 1 (a little above with few draws) when the
            bias is a polynomial in 1/m of its order; None where the fit goes through every mean.
        summary: of z. rows: the errors at each width.
        highest: scores of the coefficient of the highest power of 1/m against zero: N(0, 1) if the fit needs one power
            less. For order 2 a test of whether the bias goes as 1/m, for order 1 of whether there is a bias.
    """

    kernels: tuple[EmpiricalKernel, ...]
    exact: Array
    limit: Array
    limit_error: Array
    slope: Array
    slope_error: Array
    dof: Array
    z: Array
    misfit: float | None
    summary: ZSummary
    rows: tuple[WidthRow, ...]
    highest: ZSummary

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: everything but the matrices, of which root mean squares are given."""
        return {
            "scale": root_mean_square(self.exact),
            "limit_deviation": root_mean_square(self.limit - self.exact),
            "limit_monte_carlo": root_mean_square(self.limit_error),
            "misfit": self.misfit,
            "z": self.summary.to_dict(),
            "highest": self.highest.to_dict(),
            "widths": [row.to_dict() for row in self.rows],
        }


def width_ladder(
    X: ArrayLike,
    network: DEQ | ExplicitNetwork,
    widths: Sequence[int],
    draws: int,
    seed: int,
    exact: ArrayLike,
    *,
    trained: str | None = None,
    **options: Unpack[NetworkOptions],
) -> WidthLadder:
    """Empirical kernels over a ladder of widths against the exact kernel of infinite width; see ``fit_ladder``.

    Args:
        X: (n, p), samples in rows.
        network: a DEQ or an explicit network.
        widths: at least two different ones.
        draws: networks a width, at least 4.
        seed: a non-negative integer.
        exact: (n, n), the kernel to compare with.
        trained: None for the CK; for the NTK of a DEQ any of the groups a, A, B, such as "aA"; "all" for that of an
            explicit network.
        options: see ``NetworkOptions``.

    Raises:
        InputError, DataError, SolutionError: as ``empirical_ck`` and ``fit_ladder``.
    """
    indices = range(require_count(draws, "draws", _FEWEST_DRAWS))
    kernels = []
    for width in sorted({require_count(w, "a width", 1) for w in widths}):
        sampled = network_draws(X, network, width=width, draws=indices, seed=seed, trained=trained, **options)
        kernels.append(average_draws(sampled, width))
    return fit_ladder(kernels, exact)


def fit_ladder(kernels: Sequence[EmpiricalKernel], exact: ArrayLike, order: int = 1) -> WidthLadder:
    """Extrapolate empirical kernels to infinite width and score them against the exact kernel.

    Formula: mean_m = limit + slope/m (+ curvature/m^2 for order 2) entry by entry, by least squares with weights
    m * draws. The variance of one draw goes as 1/m; weights that do not depend on the data make the limit a fixed
    linear combination of means, whose standard error follows from theirs without bias. Statistics: see ``ZSummary``.

    Args:
        kernels: of one network at more different widths than ``order``, each from 4 or more draws.
        exact: (n, n).
        order: the highest power of 1/m in the bias. 2 removes more bias than 1, for a larger standard error.

    Raises:
        InputError: too few widths, or fewer than four draws.
        DataError: an exact kernel of another shape, or not finite.
    """
    kernels, exact = _checked(kernels, exact, require_count(order, "order", 1))
    means, errors = np.array([k.mean for k in kernels]), np.array([k.standard_error for k in kernels])
    inverse, counts = np.array([1.0 / k.width for k in kernels]), np.array([k.draws for k in kernels])
    design = np.vander(inverse, order + 1, increasing=True)
    weighted = design * (counts / inverse)[:, None]
    estimator = np.linalg.solve(design.T @ weighted, weighted.T)  # (order + 1, widths)
    limit, slope = np.einsum("ck,kij->cij", estimator[:2], means)
    limit_error, slope_error = (np.sqrt(np.einsum("k,kij->ij", c**2, errors**2)) for c in estimator[:2])
    z, dof, summary = _scores(estimator[0], kernels, exact)
    return WidthLadder(
        kernels=kernels,
        exact=exact,
        limit=limit,
        limit_error=limit_error,
        slope=slope,
        slope_error=slope_error,
        dof=dof,
        z=z,
        misfit=_misfit(design @ estimator, means, errors) if len(kernels) > order + 1 else None,
        summary=summary,
        rows=tuple(
            WidthRow(
                k.width,
                k.draws,
                root_mean_square(k.mean - exact),
                root_mean_square(k.standard_error),
                float(np.mean((k.mean - exact) ** 2 - k.standard_error**2)),
                root_mean_square(slope) / k.width,
            )
            for k in kernels
        ),
        highest=_scores(estimator[-1], kernels, np.zeros_like(exact))[2],
    )


def _checked(
    kernels: Sequence[EmpiricalKernel], exact: ArrayLike, order: int
) -> tuple[tuple[EmpiricalKernel, ...], Array]:
    """The kernels in the order of their widths, and the exact one."""
    kernels = tuple(sorted(kernels, key=lambda k: k.width))
    if len({k.width for k in kernels}) < max(len(kernels), order + 1):
        raise InputError(
            f"an extrapolation with powers of 1/m up to {order} needs {order + 1} or more different widths; got "
            f"{[k.width for k in kernels]}: add widths"
        )
    if min(k.draws for k in kernels) < _FEWEST_DRAWS:
        raise InputError(f"the correlation of entries needs {_FEWEST_DRAWS} draws or more at every width: raise draws")
    exact = data_matrix(exact, "the exact kernel")
    for kernel in kernels:
        if kernel.mean.shape != exact.shape:
            raise DataError(
                f"the exact kernel must have the shape of the empirical ones; got {exact.shape} beside "
                f"{kernel.mean.shape} at width {kernel.width}"
            )
    return kernels, exact


def _scores(coefficients: Array, kernels: Sequence[EmpiricalKernel], exact: Array) -> tuple[Array, Array, ZSummary]:
    """Scores of sum_k c_k mean_k against its expectation, their degrees of freedom, and what they say together."""
    estimate = np.einsum("k,kij->ij", coefficients, np.array([k.mean for k in kernels]))
    counts = np.array([k.draws for k in kernels])
    parts = np.array([(c * k.standard_error) ** 2 for c, k in zip(coefficients, kernels, strict=True)])
    # an entry without fluctuation (a zero sample, an odd activation) is compared to the accuracy of the fixed points:
    # stopped at a relative change r, a contraction by c a step leaves r c/(1 - c), below 50 r up to c = 0.98
    largest = max(float(np.abs(c * k.mean).max()) for c, k in zip(coefficients, kernels, strict=True))
    scale = max(float(np.abs(exact).max()), largest, 1e-300)
    error = np.hypot(np.sqrt(parts.sum(axis=0)), max(1e-12, 100.0 * max(k.residual for k in kernels)) * scale)
    with np.errstate(invalid="ignore", divide="ignore"):
        dof = parts.sum(axis=0) ** 2 / np.einsum("kij,k->ij", parts**2, 1.0 / (counts - 1.0))
        dof = np.where(np.isfinite(dof), dof, counts.sum() - len(counts))
    t = (estimate - exact) / error
    tail = np.maximum(scipy.special.stdtr(dof, -np.abs(t)), np.finfo(float).smallest_subnormal)
    z = -np.sign(t) * scipy.special.ndtri(tail)
    return z, dof, _summarise(z, kernels, coefficients, error)


def _misfit(hat: Array, means: Array, errors: Array) -> float:
    """Mean square of the residuals (I - H) mean, each over its own standard error; entries that never vary left out."""
    remainder = np.eye(len(hat)) - hat
    residuals = np.einsum("kl,lij->kij", remainder, means)
    variances = np.einsum("kl,lij->kij", remainder**2, errors**2)
    varying = variances > 0.0
    return float(np.mean(residuals[varying] ** 2 / variances[varying])) if varying.any() else 0.0


def _summarise(z: Array, kernels: Sequence[EmpiricalKernel], coefficients: Array, error: Array) -> ZSummary:
    scores = z[np.triu_indices(len(z))]
    count = len(scores)
    # the limit is a sum over all draws of all widths: its correlations are those of these scaled draws
    scale = error[kept_entries(len(z))]
    groups = [c * k.entries / (math.sqrt(k.draws) * scale) for c, k in zip(coefficients, kernels, strict=True)]
    few = [g[:_CORRELATED_DRAWS] for g in groups]
    variances = sum(np.var(g, axis=0, ddof=1) for g in few)
    off_diagonal = float(unbiased_trace_products(few).sum() - np.sum(np.square(variances)))
    pairs = max(len(scale) * (len(scale) - 1), 1)
    squared_correlation = min(max(off_diagonal / pairs, 0.0), 1.0)  # an unbiased estimate may leave [0, 1]
    effective = count / (1.0 + (count - 1) * squared_correlation)
    total = float(np.sum(np.square(scores)))
    p_value = float(scipy.special.gammaincc(effective / 2.0, total * effective / count / 2.0))
    largest = float(np.abs(scores).max())
    bound = float(-scipy.special.ndtri(-math.expm1(math.log1p(-_SIGNIFICANCE) / count) / 2.0))
    return ZSummary(
        entries=count,
        effective=effective,
        mean=float(scores.mean()),
        mean_error=math.sqrt(sum(float(np.var(g.mean(axis=1), ddof=1)) for g in groups)),
        std=math.sqrt(total / count),
        beyond3=float(np.mean(np.abs(scores) > 3.0)),
        largest=largest,
        expected_largest=_expected_largest(count),
        largest_bound=bound,
        p_value=p_value,
        consistent=bool(p_value >= _SIGNIFICANCE and largest <= bound),
    )


def _expected_largest(count: int) -> float:
    """E[max |z|] of independent N(0, 1): the integral of P(max > c) over c > 0."""
    c = np.linspace(0.0, 12.0, 4001)
    below = np.exp(count * np.log(np.maximum(scipy.special.erf(c / math.sqrt(2.0)), 1e-300)))
    return float(np.trapezoid(1.0 - below, c))
