"""The six integrands of ``theory.moments`` and how they grow, once for both engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["SHAPES", "Shape", "hermite2", "hermite4", "raw_terms"]


@dataclass(frozen=True)
class Shape:
    """An integrand is phi^value * phi'^slope times a polynomial in xi of this degree."""

    value: int
    slope: int
    degree: int


# m0, s0, m1, m2, s2, v: the order of ``theory.moments``
SHAPES = (Shape(1, 0, 0), Shape(2, 0, 0), Shape(1, 0, 1), Shape(1, 0, 2), Shape(2, 0, 2), Shape(0, 2, 0))


def hermite2(xi: Any) -> Any:
    """He_2(xi) = xi^2 - 1."""
    return xi * xi - 1


def hermite4(square: Any) -> Any:
    """He_4(xi) = xi^4 - 6 xi^2 + 3, from xi^2."""
    return (square - 6) * square + 3


def raw_terms(phi: Any, slope: Any, xi: Any, weight: Any) -> tuple[Any, ...]:
    """The six integrands at y = tau xi times a common weight: one evaluation of phi and phi' serves them all."""
    first = phi * weight
    second = phi * first
    hermite = hermite2(xi)
    return first, second, xi * first, hermite * first, hermite * second, slope * slope * weight
