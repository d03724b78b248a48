"""Expressions in messages: short enough to be read."""

from __future__ import annotations

from typing import Any

__all__ = ["brief"]

_LONGEST = 90


def brief(expression: Any) -> str:
    """An expression as text, the middle left out where it is longer than a line."""
    text = str(expression)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 30]} ... {text[-25:]}"
