"""Linear DEQs in numbers: the formulas of ``theory.initialisation`` behind checks of their domain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from equikernel.errors import InputError, UnstableError
from equikernel.theory.initialisation import (
    LinearStatistics,
    haar_length,
    haar_length_variance,
    linear_statistics,
    require_family,
)
from equikernel.theory.initialisation_depth import depth_error, require_depth
from equikernel.theory.initialisation_scales import scale_of
from equikernel.theory.models import exact_number
from equikernel.theory.multiprecision import mp_arithmetic

__all__ = ["HaarLength", "haar_length_statistics", "linear_depth_error", "linear_deq", "sigma_below_critical"]


def sigma_below_critical(family: str, sigma: Any) -> Fraction:
    """The exact number sigma, if the spectral radius of W is below 1.

    Raises:
        InputError: unknown family, or sigma not a non-negative number.
        UnstableError: sigma at or beyond the critical value, 1 (iid, orthogonal) or 1/2 (goe).
    """
    require_family(family)
    number = exact_number(sigma, "sigma")
    radius = scale_of(family, "radius", number)
    if radius >= 1:
        critical = "0.5" if family == "goe" else "1"
        raise UnstableError(
            f"a linear DEQ with {family} weights has no stable fixed point at sigma = {float(number):.6g} (spectral "
            f"radius {float(radius):.6g}); the critical sigma is {critical}: reduce sigma"
        )
    return number


def linear_deq(family: str, sigma: Any, size: int | None = None) -> LinearStatistics:
    """Leading values of a linear DEQ; see ``LinearStatistics``. Relative error a few units of 1e-16 (1 - s)^-1.

    Args:
        family: "iid", "orthogonal" or "goe".
        sigma: standard deviation (scale) of W.
        size: N, if it is known: N = 1 is refused, for the values are limits of large N.

    Raises:
        InputError: unknown family, bad sigma, N = 1.
        UnstableError: sigma at or beyond the critical value.
    """
    if size is not None and size <= 1:
        remedy = "use haar_length_statistics" if family == "orthogonal" else "take N > 1"
        raise InputError(f"the leading values are limits of large N and mean nothing at N = {size}; {remedy}")
    s = sigma_below_critical(family, sigma) ** 2
    # 1 - s and 1 - 4s are formed exactly, in fractions, up to the square root
    return _rounded(linear_statistics(family, s, lambda square: Fraction(math.sqrt(square))))


def _rounded(found: LinearStatistics) -> LinearStatistics:
    return LinearStatistics(*(float(value) for value in vars(found).values()))


@dataclass(frozen=True)
class HaarLength:
    """E r and Var r of a linear DEQ with orthogonal weights at finite N."""

    mean: float
    variance: float


def haar_length_statistics(size: Any, sigma: Any) -> HaarLength:
    """E r and Var r at finite N, r = |z*|^2/|x|^2.

    E r is exact, Var r as ``theory.initialisation.haar_trace_variance``.

    Raises:
        InputError: N not a positive integer, or bad sigma.
        UnstableError: sigma >= 1.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InputError(f"expected a dimension N >= 1; got {size!r}")
    s = sigma_below_critical("orthogonal", sigma) ** 2
    return HaarLength(float(haar_length(size, s)), float(haar_length_variance(size, s)))


def linear_depth_error(family: str, sigma: Any, depth: int) -> float:
    """The limit of |z* - z_L|^2/|x|^2, with as many digits as the closed form loses; relative error about 1e-15.

    Raises:
        InputError, UnstableError: see ``sigma_below_critical``; a depth that is not a non-negative integer.
    """
    s = sigma_below_critical(family, sigma) ** 2
    if s == 0:
        return 0.0
    require_depth(depth)
    lost = (depth + 1) * max(0.0, -math.log10(4 * s))
    arithmetic = mp_arithmetic(50 + math.ceil(lost))
    return float(depth_error(family, arithmetic.number(s), depth, arithmetic.context.sqrt))
