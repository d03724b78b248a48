"""Every fixed point in an interval, located and counted by boxes that cover it.

A box is discarded where F = q - T(q) has one sign on it, and kept where F' has one sign: on a run of kept boxes F is
strictly monotone, so that it has exactly one zero when its signs at the two ends differ and none when they agree. A box
where neither could be shown is halved, down to a smallest width; what is left then is undecided.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from equikernel.errors import UncertifiedError
from equikernel.numerics.certificates.budget import Budget
from equikernel.numerics.certificates.equation import Equation

__all__ = ["ABOVE", "BELOW", "FALLING", "MAX_BOXES", "RISING", "UNDECIDED", "Box", "Cover", "Run", "cover", "runs_of"]

BELOW, ABOVE = "T > q", "T < q"  # F < 0, F > 0
RISING, FALLING = "F' > 0", "F' < 0"
UNDECIDED = "undecided"
_SIGNS = {BELOW: -1, ABOVE: 1}
MAX_BOXES = 800
_WIDEST = 1.5  # ratio of the ends of a first box
_NARROWEST = 2.0**-26  # relative width at which a box is given up
_SPLIT = 0.47  # off the middle, where zeros like to be


@dataclass(frozen=True)
class Box:
    """lower <= q <= upper and what is proved there."""

    lower: float
    upper: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"lower": self.lower, "upper": self.upper, "verdict": self.verdict}


@dataclass(frozen=True)
class Run:
    """Neighbouring boxes of one verdict with the signs of F at its two ends (0: not known).

    Attributes:
        zeros: how many zeros F has on it; None when undecided.
    """

    lower: float
    upper: float
    verdict: str
    signs: tuple[int, int]

    @property
    def zeros(self) -> int | None:
        if self.verdict in _SIGNS:
            return 0
        if self.verdict == UNDECIDED or 0 in self.signs:
            return None
        return 1 if self.signs[0] != self.signs[1] else 0


@dataclass(frozen=True)
class Cover:
    """Boxes that cover an interval, in order, and whether the budget sufficed for all of them."""

    boxes: tuple[Box, ...]
    complete: bool


def cover(equation: Equation, lower: float, upper: float, budget: Budget) -> Cover:
    """Boxes that cover [lower, upper], each with a verdict; at most ``MAX_BOXES`` are tried, within the budget.

    Args:
        equation: the fixed-point equation.
        lower: positive variance.
        upper: variance above it.
        budget: what is not tried within it is undecided.
    """
    pending = _geometric(lower, upper)[::-1]
    done: list[Box] = []
    tried, complete = 0, True
    while pending:
        low, high = pending.pop()
        verdict = UNDECIDED
        if tried < MAX_BOXES and not budget.spent:
            tried += 1
            verdict = _verdict(equation, low, high)
        middle = low * (high / low) ** _SPLIT
        if verdict == UNDECIDED and high - low > _NARROWEST * low and low < middle < high:
            if tried < MAX_BOXES and not budget.spent:
                pending += [(middle, high), (low, middle)]
                continue
            complete = False
        done.append(Box(low, high, verdict))
    return Cover(tuple(done), complete)


def _geometric(lower: float, upper: float) -> list[tuple[float, float]]:
    edges = [lower]
    while edges[-1] * _WIDEST < upper:
        edges.append(edges[-1] * _WIDEST)
    edges.append(upper)
    return list(itertools.pairwise(edges))


def _verdict(equation: Equation, lower: float, upper: float) -> str:
    width = (upper - lower) / lower
    # F is resolved to the square of the width, which is its size next to a double zero
    bits = 32 + 2 * max(0, -_exponent(width))
    try:
        value, slope = equation.over(lower, upper, bits)
        for ball, names in ((value, (ABOVE, BELOW)), (slope, (RISING, FALLING))):
            if ball > 0 or ball < 0:
                return names[0] if ball > 0 else names[1]
        value = equation.sharper_over(lower, upper, slope, bits)
    except UncertifiedError:
        return UNDECIDED  # too wide for an enclosure; narrower boxes may have one
    return ABOVE if value > 0 else BELOW if value < 0 else UNDECIDED


def _exponent(value: float) -> int:
    return math.frexp(value)[1]


def runs_of(boxes: Sequence[Box], sign_at: Callable[[float], int], first: int, last: int) -> tuple[Run, ...]:
    """Neighbouring boxes of one verdict joined, with the signs at their ends.

    Args:
        boxes: in order, without gaps.
        sign_at: the sign of F at an edge, asked only where no neighbour tells.
        first: sign of F at the lowest edge.
        last: sign of F at the highest edge; 0 when it is to be asked.
    """
    joined = [
        (verdict, group[0].lower, group[-1].upper)
        for verdict, members in itertools.groupby(boxes, key=lambda box: box.verdict)
        if (group := list(members))
    ]
    signs = [first]
    for (left, _, edge), (right, _, _) in itertools.pairwise(joined):
        signs.append(_SIGNS.get(left) or _SIGNS.get(right) or sign_at(edge))
    signs.append(_SIGNS.get(joined[-1][0]) or last or sign_at(joined[-1][2]))
    return tuple(
        Run(lower, upper, verdict, ends)
        for (verdict, lower, upper), ends in zip(joined, itertools.pairwise(signs), strict=True)
    )
