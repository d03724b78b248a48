"""The user's own files: .npy, .npz and .csv, samples in rows. Read with ``allow_pickle=False``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import DataError
from equikernel.numerics.data import data_matrix
from equikernel.validation.data_files import reading
from equikernel.validation.datasets.named import DATASETS
from equikernel.validation.datasets.samples import RawSamples

__all__ = ["load_file"]

_LABEL_NAMES = ("label", "labels", "y")


def load_file(path: Path, labels: ArrayLike | str | int | None = None) -> RawSamples:
    """The samples of a .npy, .npz or .csv file and their labels, if there are any.

    Args:
        path: the file.
        labels: one for each sample, replacing any that the file has; for .csv also the name or the index of a column.

    Raises:
        DataError: another kind of file; missing, corrupt or truncated; object arrays; rows of unequal length or cells
            that are no numbers; no such column; NaN, infinity, no samples.
    """
    if path.suffix.lower() not in {".npy", ".npz", ".csv"}:
        raise DataError(
            f"unknown data {str(path)!r}: expected a name ({', '.join(DATASETS)}) or a .npy, .npz or .csv file"
        )
    own: NDArray[Any] | None
    if path.suffix.lower() == ".csv":
        column = labels if isinstance(labels, (str, int)) else None
        with reading(path, "a .csv file"), path.open(newline="", encoding="utf-8-sig") as stream:
            X, own = _parse_csv(list(csv.reader(stream, strict=True)), column, path)
        labels = None if column is not None else labels
    else:
        X, own = _load_numpy(path)
    if isinstance(labels, (str, int)):
        raise DataError(f"labels={labels!r} names a column, which only a .csv file has: pass the labels of {path}")
    return RawSamples(data_matrix(X, str(path)), own if labels is None else np.asarray(labels), str(path))


def _load_numpy(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    # Opened here: np.load leaves a file that it opened and could not read to the garbage collector.
    with reading(path, "an array file of NumPy"), path.open("rb") as stream:
        content = np.load(stream, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content, None
        with content as archive:
            if "X" not in archive:
                raise DataError(f"{path} must hold a matrix named X, got {', '.join(archive) or 'nothing'}")
            key = next((key for key in ("y", "labels") if key in archive), None)
            return archive["X"], None if key is None else archive[key]


def _parse_csv(rows: list[list[str]], column: str | int | None, path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    rows = [[cell.strip() for cell in row] for row in rows if row]
    if not rows:
        raise DataError(f"{path} is empty: expected a row of numbers for each sample")
    first, width = rows[0], len(rows[0])
    names = [cell.lower() for cell in first]
    where = _label_column(names, column, path)
    headed = where is not None and (isinstance(column, str) or names[where] in _LABEL_NAMES)
    if headed or not any(_is_number(cell) for k, cell in enumerate(first) if k != where):
        rows = rows[1:]
    if not rows:
        raise DataError(f"{path} holds a header and no samples: expected a row of numbers for each sample")
    for number, row in enumerate(rows, start=1):
        wrong = [cell for k, cell in enumerate(row) if k != where and not _is_number(cell)]
        if len(row) != width or wrong:
            got = repr(wrong[0]) if wrong else f"{len(row)} of them"
            raise DataError(
                f"{path} must hold {width} numbers in every row, got {got} in sample {number}: correct it, or pass "
                "labels=COLUMN if that is a column of labels"
            )
    X = np.array([[float(cell) for k, cell in enumerate(row) if k != where] for row in rows])
    if where is None:
        return X, None
    cells = [row[where] for row in rows]
    if all(map(_is_number, cells)):
        return X, np.array([float(cell) for cell in cells])
    return X, np.unique(cells, return_inverse=True)[1]


def _label_column(names: list[str], column: str | int | None, path: Path) -> int | None:
    """The position of the labels in the first row, None if there are none."""
    if isinstance(column, int):
        if not -len(names) <= column < len(names):
            raise DataError(f"{path} has {len(names)} columns, but column {column} was named for the labels")
        return column % len(names)
    if column is not None and column.lower() not in names:
        raise DataError(f"{path} has no column named {column!r} for the labels: its first row is {', '.join(names)}")
    wanted = _LABEL_NAMES if column is None else (column.lower(),)
    return next((names.index(name) for name in wanted if name in names), None)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python's 1_000 is no number in a data file
