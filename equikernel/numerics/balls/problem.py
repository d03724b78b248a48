"""What both engines are asked: six Gaussian integrals of one function at one tau, on segments, to an absolute goal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from flint import acb, arb

from equikernel.numerics.balls.context import precision
from equikernel.numerics.balls.functions import BallFunction, BallPiece
from equikernel.numerics.balls.integrands import SHAPES, raw_terms
from equikernel.numerics.balls.joins import is_continuous
from equikernel.numerics.balls.tails import Cut, cut_integrals, growth_rate

__all__ = ["Problem", "RawBalls", "Segment", "end_slack", "has_finite_v", "moment_problem", "segments"]

_SURVEY_BITS = 53
_SURVEY_POINTS = 24


@dataclass(frozen=True)
class Segment:
    """A smooth piece between exact ends (None: infinite), counted ``copies`` times by symmetry."""

    piece: BallPiece
    lower: arb | None
    upper: arb | None
    copies: int

    @property
    def is_zero(self) -> bool:
        """Whether phi is zero on the whole piece."""
        program = self.piece.program
        return program.is_constant and program.instructions[program.result].payload == 0

    @property
    def whole_line(self) -> bool:
        """Whether the piece is the whole line (of which symmetry may leave a half)."""
        return self.piece.lower is None and self.piece.upper is None


@dataclass(frozen=True)
class RawBalls:
    """The six raw moments, None where infinite or not wanted; the evaluations they took, and whether those ran out."""

    values: tuple[Any, ...]
    work: int
    exhausted: bool


@dataclass(frozen=True)
class Problem:
    """Six integrals E[f_i(tau xi)], in the order of ``theory.moments``.

    Attributes:
        tau: a standard deviation; a wide ball stands for all of its points.
        needed: indices of the integrals to compute.
        vanishing: indices of those that are zero by symmetry.
        sizes: about E|f_i|: goals are relative to them, proofs do not use them.
        spreads: about |d/d log tau| of the integrals in the worst case: what a wide tau costs.
        cut: where to cut, and the tails.
    """

    function: BallFunction
    tau: arb
    needed: tuple[int, ...]
    vanishing: frozenset[int]
    sizes: tuple[arb, ...]
    spreads: tuple[arb, ...]
    cut: Cut

    def terms(self, piece: BallPiece, y: acb, *, analytic: bool) -> tuple[acb, ...]:
        """The six integrands, Gaussian density included, on a complex box."""
        xi = y / self.tau
        weight = (-xi * xi / 2).exp() / (self.tau * (2 * arb.pi()).sqrt())
        return raw_terms(*piece.analytic(y, analytic), xi, weight)

    def result(self, values: Sequence[arb], work: int, *, exhausted: bool = False) -> RawBalls:
        """The balls of the needed integrals with tails and slack; zero where symmetry says so, None for the others."""
        slack = end_slack(self.function, lambda piece, y: self.terms(piece, y, analytic=False))
        balls: list[arb | None] = [arb(0) if i in self.vanishing else None for i in range(len(values))]
        for i in self.needed:
            balls[i] = values[i] + arb(0, (self.cut.tails[i] + sum(slack[i : i + 1], arb(0))).upper())
        return RawBalls(tuple(balls), work, exhausted)


def has_finite_v(function: BallFunction) -> bool:
    """Whether E[phi'^2] is the integral over the pieces: phi is proved continuous, and phi' not known to be steep."""
    return function.activation.has_square_integrable_derivative and is_continuous(function)


def segments(function: BallFunction) -> list[Segment]:
    """The pieces between the midpoints of their ends, the left half dropped where parity is proved."""
    mirrored = function.parity is not None
    found = []
    for piece in function.pieces:
        lower, upper = (None if end is None else end.mid() for end in piece.ends())
        if not mirrored:
            found.append(Segment(piece, lower, upper, 1))
        elif upper is None or upper > 0:
            found.append(Segment(piece, arb(0) if lower is None or lower < 0 else lower, upper, 2))
    return found


def end_slack(function: BallFunction, terms: Callable[[BallPiece, acb], Sequence[acb]]) -> list[arb]:
    """Bounds of what integrals lose as segments end at midpoints: the balls of the ends times the integrands there.

    Twice, for an end at 0 that symmetry counts twice; empty when all ends are exact.
    """
    total: list[arb] = []
    for piece in function.pieces:
        for end in piece.ends():
            if end is not None and not end.is_exact():
                losses = [2 * abs(term).upper() * end.rad() for term in terms(piece, acb(end))]
                total = [a + b for a, b in zip_longest(total, losses, fillvalue=arb(0))]
    return total


_VANISHING: dict[str | None, frozenset[int]] = {"odd": frozenset({0, 3}), "even": frozenset({2}), None: frozenset()}


def moment_problem(function: BallFunction, tau: arb, bits: int, wanted: Iterable[int] = range(len(SHAPES))) -> Problem:
    """The problem to about ``bits`` bits of E|f_i|, for the wanted moments that are finite.

    Raises:
        UncertifiedError: see ``cut_integrals``.
    """
    unit = [arb(2) ** -_SURVEY_BITS] * len(SHAPES)
    rough = cut_integrals(function, tau, SHAPES, unit)
    sizes, spreads = _survey(function, tau.mid(), rough)
    cut = cut_integrals(function, tau, SHAPES, [size * arb(2) ** -bits for size in sizes])
    vanishing = _VANISHING[function.parity]
    infinite = frozenset() if has_finite_v(function) else frozenset({5})
    needed = tuple(i for i in wanted if i not in vanishing | infinite)
    return Problem(function, tau, needed, vanishing, sizes, spreads, cut)


def _survey(function: BallFunction, tau: arb, cut: Cut) -> tuple[tuple[arb, ...], tuple[arb, ...]]:
    """About E|f_i| and E|f_i| (xi^2 + 3), by sampling; sizes are 1 where all samples vanish.

    The largest of several rules: points spread evenly over the cut, points that crowd towards 0, breakpoints and peaks.
    """
    with precision(_SURVEY_BITS):
        best = [[arb(0)] * len(SHAPES), [arb(0)] * len(SHAPES)]
        ends = [end for piece in function.pieces[:-1] if (end := piece.ends()[1]) is not None]
        norm = 1 / (tau * (2 * arb.pi()).sqrt())
        small = 0.001 * min(float(tau), 1.0)
        centres = [(0.0, small), *((float(end.mid()), small) for end in ends), *_peaks(function, float(tau), cut)]
        for points in (_even(cut), *(_crowded(cut, centre, width) for centre, width in centres)):
            sums = [[arb(0)] * len(SHAPES), [arb(0)] * len(SHAPES)]
            for y, width in points:
                piece = function.pieces[sum(1 for end in ends if not y < end)]
                xi = y / tau
                for i, term in enumerate(raw_terms(*piece.real(y), xi, (-xi * xi / 2).exp() * norm * width)):
                    if term.is_finite():
                        sums[0][i] += abs(term).mid()
                        sums[1][i] += (abs(term) * (xi * xi + 3)).mid()
            best = [[max(a, b) for a, b in zip(kept, new, strict=True)] for kept, new in zip(best, sums, strict=True)]
        sizes = tuple(s.mid() if s > 0 else arb(1) for s in best[0])
        return sizes, tuple(s.mid() for s in best[1])


def _peaks(function: BallFunction, tau: float, cut: Cut) -> Iterator[tuple[float, float]]:
    """Where an exponential phi or its square meets the weight: e^(j c y - y^2/(2 tau^2)) peaks at j c tau^2."""
    for side, end in ((-1, cut.left), (1, cut.right)):
        for j in (1, 2):
            peak = j * growth_rate(function, side) * tau * tau
            if 0 < peak < float(end):
                yield side * peak, 0.1 * tau


def _even(cut: Cut) -> Iterator[tuple[arb, float]]:
    step = float(cut.left + cut.right) / _SURVEY_POINTS
    for k in range(_SURVEY_POINTS):
        yield arb(step * (k + 0.44)) - cut.left, step


def _crowded(cut: Cut, centre: float, small: float) -> Iterator[tuple[arb, float]]:
    """Points centre + small sinh t, with the widths they stand for."""
    low = -math.asinh((float(cut.left) + centre) / small)
    high = math.asinh((float(cut.right) - centre) / small)
    step = (high - low) / (2 * _SURVEY_POINTS)
    for k in range(2 * _SURVEY_POINTS):
        t = low + step * (k + 0.44)
        yield arb(centre + small * math.sinh(t)), small * math.cosh(t) * step
