"""The search, without proof, for the scale of a map and the height of a strip that need the fewest nodes.

It is made for a power of two near tau and a round number of bits, once, so that results do not depend on what was
computed before. ``trapezoid`` proves what it is told here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from flint import acb, arb

from equikernel.numerics.balls.context import precision
from equikernel.numerics.balls.edge import Edge, map_of, split_segments
from equikernel.numerics.balls.functions import BallFunction
from equikernel.numerics.balls.problem import Problem, Segment, moment_problem
from equikernel.numerics.balls.strip import cover

__all__ = ["Plan", "plan_strip"]

_SEARCH_PRECISION = 64
_LOG2 = math.log(2)
_HEIGHTS = (0.96, 0.88, 0.75, 0.55, 0.35, 0.2, 0.1, 0.04, 0.01)
_FRACTIONS = (1.0, 0.85, 0.7, 0.5, 0.35, 0.2)
_SAMPLES = 24
_PLANNED = (64, 512, 4096)  # bits for which scale and height are searched
_SCALES = 8  # steps of a factor 4 tried at most
_BOXES = 1_200  # for one strip
_ALL_BOXES = 12_000  # for the whole search


@dataclass(frozen=True)
class Plan:
    """Scale of the map, height of the strip, and the nodes they are expected to take (infinite: no strip)."""

    scale: float
    height: float
    nodes: float


def plan_strip(function: BallFunction, index: int, log_tau: int, bits: int) -> Plan:
    """A plan for one segment of ``split_segments`` at about tau = 2^log_tau and so many bits."""
    return _planned(function, index, log_tau, next(b for b in _PLANNED if bits <= b or b == _PLANNED[-1]))


@lru_cache(maxsize=1024)
def _planned(function: BallFunction, index: int, log_tau: int, bits: int) -> Plan:
    with precision(_SEARCH_PRECISION):
        problem = moment_problem(function, arb(2) ** log_tau, bits)
        return _Search(problem, split_segments(function)[index], bits).run(min(2.0**log_tau, 1.0))


class _Search:
    """Climbs over scales, a factor 4 at a time; for each, the tallest strip that can be covered, and shorter ones."""

    def __init__(self, problem: Problem, segment: Segment, bits: int) -> None:
        self.problem = problem
        self.segment = segment
        self.bits = bits
        self.boxes = _ALL_BOXES

    def run(self, scale: float) -> Plan:
        start = self._at(scale)
        if self.segment.lower is not None and self.segment.upper is not None:
            return start  # the map of an interval has no scale
        for factor in (4.0, 0.25):
            best = self._climb(start, factor)
            if best.nodes < start.nodes:
                return best
        return start

    def _climb(self, start: Plan, factor: float) -> Plan:
        best, scale = start, start.scale
        for _ in range(_SCALES):
            scale *= factor
            plan = self._at(scale)
            if plan.nodes >= best.nodes < math.inf or (factor > 1 and plan.nodes == math.inf):
                break
            best = plan
        return best

    def _at(self, scale: float) -> Plan:
        """The best height at one scale."""
        change = map_of(self.segment, scale)
        edge = Edge(self.problem, self.segment, change)
        low, high = change.reach(edge.far(self.bits), -self.bits * _LOG2)
        best = Plan(scale, 0.0, math.inf)
        tallest = next((change.strip * h for h in _HEIGHTS if self._covered(edge, low, high, change.strip * h)), 0.0)
        for height in (tallest * f for f in _FRACTIONS if tallest):
            largest = arb(0)
            for k in range(_SAMPLES + 1):
                t = -low + (low + high) * k / _SAMPLES
                for value in edge(acb(t, height)):
                    largest = max(largest, abs(value).abs_upper()) if value.is_finite() else arb.pos_inf()
            if largest.is_finite() and largest > 0:
                decay = self.bits * _LOG2 + float((largest * (low + high)).log().mid()) + 4
                nodes = (low + high) * max(decay, 1.0) / (2 * math.pi * height)
                best = min(best, Plan(scale, height, nodes), key=lambda plan: plan.nodes)
        return best

    def _covered(self, edge: Edge, low: float, high: float, height: float) -> bool:
        covered, count = cover(edge.segment.piece, edge.change, -low, high, height, min(_BOXES, self.boxes))
        self.boxes -= count
        return covered
