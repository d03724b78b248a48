"""Branch and bound over the first of two layers: boxes are discarded until none is left, or the work is too much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from flint import arb

from equikernel.numerics.designs.exclusion.intervals import Intervals
from equikernel.numerics.designs.exclusion.layers import FirstLayer, SecondLayer

__all__ = ["MOST_FUNCTIONS", "Conditions", "Equations", "exhaust"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
MOST_FUNCTIONS = 4
_PIECES = {1: 1, 2: 16, 3: 6, 4: 3}  # functions -> pieces of a face along each axis to begin with
_NARROW = 1e-12
_ROUNDS = 2


@dataclass(frozen=True)
class Equations:
    """What two layers must satisfy, in units of tau0 and with V = 1 in the first: p, s, H, W of it, P, S of the second.

        P p = A,   P s + m S p^2 = B,   P s + n S H^2 = D,   V + f v = diagonal,   f = 0 (CK) or 1 + W (NTK).

    Attributes:
        ntk: whether they are the NTK's: m = 5/4 and n = 1/2 instead of 1.
        A, B, D, diagonal: what the target needs; D is None where the norms of the data do not vary.
    """

    ntk: bool
    A: arb
    B: arb
    D: arb | None
    diagonal: arb

    @property
    def m(self) -> float:
        """The factor of S p^2."""
        return 1.25 if self.ntk else 1.0

    @property
    def n(self) -> float:
        """The factor of S H^2."""
        return 0.5 if self.ntk else 1.0


@dataclass(frozen=True)
class _Rest:
    """P, S and f that are left on boxes, and where none are."""

    P: Intervals
    S: Intervals
    f: Intervals
    none: BoolArray


class Conditions:
    """Where they certainly fail, on boxes with given p, s, H and W of the first layer; masks (B,)."""

    def __init__(self, equations: Equations, second: SecondLayer | None) -> None:
        self._equations, self._second = equations, second
        self._A, self._B = Intervals.of(equations.A), Intervals.of(equations.B)
        self._D = None if equations.D is None else Intervals.of(equations.D)
        self._gap = None if equations.D is None else Intervals.of(equations.D - equations.B)
        self._diagonal = Intervals.of(equations.diagonal)

    def sign(self, moments: list[Intervals]) -> BoolArray:
        """S (n H^2 - m p^2) = D - B with 0 <= S <= diagonal/(1/2 + f), f at its least for any layer."""
        if self._gap is None:
            return np.zeros(len(moments[0].low), dtype=bool)
        least = Intervals.exactly(np.full_like(moments[0].low, 2.0 if self._equations.ntk else 0.0))
        return (self._limits(least)[1] * self._turn(moments)).meet(self._gap).empty

    def first(self, moments: list[Intervals]) -> BoolArray:
        """All that is asked of the first layer, whatever the second one's family is."""
        return self._rest(moments).none

    def both(self, moments: list[Intervals]) -> BoolArray:
        """Everything."""
        rest = self._rest(moments)
        if self._second is None:
            return rest.none
        return np.asarray(rest.none | self._second.excludes(rest.P, rest.S, rest.f, self._diagonal))

    def _turn(self, moments: list[Intervals]) -> Intervals:
        p, H = moments[0], moments[2]
        return H.square().scaled(self._equations.n) - p.square().scaled(self._equations.m)

    def _factor(self, moments: list[Intervals]) -> Intervals:
        """f, with W >= V by Poincare's inequality."""
        if not self._equations.ntk:
            return Intervals.exactly(np.zeros_like(moments[0].low))
        return (Intervals.exactly(1.0) + moments[3]).meet(Intervals(2.0, np.inf))

    def _limits(self, f: Intervals) -> tuple[Intervals, Intervals]:
        """P and S from V + f v >= P (1 + f) + S (1/2 + f), which holds for any activation."""
        zero, least = np.zeros_like(f.low), Intervals.exactly(f.low)
        most = [(self._diagonal / (Intervals.exactly(x) + least)).high for x in (1.0, 0.5)]
        return Intervals(zero, most[0]), Intervals(zero, most[1])

    def _rest(self, moments: list[Intervals]) -> _Rest:
        """Narrow P and S by each equation in turn, and check every equation."""
        p, s, H = moments[:3]
        f = self._factor(moments)
        P, S = self._limits(f)
        pp, HH = p.square().scaled(self._equations.m), H.square().scaled(self._equations.n)
        pairs = [(pp, self._B)] + ([] if self._D is None else [(HH, self._D)])
        P, none = P.meet(self._A / p), np.zeros(len(p.low), dtype=bool)
        if self._gap is not None:
            turn = self._turn(moments)
            none |= (S * turn).meet(self._gap).empty
            S = S.meet(self._gap / turn)
        for _ in range(_ROUNDS):
            for factor, value in pairs:
                S = S.meet((value - P * s) / factor)
                P = P.meet((value - S * factor) / s)
        none |= P.empty | S.empty | (P * p).meet(self._A).empty
        for factor, value in pairs:
            none |= (P * s + S * factor).meet(value).empty
        cost = P * (Intervals.exactly(1.0) + f) + S * (Intervals.exactly(0.5) + f)
        return _Rest(P, S, f, np.asarray(none | (cost.low > self._diagonal.high)))


def exhaust(first: FirstLayer, fails: Callable[[list[Intervals]], BoolArray], most: int) -> tuple[bool, int]:
    """Discard boxes of first layers where a condition fails; True if none is left, and the number looked at.

    Args:
        first: the layer.
        fails: one of ``Conditions``.
        most: how many boxes may be looked at.
    """
    low, high = first.boxes(_PIECES[first.size])
    boxes = 0
    while len(low):
        if boxes + len(low) > most:
            return False, boxes
        boxes += len(low)
        with np.errstate(all="ignore"):  # NaN and infinity are answers: nothing is known
            left = ~fails(first.moments(low, high))
        low, high = low[left], high[left]
        if len(low) and (high - low).max(axis=1).min() < _NARROW:
            return False, boxes
        low, high = _halved(low, high)
    return True, boxes


def _halved(low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Every box cut across its longest side."""
    rows, longest = np.arange(len(low)), np.argmax(high - low, axis=1)
    middle = (low[rows, longest] + high[rows, longest]) / 2
    left_high, right_low = high.copy(), low.copy()
    left_high[rows, longest] = middle
    right_low[rows, longest] = middle
    return np.concatenate([low, right_low]), np.concatenate([left_high, high])
