"""Compiled loops over blocks of points: phi(u), phi(v), and the sums of their weighted products.

A block is so short that its rows stay in the first-level cache; a loop over it is a few hundred vector instructions.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from equikernel.numerics.montecarlo import elementary
from equikernel.numerics.montecarlo.lowering import OPERATIONS
from equikernel.numerics.montecarlo.normals import fill_normals

__all__ = ["SUMS", "add_lines", "add_lines_of_stream", "add_products", "add_steps", "add_steps_of_stream"]

SUMS = 6  # of w f, (w f)^2 and |w f| for f = (phi(u) - centre)(phi(v) - centre), and the same for f = phi'(u) phi'(v)
_BLOCK = 1024
_STREAMED = 8192  # pairs of normals made at once

_compiled = numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
# the terms of a sum may be added in any order: several partial sums, one for each place of a vector
_summing = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})

_ADD, _MUL, _DIV, _NEG, _POWR, _SQRT = (OPERATIONS.index(name) for name in ("add", "mul", "div", "neg", "powr", "sqrt"))
_EXP, _EXPM1, _SIGMOID = (OPERATIONS.index(name) for name in ("exp", "expm1", "sigmoid"))
_LOG, _LOG1P, _SOFTPLUS, _LOG_COSH = (OPERATIONS.index(name) for name in ("log", "log1p", "softplus", "log_cosh"))
_SINH, _COSH, _TANH, _SECH2, _ASINH = (OPERATIONS.index(name) for name in ("sinh", "cosh", "tanh", "sech2", "asinh"))
_ERF, _ERFC = OPERATIONS.index("erf"), OPERATIONS.index("erfc")
_SIN, _COS, _TAN, _ATAN = (OPERATIONS.index(name) for name in ("sin", "cos", "tan", "atan"))
_LAST_OF_ALGEBRA, _LAST_EXPONENTIAL, _LAST_HYPERBOLIC = _SQRT, _LOG_COSH, _ERFC


@numba.njit(error_model="numpy", forceinline=True)
def _apply(function: Any, x: Any, out: Any) -> None:
    """Fill ``out`` with function(x), number by number."""
    for k in range(out.size):
        out[k] = function(x[k])


@_compiled
def _algebra(operation: int, a: Any, b: Any, out: Any) -> None:
    """The operations of arithmetic on rows."""
    if operation == _ADD:
        for k in range(out.size):
            out[k] = a[k] + b[k]
    elif operation == _MUL:
        for k in range(out.size):
            out[k] = a[k] * b[k]
    elif operation == _DIV:
        for k in range(out.size):
            out[k] = a[k] / b[k]
    elif operation == _POWR:
        for k in range(out.size):
            out[k] = elementary.power(a[k], b[k])
    elif operation == _NEG:
        for k in range(out.size):
            out[k] = -a[k]
    elif operation == _SQRT:
        _apply(np.sqrt, a, out)


@_compiled
def _exponential(operation: int, x: Any, out: Any) -> None:
    """Exponentials and logarithms of rows."""
    if operation == _EXP:
        _apply(elementary.exp, x, out)
    elif operation == _EXPM1:
        _apply(elementary.expm1, x, out)
    elif operation == _SIGMOID:
        _apply(elementary.sigmoid, x, out)
    elif operation == _LOG:
        _apply(elementary.log, x, out)
    elif operation == _LOG1P:
        _apply(elementary.log1p, x, out)
    elif operation == _SOFTPLUS:
        _apply(elementary.softplus, x, out)
    elif operation == _LOG_COSH:
        _apply(elementary.log_cosh, x, out)


@_compiled
def _hyperbolic(operation: int, x: Any, out: Any) -> None:
    """Hyperbolic functions and error functions of rows."""
    if operation == _TANH:
        _apply(elementary.tanh, x, out)
    elif operation == _SECH2:
        _apply(elementary.sech2, x, out)
    elif operation == _SINH:
        _apply(elementary.sinh, x, out)
    elif operation == _COSH:
        _apply(elementary.cosh, x, out)
    elif operation == _ASINH:
        _apply(elementary.asinh, x, out)
    elif operation == _ERF:
        _apply(elementary.erf, x, out)
    elif operation == _ERFC:
        _apply(elementary.erfc, x, out)


@_compiled
def _circular(operation: int, x: Any, out: Any) -> None:
    """Functions of angles of rows, and the arc tangent."""
    if operation == _ATAN:
        _apply(elementary.atan, x, out)
    elif not _total_size(x) < elementary.LARGEST_ANGLE:
        _large_angles(operation, x, out)
    elif operation == _SIN:
        _apply(elementary.sin, x, out)
    elif operation == _COS:
        _apply(elementary.cos, x, out)
    elif operation == _TAN:
        _apply(elementary.tan, x, out)


@_summing
def _total_size(x: Any) -> float:
    """The sum of |x|, which bounds the largest |x|."""
    total = 0.0
    for k in range(x.size):
        total += abs(x[k])
    return total


@_compiled
def _large_angles(operation: int, x: Any, out: Any) -> None:
    """The C library's functions of angles, number by number."""
    if operation == _SIN:
        _apply(np.sin, x, out)
    elif operation == _COS:
        _apply(np.cos, x, out)
    elif operation == _TAN:
        _apply(np.tan, x, out)


@_compiled
def _choose(x: Any, at: float, left: Any, right: Any, out: Any) -> None:
    """Fill ``out`` with ``right`` where x > at, and with ``left`` elsewhere."""
    for k in range(out.size):
        # both are loaded: a load that depends on the comparison would be a branch
        on_the_left, on_the_right = left[k], right[k]
        out[k] = on_the_right if x[k] > at else on_the_left


@_compiled
def _evaluate(steps: Any, with_slope: bool, rows: Any) -> tuple[int, int]:
    """The rows of phi and phi' at x = rows[0]: every piece on all of x, then each of them where it belongs."""
    for operation, a, b, out in steps.steps:
        if operation <= _LAST_OF_ALGEBRA:
            _algebra(operation, rows[a], rows[b], rows[out])
        elif operation <= _LAST_EXPONENTIAL:
            _exponential(operation, rows[a], rows[out])
        elif operation <= _LAST_HYPERBOLIC:
            _hyperbolic(operation, rows[a], rows[out])
        else:
            _circular(operation, rows[a], rows[out])
    value, slope = steps.results[0]
    for k in range(steps.breaks.size):
        spare = rows.shape[0] - 4 + 2 * (k % 2)
        _choose(rows[0], steps.breaks[k], rows[value], rows[steps.results[k + 1, 0]], rows[spare])
        value = spare
        if with_slope:
            _choose(rows[0], steps.breaks[k], rows[slope], rows[steps.results[k + 1, 1]], rows[spare + 1])
            slope = spare + 1
    return value, slope


@_summing
def add_products(weight: Any, left: Any, right: Any, centre: float, sums: Any) -> None:
    """Add sum w f, sum (w f)^2 and sum |w f|, f = (left - centre)(right - centre), to three numbers."""
    total, squares, size = 0.0, 0.0, 0.0
    for k in range(weight.size):
        term = weight[k] * ((left[k] - centre) * (right[k] - centre))
        total += term
        squares += term * term
        size += abs(term)
    sums[0] += total
    sums[1] += squares
    sums[2] += size


@_compiled
def _combine(r: float, a: Any, s: float, b: Any, out: Any) -> None:
    """Fill ``out`` with r a + s b."""
    for k in range(out.size):
        out[k] = r * a[k] + s * b[k]


@_summing
def add_steps(steps: Any, with_slope: bool, pairs: Any, points: Any, sums: Any) -> None:
    """Add the terms of all points, (3, n), to the sums of all pairs, (P, 6), for an activation given as steps.

    A row of ``pairs`` holds r, s, t and the centre: u = r a, v = s a + t b.
    """
    a, b, weight = points[0], points[1], points[2]
    width = min(_BLOCK, a.size)
    rows = np.empty((steps.rows, 2 * width))  # u and v side by side
    for k in range(steps.constants.size):
        rows[1 + k] = steps.constants[k]
    for start in range(0, a.size, width):
        n = min(width, a.size - start)  # the rest of a last, shorter block is evaluated but not counted
        block, left, right = slice(start, start + n), slice(0, n), slice(width, width + n)
        for p in range(pairs.shape[0]):
            _combine(pairs[p, 0], a[block], 0.0, b[block], rows[0, left])
            _combine(pairs[p, 1], a[block], pairs[p, 2], b[block], rows[0, right])
            value, slope = _evaluate(steps, with_slope, rows)
            add_products(weight[block], rows[value, left], rows[value, right], pairs[p, 3], sums[p, :3])
            if with_slope:
                add_products(weight[block], rows[slope, left], rows[slope, right], 0.0, sums[p, 3:])


@numba.njit(error_model="numpy", forceinline=True)
def _line(breaks: Any, slopes: Any, heights: Any, x: float) -> Any:
    """slopes[k] x + heights[k] for the k with breaks[k - 1] < x <= breaks[k]."""
    slope, height = slopes[0], heights[0]
    for k in range(len(breaks)):
        right = x > breaks[k]
        slope = slopes[k + 1] if right else slope
        height = heights[k + 1] if right else height
    return slope * x + height


@_summing
def _add_lines_of_pair(lines: Any, pair: Any, centre: float, a: Any, b: Any, weight: Any, sums: Any) -> None:
    """``add_products`` for one pair and lines (breaks, slopes, heights)."""
    breaks, slopes, heights = lines
    r, s, t = pair[0], pair[1], pair[2]
    total, squares, size = 0.0, 0.0, 0.0
    for k in range(a.size):
        left = _line(breaks, slopes, heights, r * a[k])
        right = _line(breaks, slopes, heights, s * a[k] + t * b[k])
        term = weight[k] * ((left - centre) * (right - centre))
        total += term
        squares += term * term
        size += abs(term)
    sums[0] += total
    sums[1] += squares
    sums[2] += size


@_summing
def add_lines(lines: Any, with_slope: bool, pairs: Any, points: Any, sums: Any) -> None:
    """As ``add_steps``, for an activation of straight lines: nothing is stored between a point and the sums."""
    value = lines.breaks, lines.slopes, lines.heights
    slope = lines.breaks, lines.zeros, lines.slopes
    for start in range(0, points.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        a, b, weight = points[0, block], points[1, block], points[2, block]
        for p in range(pairs.shape[0]):
            _add_lines_of_pair(value, pairs[p], pairs[p, 3], a, b, weight, sums[p, :3])
            if with_slope:
                _add_lines_of_pair(slope, pairs[p], 0.0, a, b, weight, sums[p, 3:])


@_compiled
def _stream_points(key: Any, first: int, last: int, points: Any) -> Any:
    """Pairs of normals from number ``first`` on, with weight 1: as many as ``points`` holds, or up to ``last``."""
    if last - first < points.shape[1]:
        points = np.ones((3, last - first))
    fill_normals(key, first, points[0], points[1])
    return points


@_summing
def add_lines_of_stream(lines: Any, with_slope: bool, pairs: Any, key: Any, first: int, last: int, sums: Any) -> None:
    """``add_lines`` for pairs ``first``, ..., ``last`` - 1 of a stream of normals."""
    points = np.ones((3, _STREAMED))
    for start in range(first, last, _STREAMED):
        points = _stream_points(key, start, last, points)
        add_lines(lines, with_slope, pairs, points, sums)


@_summing
def add_steps_of_stream(steps: Any, with_slope: bool, pairs: Any, key: Any, first: int, last: int, sums: Any) -> None:
    """``add_steps`` for pairs ``first``, ..., ``last`` - 1 of a stream of normals."""
    points = np.ones((3, _STREAMED))
    for start in range(first, last, _STREAMED):
        points = _stream_points(key, start, last, points)
        add_steps(steps, with_slope, pairs, points, sums)
