"""What the solution of pairs works on: samples as pairs see them, and arrays that are made once for all tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["BYTES_OF_PAIR", "Pairing", "Samples", "TileArrays", "Workspace"]

Tensor = torch.Tensor
FloatArray = npt.NDArray[np.float64]

_FLOATS, _MARKS = 8, 2  # arrays of a tile
_MORE = 4  # numbers of a pair besides, while its kernels are formed or terms are gathered for it
_LISTED = 6  # numbers of a pair that is left: its place and product, in this tile and in those before
BYTES_OF_PAIR = 8 * (_FLOATS + _MORE + _LISTED) + _MARKS


@dataclass(frozen=True)
class Samples:
    """Samples on the device, as the pairs see them.

    Attributes:
        roots: w_i = sqrt(q_i), (n,).
        inverses: 1/w_i, 0 where w_i = 0, (n,).
        means: A_i0, (n,).
        first: C_i1, (n,).
        terms: the packed C_ik, one row for every k, (K, n).
    """

    roots: Tensor
    inverses: Tensor
    means: Tensor
    first: Tensor
    terms: Tensor

    @classmethod
    def of(cls, packed: FloatArray, device: torch.device) -> Samples:
        """From ``Scales.packed``, (n, 4 + K)."""
        columns = torch.from_numpy(np.ascontiguousarray(packed.T)).to(device)
        return cls(columns[0], columns[1], columns[2], columns[3], columns[4:])

    def part(self, which: slice) -> Samples:
        """Some of the samples, without a copy."""
        return Samples(
            self.roots[which], self.inverses[which], self.means[which], self.first[which], self.terms[:, which]
        )


@dataclass(frozen=True)
class Pairing:
    """Which pairs: every row with every column (i and j None), or a list of pairs (i_k, j_k)."""

    rows: Samples
    columns: Samples
    i: Tensor | None = None
    j: Tensor | None = None

    def left(self, array: Tensor) -> Tensor:
        """Numbers of the rows, (n,), as the pairs see them: to be broadcast, or gathered."""
        return array[:, None] if self.i is None else array[self.i]

    def right(self, array: Tensor) -> Tensor:
        """Numbers of the columns, likewise."""
        return array if self.j is None else array[self.j]


@dataclass
class TileArrays:
    """Arrays of the pairs of one tile, all of one shape.

    Attributes:
        products: <x_i, x_j>.
        s: the constant of the equation.
        r: the correlation.
        t: scratch; during a pass r^p.
        value: F, in the end G.
        slope: F', in the end E[phi'(u) phi'(v)].
        bend: F''/2.
        step: the size of the last step.
        left: pairs that cannot be done here.
        mark: scratch.
    """

    products: Tensor
    s: Tensor
    r: Tensor
    t: Tensor
    value: Tensor
    slope: Tensor
    bend: Tensor
    step: Tensor
    left: Tensor
    mark: Tensor


class Workspace:
    """Memory for the largest tile, taken once; smaller tiles use a part of it."""

    def __init__(self, pairs: int, device: torch.device) -> None:
        self._floats = torch.empty((_FLOATS, pairs), dtype=torch.float64, device=device)
        self._marks = torch.empty((_MARKS, pairs), dtype=torch.bool, device=device)

    @property
    def pairs(self) -> int:
        """How many pairs there is room for."""
        return self._marks.shape[1]

    def arrays(self, *shape: int) -> TileArrays:
        """Contiguous arrays of a shape."""
        parts = (block[:, : math.prod(shape)].view(-1, *shape) for block in (self._floats, self._marks))
        return TileArrays(*(array for part in parts for array in part))
