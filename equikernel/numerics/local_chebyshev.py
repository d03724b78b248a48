"""A function known by its values, and its derivative: Chebyshev interpolants on cells that never cross a breakpoint.

On a cell with middle m and half-width w, f(m + w t) = sum_k c_k T_k(t), |t| < 1, from its values at the 21 Chebyshev
points; f' is the derivative of the interpolant. A cell is halved until its last coefficients and its error at three
other points are rounding. Cells are made where somebody asks for values, and kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import RLock

import numpy as np
import numpy.typing as npt

from equikernel.numerics.arithmetic import UNIT_ROUNDOFF

__all__ = ["CENTRAL", "LocalChebyshev", "NotSmoothError"]

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

CENTRAL = 32.0  # up to here cells are no longer than _WIDEST, so that nothing of width about 1 is overlooked
_WIDEST = 2.0
_OFFSET = 0.3819660112501052  # no edge of a cell is where people put kinks
_OCTAVES = 30  # of x beyond CENTRAL
_SIZE = 21
_LAST = 4  # coefficients that must have decayed
_RELATIVE, _ABSOLUTE = 16.0, 64.0  # in units of roundoff, of the cell's and of the function's size
_NARROWEST = 2.0**-20  # half-width of a cell, for |x| < CENTRAL, below which it is a kink that is in the way
_NARROW = 2.0**-8  # below which the absolute tolerance does not count
_OVERFLOW = 1e280  # leaves room for slopes
_DOUBT = 8.0  # the last coefficients average the noise of the values
_MOST_CELLS = 4096
_BATCH = 4096  # points whose coefficients stay within the cache

_ORDERS = np.arange(_SIZE)


def _cosines(multiples: npt.NDArray[np.int64]) -> FloatArray:
    """cos(pi m/(2 * _SIZE)) for integers m, reduced exactly: rounding of the angle would be amplified later."""
    m = multiples % (4 * _SIZE)
    m = np.minimum(m, 4 * _SIZE - m)
    near = np.minimum(m, 2 * _SIZE - m)
    # the sine of the complement is exact where the cosine vanishes
    cosine: FloatArray = np.sin(np.pi * (_SIZE - near) / (2 * _SIZE))
    return np.where(m > _SIZE, -cosine, cosine)


_CHECKS = np.array([-0.8377, 0.1237, 0.6119])
_POINTS = np.concatenate([_cosines(2 * _ORDERS + 1), _CHECKS])
_TRANSFORM = _cosines(np.outer(_ORDERS, 2 * _ORDERS + 1)) * np.where(_ORDERS == 0, 1.0, 2.0)[:, None] / _SIZE
_AT_CHECKS = np.polynomial.chebyshev.chebvander(_CHECKS, _SIZE - 1).T
_DERIVATIVE = np.polynomial.chebyshev.chebder(np.eye(_SIZE))  # maps coefficients of f to those of f' on [-1, 1]


class NotSmoothError(Exception):
    """The function could not be resolved near ``at``, beside a declared breakpoint, or nearly everywhere."""

    def __init__(self, at: float, beside: float | None, *, everywhere: bool = False) -> None:
        super().__init__(at, beside, everywhere)
        self.at = at
        self.beside = beside
        self.everywhere = everywhere


@dataclass(frozen=True)
class _Cells:
    """Cells in increasing order: columns of coefficients of f and of f' (in x), and what f' is in doubt by."""

    low: FloatArray
    high: FloatArray
    values: FloatArray
    slopes: FloatArray
    doubt: FloatArray
    order: FloatArray

    def merged(self, other: _Cells) -> _Cells:
        place = np.argsort(np.concatenate([self.low, other.low]))
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Cells(*(np.concatenate(pair, axis=-1)[..., place] for pair in pairs))


def _unknown(low: FloatArray, high: FloatArray) -> _Cells:
    """Cells on which nothing is known."""
    nothing, columns = np.full(len(low), np.nan), np.full((_SIZE, len(low)), np.nan)
    return _Cells(low, high, columns, columns[1:], nothing, nothing)


class LocalChebyshev:
    """A function of float64 arrays, shape (n,), smooth but for its breakpoints; safe to share between threads.

    Values are within about 16 units of roundoff of the largest |f| of the cell (or 64 of the largest near the origin);
    the derivative within that times n/w inside a cell and n^2/w at its ends, n the degree and w the half-width needed:
    1e-14 to 1e-13 of the largest |f'| nearby for functions whose features have width about 1.
    """

    def __init__(self, function: Function, breakpoints: Sequence[float]) -> None:
        self._function = function
        self._breakpoints = np.array(breakpoints, dtype=np.float64)
        far = (CENTRAL + _OFFSET) * 2.0 ** np.arange(_OCTAVES + 1)
        panels = np.arange(-CENTRAL, CENTRAL, _WIDEST)[1:] + _OFFSET
        self._edges = np.unique(np.concatenate([-far, panels, far, self._breakpoints]))
        # what is around the origin is resolved together, the rest one by one: bits must not depend on who asks first
        central = (self._edges[:-1] < CENTRAL) & (self._edges[1:] > -CENTRAL)
        self._groups = np.where(central, 0, np.cumsum(~central))
        self._done = np.zeros(self._groups.max() + 1, dtype=bool)
        self._cells = _unknown(np.empty(0), np.empty(0))
        self._lock = RLock()
        sample = function(np.linspace(-4.0, 4.0, 65) + 1e-3 * _OFFSET)
        self._size = float(np.max(np.abs(sample), where=np.isfinite(sample), initial=0.0))

    def resolve(self, x: FloatArray) -> None:
        """Make the cells that contain the points ``x``.

        Raises:
            NotSmoothError: a kink, a jump or a singularity that is not declared, or values that are not smooth.
        """
        places = np.clip(np.searchsorted(self._edges, x, side="right") - 1, 0, len(self._groups) - 1)
        groups = self._groups[places]
        if self._done[groups].all():
            return
        with self._lock:
            for group in np.unique(groups[~self._done[groups]]):
                members = self._groups == group
                self._cells = self._cells.merged(self._resolved(self._edges[:-1][members], self._edges[1:][members]))
                self._done[group] = True

    def values(self, x: FloatArray) -> FloatArray:
        """F(x); NaN where it oscillates beyond |x| = 32 too fast to be resolved, and beyond 3e10."""
        cells, at, t, inside = self._located(x)
        return np.where(inside, _clenshaw(cells.values, at, t), np.nan)

    def slopes(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """F'(x) and its error bound, NaN as in ``values``; at a breakpoint, the derivative on its right."""
        cells, at, t, inside = self._located(x)
        n = cells.order[at]
        with np.errstate(divide="ignore"):
            amplified = n * np.minimum(n, 1.0 / np.sqrt(np.maximum(1.0 - t * t, 0.0))) + 1.0
        value = np.where(inside, _clenshaw(cells.slopes, at, t), np.nan)
        return value, cells.doubt[at] * amplified + 4.0 * UNIT_ROUNDOFF * np.abs(value)

    def _located(self, x: FloatArray) -> tuple[_Cells, npt.NDArray[np.int64], FloatArray, npt.NDArray[np.bool_]]:
        """The cells, which of them each point is in, where in it (-1 ... 1), and whether there is one at all."""
        inside = np.abs(x) < self._edges[-1]
        x = np.where(inside, x, 0.0)
        self.resolve(x)
        cells = self._cells
        at = np.searchsorted(cells.low, x, side="right") - 1
        low, high = cells.low[at], cells.high[at]
        return cells, at, np.clip((2.0 * x - low - high) / (high - low), -1.0, 1.0), inside

    def _resolved(self, low: FloatArray, high: FloatArray) -> _Cells:
        """Cells that cover the intervals, by halving."""
        found = _unknown(np.empty(0), np.empty(0))
        while True:
            middle, half = 0.5 * (low + high), 0.5 * (high - low)
            x = middle[:, None] + half[:, None] * _POINTS
            f = self._function(x.ravel()).reshape(x.shape)
            narrow = half / np.maximum(np.abs(middle) / CENTRAL, 1.0)
            cells, enough = self._fitted(low, high, x, f, narrow)
            found = found.merged(_Cells(*(array[..., enough] for array in vars(cells).values())))
            low, high, middle, narrow = low[~enough], high[~enough], middle[~enough], narrow[~enough]
            if not len(low):
                return found
            if narrow.min() < _NARROWEST:
                worst = np.lexsort((np.abs(middle), narrow))[0]
                beside = np.intersect1d([low[worst], high[worst]], self._breakpoints)
                raise NotSmoothError(float(middle[worst]), float(beside[0]) if len(beside) else None)
            if len(low) + len(found.low) > _MOST_CELLS:
                if np.abs(middle).min() < CENTRAL:
                    raise NotSmoothError(float(middle[np.argmin(np.abs(middle))]), None, everywhere=True)
                return found.merged(_unknown(low, high))
            low, high = np.concatenate([low, middle]), np.concatenate([middle, high])

    def _fitted(
        self, low: FloatArray, high: FloatArray, x: FloatArray, f: FloatArray, narrow: FloatArray
    ) -> tuple[_Cells, npt.NDArray[np.bool_]]:
        """Interpolants and which of them are good; where f overflows they are not, and need not be."""
        half = 0.5 * (high - low)
        bad = np.count_nonzero(~(np.abs(f) < _OVERFLOW), axis=1)
        finite = bad == 0
        overflown = (bad == f.shape[1]) | (~finite & (narrow < 2.0 * _NARROWEST))
        f = np.where(finite[:, None], f, 0.0)
        coefficients = _TRANSFORM @ f[:, :_SIZE].T
        size = np.abs(f).max(axis=1)
        steps = np.abs(np.diff(f[:, :_SIZE], axis=1) / np.diff(_POINTS[:_SIZE])).max(axis=1) / half
        # a point is a float64 number too: its rounding moves f by |x f'| units
        noise = UNIT_ROUNDOFF * (size + np.abs(x).max(axis=1) * steps)
        tail = np.maximum(
            np.abs(coefficients[-_LAST:]).max(axis=0),
            np.abs(coefficients.T @ _AT_CHECKS - f[:, _SIZE:]).max(axis=1) / 4.0,
        )
        small = (tail <= _ABSOLUTE * UNIT_ROUNDOFF * self._size) & (narrow > _NARROW)
        enough = (finite & ((tail <= _RELATIVE * noise) | small)) | overflown
        kept = np.abs(coefficients) > noise
        order = np.where(kept.any(axis=0), _SIZE - 1 - np.argmax(kept[::-1], axis=0), 0)
        # what follows the last coefficient above rounding is noise, and differentiation would amplify it
        coefficients = np.where(_ORDERS[:, None] <= order, coefficients, 0.0)
        coefficients[:, overflown] = math.nan
        doubt = _DOUBT * np.maximum(noise, tail) / half
        cells = _Cells(low, high, coefficients, _DERIVATIVE @ coefficients / half, doubt, order.astype(np.float64))
        return cells, enough


def _clenshaw(columns: FloatArray, at: npt.NDArray[np.int64], t: FloatArray) -> FloatArray:
    """sum_k columns[k, at] T_k(t)."""
    result = np.empty_like(t)
    for start in range(0, len(t), _BATCH):
        part = slice(start, start + _BATCH)
        rows, x = columns[:, at[part]], t[part]
        after, current = np.zeros_like(x), np.zeros_like(x)
        for row in rows[:0:-1]:
            after, current = current, row + 2.0 * x * current - after
        result[part] = rows[0] + x * current - after
    return result
