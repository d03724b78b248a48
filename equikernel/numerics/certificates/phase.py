"""``phase_diagram``: the sigma_a2 at which sigma_a2 h, sigma_a2 v or existence breaks, certified.

Followed along the curve of fixed points that starts at sigma_a2 = 0 (see ``branch``). Three transitions:

    norm       sigma_a2 h = 1: the curve turns back, the fixed point stops being attracting
    chaos      sigma_a2 v = 1: identical inputs separate, the NTK diverges
    existence  no fixed point for larger sigma_a2
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
from flint import arb

from equikernel.errors import InputError, UncertifiedError
from equikernel.numerics.balls.context import constant, exact, precision
from equikernel.numerics.balls.functions import BallFunction, ball_function
from equikernel.numerics.balls.joins import joins
from equikernel.numerics.balls.problem import has_finite_v
from equikernel.numerics.certificates.bounds import Asymptotics, asymptotics
from equikernel.numerics.certificates.branch import Branch, FirstZero, Transition, first_zero, shown_above, shown_below
from equikernel.numerics.certificates.coefficients import meaning_of
from equikernel.numerics.certificates.shape import monotone_shape
from equikernel.numerics.certificates.supremum import supremum
from equikernel.theory.activation import Activation, activation
from equikernel.theory.models import exact_number

__all__ = ["MEANINGS", "PhaseDiagram", "Transition", "phase_diagram"]

MEANINGS = {
    "norm": "sigma_a2*h = 1: the fixed point stops being attracting and alpha4 diverges",
    "chaos": "sigma_a2*v = 1: identical inputs separate and the NTK diverges",
    "existence": "there is no fixed point for larger sigma_a2",
}
_BITS = 80
_FAR = 1e3  # how far along the branch transitions are sought, as a multiple of where it starts
MAX_DIGITS = 12


@dataclass(frozen=True)
class PhaseDiagram:
    """The transitions met from sigma_a2 = 0 on, at fixed sigma_b2 and tau0 (or with sigma_b2 = 1 - sigma_a2).

    Attributes:
        activation: phi.
        sigma_b2: None when tied to sigma_a2.
        tau0: standard deviation of the data.
        transitions: by the keys of ``MEANINGS``.
        first: the one of smallest sigma_a2; None when none is reached or the order is undecided.
    """

    activation: Activation
    sigma_b2: Fraction | None
    tau0: Fraction
    transitions: dict[str, Transition]
    first: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "activation": self.activation.name,
            "sigma_b2": None if self.sigma_b2 is None else str(self.sigma_b2),
            "tied": self.sigma_b2 is None,
            "tau0": str(self.tau0),
            "transitions": {name: t.to_dict() for name, t in self.transitions.items()},
            "first": self.first,
        }


def phase_diagram(
    act: str | sp.Expr | Activation,
    sigma_b2: Any = Fraction(4, 5),
    tau0: Any = 1,
    *,
    tied: bool = False,
    digits: int = 6,
) -> PhaseDiagram:
    """The critical sigma_a2 of an activation.

    Args:
        act: anything ``equikernel.activation`` takes.
        sigma_b2: input variance; not used when ``tied``.
        tau0: standard deviation of the data.
        tied: whether sigma_b2 = 1 - sigma_a2.
        digits: relative accuracy of q at the transitions, 1 to 12 digits.

    Raises:
        InputError: arguments out of range.
        UncertifiedError: the breakpoints or the moments of the activation could not be proved.
    """
    phi = activation(act)
    b2 = exact_number(sigma_b2, "sigma_b2", positive=True)
    scale = exact_number(tau0, "tau0", positive=True)
    if digits not in range(1, MAX_DIGITS + 1):
        raise InputError(f"digits must be a whole number from 1 to {MAX_DIGITS}; got {digits!r}")
    function = ball_function(phi)
    try:
        asymptotic = asymptotics(function)
    except UncertifiedError:
        asymptotic = None
    with precision(_BITS):
        branch = _branch(phi, scale, b2, tied)
        walk = _Walk(function, branch, asymptotic, tied, 10.0**-digits)
        norm = walk.norm()
        transitions = {"norm": norm, "chaos": walk.chaos(norm), "existence": walk.existence()}
        return PhaseDiagram(phi, None if tied else b2, scale, transitions, _first(transitions))


def _branch(phi: Activation, tau0: Fraction, sigma_b2: Fraction, tied: bool) -> Branch:
    if not tied:
        return Branch(phi, sigma_b2 * tau0**2, Fraction(0), 1)
    q0 = tau0**2
    upwards = Branch(phi, q0, q0, 1)
    at_start = upwards.norm(exact(q0))
    if at_start > 0:
        return upwards
    if at_start < 0:
        return Branch(phi, q0, q0, -1)
    raise UncertifiedError(
        "V(tau0^2) is not distinguishable from tau0^2: with sigma_b2 = 1 - sigma_a2 the fixed point may not depend on "
        "sigma_a2, and the curve is degenerate; give sigma_b2 instead"
    )


class _Walk:
    """The transitions along one branch."""

    def __init__(
        self, function: BallFunction, branch: Branch, asymptotic: Asymptotics | None, tied: bool, accuracy: float
    ) -> None:
        self.function = function
        self.branch = branch
        self.asymptotic = asymptotic
        self.tied = tied
        self.accuracy = accuracy
        # a ball around c, where the functions are proved positive like anywhere else
        self.start = float(branch.c) * (1 - branch.direction * 2.0**-40)
        rate = function.activation.growth.rate
        far = max(2.0, 16.0 / (float(branch.c) * rate**2)) if rate > 0 else _FAR
        self.end = float(branch.c) * (far if branch.direction > 0 else 1 / _FAR)
        self.shape = monotone_shape(function)
        self.rising_to = self.start  # sigma_a2 is proved to increase along the branch up to here

    def norm(self) -> Transition:
        if self.shape.holds and not self.tied:
            self.rising_to = self.end
            return Transition(None, None, "never", f"sigma_a2*h < 1 for every sigma_a2: {self.shape.statement}")
        found = first_zero(self.branch.norm, self.start, self.end, self.accuracy, self._beyond)
        self.rising_to = found.positive_to
        return self._transition("sigma_a2*h", found)

    def chaos(self, norm: Transition) -> Transition:
        if any(join.jump in (1, -1) for join in joins(self.function)):
            return Transition(
                arb(0), None, "reached", "E[phi'^2] is not finite (phi jumps): the NTK diverges for every sigma_a2 > 0"
            )
        if not has_finite_v(self.function):
            return Transition(None, None, "undecided", meaning_of("chaos", None, finite=False))
        end = self.end
        if norm.q is not None:
            end = float(norm.q.upper() if self.branch.direction > 0 else norm.q.lower())
        zero = first_zero(self.branch.chaos, self.start, end, self.accuracy, self._beyond)
        found = self._transition("sigma_a2*v", zero)
        if found.verdict == "not reached" and norm.q is not None:
            return Transition(None, None, "not reached", "sigma_a2*v < 1 up to where the fixed point stops attracting")
        return found

    def _transition(self, name: str, found: FirstZero) -> Transition:
        reached = self._sigma(arb(found.positive_to))
        if found.zero is not None:
            value = self._sigma(found.zero)
            if value is not None and not (self.tied and not value < 1):
                sentence = f"{name} = 1 between sigma_a2 = {shown_below(value)} and {shown_above(value)}"
                return Transition(value, found.zero, "reached", sentence)
        if reached is None or not reached > 0:
            return Transition(None, None, "undecided", f"{name} < 1 is not proved for any sigma_a2 > 0")
        limit = shown_below(reached)
        if found.decided:
            return Transition(None, None, "not reached", f"{name} < 1 for every sigma_a2 < {limit}")
        sentence = f"{name} < 1 for sigma_a2 < {limit}; beyond, it could not be enclosed tightly enough"
        return Transition(None, None, "undecided", sentence)

    def _beyond(self, q: float) -> bool:
        """Whether a tied curve has left sigma_a2 < 1."""
        value = self._sigma(arb(q)) if self.tied else None
        return value is not None and bool(value >= 1)

    def _sigma(self, q: arb) -> arb | None:
        try:
            value = self.branch.sigma_a2(q)
        except UncertifiedError:
            return None
        return value if value.is_finite() else None

    def existence(self) -> Transition:
        limit = None if self.asymptotic is None else constant(self.asymptotic.v)
        if limit is not None and self.asymptotic is not None and self.asymptotic.v == 0:
            return Transition(
                None, None, "never", "phi is bounded up to a constant: a fixed point exists for every sigma_a2"
            )
        if self.tied:
            return self._tied_existence(limit)
        if limit is not None and self.shape.holds:
            value = 1 / limit
            return Transition(
                value,
                None,
                "reached",
                f"V/q decreases to v: a fixed point exists exactly for sigma_a2 < 1/v = {float(value.mid()):.8g}",
            )
        return supremum(self.branch, self.asymptotic, self.rising_to, self.end)

    def _tied_existence(self, limit: arb | None) -> Transition:
        if limit is not None and limit < 1:
            return Transition(None, None, "never", "V/q tends to v < 1: a fixed point exists for every sigma_a2 < 1")
        return Transition(
            None, None, "undecided", "existence with sigma_b2 = 1 - sigma_a2 was not proved for sigma_a2 < 1"
        )


def _first(transitions: dict[str, Transition]) -> str | None:
    """The transition of the smallest sigma_a2, where the balls tell; existence never breaks before ``norm``."""
    reached = {name: t.sigma_a2 for name, t in transitions.items() if t.sigma_a2 is not None}
    if not reached or any(t.verdict == "undecided" for t in transitions.values()):
        return None
    if "norm" in reached:
        reached.pop("existence", None)
    name = min(reached, key=lambda key: float(reached[key].mid()))
    return name if all(reached[name] < ball for key, ball in reached.items() if key != name) else None
