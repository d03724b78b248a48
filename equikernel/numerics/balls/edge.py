"""One segment in the variable of the trapezoidal rule: its map, its integrands on complex boxes, what lies beyond."""

from __future__ import annotations

import math

from flint import acb, arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import hull
from equikernel.numerics.balls.functions import BallFunction
from equikernel.numerics.balls.maps import IntervalMap, LineMap, Map, RayMap
from equikernel.numerics.balls.problem import Problem, Segment, segments

__all__ = ["Edge", "map_of", "refusal", "split_segments"]


def split_segments(function: BallFunction) -> list[Segment]:
    """Segments on which phi is not zero, finite ones cut at 0, where the Gaussian weight peaks."""
    found = []
    for s in segments(function):
        if s.is_zero:
            continue
        if s.lower is not None and s.upper is not None and s.lower < 0 and s.upper > 0:
            zero = arb(0)
            found += [Segment(s.piece, s.lower, zero, s.copies), Segment(s.piece, zero, s.upper, s.copies)]
        else:
            found.append(s)
    return found


def map_of(segment: Segment, scale: float) -> Map:
    """The map of a line, a ray or an interval; intervals have no scale."""
    if segment.whole_line:
        return LineMap(scale)
    if segment.lower is None and segment.upper is not None:
        return RayMap(segment.upper, -1, scale)
    if segment.upper is None and segment.lower is not None:
        return RayMap(segment.lower, 1, scale)
    if segment.lower is None or segment.upper is None:
        raise AssertionError("a segment without ends is the whole line")
    return IntervalMap(segment.lower, segment.upper)


def refusal(problem: Problem, why: str) -> UncertifiedError:
    """What to raise when the rule cannot be proved."""
    return UncertifiedError(
        f"the trapezoidal rule cannot prove the moments of {problem.function.activation.name} at "
        f'tau = {problem.tau.str(6, radius=False)}: the integrand {why}; use the engine "integral"'
    )


class Edge:
    """The integrands of one segment in t, relative to their sizes, on complex boxes."""

    def __init__(self, problem: Problem, segment: Segment, change: Map) -> None:
        self.problem = problem
        self.segment = segment
        self.change = change

    def __call__(self, t: acb) -> list[acb]:
        y, slope = self.change.at(t.exp())
        values = self.problem.terms(self.segment.piece, y, analytic=True)
        return [values[i] * slope / self.problem.sizes[i] for i in self.problem.needed]

    def far(self, bits: int) -> float:
        """Where the integrands have fallen well below 2^-bits."""
        cut = self.problem.cut
        side = (
            0 if self.segment.lower is None and self.segment.upper is None else 1 if self.segment.lower is None else 2
        )
        end = float((max(cut.left, cut.right), cut.left, cut.right)[side])
        return math.sqrt(end * end + 2 * float(self.problem.tau.upper()) ** 2 * math.log(64.0 * bits))

    def gap(self, end: arb | None, reached: arb) -> list[arb]:
        """Bounds of the relative integrals between the last point reached and the end of the segment.

        Beyond the cut of the tails there is nothing left to bound.

        Raises:
            UncertifiedError: an infinite end, and the cut was not reached.
        """
        problem = self.problem
        if end is None:
            if reached >= problem.cut.right or -reached >= problem.cut.left:
                return [arb(0)] * len(problem.needed)
            raise refusal(problem, f"is only reached to {reached.str(6)}, before its tails begin")
        values = problem.terms(self.segment.piece, acb(hull(end, reached)), analytic=False)
        return [abs(values[i]).abs_upper() * abs(end - reached) / problem.sizes[i] for i in problem.needed]
