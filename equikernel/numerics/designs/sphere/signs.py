"""Signs of the Hermite coefficients of a sphere design: the kernels do not depend on them, the activation does.

The criterion is steepness, the largest |sigma'(t)| over |t| <= 4 sqrt(r): what the network amplifies a perturbation of
a preactivation by, within four standard deviations. E[sigma'^2] is the same for all signs and bounds it from below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from equikernel.errors import InputError
from equikernel.numerics.kernels.table import hermite_table
from equikernel.theory.activation import Activation

__all__ = ["CRITERION", "chosen_signs", "require_signs", "steepness"]

FloatArray = npt.NDArray[np.float64]

CRITERION = "max |sigma'(t)| over |t| <= 4 sqrt(r)"
_REACH = 4.0
_NAMES = ("smooth", "own", "plus")
_SEARCH_POINTS, _REPORT_POINTS = 10, 40  # for each period of he_N
_LEAST_POINTS = 200
_NOISE = 1e-13  # of the norm: a Hermite coefficient below it has no sign
_GAIN = 1e-9  # relative: a flip that gains less is not worth taking


def steepness(coefficients: FloatArray, scale: float) -> float:
    """The largest |sigma'(t)| over |t| <= 4 scale, sigma = sum_k c_k he_k(t/scale), on a grid (relative error 1e-2)."""
    return float(np.max(np.abs(_slopes(coefficients, scale, _REPORT_POINTS).sum(axis=0))))


def _slopes(coefficients: FloatArray, scale: float, density: int) -> FloatArray:
    """Rows c_k sqrt(k) he_(k-1)(x)/scale, k = 1 .. N, on a grid of |x| <= 4, (N, points)."""
    order = len(coefficients) - 1
    # he_k oscillates with frequency sqrt(k)
    points = max(_LEAST_POINTS, math.ceil(density * 2.0 * _REACH * math.sqrt(order) / (2.0 * math.pi)))
    x = np.linspace(-_REACH, _REACH, points + 1)
    rows = np.empty((order, len(x)))
    before, current = np.zeros_like(x), np.ones_like(x)
    for k in range(order):
        rows[k] = current * (coefficients[k + 1] * math.sqrt(k + 1.0) / scale)
        before, current = current, (x * current - math.sqrt(k) * before) / math.sqrt(k + 1.0)
    return rows


def require_signs(asked: Any) -> None:
    """Refuse what can be no choice of signs, before their number is known.

    Raises:
        InputError: neither a known name nor a sequence.
    """
    if asked not in _NAMES if isinstance(asked, str) else not isinstance(asked, Sequence | np.ndarray):
        raise InputError(f'signs must be "smooth", "own", "plus" or a sequence of +1 and -1; got {asked!r}')


def chosen_signs(
    asked: str | Sequence[int], magnitudes: FloatArray, scale: float, activation: Activation, q: float
) -> tuple[int, ...]:
    """eps_1 .. eps_N as the user asked.

    Args:
        asked: "smooth", "own", "plus" or N numbers +1 or -1.
        magnitudes: 0, |c_1|, .., |c_N|.
        scale: tau.
        activation: phi of the DEQ, whose own signs are those of E[phi(sqrt(q) xi) he_k(xi)].
        q: variance at which they are taken.

    Raises:
        InputError: a sequence of another length, or with other numbers.
    """
    order = len(magnitudes) - 1
    if not isinstance(asked, str):
        return _explicit(asked, order)
    if asked == "plus":
        return (1,) * order
    own = _own(activation, q, order)
    signs = own if asked == "own" else _smoothest(_slopes(magnitudes, scale, _SEARCH_POINTS), own)
    return tuple(signs.astype(int).tolist())


def _explicit(asked: Any, order: int) -> tuple[int, ...]:
    signs = tuple(asked)
    if len(signs) != order or not all(sign in (1, -1) for sign in signs):
        raise InputError(
            f"signs must be one +1 or -1 for each of k = 1 .. {order}, the terms of this design; got {str(asked)[:60]}"
        )
    return tuple(int(sign) for sign in signs)


def _own(activation: Activation, q: float, order: int) -> FloatArray:
    """Signs of phi's Hermite coefficients at sqrt(q), k = 1 .. order; +1 where they vanish."""
    row = hermite_table(activation).rows(np.array([q]), order + 1)[0, 1:]
    return np.where(row < -_NOISE * np.linalg.norm(row), -1.0, 1.0)


def _smoothest(rows: FloatArray, own: FloatArray) -> FloatArray:
    """The best of the local searches from a few starts; the first of equals."""
    k = np.arange(len(own))
    starts = (own, np.ones_like(own), np.where(k // 2 % 2 == 0, 1.0, -1.0))
    found = [_flipped(rows, start.copy()) for start in starts]
    best: FloatArray = found[int(np.argmin([np.max(np.abs(signs @ rows)) for signs in found]))]
    return best


@numba.njit(cache=True)
def _flipped(rows: Any, signs: Any) -> Any:
    """Flip one sign after the other, k = 1 .. N and again, whenever that lowers max_g |sum_k signs_k rows_kg|."""
    order, points = rows.shape
    total = np.zeros(points)
    for k in range(order):
        total += signs[k] * rows[k]
    best = np.max(np.abs(total))
    improved = True
    while improved:
        improved = False
        for k in range(order):
            step = -2.0 * signs[k]
            largest = 0.0
            for g in range(points):
                largest = max(largest, abs(total[g] + step * rows[k, g]))
                if largest >= best * (1.0 - _GAIN):
                    break
            if largest < best * (1.0 - _GAIN):
                signs[k] = -signs[k]
                total += step * rows[k]
                best = largest
                improved = True
    return signs
