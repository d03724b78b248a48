"""Gaussian moments as numbers that say how accurate they are and where they come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mpmath

from equikernel.errors import InputError
from equikernel.theory import moments as formulas
from equikernel.theory.activation import Activation

__all__ = [
    "FLOAT64_DIGITS",
    "Moment",
    "Moments",
    "RawMoments",
    "assemble",
    "format_number",
    "require_derivative",
    "small_number",
]

FLOAT64_DIGITS = 15
_SMALLEST = 1e-300


def format_number(value: Any, digits: int) -> Any:
    """A JSON-able number: a float up to 17 digits, a decimal string above."""
    if value is None:
        return None
    return float(value) if digits <= 17 else mpmath.nstr(value, digits, strip_zeros=False)


def small_number(value: Any) -> Any:
    """An error or residual as a JSON-able number: a float, or a decimal string where a float would underflow."""
    return float(value) if value == 0 or abs(value) > _SMALLEST else mpmath.nstr(value, 3)


@dataclass(frozen=True)
class Moment:
    """A number, a bound on its absolute error, and where it comes from.

    Both are floats up to 15 digits and mpmath numbers above.
    """

    value: Any
    error: Any
    provenance: str

    @property
    def relative_error(self) -> float:
        """The error bound divided by |value|; 0 for an exact zero, infinite for a zero that is not known to be one."""
        if self.error == 0:
            return 0.0
        return float(self.error / abs(self.value)) if self.value else math.inf

    def to_dict(self, digits: int) -> dict[str, Any]:
        """Plain JSON types; numbers with more than 17 digits, and errors below the floats, are strings."""
        return {
            "value": format_number(self.value, digits),
            "error": small_number(self.error),
            "provenance": self.provenance,
        }


@dataclass(frozen=True)
class Moments:
    """Moments of phi(tau xi), xi ~ N(0, 1), tau a standard deviation; definitions in ``theory.moments``.

    Attributes:
        mean: E[phi(tau xi)].
        V: Var phi(tau xi).
        d1: E[phi'(tau xi)].
        d2: E[phi''(tau xi)].
        h: E[(phi_c^2)''(tau xi)]/2.
        v_or_none: E[phi'(tau xi)^2], None where it is infinite; use ``v``.
    """

    activation: Activation
    tau: Any
    mean: Moment
    V: Moment
    d1: Moment
    d2: Moment
    h: Moment
    v_or_none: Moment | None

    @property
    def v(self) -> Moment:
        """E[phi'(tau xi)^2].

        Raises:
            InputError: phi jumps or its derivative is not square integrable, so that v is infinite.
        """
        require_derivative(self.activation)
        if self.v_or_none is None:
            raise AssertionError("v is computed whenever phi' is square integrable")
        return self.v_or_none

    def map(self, function: Callable[[Moment], Moment]) -> Moments:
        """The moments with a function applied to each."""
        v = None if self.v_or_none is None else function(self.v_or_none)
        mean, V, d1, d2, h = (function(m) for m in (self.mean, self.V, self.d1, self.d2, self.h))
        return replace(self, mean=mean, V=V, d1=d1, d2=d2, h=h, v_or_none=v)

    def items(self) -> list[tuple[str, Moment]]:
        """(name, moment) pairs; v is left out where it is infinite."""
        pairs = [("mean", self.mean), ("V", self.V), ("d1", self.d1), ("d2", self.d2), ("h", self.h)]
        return pairs if self.v_or_none is None else [*pairs, ("v", self.v_or_none)]


def require_derivative(activation: Activation) -> None:
    """Refuse an activation whose E[phi'^2] is infinite.

    Raises:
        InputError: names the offending point.
    """
    if activation.has_square_integrable_derivative:
        return
    where = f"jumps at x = {activation.jumps[0].to_sympy()}" if activation.jumps else "is too steep at a breakpoint"
    raise InputError(
        f"{activation.name} {where}, so E[phi'^2] is infinite and it has no neural tangent kernel; "
        'ask for the conjugate kernel alone (trained="a"), or smooth the activation'
    )


@dataclass(frozen=True)
class RawMoments:
    """The six raw moments of phi - shift and bounds on their errors, in the order of ``theory.moments``."""

    shift: Any
    shift_error: float
    values: list[Any]
    errors: list[float]


def assemble(activation: Activation, tau: Any, raw: RawMoments, provenance: str) -> Moments:
    """The moments and their error bounds from the raw ones, exact zeros from parity."""
    m0, s0, m1, m2, s2 = raw.values[:5]
    e0, es0, e1, e2, es2 = raw.errors[:5]
    scale = float(tau)

    def moment(value: Any, error: float, symmetry: str = "", holds: bool = False) -> Moment:
        return Moment(tau * 0, 0.0, f"symmetry ({symmetry})") if holds else Moment(value, error, provenance)

    odd, even = activation.parity == "odd", activation.parity == "even"
    odd_name = "odd" if odd else "odd up to a constant"

    h_error = (es2 + 2 * abs(float(m0)) * e2 + 2 * abs(float(m2)) * e0) / (2 * scale**2)
    return Moments(
        activation=activation,
        tau=tau,
        mean=moment(raw.shift + m0, e0 + raw.shift_error, "odd", odd),
        V=moment(formulas.variance(m0, s0), es0 + 2 * abs(float(m0)) * e0),
        d1=moment(formulas.mean_slope(m1, tau), e1 / scale, "even", even),
        d2=moment(formulas.curvature(m2, tau), e2 / scale**2, odd_name, activation.odd_up_to_constant),
        h=moment(formulas.variance_slope(m0, m2, s2, tau), h_error),
        v_or_none=moment(raw.values[5], raw.errors[5]) if len(raw.values) > 5 else None,
    )
