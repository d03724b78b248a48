"""Data as every part of the package takes it: a finite float64 matrix, samples in rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import DataError

__all__ = ["data_matrix", "mean_scale"]

Array = NDArray[np.float64]


def data_matrix(X: ArrayLike, what: str = "X") -> Array:
    """``X`` as a C-contiguous float64 matrix (n, p), samples in rows.

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
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise DataError(f"{what} must be finite, got NaN or infinity in row {row}: remove or impute such samples")
    return matrix


def mean_scale(X: Array) -> float:
    """tau0 = sqrt(mean ||x_i||^2), a standard deviation.

    Raises:
        DataError: all samples are zero.
    """
    scale = math.sqrt(float(np.mean(np.einsum("ij,ij->i", X, X))))
    if scale == 0.0:
        raise DataError("every sample is zero, so tau0 = sqrt(mean ||x||^2) = 0; pass tau0, or other data")
    return scale
