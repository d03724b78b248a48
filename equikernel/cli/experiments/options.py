"""Options that the experiments share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from equikernel.cli.output import write

__all__ = ["Data", "Device", "Out", "Seeds", "Threads", "all_threads", "seeds_from", "tell"]

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the results.")]
Seeds = Annotated[int, typer.Option("--seeds", metavar="N", min=3, help="How many seeds, 3 or more: --seed and up.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="gmm|NAME|FILE", help="Mixtures, a data set or a file; may be repeated."),
]
Device = Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where networks are computed.")]
Threads = Annotated[
    int, typer.Option("--threads", metavar="N", min=0, help="Threads of the linear algebra; 0: all cores.")
]


def seeds_from(seed: int, count: int) -> tuple[int, ...]:
    """``count`` seeds from ``seed`` on."""
    return tuple(range(seed, seed + count))


def all_threads(threads: int) -> int:
    """The number itself, or that of the machine's cores for 0."""
    return threads or os.cpu_count() or 1


def tell(out: Path, remarks: tuple[str, ...]) -> None:
    """What an experiment has to say, and where its summary is."""
    for remark in remarks:
        write(remark)
    write(str(out / "summary.md"))
