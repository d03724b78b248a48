"""Engine B: Gaussian moments by the trapezoidal rule after a change of variable, with a proved error.

All six integrals share the nodes. Scale and height of the strip come from ``plan``, which proves nothing; the step
follows from the proved size of the integrands on the edge of the strip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flint import arb

from equikernel.numerics.balls.context import precision
from equikernel.numerics.balls.edge import Edge, map_of, refusal, split_segments
from equikernel.numerics.balls.integrands import raw_terms
from equikernel.numerics.balls.maps import Map
from equikernel.numerics.balls.plan import plan_strip
from equikernel.numerics.balls.problem import Problem, RawBalls, Segment
from equikernel.numerics.balls.strip import edge_integrals, is_analytic, side_integrals

__all__ = ["trapezoid_moments"]

_PROOF_BITS = 64
_LOG2 = math.log(2)
_NODES = 20_000
_NODES_PER_BIT = 10
_EXTENSIONS = 5
_SIDE_BOXES = 40
_LEAST_RATIO = 1000  # so that the step is at most about the height of the strip


def trapezoid_moments(problem: Problem, bits: int) -> RawBalls:
    """The six raw moments, each to about 2^-bits of E|f_i|, at the current precision.

    Raises:
        UncertifiedError: no strip of analyticity around a piece, or one so thin that the nodes would be more than
            ``_NODES + _NODES_PER_BIT * bits``.
    """
    totals = [arb(0)] * 6
    work = 0
    for index, segment in enumerate(split_segments(problem.function)):
        sums, nodes = _segment_sums(problem, segment, index, bits)
        work += nodes
        totals = [total + part for total, part in zip(totals, sums, strict=True)]
    return problem.result(totals, work)


@dataclass(frozen=True)
class _Grid:
    """Nodes k step for -before <= k <= after, and bounds of the six errors."""

    step: arb
    before: int
    after: int
    errors: tuple[arb, ...]


def _grid(edge: Edge, height: float, nodes: float, bits: int) -> _Grid | None:
    """A grid with every relative error below 2^-bits, or None if this height does not allow it."""
    goal = arb(2) ** (-bits - 3)
    log_small = -(bits + 12) * _LOG2
    far = 1.001 * edge.far(bits)
    for attempt in range(_EXTENSIONS):
        low, high = edge.change.reach(far, log_small)
        margin = 3 * (low + high) / nodes
        top = edge_integrals(edge, -low - margin, high + margin, height)
        if top is None or not is_analytic(edge.segment.piece, edge.change, -low - margin, high + margin, height):
            return None
        ratio = max((t / goal for t in top), default=arb(0)) + _LEAST_RATIO
        step = arb(float((2 * arb.pi() * height / (1 + 2 * ratio).log()).lower()))
        before, after = (math.ceil(length / float(step)) for length in (low, high))
        ends = -(before + arb(1) / 2) * step, (after + arb(1) / 2) * step
        if not (-ends[0] < low + margin and ends[1] < high + margin):
            nodes /= 2
            continue
        factor = 2 / ((2 * arb.pi() * height / step).exp() - 1)
        errors = [factor * t for t in top]
        gaps_from = (None, None) if edge.segment.whole_line else _ends(edge)
        for end, limit in zip(ends, gaps_from, strict=True):
            sides = side_integrals(edge, end, height, step, _SIDE_BOXES << attempt)
            if sides is None:
                return None
            with precision(bits + _PROOF_BITS):  # a point next to the end must not be rounded onto it
                gaps = edge.gap(limit, edge.change.at(end.exp())[0])
            errors = [e + 2 * s + g for e, s, g in zip(errors, sides, gaps, strict=True)]
        if all(e < 8 * goal for e in errors):
            return _Grid(step, before, after, tuple(e.upper() for e in errors))
        far, log_small = far * 1.02, log_small * 1.05
    return None


def _ends(edge: Edge) -> tuple[arb | None, arb | None]:
    """The ends of the segment in the order of t; a ray starts at its finite end."""
    segment = edge.segment
    return (segment.upper, None) if segment.lower is None else (segment.lower, segment.upper)


def _segment_sums(problem: Problem, segment: Segment, index: int, bits: int) -> tuple[list[arb], int]:
    tau = float(problem.tau.mid())
    plan = plan_strip(problem.function, index, round(math.log2(tau)), bits)
    limit = _NODES + _NODES_PER_BIT * bits
    if plan.nodes > 4 * limit:
        raise refusal(problem, "has no strip of analyticity wide enough around one of its pieces")
    change = map_of(segment, plan.scale)
    edge = Edge(problem, segment, change)
    height = plan.height
    with precision(_PROOF_BITS):
        for _ in range(_EXTENSIONS):
            grid = _grid(edge, height, plan.nodes, bits)
            if grid is not None:
                break
            height *= 0.75
        else:
            raise refusal(problem, "could not be bounded on the edge of a strip")
    if grid.before + grid.after > limit:
        raise refusal(problem, f"needs {grid.before + grid.after} nodes, more than the stated {limit}")
    sums = _sum(problem, segment, change, grid)
    for i, error in zip(problem.needed, grid.errors, strict=True):
        sums[i] += arb(0, (segment.copies * error * problem.sizes[i]).upper())
    return sums, grid.before + grid.after


def _sum(problem: Problem, segment: Segment, change: Map, grid: _Grid) -> list[arb]:
    """The trapezoidal sums of the six integrals at the current precision."""
    totals = [arb(0)] * 6
    halved = segment.whole_line and segment.copies == 2
    inverse = 1 / problem.tau
    ratio = grid.step.exp()
    sides = ((1, grid.after, ratio),) if halved else ((0, grid.after, ratio), (1, grid.before, 1 / ratio))
    for start, stop, factor in sides:
        e = factor**start
        for _ in range(start, stop + 1):
            y, slope = change.at(e)
            xi = y * inverse
            terms = raw_terms(*segment.piece.real(y), xi, (-xi * xi / 2).exp() * slope)
            totals = [total + term for total, term in zip(totals, terms, strict=True)]
            e *= factor
    totals = [segment.copies * total for total in totals]
    if halved:  # the node at 0 is its own mirror image
        y, slope = change.at(arb(1))
        terms = raw_terms(*segment.piece.real(y), y * inverse, slope)
        totals = [total + term for total, term in zip(totals, terms, strict=True)]
    norm = grid.step / (problem.tau * (2 * arb.pi()).sqrt())
    return [total * norm for total in totals]
