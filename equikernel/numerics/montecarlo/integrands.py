"""What is averaged: an activation as compiled tables, or any object's NumPy functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from equikernel.errors import InputError
from equikernel.numerics.montecarlo.lowering import Lines, lower
from equikernel.numerics.montecarlo.machine import (
    add_lines,
    add_lines_of_stream,
    add_products,
    add_steps,
    add_steps_of_stream,
)
from equikernel.numerics.montecarlo.normals import fill_normals
from equikernel.theory.activation import Activation

__all__ = ["Compiled", "Functions", "HasFunctions", "Integrand", "PointArray"]

FloatArray = npt.NDArray[np.float64]
PointArray = npt.NDArray[np.floating[Any]]
_BLOCK = 8192  # numbers a call of a NumPy function: many enough for its overhead, few enough for the cache


class HasFunctions(Protocol):
    """An activation as far as Monte Carlo is concerned: ``function("numpy")`` and ``derivative("numpy")``."""

    def function(self, arithmetic: str) -> Callable[[Any], Any]: ...
    def derivative(self, arithmetic: str) -> Callable[[Any], Any]: ...


class Integrand(Protocol):
    """Terms to be summed.

    ``add(pairs, points, sums)`` adds the terms of all points, (3, n), to the sums of all pairs, (P, 6), as
    ``machine.add_steps`` does; ``add_stream(pairs, key, first, last, sums)`` adds those of pairs ``first`` up to
    ``last`` of a stream of normals. ``parallel`` says whether several threads may do so at once.
    """

    parallel: bool

    def add(self, pairs: FloatArray, points: PointArray, sums: FloatArray) -> None: ...
    def add_stream(self, pairs: FloatArray, key: np.uint64, first: int, last: int, sums: FloatArray) -> None: ...


class Compiled:
    """An activation in compiled loops; the variances of its pairs must be positive."""

    parallel = True

    def __init__(self, activation: Activation, slope: bool) -> None:
        self._tables = lower(activation, slope)
        self._slope = slope

    def add(self, pairs: FloatArray, points: PointArray, sums: FloatArray) -> None:
        if isinstance(self._tables, Lines):
            add_lines(self._tables, self._slope, pairs, points, sums)
        else:
            add_steps(self._tables, self._slope, pairs, points, sums)

    def add_stream(self, pairs: FloatArray, key: np.uint64, first: int, last: int, sums: FloatArray) -> None:
        if isinstance(self._tables, Lines):
            add_lines_of_stream(self._tables, self._slope, pairs, key, first, last, sums)
        else:
            add_steps_of_stream(self._tables, self._slope, pairs, key, first, last, sums)


class Functions:
    """phi, and phi' or None, as functions of arrays."""

    parallel = False  # nobody knows what they do

    def __init__(self, phi: Callable[[Any], Any], slope: Callable[[Any], Any] | None) -> None:
        self._phi = phi
        self._slope = slope

    def add(self, pairs: FloatArray, points: PointArray, sums: FloatArray) -> None:
        for start in range(0, points.shape[1], _BLOCK):
            a, b, weight = points[:, start : start + _BLOCK]
            for (r, s, t, centre), row in zip(pairs, sums, strict=True):
                u, v = r * a, s * a + t * b
                add_products(weight, _values(self._phi, u), _values(self._phi, v), centre, row[:3])
                if self._slope is not None:
                    add_products(weight, _values(self._slope, u), _values(self._slope, v), 0.0, row[3:])

    def add_stream(self, pairs: FloatArray, key: np.uint64, first: int, last: int, sums: FloatArray) -> None:
        for start in range(first, last, _BLOCK):
            points = np.ones((3, min(_BLOCK, last - start)))
            fill_normals(key, start, points[0], points[1])
            self.add(pairs, points, sums)


def _values(function: Callable[[Any], Any], x: FloatArray) -> FloatArray:
    values = np.ascontiguousarray(function(x), dtype=np.float64)
    if values.shape != x.shape:
        raise InputError(
            f"the activation's NumPy function must return an array of the shape of its argument, {x.shape}; got "
            f"{values.shape}"
        )
    return values
