"""Engine B: Gaussian moments by the trapezoidal rule after a change of variable, with a proved error.

All six integrals share the nodes. Scale and height of the strip are searched for without proof, for a power of two near
tau and a round number of bits, so that they are found once and results do not depend on what was computed before. The
step follows from the proved size of the integrands on the edge of the strip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from flint import acb, arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import hull, precision
from equikernel.numerics.balls.functions import BallFunction
from equikernel.numerics.balls.integrands import raw_terms
from equikernel.numerics.balls.maps import IntervalMap, LineMap, Map, RayMap
from equikernel.numerics.balls.problem import Problem, RawBalls, Segment, moment_problem, segments
from equikernel.numerics.balls.strip import edge_integrals, is_analytic, side_integrals

__all__ = ["trapezoid_moments"]

_PROOF_BITS = 64
_LOG2 = math.log(2)
_NODES = 20_000
_NODES_PER_BIT = 10
_HEIGHTS = (0.96, 0.88, 0.75, 0.55, 0.35, 0.2, 0.1, 0.04, 0.01)
_FRACTIONS = (1.0, 0.85, 0.7, 0.5, 0.35, 0.2)
_SAMPLES = 24
_PLANNED = (64, 512, 4096)  # bits for which scale and height are searched
_SCALES = 8  # steps of a factor 4 tried at most
_SEARCH_BOXES = 1_200
_EXTENSIONS = 5
_SIDE_BOXES = 40
_LEAST_RATIO = 1000  # so that the step is at most about the height of the strip


@dataclass(frozen=True)
class _Plan:
    """Scale of the map and height of the strip, and the nodes they are expected to take (infinite: no strip)."""

    scale: float
    height: float
    nodes: float


def trapezoid_moments(problem: Problem, bits: int) -> RawBalls:
    """The six raw moments, each to about 2^-bits of E|f_i|, at the current precision.

    Raises:
        UncertifiedError: no strip of analyticity around a piece, or one so thin that the nodes would be more than
            ``_NODES + _NODES_PER_BIT * bits``.
    """
    totals = [arb(0)] * 6
    for index, segment in enumerate(_segments(problem.function)):
        sums = _segment_sums(problem, segment, index, bits)
        totals = [total + part for total, part in zip(totals, sums, strict=True)]
    return problem.result(totals, exhausted=False)


def _segments(function: BallFunction) -> list[Segment]:
    """Segments with finite ones cut at 0, where the Gaussian weight peaks."""
    found = []
    for s in segments(function):
        if s.lower is not None and s.upper is not None and s.lower < 0 and s.upper > 0:
            zero = arb(0)
            found += [Segment(s.piece, s.lower, zero, s.copies), Segment(s.piece, zero, s.upper, s.copies)]
        else:
            found.append(s)
    return found


def _map(segment: Segment, scale: float) -> Map:
    if segment.whole_line:
        return LineMap(scale)
    if segment.lower is None and segment.upper is not None:
        return RayMap(segment.upper, -1, scale)
    if segment.upper is None and segment.lower is not None:
        return RayMap(segment.lower, 1, scale)
    if segment.lower is None or segment.upper is None:
        raise AssertionError("a segment without ends is the whole line")
    return IntervalMap(segment.lower, segment.upper)


# -- proof -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """Nodes k step for -before <= k <= after, and bounds of the six errors."""

    step: arb
    before: int
    after: int
    errors: tuple[arb, ...]


class _Edge:
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
            raise _refusal(problem, f"is only reached to {reached.str(6)}, before its tails begin")
        values = problem.terms(self.segment.piece, acb(hull(end, reached)), analytic=False)
        return [abs(values[i]).abs_upper() * abs(end - reached) / problem.sizes[i] for i in problem.needed]


def _grid(edge: _Edge, height: float, nodes: float, bits: int) -> _Grid | None:
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


def _ends(edge: _Edge) -> tuple[arb | None, arb | None]:
    """The ends of the segment in the order of t; a ray starts at its finite end."""
    segment = edge.segment
    return (segment.upper, None) if segment.lower is None else (segment.lower, segment.upper)


def _segment_sums(problem: Problem, segment: Segment, index: int, bits: int) -> list[arb]:
    tau = float(problem.tau.mid())
    plan = _plan(
        problem.function, index, round(math.log2(tau)), next(b for b in _PLANNED if bits <= b or b == _PLANNED[-1])
    )
    limit = _NODES + _NODES_PER_BIT * bits
    if plan.nodes > 4 * limit:
        raise _refusal(problem, "has no strip of analyticity wide enough around one of its pieces")
    change = _map(segment, plan.scale)
    edge = _Edge(problem, segment, change)
    height = plan.height
    with precision(_PROOF_BITS):
        for _ in range(_EXTENSIONS):
            grid = _grid(edge, height, plan.nodes, bits)
            if grid is not None:
                break
            height *= 0.75
        else:
            raise _refusal(problem, "could not be bounded on the edge of a strip")
    if grid.before + grid.after > limit:
        raise _refusal(problem, f"needs {grid.before + grid.after} nodes, more than the stated {limit}")
    sums = _sum(problem, segment, change, grid)
    for i, error in zip(problem.needed, grid.errors, strict=True):
        sums[i] += arb(0, (segment.copies * error * problem.sizes[i]).upper())
    return sums


def _refusal(problem: Problem, why: str) -> UncertifiedError:
    return UncertifiedError(
        f"the trapezoidal rule cannot prove the moments of {problem.function.activation.name} at "
        f'tau = {problem.tau.str(6, radius=False)}: the integrand {why}; use the engine "integral"'
    )


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


# -- search ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _plan(function: BallFunction, index: int, log_tau: int, bits: int) -> _Plan:
    """The best scale and height found at tau = 2^log_tau; nothing here is a proof."""
    with precision(_PROOF_BITS):
        problem = moment_problem(function, arb(2) ** log_tau, bits)
        segment = _segments(function)[index]
        best = _best_height(problem, segment, min(2.0**log_tau, 1.0), bits)
        if not (segment.lower is not None and segment.upper is not None):
            for factor in (4.0, 0.25):
                found = _best_scale(problem, segment, best, factor, bits)
                if found.nodes < best.nodes:
                    return found
        return best


def _best_scale(problem: Problem, segment: Segment, start: _Plan, factor: float, bits: int) -> _Plan:
    """The best plan in one direction from a first scale, as long as they get better."""
    best = start
    scale = start.scale
    for _ in range(_SCALES):
        scale *= factor
        plan = _best_height(problem, segment, scale, bits)
        if plan.nodes >= best.nodes < math.inf or (factor > 1 and plan.nodes == math.inf):
            break
        best = plan
    return best


def _best_height(problem: Problem, segment: Segment, scale: float, bits: int) -> _Plan:
    change = _map(segment, scale)
    edge = _Edge(problem, segment, change)
    low, high = change.reach(edge.far(bits), -bits * _LOG2)
    heights = (change.strip * h for h in _HEIGHTS)
    tallest = next((h for h in heights if is_analytic(segment.piece, change, -low, high, h, _SEARCH_BOXES)), None)
    best = _Plan(scale, 0.0, math.inf)
    for height in (tallest * f for f in _FRACTIONS) if tallest is not None else ():
        largest = arb(0)
        for k in range(_SAMPLES + 1):
            t = -low + (low + high) * k / _SAMPLES
            for value in edge(acb(t, height)):
                largest = max(largest, abs(value).abs_upper()) if value.is_finite() else arb.pos_inf()
        if largest.is_finite() and largest > 0:
            decay = bits * _LOG2 + float((largest * (low + high)).log().mid()) + 4
            nodes = (low + high) * max(decay, 1.0) / (2 * math.pi * height)
            best = min(best, _Plan(scale, height, nodes), key=lambda plan: plan.nodes)
    return best
