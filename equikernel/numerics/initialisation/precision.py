"""The arithmetic and the quadrature of the mean-field integrals, and what they ask of an activation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import AccuracyError, InputError, UnstableError
from equikernel.numerics.arithmetic import UNIT_ROUNDOFF
from equikernel.numerics.quadrature import FIRST_LEVEL, Nodes, not_converged, rule
from equikernel.theory.activation import Activation
from equikernel.theory.multiprecision import mp_arithmetic

__all__ = ["NOISE", "Array", "Precision", "converged", "require_lipschitz", "require_slope", "slope_range"]

Array = npt.NDArray[Any]
NOISE = 64.0  # rounding of a sum, in units of the sum of absolute values
_WIDE, _SLOPE_LEVEL = 1024.0, 7  # nodes over which the range of phi' is taken
_FLOAT64_DIGITS = 18  # for which the float64 rule is laid out
_AGREEMENT = 1e-13


class Precision:
    """float64 (``digits`` None) or mpmath with ``digits`` working digits."""

    def __init__(self, digits: int | None = None) -> None:
        self.digits = digits
        self.mp = None if digits is None else mp_arithmetic(digits)

    @cached_property
    def relative(self) -> float:
        """To what two levels of a quadrature agree, relative to the integral of the absolute value."""
        return _AGREEMENT if self.digits is None else 10.0 ** -(self.digits - 5)

    @cached_property
    def unit(self) -> float:
        """Unit roundoff."""
        return UNIT_ROUNDOFF if self.digits is None else 10.0**-self.digits

    @cached_property
    def sigmas(self) -> float:
        """Where a Gaussian weight is negligible."""
        digits = _FLOAT64_DIGITS if self.digits is None else self.digits
        return math.sqrt(2.0 * math.log(10.0) * (digits + 12)) + 1.0

    def number(self, value: Any) -> Any:
        """A number of this arithmetic from an int, float, Fraction or mpmath number."""
        return float(value) if self.mp is None else self.mp.number(value)

    def sqrt(self, value: Any) -> Any:
        """The square root."""
        return math.sqrt(value) if self.mp is None else self.mp.context.sqrt(value)

    def array(self, values: Any) -> Array:
        """An array of numbers of this arithmetic."""
        return np.array([self.number(v) for v in values], dtype=float if self.mp is None else object)


def require_slope(activation: Activation) -> None:
    """Refuse activations whose derivative is no square integrable function.

    Raises:
        UnstableError: phi jumps, or phi'^2 has no integral.
    """
    if not activation.has_square_integrable_derivative:
        raise UnstableError(
            f"E[phi'(u)^2] of {activation.name} is infinite (phi jumps, or has a vertical tangent), so that its DEQ is "
            "unstable at every sigma > 0; expected a continuous activation"
        )


def slope_range(activation: Activation) -> tuple[float, float]:
    """(inf phi', sup phi') over the nodes of a wide quadrature rule; infinite where phi grows faster than linearly."""
    growth = activation.growth
    if growth.rate > 0.0 or growth.degree >= 1.01:
        return -math.inf, math.inf
    slope = rule(activation).nodes(_WIDE, _SLOPE_LEVEL).slope
    return float(slope.min()), float(slope.max())


def converged(
    activation: Activation, scale: float, precision: Precision, terms: Callable[[Nodes, Any], list[Array]]
) -> list[Any]:
    """Sums of terms over the nodes, shapes (nodes,) or (nodes, m), halving the step until two levels agree.

    Raises:
        AccuracyError: no agreement at the last level, or overflow.
    """
    r = rule(activation, precision.digits)
    previous: list[Any] = []
    for level in range(FIRST_LEVEL, r.last_level + 1):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            arrays = terms(r.nodes(scale, level), r.math)
            values = [t.sum(axis=0) for t in arrays]
            sizes = [np.max(abs(t).sum(axis=0)) for t in arrays]
        if not all(math.isfinite(size) for size in sizes):
            raise AccuracyError(
                f"the mean-field integrals of {activation.name} overflow at standard deviation {scale:.4g}; "
                "reduce sigma or x"
            )
        allowed = precision.relative + NOISE * precision.unit
        if previous and all(
            np.all(abs(a - b) <= allowed * size) for a, b, size in zip(values, previous, sizes, strict=True)
        ):
            return [float(value) if isinstance(value, np.floating) else value for value in values]
        previous = values
    raise not_converged(activation, scale, 16 if precision.digits is None else precision.digits)


def require_lipschitz(activation: Activation) -> None:
    """Refuse activations with unbounded slope, for which u = g + a z is not solvable for every g.

    Raises:
        InputError: phi' is unbounded.
    """
    require_slope(activation)
    if math.isinf(slope_range(activation)[1]):
        raise InputError(
            f"symmetric weights need an activation with bounded slope; {activation.name} grows faster than linearly: "
            "use iid or orthogonal weights"
        )
