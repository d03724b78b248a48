"""Real data: named sets and the user's own files, as one matrix with samples in rows, and where it came from.

Nothing is ever unpickled: .npy and .npz files are read with ``allow_pickle=False``, CIFAR-10 in its binary version.
A named set is looked for in ``$EQUIKERNEL_DATA/<name>``, in the folder of a Debian package, and in the download cache,
in this order; only then is it downloaded, and checked against the SHA-256 given here.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib
import math
import os
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import DataError
from equikernel.numerics.data import data_matrix
from equikernel.validation.mixtures import class_counts, is_integer, seeded_generator

__all__ = ["DATASETS", "Dataset", "available", "load_dataset", "read_cifar10", "read_idx"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

_LABEL_NAMES = ("label", "labels", "y")
# What the readers of the standard library and of NumPy raise on a file that is not what its name says. NumPy reads a
# damaged header with Python's tokenizer, and can be asked by it for an absurd amount of memory.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, MemoryError),
    *(csv.Error, tarfile.TarError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
_CIFAR_PIXELS = 3 * 32 * 32
_CIFAR_BATCHES = tuple(f"cifar-10-batches-bin/data_batch_{k}.bin" for k in range(1, 6))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples in rows, ready for the kernels, and their provenance.

    Attributes:
        name: the name or the path that was asked for.
        X: (n, p) float64, read-only.
        labels: (n,) integers as found in the source, read-only, or None when the source has none.
        source: where the bytes came from.
        preprocessing: what was done to them, in words.
        sha256: of the bytes of ``X`` (float64, row by row) followed by those of ``labels`` (int64), little-endian.
    """

    name: str
    X: Array
    labels: Labels | None
    source: str
    preprocessing: str
    sha256: str

    @property
    def n(self) -> int:
        """The number of samples."""
        return len(self.X)

    @property
    def p(self) -> int:
        """The number of features."""
        return int(self.X.shape[1])


@dataclass(frozen=True)
class _Raw:
    """The samples of a source before any is chosen: images stay bytes, an eighth of their size as float64."""

    X: NDArray[Any]
    labels: NDArray[Any] | None
    source: str


@dataclass(frozen=True)
class _Files:
    """A set that lives in files: their SHA-256, where they are downloaded from, and how they are read."""

    base_url: str
    sha256: dict[str, str]
    read: Callable[[list[Path]], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
    size: str
    system_folder: Path | None = None
    package: str | None = None


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of an IDX file of bytes, gzipped or not (the format of MNIST).

    Format: two zero bytes, the type (8 = unsigned byte), the number of dimensions, each dimension as a big-endian
    32-bit integer, then the values, the last index running fastest.

    Raises:
        DataError: unreadable, another magic number, another number of dimensions, too few or too many bytes.
    """
    with _reading(path, "IDX"):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic:
        raise DataError(
            f"{path} is not an IDX file of bytes in {dimensions} dimension(s): expected it to begin with "
            f"{magic.hex()}, got {content[:4].hex() or 'an empty file'}"
        )
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(content[k : k + 4], "big") for k in range(4, header, 4))
    if len(content) != header + math.prod(shape):
        raise DataError(
            f"{path} is truncated or damaged: its header announces {math.prod(shape)} values, it holds "
            f"{max(len(content) - header, 0)}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_cifar10(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The training set of CIFAR-10 from the archive of its binary version: pixels (n, 3072) and labels (n,).

    Format: five files data_batch_k.bin of records of 3073 bytes, the label and then 1024 red, green and blue values.

    Raises:
        DataError: unreadable, a batch missing, a size that is no multiple of 3073, a label above 9.
    """
    batches = []
    with _reading(path, "CIFAR-10 binary archive"), tarfile.open(path) as archive:
        for name in _CIFAR_BATCHES:
            member = archive.extractfile(name)
            if member is None:
                raise DataError(f"{path} is not the CIFAR-10 binary archive: {name} in it is not a file")
            batches.append(member.read())
    for name, batch in zip(_CIFAR_BATCHES, batches, strict=True):
        if not batch or len(batch) % (_CIFAR_PIXELS + 1):
            raise DataError(
                f"{path} is truncated or damaged: {name} has {len(batch)} bytes, expected a multiple of "
                f"{_CIFAR_PIXELS + 1}; fetch it again"
            )
    records = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, _CIFAR_PIXELS + 1)
    if records[:, 0].max() > 9:
        raise DataError(f"{path} is damaged: a label of {records[:, 0].max()}, expected 0 ... 9; fetch it again")
    return records[:, 1:], records[:, 0]


def _read_images(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if len(images) != len(labels):
        raise DataError(f"{paths[0]} holds {len(images)} images, but {paths[1]} holds {len(labels)} labels")
    return images.reshape(len(images), math.prod(images.shape[1:])), labels


_FILES = {
    "fashion-mnist": _Files(
        base_url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        sha256={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        },
        read=_read_images,
        size="26 MB",
        system_folder=Path("/usr/share/datasets/fashion-mnist"),
        package="dataset-fashion-mnist",
    ),
    "mnist": _Files(
        base_url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        sha256={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        },
        read=_read_images,
        size="10 MB",
    ),
    "cifar10": _Files(
        base_url="https://www.cs.toronto.edu/~kriz/",
        sha256={"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        read=lambda paths: read_cifar10(paths[0]),
        size="170 MB",
    ),
}

DATASETS: tuple[str, ...] = ("digits", *_FILES)


def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    n: int | None = None,
    seed: int = 0,
    labels: ArrayLike | str | int | None = None,
    stratified: bool = False,
    require_labels: bool = False,
    normalise: bool = True,
    download: bool = True,
) -> Dataset:
    """Load a named data set or the user's own file, choose samples, centre and scale.

    Names: "digits" (scikit-learn's, 1797 x 64), "fashion-mnist" and "mnist" (training sets, 60000 x 784 raw pixels),
    "cifar10" (training set, 50000 x 3072 raw pixels). Files: .npy (a matrix), .npz (a matrix ``X`` and, if there are
    labels, ``y`` or ``labels``), .csv (comma-separated numbers, a row for each sample). The first row of a .csv is a
    header if none of its cells is a number or one of them is label, labels or y, which then names the column of labels.
    Labels in a .csv may be text, and are then numbered in sorted order.

    With ``normalise``, the convention of the theory (section 7): the mean of the chosen samples is subtracted and the
    result scaled so that the mean of ||x_i||^2 is 1.

    Args:
        name_or_path: a name in ``DATASETS`` or a path.
        n: how many samples to draw without replacement, all if None. They keep the order of the source.
        seed: of the ``numpy.random.Generator`` that draws them; the same seed gives the same samples.
        labels: for a file, its labels (one integer for each of its samples, replacing any it has); for .csv also the
            name or the index (-1: the last) of the column that holds them.
        stratified: draw from every class in proportion to its size.
        require_labels: refuse data without labels or with only one class among the chosen samples.
        normalise: centre and scale.
        download: whether a named set that is not on this machine may be downloaded.

    Raises:
        DataError: an unknown name, a missing, corrupt or truncated file, an object array, NaN or infinity, not a
            matrix, no samples, ``n`` out of range, labels missing or of one class when they are needed, all samples
            equal when they are to be scaled.
        InputError: ``seed`` is not an integer >= 0.
    """
    name = os.fspath(name_or_path)
    if name in DATASETS:
        if labels is not None:
            raise DataError(f"the data set {name!r} has labels of its own: leave the argument labels out")
        raw = _load_named(name, download)
    else:
        raw = _load_file(Path(name), labels)
    classes = None if raw.labels is None else _integer_labels(raw.labels, len(raw.X), name)
    chosen = _choose(len(raw.X), n, seed, classes if stratified else None, name)
    X = data_matrix(raw.X[chosen], name)
    if classes is not None:
        classes = classes[chosen]
    if (require_labels or stratified) and classes is None:
        raise DataError(f"{name} has no labels, but they are needed: pass labels=..., or a file that holds them")
    if require_labels and classes is not None and len(np.unique(classes)) < 2:
        raise DataError(f"the {len(X)} samples chosen from {name} are all of class {classes[0]}, expected two or more")
    steps = [f"{len(X)} of {len(raw.X)} samples" + (f", {_drawn(seed, stratified)}" if n is not None else "")]
    if normalise:
        X = _normalise(X, name)
        steps.append("centred by their mean, scaled so that the mean of ||x||^2 is 1")
    return _dataset(name, X, classes, raw.source, "; ".join(steps))


def available() -> dict[str, str]:
    """Each named data set with a sentence on where it is, or how to get it. Nothing is downloaded."""
    states = {"digits": "embedded in scikit-learn"}
    for name, files in _FILES.items():
        paths = _find(name, files)
        remedy = f"downloaded on first use ({files.size})"
        if files.package:
            remedy += f", or apt-get install {files.package}"
        states[name] = f"in {paths[0].parent}" if paths else f"not on this machine: {remedy}"
    return states


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Turn what a reader raises into one sentence."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: check the path") from error
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason:
            raise DataError(
                f"{path} holds Python objects, which are never unpickled: save an array of numbers"
            ) from error
        raise DataError(f"{path} cannot be read as {kind}, it is damaged or of another format ({reason})") from error


def _load_named(name: str, download: bool) -> _Raw:
    if name == "digits":
        pixels, digits = _optional("sklearn.datasets", "scikit-learn").load_digits(return_X_y=True)
        return _Raw(np.asarray(pixels), np.asarray(digits), "scikit-learn, load_digits")
    files = _FILES[name]
    paths = _find(name, files) or _fetch(name, files, download)
    pixels, digits = files.read(paths)
    return _Raw(pixels, digits, ", ".join(str(path) for path in paths))


def _optional(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DataError(f"named data sets need {package}: pip install 'equikernel[validation]'") from error


def _cache(name: str) -> Path:
    return Path(_optional("pooch", "pooch").os_cache("equikernel")) / name


def _find(name: str, files: _Files) -> list[Path]:
    """The paths of the files of a set in the first folder that has them all, [] if none has.

    A file that the user or the system's package manager put there is taken at its word (its format is checked when it
    is read); one in the cache counts only with the right SHA-256, since only a download can have put it there.
    """
    given = os.environ.get("EQUIKERNEL_DATA")
    trusted = [Path(given).expanduser() / name] if given else []
    if files.system_folder:
        trusted.append(files.system_folder)
    for folder in trusted:
        paths = [folder / file for file in files.sha256]
        if all(path.is_file() for path in paths):
            return paths
    paths = [_cache(name) / file for file in files.sha256]
    if all(path.is_file() and _file_sha256(path) == files.sha256[path.name] for path in paths):
        return paths
    return []


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch(name: str, files: _Files, download: bool) -> list[Path]:
    by_hand = f"put {' and '.join(files.sha256)} in $EQUIKERNEL_DATA/{name}"
    if files.package:
        by_hand += f", or apt-get install {files.package}"
    if not download:
        raise DataError(f"the data set {name!r} is not on this machine: allow the download, {by_hand}")
    pooch = _optional("pooch", "pooch")
    pooch.get_logger().setLevel("WARNING")
    try:
        return [
            Path(pooch.retrieve(files.base_url + file, known_hash=digest, fname=file, path=_cache(name)))
            for file, digest in files.sha256.items()
        ]
    except (OSError, ValueError) as error:  # no connection (requests' errors are OSErrors); another hash
        raise DataError(
            f"the data set {name!r} is not on this machine and could not be downloaded from {files.base_url} "
            f"({type(error).__name__}): check the connection, {by_hand}"
        ) from error


def _load_file(path: Path, labels: ArrayLike | str | int | None) -> _Raw:
    if path.suffix.lower() not in {".npy", ".npz", ".csv"}:
        raise DataError(
            f"unknown data {str(path)!r}: expected a name ({', '.join(DATASETS)}) or a .npy, .npz or .csv file"
        )
    own: NDArray[Any] | None
    if path.suffix.lower() == ".csv":
        column = labels if isinstance(labels, (str, int)) else None
        with _reading(path, "a .csv file"), path.open(newline="", encoding="utf-8-sig") as stream:
            X, own = _parse_csv(list(csv.reader(stream, strict=True)), column, path)
        labels = None if column is not None else labels
    else:
        X, own = _load_numpy(path)
    if isinstance(labels, (str, int)):
        raise DataError(f"labels={labels!r} names a column, which only a .csv file has: pass the labels of {path}")
    return _Raw(data_matrix(X, str(path)), own if labels is None else np.asarray(labels), str(path))


def _load_numpy(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    # Opened here: np.load leaves a file that it opened and could not read to the garbage collector.
    with _reading(path, "an array file of NumPy"), path.open("rb") as stream:
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


def _integer_labels(labels: NDArray[Any], n: int, name: str) -> Labels:
    if labels.shape != (n,):
        raise DataError(f"the labels of {name} must have the shape ({n},), one for each sample, got {labels.shape}")
    whole = labels.dtype.kind in "biu" or (
        # Up to 2^53 a float64 that is whole names one integer; comparisons with NaN are false.
        labels.dtype.kind == "f" and bool(np.all((np.abs(labels) <= 2**53) & (labels == np.rint(labels))))
    )
    if not whole:
        raise DataError(f"the labels of {name} must be integers, got values of type {labels.dtype} that are not")
    return labels.astype(np.int64)


def _choose(total: int, n: int | None, seed: int, classes: Labels | None, name: str) -> NDArray[np.intp]:
    """The indices of the samples to keep, in increasing order."""
    if n is None:
        return np.arange(total)
    if not is_integer(n, 1) or n > total:
        raise DataError(f"{name} has {total} samples, asked for n = {n}: choose n from 1 to {total}, or leave it out")
    generator = seeded_generator(seed)
    if classes is None:
        return np.sort(generator.choice(total, n, replace=False))
    _, index, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    drawn = [
        generator.choice(np.flatnonzero(index == a), count, replace=False)
        for a, count in enumerate(class_counts(n, sizes / total))
    ]
    return np.sort(np.concatenate(drawn))


def _drawn(seed: int, stratified: bool) -> str:
    return f"drawn {'class by class' if stratified else 'at random'} with seed {seed}"


def _normalise(X: Array, name: str) -> Array:
    # Dividing by the largest entry first keeps the squares of huge values finite and those of tiny ones above zero.
    X = X / (np.abs(X).max() or 1.0)
    X -= X.mean(axis=0)
    scale = math.sqrt(np.vdot(X, X) / len(X))
    # The mean of n entries of size <= 1 is rounded by up to n * eps, which is all that is left of equal samples.
    if scale <= len(X) * np.finfo(float).eps * math.sqrt(X.shape[1]):
        raise DataError(
            f"the {len(X)} samples chosen from {name} are equal, so they cannot be scaled: choose ones that differ"
        )
    X /= scale
    return X


def _dataset(name: str, X: Array, labels: Labels | None, source: str, preprocessing: str) -> Dataset:
    digest = hashlib.sha256(np.ascontiguousarray(X, "<f8").data)
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, "<i8").data)
        labels.setflags(write=False)
    X.setflags(write=False)
    return Dataset(name, X, labels, source, preprocessing, digest.hexdigest())
