"""``load_split``: training and test samples in one scale, for training networks and for kernel regression."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import DataError
from equikernel.numerics.data import data_matrix
from equikernel.validation.datasets.load import load_raw
from equikernel.validation.datasets.named import has_test_set
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
from equikernel.validation.features import extract, require_front_end
from equikernel.validation.mixtures import seeded_generator

__all__ = ["LabelledSamples", "Split", "load_split"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

_DEFAULT_TRAIN = 10_000
_TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class LabelledSamples:
    """Samples in rows and their classes.

    Attributes:
        X: (n, p) float64, read-only.
        labels: (n,) integers 0 ... K-1, read-only.
    """

    X: Array
    labels: Labels

    @property
    def n(self) -> int:
        """The number of samples."""
        return len(self.X)


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test samples, and where they come from.

    Attributes:
        name: the name or the path that was asked for.
        train: samples, after the front end and in the scale of the training samples.
        test: likewise.
        classes: K, their number.
        class_labels: (K,), the labels of the source in increasing order: ``labels`` counts them from 0.
        front_end: what made the features, in words: to be named in every table.
        preprocessing: which samples were drawn and how they were scaled, in words.
        sha256: of the bytes of the training samples as they are in the source, of their labels there, and of those of
            the test samples (float64 row by row, int64, little-endian). It does not know front end and scale, whose
            last bits differ between machines.
        source: where the bytes came from.
    """

    name: str
    train: LabelledSamples
    test: LabelledSamples
    classes: int
    class_labels: tuple[int, ...]
    front_end: str
    preprocessing: str
    sha256: str
    source: str

    @property
    def p(self) -> int:
        """The number of features."""
        return int(self.train.X.shape[1])


@dataclass(frozen=True, eq=False)
class _Chosen:
    """One side of a split before the front end: samples as they are in the source, which, and how they were drawn."""

    X: Array
    labels: Labels
    indices: NDArray[np.intp]
    words: str


@dataclass(frozen=True)
class _Draw:
    """How the samples of a split are drawn."""

    name: str
    seed: int
    generator: np.random.Generator

    def choose(
        self,
        raw: RawSamples,
        n: int,
        argument: str,
        *,
        holder: str,
        stratified: bool,
        among: NDArray[np.intp] | None = None,
    ) -> _Chosen:
        """``n`` of the samples with the indices ``among``, of all if None; the other arguments as of ``choose``."""
        labels = _labels(raw, self.name)
        among = np.arange(len(labels)) if among is None else among
        chosen = among[
            choose(n, len(among), self.generator, labels[among] if stratified else None, holder, argument=argument)
        ]
        words = f"{n} of {len(among)} samples" + (f", {drawn(self.seed, stratified)}" if n < len(among) else "")
        return _Chosen(data_matrix(raw.X[chosen], self.name), labels[chosen], chosen, words)


def load_split(
    name_or_path: str | os.PathLike[str],
    *,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    front_end: str = "pixels",
    stratified: bool = False,
    labels: ArrayLike | str | int | None = None,
    download: bool = True,
) -> Split:
    """Training and test samples of a named set or of a file.

    "fashion-mnist", "mnist" and "cifar10" give samples of their own test sets. Of "digits" and of a file, test
    samples are held out, drawn class by class; they depend on ``seed`` and ``test``, not on ``train``.

    Formula: x -> (x - mean)/s, with the mean of the training samples and s such that their mean of ||x_i||^2 becomes
    1 (theory, section 7); the test samples take the same map, so that theirs is 1 only about. So it is for the front
    ends: what they fit, they fit on the training samples.

    Args:
        name_or_path: a name in ``DATASETS`` or the path of a .npy, .npz or .csv file with labels.
        train: how many training samples to draw; None: 10000, or all if there are fewer.
        test: how many test samples to draw; None: the whole test set, or a fifth of the samples to be held out.
        seed: of these draws, and of the filters of "random-conv-D". For a named set with a test set,
            ``load_dataset`` draws the same training samples with it.
        front_end: "pixels", "pca-D", "random-conv-D" or "vgg16", with a number in the place of D; see
            ``equikernel.validation.features``.
        stratified: draw from every class in proportion to its size, wherever samples are drawn.
        labels: as of ``load_dataset``.
        download: whether a named set that is not on this machine may be downloaded.

    Raises:
        DataError: as ``load_dataset``; no labels, or another number of them than of samples; more samples asked for
            than there are; training samples of one class only; a class in the test samples that is not in the
            training samples; another number of features in the test set; a front end that does not suit the data, or
            whose package or weights are missing.
        InputError: ``seed`` is not an integer >= 0, or an unknown front end.
    """
    name = os.fspath(name_or_path)
    require_front_end(front_end)
    draw = _Draw(name, seed, seeded_generator(seed))
    raw = load_raw(name, labels=labels, download=download)
    if has_test_set(name):
        tested = load_raw(name, part="test", download=download)
        first, second = _draw_both(draw, raw, tested, (train, test), stratified)
        sources = [raw.source, tested.source]
    else:
        first, second = _hold_out(draw, raw, (train, test), stratified)
        sources = [raw.source]
    class_labels, numbered = _number_classes(name, first.labels, second.labels)
    sha256 = digest(first.X, first.labels, second.X, second.labels)
    features = extract(front_end, first.X, second.X, image=raw.image, seed=seed, name=name)
    centre_and_scale(features.train, name, features.test)
    freeze(features.train, features.test, *numbered)
    words = "centred by the mean of the training samples, scaled so that their mean of ||x||^2 is 1"
    return Split(
        name=name,
        train=LabelledSamples(features.train, numbered[0]),
        test=LabelledSamples(features.test, numbered[1]),
        classes=len(class_labels),
        class_labels=class_labels,
        front_end=features.description,
        preprocessing=f"training: {first.words}; test: {second.words}; {words}",
        sha256=sha256,
        source=", ".join(dict.fromkeys(sources)),
    )


def _labels(raw: RawSamples, name: str) -> Labels:
    if raw.labels is None:
        raise DataError(f"{name} has no labels, but they are needed: pass labels=..., or a file that holds them")
    return integer_labels(raw.labels, len(raw.X), name)


def _draw_both(
    draw: _Draw, train: RawSamples, test: RawSamples, sizes: tuple[int | None, int | None], stratified: bool
) -> tuple[_Chosen, _Chosen]:
    """Samples of a training set and of a test set of its own."""
    if train.X.shape[1] != test.X.shape[1]:
        raise DataError(
            f"the training samples of {draw.name} have {train.X.shape[1]} features, but its test samples "
            f"{test.X.shape[1]}: {train.source} and {test.source} do not belong together"
        )
    n = min(len(train.X), _DEFAULT_TRAIN) if sizes[0] is None else sizes[0]
    held = len(test.X) if sizes[1] is None else sizes[1]
    return (
        draw.choose(train, n, "train", holder=f"the training set of {draw.name}", stratified=stratified),
        draw.choose(test, held, "test", holder=f"the test set of {draw.name}", stratified=stratified),
    )


def _hold_out(
    draw: _Draw, raw: RawSamples, sizes: tuple[int | None, int | None], stratified: bool
) -> tuple[_Chosen, _Chosen]:
    """Test samples held out of one set, and training samples of what is left."""
    total = len(raw.X)
    if total < 2:
        raise DataError(f"{draw.name} has {total} sample, but a split needs one to train and one to test: add samples")
    held = max(1, round(_TEST_FRACTION * total)) if sizes[1] is None else sizes[1]
    if held == total:
        raise DataError(f"test = {held} leaves none of the {total} samples of {draw.name} for training: choose fewer")
    test = draw.choose(raw, held, "test", holder=draw.name, stratified=True)
    rest = np.setdiff1d(np.arange(total), test.indices)
    n = min(len(rest), _DEFAULT_TRAIN) if sizes[0] is None else sizes[0]
    holder = f"{draw.name} without its {held} test samples"
    return draw.choose(raw, n, "train", holder=holder, stratified=stratified, among=rest), test


def _number_classes(name: str, train: Labels, test: Labels) -> tuple[tuple[int, ...], tuple[Labels, Labels]]:
    """The classes of the training samples, and both label vectors with them numbered 0 ... K-1."""
    require_two_classes(train, f"the {len(train)} training samples of {name}")
    classes = np.unique(train)
    unseen = np.setdiff1d(test, classes)
    if len(unseen):
        raise DataError(
            f"class {unseen[0]} of the test samples of {name} is not among its {len(train)} training samples: draw "
            "more of them, or stratified, or leave the class out"
        )
    return tuple(classes.tolist()), (np.searchsorted(classes, train), np.searchsorted(classes, test))
