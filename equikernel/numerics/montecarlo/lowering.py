"""An activation as tables of numbers, from which compiled loops evaluate phi and phi' on blocks of arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import sympy as sp

from equikernel.numerics.arithmetic import FLOAT64
from equikernel.theory.activation import Activation
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.program import Program

__all__ = ["OPERATIONS", "Lines", "Steps", "lower"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_MOST_BREAKS = 4  # a loop is compiled for every number of breakpoints up to this

OPERATIONS = (
    *("add", "mul", "div", "neg", "powr", "sqrt"),
    *("exp", "expm1", "sigmoid", "log", "log1p", "softplus", "log_cosh"),
    *("tanh", "sech2", "sinh", "cosh", "asinh", "erf", "erfc"),
    *("sin", "cos", "tan", "atan"),
)


class Lines(NamedTuple):
    """A piecewise linear phi: slopes[k] x + heights[k] between breaks[k - 1] and breaks[k]; at least one break.

    Its derivative is zeros[k] x + slopes[k].
    """

    breaks: tuple[float, ...]
    slopes: tuple[float, ...]
    heights: tuple[float, ...]
    zeros: tuple[float, ...]


class Steps(NamedTuple):
    """A piecewise phi as programs on rows of numbers. Row 0 is x, the next ones hold constants, the rest is free.

    Attributes:
        breaks: breakpoints, (K,).
        constants: what rows 1, ..., C are filled with, (C,).
        steps: operation (index into OPERATIONS), rows of its two arguments (the same twice for functions of one) and
            row of its result, (S, 4).
        results: the rows of phi and of phi' (or again of phi) for every piece, (K + 1, 2).
        rows: number of rows; the last four take the result where there is more than one piece.
    """

    breaks: FloatArray
    constants: FloatArray
    steps: IntArray
    results: IntArray
    rows: int


@lru_cache(maxsize=256)
def lower(activation: Activation, slope: bool) -> Lines | Steps:
    """The tables of an activation, of phi' too if ``slope``: straight lines where they do, and steps otherwise."""
    return _lines(activation) or _steps(activation, slope)


def _lines(activation: Activation) -> Lines | None:
    slopes = activation.derivative_program.programs
    if not all(p.is_constant for p in slopes) or len(activation.breakpoints) > _MOST_BREAKS:
        return None
    arithmetic = mp_arithmetic(40)
    zero = arithmetic.context.zero
    breaks = tuple(float(b) for b in activation.breakpoints)
    rises, heights = (
        tuple(float(p.run(arithmetic, zero)) for p in programs) for programs in (slopes, activation.program.programs)
    )
    if not breaks:
        breaks, rises, heights = (math.inf,), rises * 2, heights * 2
    return Lines(breaks, rises, heights, (0.0,) * len(rises))


def _steps(activation: Activation, slope: bool) -> Steps:
    recorder = _Recorder()
    recorded = [recorder.piece(p, slope) for p in activation.program.programs]
    rows = _Rows(1 + len(recorder.constants))
    steps, results = [], []
    for piece, names in recorded:
        steps += rows.assigned(piece, names)
        results.append([rows.of(name) for name in names])
    return Steps(
        np.array([float(b) for b in activation.breakpoints]),
        np.array(list(recorder.constants)),
        np.array(steps, dtype=np.int64).reshape(-1, 4),
        np.array(results, dtype=np.int64),
        rows.count + 4,
    )


_Recorded = tuple[str, int, int, int]  # operation, names of its arguments, name of its result


class _Recorder:
    """An arithmetic whose numbers are names: to run a program in it is to write down its steps.

    0 is x, positive names are constants, negative ones results.
    """

    def __init__(self) -> None:
        self.constants: dict[float, int] = {}
        self._steps: list[_Recorded] = []

    def piece(self, program: Program, slope: bool) -> tuple[list[_Recorded], tuple[int, int]]:
        """The steps of one program, and the names of its value and of its derivative (or the value again)."""
        self._steps = []
        if not slope:
            value = program.run(self, 0)
            return self._steps, (value, value)
        both, at, slope_at = program.with_derivative
        values = both.trace(self, 0)
        return self._steps, (values[at], values[slope_at])

    def _record(self, operation: str, a: int, b: int) -> int:
        result = -1 - len(self._steps)
        self._steps.append((operation, a, b, result))
        return result

    def constant(self, value: sp.Expr) -> int:
        return self.constants.setdefault(FLOAT64.constant(value), 1 + len(self.constants))

    def unary(self, name: str) -> Callable[[int], int]:
        return lambda a: self._record(name, a, a)

    def add(self, a: int, b: int) -> int:
        return self._record("add", a, b)

    def mul(self, a: int, b: int) -> int:
        return self._record("mul", a, b)

    def div(self, a: int, b: int) -> int:
        return self._record("div", a, b)

    def neg(self, a: int) -> int:
        return self._record("neg", a, a)

    def powr(self, a: int, exponent: int) -> int:
        return self._record("powr", a, exponent)

    def powi(self, a: int, n: int) -> int:
        """a^n, n > 0, by repeated squaring."""
        if n == 1:
            return a
        root = self.powi(self.mul(a, a), n // 2)
        return self.mul(root, a) if n % 2 else root

    def fill(self, x: int, value: int) -> int:
        return value


class _Rows:
    """Rows for the results of steps, used again when a result is not needed any more; those of a piece stay."""

    def __init__(self, first: int) -> None:
        self.count = first
        self._row: dict[int, int] = {}
        self._free: list[int] = []

    def of(self, name: int) -> int:
        return self._row[name] if name < 0 else name

    def assigned(self, piece: list[_Recorded], results: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        """The steps of one piece with rows in place of names."""
        last = {name: k for k, (_, a, b, _) in enumerate(piece) for name in (a, b)}
        steps = []
        for k, (operation, a, b, result) in enumerate(piece):
            # taken before the arguments' rows are given back: a loop that overwrites its argument is slower
            self._row[result] = self._free.pop() if self._free else self._new()
            steps.append((OPERATIONS.index(operation), self.of(a), self.of(b), self.of(result)))
            self._free += [self.of(name) for name in {a, b} - set(results) if name < 0 and last[name] == k]
        return steps

    def _new(self) -> int:
        self.count += 1
        return self.count - 1
