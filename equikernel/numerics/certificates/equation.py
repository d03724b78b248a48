"""F(q) = q - T(q) and F'(q) = 1 - sigma_a2 h in ball arithmetic, at one q and over intervals of q."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import exact, hull, precision
from equikernel.numerics.balls.moments import ball_moments
from equikernel.numerics.balls.variance import variance_enclosure
from equikernel.theory.activation import Activation
from equikernel.theory.equations import fixed_point_map, gain_norm

__all__ = ["Equation"]

_ROOM = 64  # working bits beyond the accuracy asked for
_FEW_BITS = 128  # up to which two moments are cheaper than six with shared nodes
_LEAST, _MOST = 1e-200, 1e200


@dataclass(frozen=True)
class Equation:
    """T(q) = sigma_a2 V(q) + sigma_b2 tau0^2; sigma_a2, sigma_b2 and q are variances, tau0 a standard deviation."""

    activation: Activation
    sigma_a2: Fraction
    sigma_b2: Fraction
    tau0: Fraction

    @property
    def b(self) -> Fraction:
        """sigma_b2 tau0^2, below which there is no fixed point."""
        return self.sigma_b2 * self.tau0**2

    @property
    def floor(self) -> float:
        """A float a little below b.

        Raises:
            UncertifiedError: b is too small or too large.
        """
        if not _LEAST < self.b < _MOST:
            raise UncertifiedError("sigma_b2*tau0^2 must be between 1e-200 and 1e200 for a certificate; rescale tau0")
        return float(self.b) * (1 - 2.0**-20)

    def at(self, q: arb, bits: int, engine: str = "auto") -> tuple[arb, arb]:
        """F and F' at one exact q, to about 2^-bits of q, by one of the engines of ``ball_moments``."""
        with precision(bits + _ROOM):
            if engine == "auto" and bits <= _FEW_BITS:
                V, h = variance_enclosure(self.activation, q, bits)
            else:
                moments = ball_moments(self.activation, q.sqrt(), bits, engine)
                V, h = moments.V, moments.h
            return self._defect(q, V), gain_norm(h, exact(self.sigma_a2))

    def over(self, lower: float, upper: float, bits: int) -> tuple[arb, arb]:
        """F and F' over [lower, upper]: balls that contain their values at every q in between."""
        with precision(bits + _ROOM):
            q = hull(lower, upper)
            V, h = variance_enclosure(self.activation, q, bits)
            return self._defect(q, V), gain_norm(h, exact(self.sigma_a2))

    def slope_over(self, q: arb, bits: int, engine: str = "auto") -> arb:
        """F' over a narrow ball of q."""
        with precision(bits + _ROOM):
            if engine == "auto" and bits <= _FEW_BITS:
                h = variance_enclosure(self.activation, q, bits)[1]
            else:
                h = ball_moments(self.activation, q.sqrt(), bits, engine).h
            slope: arb = gain_norm(h, exact(self.sigma_a2))
            return slope

    def sharper_over(self, lower: float, upper: float, slope: arb, bits: int) -> arb:
        """F over [lower, upper] by the mean value form, which knows that q and V(q) move together."""
        with precision(bits + _ROOM):
            q = hull(lower, upper)
            middle = q.mid()
            value: arb = self.at(middle, bits)[0] + slope * (q - middle)
            return value

    def sign_at(self, q: float, engine: str = "auto") -> int:
        """The sign of F at a float, 0 when 200 bits do not tell, or when F has no enclosure there."""
        for bits in (53, 200):
            try:
                value, _ = self.at(arb(q), bits, engine)
            except UncertifiedError:
                continue
            if value > 0 or value < 0:
                return 1 if value > 0 else -1
        return 0

    def _defect(self, q: arb, V: arb) -> arb:
        sigma_a2, sigma_b2, tau02 = exact(self.sigma_a2), exact(self.sigma_b2), exact(self.tau0**2)
        defect: arb = q - fixed_point_map(V, sigma_a2, sigma_b2, tau02)
        return defect
