"""What commands print: lines, one JSON object, tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["number", "write", "write_json", "write_table"]


def number(value: Any, digits: int) -> str:
    """A float to so many digits, a decimal string as it is, a dash for None."""
    return "—" if value is None else value if isinstance(value, str) else f"{value:.{digits}g}"


def write(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")


def write_json(record: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    write(json.dumps(record, allow_nan=False))


def write_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal, or 160 columns in a pipe; cells are folded, never cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table()
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    write(title)
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160).print(shown)
