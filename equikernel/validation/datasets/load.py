"""``load_dataset``: samples of a named set or of a file, as one matrix with samples in rows, and where it came from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import DataError
from equikernel.numerics.data import data_matrix
from equikernel.validation.datasets.formats import require_part
from equikernel.validation.datasets.named import DATASETS, load_named
from equikernel.validation.datasets.samples import (
    RawSamples,
    centre_and_scale,
    choose,
    digest,
    drawn,
    freeze,
    integer_labels,
    require_two_classes,
)
from equikernel.validation.datasets.user_files import load_file
from equikernel.validation.mixtures import seeded_generator

__all__ = ["Dataset", "load_dataset", "load_raw"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


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


def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    n: int | None = None,
    seed: int = 0,
    part: str = "train",
    labels: ArrayLike | str | int | None = None,
    stratified: bool = False,
    require_labels: bool = False,
    normalise: bool = True,
    download: bool = True,
) -> Dataset:
    """Load a named data set or the user's own file, choose samples, centre and scale.

    Names: "digits" (scikit-learn's, 1797 x 64), "fashion-mnist" and "mnist" (raw pixels, training sets of 60000 x 784,
    test sets of 10000), "cifar10" (raw pixels, training set of 50000 x 3072, test set of 10000). Files: .npy (a
    matrix), .npz (a matrix ``X`` and, if there are labels, ``y`` or ``labels``), .csv (comma-separated numbers, a row
    for each sample). The first row of a .csv is a header if none of its cells is a number or one of them is label,
    labels or y, which then names the column of labels. Labels in a .csv may be text, and are then numbered in sorted
    order.

    With ``normalise``, the convention of the theory (section 7): the mean of the chosen samples is subtracted and the
    result scaled so that the mean of ||x_i||^2 is 1. For training and test samples in one scale there is
    ``load_split``.

    Args:
        name_or_path: a name in ``DATASETS`` or a path.
        n: how many samples to draw without replacement, all if None. They keep the order of the source.
        seed: of the ``numpy.random.Generator`` that draws them; the same seed gives the same samples.
        part: of a named set, "train" or "test".
        labels: for a file, its labels (one integer for each of its samples, replacing any it has); for .csv also the
            name or the index (-1: the last) of the column that holds them.
        stratified: draw from every class in proportion to its size.
        require_labels: refuse data without labels or with only one class among the chosen samples.
        normalise: centre and scale.
        download: whether a named set that is not on this machine may be downloaded.

    Raises:
        DataError: an unknown name, a missing, corrupt or truncated file, an object array, NaN or infinity, not a
            matrix, no samples, ``n`` out of range, labels missing or of one class when they are needed, all samples
            equal when they are to be scaled, a test set asked of what has none.
        InputError: ``seed`` is not an integer >= 0, or ``part`` is unknown.
    """
    name = os.fspath(name_or_path)
    raw = load_raw(name, part=part, labels=labels, download=download)
    classes = None if raw.labels is None else integer_labels(raw.labels, len(raw.X), name)
    if (stratified or require_labels) and classes is None:
        raise DataError(f"{name} has no labels, but they are needed: pass labels=..., or a file that holds them")
    total = len(raw.X)
    chosen = np.arange(total)
    if n is not None:
        chosen = choose(n, total, seeded_generator(seed), classes if stratified else None, name)
    X = data_matrix(raw.X[chosen], name)
    if classes is not None:
        classes = classes[chosen]
        if require_labels:
            require_two_classes(classes, f"the {len(X)} samples chosen from {name}")
    steps = [f"{len(X)} of {total} samples" + (f", {drawn(seed, stratified)}" if n is not None else "")]
    if normalise:
        centre_and_scale(X, name)
        steps.append("centred by their mean, scaled so that the mean of ||x||^2 is 1")
    freeze(X, classes)
    return Dataset(name, X, classes, raw.source, "; ".join(steps), digest(X, classes))


def load_raw(
    name: str, *, part: str = "train", labels: ArrayLike | str | int | None = None, download: bool = True
) -> RawSamples:
    """All samples of a named set or of a file, as they are; the arguments are those of ``load_dataset``."""
    require_part(part)
    if name in DATASETS:
        if labels is not None:
            raise DataError(f"the data set {name!r} has labels of its own: leave the argument labels out")
        return load_named(name, part, download=download)
    if part != "train":
        raise DataError(f"{name} is no named set with a test set of its own: load_split holds samples out")
    return load_file(Path(name), labels)
