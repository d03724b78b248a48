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

__all__ = ["file_sha256", "optional", "reading", "user_folder"]

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
