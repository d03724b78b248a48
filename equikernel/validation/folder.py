"""What a folder of results holds beside its figures: tables, numbers, and how they came about."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from equikernel.numerics.files import write_text
from equikernel.validation.store import package_versions, source_digest
from equikernel.validation.tables import LATEX_PREAMBLE, Table

__all__ = ["run_manifest", "write_json", "write_tables"]

_WRITING_PACKAGES = ("jinja2", "matplotlib", "pandas", "tabulate")


def write_json(path: Path, record: dict[str, Any]) -> None:
    """A JSON file, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_tables(tables: Sequence[Table], folder: Path) -> None:
    """Every table as NAME.tex, NAME.md and NAME.csv, and all_tables.tex, a document that inputs them all."""
    for table in tables:
        for suffix, style in (("tex", "latex"), ("md", "markdown"), ("csv", "csv")):
            write_text(folder / f"{table.name}.{suffix}", table.render(style))
    inputs = "\n".join(rf"\input{{{table.name}.tex}}" for table in tables)
    write_text(folder / "all_tables.tex", f"{LATEX_PREAMBLE}\n\\begin{{document}}\n{inputs}\n\\end{{document}}\n")


def run_manifest(parameters: dict[str, Any], units: int, seconds: float) -> dict[str, Any]:
    """How the results came about: versions, seeds, parameters, times, platform."""
    return {
        "equikernel": metadata.version("equikernel"),
        "source_sha256": source_digest(),
        "versions": package_versions() | {name: metadata.version(name) for name in _WRITING_PACKAGES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "parameters": parameters,
        "units_of_work": units,
        "wall_time_seconds": round(seconds, 3),
        "wall_time_note": "of the run that finished; work/*.json hold the seconds each unit took",
    }
