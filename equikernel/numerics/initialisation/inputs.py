"""The law of the input's entries: what the mean-field equations need to know of x."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from equikernel.errors import DataError, InputError
from equikernel.theory.models import exact_number

__all__ = ["InputLaw"]

Number = Callable[[Any], Any]
_MOMENTS = 4


def _exact(value: Any, name: str) -> Fraction:
    """A real number as an exact fraction: a float is the decimal it prints as (-0.1 is -1/10)."""
    text = str(value).strip()
    if text.startswith("-"):
        return -exact_number(text[1:], name)
    return exact_number(value, name)


@dataclass(frozen=True)
class InputLaw:
    """The law of one entry of x: Gaussian, or equally likely atoms. Made by one of the class methods.

    Attributes:
        name: how it is called in tables.
        mean: of the Gaussian (0 for atoms).
        variance: of the Gaussian; None for atoms.
        atoms: the values, each with the same probability; empty for the Gaussian.
    """

    name: str
    mean: Fraction = Fraction(0)
    variance: Fraction | None = None
    atoms: tuple[Fraction, ...] = ()

    @classmethod
    def gaussian(cls, variance: Any = 1, mean: Any = 0) -> InputLaw:
        """Entries N(mean, variance).

        Raises:
            InputError: not numbers, or a negative variance.
        """
        spread, centre = exact_number(variance, "the variance of x"), _exact(mean, "the mean of x")
        if spread == 0:
            return cls.constant(centre)
        return cls(f"N({centre}, {spread})", centre, spread)

    @classmethod
    def constant(cls, value: Any) -> InputLaw:
        """All entries equal to ``value``.

        Raises:
            InputError: not a number.
        """
        atom = _exact(value, "the constant x")
        return cls(f"constant {atom}", atoms=(atom,))

    @classmethod
    def centring(cls, centre: float) -> InputLaw:
        """All entries equal to -centre, exactly: phi(u) + x is then the centred activation."""
        return cls("centring", atoms=(-Fraction(centre),))

    @classmethod
    def signs(cls, scale: Any = 1) -> InputLaw:
        """Entries +scale and -scale, equally often.

        Raises:
            InputError: not a positive number.
        """
        atom = exact_number(scale, "the scale of the signs x", positive=True)
        return cls(f"signs of scale {atom}", atoms=(-atom, atom))

    @classmethod
    def sample(cls, values: Iterable[float]) -> InputLaw:
        """The empirical law of the given entries, each taken exactly as the float it is.

        Raises:
            DataError: no values, or one that is not a finite number.
        """
        try:
            numbers = [float(v) for v in values]
        except (TypeError, ValueError):
            raise DataError("a sample of x must be a one-dimensional list of numbers") from None
        if not numbers or not all(map(math.isfinite, numbers)):
            raise DataError(
                f"a sample of x needs at least one value and finite values only; got {len(numbers)} values, "
                f"{sum(not math.isfinite(v) for v in numbers)} of them not finite"
            )
        return cls(f"sample of {len(numbers)}", atoms=tuple(map(Fraction, numbers)))

    def moment(self, power: int, number: Number = float) -> Any:
        """E x^power, power <= 4, in the arithmetic of ``number``: closed form (Gaussian) or the exact sum (atoms).

        Raises:
            InputError: a higher power.
        """
        if not 0 <= power <= _MOMENTS:
            raise InputError(f"moments of x up to the fourth are known; got power {power}")
        if self.variance is None:
            if len(self.atoms) > 100:  # sums of so many fractions would have denominators without end
                return number(math.fsum(float(a) ** power for a in self.atoms)) / len(self.atoms)
            return number(sum((a**power for a in self.atoms), Fraction(0)) / len(self.atoms))
        m, v = self.mean, self.variance
        return number((Fraction(1), m, m**2 + v, m**3 + 3 * m * v, m**4 + 6 * m**2 * v + 3 * v**2)[power])

    @property
    def is_zero(self) -> bool:
        """Whether x = 0."""
        return self.variance is None and not any(self.atoms)

    @property
    def is_symmetric(self) -> bool:
        """Whether x and -x have the same law."""
        if self.variance is not None:
            return self.mean == 0
        return sorted(self.atoms) == sorted(-a for a in self.atoms)
