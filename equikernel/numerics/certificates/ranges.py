"""Ranges of an activation and its derivative on the whole line, proved.

The middle of the line is covered by boxes, refined until the range is known to a tolerance; the two ends are bounded by
their asymptotes, or by their envelopes where there are none.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sympy as sp
from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.arithmetic import BallArithmetic
from equikernel.numerics.balls.context import constant, hull
from equikernel.numerics.balls.envelope import Envelope
from equikernel.numerics.balls.functions import BallFunction, BallPiece
from equikernel.numerics.certificates.asymptotes import Asymptote, asymptote
from equikernel.theory.program import Program

__all__ = ["End", "LineRange", "affine_ends", "slope_range", "value_range"]

_REAL = BallArithmetic()
_STARTS = (8, 32, 128, 512, 4096)  # how far beyond the breakpoints the ends may begin
_GAIN = 0.5  # an end is begun further out while that shrinks its remainders by this factor
_SMALL = 1e-6
_FIRST_BOXES = 16
_MAX_BOXES = 6000
_TOLERANCE = 2.0**-12  # of the range, relative to its width


@dataclass(frozen=True)
class End:
    """One end of the line, {side*y >= start}, with the asymptotes of phi and phi' there; None where not proved."""

    side: int
    start: arb
    value: Asymptote | None
    slope: Asymptote | None
    bounds: tuple[Envelope, Envelope]


@dataclass(frozen=True)
class LineRange:
    """low <= f(y) <= high for every real y."""

    low: arb
    high: arb

    @property
    def oscillation(self) -> arb:
        """High - low."""
        return self.high - self.low

    @property
    def magnitude(self) -> arb:
        """The supremum of |f|."""
        return max(self.high, -self.low)


def affine_ends(function: BallFunction) -> tuple[End, End]:
    """The left and right end of the line, begun far enough out for the remainders to be small.

    Raises:
        UncertifiedError: phi or phi' has no proved growth bound.
    """
    left, right = (_end(function, side) for side in (-1, 1))
    return left, right


def _end(function: BallFunction, side: int) -> End:
    piece = function.pieces[0 if side < 0 else -1]
    outermost = function.outermost().upper()
    found: End | None = None
    before = arb.pos_inf()
    for distance in _STARTS:
        start = (outermost + distance).ceil()
        try:
            value, slope = asymptote(piece.program, side, start), asymptote(piece.slope, side, start)
            end = End(side, start, value, slope, function.envelope(side, start))
        except UncertifiedError:
            if distance == _STARTS[-1] and found is None:
                raise
            continue
        largest = max((a.remainder.magnitude for a in (value, slope) if a is not None), default=arb(0))
        if not largest < _GAIN * before:
            break
        found, before = end, largest
        if largest < _SMALL:
            break
    if found is None:
        raise AssertionError("the last start either is found or raises")
    return found


def value_range(function: BallFunction, ends: tuple[End, End], slopes: tuple[sp.Expr, sp.Expr]) -> LineRange:
    """The range of phi(y) - s(-) y on y < 0 and phi(y) - s(+) y on y > 0; slopes 0 give the range of phi.

    Raises:
        UncertifiedError: it is unbounded, or could not be bounded.
    """
    boxes = _Boxes()
    for end, slope in zip(ends, slopes, strict=True):
        boxes.include(*_end_range(end.value, end.bounds[0], slope))
        for piece, low, high in _middle(function, end):
            boxes.add(piece.program, piece.slope, constant(slope), low, high)
    return boxes.range()


def slope_range(function: BallFunction, ends: tuple[End, End]) -> LineRange:
    """The range of phi' away from the breakpoints.

    Raises:
        UncertifiedError: it is unbounded, or could not be bounded.
    """
    boxes = _Boxes()
    for end in ends:
        boxes.include(*_end_range(end.slope, end.bounds[1], sp.S.Zero))
        for piece, low, high in _middle(function, end):
            boxes.add(piece.slope, piece.slope.derivative(), arb(0), low, high)
    return boxes.range()


def _end_range(asymptote_: Asymptote | None, envelope: Envelope, slope: sp.Expr) -> tuple[arb, arb]:
    """The range of f(y) - slope*y on an end of the line."""
    if asymptote_ is not None and sp.expand(asymptote_.slope - slope) == 0:
        return asymptote_.deviation()
    if slope != 0 or not (envelope.low.is_finite() and envelope.high.is_finite()):
        raise UncertifiedError("the function is not proved to be bounded for large |x|")
    return envelope.low, envelope.high


def _middle(function: BallFunction, end: End) -> Iterator[tuple[BallPiece, arb, arb]]:
    """The pieces between 0 and the beginning of an end, with their parts of it."""
    low, high = (arb(0), end.start) if end.side > 0 else (-end.start, arb(0))
    for piece in function.pieces:
        lower, upper = piece.ends()
        a = low if lower is None or lower.upper() < low else lower.lower()
        b = high if upper is None or upper.lower() > high else upper.upper()
        if a < b:
            yield piece, a, b


class _Boxes:
    """Branch and bound for both ends of a range."""

    def __init__(self) -> None:
        self._known: list[tuple[arb, arb]] = []
        self._parts: list[tuple[Program, Program, arb, arb, arb]] = []

    def include(self, low: arb, high: arb) -> None:
        """A part whose range is known."""
        self._known.append((low, high))

    def add(self, value: Program, slope: Program, minus: arb, low: arb, high: arb) -> None:
        """The range of value(y) - minus*y on [low, high]."""
        edges = [low + (high - low) * k / _FIRST_BOXES for k in range(_FIRST_BOXES + 1)]
        self._parts += [(value, slope, minus, a.lower(), b.upper()) for a, b in itertools.pairwise(edges)]

    def range(self) -> LineRange:
        """The hull of all parts, within a tolerance of the true one.

        Raises:
            UncertifiedError: the function has no finite enclosure on some box.
        """
        low = min((a for a, _ in self._known), default=arb.pos_inf())
        high = max((b for _, b in self._known), default=arb.neg_inf())
        boxes = deque((*self._enclose(part), part) for part in self._parts)
        attained = [self._at_centre(part) for part in self._parts]
        least = min([low, *(a.upper() for a in attained)])
        most = max([high, *(a.lower() for a in attained)])
        budget = _MAX_BOXES
        while boxes:
            below, above, part = boxes.popleft()
            slack = _TOLERANCE * (most - least)
            fits = below >= least - slack and above <= most + slack
            if not fits and budget > 0:
                budget -= 1
                for half in self._halves(part):
                    centre = self._at_centre(half)
                    least, most = min(least, centre.upper()), max(most, centre.lower())
                    boxes.append((*self._enclose(half), half))
                continue
            if not (below.is_finite() and above.is_finite()):
                raise UncertifiedError("the function has no finite enclosure near a point of the line")
            low, high = min(low, below), max(high, above)
        return LineRange(low, high)

    @staticmethod
    def _at_centre(part: tuple[Program, Program, arb, arb, arb]) -> arb:
        value, _, minus, a, b = part
        centre = ((a + b) / 2).mid()
        ball: arb = value.run(_REAL, centre) - minus * centre
        return ball if ball.is_finite() else arb(0, 1).mid() * arb.pos_inf()

    @staticmethod
    def _enclose(part: tuple[Program, Program, arb, arb, arb]) -> tuple[arb, arb]:
        """The natural enclosure and the mean value form, intersected."""
        value, slope, minus, a, b = part
        box = hull(a, b)
        centre = box.mid()
        natural: arb = value.run(_REAL, box) - minus * box
        mean: arb = value.run(_REAL, centre) - minus * centre + (slope.run(_REAL, box) - minus) * (box - centre)
        if not mean.is_finite():
            return natural.lower(), natural.upper()
        if not natural.is_finite():
            return mean.lower(), mean.upper()
        return max(natural.lower(), mean.lower()), min(natural.upper(), mean.upper())

    @staticmethod
    def _halves(part: tuple[Program, Program, arb, arb, arb]) -> list[tuple[Any, ...]]:
        value, slope, minus, a, b = part
        middle = ((a + b) / 2).mid()
        return [(value, slope, minus, a, middle), (value, slope, minus, middle, b)]
