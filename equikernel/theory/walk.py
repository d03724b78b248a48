"""Expressions evaluated by walking them, each subexpression once, in an arithmetic given by its functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import sympy as sp

__all__ = ["Walk"]


@lru_cache(maxsize=100_000)
def _symbols(expr: sp.Expr) -> frozenset[sp.Symbol]:
    """The symbols of an expression; the same expressions are walked again and again, and SymPy walks them for this."""
    return frozenset(expr.free_symbols)


class Walk:
    """A function from SymPy expressions to the numbers of an arithmetic; values of symbols are given.

    Args:
        values: symbol -> number.
        functions: SymPy class -> function of numbers.
        constant: an expression without the given symbols -> number.
    """

    def __init__(
        self,
        values: Mapping[sp.Symbol, Any],
        functions: Mapping[type, Callable[..., Any]],
        constant: Callable[[sp.Expr], Any],
    ) -> None:
        self._known: dict[sp.Expr, Any] = dict(values)
        self._symbols = frozenset(values)
        self._functions = functions
        self._constant = constant

    def __call__(self, expr: sp.Expr) -> Any:
        value = self._known.get(expr)
        if value is None:
            value = self._known[expr] = self._value(expr)
        return value

    def _value(self, expr: sp.Expr) -> Any:
        if not _symbols(expr) & self._symbols:
            return self._constant(expr)
        if expr.is_Add or expr.is_Mul:
            first, *others = self._args(expr)
            for other in others:
                first = first + other if expr.is_Add else first * other
            return first
        if expr.is_Pow:
            return self._power(expr)
        return self._functions[expr.func](*self._args(expr))

    def _power(self, expr: sp.Pow) -> Any:
        base, exponent = self(expr.base), expr.exp
        if exponent.is_Integer:
            return base ** int(exponent)
        if (2 * exponent).is_Integer:
            return self._functions[sp.sqrt](base) ** int(2 * exponent)
        return self._functions[sp.exp](self(exponent) * self._functions[sp.log](base))

    def _args(self, expr: sp.Expr) -> Iterator[Any]:
        return (self(argument) for argument in expr.args)
