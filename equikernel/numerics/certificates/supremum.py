"""The largest sigma_a2 for which T(q) = q has a solution: the supremum of the branch, by branch and bound."""

from __future__ import annotations

import heapq
import itertools

from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import constant, hull
from equikernel.numerics.certificates.bounds import Asymptotics
from equikernel.numerics.certificates.branch import Branch, Transition, shown_above, shown_below

__all__ = ["supremum"]

_RATIO = 1.5
_MAX_BOXES = 60
_TOLERANCE = 1e-10


def supremum(branch: Branch, asymptotic: Asymptotics | None, rising_to: float, end: float) -> Transition:
    """The supremum of sigma_a2 = (q - b)/V(q) over q > b.

    Below it a fixed point exists, since sigma_a2 is continuous along the branch and begins at 0; above there is none.
    With affine asymptotes, (q - b)/V <= 1/(sqrt v - R/sqrt q)^2 bounds what lies beyond ``end``; without them the
    statement is about q <= end.

    Args:
        branch: the curve, with sigma_b2 fixed.
        asymptotic: the affine asymptotes of phi, if it has them.
        rising_to: sigma_a2 is proved to increase from b to here: the maximum so far is the value here.
        end: how far to look.
    """
    beyond: arb | None = None
    if asymptotic is not None:
        margin = constant(asymptotic.v).sqrt() - asymptotic.R / arb(end).sqrt()
        if not margin > 0:
            return Transition(None, None, "undecided", "the largest sigma_a2 could not be bounded for large q")
        beyond = 1 / margin**2
    least, most, place = _maximum(branch, rising_to, end, None if beyond is None else beyond.upper())
    if least is None or not most.is_finite():
        return Transition(None, None, "undecided", "the largest sigma_a2 could not be enclosed")
    if asymptotic is not None and beyond is not None:
        inside = bool(least > beyond)
        value = hull(max(least, (1 / constant(asymptotic.v)).lower()), max(most, beyond.upper()))
        return Transition(
            value,
            place if inside else None,
            "reached",
            f"a fixed point exists for sigma_a2 < {shown_below(value)} and none for sigma_a2 > {shown_above(value)}",
        )
    if place.upper() >= end:
        sentence = f"a fixed point exists for every sigma_a2 < {shown_below(least)}"
        return Transition(None, None, "not reached", sentence)
    value = hull(least, most)
    return Transition(
        value,
        place,
        "reached",
        f"a fixed point exists for sigma_a2 < {shown_below(value)}; above {shown_above(value)} there is none with "
        f"q <= {end:.6g}",
    )


def _maximum(branch: Branch, rising_to: float, end: float, enough: arb | None) -> tuple[arb | None, arb, arb]:
    """(lower bound, upper bound, hull of where it may be) of the maximum of sigma_a2 up to ``end``.

    An upper bound below ``enough`` is not improved.
    """
    value = _enclosed(branch, arb(rising_to))
    best: arb | None = value.lower() if value.is_finite() else None
    order = itertools.count()
    heap: list[tuple[float, int, float, float, arb]] = []

    def add(low: float, high: float) -> None:
        nonlocal best
        upper = _enclosed(branch, hull(low, high)).upper()
        inner = _enclosed(branch, arb(low * (high / low) ** 0.5)).lower()
        if inner.is_finite() and (best is None or inner > best):
            best = inner
        heapq.heappush(heap, (-float(upper), next(order), low, high, upper))

    low = rising_to
    while low < end:
        high = min(low * _RATIO, end)
        add(low, high)
        low = high
    for _ in range(_MAX_BOXES if heap else 0):
        _, _, low, high, upper = heap[0]
        middle = low * (high / low) ** 0.47
        settled = (best is not None and upper <= best * (1 + _TOLERANCE)) or (enough is not None and upper <= enough)
        if settled or not low < middle < high:
            break
        heapq.heappop(heap)
        add(low, middle)
        add(middle, high)
    most = max([value.upper(), *(upper for *_, upper in heap[:1])])
    where = [(low, high) for _, _, low, high, upper in heap if best is None or upper >= best]
    place = hull(min((low for low, _ in where), default=rising_to), max((high for _, high in where), default=rising_to))
    return best, most, place


def _enclosed(branch: Branch, q: arb) -> arb:
    """sigma_a2 over a ball of q; everything where it has no enclosure."""
    try:
        value = branch.sigma_a2(q)
    except UncertifiedError:
        return arb(0, arb.pos_inf())
    return value if value.is_finite() else arb(0, arb.pos_inf())
