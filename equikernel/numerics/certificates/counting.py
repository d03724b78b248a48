"""How many fixed points there are, from the bound, the shape and the boxes; the sentences that say so."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from equikernel.errors import UncertifiedError
from equikernel.numerics.certificates.bounds import Bound
from equikernel.numerics.certificates.budget import Budget
from equikernel.numerics.certificates.equation import Equation
from equikernel.numerics.certificates.localise import MAX_BOXES, UNDECIDED, Box, Run, cover, runs_of
from equikernel.numerics.certificates.shape import Shape

__all__ = ["AT_MOST_ONE", "EVERYWHERE", "Count", "Counted", "count_fixed_points", "tally"]

EVERYWHERE = "(0, oo)"
_SHARE = 0.5  # of the budget for the boxes; the rest is for the fixed points and the coefficients
AT_MOST_ONE = "at most one zero"  # the verdict of the monotone-shape theorem on the whole interval


@dataclass(frozen=True)
class Count:
    """The number of fixed points.

    Attributes:
        least: so many exist at least.
        number: exactly so many on ``on``; None when undecided.
        on: "(0, oo)" or "(0, B]".
        theorems: what it rests on.
        undecided: intervals [lower, upper] of q on which nothing was proved.
        complete: whether the budget of boxes and time sufficed.
        existence, uniqueness: the sentences.
    """

    least: int
    number: int | None
    on: str
    theorems: tuple[str, ...]
    undecided: tuple[tuple[float, float], ...]
    complete: bool
    existence: str
    uniqueness: str

    def to_dict(self) -> dict[str, Any]:
        """The machine-readable part, plain JSON types."""
        return {
            "least": self.least,
            "number": self.number,
            "on": self.on,
            "theorems": list(self.theorems),
            "undecided": [list(interval) for interval in self.undecided],
            "complete": self.complete,
        }


@dataclass(frozen=True)
class Counted:
    """The count, the boxes it came from, and the runs that hold one fixed point each."""

    count: Count
    boxes: tuple[Box, ...]
    located: tuple[Run, ...]


def count_fixed_points(
    equation: Equation, bound: Bound, shape: Shape, budget: Budget, reasons: tuple[str, ...] = ()
) -> Counted:
    """Count the fixed points and bracket each.

    Args:
        equation: the equation.
        bound: where they lie.
        shape: the monotone-shape theorem.
        budget: of which the boxes take a part.
        reasons: why other bounds do not apply, for the sentence.
    """
    if bound.upper is None or (shape.holds and bound.sign < 0):
        return Counted(tally(bound, shape, (), True, reasons), (), ())
    lower = equation.floor
    if shape.holds and bound.sign > 0:
        run = Run(lower, bound.upper, AT_MOST_ONE, (-1, 1))
        return Counted(tally(bound, shape, (run,), True, reasons), (), (run,))
    found = cover(equation, lower, bound.upper, budget.share(_SHARE))
    boxes, complete = found.boxes, found.complete
    try:
        runs = runs_of(boxes, partial(_sign_within, budget, equation), -1, bound.sign)
    except UncertifiedError:
        # signs that were left out for want of time would be found by whoever checks: better no verdict at all
        boxes, complete = (Box(boxes[0].lower, boxes[-1].upper, UNDECIDED),), False
        runs = runs_of(boxes, equation.sign_at, -1, bound.sign)
    count = tally(bound, shape, runs, complete, reasons)
    return Counted(count, boxes, tuple(run for run in runs if run.zeros == 1))


def _sign_within(budget: Budget, equation: Equation, q: float) -> int:
    budget.require("the signs between the boxes were computed")
    return equation.sign_at(q)


def tally(bound: Bound, shape: Shape, runs: tuple[Run, ...], complete: bool, reasons: tuple[str, ...] = ()) -> Count:
    """The count that runs of boxes prove, together with the bound and the shape.

    Args:
        bound: where the fixed points lie.
        shape: the monotone-shape theorem.
        runs: a cover of [b, bound.upper] with the signs at the ends; empty when theorems do without.
        complete: whether the budget of boxes and time sufficed.
        reasons: why other bounds do not apply.
    """
    everywhere = bound.sign != 0
    on = EVERYWHERE if everywhere else f"(0, {bound.upper!r}]"
    theorems = [bound.theorem] if everywhere else []
    undecided = tuple((run.lower, run.upper) for run in runs if run.zeros is None)
    least = sum(run.zeros == 1 or (run.zeros is None and run.signs[0] * run.signs[1] < 0) for run in runs)
    number: int | None = None if undecided else least
    if shape.holds and (least == 1 or not runs):
        number, on = least, EVERYWHERE
        theorems.append("monotone shape")
    if runs and runs[0].verdict != AT_MOST_ONE:
        theorems.append("boxes")
    existence = _existence(bound, runs, least, number, on)
    uniqueness = _uniqueness(bound, shape, undecided, number, on, complete, reasons)
    return Count(least, number, on, tuple(theorems), undecided, complete, existence, uniqueness)


def _existence(bound: Bound, runs: tuple[Run, ...], least: int, number: int | None, on: str) -> str:
    if not runs:
        return f"none on (0, oo): {bound.statement}"
    if number == 0:
        return f"none on {on}: q - T(q) < 0 on boxes that cover it" + (f"; {bound.statement}" if bound.sign else "")
    if least == 0:
        return "undecided: no sign change of q - T(q) was found, and it could not be shown to have no zero"
    return f"proved: {_counted(least)} with a sign change of q - T(q)"


def _uniqueness(
    bound: Bound,
    shape: Shape,
    undecided: tuple[tuple[float, float], ...],
    number: int | None,
    on: str,
    complete: bool,
    reasons: tuple[str, ...],
) -> str:
    if number is None:
        places = ", ".join(f"[{low:.10g}, {high:.10g}]" for low, high in undecided[:3])
        why = (
            "q - T(q) and its derivative are too small to tell a double root from two close roots or none"
            if complete
            else f"the budget ran out, of {MAX_BOXES} boxes or of time"
        )
        return f"undecided: on q in {places} {why}"
    how = {0: "there is no fixed point", 1: "unique: exactly one fixed point"}.get(
        number, f"exactly {_counted(number)}"
    )
    sentence = f"{how} on {on}"
    if shape.holds and on == EVERYWHERE and number <= 1:
        return f"{sentence}: {shape.statement}"
    if bound.sign:
        return f"{sentence}: {bound.statement}; counted on boxes below"
    more = "; at most one anywhere (monotone shape)" if shape.holds else f" ({'; '.join(reasons)})" if reasons else ""
    return f"{sentence}: {bound.statement}{more}"


def _counted(number: int) -> str:
    words = {1: "one fixed point", 2: "two fixed points", 3: "three fixed points"}
    return words.get(number, f"{number} fixed points")
