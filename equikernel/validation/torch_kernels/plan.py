"""Tiles for a device: how large they may be in the memory there is, and which of them cover a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

from equikernel.errors import InputError, MemoryLimitError
from equikernel.numerics.kernels.table import TIERS
from equikernel.numerics.memory import available_memory, require_memory
from equikernel.validation.torch_kernels.arrays import BYTES_OF_PAIR

__all__ = ["LEAST_SIDE", "Budget", "Part", "cut", "free_memory"]

LEAST_SIDE = 32  # of a tile; below this a device does nothing but wait
_CPU_SIDE = 256  # the arrays of a tile stay in the cache
_CUDA_SIDE = 4096  # an operation takes much longer than its launch
_SHARED = 8  # a symmetric kernel is cut into so many parts, or half of its square tiles would be solved for nothing
_CUDA_SHARED_SIDE = 1024  # but not into smaller ones
_ROW = 136 + TIERS[1] + TIERS[2]  # numbers of a sample besides its features: its short, longer and long series
_KEPT_FREE = 0.05  # of a CUDA device's memory, for what its libraries take


@dataclass(frozen=True)
class Part:
    """Pairs of a range of rows and a range of columns; diagonal: the same samples, of which i < j count."""

    rows: slice
    columns: slice
    diagonal: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def pairs(self) -> int:
        """Pairs that count: of a part on the diagonal those above it."""
        rows, columns = self.shape
        return rows * (rows - 1) // 2 if self.diagonal else rows * columns


def _ranges(whole: slice, side: int) -> list[slice]:
    """Cut into ranges of at most ``side``, about equal."""
    length = whole.stop - whole.start
    count = -(-length // side)
    bounds = [whole.start + length * k // count for k in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(bounds)]


def cut(part: Part, side: int) -> Iterator[Part]:
    """Parts of at most ``side`` rows and columns; of one on the diagonal those on and above it."""
    for i in _ranges(part.rows, side):
        for j in _ranges(part.columns, side):
            if not part.diagonal or i.start <= j.start:
                yield Part(i, j, part.diagonal and i == j)


def free_memory(device: torch.device) -> int:
    """Bytes that tensors on the device can still take."""
    if device.type == "cpu":
        return available_memory()
    free, total = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(int(free + cached - _KEPT_FREE * total), 0)


@dataclass(frozen=True)
class Budget:
    """What a kernel takes on its device.

    Attributes:
        rows: n.
        columns: m.
        symmetric: whether the columns are the rows.
        features: p.
        kernels: how many n x m results are wanted.
        kept: whether the results stay on the device.
    """

    rows: int
    columns: int
    symmetric: bool
    features: int
    kernels: int
    kept: bool

    @property
    def fixed(self) -> int:
        """Bytes of everything but the tiles: the samples, and the results if they stay."""
        samples = self.rows + (0 if self.symmetric else self.columns)
        return 8 * (samples * (self.features + _ROW) + self.rows * self.columns * self.kernels * self.kept)

    def side(self, device: torch.device, memory: float | None) -> int:
        """Rows and columns of a tile: as many as fit into ``memory`` bytes, None: what the device has free.

        Raises:
            InputError: memory is not a positive number.
            MemoryLimitError: not even the smallest tile fits, or the results do not fit into the host's memory.
        """
        if memory is not None and not memory > 0:
            raise InputError(f"memory must be a positive number of bytes, or None; got {memory!r}")
        longest = max(self.rows, self.columns)
        most = min(longest, self._largest(device.type))
        available = free_memory(device) if memory is None else int(memory)
        what = f"kernels of {self.rows} x {self.columns} samples"
        least = self.fixed + BYTES_OF_PAIR * min(LEAST_SIDE, most) ** 2
        if least > available:
            remedy = 'raise memory or ask for result="numpy"' if self.kept else "raise memory"
            raise MemoryLimitError(
                f"{what} need at least {least} bytes on {device}, {available} are "
                f"{'available' if memory is None else 'allowed'}: {remedy}, or use stream_kernels, which writes to disk"
            )
        if not self.kept:
            results = 8 * self.rows * self.columns * self.kernels
            require_memory(results, what, "use stream_kernels, which writes to disk")
        return min(most, int(((available - self.fixed) / BYTES_OF_PAIR) ** 0.5))

    def _largest(self, kind: str) -> int:
        if kind == "cpu":
            return _CPU_SIDE
        return min(_CUDA_SIDE, max(_CUDA_SHARED_SIDE, -(-self.rows // _SHARED))) if self.symmetric else _CUDA_SIDE
