"""Norms of kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["operator_norm"]


def operator_norm(matrix: npt.NDArray[np.float64]) -> float:
    """The largest |eigenvalue| of a symmetric matrix."""
    eigenvalues = np.linalg.eigvalsh(matrix)
    return float(max(-eigenvalues[0], eigenvalues[-1]))
