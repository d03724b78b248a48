"""Files written all at once or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from equikernel.errors import InputError

__all__ = ["PARTIAL", "atomic_file", "require_folder", "write_text"]

PARTIAL = ".part"  # ends the name of a file that is being written


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, moved onto it on success and removed on failure.

    Raises:
        InputError: the folder cannot be created or written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        require_folder(path.parent)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror or error}): choose another place") from error
    finally:
        with suppress(OSError):  # gone already, or its folder never was
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_folder(path: Path) -> Path:
    """Create the folder ``path`` and those above it, if they are not there.

    Raises:
        InputError: a file is in the way, or permission is missing.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {path} ({error.strerror or error}): choose another one") from error
    return path
