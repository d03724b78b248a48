"""Closed forms that have been checked: against balls before they are used, and evaluated in balls when they are.

A closed form is a claim about every tau. Before any is handed out, all of them are compared at several tau with
enclosures from adaptive quadrature (``numerics.balls``), which share nothing with the derivation. Evaluation is in ball
arithmetic at increasing precision until the radius meets the digits, so that cancellation at extreme tau escalates by
itself; the error bound is the radius.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import sympy as sp
from flint import arb

from equikernel.errors import AccuracyError, InputError, NoClosedFormError, UncertifiedError
from equikernel.numerics.balls.context import bits_of_digits, exact, precision
from equikernel.numerics.balls.functions import mpf_ball
from equikernel.numerics.balls.moments import ball_moments
from equikernel.numerics.closed_form_balls import combination_ball, enclosure
from equikernel.numerics.moment_values import FLOAT64_DIGITS, Moment, Moments
from equikernel.theory import moments as formulas
from equikernel.theory.activation import Activation, activation
from equikernel.theory.closed_forms import (
    RAW,
    ClosedForms,
    closed_form_moments,
    function_of,
)
from equikernel.theory.closed_forms.atoms import atoms_of
from equikernel.theory.multiprecision import mp_arithmetic

__all__ = ["CHECKED_AT", "VerifiedForms", "verified_closed_forms"]

CHECKED_AT = (Fraction(1, 1000), Fraction(1, 10), Fraction(1), Fraction(10), Fraction(1000))
_FEWEST_CHECKS = 2
_CHECK_BITS = 40
_OSCILLATION = 50  # phi^2 with more than this many radians within a standard deviation is too costly for quadrature,
_GROWTH = 100  # and so is one that grows by more than exp of this, where its tails matter
_EXTRA_BITS = (24, 128, 512, 2048, 8192)
_NEGLIGIBLE = 1e-50  # a moment this close to zero that no precision tells from zero is reported with its error bound


@dataclass(frozen=True)
class VerifiedForms:
    """Closed forms that agree with ball enclosures.

    Attributes:
        activation: phi; with parameters, phi at the values where it was checked.
        forms: the closed forms.
        checked_at: the tau at which every one of them met its enclosure.
    """

    activation: Activation
    forms: ClosedForms
    checked_at: tuple[Fraction, ...]

    @property
    def provenance(self) -> str:
        """What is said of a number that comes from here."""
        points = ", ".join(f"{float(tau):g}" for tau in self.checked_at)
        return f"closed form (verified against balls at tau = {points})"

    def moments(self, tau: Any, digits: int = FLOAT64_DIGITS) -> Moments:
        """The moments at tau, a positive standard deviation, to ``digits`` significant digits.

        Floats up to 15 digits, mpmath numbers above. Error bounds are radii of balls, and rounding.

        Raises:
            NoClosedFormError: a moment has no closed form (v may be infinite instead).
            AccuracyError: cancellation beyond 8192 bits.
            InputError: tau is not positive and finite, or phi has parameters left.
        """
        if self.forms.parameters:
            names = ", ".join(map(str, self.forms.parameters))
            raise InputError(f"numbers need numbers: put values in place of {names} in {self.forms.expr}")
        finite = self.activation.has_square_integrable_derivative
        for name in RAW:
            if name != "v" or finite:
                self.forms[name]  # raises where there is none
        balls = _accurate(self.forms, tau, digits)
        values = {name: self._moment(name, ball, digits) for name, ball in balls.items() if name not in RAW[:-1]}
        return Moments(
            activation=self.activation,
            tau=tau,
            mean=values["mean"],
            V=values["V"],
            d1=values["d1"],
            d2=values["d2"],
            h=values["h"],
            v_or_none=values["v"] if finite else None,
        )

    def _moment(self, name: str, ball: arb, digits: int) -> Moment:
        if self.forms[name] == 0:
            return Moment(0.0 if digits <= FLOAT64_DIGITS else mp_arithmetic(digits).context.zero, 0.0, self.provenance)
        if digits <= FLOAT64_DIGITS:
            if not ball.abs_upper() < sys.float_info.max:
                raise AccuracyError(
                    f"the moment {name} of {self.forms.expr} overflows float64 (it is {ball.str(5, radius=False)}): "
                    "ask for more than 15 digits"
                )
            value = float(ball.mid())
            return Moment(value, _upward(ball.rad() + abs(ball.mid()) * 2.0**-52), self.provenance)
        context = mp_arithmetic(digits + 3).context
        mantissa, exponent = (int(part) for part in ball.mid().man_exp())
        value = context.ldexp(context.mpf(mantissa), exponent)
        return Moment(value, _upward(ball.rad() + abs(ball.mid()) * arb(10) ** (-digits - 2)), self.provenance)


def _upward(bound: arb) -> float:
    """A float that is not below a positive bound, however small."""
    return math.nextafter(float(bound.abs_upper()), math.inf)


def verified_closed_forms(
    phi: Activation | sp.Expr | str, parameters: Mapping[str, sp.Symbol] | None = None
) -> VerifiedForms:
    """The closed forms of ``theory.closed_forms``, each compared with ball enclosures before it is handed out.

    Checked at tau in ``CHECKED_AT``, as far as quadrature reaches: fast oscillations and overflow are left out, and
    what was checked is in ``checked_at``. A closed form without a finite enclosure to compare it with (v, where phi is
    not proved to be continuous) is left out, with the reason. Expressions with parameters are checked at values that
    respect their signs.

    Raises:
        NoClosedFormError: no moment has a closed form, or none could be checked.
        ActivationError: phi is no activation.
        UncertifiedError: a closed form misses its enclosure; it is wrong, and this is a defect to report.
    """
    return _verified(function_of(phi, parameters))


@lru_cache(maxsize=256)
def _verified(phi: Activation | sp.Expr) -> VerifiedForms:
    forms = closed_form_moments(phi)
    values = _sample_parameters(forms.parameters)
    at_values = phi if isinstance(phi, Activation) else activation(forms.expr.xreplace(values), str(phi))
    met = {tau: _met(forms, at_values, values, tau) for tau in CHECKED_AT if _reachable(forms, values, tau)}
    kept = {name for name in forms.expressions if sum(name in names for names in met.values()) >= _FEWEST_CHECKS}
    checked = tuple(tau for tau, names in met.items() if kept <= names)
    if not kept or len(checked) < _FEWEST_CHECKS:
        raise NoClosedFormError(
            f"the closed forms of {forms.expr} could not be compared with enclosures at enough tau, so they are not "
            "used; ask for numbers instead"
        )
    return VerifiedForms(at_values, _without(forms, forms.expressions.keys() - kept), checked)


def _without(forms: ClosedForms, unmet: AbstractSet[str]) -> ClosedForms:
    """The closed forms but those that met no enclosure, as E[phi'^2] where phi is not proved to be continuous."""
    reason = "it could not be compared with an enclosure at enough tau, so it is not used"
    return replace(
        forms,
        expressions=MappingProxyType({name: e for name, e in forms.expressions.items() if name not in unmet}),
        reasons=MappingProxyType({**forms.reasons, **dict.fromkeys(sorted(unmet), reason)}),
        expectations=tuple(e for e in forms.expectations if e.name not in unmet),
    )


def _sample_parameters(parameters: tuple[sp.Symbol, ...]) -> dict[sp.Symbol, sp.Expr]:
    """Rational values, unlikely to be special, that respect the signs of the symbols."""
    return {
        s: sp.Rational(7 + 4 * k, 10 + 3 * k) * (-1 if s.is_negative else 1) if not s.is_integer else sp.Integer(k + 2)
        for k, s in enumerate(parameters)
    }


def _reachable(forms: ClosedForms, values: dict[sp.Symbol, sp.Expr], tau: Fraction) -> bool:
    """Whether quadrature can follow the oscillations and the growth of phi^2."""
    for (lower, upper), expr in forms.pieces:
        for atom in atoms_of(expr):
            a, w = (float(rate.xreplace(values)) * float(2 * tau) for rate in (atom.a, atom.w))
            grows = atom.b == 0 and ((upper is None and a > _GROWTH) or (lower is None and a < -_GROWTH))
            if grows or abs(w) > _OSCILLATION:
                return False
    return True


def _met(forms: ClosedForms, phi: Activation, values: dict[sp.Symbol, sp.Expr], tau: Fraction) -> frozenset[str]:
    """The names of the closed forms that met a finite enclosure at one tau.

    Raises:
        UncertifiedError: one missed it.
    """
    with precision(2 * _CHECK_BITS):
        ball = exact(tau)
        try:
            truth = ball_moments(phi, ball, _CHECK_BITS)
        except UncertifiedError:
            return frozenset()
        balls = dict(zip(RAW, truth.raw, strict=True)) | {"mean": truth.mean, **dict(truth.items())}
        wanted = {name: b for name, b in balls.items() if name in forms.expressions and b is not None and b.is_finite()}
        found = {name: [enclosure(forms[name].xreplace(values), ball)] for name in wanted}
        for e in forms.expectations if not values else ():  # what numbers are computed from
            if e.name in wanted:
                found[e.name].append(combination_ball(e.value, ball))
        for name, candidates in found.items():
            for candidate in candidates:
                if not candidate.overlaps(wanted[name]):
                    raise UncertifiedError(
                        f"the closed form of {name} of {forms.expr} is {candidate.str(15)} at tau = {tau}, outside its "
                        f"enclosure {wanted[name].str(15)}: it is wrong and not used; please report this"
                    )
    return frozenset(wanted)


# -- evaluation --------------------------------------------------------------------------------------------------------


def _ball_of(tau: Any) -> arb:
    """A standard deviation as a ball at the current precision.

    Raises:
        InputError: it is not a positive finite number.
    """
    try:
        ball = mpf_ball(tau) if hasattr(tau, "_mpf_") else exact(Fraction(tau))
    except (TypeError, ValueError, OverflowError):
        ball = arb("nan")
    if not (ball > 0 and ball.is_finite()):
        raise InputError(f"tau must be a positive finite standard deviation; got {tau!r}")
    return ball


def _accurate(forms: ClosedForms, tau: Any, digits: int) -> dict[str, arb]:
    """Balls of the closed moments, at rising precision until each has the digits or is negligible."""
    wanted = bits_of_digits(digits) + 4
    for extra in _EXTRA_BITS:
        with precision(wanted + extra):
            balls = _evaluated(forms, _ball_of(tau))
        short = [name for name, ball in balls.items() if ball.rel_accuracy_bits() < wanted and forms[name] != 0]
        if not short:
            break
    for name in short:
        if not balls[name].is_finite():
            raise AccuracyError(
                f"the closed form of {name} of {forms.expr} is 0/0 at tau = {tau}; "
                "ask for certified numbers there, or for a tau beside it"
            )
        if not balls[name].abs_upper() < _NEGLIGIBLE:
            raise AccuracyError(
                f"the closed form of {name} of {forms.expr} at tau = {tau} loses more than {_EXTRA_BITS[-1]} bits to "
                f"cancellation (it is {balls[name].str(5)}); ask for certified numbers instead"
            )
    return balls


def _evaluated(forms: ClosedForms, tau: arb) -> dict[str, arb]:
    raw = {e.name: combination_ball(e.value, tau) for e in forms.expectations}
    m0, s0, m1, m2, s2 = (raw[name] for name in RAW[:5])
    return raw | {
        "mean": m0,
        "V": formulas.variance(m0, s0),
        "d1": formulas.mean_slope(m1, tau),
        "d2": formulas.curvature(m2, tau),
        "h": formulas.variance_slope(m0, m2, s2, tau),
    }
