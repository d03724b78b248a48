"""High-dimensional equivalents of the CK and the NTK, as array functions of four coefficients.

Formula, for data x = (mu_a + C_a^{1/2} w)/sqrt(p), samples in rows, coefficients (a1, a2, a3, d):

    Kbar = a1 X X^T + V M V^T + (d - tau0^2 a1) I,
    V = [J/sqrt(p), psi],    M = [[a2 t t^T + a3 S, a2 t], [a2 t^T, a2]],

with J the one-hot labels (n, K), C0 the average of the C_a weighted by the class counts, t_a = tr(C_a - C0)/sqrt(p),
S_ab = tr(C_a C_b)/p (not centred) and psi_i = ||x_i - mu_a/sqrt(p)||^2 - tr(C_a)/p. Multiplied out, with
chi_i = t_a/sqrt(p) + psi_i,

    (V M V^T)_ij = a2 chi_i chi_j + a3 S_ab / p,

which is how it is evaluated: the answer is symmetric to the bit and nothing larger than it is formed.
Source: [Ling24]. S is not centred here, as it is in the code published with that paper: centring
leaves an error that does not vanish as p grows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import DataError, InputError
from equikernel.numerics.class_statistics import ClassStatistics, class_statistics
from equikernel.numerics.data import data_matrix, mean_scale, row_norms
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ

__all__ = ["EquivalentCoefficients", "equivalent_ck", "equivalent_kernel", "equivalent_ntk"]

Array = NDArray[np.float64]

# Rows worked on at a time when the n x n answer is updated in place: the temporaries are this many rows, not n.
_ROWS = 256


@dataclass(frozen=True)
class EquivalentCoefficients:
    """The coefficients of a high-dimensional equivalent.

    ``(linear, norm, square, diagonal)`` is (alpha1, alpha2, alpha3, gamma^2) for the CK and (beta1, beta2, beta3,
    kappa^2) for the NTK; ``diagonal`` is the kernel of a sample of squared norm tau0^2 with itself.

    Raises:
        InputError: a coefficient is not a finite number.
    """

    linear: float
    norm: float
    square: float
    diagonal: float

    def __post_init__(self) -> None:
        for name in ("linear", "norm", "square", "diagonal"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise InputError(f"the coefficient {name!r} must be a finite number, got {value}")


def equivalent_kernel(
    X: ArrayLike,
    coefficients: EquivalentCoefficients,
    *,
    labels: ArrayLike | None = None,
    means: ArrayLike | None = None,
    covariances: Sequence[ArrayLike] | Array | None = None,
    tau0: float,
) -> Array:
    """The high-dimensional equivalent of a CK or an NTK on the data ``X``.

    Formula, s = x_i . x_j, (a1, a2, a3, d) = (linear, norm, square, diagonal):

        Kbar_ij = a1 s + a2 chi_i chi_j + a3 S_ab/p + [i = j] (d - a1 tau0^2)                    with labels
        Kbar_ij = a1 s + a2 chi_i chi_j + a3 s^2    + [i = j] (d - a1 tau0^2 - a3 tau0^4)        without

    With labels, S and chi are those of ``class_statistics`` (population values when means and covariances are given,
    otherwise estimates). Without, chi_i = ||x_i||^2 - tau0^2.

    The diagonal. On it the exact CK is gamma^2 + h alpha4 chi_i + O(chi_i^2), with chi_i = O(p^{-1/2}): to leading
    order only the constant d counts. The slope, which is no function of the four coefficients, moves the operator norm
    of the error by a multiple of max|chi_i|. With labels the published form is kept. Without, the constant is
    d - a1 tau0^2 - a3 tau0^4: the diagonal is d where ||x_i|| = tau0, and its slope there, a1 + 2 a3 tau0^2, is that of
    the first two terms of the power series sum_k b_k s^k that the kernel is on a sphere. This form is positive
    semi-definite, also far from the sphere: it is a sum of Schur products with a1, a2, a3 >= 0 plus a constant that is
    the sum of the b_k tau0^{2k} >= 0 left out.

    Args:
        X: (n, p), samples in rows, x = (mu_a + C_a^{1/2} w)/sqrt(p).
        coefficients: of the CK or of the NTK, at ``tau0``.
        labels: (n,) integers, or None for the label-free form.
        means: (K, p), as in ``class_statistics``.
        covariances: K items, as in ``class_statistics``.
        tau0: the scale of the data (a standard deviation), tau0^2 = tr(C0)/p: about the mean of ||x_i||^2.

    Returns:
        (n, n), symmetric to the bit.

    Raises:
        DataError: data that ``class_statistics`` refuses; means or covariances without labels; data whose mean
            ||x_i||^2 is not within a factor of two of tau0^2, about which the kernel is expanded.
        InputError: ``tau0`` is not a positive number.

    Accuracy: ||K - Kbar|| = O(n^{-1/2}) in operator norm for n/p fixed ([Ling24]). The entries are
    evaluated to a few ulp of the terms summed.
    """
    matrix = data_matrix(X)
    if not (math.isfinite(tau0) and tau0 > 0):
        raise InputError(f"tau0 must be a positive number (a standard deviation), got {tau0}")
    squared_norms = row_norms(matrix)
    mean_norm = float(squared_norms.mean())
    if not tau0**2 / 2 <= mean_norm <= 2 * tau0**2:
        raise DataError(
            f"the mean of ||x||^2 is {mean_norm:.6g}, but the equivalent is an expansion about tau0^2 = {tau0**2:.6g}: "
            f"scale the data, or solve the model at tau0 = {math.sqrt(mean_norm):.6g}"
        )
    constant = coefficients.diagonal - coefficients.linear * tau0**2
    if labels is None:
        if means is not None or covariances is not None:
            raise DataError("means and covariances belong to classes, but no labels were given: pass labels too")
        kernel = _second_order(matrix, squared_norms - tau0**2, coefficients, None)
        constant -= coefficients.square * tau0**4
    else:
        classes = class_statistics(matrix, labels, means=means, covariances=covariances)
        kernel = _second_order(matrix, classes.norm_deviations, coefficients, classes)
    kernel[np.diag_indices_from(kernel)] += constant
    return kernel


def _second_order(
    matrix: Array, chi: Array, coefficients: EquivalentCoefficients, classes: ClassStatistics | None
) -> Array:
    """The sum a1 s + a2 chi_i chi_j + a3 (S_ab/p, or s^2 without classes), block by block over the Gram matrix."""
    n, p = matrix.shape
    kernel = matrix @ matrix.T
    for start in range(0, n, _ROWS):
        rows = slice(start, start + _ROWS)
        block = kernel[rows]
        if classes is None:
            block *= coefficients.linear + coefficients.square * block
        else:
            block *= coefficients.linear
            per_class = (coefficients.square / p) * classes.trace_products
            block += per_class[classes.index[rows]][:, classes.index]
        block += coefficients.norm * (chi[rows, np.newaxis] * chi)
    return kernel


def equivalent_ck(
    X: ArrayLike,
    deq: DEQ,
    labels: ArrayLike | None = None,
    *,
    means: ArrayLike | None = None,
    covariances: Sequence[ArrayLike] | Array | None = None,
    tau0: Any = None,
) -> Array:
    """The high-dimensional equivalent of a DEQ's conjugate kernel on data: ``equivalent_kernel`` with its alphas.

    Args:
        X: (n, p), samples in rows.
        deq: the network.
        labels: (n,) integers; None for the label-free form.
        means: (K, p) population means of the classes; None to estimate them from the labelled data.
        covariances: K population covariances; None likewise.
        tau0: a standard deviation; None means sqrt(mean ||x_i||^2).

    Raises:
        DataError, InputError: as ``equivalent_kernel``.
        SolutionError: as ``solve``.
    """
    return _equivalent(X, deq, "a", labels, means, covariances, tau0)


def equivalent_ntk(
    X: ArrayLike,
    deq: DEQ,
    labels: ArrayLike | None = None,
    *,
    trained: str = "aA",
    means: ArrayLike | None = None,
    covariances: Sequence[ArrayLike] | Array | None = None,
    tau0: Any = None,
) -> Array:
    """The high-dimensional equivalent of a DEQ's neural tangent kernel; arguments as ``equivalent_ck``.

    Args:
        X: (n, p), samples in rows.
        deq: the network.
        labels: (n,) integers; None for the label-free form.
        trained: "a", "aA" or "aAB".
        means: (K, p) population means of the classes, or None.
        covariances: K population covariances, or None.
        tau0: a standard deviation; None means sqrt(mean ||x_i||^2).

    Raises:
        InputError: an activation with jumps when the NTK needs E[phi'^2].
        DataError, SolutionError: as ``equivalent_ck``.
    """
    return _equivalent(X, deq, trained, labels, means, covariances, tau0)


def _equivalent(
    X: ArrayLike,
    deq: DEQ,
    trained: str,
    labels: ArrayLike | None,
    means: ArrayLike | None,
    covariances: Sequence[ArrayLike] | Array | None,
    tau0: Any,
) -> Array:
    matrix = data_matrix(X)
    scale = mean_scale(matrix) if tau0 is None else tau0
    solution = solve(deq, scale, trained=trained)
    coefficients = EquivalentCoefficients(solution.beta1, solution.beta2, solution.beta3, solution.kappa2)
    return equivalent_kernel(
        matrix, coefficients, labels=labels, means=means, covariances=covariances, tau0=float(solution.tau0)
    )
