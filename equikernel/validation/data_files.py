"""Files of data on this machine: where the user keeps them, their digests, and readers that fail in one sentence."""

from __future__ import annotations

import csv
import hashlib
import importlib
import os
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equikernel.errors import DataError

__all__ = ["cache_folder", "file_sha256", "optional", "reading", "retrieve", "user_folder"]

_POOCH = "named data sets need pooch"
# What the readers of the standard library and of NumPy raise on a file that is not what its name says. NumPy reads a
# damaged header with Python's tokenizer, and can be asked by it for an absurd amount of memory.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, MemoryError),
    *(csv.Error, tarfile.TarError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def user_folder(name: str) -> Path | None:
    """``$EQUIKERNEL_DATA/name``, whether it exists or not; None if the variable is not set."""
    given = os.environ.get("EQUIKERNEL_DATA")
    return Path(given).expanduser() / name if given else None


def cache_folder(name: str) -> Path:
    """Where the downloads of a data set are kept, whether they are there or not.

    Raises:
        DataError: pooch is not installed.
    """
    return Path(optional("pooch", _POOCH).os_cache("equikernel")) / name


def retrieve(base_url: str, sha256: dict[str, str], name: str, *, wanted: str, by_hand: str) -> list[Path]:
    """Download files into the cache and check them.

    Args:
        base_url: what the names of the files are put behind.
        sha256: name of a file -> its digest.
        name: of the data set.
        wanted: what is wanted, for messages.
        by_hand: how else to get it, likewise.

    Raises:
        DataError: no connection, another digest, or pooch is not installed.
    """
    pooch = optional("pooch", _POOCH)
    pooch.get_logger().setLevel("WARNING")
    try:
        return [
            Path(pooch.retrieve(base_url + file, known_hash=known, fname=file, path=cache_folder(name)))
            for file, known in sha256.items()
        ]
    except (OSError, ValueError) as error:  # no connection (requests' errors are OSErrors); another hash
        raise DataError(
            f"{wanted} is not on this machine and could not be downloaded from {base_url} "
            f"({type(error).__name__}): check the connection, {by_hand}"
        ) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn what a reader raises into one sentence.

    Raises:
        DataError: the file is missing, unreadable, damaged, or holds pickled objects.
    """
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


def optional(module: str, wanted: str) -> Any:
    """A module that ``pip install 'equikernel[validation]'`` brings.

    Args:
        module: its name, such as "sklearn.datasets".
        wanted: the beginning of the sentence: what needs which package.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DataError(f"{wanted}: pip install 'equikernel[validation]'") from error
