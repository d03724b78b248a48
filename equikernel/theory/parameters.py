"""Parameters of an activation, declared in a line of text: "a, c>0"."""

from __future__ import annotations

import re

import sympy as sp

from equikernel.errors import ParseError

__all__ = ["declared_parameters"]

_DECLARATION = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*(?:([<>])\s*0)?\s*")
_ASSUMPTIONS = {None: {"real": True}, ">": {"positive": True}, "<": {"negative": True}}
_MOST = 20


def declared_parameters(text: str) -> dict[str, sp.Symbol]:
    """Real symbols by name from ``"a, c>0, b<0"``: a name, and its sign where breakpoints depend on it.

    Raises:
        ParseError: something else, a name twice, or more than 20 names.
    """
    symbols: dict[str, sp.Symbol] = {}
    parts = text.split(",") if text.strip() else []
    if len(parts) > _MOST:
        raise ParseError(f"expected at most {_MOST} parameters, got {len(parts)}")
    for part in parts:
        found = _DECLARATION.fullmatch(part)
        if found is None or found[1] in symbols:
            raise ParseError(
                f"expected parameters as in 'a, c>0, b<0', each name once; got {ascii(part.strip())[:60]} in the list"
            )
        symbols[found[1]] = sp.Symbol(found[1], **_ASSUMPTIONS[found[2]])
    return symbols
