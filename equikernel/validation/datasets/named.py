"""The named data sets: which files they are, where these are found on this machine, and where they are fetched from.

A set is looked for in ``$EQUIKERNEL_DATA/<name>``, in the folder of a Debian package, and in the download cache, in
this order; only then is it downloaded, and checked against the SHA-256 given here. Training and test files are looked
for apart, and only when they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import DataError
from equikernel.validation.data_files import cache_folder, file_sha256, optional, retrieve, user_folder
from equikernel.validation.datasets.formats import CIFAR_SHAPE, PARTS, read_cifar10, read_images, require_part
from equikernel.validation.datasets.samples import RawSamples
from equikernel.validation.features import ImageFormat

__all__ = ["DATASETS", "available", "has_test_set", "load_named"]

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class _Part:
    """The training or the test set: its files with their SHA-256, and their size, in words."""

    sha256: dict[str, str]
    size: str


@dataclass(frozen=True)
class _NamedSet:
    """A set that lives in files: where they are downloaded from, and how they are read.

    Attributes:
        read: from the paths of a part and its name, the images (n, height, width) or (n, p) and the labels (n,).
        shape: channels, height, width; None where the files say it themselves.
    """

    base_url: str
    parts: dict[str, _Part]
    read: Callable[[list[Path], str], tuple[Bytes, Bytes]]
    shape: tuple[int, int, int] | None = None
    system_folder: Path | None = None
    package: str | None = None


def _mnist_parts(digests: tuple[str, str, str, str], sizes: tuple[str, str]) -> dict[str, _Part]:
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    files = list(zip(names, digests, strict=True))
    return {"train": _Part(dict(files[:2]), sizes[0]), "test": _Part(dict(files[2:]), sizes[1])}


_CIFAR_ARCHIVE = _Part(
    {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"}, "170 MB"
)

_SETS = {
    "fashion-mnist": _NamedSet(
        base_url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        parts=_mnist_parts(
            (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
            ("26 MB", "4 MB"),
        ),
        read=lambda paths, _: read_images(*paths),
        system_folder=Path("/usr/share/datasets/fashion-mnist"),
        package="dataset-fashion-mnist",
    ),
    "mnist": _NamedSet(
        base_url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        parts=_mnist_parts(
            (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
            ("10 MB", "2 MB"),
        ),
        read=lambda paths, _: read_images(*paths),
    ),
    "cifar10": _NamedSet(
        base_url="https://www.cs.toronto.edu/~kriz/",
        parts=dict.fromkeys(PARTS, _CIFAR_ARCHIVE),
        read=lambda paths, part: read_cifar10(paths[0], part),
        shape=CIFAR_SHAPE,
    ),
}

DATASETS: tuple[str, ...] = ("digits", *_SETS)


def has_test_set(name: str) -> bool:
    """Whether a name is that of a set that comes with test samples."""
    return name in _SETS


def load_named(name: str, part: str = "train", *, download: bool = True) -> RawSamples:
    """The samples of a named set, all of them, as they are in its files.

    Args:
        name: one of ``DATASETS``.
        part: "train" or "test"; "digits" has no test set.
        download: whether files that are not on this machine may be downloaded.

    Raises:
        DataError: not on this machine and not downloaded; corrupt or truncated; no test set.
        InputError: an unknown part.
    """
    require_part(part)
    if name == "digits":
        if part == "test":
            raise DataError("digits has no test set of its own: load_split holds some of its samples out")
        pixels, digits = optional("sklearn.datasets", "named data sets need scikit-learn").load_digits(return_X_y=True)
        return RawSamples(
            np.asarray(pixels), np.asarray(digits), "scikit-learn, load_digits", ImageFormat(1, 8, 8, 16.0)
        )
    named = _SETS[name]
    paths = _find(name, named, part) or _fetch(name, named, part, download)
    images, labels = named.read(paths, part)
    channels, height, width = named.shape or (1, *images.shape[1:])
    X = images.reshape(len(images), channels * height * width)
    return RawSamples(X, labels, ", ".join(map(str, paths)), ImageFormat(channels, height, width, 255.0))


def available() -> dict[str, str]:
    """Each named data set with a sentence on where it is, or how to get it. Nothing is downloaded."""
    states = {"digits": "embedded in scikit-learn"}
    for name, named in _SETS.items():
        train, test = (_find(name, named, part) for part in PARTS)
        if not train:
            states[name] = f"not on this machine: {_remedy(named, 'train')}"
        elif not test:
            states[name] = f"in {train[0].parent}, without the test set: {_remedy(named, 'test')}"
        else:
            states[name] = f"in {train[0].parent}"
    return states


def _remedy(named: _NamedSet, part: str) -> str:
    packaged = f", or apt-get install {named.package}" if named.package else ""
    return f"downloaded on first use ({named.parts[part].size}){packaged}"


def _find(name: str, named: _NamedSet, part: str) -> list[Path]:
    """The paths of the files of a part in the first folder that has them all, gzipped or not; [] if none has.

    A file that the user or the system's package manager put there is taken at its word (its format is checked when it
    is read); one in the cache counts only with the right SHA-256, since only a download can have put it there.
    """
    sha256 = named.parts[part].sha256
    for folder in (user_folder(name), named.system_folder):
        if folder is not None:
            paths = [path if path.is_file() else path.with_suffix("") for path in map(folder.joinpath, sha256)]
            if all(map(Path.is_file, paths)):
                return paths
    cached = {cache_folder(name) / file: known for file, known in sha256.items()}
    return list(cached) if all(path.is_file() and file_sha256(path) == cached[path] for path in cached) else []


def _fetch(name: str, named: _NamedSet, part: str, download: bool) -> list[Path]:
    sha256 = named.parts[part].sha256
    by_hand = f"put {' and '.join(sha256)} in $EQUIKERNEL_DATA/{name}"
    if named.package:
        by_hand += f", or apt-get install {named.package}"
    wanted = f"the data set {name!r}" if part == "train" else f"the test set of {name!r}"
    if not download:
        raise DataError(f"{wanted} is not on this machine: allow the download, {by_hand}")
    return retrieve(named.base_url, sha256, name, wanted=wanted, by_hand=by_hand)
