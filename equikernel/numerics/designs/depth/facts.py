"""What a verdict on depth rests on: exact zeros found by algebra, and balls of the coefficients for everything else."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import sympy as sp
from flint import arb

from equikernel.errors import NoClosedFormError, UncertifiedError
from equikernel.numerics.balls.context import exact, precision
from equikernel.numerics.certificates.certificate import Certificate, certify
from equikernel.numerics.certificates.decimals import ball_ends
from equikernel.numerics.closed_forms import verified_closed_forms
from equikernel.numerics.designs.depth.realisability import BITS
from equikernel.numerics.designs.depth.two_layers import Target
from equikernel.theory.closed_forms import TAU, ClosedForms
from equikernel.theory.equations import fixed_point_map
from equikernel.theory.models import DEQ

__all__ = ["Facts"]

_DIGITS = (15, 60)  # of the enclosures; more where a ball contains 0
_LARGEST_DENOMINATOR = 10**6
_LARGEST = 400  # operations of a closed form that is simplified


@dataclass(frozen=True)
class Facts:
    """A DEQ at one tau0, and what is known of its coefficients.

    Attributes:
        deq: the network.
        tau0: standard deviation of the data.
        trained: "a" or "aA".
    """

    deq: DEQ
    tau0: Fraction
    trained: str

    # -- by algebra ----------------------------------------------------------------------------------------------------

    @cached_property
    def untied(self) -> bool:
        """Whether sigma_a2 = 0."""
        return self.deq.sigma_a2 == 0

    @cached_property
    def is_flat(self) -> bool:
        """Whether d2 = 0 exactly: phi odd up to a constant, or a closed form that vanishes."""
        return self.deq.activation.odd_up_to_constant or (self._may_vanish("alpha3") and self._vanishes("d2"))

    @cached_property
    def is_centred(self) -> bool:
        """Whether d1 = 0 exactly: phi even, or a closed form that vanishes."""
        return self.deq.activation.parity == "even" or (self._may_vanish("alpha1") and self._vanishes("d1"))

    @cached_property
    def is_balanced(self) -> bool:
        """Whether h = d1^2 exactly, by a closed form."""
        h, d1 = self._form("h"), self._form("d1")
        return h is not None and d1 is not None and _is_zero(h - d1**2)

    @cached_property
    def linear_gain(self) -> sp.Expr | None:
        """delta0 = sigma_a2 d1^2 as an exact rational number, where a closed form gives one."""
        d1 = self._form("d1")
        value = None if d1 is None else sp.nsimplify(sp.simplify(_rational(self.deq.sigma_a2) * d1**2))
        return value if value is not None and value.is_Rational else None

    def _may_vanish(self, name: str) -> bool:
        """Whether a closed form is worth its time: the ball contains 0, or there is none."""
        ball = self.balls.get(name)
        return ball is None or bool(ball.contains(0))

    def _vanishes(self, name: str) -> bool:
        form = self._form(name)
        return form is not None and _is_zero(form)

    @cached_property
    def _forms(self) -> ClosedForms | None:
        if not self.deq.activation.has_expression:
            return None
        try:
            return verified_closed_forms(self.deq.activation).forms
        except (NoClosedFormError, UncertifiedError):
            return None

    def _form(self, name: str) -> sp.Expr | None:
        """The closed form of a moment, at the exact fixed point where there is one, else in tau."""
        found = None if self._forms is None else self._forms.get(name)
        if found is None or self._exact_q is None:
            return found
        return found.subs(TAU, sp.sqrt(self._exact_q))

    @cached_property
    def _exact_q(self) -> sp.Rational | None:
        """The fixed point as a fraction, if it is a simple one: the only zero in its ball, checked in T(q) = q."""
        V = None if self._forms is None else self._forms.get("V")
        ball = self.balls.get("q")
        if V is None or ball is None:
            return None
        low, high = ball_ends(ball)
        guess = ((low + high) / 2).limit_denominator(_LARGEST_DENOMINATOR)
        if not low <= guess <= high:
            return None
        q, a2, b2, tau02 = map(_rational, (guess, self.deq.sigma_a2, self.deq.sigma_b2, self.tau0**2))
        return q if _is_zero(fixed_point_map(V.subs(TAU, sp.sqrt(q)), a2, b2, tau02) - q) else None

    # -- by balls ------------------------------------------------------------------------------------------------------

    @cached_property
    def _certificates(self) -> dict[int, Certificate]:
        return {}

    @property
    def balls(self) -> dict[str, arb]:
        """Enclosures of the coefficients to 15 digits, empty where nothing was proved."""
        try:
            return self._certified(_DIGITS[0]).enclosures
        except UncertifiedError:
            return {}

    def _certified(self, digits: int) -> Certificate:
        if digits not in self._certificates:
            self._certificates[digits] = certify(self.deq, self.tau0, digits, self.trained)
        return self._certificates[digits]

    def ball(self, name: str, digits: int = _DIGITS[0]) -> arb:
        """The enclosure of a coefficient.

        Raises:
            UncertifiedError: it has none; the sentence says why.
        """
        found = self._certified(digits)
        if name not in found.enclosures:
            refused = {} if found.coefficients is None else found.coefficients.refused
            why = refused.get(name, "no stable fixed point could be enclosed")
            raise UncertifiedError(f"{name} of {self.deq.activation.name} could not be enclosed: {why}")
        return found.enclosures[name]

    def combination(self, **weights: int) -> arb:
        """A whole linear combination of coefficients, with more digits where it may vanish.

        Raises:
            UncertifiedError: a coefficient has no enclosure.
        """
        ball = arb(0)
        for digits in _DIGITS:
            with precision(BITS if digits == _DIGITS[0] else 4 * BITS):
                ball = sum((n * self.ball(name, digits) for name, n in weights.items()), arb(0))
            if not ball.contains(0):
                break
        return ball

    def target(self, match: str) -> Target:
        """The coefficients of the CK or the NTK in units of tau0."""
        names = ("alpha1", "alpha2", "alpha3", "gamma2") if match == "ck" else ("beta1", "beta2", "beta3", "kappa2")
        with precision(BITS):
            tau02 = exact(self.tau0**2)
            e1, e2, e3, diagonal = (self.ball(name) for name in names)
            return Target(match, arb(0) if self.is_centred else e1 * tau02, e2 * tau02**2, e3 * tau02**2, diagonal)


def _rational(value: Fraction) -> sp.Rational:
    return sp.Rational(value.numerator, value.denominator)


def _is_zero(expr: Any) -> bool:
    """Whether an expression simplifies to 0, if it is not so large that this could take long."""
    return bool(expr == 0 or (expr.count_ops() <= _LARGEST and sp.simplify(expr) == 0))
