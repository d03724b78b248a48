"""Families of hidden weights A, drawn by NumPy in float64 so that every device sees the same matrix."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from equikernel.theory.initialisation import require_family

__all__ = ["draw_hidden_weights"]


def draw_hidden_weights(stream: np.random.Generator, width: int, family: str = "iid") -> NDArray[np.float64]:
    """One matrix A, (m, m), whose entries off the diagonal have mean 0 and variance 1.

    Formulas, Z an (m, m) matrix of N(0, 1) taken from the stream row by row, the same for all families:

        "iid":         A = Z; spectral radius sqrt(m) (1 + o(1)).
        "orthogonal":  A = sqrt(m) Q, Q Haar distributed: Z = Q R with diag R > 0 [Mezzadri, Notices AMS 54 (2007)];
                       entries uncorrelated with variance 1; all eigenvalues have modulus sqrt(m).
        "goe":         A = (Z + Z^T)/sqrt(2), symmetric; variance 1 off the diagonal and 2 on it; spectral radius
                       2 sqrt(m) (1 + o(1)), twice the i.i.d. one.

    "iid" and "orthogonal" have the same kernels: what the iteration sees of A is A z for vectors z that do not know
    A^T, jointly Gaussian as m grows for both. "goe", whose A^T = A the iteration does know, has others, and loses its
    stable fixed point at a smaller sigma_a^2 (docs/initialisation.md).

    The QR factorisation is LAPACK's: the orthogonal family agrees between machines to rounding, not to the bit.

    Args:
        stream: yields m^2 normal numbers for every family.
        width: m.
        family: "iid", "orthogonal" or "goe".

    Raises:
        InputError: another family.
    """
    require_family(family)
    normal = stream.standard_normal((width, width))
    if family == "iid":
        return normal
    if family == "goe":
        return np.asarray((normal + normal.T) / math.sqrt(2.0))
    q, r = np.linalg.qr(normal)
    return np.asarray(math.sqrt(width) * q * np.sign(np.diag(r)))
