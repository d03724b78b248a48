"""What every source of samples becomes, how some of them are chosen, and the scale of the theory."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import DataError
from equikernel.numerics.data import data_matrix
from equikernel.validation.features import ImageFormat
from equikernel.validation.mixtures import class_counts, is_integer

__all__ = [
    "RawSamples",
    "centre_and_scale",
    "choose",
    "digest",
    "drawn",
    "freeze",
    "integer_labels",
    "require_two_classes",
]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RawSamples:
    """The samples of a source before any is chosen: images stay bytes, an eighth of their size as float64.

    Attributes:
        X: (n, p). labels: (n,) or None.
        source: where the bytes came from.
        image: how a row is an image, None if it is none or that is not known.
    """

    X: NDArray[Any]
    labels: NDArray[Any] | None
    source: str
    image: ImageFormat | None = None


def integer_labels(labels: NDArray[Any], n: int, name: str) -> Labels:
    """Labels as int64, one for each of the n samples.

    Raises:
        DataError: another number of them, or values that are no integers.
    """
    if labels.shape != (n,):
        raise DataError(f"the labels of {name} must have the shape ({n},), one for each sample, got {labels.shape}")
    whole = labels.dtype.kind in "biu" or (
        # Up to 2^53 a float64 that is whole names one integer; comparisons with NaN are false.
        labels.dtype.kind == "f" and bool(np.all((np.abs(labels) <= 2**53) & (labels == np.rint(labels))))
    )
    if not whole:
        raise DataError(f"the labels of {name} must be integers, got values of type {labels.dtype} that are not")
    return labels.astype(np.int64)


def require_two_classes(classes: Labels, what: str) -> None:
    """Refuse labels that are all the same.

    Raises:
        DataError: they are; ``what`` says whose.
    """
    if len(np.unique(classes)) < 2:
        raise DataError(f"{what} are all of class {classes[0]}, expected two or more")


def choose(
    n: int, total: int, generator: np.random.Generator, classes: Labels | None, holder: str, argument: str = "n"
) -> NDArray[np.intp]:
    """``n`` indices out of 0 ... total - 1 without replacement, in increasing order.

    Args:
        n: how many.
        total: of how many.
        generator: draws them.
        classes: (total,) labels to draw from in proportion to the sizes of the classes, or None.
        holder: what has the samples, in errors.
        argument: what ``n`` is called there.

    Raises:
        DataError: ``n`` is not an integer from 1 to ``total``.
    """
    if not is_integer(n, 1) or n > total:
        raise DataError(
            f"{holder} has {total} samples, asked for {argument} = {n}: choose {argument} from 1 to {total}, "
            "or leave it out"
        )
    if classes is None:
        return np.sort(generator.choice(total, n, replace=False))
    _, index, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    chosen = [
        generator.choice(np.flatnonzero(index == a), count, replace=False)
        for a, count in enumerate(class_counts(n, sizes / total))
    ]
    return np.sort(np.concatenate(chosen))


def drawn(seed: int, stratified: bool) -> str:
    """How samples were drawn, in words."""
    return f"drawn {'class by class' if stratified else 'at random'} with seed {seed}"


def centre_and_scale(X: Array, name: str, test: Array | None = None) -> None:
    """Centre and scale in place: x -> (x - mean)/s, with the mean of ``X`` and s such that its mean ||x||^2 becomes 1.

    Args:
        X: (n, p), whose mean and scale are taken.
        name: what to call the data in errors.
        test: (n', p), which takes the same map.

    Raises:
        DataError: all rows of ``X`` are equal, or ``test`` overflows in its scale.
    """
    # Dividing by the largest entry first keeps the squares of huge values finite and those of tiny ones above zero.
    unit = np.abs(X).max() or 1.0
    X /= unit
    mean = X.mean(axis=0)
    X -= mean
    scale = math.sqrt(np.vdot(X, X) / len(X))
    # The mean of n entries of size <= 1 is rounded by up to n * eps, which is all that is left of equal samples.
    if scale <= len(X) * np.finfo(float).eps * math.sqrt(X.shape[1]):
        raise DataError(
            f"the {len(X)} samples chosen from {name} are equal, so they cannot be scaled: choose ones that differ"
        )
    X /= scale
    if test is not None:
        with np.errstate(over="ignore"):
            test /= unit
            test -= mean
            test /= scale
        data_matrix(test, f"the test set of {name}, in the scale of its training samples,")


def digest(*arrays: Array | Labels | None) -> str:
    """SHA-256 of the bytes of the arrays, one after the other: floats as float64, integers as int64, little-endian."""
    sha256 = hashlib.sha256()
    for array in arrays:
        if array is not None:
            sha256.update(np.ascontiguousarray(array, "<f8" if array.dtype.kind == "f" else "<i8").data)
    return sha256.hexdigest()


def freeze(*arrays: Array | Labels | None) -> None:
    """Make arrays read-only."""
    for array in arrays:
        if array is not None:
            array.setflags(write=False)
