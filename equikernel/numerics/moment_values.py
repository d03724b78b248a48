"""Gaussian moments as numbers that say how accurate they are and where they come from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from equikernel.errors import InputError
from equikernel.theory import moments as formulas
from equikernel.theory.activation import Activation

__all__ = ["Moment", "Moments", "RawMoments", "assemble", "require_derivative"]


@dataclass(frozen=True)
class Moment:
    """A number, a bound on its absolute error, and where it comes from."""

    value: Any
    error: float
    provenance: str

    @property
    def relative_error(self) -> float:
        """The error bound divided by |value|; 0 for an exact zero, infinite for a zero that is not known to be one."""
        if self.error == 0.0:
            return 0.0
        size = abs(float(self.value))
        return self.error / size if size else math.inf


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
