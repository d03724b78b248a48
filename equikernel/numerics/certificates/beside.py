"""The numbers that stand beside a certificate in the JSON of a solution: they must lie in its enclosures.

The solver's digits are not proved, so that they are compared to as many as it answers for.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from flint import arb

from equikernel.errors import InputError, ParseError
from equikernel.numerics.balls.context import bits_of_digits, exact, precision
from equikernel.numerics.certificates.claims import require
from equikernel.numerics.certificates.coefficients import COEFFICIENTS
from equikernel.numerics.certificates.decimals import agrees, decimal, digits_answered_for
from equikernel.numerics.certificates.record import Record
from equikernel.numerics.certificates.refine import Zero
from equikernel.theory.activation import activation

__all__ = ["confirm_beside"]

_POINT_DIGITS = 6  # of the other fixed points, which are not refined
_SPARE_BITS = 64
_PROBLEM = ("sigma_a2", "sigma_b2", "tau0")
_WEIGHTS = ("iid", "orthogonal")  # of which the equations are true


def confirm_beside(solution: dict[str, Any], record: Record, zeros: list[Zero]) -> tuple[str, tuple[str, ...]]:
    """Compare the numbers beside a confirmed certificate with it.

    Args:
        solution: the JSON object of a solution, its key "certificate" left out.
        record: the claims, confirmed.
        zeros: the fixed points, confirmed, with balls of 1 - sigma_a2 h where their stability is claimed.

    Returns:
        What was confirmed, and the names of what was not looked at.

    Raises:
        RejectedError: a number is outside its enclosure, or has none.
    """
    _confirm_problem(solution, record)
    digits = digits_answered_for(record.digits)
    given = [name for name in COEFFICIENTS if solution.get(name) is not None]
    for name in given:
        number = f"{name} = {str(solution[name])[:40]} beside the certificate"
        require(name in record.enclosures, f"{number} has no enclosure")
        value = _number(solution[name])
        require(
            value is not None and _agrees(value, record.enclosures[name], digits), f"{number} is not in its enclosure"
        )
    others = solution.get("other_fixed_points", [])
    require(isinstance(others, list), "other_fixed_points beside the certificate is not a list")
    for point in others:
        _confirm_point(point, record, zeros)
    looked_at = {*COEFFICIENTS, *_PROBLEM, "activation", "weights", "digits", "trained", "other_fixed_points"}
    sentence = f"beside the certificate, to {digits} digits: {', '.join(given) or 'no coefficient'}"
    if others:
        sentence += f"; to {_POINT_DIGITS} digits: other fixed points, {len(others)}"
    return sentence, tuple(sorted(str(key)[:40] for key in solution if key not in looked_at))


def _confirm_problem(solution: dict[str, Any], record: Record) -> None:
    """The problem beside the certificate is the one it is about."""
    expected: dict[str, Any] = {name: float(getattr(record.equation, name)) for name in _PROBLEM}
    expected |= {"digits": record.digits, "trained": record.trained}
    for name, value in expected.items():
        given = solution.get(name, value)
        same = given == value and not isinstance(given, bool)
        require(same, f"{name} is {str(given)[:40]} beside the certificate, and {value} in it")
    weights = solution.get("weights", _WEIGHTS[0])
    require(weights in _WEIGHTS, f"the weights beside the certificate are {str(weights)[:40]}, which it is not about")
    name = solution.get("activation", record.equation.activation.name)
    require(isinstance(name, str), "the activation beside the certificate is not a string")
    try:
        same = activation(name).expr == record.equation.activation.expr
    except ParseError:
        return  # the name somebody gave to an expression
    except InputError:
        same = False
    require(same, f"the activation beside the certificate is {name[:40]}, which is another one")


def _confirm_point(point: Any, record: Record, zeros: list[Zero]) -> None:
    """Another fixed point is one of those proved, and its stability and slope are right."""
    require(isinstance(point, dict), "an entry of other_fixed_points beside the certificate is not an object")
    q, slope = _number(point.get("q")), _number(point.get("slope"))
    number = f"the other fixed point q = {str(point.get('q'))[:40]} beside the certificate"
    for index, (zero, (ball, stable)) in enumerate(zip(zeros, record.points, strict=True)):
        if index == record.selected or q is None or not _agrees(q, ball, _POINT_DIGITS):
            continue
        require(point.get("stable") is stable or stable is None, f"{number}: its stability was not confirmed")
        finite = slope is None or not zero.slope.is_finite() or _agrees(slope, 1 - zero.slope, _POINT_DIGITS)
        require(finite, f"{number}: its slope was not confirmed")
        return
    require(False, f"{number} is none of those proved")


def _number(value: Any) -> Fraction | None:
    """A JSON number or a string of decimals; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return Fraction(value)
    return decimal(value)


def _agrees(value: Fraction, ball: arb, digits: int) -> bool:
    """Whether a number of a JSON agrees with a ball."""
    with precision(bits_of_digits(digits) + _SPARE_BITS):
        return agrees(exact(value), ball, digits)
