"""Balls as decimal strings that contain them, and back."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from typing import Any

from flint import arb

from equikernel.errors import InputError
from equikernel.numerics.balls.context import exact
from equikernel.numerics.moment_values import FLOAT64_DIGITS

__all__ = [
    "agrees",
    "ball_ends",
    "decimal",
    "digits_answered_for",
    "from_record",
    "is_recordable",
    "missing_bits",
    "to_record",
]

_SPARE_DIGITS = 3  # digits of the midpoint beyond the radius
_SURE_DIGITS = 12  # of a float64 solution: rounding may cost the others
_MAX_TEXT = 4000
_HUGE, _TINY = arb((1, 20_000)), arb((1, -20_000))
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?")


def _dyadic(value: arb) -> Fraction:
    mantissa, exponent = (int(part) for part in value.man_exp())
    return Fraction(mantissa * 2**exponent) if exponent >= 0 else Fraction(mantissa, 2**-exponent)


def ball_ends(ball: arb) -> tuple[Fraction, Fraction]:
    """The exact ends of a finite ball."""
    middle, radius = _dyadic(ball.mid()), _dyadic(ball.rad())
    return middle - radius, middle + radius


def is_recordable(ball: arb) -> bool:
    """Whether a ball is finite and below 2^20000: larger ones say nothing, and their decimals would fill the memory."""
    return bool(ball.is_finite() and ball.abs_upper() < _HUGE)


def to_record(ball: arb) -> dict[str, str]:
    """``{"mid", "rad"}``: decimals with [mid - rad, mid + rad] containing the ball, which must be ``is_recordable``."""
    centre, width = ball.mid(), ball.rad()
    if centre.abs_upper() < _TINY:
        centre, width = arb(0), (width + centre.abs_upper()).upper()
    if width < _TINY and width != 0:
        width = _TINY
    low, high = ball_ends(arb(centre, width))
    middle, radius = (low + high) / 2, (high - low) / 2
    digits = 17
    if radius and middle:
        digits = max(_magnitude(middle) - _magnitude(radius) + _SPARE_DIGITS, 2)
    elif middle:
        digits = _magnitude(middle) + 40
    text = _rounded(middle, min(max(digits, 2), 1500))
    return {"mid": text, "rad": _rounded_up(radius + abs(Fraction(text) - middle))}


def _magnitude(value: Fraction) -> int:
    """About log10 of |value|."""
    value = abs(value)
    return int((value.numerator.bit_length() - value.denominator.bit_length()) * 0.30103)


def _rounded(value: Fraction, digits: int) -> str:
    context = Context(prec=digits)
    return str(context.divide(Decimal(value.numerator), Decimal(value.denominator)))


def _rounded_up(value: Fraction) -> str:
    context = Context(prec=3, rounding=ROUND_CEILING)
    return str(context.divide(Decimal(value.numerator), Decimal(value.denominator)))


def missing_bits(ball: arb, digits: int) -> int:
    """Bits by which a ball falls short of so many significant digits, or decimals if it may be zero."""
    wanted = exact(Fraction(1, 10**digits)) / 2
    ratio = ball.rad() / (arb(1) if ball.contains(0) else ball.abs_lower()) / wanted
    return max(0, int(ratio.log().upper().ceil().fmpz()) * 3 // 2) if ratio > 1 else 0


def digits_answered_for(digits: int) -> int:
    """How many digits of a solution, which are not proved, must agree with a certificate of so many."""
    return min(digits, _SURE_DIGITS) if digits <= FLOAT64_DIGITS else digits - 1


def agrees(value: arb, ball: arb, digits: int) -> bool:
    """Whether a number lies in a ball widened by a unit of its last digit, at the current precision."""
    return bool(abs(value - ball).lower() <= ball.abs_upper() / arb(10) ** digits)


def decimal(text: Any) -> Fraction | None:
    """The number that a string of decimals stands for; None for anything else, or for one of unreasonable length."""
    if not isinstance(text, str) or len(text) > _MAX_TEXT or not _NUMBER.fullmatch(text):
        return None
    return Fraction(text)


def from_record(record: Any, name: str) -> arb:
    """The ball [mid - rad, mid + rad] of a record, at the current precision.

    Raises:
        InputError: not two decimal strings, or a negative radius; ``name`` says of what.
    """
    expected = f"{name} must be an object with the decimal strings mid and rad"
    if not isinstance(record, dict) or set(record) != {"mid", "rad"}:
        raise InputError(f"{expected}; got {str(record)[:60]}")
    middle, radius = decimal(record["mid"]), decimal(record["rad"])
    if middle is None or radius is None:
        raise InputError(f"{expected}; got {str(record)[:100]}")
    if radius < 0:
        raise InputError(f"{expected}; got the negative rad {record['rad']}")
    return exact(middle - radius).union(exact(middle + radius))
