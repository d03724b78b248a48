"""The file formats of the named sets: IDX (MNIST) and the binary version of CIFAR-10. Nothing is ever unpickled."""

from __future__ import annotations

import gzip
import math
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import DataError, InputError
from equikernel.validation.data_files import reading

__all__ = ["CIFAR_SHAPE", "PARTS", "read_cifar10", "read_idx", "read_images", "require_part"]

Bytes = NDArray[np.uint8]

PARTS = ("train", "test")
CIFAR_SHAPE = (3, 32, 32)
_CIFAR_PIXELS = math.prod(CIFAR_SHAPE)
_CIFAR_FILES = {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)}


def require_part(part: str) -> None:
    """Refuse what is neither "train" nor "test".

    Raises:
        InputError: it is neither.
    """
    if part not in PARTS:
        raise InputError(f"part must be one of {', '.join(PARTS)}, got {part!r}")


def read_idx(path: Path, dimensions: int) -> Bytes:
    """The array of an IDX file of bytes, gzipped or not (the format of MNIST).

    Format: two zero bytes, the type (8 = unsigned byte), the number of dimensions, each dimension as a big-endian
    32-bit integer, then the values, the last index running fastest.

    Raises:
        DataError: unreadable, another magic number, another number of dimensions, too few or too many bytes.
    """
    with reading(path, "IDX"):
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


def read_images(images: Path, labels: Path) -> tuple[Bytes, Bytes]:
    """Grey images (n, height, width) and their labels (n,), from two IDX files.

    Raises:
        DataError: as ``read_idx``, or another number of labels than of images.
    """
    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(classes):
        raise DataError(f"{images} holds {len(pixels)} images, but {labels} holds {len(classes)} labels")
    return pixels, classes


def read_cifar10(path: Path, part: str = "train") -> tuple[Bytes, Bytes]:
    """CIFAR-10 from the archive of its binary version: pixels (n, 3072) and labels (n,).

    Format: five files data_batch_k.bin (training) and test_batch.bin of records of 3073 bytes, the label and then
    1024 red, green and blue values, row by row.

    Args:
        path: the archive, compressed or not.
        part: "train" or "test"; the files of the other part need not be in the archive.

    Raises:
        DataError: unreadable, a batch missing, a size that is no multiple of 3073, a label above 9.
        InputError: an unknown part.
    """
    require_part(part)
    batches = {}
    with reading(path, "CIFAR-10 binary archive"), tarfile.open(path) as archive:
        for file in _CIFAR_FILES[part]:
            name = f"cifar-10-batches-bin/{file}"
            member = archive.extractfile(name)
            if member is None:
                raise DataError(f"{path} is not the CIFAR-10 binary archive: {name} in it is not a file")
            batches[name] = member.read()
    for name, batch in batches.items():
        if not batch or len(batch) % (_CIFAR_PIXELS + 1):
            raise DataError(
                f"{path} is truncated or damaged: {name} has {len(batch)} bytes, expected a multiple of "
                f"{_CIFAR_PIXELS + 1}; fetch it again"
            )
    records = np.frombuffer(b"".join(batches.values()), np.uint8).reshape(-1, _CIFAR_PIXELS + 1)
    if records[:, 0].max() > 9:
        raise DataError(f"{path} is damaged: a label of {records[:, 0].max()}, expected 0 ... 9; fetch it again")
    return records[:, 1:], records[:, 0]
