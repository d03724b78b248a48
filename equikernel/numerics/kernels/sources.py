"""Samples that need not fit into memory: read some rows at a time, checked, and known by their digest."""

from __future__ import annotations

import hashlib
import math
import mmap
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from equikernel.errors import DataError
from equikernel.numerics.data import data_matrix, row_norms

__all__ = [
    "ArraySamples",
    "FileSamples",
    "Samples",
    "Survey",
    "array_samples",
    "is_dask",
    "lazy_rows",
    "spooled",
    "survey",
]

FloatArray = npt.NDArray[np.float64]
_SURVEY_BYTES = 2**25  # of samples read at a time


class Samples(Protocol):
    """n samples of p features, in rows."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""

    def part(self, rows: slice) -> FloatArray:
        """Some of the samples as a float64 matrix.

        Raises:
            DataError: a sample (named) with NaN or infinity.
        """


@dataclass(frozen=True)
class ArraySamples:
    """Samples in an array, which may be a memory map: what is read of one is copied, never the whole."""

    X: npt.NDArray[Any]
    what: str

    @property
    def shape(self) -> tuple[int, int]:
        return self.X.shape[0], self.X.shape[1]

    def part(self, rows: slice) -> FloatArray:
        part = self.X[rows]
        if isinstance(part, np.memmap):
            part = np.array(part)
            _give_back(self.X)
        return data_matrix(part, self.what, rows.start)


def _give_back(X: npt.NDArray[Any]) -> None:
    """Give the pages of a memory map back, which would count as this process's memory: the file still has them."""
    base: Any = X
    while isinstance(base, np.ndarray):
        base = base.base
    # of a copy-on-write map they may hold what the file does not
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") and getattr(X, "mode", "c") != "c":
        base.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class FileSamples:
    """Samples in a file of C-ordered float64 numbers that ``spooled`` has written and checked."""

    path: Path
    shape: tuple[int, int]

    def part(self, rows: slice) -> FloatArray:
        p = self.shape[1]
        count = (rows.stop - rows.start) * p
        return np.fromfile(self.path, np.float64, count, offset=8 * p * rows.start).reshape(-1, p)


@dataclass(frozen=True)
class Survey:
    """What one pass over samples finds: their squared norms, (n,), and a digest of their float64 values."""

    norms: FloatArray
    digest: str


def is_dask(X: object) -> bool:
    """Whether X is a dask array, without importing dask."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(X, module.Array)


def array_samples(X: Any, what: str) -> ArraySamples:
    """Samples in anything NumPy takes for a matrix.

    Raises:
        DataError: not numeric, not two-dimensional, empty. Values are checked where they are read.
    """
    given = X if isinstance(X, np.ndarray) else np.asarray(data_matrix(X, what))
    data_matrix(given[:1] if given.ndim == 2 else given, what)
    return ArraySamples(given, what)


def lazy_rows(X: Any, what: str) -> Any:
    """A dask array of real numbers as rows in chunks of known sizes, features in one chunk.

    Raises:
        DataError: not two-dimensional, not numeric, empty, or chunks of unknown size.
    """
    if X.ndim != 2 or X.dtype.kind not in "biuf" or 0 in X.shape:
        raise DataError(
            f"{what} must hold real numbers, at least one sample and one feature, in two dimensions, samples in rows; "
            f"got a dask array of type {X.dtype} and shape {X.shape}"
        )
    if any(math.isnan(size) for sizes in X.chunks for size in sizes):
        raise DataError(f"the chunks of {what} must have known sizes: call {what}.compute_chunk_sizes() first")
    return X.rechunk({1: -1})


def survey(samples: Samples) -> Survey:
    """Read all samples once, some rows at a time.

    Raises:
        DataError: a sample (named) with NaN or infinity.
    """
    n, p = samples.shape
    digest = hashlib.sha256(f"{n} x {p}".encode())
    norms = np.empty(n)
    step = max(1, _SURVEY_BYTES // (8 * p))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        part = samples.part(rows)
        norms[rows] = row_norms(part)
        digest.update(part.data)
    return Survey(norms, digest.hexdigest())


def spooled(X: Any, what: str, folder: Path) -> FileSamples:
    """Samples written to a file in the folder, named by their digest, for processes that share nothing else.

    Args:
        X: an array, or a dask array, whose chunks are computed one after the other.
        what: what to call them in errors.
        folder: where to write, 8 n p bytes.

    Raises:
        DataError: unusable data.
    """
    shape, parts = _parts(X, what)
    unfinished = folder / f"samples-{what}.tmp"
    digest = hashlib.sha256()
    try:
        with unfinished.open("wb") as file:
            for part in parts:
                digest.update(part.data)
                file.write(part.data)
        path = folder / f"samples-{digest.hexdigest()[:16]}.bin"
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return FileSamples(path, shape)


def _parts(X: Any, what: str) -> tuple[tuple[int, int], Iterator[FloatArray]]:
    """The shape of the samples, and they themselves, some rows at a time."""
    if not is_dask(X):
        samples = array_samples(X, what)
        n, p = samples.shape
        step = max(1, _SURVEY_BYTES // (8 * p))
        return (n, p), (samples.part(slice(start, min(start + step, n))) for start in range(0, n, step))
    lazy = lazy_rows(X, what)
    starts = np.cumsum([0, *lazy.chunks[0]])
    chunks = (data_matrix(lazy.blocks[k].compute(), what, int(starts[k])) for k in range(lazy.numblocks[0]))
    return lazy.shape, chunks
