"""Samples that are the same, or opposite under an odd activation: solved once, and copied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from equikernel.numerics.kernels.engine import Prepared

__all__ = ["Distinct", "identical_pairs"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Distinct:
    """Which samples are solved and which are copies of them.

    Attributes:
        kept: numbers of the first of every set of equal samples, increasing.
        copies: numbers of the others.
        originals: of every copy the sample it equals.
        signs: of every copy +1, or -1 for an opposite sample.
    """

    kept: IntArray
    copies: IntArray
    originals: IntArray
    signs: FloatArray

    @classmethod
    def of(cls, samples: Prepared) -> Distinct:
        """Found by the samples' keys, and then compared."""
        _, first, inverse = np.unique(samples.keys, return_index=True, return_inverse=True)
        originals = first[inverse.ravel()].astype(np.int64)
        numbers = np.arange(len(originals))
        signs = samples.signs * samples.signs[originals]
        for copy in np.flatnonzero(originals != numbers):
            if not (samples.X[copy] == signs[copy] * samples.X[originals[copy]]).all():
                originals[copy] = copy
        same = originals != numbers
        return cls(np.flatnonzero(~same), np.flatnonzero(same), originals[same], signs[same])


def identical_pairs(
    rows: tuple[Prepared, Distinct], columns: tuple[Prepared, Distinct]
) -> tuple[IntArray, IntArray, FloatArray]:
    """Places among the kept rows and kept columns at which the same sample stands, and its sign, by increasing row."""
    (X, left), (Y, right) = rows, columns
    if X is Y:
        everything = np.arange(len(left.kept))
        return everything, everything, np.ones(len(everything))
    _, i, j = np.intersect1d(X.keys[left.kept], Y.keys[right.kept], return_indices=True)
    a, b = left.kept[i], right.kept[j]
    signs = X.signs[a] * Y.signs[b]
    same = np.array([bool((X.X[k] == sign * Y.X[m]).all()) for k, m, sign in zip(a, b, signs, strict=True)], dtype=bool)
    order = np.argsort(i[same])
    return i[same][order], j[same][order], signs[same][order]
