"""``certify(deq)``: the certificate of the fixed-point equation, and of everything that follows from its solution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from flint import arb

from equikernel.errors import EquikernelError, InputError, UncertifiedError
from equikernel.numerics.balls.context import bits_of_digits
from equikernel.numerics.balls.functions import ball_function
from equikernel.numerics.certificates.bounds import Bound, best_bound
from equikernel.numerics.certificates.budget import Budget
from equikernel.numerics.certificates.coefficients import UNENCLOSED, Coefficients, coefficients_at, unenclosed
from equikernel.numerics.certificates.counting import Count, count_fixed_points
from equikernel.numerics.certificates.decimals import missing_bits, to_record
from equikernel.numerics.certificates.equation import Equation
from equikernel.numerics.certificates.localise import Box, Run
from equikernel.numerics.certificates.record import FORMAT, MAX_DIGITS, VERSION
from equikernel.numerics.certificates.refine import Zero, bracket_zero, isolate_zero, sharpen
from equikernel.numerics.certificates.shape import Shape, monotone_shape
from equikernel.theory.activation import Activation, activation
from equikernel.theory.models import DEQ, exact_number, require_trained

__all__ = ["FORMAT", "SECONDS", "VERSION", "Certificate", "CertifiedPoint", "certify"]

SECONDS = 40.0
_GUARD_BITS = 20
_ATTEMPTS = 3


@dataclass(frozen=True)
class CertifiedPoint:
    """A fixed point: a ball of variances that contains it, and whether q <- T(q) is attracted (None: undecided)."""

    q: arb
    stable: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: the enclosure, and stable as true, false or null (undecided)."""
        return {"q": to_record(self.q), "stable": self.stable}


@dataclass(frozen=True)
class Certificate:
    """What is proved about the solutions of T(q) = q for one network.

    Attributes:
        equation: the network and tau0, as exact fractions.
        digits: significant digits asked for.
        trained: the parameters that the NTK trains.
        bound: where all fixed points lie.
        shape: whether the monotone-shape theorem was proved to apply.
        boxes: the cover from which they were counted; empty where a theorem did without.
        count: how many there are, and on what set.
        points: the fixed points located, in increasing order.
        selected: index of the point that the coefficients belong to, the smallest stable one; None without one.
        coefficients: their balls; None without a stable fixed point.
    """

    equation: Equation
    digits: int
    trained: str
    bound: Bound
    shape: Shape
    boxes: tuple[Box, ...]
    count: Count
    points: tuple[CertifiedPoint, ...]
    selected: int | None
    coefficients: Coefficients | None

    @property
    def enclosures(self) -> dict[str, arb]:
        """The balls of tau, q, gamma2, lambda1, alpha1..alpha4, beta1..beta3, kappa2, where they have a meaning."""
        return {} if self.coefficients is None else self.coefficients.balls

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; everything ``check_certificate`` needs."""
        text = activation_text(self.equation.activation)
        found = self.coefficients
        return {
            "format": FORMAT,
            "version": VERSION,
            "problem": {
                "activation": text,
                "sigma_a2": str(self.equation.sigma_a2),
                "sigma_b2": str(self.equation.sigma_b2),
                "tau0": str(self.equation.tau0),
                "trained": self.trained,
            },
            "digits": self.digits,
            "existence": self.count.existence,
            "uniqueness": self.count.uniqueness,
            "count": self.count.to_dict(),
            "bound": self.bound.to_dict(),
            "shape": {"holds": self.shape.holds, "statement": self.shape.statement},
            "boxes": [box.to_dict() for box in self.boxes],
            "fixed_points": [point.to_dict() for point in self.points],
            "selected": self.selected,
            "enclosures": {name: to_record(ball) for name, ball in self.enclosures.items()},
            "refused": {} if found is None else found.refused,
            "stability": {} if found is None else {name: s.to_dict() for name, s in found.stability.items()},
            "engine": None if found is None else found.engine,
            "checkable": text is not None,
        }


def activation_text(given: Activation) -> str | None:
    """A text that parses back to the same expression; None when there is none."""
    for text in (given.name, str(given.expr)):
        try:
            again = activation(text)
        except EquikernelError:
            continue
        if again.expr == given.expr:
            return text
    return None


def certify(deq: DEQ, tau0: Any = 1, digits: int = 15, trained: str = "aA", *, seconds: float = SECONDS) -> Certificate:
    """Prove what can be proved about the fixed points of T(q) = q and the coefficients at the smallest stable one.

    Every number is an enclosure; every statement is proved or says that it is not. Accuracy: the enclosures have
    ``digits`` significant digits (their radii say exactly), or as many decimals where zero is possible; a coefficient
    that has fewer is refused.

    Args:
        deq: the network; its sigmas are variances.
        tau0: standard deviation of the data.
        digits: 1 to 1000.
        trained: which parameters the NTK trains: "a", "aA" or "aAB".
        seconds: processor time after which what is not yet proved stays undecided or refused.

    Raises:
        InputError: arguments out of range; GOE weights.
        UncertifiedError: the breakpoints of the activation could not be proved, or sigma_b2 tau0^2 is out of range.
    """
    deq.require_independent("certificates are")
    require_trained(trained)
    if digits not in range(1, MAX_DIGITS + 1):
        raise InputError(f"digits must be a whole number from 1 to {MAX_DIGITS}; got {digits!r}")
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds must be a positive number; got {seconds!r}")
    budget = Budget(seconds)
    equation = Equation(deq.activation, deq.sigma_a2, deq.sigma_b2, exact_number(tau0, "tau0", positive=True))
    function = ball_function(deq.activation)
    bound, reasons = best_bound(function, equation.sigma_a2, equation.b)
    shape = monotone_shape(function)
    counted = count_fixed_points(equation, bound, shape, budget, reasons)
    points: list[CertifiedPoint] = []
    selected: int | None = None
    found: Coefficients | None = None
    for run in counted.located:
        zero, q = _located(equation, run, budget)
        stable = None if zero is None else zero.stable
        if zero is not None and stable and selected is None:
            selected = len(points)
            q, found = _coefficients(equation, zero, digits, trained, budget)
        points.append(CertifiedPoint(q, stable))
    return Certificate(
        equation,
        digits,
        trained,
        bound,
        shape,
        counted.boxes,
        counted.count,
        tuple(points),
        selected,
        found,
    )


def _located(equation: Equation, run: Run, budget: Budget) -> tuple[Zero | None, arb]:
    """The fixed point of a run enclosed; where that fails or there is no time, (None, a bracket of it)."""
    rising = run.signs[0] < 0
    try:
        budget.require("the fixed point was enclosed")
        zero = isolate_zero(equation, run.lower, run.upper, rising)
    except UncertifiedError:
        return None, bracket_zero(equation, run.lower, run.upper, rising, budget)
    return zero, zero.q


def _coefficients(
    equation: Equation, zero: Zero, digits: int, trained: str, budget: Budget
) -> tuple[arb, Coefficients]:
    """The selected fixed point and the coefficients there, with more bits until all have the digits asked for."""
    bits = bits_of_digits(digits) + _GUARD_BITS
    q = zero.q
    found = unenclosed("")
    try:
        for _ in range(_ATTEMPTS):
            q = sharpen(equation, zero, bits, budget=budget)
            budget.require("the coefficients were enclosed")
            found = coefficients_at(equation, q, bits, trained)
            missing = max(missing_bits(ball, digits) for ball in found.balls.values())
            if missing <= 0:
                break
            bits += missing + _GUARD_BITS
    except UncertifiedError as error:
        if not found.balls:
            return q, unenclosed(str(error))
    return q, _with_digits(found, digits)


def _with_digits(found: Coefficients, digits: int) -> Coefficients:
    """Without the balls that have fewer digits than were asked for."""
    short = {name for name, ball in found.balls.items() if missing_bits(ball, digits) > 0}
    reason = f"{UNENCLOSED}it has fewer than {digits} digits; ask for fewer"
    balls = {name: ball for name, ball in found.balls.items() if name not in short}
    return replace(found, balls=balls, refused=found.refused | dict.fromkeys(sorted(short), reason))
