"""Front ends: maps of raw samples to the features that networks and kernels see, fitted on training samples only.

- ``pixels``: the values as they are.
- ``pca-D``: the D leading principal components.
- ``random-conv-D``: random filters on whitened patches, rectified and averaged over the quadrants of an image, after
  Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning" (AISTATS 2011).
- ``vgg16``: the last maps of torchvision's VGG-16 with its ImageNet weights, frozen.

None of them centres or scales for the theory: ``load_split`` does that to what comes out.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import DataError, InputError
from equikernel.validation.data_files import file_sha256, optional, user_folder
from equikernel.validation.mixtures import seeded_generator

__all__ = ["FRONT_ENDS", "Features", "FilterBank", "ImageFormat", "extract", "network_features", "require_front_end"]

Array = NDArray[np.float64]
Images = NDArray[np.float32]

FRONT_ENDS: tuple[str, ...] = ("pixels", "pca-D", "random-conv-D", "vgg16")

_QUADRANTS = 4
# Coates, Lee and Ng add 10 to the variance of a patch with values 0 ... 255, and 0.1 to the eigenvalues of the
# covariance of patches of unit variance.
_CONTRAST_FLOOR = np.float32(10 / 255**2)
_WHITENING_FLOOR = 0.1
_PATCHES = 50_000  # for a covariance of at most 108 x 108
_BLOCK = 2**20  # entries of the largest array of a block of images: 4 MB, which stays in the cache

_VGG16_FILE = "vgg16-397923af.pth"
_VGG16_SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
_VGG16_SIDE = 32  # five halvings need 32 pixels
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_INSTEAD = 'or take the front end "random-conv-4000" or "pca-512"'


@dataclass(frozen=True)
class ImageFormat:
    """How a row of p = channels * height * width values is an image: channel by channel, row by row, 0 ... peak."""

    channels: int
    height: int
    width: int
    peak: float

    def images(self, X: NDArray[Any]) -> Images:
        """(n, channels, height, width), the values scaled to 0 ... 1."""
        return (X / np.float32(self.peak)).astype(np.float32).reshape(-1, self.channels, self.height, self.width)


@dataclass(frozen=True, eq=False)
class Features:
    """What a front end made of the samples.

    Attributes:
        train: (n, D). test: (n', D).
        description: the front end in words, with its parameters, for tables.
    """

    train: Array
    test: Array
    description: str


def require_front_end(front_end: str) -> tuple[str, int]:
    """The kind of a front end and its D (0 for one without), such as ("pca", 256).

    Raises:
        InputError: not one of ``FRONT_ENDS``, D not a positive integer, or, for random-conv, no multiple of 4.
    """
    if front_end in {"pixels", "vgg16"}:
        return front_end, 0
    named = re.fullmatch(r"(pca|random-conv)-([1-9][0-9]{0,6})", str(front_end))
    if named is None:
        raise InputError(
            f"unknown front end {front_end!r}: expected one of {', '.join(FRONT_ENDS)}, with D the number of "
            'features, as in "pca-256" or "random-conv-2048"'
        )
    kind, D = named[1], int(named[2])
    if kind == "random-conv" and D % _QUADRANTS:
        raise InputError(
            f"{front_end} averages every filter over {_QUADRANTS} quadrants, so D must be a multiple of "
            f"{_QUADRANTS}, got {D}: take random-conv-{D + _QUADRANTS - D % _QUADRANTS}"
        )
    return kind, D


def extract(
    front_end: str, train: Array, test: Array, *, image: ImageFormat | None = None, seed: int = 0, name: str = "X"
) -> Features:
    """The features of training and test samples, by a map that is fitted on the training samples alone.

    Args:
        front_end: one of ``FRONT_ENDS``, with a number in the place of D.
        train: (n, p).
        test: (n', p).
        image: how a sample is an image; None if it is none.
        seed: of the filters of random-conv, an integer >= 0.
        name: what to call the data in errors.

    Raises:
        InputError: as ``require_front_end``, or ``seed`` is not an integer >= 0.
        DataError: more principal components than min(n, p); a front end for images on what is none, or on too small
            ones; a package or the weights of VGG-16 missing.
    """
    kind, D = require_front_end(front_end)
    if kind == "pixels":
        return Features(train, test, f"{'raw features' if image is None else 'raw pixels'} (p = {train.shape[1]})")
    if kind == "pca":
        return _principal_components(train, test, D, name)
    if image is None:
        raise DataError(
            f'the front end "{front_end}" is for images, and {name} is not known to hold any: take "pixels" or "pca-D"'
        )
    if kind == "random-conv":
        return _random_convolutions(train, test, D, image, seed, name)
    network = _vgg16()
    described = f"VGG-16 features (torchvision, ImageNet weights {_VGG16_SHA256[:8]}, frozen; {{}} averaged maps)"
    maps = [network_features(network, X, image) for X in (train, test)]
    return Features(maps[0], maps[1], described.format(maps[0].shape[1]))


def _principal_components(train: Array, test: Array, D: int, name: str) -> Features:
    n, p = train.shape
    if min(n, p) < D:
        raise DataError(
            f"{name} has {n} training samples of {p} features, which have at most {min(n, p)} principal components, "
            f"got pca-{D}: take pca-{min(n, p)} or fewer"
        )
    decomposition = optional("sklearn.decomposition", 'the front end "pca-D" needs scikit-learn')
    # Both solvers are exact and draw no random numbers; each is the cheaper one for its shape.
    pca = decomposition.PCA(D, svd_solver="covariance_eigh" if n >= p else "full")
    unit = np.abs(train).max() or 1.0  # keeps squares finite
    pca.fit(train / unit)
    features = [np.ascontiguousarray(pca.transform(X / unit)) for X in (train, test)]
    return Features(features[0], features[1], f"principal components (D = {D}, fitted on {n} training samples)")


@dataclass(frozen=True, eq=False)
class FilterBank:
    """Filters on the contrast-normalised patches of an image, whitening included.

    Formula: for a patch x of k = channels * side^2 values, u = (x - mean x)/sqrt(var x + 10/255^2); the response of
    filter j is max(0, w_j . (u - m)), and the features are its means over the positions in each quadrant. Here
    w_j = C^{-1/2} f_j with f_j uniform on the sphere, and m and C - I/10 are the mean and the covariance of the u of
    randomly chosen training patches.

    Attributes:
        side: of a patch, in pixels; patches are taken at every position.
        weights: (k, number of filters), the w_j. offset: (number of filters,), the w_j . m.
    """

    side: int
    weights: Images
    offset: Images

    @staticmethod
    def fit(images: Images, filters: int, generator: np.random.Generator) -> FilterBank:
        """Draw ``filters`` filters, for 6 x 6 patches, or 3 x 3 if the images are smaller than 16 pixels.

        Args:
            images: (n, channels, height, width), the training images, with values from 0 to 1.
            filters: how many.
            generator: of the patches and of the filters.
        """
        side = 6 if min(images.shape[2:]) >= 16 else 3
        patches = _patches(images, side)
        n, rows, columns = patches.shape[:3]
        places = tuple(generator.integers(0, extent, _PATCHES) for extent in (n, rows, columns))
        u = _normalised(patches[places]).astype(np.float64)
        centre = u.mean(axis=0)
        eigenvalues, vectors = np.linalg.eigh((u - centre).T @ (u - centre) / len(u))
        whitening = (vectors / np.sqrt(np.maximum(eigenvalues, 0) + _WHITENING_FLOOR)) @ vectors.T
        directions = generator.standard_normal((u.shape[1], filters))
        weights = whitening @ (directions / np.linalg.norm(directions, axis=0))
        return FilterBank(side, weights.astype(np.float32), (centre @ weights).astype(np.float32))

    def __call__(self, images: Images) -> Array:
        """The features (n, 4 * number of filters), the quadrants one after the other: top left, top right, bottom."""
        patches = _patches(images, self.side)
        pooling = _pooling(*patches.shape[1:3])
        block = max(1, _BLOCK // (pooling.shape[1] * max(self.weights.shape)))
        pooled = [self._pooled(patches[k : k + block], pooling) for k in range(0, len(patches), block)]
        return np.concatenate(pooled).astype(np.float64)

    def _pooled(self, patches: Images, pooling: Images) -> Images:
        responses = _normalised(patches) @ self.weights
        responses -= self.offset
        np.maximum(responses, 0, out=responses)
        means: Images = pooling @ responses.reshape(len(patches), pooling.shape[1], -1)
        return means.reshape(len(patches), -1)


def _random_convolutions(train: Array, test: Array, D: int, image: ImageFormat, seed: int, name: str) -> Features:
    if min(image.height, image.width) < 4:
        raise DataError(
            f"{name} holds images of {image.height} x {image.width} pixels, but random-conv-{D} needs 4 x 4 or more: "
            'take "pixels" or "pca-D"'
        )
    bank = FilterBank.fit(image.images(train), D // _QUADRANTS, seeded_generator(seed))
    described = f"random convolutional features (D = {D}, patches {bank.side}x{bank.side}, seed {seed})"
    return Features(bank(image.images(train)), bank(image.images(test)), described)


def _patches(images: Images, side: int) -> Images:
    """A view (n, rows, columns, channels, side, side) of the patches at every position."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5)


def _normalised(patches: Images) -> Images:
    """The u = (x - mean x)/sqrt(var x + 10/255^2) of each patch x, one in a row."""
    x = patches.reshape(-1, math.prod(patches.shape[-3:]))
    u: Images = x - x.mean(axis=1, keepdims=True)
    u /= np.sqrt(np.einsum("ij,ij->i", u, u)[:, np.newaxis] / np.float32(u.shape[1]) + _CONTRAST_FLOOR)
    return u


def _pooling(rows: int, columns: int) -> Images:
    """(4, rows * columns): the matrix that averages over the quadrants of a grid; odd ones are cut after the middle."""
    lower, right = np.arange(rows) >= (rows + 1) // 2, np.arange(columns) >= (columns + 1) // 2
    quadrant = (2 * lower[:, np.newaxis] + right).ravel()
    inside = (quadrant == np.arange(_QUADRANTS)[:, np.newaxis]).astype(np.float32)
    means: Images = inside / inside.sum(axis=1, keepdims=True)
    return means


def network_features(network: Callable[[Any], Any], X: Array, image: ImageFormat, batch: int = 256) -> Array:
    """The last maps (n, D, ., .) of a convolutional network in torch, averaged over positions: (n, D).

    Images are scaled to 0 ... 1, grey ones repeated in three channels, ones below 32 x 32 pixels enlarged to that
    (bilinear), and normalised as those of ImageNet; larger ones keep their size.

    Args:
        network: a module, or any function of a float32 tensor (n, 3, height, width); no gradients are taken.
        X: (n, p).
        image: how a row is an image.
        batch: how many images at a time.
    """
    torch = optional("torch", "this front end needs torch")
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_STD))
    maps = []
    with torch.no_grad():
        for start in range(0, len(X), batch):
            x = torch.from_numpy(image.images(X[start : start + batch])).expand(-1, 3, -1, -1)
            if min(x.shape[2:]) < _VGG16_SIDE:
                x = torch.nn.functional.interpolate(x, (_VGG16_SIDE, _VGG16_SIDE), mode="bilinear", align_corners=False)
            maps.append(network((x - mean) / std).mean(dim=(2, 3)).double().numpy())
    return np.concatenate(maps)


def _vgg16() -> Any:
    """The convolutional layers of torchvision's VGG-16 with its weights, in evaluation mode."""
    torch = optional("torch", 'the front end "vgg16" needs torch')
    try:
        models = importlib.import_module("torchvision.models")
    except (ImportError, OSError, RuntimeError) as error:  # the last two: built for another version of torch
        raise DataError(
            f'the front end "vgg16" needs torchvision, as built for torch {torch.__version__} '
            f"({type(error).__name__}): pip install torchvision, {_INSTEAD}"
        ) from error
    network = models.vgg16(weights=None, init_weights=False)
    network.load_state_dict(torch.load(_vgg16_weights(torch), map_location="cpu", weights_only=True))
    return network.features.eval()


def _vgg16_weights(torch: Any) -> Path:
    """The file of weights: of the user, or in the cache of torch.hub; only bytes with the known SHA-256 are read."""
    given = user_folder("vgg16")
    found = sorted(given.glob("*.pth")) if given else []
    cached = Path(torch.hub.get_dir()) / "checkpoints" / _VGG16_FILE
    found += [cached] if cached.is_file() else []
    for path in found:
        if file_sha256(path) == _VGG16_SHA256:
            return path
    here = f"not those expected in {', '.join(map(str, found))}" if found else "not on this machine"
    raise DataError(
        f"the weights of VGG-16 are {here}: put torchvision's {_VGG16_FILE} (SHA-256 {_VGG16_SHA256}) in "
        f"$EQUIKERNEL_DATA/vgg16, {_INSTEAD}"
    )
