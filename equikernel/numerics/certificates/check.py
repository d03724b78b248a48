"""``check_certificate(record)``: every claim of a certificate proved again, from its JSON alone.

Nothing is taken over from the solver: the activation is parsed by the safe grammar, the theorem of the bound and the
shape are proved again, every box is enclosed again in two halves, the signs and the count are derived afresh, and the
fixed points and coefficients are enclosed by the other of the two engines for Gaussian moments, more sharply than
claimed, so that a true enclosure contains the new one.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import exact, precision
from equikernel.numerics.balls.functions import ball_function
from equikernel.numerics.certificates.bounds import Bound, best_bound, bound_by, interval_to
from equikernel.numerics.certificates.coefficients import Coefficients, coefficients_at
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
from equikernel.numerics.certificates.record import Record, read_record
from equikernel.numerics.certificates.refine import Zero, sharpen
from equikernel.numerics.certificates.shape import Shape, monotone_shape

__all__ = ["CheckReport", "check_certificate"]

_BOX_BITS = 16  # more than the solver used
_MORE_BITS = 24  # how much sharper the coefficients are enclosed than claimed
_SLOPE_BITS = 40
_MANY_DIGITS = 250  # from which the slower engine would take minutes
_FEW_BITS, _MOST_BITS = 20, 4000
_SHOWN, _NOTHING = 1e-4, 1e-12  # relative and absolute agreement of the numbers in sentences
_HALF = 0.41
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?")


@dataclass(frozen=True)
class CheckReport:
    """The outcome.

    Attributes:
        passed: whether every claim was proved again.
        failure: the sentence that says which claim was not; None when all were.
        confirmed: what was confirmed, in order.
        engine: the engine that enclosed the coefficients this time.
    """

    passed: bool
    failure: str | None
    confirmed: tuple[str, ...]
    engine: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "passed": self.passed,
            "failure": self.failure,
            "confirmed": list(self.confirmed),
            "engine": self.engine,
        }


class _RejectedError(Exception):
    """A claim that was not confirmed."""


def check_certificate(record: Any) -> CheckReport:
    """Prove every claim of a certificate again.

    Args:
        record: the JSON object, as ``Certificate.to_dict()`` makes it.

    Raises:
        InputError: the record is malformed: a key, a type, a size, an activation that does not parse.
        UncertifiedError: the breakpoints of the activation could not be proved, so that nothing can be.
    """
    checker = _Checker(read_record(record))
    confirmed: list[str] = []
    try:
        confirmed.extend(checker.claims())
    except _RejectedError as rejection:
        return CheckReport(False, str(rejection), (), checker.engine)
    except UncertifiedError as error:
        return CheckReport(False, f"a claim could not be confirmed: {error}", (), checker.engine)
    return CheckReport(True, None, tuple(confirmed), checker.engine)


class _Checker:
    def __init__(self, record: Record) -> None:
        self.record = record
        self.equation = record.equation
        self.function = ball_function(record.equation.activation)
        self.engine = "trapezoid" if record.engine == "integral" or record.digits > _MANY_DIGITS else "integral"

    def claims(self) -> Iterator[str]:
        """Confirm the claims one after the other, each with a sentence.

        Raises:
            _RejectedError: one is false or could not be confirmed.
        """
        record = self.record
        bound, reasons = self._bound()
        yield f"the bound: {bound.statement}"
        shape = monotone_shape(self.function)
        _require(shape.holds or not record.shape, f"the monotone-shape theorem: {shape.statement}")
        shape = shape if record.shape else Shape(False, shape.statement)
        if record.shape:
            yield f"the shape: {shape.statement}"
        runs = self._runs(bound, shape)
        yield f"{len(record.boxes)} boxes cover [b, B] without a gap, each with its verdict"
        self._count(tally(bound, shape, runs, record.count["complete"] is not False, reasons))
        yield f"the count: {record.count['number']} on {record.count['on']}"
        zeros = self._points(tuple(run for run in runs if run.zeros == 1))
        yield f"{len(zeros)} fixed points, each the only one of its ball, and their stability"
        if record.selected is not None:
            self._coefficients(zeros[record.selected])
            yield f"{len(record.enclosures)} enclosures and {len(record.stability)} stability statements"

    def _bound(self) -> tuple[Bound, tuple[str, ...]]:
        record, eq = self.record, self.equation
        if record.theorem == "interval":
            _, reasons = best_bound(self.function, eq.sigma_a2, eq.b)
            _require(record.sign == 0 and record.upper is not None, "an interval is no bound on all fixed points")
            upper = record.upper or math.inf
            _require(upper > float(eq.b), "the interval ends below sigma_b2*tau0^2")
            return interval_to(upper), reasons
        try:
            proved = bound_by(record.theorem, self.function, eq.sigma_a2, eq.b, 1.0)
        except UncertifiedError as error:
            raise _RejectedError(f"the bound by the theorem {record.theorem} was not confirmed: {error}") from None
        loose = proved.upper is None or (record.upper is not None and record.upper >= proved.upper)
        _require(
            loose and proved.sign == record.sign and (record.upper is None) <= (proved.upper is None),
            f"the bound by the theorem {record.theorem} was not confirmed: it is {proved.upper}, sign {proved.sign}",
        )
        return Bound(record.theorem, record.upper, record.sign, proved.statement), ()

    def _runs(self, bound: Bound, shape: Shape) -> tuple[Run, ...]:
        """The runs that the boxes prove; without boxes, what a theorem says."""
        boxes, floor = self.record.boxes, self.equation.floor
        if bound.upper is None or (shape.holds and bound.sign < 0):
            return ()
        if not boxes:
            _require(shape.holds and bound.sign > 0, "there are no boxes, and no theorem that does without")
            return (Run(floor, bound.upper, AT_MOST_ONE, (-1, 1)),)
        _require(
            Fraction(boxes[0].lower) <= self.equation.b and boxes[-1].upper >= bound.upper,
            "the boxes do not reach from sigma_b2*tau0^2 to the bound",
        )
        for left, right in itertools.pairwise(boxes):
            _require(left.upper == right.lower, f"the boxes leave a gap or overlap at q = {left.upper!r}")
        for box in boxes:
            self._box(box)
        # F < 0 wherever q <= b, and the sign of the bound holds from its end on
        first = -1 if Fraction(boxes[0].lower) < self.equation.b else self._sign_at(boxes[0].lower)
        return runs_of(boxes, self._sign_at, first, bound.sign)

    def _sign_at(self, q: float) -> int:
        try:
            return self.equation.sign_at(q, self.engine)
        except UncertifiedError:
            return self.equation.sign_at(q)

    def _box(self, box: Box) -> None:
        """Prove the verdict of a box on each of two parts of it."""
        if box.verdict == UNDECIDED:
            return
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
            _require(good, f"the verdict {box.verdict!r} on [{box.lower!r}, {box.upper!r}] was not confirmed")

    def _count(self, count: Count) -> None:
        found, claimed = count.to_dict(), self.record.count
        for key, value in found.items():
            _require(
                claimed[key] == value, f"the count was not confirmed: {key} is {value}, not {str(claimed[key])[:60]}"
            )
        for claim, sentence in zip(self.record.sentences, (count.existence, count.uniqueness), strict=True):
            _require(_same(claim, sentence), f"the sentence {claim[:60]!r} was not confirmed: {sentence}")

    def _points(self, runs: tuple[Run, ...]) -> list[Zero]:
        """One ball in each run, with a change of sign of F over it, and its stability."""
        points = self.record.points
        _require(len(points) == len(runs), f"there are {len(runs)} located fixed points, not {len(points)}")
        zeros = []
        first_stable: int | None = None
        for index, ((q, stable), run) in enumerate(zip(points, runs, strict=True)):
            name = f"the fixed point near q = {q.mid().str(10, radius=False)}"
            _require(bool(q.lower() >= run.lower) and bool(q.upper() <= run.upper), f"{name} is not in its boxes")
            with precision(_bits_of(q) + _MORE_BITS):
                bits = _bits_of(q) + _MORE_BITS
                signs = [self._sign_near(end, bits) for end in (q.lower(), q.upper())]
                trivial = q.is_exact() and self.equation.sigma_a2 == 0 and bool(q == exact(self.equation.b))
                changes = signs in ([-1, 1], [1, -1])
                _require(changes or trivial, f"{name}: no change of sign of q - T(q) over its ball")
                slope = self._slope(q)
                zeros.append(Zero(q, slope))
                size = abs(1 - slope)
            wrong = (stable is True and not size < 1) or (stable is False and not size > 1)
            _require(not wrong, f"{name}: its stability was not confirmed")
            if stable is True and first_stable is None:
                first_stable = index
        _require(
            self.record.selected == first_stable, "the coefficients do not belong to the smallest stable fixed point"
        )
        return zeros

    def _sign_near(self, q: arb, bits: int) -> int:
        value = self._with_engine(lambda engine: self.equation.at(q, bits, engine)[0])
        return 1 if value > 0 else -1 if value < 0 else 0

    def _slope(self, q: arb) -> arb:
        return self._with_engine(partial(self.equation.slope_over, q, _SLOPE_BITS))

    def _with_engine(self, compute: Callable[[str], arb]) -> arb:
        """By the other engine, or by any where that one has no proof."""
        try:
            return compute(self.engine)
        except UncertifiedError:
            return compute("auto")

    def _coefficients(self, zero: Zero) -> None:
        found = self._again(zero)
        for name, claimed in self.record.enclosures.items():
            ball = found.balls.get(name)
            if ball is None:
                raise _RejectedError(f"the enclosure of {name[:20]}: {found.refused.get(name, 'it has no meaning')}")
            shown = ball.mid().str(15, radius=False)
            _require(bool(claimed.contains(ball)), f"the enclosure of {name} does not contain its value {shown}")
        for name, (claimed_value, holds) in self.record.stability.items():
            statement = found.stability.get(name)
            if statement is None:
                raise _RejectedError(f"there is no stability statement {name[:20]!r}")
            _require(
                holds is None or statement.holds is holds,
                f"the stability statement {name}: {statement.name} < 1 is not {str(holds).lower()}",
            )
            contained = claimed_value is None or (
                statement.value is not None and claimed_value.contains(statement.value)
            )
            _require(contained, f"the value of {statement.name} in the stability statement {name} was not confirmed")

    def _again(self, zero: Zero) -> Coefficients:
        radii = [_bits_of(ball) for ball in (*self.record.enclosures.values(), zero.q) if not ball.is_exact()]
        bits = max(radii, default=self.record.bits) + _MORE_BITS

        def compute(engine: str) -> Coefficients:
            q = zero.q if zero.q.is_exact() else sharpen(self.equation, zero, bits, engine)
            return coefficients_at(self.equation, q, bits, self.record.trained, engine)

        try:
            return compute(self.engine)
        except UncertifiedError:
            return compute("auto")


def _require(condition: bool, failure: str) -> None:
    if not condition:
        raise _RejectedError(failure)


def _bits_of(ball: arb) -> int:
    """Bits of relative accuracy of a ball; few of one around zero."""
    return min(max(int(ball.rel_accuracy_bits()), _FEW_BITS), _MOST_BITS)


def _same(claim: str, sentence: str) -> bool:
    """Whether two sentences agree, their numbers to the few digits that are shown."""
    if _NUMBER.sub("#", claim) != _NUMBER.sub("#", sentence):
        return False
    pairs = zip(_NUMBER.findall(claim), _NUMBER.findall(sentence), strict=True)
    return all(math.isclose(float(x), float(y), rel_tol=_SHOWN, abs_tol=_NOTHING) for x, y in pairs)
