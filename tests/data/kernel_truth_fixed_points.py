"""The fixed points of the kernel truth: scale, variances and pairs, each in as many digits as asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from flint import arb
from kernel_truth_functions import Function, exact
from kernel_truth_quadrature import Moments, duals, moments

__all__ = ["FINE", "FINER", "Network", "Pair", "Sample", "implicit_pair"]

_ROUGH, FINE, FINER = 16, 31, 36


class NoRootError(ArithmeticError):
    """The equation of a variance has no root."""


def _bracket(excess: Callable[[arb], tuple[arb, arb]], low: arb, most: arb) -> tuple[arb, arb]:
    """An interval in which a function, positive at ``low``, and given with its slope, first becomes negative."""
    value, slope = excess(low)
    # far above its argument the function grows faster than it, and takes ever longer to compute
    while low < most and value < 100 * (1 + low):
        high = (low * arb("1.12")).mid()
        after, slope_after = excess(high)
        if value > 0 and after > 0 and slope < 0 < slope_after:
            # a minimum between: near a fold of the equation the function dips below zero in a short interval only
            left, right = low, high
            for _ in range(30):
                middle = ((left + right) / 2).mid()
                left, right = (middle, right) if excess(middle)[1] < 0 else (left, middle)
            if excess(left)[0] <= 0:
                return low, left
        if after <= 0:
            return low, high
        low, value, slope = high, after, slope_after
    raise NoRootError(f"the equation of a variance has no root up to {float(most)}")


def variance(function: Function, sigma_a2: arb, bias: arb, centre: arb | None, digits: int) -> arb:
    """The smallest root of q = sigma_a2 E[(phi(sqrt(q) xi) - centre)^2] + bias; centre None means E phi(sqrt(q) xi)."""

    def excess(q: arb, digits: int) -> tuple[arb, arb]:
        m = moments(function, q, digits)
        c = m.mean if centre is None else centre
        return sigma_a2 * m.about(c) + bias - q, sigma_a2 * m.square_slope_about(c, q) - 1

    low = bias
    if bias == 0 and centre is not None:
        rest = sigma_a2 * (function.at_zero()[0] - centre) ** 2
        if rest == 0:
            return arb(0)
        low = rest / 1000
    low, high = _bracket(lambda q: excess(q, 12), low.mid(), 100 * (1 + bias))
    q = high
    for _ in range(80):
        value, slope = excess(q, digits)
        move = value / slope
        following = (q - move).mid()
        if not low / 2 < following < high * 2:
            following = (low + high) / 2
        if abs(move) < q * arb(10) ** (2 - digits):
            return following
        q = following
    raise NoRootError(f"Newton's iteration for the variance of {function.text} did not settle")


@dataclass(frozen=True)
class Network:
    """A DEQ: its activation, variances and tau0."""

    function: Function
    sigma_a2: Fraction
    sigma_b2: Fraction
    tau0: Fraction

    def scale(self, digits: int) -> arb:
        """tau*^2."""
        return variance(self.function, exact(self.sigma_a2), exact(self.sigma_b2 * self.tau0**2), None, digits)

    def centre(self, digits: int) -> arb:
        """E phi(tau* xi)."""
        return arb(0) if self.function.odd else moments(self.function, self.scale(digits), digits).mean

    def variances(self, norms: list[Fraction], centre: arb, digits: int) -> list[arb]:
        """q_i for the squared norms, equal ones computed once."""
        found = {
            norm: variance(self.function, exact(self.sigma_a2), exact(self.sigma_b2 * norm), centre, digits)
            for norm in set(norms)
        }
        return [found[norm] for norm in norms]

    def edge(self, norms: list[Fraction]) -> float:
        """The largest sigma_a2 E[phi'^2], or slope of a variance's equation, roughly; inf without a fixed point."""
        try:
            scale = self.scale(_ROUGH)
            centre = self.centre(_ROUGH)
            variances = self.variances(norms, centre, _ROUGH)
        except NoRootError:
            return math.inf
        sigma_a2 = float(self.sigma_a2)
        slopes = [float(self.function.at_zero()[1]) ** 2] if any(q == 0 for q in variances) else []
        for q in {float(q): q for q in variances if q > 0}.values():
            m = moments(self.function, q, _ROUGH)
            slopes += [float(m.slope_square), float(m.square_slope_about(centre, q))]
        slopes.append(float(moments(self.function, scale, _ROUGH).square_slope_about(centre, scale)))
        return sigma_a2 * max(slopes)


@dataclass(frozen=True)
class Sample:
    """One sample at a layer: its variance and the moments of phi there (None at variance 0), centred at ``centre``."""

    function: Function
    q: arb
    centre: arb
    m: Moments | None

    @classmethod
    def at(cls, function: Function, q: arb, centre: arb) -> Sample:
        return cls(function, q, centre, moments(function, q, FINER) if q > 0 else None)

    @property
    def mean(self) -> arb:
        """E phi_c."""
        return (self.function.at_zero()[0] if self.m is None else self.m.mean) - self.centre

    @property
    def slope(self) -> arb:
        """E phi'."""
        return self.function.at_zero()[1] if self.m is None else self.m.slope

    def itself(self) -> tuple[arb, arb]:
        """G_ii and G'_ii."""
        if self.m is None:
            return self.mean**2, self.slope**2
        return self.m.about(self.centre), self.m.slope_square

    def with_other(self, other: Sample, rho: arb, digits: int) -> tuple[arb, arb]:
        """G_ij and G'_ij at the correlation rho."""
        if self.m is None or other.m is None:
            return self.mean * other.mean, self.slope * other.slope
        value, slope = duals(self.function, self.q, other.q, rho, digits)
        c = self.centre
        return value - c * (self.m.mean + other.m.mean) + c**2, slope


@dataclass(frozen=True)
class Pair:
    """G_ij and G'_ij at the fixed point, and their errors."""

    G: arb
    slope: arb
    error: float = 0.0
    slope_error: float = 0.0


def implicit_pair(first: Sample, second: Sample, sigma_a2: arb, bias: arb) -> Pair:
    """Newton's iteration on rho, which takes no step past +-1 and ends with the finest rule."""
    root = (first.q * second.q).sqrt()
    if root == 0:
        return Pair(*first.with_other(second, arb(0), FINE))

    def step(rho: arb, digits: int) -> tuple[arb, arb, arb]:
        value, slope = first.with_other(second, rho, digits)
        return value, slope, (rho - (sigma_a2 * value + bias) / root) / (1 - sigma_a2 * slope)

    rho = (sigma_a2 * (first.itself()[0] * second.itself()[0]).sqrt() * bias / root + bias) / root
    rho = max(min(rho.mid(), arb("0.9")), arb("-0.9"))
    digits = _ROUGH
    for _ in range(80):
        move = step(rho, digits)[2]
        # the slope moves like sqrt(1 - |rho|): no step may take more than most of what is left to +-1
        following = (rho - move).mid()
        gap = 1 - abs(rho)
        if 1 - abs(following) < gap / 20:
            following = ((1 - gap / 20) * (1 if following > 0 else -1)).mid()
        elif digits == FINE and abs(move) < arb("1e-14") * gap:
            rho = following
            break
        elif abs(move) < max(gap / 1000, arb("1e-14")):
            digits = FINE
        rho = following
    else:
        raise ArithmeticError(f"a pair did not settle for {first.function.text}")
    coarse, coarse_slope, _ = step(rho, FINE)
    value, slope, move = step(rho, FINER)
    left = float(abs(move))
    # by Plackett's identity a pair of kinks gives d slope/d rho a share of order 1/sqrt(1 - rho^2)
    slope_error = float(abs(slope - coarse_slope)) + left * (1.0 + float(root)) / math.sqrt(float(1 - rho**2))
    return Pair(value, slope, float(abs(value - coarse)) + left * float(root * abs(slope)), slope_error)
