"""Whether two layers can have given coefficients: branch and bound over the first layer, with balls.

In units of tau0 and with the first layer scaled to V = 1, its p = d1^2, s = d2^2, H = h and W = v determine what the
second layer's P = d1^2 and S = d2^2 must be. With (e1, e2, e3) = (alpha1, alpha2, alpha3) or (beta1, beta2, beta3),

    CK:   P = e1/p,      S = (2 e3 - P s)/p^2,               S H^2 = 4 e2 - P s,     gamma^2 >= P + S/2
    NTK:  P = e1/(3 p),  S = (2/5) (e3 - 2 P s)/p^2,         S H^2 = 4 e2 - 2 P s,   kappa^2 >= P (2 + W) + S (3/2 + W),

the diagonal being free above its least value, which a second layer of degree 2 attains. So a match exists if and only
if some first layer keeps the right-hand side, the cost, at or below the diagonal of the target (docs/proofs.md).
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb

from equikernel.numerics.balls.context import exact, hull, precision
from equikernel.numerics.designs.depth.realisability import BITS, Cuts, cuts_of
from equikernel.numerics.designs.depth.witnesses import witness

__all__ = ["BOXES", "Target", "TwoLayers", "two_layers"]

BOXES = 6000
_ATTEMPTS = 4  # searches for a first layer that does, before only impossibility is pursued
_HUGE = 1e300
_ROUNDED_UP = 1 + 2.0**-50
_LEAST_H = -0.5  # H + V/2 = E[xi^2 sigma^2]/2


@dataclass(frozen=True)
class Target:
    """What two layers are to have, in units of tau0; e1 = 0 stands for a coefficient proved to vanish.

    Attributes:
        match: "ck" or "ntk".
        e1, e2, e3: balls of alpha1..alpha3 or beta1..beta3.
        diagonal: a ball of gamma^2 or kappa^2.
    """

    match: str
    e1: arb
    e2: arb
    e3: arb
    diagonal: arb

    def second_layer(self, p: Any, s: Any) -> tuple[Any, Any, Any]:
        """P, S and S H^2 that a first layer with p and s needs; floats or balls, as p and s are."""
        e1, e2, e3 = (e if isinstance(p, arb) else float(e.mid()) for e in (self.e1, self.e2, self.e3))
        if self.match == "ck":
            P = e1 / p
            return P, (2 * e3 - P * s) / (p * p), 4 * e2 - P * s
        P = e1 / (3 * p)
        return P, 2 * (e3 - 2 * P * s) / (5 * p * p), 4 * e2 - 2 * P * s

    def second_layer_even(self, s: Any, H: Any) -> tuple[Any, Any]:
        """P and S of the other branch of e1 = 0, a first layer with p = 0; the NTK's, as the CK's has 2 e2 > e3."""
        e2, e3 = (e if isinstance(s, arb) else float(e.mid()) for e in (self.e2, self.e3))
        return e3 / (2 * s), (4 * e2 - e3) / (H * H)

    def cost(self, P: Any, S: Any, W: Any) -> Any:
        """The least diagonal; W is that of the first layer, of no consequence for the CK."""
        return P + S / 2 if self.match == "ck" else P * (2 + W) + S * (1.5 + W)


@dataclass(frozen=True)
class TwoLayers:
    """The verdict on two layers.

    Attributes:
        possible: True or False, proved; None for undecided.
        least: what was proved of the least diagonal: no pair of layers has less.
        hermite: (degree, Hermite coefficient) of a first layer next to one that is proved to do, where possible.
        boxes: how many boxes were looked at.
    """

    possible: bool | None
    least: float
    hermite: tuple[tuple[int, float], ...] = ()
    boxes: int = 0


@dataclass(frozen=True)
class _Box:
    """x is p (branch "p") or s (branch "even"), y is s or H."""

    branch: str
    x: tuple[float, float]
    y: tuple[float, float]

    def halves(self) -> tuple[_Box, _Box]:
        x, y = self.x, self.y
        if (x[1] - x[0]) / x[1] >= (y[1] - y[0]) / max(abs(y[1]), abs(y[0]), 0.5):
            m = (x[0] + x[1]) / 2
            return _Box(self.branch, (x[0], m), y), _Box(self.branch, (m, x[1]), y)
        m = (y[0] + y[1]) / 2
        return _Box(self.branch, x, (y[0], m)), _Box(self.branch, x, (m, y[1]))


def two_layers(target: Target, boxes: int = BOXES) -> TwoLayers:
    """Decide whether two layers can have the coefficients of a target; 4 e2 = e3 (NTK), 2 e2 = e3 (CK) are undecided.

    Args:
        target: what they are to have.
        boxes: how many boxes may be looked at before the answer is "undecided".
    """
    with precision(BITS):
        tie = 4 * target.e2 - target.e3 if target.match == "ntk" else 2 * target.e2 - target.e3
        if not target.e3 > 0 or tie.contains(0) or (target.e1 != 0 and not target.e1 > 0):
            return TwoLayers(None, 0.0)
        return _Search(target, bool(tie > 0)).run(boxes)


class _Search:
    """Best first: boxes of the first layer, by the proved lower bounds of their costs."""

    def __init__(self, target: Target, above: bool) -> None:
        self.target = target
        self.cuts = cuts_of(0 if target.match == "ck" else 1)
        self.limit = math.nextafter(float(target.diagonal.upper()), math.inf)
        self.roots = _roots(target, above)
        self.attempts = 0

    def run(self, boxes: int) -> TwoLayers:
        """Look at boxes until none is left that may do, one is proved to do, or they are too many."""
        count = itertools.count()
        heap = [(self.bound(box), next(count), box) for box in self.roots]
        heapq.heapify(heap)
        while heap and heap[0][0] <= self.limit and next(count) < boxes:
            found = self.attempt(heap[0][2], next(count))
            if found is not None:
                return TwoLayers(True, heap[0][0], found, next(count))
            _, _, box = heapq.heappop(heap)
            for half in box.halves():
                bound = self.bound(half)
                if bound < math.inf:
                    heapq.heappush(heap, (bound, next(count), half))
        least = heap[0][0] if heap else math.inf
        return TwoLayers(False if least > self.limit else None, least, (), next(count))

    # -- lower bounds of the cost on a box -----------------------------------------------------------------------------

    def bound(self, box: _Box) -> float:
        """A float that is proved not to exceed the cost anywhere on a box; inf where no layer is possible."""
        x, y = hull(*box.x), hull(*box.y)
        if box.branch == "even":
            P, S = self.target.second_layer_even(x, y)
            return self._cost(P, S, self._least_v((0.0, 0.0), box.x, box.y))
        if box.y[0] > 2 * (1 - box.x[0]) * _ROUNDED_UP:
            return math.inf
        P, S, R = self.target.second_layer(x, y)
        if S < 0 or R < 0:
            return math.inf
        H = _root_range(S, R)
        if self.target.match == "ck":
            return math.inf if self._least_slope(box.x, box.y) > H[1] else self._cost(P, S, None)
        above = self._least_v(box.x, box.y, H)
        below = self._least_v(box.x, box.y, (-H[1], -H[0])) if H[0] <= -_LEAST_H else math.inf
        return self._cost(P, S, min(above, below))

    def _cost(self, P: arb, S: arb, W: float | None) -> float:
        if W is not None and math.isinf(W):
            return math.inf
        if not (P.is_finite() and S.is_finite()):
            return 0.0  # too wide a box to divide by
        cost = self.target.cost(_not_negative(P), _not_negative(S), W)
        return math.nextafter(float(cost.lower()), -math.inf)

    def _least_v(self, p: tuple[float, float], s: tuple[float, float], H: tuple[float, float]) -> float:
        """A proved lower bound of W of a layer with V = 1 and (p, s, H) in a box."""
        cuts = self.cuts
        value = _linear(cuts, p, s) - np.where(cuts.eta > 0, cuts.eta * H[1], cuts.eta * H[0]) - cuts.lam
        cut = cuts.proved(int(np.argmax(value)))
        if cut is None:
            return 0.0
        # of H only one end matters, and the other may be huge
        found = cut.odd * hull(*p) + cut.even * hull(*s) / 2 - arb(cut.eta) * H[cut.eta > 0] - cut.lam
        return max(math.nextafter(float(found.lower()), -math.inf), 0.0)

    def _least_slope(self, p: tuple[float, float], s: tuple[float, float]) -> float:
        """A proved lower bound of H of a layer with V = 1 and (p, s) in a box."""
        cut = self.cuts.proved(int(np.argmax(_linear(self.cuts, p, s) - self.cuts.lam)))
        if cut is None:
            return _LEAST_H
        found = cut.odd * hull(*p) + cut.even * hull(*s) / 2 - cut.lam
        return math.nextafter(float(found.lower()), -math.inf)

    # -- possibility ---------------------------------------------------------------------------------------------------

    def attempt(self, box: _Box, looked: int) -> tuple[tuple[int, float], ...] | None:
        """A first layer near the middle of a box, if it is proved to do."""
        x, y = sum(box.x) / 2, sum(box.y) / 2
        p, s, H = (0.0, x, y) if box.branch == "even" else (x, y, self._slope(x, y))
        if self.attempts >= _ATTEMPTS or looked < 10**self.attempts or not math.isfinite(H) or p + s / 2 > 1:
            return None
        value = self.cuts.odd * p + self.cuts.even * s / 2 - self.cuts.lam
        index = int(np.argmax(value - self.cuts.eta * H if self.cuts.w else value))
        if self.target.match == "ck":
            promising = bool(value[index] <= H)
        else:
            P, S = self.target.second_layer_even(s, H) if box.branch == "even" else self.target.second_layer(p, s)[:2]
            promising = self.target.cost(P, S, value[index] - self.cuts.eta[index] * H) <= self.limit
        if not promising:
            return None
        self.attempts += 1
        start = (math.sqrt(p), math.sqrt(s / 2), float(self.cuts.eta[index]), float(self.cuts.lam[index]))
        return witness(self.target, start)

    def _slope(self, p: float, s: float) -> float:
        """H > 0 that the middle of a box needs; nan where there is none."""
        _, S, R = self.target.second_layer(p, s)
        return math.sqrt(R / S) if S > 0 and R >= 0 else math.nan


def _roots(target: Target, above: bool) -> list[_Box]:
    """Boxes that contain every first layer whose cost may not exceed the diagonal.

    The cost is at least e1/p + e3/p^2 (CK, s = 0) and at least e1/p, so p >= e1/diagonal; with e1 = 0 the cost is at
    least e3/p^2. Where p = 0 (the NTK with e1 = 0), e3 (2 + W)/(2 s) with s <= 2 bounds W, H <= W + sqrt(W^2 + W), and
    (4 e2 - e3) (3/2)/H^2 bounds |H| from below.
    """
    e1, e2, e3, diagonal = target.e1, target.e2, target.e3, target.diagonal
    least = (e3 / diagonal).sqrt() if e1 == 0 else e1 / diagonal
    p = _down(least)
    boxes = [_Box("p", (p, 1.0), (0.0, 2.0))] if p < 1 else []
    if target.match == "ntk" and e1 == 0 and above:
        W = _not_negative(4 * diagonal / e3 - 2)
        high = math.nextafter(float((W + (W * W + W).sqrt()).upper()), math.inf)
        low = _down((exact(3) * (4 * e2 - e3) / (2 * diagonal)).sqrt())
        s = _down(e3 / diagonal)
        boxes += [_Box("even", (s, 2.0), (low, high))] if s < 2 and low < high else []
        boxes += [_Box("even", (s, 2.0), (_LEAST_H, -low))] if s < 2 and low < -_LEAST_H else []
    return boxes


def _down(ball: arb) -> float:
    return max(math.nextafter(float(ball.lower()), -math.inf), 0.0)


def _not_negative(ball: arb) -> arb:
    """The part of a ball in [0, oo)."""
    return ball if ball >= 0 else hull(0, max(ball.upper(), arb(0)))


def _root_range(S: arb, R: arb) -> tuple[float, float]:
    """Floats around sqrt(R/S), S > 0 and R >= 0 in balls."""
    if not (R.is_finite() and S.is_finite()):
        return 0.0, _HUGE
    R, S = _not_negative(R), _not_negative(S)
    low = _down((R.lower() / S.upper()).sqrt()) if R.lower() > 0 else 0.0
    if not S.lower() > 0:
        return low, _HUGE
    return low, math.nextafter(float((R.upper() / S.lower()).sqrt().upper()), math.inf)


def _linear(cuts: Cuts, p: tuple[float, float], s: tuple[float, float]) -> Any:
    """The least of odd p + even s/2 on a box, by every inequality, in float64."""
    return np.minimum(cuts.odd * p[0], cuts.odd * p[1]) + np.minimum(cuts.even * s[0], cuts.even * s[1]) / 2
