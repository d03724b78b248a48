r"""E[u^n v^m prod erf(alpha_k w_k)] for (u, v) ~ N(mu, Sigma), w_k one of u, v: exact, by Stein's identity.

Every step replaces the Gaussian by another one. With e_w the unit vector of the variable w and s = Sigma_ww:

    exp(m^T w)       multiplies by exp(m^T mu + m^T Sigma m/2)              mu <- mu + Sigma m
    exp(b w^2)       multiplies by exp(b mu_w^2/(1 - 2 b s))/sqrt(1 - 2 b s)  an observation of precision -2b
    d erf(alpha w)   multiplies by 2 nu exp(-nu^2 mu_w^2/(2 D))/sqrt(2 pi D)  an observation of precision nu^2

where nu^2 = 2 alpha^2, D = 1 + 2 alpha^2 s for erf and nu = 1, D = s for the signum (whose derivative is twice the
delta function), and an observation with gain g (-2b/(1 - 2bs) or nu^2/D) is
Sigma <- Sigma - g Sigma e e^T Sigma, mu <- mu - g mu_w Sigma e. Stein's identity

    E[w_k f] = mu_k E[f] + sum_l Sigma_kl E[df/dw_l]

lowers the degree. What is left is 1, one factor: erf(nu mu_w/sqrt(2 D)), or two with mu = 0:
(2/pi) asin(nu nu' Sigma_ww'/sqrt(D D')), the arcsine law (an odd number with mu = 0 gives 0). Four factors, or two
off-centre, are orthant probabilities without an elementary form.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import sympy as sp

from equikernel.errors import NoClosedFormError
from equikernel.theory.dual_forms.terms import SIGNUM, Expansion, Term
from equikernel.theory.dual_forms.values import Fraction, Key, Table, Value, ValueField

__all__ = ["GaussianAlgebra"]


@dataclass(frozen=True)
class _Gaussian:
    """The means and the covariances (uu, uv, vv) of (u, v)."""

    mean: tuple[Fraction, Fraction]
    uu: Fraction
    uv: Fraction
    vv: Fraction

    def covariance(self, k: int, l: int) -> Fraction:  # noqa: E741 - indices as in the formulas
        return self.uv if k != l else (self.vv if k else self.uu)

    def observed(self, k: int, gain: Fraction) -> _Gaussian:
        """After an observation of variable k at 0."""
        a, b = self.covariance(0, k), self.covariance(1, k)
        shift = gain * self.mean[k]
        return _Gaussian(
            (self.mean[0] - shift * a, self.mean[1] - shift * b),
            self.uu - gain * a * a,
            self.uv - gain * a * b,
            self.vv - gain * b * b,
        )


class _Factor(NamedTuple):
    """erf(scale w), w the variable 0 or 1."""

    variable: int
    scale: sp.Expr


class GaussianAlgebra:
    """Expectations of products of terms under N(0, [[q_i, rho s_i s_j], [., q_j]]), q = s^2.

    Args:
        terms: everything that will be integrated; it decides the field of coefficients.
    """

    def __init__(self, terms: Iterable[Expansion]) -> None:
        elements: list[sp.Expr] = []
        constants: list[sp.Expr] = []
        for part in terms:
            for term, coefficient in part.items():
                scales = [scale for scale in term.scales if scale != SIGNUM]
                elements += [term.offset, term.rate, term.curvature, *(scale**2 for scale in scales)]
                constants += [coefficient, *scales]
        self.values = values = ValueField(elements, constants)
        s, t = values.s_i, values.s_j
        self._start = _Gaussian((values.zero, values.zero), s * s, values.rho * s * t, t * t)
        self._moments: dict[tuple[tuple[int, int], tuple[_Factor, ...], _Gaussian], Table] = {}

    def product(self, first: Expansion, second: Expansion) -> Table:
        """E[f(u) g(v)]."""
        total: Table = {}
        for a, x in first.items():
            for b, y in second.items():
                self.values.add(
                    total, self._pair(a, b), self.values.times(self.values.constant(x), self.values.constant(y))
                )
        return total

    def _pair(self, a: Term, b: Term) -> Table:
        gaussian = self._start
        factor: Value = (Key(), self.values.one)
        for k, term in enumerate((a, b)):
            if term.curvature != 0:
                curvature = self.values.element(term.curvature)
                spread = 1 - 2 * curvature * gaussian.covariance(k, k)
                tilt = curvature * gaussian.mean[k] ** 2 / spread
                factor = self.values.times(factor, self.values.exponential(tilt), self.values.inverse_root(spread))
                gaussian = gaussian.observed(k, -2 * curvature / spread)
        rates = [self.values.element(term.rate) for term in (a, b)]
        shifts = [sum(gaussian.covariance(k, j) * rates[j] for j in (0, 1)) for k in (0, 1)]
        tilt = self.values.element(a.offset) + self.values.element(b.offset)
        tilt += sum(rates[k] * (gaussian.mean[k] + shifts[k] / 2) for k in (0, 1))
        factor = self.values.times(factor, self.values.exponential(tilt))
        mean = (gaussian.mean[0] + shifts[0], gaussian.mean[1] + shifts[1])
        gaussian = _Gaussian(mean, gaussian.uu, gaussian.uv, gaussian.vv)
        for k, term in enumerate((a, b)):
            if term.pinned:
                pin, gaussian = self._slope(_Factor(k, SIGNUM), gaussian)
                factor = self.values.times(factor, pin, (Key(), self.values.one / 2))
        factors = tuple(_Factor(k, scale) for k, term in enumerate((a, b)) for scale in term.scales)
        total: Table = {}
        self.values.add(total, self._moment((a.degree, b.degree), factors, gaussian), factor)
        return total

    def _moment(self, powers: tuple[int, int], factors: tuple[_Factor, ...], gaussian: _Gaussian) -> Table:
        """E[u^n v^m prod erf]."""
        call = (powers, factors, gaussian)
        if call not in self._moments:
            self._moments[call] = self._stein(*call) if any(powers) else self._base(factors, gaussian)
        return self._moments[call]

    def _stein(self, powers: tuple[int, int], factors: tuple[_Factor, ...], gaussian: _Gaussian) -> Table:
        k = 0 if powers[0] else 1
        lower = (powers[0] - 1, powers[1]) if k == 0 else (powers[0], powers[1] - 1)
        total: Table = {}
        if gaussian.mean[k]:
            self.values.add(total, self._moment(lower, factors, gaussian), (Key(), gaussian.mean[k]))
        for j in (0, 1):
            weight = lower[j] * gaussian.covariance(k, j)
            if weight:
                lowest = (lower[0] - 1, lower[1]) if j == 0 else (lower[0], lower[1] - 1)
                self.values.add(total, self._moment(lowest, factors, gaussian), (Key(), weight))
        for index, factor in enumerate(factors):
            weight = gaussian.covariance(k, factor.variable)
            if weight:
                slope, observed = self._slope(factor, gaussian)
                rest = factors[:index] + factors[index + 1 :]
                self.values.add(total, self._moment(lower, rest, observed), self.values.times(slope, (Key(), weight)))
        return total

    def _spread(self, factor: _Factor, gaussian: _Gaussian) -> tuple[sp.Expr, Fraction, Fraction]:
        """(nu, nu^2, D) of a factor."""
        variance = gaussian.covariance(factor.variable, factor.variable)
        if factor.scale == SIGNUM:
            return sp.S.One, self.values.one, variance
        square = 2 * self.values.element(factor.scale**2)
        return sp.sqrt(2) * factor.scale, square, 1 + square * variance

    def _slope(self, factor: _Factor, gaussian: _Gaussian) -> tuple[Value, _Gaussian]:
        """The derivative of one factor: what it multiplies by, and the Gaussian that it leaves."""
        nu, square, spread = self._spread(factor, gaussian)
        mean = gaussian.mean[factor.variable]
        slope = self.values.times(
            self.values.constant(sp.sqrt(2 / sp.pi) * nu),
            self.values.exponential(-square * mean * mean / (2 * spread)),
            self.values.inverse_root(spread),
        )
        return slope, gaussian.observed(factor.variable, square / spread)

    def _base(self, factors: tuple[_Factor, ...], gaussian: _Gaussian) -> Table:
        """E[prod erf]."""
        values = self.values
        if not factors:
            return {Key(): values.one}
        means = [gaussian.mean[f.variable] for f in factors]
        if len(factors) == 1:
            if not means[0]:
                return {}
            nu, _, spread = self._spread(factors[0], gaussian)
            argument = values.expression(
                values.times(values.constant(nu / sp.sqrt(2)), (Key(), means[0]), values.inverse_root(spread))
            )
            return values.function(sp.erf(argument))
        if any(means):
            raise NoClosedFormError(
                "E[phi(u) phi(v)] has no closed form here: an exponential multiplies a step or an error function on "
                "both sides, which leaves the probability of a quadrant off-centre (Owen's T function)"
            )
        if len(factors) % 2:
            return {}
        if len(factors) > 2:
            raise NoClosedFormError(
                f"E[phi(u) phi(v)] has no closed form here: a product of {len(factors)} error functions or steps "
                "leaves the probability of an orthant in as many dimensions, which is not elementary"
            )
        (nu, _, spread), (mu, _, breadth) = (self._spread(f, gaussian) for f in factors)
        covariance = gaussian.covariance(factors[0].variable, factors[1].variable)
        sine = values.times(
            values.constant(nu * mu),
            (Key(), covariance),
            values.inverse_root(spread),
            values.inverse_root(breadth),
        )
        return values.function(sp.asin(values.expression(sine)), 2 / sp.pi)
