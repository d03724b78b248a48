"""What activations without a SymPy expression have in common: they are evaluated, and nothing is derived from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy as sp

from equikernel.errors import InputError
from equikernel.theory.activation import Activation
from equikernel.theory.piecewise import Piece

__all__ = ["ValuesOnly", "any_shape"]

FloatArray = npt.NDArray[np.float64]


class ValuesOnly(Activation):
    """An activation that has values and no expression; everything symbolic raises what ``_no_expression`` makes.

    Two are equal when they are of one class and have the same ``_key``.
    """

    @property
    def _key(self) -> tuple[Any, ...]:
        """What tells it from others of its class, hashable."""
        raise NotImplementedError

    def _no_expression(self) -> InputError:
        """The error of everything symbolic: what it is, and how to give it otherwise."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ValuesOnly) and type(self) is type(other) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def expr(self) -> sp.Expr:
        # everything symbolic begins with the expression or its pieces
        raise self._no_expression()

    @property
    def pieces(self) -> tuple[Piece, ...]:  # type: ignore[override]  # likewise
        raise self._no_expression()

    @property
    def has_expression(self) -> bool:
        return False

    @cached_property
    def has_algebraic_breakpoints(self) -> bool:
        """False: they are refused, or there are none."""
        return False


def any_shape(function: Callable[[FloatArray], FloatArray]) -> Callable[[Any], Any]:
    """A function of arrays (n,) as one of float64 numbers and arrays of any shape."""

    def evaluate(x: Any) -> Any:
        array = np.asarray(x, dtype=np.float64)
        result = function(array.ravel()).reshape(array.shape)
        return float(result) if array.ndim == 0 else result

    return evaluate
