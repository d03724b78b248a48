"""What of a kernel on disk is done: a problem, then one line for every block, written after the block's own data.

A run may end at any moment, at the last byte of a line too: a line counts when it is whole. The problem is written to a
file of its own first, which then takes the manifest's name, so that a manifest always has one.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from equikernel.errors import InputError
from equikernel.numerics.kernels.plan import Place

__all__ = ["BlockRecord", "Manifest"]

_NAME = "manifest.jsonl"


@dataclass(frozen=True)
class BlockRecord:
    """A block that is on the disk.

    Attributes:
        place: which block, counted down and across.
        pairs: number of pairs by method.
        error_bound: the largest bound of what the methods may err by in it.
        seconds: what solving it took.
        worker: the process that did.
    """

    place: Place
    pairs: dict[str, int]
    error_bound: float
    seconds: float
    worker: str


class Manifest:
    """The record of one problem in one folder.

    Attributes:
        done: the blocks that are on the disk.
    """

    def __init__(self, path: Path, done: dict[Place, BlockRecord]) -> None:
        self.path = path
        self.done = done

    @classmethod
    def start(cls, folder: Path, problem: dict[str, Any]) -> Manifest:
        """A manifest without blocks; replaces the folder's old one."""
        path = folder / _NAME
        _replace(path, [problem])
        return cls(path, {})

    @classmethod
    def resume(cls, folder: Path, problem: dict[str, Any]) -> Manifest | None:
        """The folder's manifest, or None.

        Raises:
            InputError: the manifest is of another problem, or it cannot be read.
        """
        path = folder / _NAME
        if not path.exists():
            return None
        lines = _whole_lines(path)
        _require_same(folder, lines[0], problem)
        records = [BlockRecord(**{**line, "place": tuple(line["place"])}) for line in lines[1:]]
        _replace(path, lines)  # without what a killed run left of its last line
        return cls(path, {record.place: record for record in records})

    def add(self, record: BlockRecord) -> None:
        """Record a block whose data are on the disk."""
        with self.path.open("ab", buffering=0) as file:
            file.write(_line(asdict(record)))
            os.fsync(file.fileno())
        self.done[record.place] = record


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The manifest's lines, without a last one that has no end."""
    *lines, _ = path.read_bytes().split(b"\n")
    try:
        found = [json.loads(line) for line in lines]
        valid = bool(found) and all(isinstance(line, dict) for line in found)
    except ValueError:
        valid = False
    if not valid:
        raise InputError(f"{path} is not a manifest of stream_kernels: choose another folder, or remove it")
    return found


def _replace(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write a manifest that is there as a whole or not at all."""
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        file.writelines(_line(line) for line in lines)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _require_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            raise InputError(
                f"{folder} holds blocks of another problem (its {name} is {_short(found.get(name))}, not "
                f"{_short(value)}): choose another folder, or pass resume=False to overwrite it"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:40]}..."
