"""Data as every part of the package takes it: a finite float64 matrix, samples in rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import DataError

__all__ = ["data_matrix", "mean_scale", "require_same_features", "row_norms", "scale_of_norms"]

Array = NDArray[np.float64]


def data_matrix(X: ArrayLike, what: str = "X", first: int = 0) -> Array:
    """``X`` as a C-contiguous float64 matrix (n, p), samples in rows.

    Args:
        X: anything NumPy takes for a matrix of real numbers.
        what: what to call it in errors.
        first: number of the first row, for errors: of a part of a larger matrix.

    Raises:
        DataError: not numeric (object and complex arrays included), not two-dimensional, empty, NaN or infinite.
    """
    try:
        given = np.asarray(X)
    except ValueError as error:  # a ragged nested list
        raise DataError(f"{what} must be a matrix, samples in rows, got rows of unequal length") from error
    if given.dtype.kind not in "biuf":
        raise DataError(f"{what} must hold real numbers, got an array of type {given.dtype}: convert it first")
    if given.ndim != 2:
        raise DataError(
            f"{what} must have two dimensions (n, p), samples in rows, got the shape {given.shape}: reshape it"
        )
    if 0 in given.shape:
        raise DataError(f"{what} must hold at least one sample and one feature, got the shape {given.shape}")
    matrix = np.ascontiguousarray(given, dtype=np.float64)
    if not np.isfinite(matrix).all():
        row = first + int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise DataError(f"{what} must be finite, got NaN or infinity in row {row}: remove or impute such samples")
    return matrix


def require_same_features(p: int, q: int) -> None:
    """Refuse rows and columns that do not live in one space.

    Raises:
        DataError: different numbers of features.
    """
    if p != q:
        raise DataError(f"the samples of rows and columns must have as many features, got {p} and {q}")


def row_norms(X: Array) -> Array:
    """||x_i||^2, (n,)."""
    norms: Array = np.einsum("ij,ij->i", X, X)
    return norms


def mean_scale(X: Array) -> float:
    """tau0 = sqrt(mean ||x_i||^2), a standard deviation.

    Raises:
        DataError: all samples are zero.
    """
    return scale_of_norms(row_norms(X))


def scale_of_norms(norms: Array) -> float:
    """``mean_scale`` from the squared norms ||x_i||^2, (n,).

    Raises:
        DataError: all samples are zero.
    """
    scale = math.sqrt(float(np.mean(norms)))
    if scale == 0.0:
        raise DataError("every sample is zero, so tau0 = sqrt(mean ||x||^2) = 0; pass tau0, or other data")
    return scale
