"""``check_certificate(record)``: every claim of a certificate proved again, from its JSON alone.

Nothing is taken over from the solver: the activation is parsed by the safe grammar, the theorem of the bound and the
shape are proved again, every box is enclosed again in two halves, the signs and the count are derived afresh, and the
fixed points and coefficients are enclosed by the other of the two engines for Gaussian moments, more sharply than
claimed, so that a true enclosure contains the new one (see ``points``). Sentences are compared with those that follow.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from flint import arb

from equikernel.errors import InputError, UncertifiedError
from equikernel.numerics.balls.functions import ball_function
from equikernel.numerics.certificates.beside import confirm_beside
from equikernel.numerics.certificates.bounds import Bound, best_bound, bound_by, interval_to
from equikernel.numerics.certificates.budget import Budget
from equikernel.numerics.certificates.claims import RejectedError, require, require_sentence
from equikernel.numerics.certificates.coefficients import UNENCLOSED
from equikernel.numerics.certificates.counting import AT_MOST_ONE, Count, tally
from equikernel.numerics.certificates.localise import (
    ABOVE,
    BELOW,
    RISING,
    UNDECIDED,
    Box,
    Run,
    runs_of,
)
from equikernel.numerics.certificates.points import confirm_coefficients, confirm_points
from equikernel.numerics.certificates.record import Record, read_record
from equikernel.numerics.certificates.refine import Zero
from equikernel.numerics.certificates.shape import Shape, monotone_shape

__all__ = ["CheckReport", "check_certificate"]

SECONDS = 60.0  # more than the solver takes: every box is proved in two parts, and to more bits
_BOX_BITS = 16  # more than the solver used
_MANY_DIGITS = 250  # from which the slower engine would take minutes
_HALF = 0.41


@dataclass(frozen=True)
class CheckReport:
    """The outcome.

    Attributes:
        passed: whether every claim was proved again.
        failure: the sentence that says which claim was not; None when all were.
        confirmed: what was confirmed, in order.
        unchecked: what was not looked at: it claims nothing about the network, or stands beside the certificate.
        engine: the engine that enclosed the coefficients this time.
    """

    passed: bool
    failure: str | None
    confirmed: tuple[str, ...]
    unchecked: tuple[str, ...]
    engine: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "passed": self.passed,
            "failure": self.failure,
            "confirmed": list(self.confirmed),
            "unchecked": list(self.unchecked),
            "engine": self.engine,
        }


def check_certificate(record: Any, *, seconds: float = SECONDS) -> CheckReport:
    """Prove every claim of a certificate again; in a solution, the numbers beside it are compared with it.

    Args:
        record: the JSON object, as ``Certificate.to_dict()`` or ``Solution.to_dict()`` makes it.
        seconds: processor time after which a claim not yet proved again counts as not confirmed.

    Raises:
        InputError: the record is malformed: a key, a type, a size, an activation that does not parse.
        UncertifiedError: the breakpoints of the activation could not be proved, so that nothing can be.
    """
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds must be a positive number; got {seconds!r}")
    solution: dict[str, Any] | None = None
    if isinstance(record, dict) and "certificate" in record:
        solution = {key: value for key, value in record.items() if key != "certificate"}
        record = record["certificate"]
    checker = _Checker(read_record(record), Budget(seconds))
    try:
        confirmed = [*checker.claims(), *checker.beside(solution)]
    except RejectedError as rejection:
        return CheckReport(False, str(rejection), (), (), checker.engine)
    except UncertifiedError as error:
        return CheckReport(False, f"a claim could not be confirmed: {error}", (), (), checker.engine)
    return CheckReport(True, None, tuple(confirmed), tuple(checker.unchecked), checker.engine)


class _Checker:
    def __init__(self, record: Record, budget: Budget) -> None:
        self.record = record
        self.budget = budget
        self.equation = record.equation
        self.function = ball_function(record.equation.activation)
        self.engine = "trapezoid" if record.engine == "integral" or record.digits > _MANY_DIGITS else "integral"
        self.zeros: list[Zero] = []
        self.unchecked: list[str] = []

    def claims(self) -> Iterator[str]:
        """Confirm the claims one after the other, each with a sentence.

        Raises:
            RejectedError: one is false or could not be confirmed.
            UncertifiedError: something could not be enclosed, or not within the budget.
        """
        record = self.record
        bound, reasons = self._bound()
        require_sentence("bound", record.bound_statement, bound.statement)
        yield f"the bound: {bound.statement}"
        shape = self._shape()
        if shape.holds:
            yield f"the shape: {shape.statement}"
        runs = self._runs(bound, shape)
        if record.boxes:
            yield f"boxes that cover [b, B] without a gap, each with its verdict: {len(record.boxes)}"
        self._count(tally(bound, shape, runs, record.count["complete"] is not False, reasons))
        yield f"the count: {record.count['number']} on {record.count['on']}"
        located = tuple(run for run in runs if run.zeros == 1)
        self.zeros = confirm_points(record, located, self.engine, self.budget)
        yield f"fixed points, each in its ball, and their stability: {len(self.zeros)}"
        yield from self._coefficients()

    def _coefficients(self) -> Iterator[str]:
        record = self.record
        if record.selected is None:
            told = record.enclosures or record.refused or record.stability or record.engine
            require(not told, "there are coefficients, but no stable fixed point that they belong to")
            return
        self.budget.require("the coefficients were confirmed")
        confirm_coefficients(record, self.zeros[record.selected], self.engine)
        if record.enclosures:
            names = ", ".join(record.enclosures)
            yield f"enclosures of {record.digits} digits (decimals where zero is possible): {names}"
        if record.stability:
            yield f"stability statements: {', '.join(record.stability)}"
        refused = [name for name, reason in record.refused.items() if not reason.startswith(UNENCLOSED)]
        if refused:
            yield f"why these are refused: {', '.join(refused)}"
        self.unchecked += [f"why {name} has no enclosure" for name in record.refused if name not in refused]

    def beside(self, solution: dict[str, Any] | None) -> Iterator[str]:
        """Confirm the numbers beside the certificate, after its claims.

        Raises:
            RejectedError: one contradicts the certificate.
        """
        if solution is not None:
            sentence, ignored = confirm_beside(solution, self.record, self.zeros)
            yield sentence
            if ignored:
                self.unchecked.append(f"beside the certificate: {', '.join(ignored)}")

    def _shape(self) -> Shape:
        shape = monotone_shape(self.function)
        require(shape.holds or not self.record.shape, f"the monotone-shape theorem: {shape.statement}")
        require(shape.holds is self.record.shape, "the certificate denies the monotone-shape theorem, which is proved")
        require_sentence("shape", self.record.shape_statement, shape.statement)
        return shape

    def _bound(self) -> tuple[Bound, tuple[str, ...]]:
        record, eq = self.record, self.equation
        if record.theorem == "interval":
            _, reasons = best_bound(self.function, eq.sigma_a2, eq.b)
            require(record.sign == 0 and record.upper is not None, "an interval is no bound on all fixed points")
            upper = record.upper or math.inf
            require(upper > float(eq.b), "the interval ends below sigma_b2*tau0^2")
            return interval_to(upper), reasons
        try:
            proved = bound_by(record.theorem, self.function, eq.sigma_a2, eq.b, 1.0)
        except UncertifiedError as error:
            raise RejectedError(f"the bound by the theorem {record.theorem} was not confirmed: {error}") from None
        loose = proved.upper is None or (record.upper is not None and record.upper >= proved.upper)
        require(
            loose and proved.sign == record.sign and (record.upper is None) <= (proved.upper is None),
            f"the bound by the theorem {record.theorem} was not confirmed: it is {proved.upper}, sign {proved.sign}",
        )
        return Bound(record.theorem, record.upper, record.sign, proved.statement), ()

    def _runs(self, bound: Bound, shape: Shape) -> tuple[Run, ...]:
        """The runs that the boxes prove; without boxes, what a theorem says."""
        boxes, floor = self.record.boxes, self.equation.floor
        if bound.upper is None or (shape.holds and bound.sign < 0):
            require(not boxes, "there are boxes, where a theorem does without")
            return ()
        if not boxes:
            require(shape.holds and bound.sign > 0, "there are no boxes, and no theorem that does without")
            return (Run(floor, bound.upper, AT_MOST_ONE, (-1, 1)),)
        require(
            Fraction(boxes[0].lower) <= self.equation.b and boxes[-1].upper >= bound.upper,
            "the boxes do not reach from sigma_b2*tau0^2 to the bound",
        )
        for left, right in itertools.pairwise(boxes):
            require(left.upper == right.lower, f"the boxes leave a gap or overlap at q = {left.upper!r}")
        for box in boxes:
            self._box(box)
        # F < 0 wherever q <= b, and the sign of the bound holds from its end on
        first = -1 if Fraction(boxes[0].lower) < self.equation.b else self._sign_at(boxes[0].lower)
        return runs_of(boxes, self._sign_at, first, bound.sign)

    def _sign_at(self, q: float) -> int:
        self.budget.require("every sign was confirmed")
        return self.equation.sign_at(q, self.engine) or self.equation.sign_at(q)

    def _box(self, box: Box) -> None:
        """Prove the verdict of a box on each of two parts of it."""
        if box.verdict == UNDECIDED:
            return
        self.budget.require("every box was confirmed")
        middle = box.lower + _HALF * (box.upper - box.lower)
        inside = [middle] if box.lower < middle < box.upper else []
        bits = 32 + _BOX_BITS + 2 * max(0, -math.frexp((box.upper - box.lower) / box.lower)[1])
        for lower, upper in itertools.pairwise([box.lower, *inside, box.upper]):
            value, slope = self.equation.over(lower, upper, bits)
            tests: dict[str, Callable[[arb], bool]] = {BELOW: lambda f: f < 0, ABOVE: lambda f: f > 0}
            if box.verdict in tests:
                if not tests[box.verdict](value):
                    value = self.equation.sharper_over(lower, upper, slope, bits)
                good = tests[box.verdict](value)
            else:
                good = bool(slope > 0) if box.verdict == RISING else bool(slope < 0)
            require(good, f"the verdict {box.verdict!r} on [{box.lower!r}, {box.upper!r}] was not confirmed")

    def _count(self, count: Count) -> None:
        found, claimed = count.to_dict(), self.record.count
        for key, value in found.items():
            # as JSON: 1, 1.0 and true are equal in Python
            require(
                json.dumps(claimed[key]) == json.dumps(value),
                f"the count was not confirmed: {key} is {value}, not {str(claimed[key])[:60]}",
            )
        names = ("existence", "uniqueness")
        for name, claim, sentence in zip(
            names, self.record.sentences, (count.existence, count.uniqueness), strict=True
        ):
            require_sentence(name, claim, sentence)
