"""Proofs for the trapezoidal rule: analyticity in a strip, and the error from the size of the integrand on its edge.

With G(conj t) = conj G(t) analytic on the rectangle R = [-T_0, T_1] x [-d, d], T_i = (K_i + 1/2) h, the residue theorem
for G(t)/(1 - exp(-2 pi i t/h)) gives

    |h sum_{k=-K_0}^{K_1} G(k h) - int_{-T_0}^{T_1} G| <= 2 int |G(t + i d)| dt/(exp(2 pi d/h) - 1)
                                                          + 2 sum_sides int_0^d |G(side + i s)| exp(-2 pi s/h) ds.

The rectangle is covered by boxes on which ball arithmetic proves G analytic; only its upper half, by symmetry.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from flint import acb, arb

from equikernel.numerics.balls.context import hull
from equikernel.numerics.balls.functions import BallPiece
from equikernel.numerics.balls.maps import Map

__all__ = ["cover", "edge_integrals", "is_analytic", "side_integrals"]

_MAX_BOXES = 3_000
_SMALLEST = 2.0**-14
_WIDEST = 2.0
_EDGE_BOXES = 48
_LOOSE = 0.3  # a box whose least and largest values differ more is halved, if it matters
_MATTERS = 0.1
Terms = Callable[[acb], Sequence[acb]]


def is_analytic(piece: BallPiece, change: Map, low: float, high: float, height: float) -> bool:
    """Whether phi(y(t)) and phi'(y(t)) are proved analytic on [low, high] x [0, height]."""
    return cover(piece, change, low, high, height, _MAX_BOXES)[0]


def cover(piece: BallPiece, change: Map, low: float, high: float, height: float, limit: int) -> tuple[bool, int]:
    """``is_analytic`` by ``limit`` boxes at most, and how many it took."""
    boxes = [(low, high, 0.0, height)]
    for count in range(limit):
        if not boxes:
            return True, count
        a, b, c, d = boxes.pop()
        if b - a < _WIDEST:
            y, slope = change.at(acb(hull(a, b), hull(c, d)).exp())
            if y.is_finite() and slope.is_finite() and all(v.is_finite() for v in piece.analytic(y, True)):
                continue
        if max(b - a, d - c) < _SMALLEST:
            return False, count
        if b - a > d - c:
            middle = (a + b) / 2
            boxes += [(a, middle, c, d), (middle, b, c, d)]
        else:
            middle = (c + d) / 2
            boxes += [(a, b, c, middle), (a, b, middle, d)]
    return False, limit


def edge_integrals(terms: Terms, low: float, high: float, height: float) -> list[arb] | None:
    """Upper bounds of int |G_i(t + i height)| dt over [low, high]; None where a box cannot be enclosed."""
    step = (high - low) / _EDGE_BOXES
    points = [low + k * step for k in range(_EDGE_BOXES)] + [high]
    boxes = list(itertools.pairwise(points))
    top = arb(height)
    samples = [terms(acb((a + b) / 2, top)) for a, b in boxes]
    about = [
        sum((abs(v).abs_upper() for v in column if v.is_finite()), arb(0)) * step
        for column in zip(*samples, strict=True)
    ]
    totals = [arb(0)] * len(about)
    for _ in range(_MAX_BOXES):
        if not boxes:
            return totals
        a, b = boxes.pop()
        values = terms(acb(hull(a, b), top))
        finite = all(v.is_finite() for v in values)
        if not finite and b - a < _SMALLEST:
            return None
        sizes = [abs(v) for v in values]
        width = arb(b) - arb(a)
        if not finite or (
            b - a > step / 16
            and any(
                s.abs_lower() < _LOOSE * s.abs_upper() and s.abs_upper() * width > _MATTERS * guess
                for s, guess in zip(sizes, about, strict=True)
            )
        ):
            middle = (a + b) / 2
            boxes += [(a, middle), (middle, b)]
            continue
        totals = [total + s.abs_upper() * width for total, s in zip(totals, sizes, strict=True)]
    return None


def side_integrals(terms: Terms, end: arb, height: float, step: arb, boxes: int) -> list[arb] | None:
    """Upper bounds of int_0^height |G_i(end + i s)| exp(-2 pi s/step) ds; None where a box cannot be enclosed."""
    totals: list[arb] | None = None
    points = [height * (k / boxes) ** 2 for k in range(boxes)] + [height]
    for a, b in itertools.pairwise(points):
        values = terms(acb(end, hull(a, b)))
        if not all(v.is_finite() for v in values):
            return None
        weight = (-2 * arb.pi() * arb(a) / step).exp() * (arb(b) - arb(a))
        parts = [abs(v).abs_upper() * weight for v in values]
        totals = parts if totals is None else [t + p for t, p in zip(totals, parts, strict=True)]
    return totals
