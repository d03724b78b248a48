"""Kernels on disk, written block by block: one .npy file, or a zarr array whose chunks are the blocks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from equikernel.errors import InputError

__all__ = ["FORMATS", "KernelFile", "NpyFile", "ZarrFile", "kernel_file", "open_kernel"]

FloatArray = npt.NDArray[np.float64]
FORMATS = ("npy", "zarr")
_STRIP = 256  # columns that are transposed at a time


class KernelFile(Protocol):
    """A kernel of float64 numbers on disk. Several processes may write different blocks of it at once."""

    @property
    def path(self) -> Path:
        """The file or folder."""

    def create(self) -> None:
        """Make it anew, empty."""

    def usable(self) -> bool:
        """Whether it is there and has the right shape."""

    def write(self, rows: slice, columns: slice, block: FloatArray, *, mirrored: bool) -> None:
        """Write a block, and its mirror image if ``mirrored``; when this returns, they are on the disk."""


@dataclass(frozen=True)
class NpyFile:
    """A C-ordered matrix in NumPy's format, opened as a memory map.

    Blocks are written row by row and not through a map, whose pages would count as this process's memory.
    """

    path: Path
    shape: tuple[int, int]

    def create(self) -> None:
        # the file is as long as the matrix, and takes no space until it is written to
        np.lib.format.open_memmap(self.path, "w+", np.dtype(np.float64), self.shape)

    def usable(self) -> bool:
        return _holds(self.path, self.shape)

    def write(self, rows: slice, columns: slice, block: FloatArray, *, mirrored: bool) -> None:
        with self.path.open("r+b", buffering=0) as file:
            start = self.path.stat().st_size - 8 * self.shape[0] * self.shape[1]
            self._write_rows(file, start, (rows.start, columns.start), block)
            if mirrored:
                for k in range(0, block.shape[1], _STRIP):
                    strip = np.ascontiguousarray(block[:, k : k + _STRIP].T)
                    self._write_rows(file, start, (columns.start + k, rows.start), strip)
            os.fsync(file.fileno())

    def _write_rows(self, file: Any, start: int, corner: tuple[int, int], block: FloatArray) -> None:
        for k, row in enumerate(block):
            file.seek(start + 8 * ((corner[0] + k) * self.shape[1] + corner[1]))
            _write_all(file, row.data.cast("B"))


def _write_all(file: BinaryIO, data: memoryview) -> None:
    """Write everything: an unbuffered file may take less at once."""
    while data:
        data = data[file.write(data) :]


@dataclass(frozen=True)
class ZarrFile:
    """A zarr array; every block, and every mirror image of one, is a chunk of its own. Not compressed: noise is not."""

    path: Path
    shape: tuple[int, int]
    block: int

    def create(self) -> None:
        _zarr().create_array(
            self.path,
            shape=self.shape,
            chunks=(min(self.block, self.shape[0]), min(self.block, self.shape[1])),
            dtype="float64",
            compressors=None,
            fill_value=float("nan"),
            overwrite=True,
            config={"write_empty_chunks": True},
        )

    def usable(self) -> bool:
        return _holds(self.path, self.shape)

    def write(self, rows: slice, columns: slice, block: FloatArray, *, mirrored: bool) -> None:
        array = _zarr().open_array(self.path, mode="r+", config={"write_empty_chunks": True})
        self._write_chunk(array, rows, columns, block)
        if mirrored:
            self._write_chunk(array, columns, rows, block.T)

    def _write_chunk(self, array: Any, rows: slice, columns: slice, block: FloatArray) -> None:
        array[rows, columns] = block
        place = (rows.start // self.block, columns.start // self.block)
        with (self.path / array.metadata.encode_chunk_key(place)).open("r+b") as file:
            os.fsync(file.fileno())


def kernel_file(folder: Path, name: str, shape: tuple[int, int], block: int, storage: str) -> KernelFile:
    """The file of a kernel in a folder: NAME.npy or NAME.zarr.

    Raises:
        InputError: another format, or zarr is not installed.
    """
    if storage not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}; got {storage!r}")
    if storage == "npy":
        return NpyFile(folder / f"{name}.npy", shape)
    _zarr()
    return ZarrFile(folder / f"{name}.zarr", shape, block)


def open_kernel(path: Path) -> Any:
    """The kernel in a file, read-only: a memory map of a .npy file, or a zarr array."""
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    return _zarr().open_array(path, mode="r")


def _holds(path: Path, shape: tuple[int, int]) -> bool:
    """Whether there is a float64 kernel of that shape."""
    try:
        kernel = open_kernel(path)
    except (OSError, ValueError):
        return False
    return bool(kernel.shape == shape and kernel.dtype == np.float64)


def _zarr() -> Any:
    try:
        import zarr
    except ImportError:
        raise InputError(
            'format "zarr" needs the package zarr, which is not installed: pip install "equikernel[scale]", or use '
            'format "npy"'
        ) from None
    return zarr
