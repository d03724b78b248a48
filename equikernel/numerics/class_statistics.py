"""What the high-dimensional equivalents need to know of the classes of a mixture: known, or estimated from data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import DataError
from equikernel.numerics.data import data_matrix, row_norms

__all__ = [
    "ClassStatistics",
    "class_statistics",
    "covariance_array",
    "covariance_trace",
    "unbiased_trace_products",
]

Array = NDArray[np.float64]

# Fewest samples from which tr(C^2) has an unbiased estimator without assuming a distribution: the U-statistic averages
# over four distinct samples.
_FEWEST_PER_CLASS = 4


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """What the equivalents need to know of the classes, K of them, n samples.

    Attributes:
        index: (n,) the class of each sample, 0 ... K-1.
        counts: (K,) the number of samples in each class.
        trace_deviations: (K,) t_a = tr(C_a - C0)/sqrt(p).
        trace_products: (K, K) S_ab = tr(C_a C_b)/p.
        norm_residuals: (n,) psi_i = ||x_i - mu_a/sqrt(p)||^2 - tr(C_a)/p.
        norm_deviations: (n,) chi_i = t_a/sqrt(p) + psi_i.
    """

    index: NDArray[np.intp]
    counts: NDArray[np.intp]
    trace_deviations: Array
    trace_products: Array
    norm_residuals: Array
    norm_deviations: Array


def covariance_array(covariance: ArrayLike, p: int, what: str = "a covariance") -> Array:
    """A covariance in the smallest form that says it: () for c I_p, (p,) for a diagonal, (p, p) dense.

    Positivity is checked as far as it is free: the diagonal must be >= 0 (a factorisation is for those who need one).

    Raises:
        DataError: another shape, NaN, a negative variance, or a dense matrix that is not symmetric.
    """
    try:
        array = np.asarray(covariance, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be a number, a diagonal ({p},) or a matrix ({p}, {p}) of real numbers") from error
    if array.shape not in ((), (p,), (p, p)):
        raise DataError(
            f"{what} must be a number, a diagonal ({p},) or a matrix ({p}, {p}), got an array of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise DataError(f"{what} must be finite, got NaN or infinity")
    lowest = float(np.min(np.diagonal(array) if array.ndim == 2 else array))
    if lowest < 0:
        raise DataError(f"{what} must have variances >= 0, got {lowest:g}")
    # Rounding in a product such as A A^T leaves an asymmetry of a few p * eps of the largest entry.
    if array.ndim == 2 and np.abs(array - array.T).max() > 8 * p * np.finfo(float).eps * np.abs(array).max():
        raise DataError(f"{what} must be symmetric: pass (C + C.T)/2 if rounding is the cause")
    return array


def covariance_trace(covariance: Array, p: int) -> float:
    """Trace of a covariance in any of the forms of ``covariance_array``."""
    return float(p * covariance) if covariance.ndim == 0 else float(_diagonal(covariance).sum())


def unbiased_trace_products(groups: Sequence[Array]) -> Array:
    """Unbiased estimates of tr(A_a A_b), A_a the covariance of the rows of ``groups[a]``, means unknown.

    Formula: with S_a the sample covariances (divisor N = n_a - 1), tr(S_a S_b) for a != b, by independence, and

        N/(n (n-2) (n-3)) * [N (n-2) tr(S^2) + (tr S)^2 - n Q],    Q = sum_i ||x_i - xbar||^4 / N,    n = n_a,

    for a = b, where tr(S^2) alone has a bias of about (tr A)^2/n, as large as tr(A^2) itself when n ~ p. It is the
    U-statistic of Li & Chen (2012, Ann. Statist. 40, section 2) in the closed form of Himeno & Yamada (2014, J.
    Multivariate Anal. 130): unbiased for every distribution with four moments, where the estimator of Bai & Saranadasa
    (1996) needs normal data. An unbiased estimate of a positive number may come out negative when n_a is small, and
    is left so.

    Args:
        groups: K matrices (n_a, p), n_a >= 4.

    Returns:
        (K, K), symmetric.

    Raises:
        DataError: a group has fewer than four rows.
    """
    for a, rows in enumerate(groups):
        if len(rows) < _FEWEST_PER_CLASS:
            raise DataError(
                f"class {a} has {len(rows)} sample(s), but estimating tr(C^2) needs {_FEWEST_PER_CLASS} or more: give "
                "means and covariances, add samples, or leave the labels out"
            )
    centred = [rows - rows.mean(axis=0) for rows in groups]
    products = np.empty((len(groups), len(groups)))
    for a, left in enumerate(centred):
        n, divisor = len(left), len(left) - 1
        inner = left @ left.T
        squares = np.diagonal(inner)
        square_trace = float(np.vdot(inner, inner)) / divisor**2
        trace = float(squares.sum()) / divisor
        fourth = float(np.vdot(squares, squares)) / divisor
        products[a, a] = divisor / (n * (n - 2) * (n - 3)) * (divisor * (n - 2) * square_trace + trace**2 - n * fourth)
        for b in range(a):
            cross = left @ centred[b].T
            products[a, b] = products[b, a] = float(np.vdot(cross, cross)) / (divisor * (len(centred[b]) - 1))
    return products


def class_statistics(
    X: ArrayLike,
    labels: ArrayLike,
    *,
    means: ArrayLike | None = None,
    covariances: Sequence[ArrayLike] | Array | None = None,
) -> ClassStatistics:
    """The class statistics (t, S, psi) of the equivalents, from the population or estimated from the data.

    With ``means`` and ``covariances`` the formulas of the module are evaluated as they stand. Without, tr(C_a) is
    estimated with the divisor n_a - 1, S by ``unbiased_trace_products``, and psi by

        psi_i = n_a/(n_a - 1) ||x_i - xbar_a||^2 - tr(C_a)/p,

    where the factor makes up for the share of x_i in its own class mean: it would lower every psi_i by 1/n_a.

    Args:
        X: (n, p), x = (mu_a + C_a^{1/2} w)/sqrt(p).
        labels: (n,) integers: rows of ``means`` and items of ``covariances`` if these are given, any values if not.
        means: (K, p), the mu_a (not divided by sqrt(p)).
        covariances: K items, each a number (c I_p), a diagonal (p,) or a matrix (p, p).

    Raises:
        DataError: shapes or labels that do not fit together, NaN, only one of means and covariances, a class of fewer
            than four samples when its covariance must be estimated.
    """
    matrix = data_matrix(X)
    values = _label_array(labels, len(matrix))
    if (means is None) != (covariances is None):
        raise DataError("give both means and covariances, or neither to have them estimated: got only one of the two")
    if means is None or covariances is None:
        return _estimated(matrix, values)
    return _population(matrix, values, means, covariances)


def _estimated(matrix: Array, values: NDArray[np.int64]) -> ClassStatistics:
    p = matrix.shape[1]
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    groups = [matrix[index == a] for a in range(len(counts))]
    products = p * unbiased_trace_products(groups)
    traces = np.empty(len(counts))
    spread = np.empty(len(matrix))
    for a, rows in enumerate(groups):
        unbiased = _squared_distances(rows, rows.mean(axis=0)) * (len(rows) / (len(rows) - 1))
        traces[a] = unbiased.mean()
        spread[index == a] = unbiased
    return _statistics(index, counts, p, traces, products, spread)


def _population(
    matrix: Array, values: NDArray[np.int64], means: ArrayLike, covariances: Sequence[ArrayLike] | Array
) -> ClassStatistics:
    p = matrix.shape[1]
    centres = data_matrix(means, "means")
    forms = [covariance_array(item, p, f"the covariance of class {a}") for a, item in enumerate(covariances)]
    if centres.shape != (len(forms), p):
        raise DataError(
            f"means must have the shape ({len(forms)}, {p}), a row for each covariance, got {centres.shape}"
        )
    if values.min() < 0 or values.max() >= len(forms):
        raise DataError(
            f"labels must lie in 0 ... {len(forms) - 1}, one class for each covariance, got "
            f"{values.min()} ... {values.max()}"
        )
    traces = np.array([covariance_trace(form, p) / p for form in forms])
    products = np.array([[_trace_product(left, right, p) / p for right in forms] for left in forms])
    spread = np.empty(len(matrix))
    for a in range(len(forms)):
        members = values == a
        spread[members] = _squared_distances(matrix[members], centres[a] / math.sqrt(p))
    index = values.astype(np.intp)
    return _statistics(index, np.bincount(index, minlength=len(forms)), p, traces, products, spread)


def _statistics(
    index: NDArray[np.intp], counts: NDArray[np.intp], p: int, traces: Array, products: Array, spread: Array
) -> ClassStatistics:
    """From tr(C_a)/p, tr(C_a C_b)/p and the squared distances to the class means."""
    deviations = traces - counts @ traces / len(index)
    residuals = spread - traces[index]
    return ClassStatistics(
        index=index,
        counts=counts,
        trace_deviations=deviations * math.sqrt(p),
        trace_products=products,
        norm_residuals=residuals,
        norm_deviations=deviations[index] + residuals,
    )


def _label_array(labels: ArrayLike, n: int) -> NDArray[np.int64]:
    given = np.asarray(labels)
    if given.shape != (n,):
        raise DataError(f"labels must have the shape ({n},), one for each sample, got {given.shape}")
    if given.dtype.kind not in "biu":
        raise DataError(f"labels must be integers, got an array of type {given.dtype}: convert them first")
    return given.astype(np.int64)


def _squared_distances(rows: Array, centre: Array) -> Array:
    difference = rows - centre
    return row_norms(difference)


def _diagonal(covariance: Array) -> Array:
    return np.diagonal(covariance) if covariance.ndim == 2 else covariance


def _trace_product(left: Array, right: Array, p: int) -> float:
    """Trace of A B: entrywise for two dense (symmetric) matrices, on the diagonals if one of them has no more."""
    if left.ndim == right.ndim == 2:
        return float(np.vdot(left, right))
    return float(np.sum(np.broadcast_to(_diagonal(left) * _diagonal(right), (p,))))
