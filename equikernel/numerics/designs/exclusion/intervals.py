"""Arrays of intervals in float64, rounded outward: what an exclusion proof computes with, thousands of boxes at once.

IEEE 754 rounds +, -, *, / and the square root to nearest, so that the next float outward bounds the exact result, also
where it overflows or underflows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb

__all__ = ["Intervals"]

FloatArray = npt.NDArray[np.float64]


def _down(x: Any) -> FloatArray:
    return np.asarray(np.nextafter(x, -np.inf))


def _up(x: Any) -> FloatArray:
    return np.asarray(np.nextafter(x, np.inf))


class Intervals:
    """[low, high], arrays of one shape; an end that is NaN says nothing.

    Intervals with low > high are empty: ``meet`` makes them, and what is computed from them has no meaning.
    Comparisons with an end that is NaN are false, so that nothing is excluded because of it.
    """

    __slots__ = ("high", "low")

    def __init__(self, low: Any, high: Any) -> None:
        self.low = np.asarray(low, dtype=np.float64)
        self.high = np.asarray(high, dtype=np.float64)

    @classmethod
    def of(cls, ball: arb) -> Intervals:
        """An interval that contains a ball; NaN where the ball is not finite."""
        if not ball.is_finite():
            return cls(np.nan, np.nan)
        return cls(_down(float(ball.lower())), _up(float(ball.upper())))

    @classmethod
    def exactly(cls, value: Any) -> Intervals:
        """Floats as intervals."""
        return cls(value, value)

    def __getitem__(self, index: Any) -> Intervals:
        return Intervals(self.low[index], self.high[index])

    def __add__(self, other: Intervals) -> Intervals:
        return Intervals(_down(self.low + other.low), _up(self.high + other.high))

    def __sub__(self, other: Intervals) -> Intervals:
        return Intervals(_down(self.low - other.high), _up(self.high - other.low))

    def __neg__(self) -> Intervals:
        return Intervals(-self.high, -self.low)

    def __mul__(self, other: Intervals) -> Intervals:
        a, b = self.low * other.low, self.low * other.high
        c, d = self.high * other.low, self.high * other.high
        low = np.minimum(np.minimum(a, b), np.minimum(c, d))
        high = np.maximum(np.maximum(a, b), np.maximum(c, d))
        return Intervals(_down(low), _up(high))

    def __truediv__(self, other: Intervals) -> Intervals:
        """Unknown where the divisor contains 0."""
        apart = (other.low > 0) | (other.high < 0)
        one = np.where(apart, 1.0, np.nan)
        inverse = Intervals(_down(one / np.where(apart, other.high, 1.0)), _up(one / np.where(apart, other.low, 1.0)))
        return self * inverse

    def scaled(self, factor: float) -> Intervals:
        """The product with a float that is not negative."""
        return Intervals(_down(self.low * factor), _up(self.high * factor))

    def square(self) -> Intervals:
        """x^2, never below 0."""
        far = np.maximum(np.abs(self.low), np.abs(self.high))
        near = np.where((self.low > 0) | (self.high < 0), np.minimum(np.abs(self.low), np.abs(self.high)), 0.0)
        return Intervals(np.maximum(_down(near * near), 0.0), _up(far * far))

    def root(self) -> Intervals:
        """The square roots of the numbers that are not negative."""
        low, high = np.sqrt(np.maximum(self.low, 0.0)), np.sqrt(np.maximum(self.high, 0.0))
        return Intervals(np.maximum(_down(low), 0.0), _up(high))

    def size(self) -> FloatArray:
        """The largest |x|."""
        return np.asarray(np.maximum(np.abs(self.low), np.abs(self.high)))

    def meet(self, other: Intervals) -> Intervals:
        """What two enclosures of the same numbers have in common."""
        return Intervals(np.fmax(self.low, other.low), np.fmin(self.high, other.high))

    @property
    def empty(self) -> npt.NDArray[np.bool_]:
        """Where there are no numbers."""
        return np.asarray(self.low > self.high)
