"""E psi_x(g_x) psi_y(g_y) and E psi_x' psi_y' for the effective activations of two samples, at any correlation.

psi(g) = phi_c(u), g = u - a phi_c(u). By the product of the activation's double-exponential rules in (u_x, u_y), where
the density is smooth on their scale; near correlation +-1 it is a ridge, and the inner integral runs along
g_y = rho g_x + sqrt(1 - rho^2) w instead, with u_y solved for. There 1 - |rho| is the variable, and
E (psi_x -+ psi_y)^2 is summed as it stands, so that nearly parallel samples keep their digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from equikernel.errors import AccuracyError
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Array, Precision
from equikernel.numerics.initialisation.response import Response
from equikernel.numerics.initialisation.symmetric import scale_of_u
from equikernel.numerics.quadrature import FIRST_LEVEL, rule
from equikernel.theory.activation import Activation

__all__ = ["AGREEMENT", "NEARLY_PARALLEL", "PairTable", "Ridge", "Side"]

AGREEMENT = 1e-13  # of two levels, relative to the Cauchy-Schwarz bound
_PLAIN = Precision()
_LAST_LEVEL = 10
_ROWS = 2_000_000  # entries of a table handled at a time
_NEGLIGIBLE = 1e-40
NEARLY_PARALLEL = 0.98  # |rho| from which on the density is a ridge
_REACH, _ORDER, _NEWTON = 9.0, 40, 8
_ULPS, _ROUNDING = 2.0**-46, 2.0**-51


@dataclass(frozen=True)
class Ridge:
    """E psi_x psi_y, E psi_x' psi_y' and E (psi_x - sign psi_y)^2."""

    value: float
    slope: float
    distance: float


class Side:
    """Nodes of one sample at one level: g/sqrt(v), u, psi, its weights, and the weights of psi times psi and psi'."""

    def __init__(self, phi: Activation, point: Response, centre: float, level: int) -> None:
        law = InputLaw.centring(centre)
        nodes = rule(phi).nodes(scale_of_u(phi, point.v, point.a, law, _PLAIN), level)
        g = nodes.y - point.a * (nodes.phi - centre)
        with np.errstate(under="ignore"):
            alive = np.exp(-g * g / (2 * point.v)) > _NEGLIGIBLE
        self.g = g[alive] / math.sqrt(point.v)
        dy = nodes.dy[alive] / math.sqrt(point.v)
        open_ = 1 - point.a * nodes.slope[alive]
        self.psi = nodes.phi[alive] - centre
        self.weight = dy * open_
        self.value = self.weight * self.psi
        self.slope = dy * nodes.slope[alive]
        self.u = nodes.y[alive]


class PairTable:
    """E psi_x psi_y and E psi_x' psi_y' at a covariance of (g_x, g_y)."""

    def __init__(self, phi: Activation, x: Response, y: Response, centre: float) -> None:
        self.phi, self.x, self.y, self.centre = phi, x, y, centre
        self.root = math.sqrt(x.v * y.v)
        self.sides: dict[int, tuple[Side, Side]] = {}
        self.first = FIRST_LEVEL  # the one before the level that agreed last time
        self.values, self.slopes = phi.function("numpy"), phi.derivative("numpy")
        self.breakpoints = [float(b) for b in phi.breakpoints]

    def _level(self, level: int) -> tuple[Side, Side]:
        if level not in self.sides:
            x = Side(self.phi, self.x, self.centre, level)
            self.sides[level] = (x, x if self.y is self.x else Side(self.phi, self.y, self.centre, level))
        return self.sides[level]

    def at(self, covariance: float) -> tuple[float, float]:
        """E psi_x psi_y and E psi_x' psi_y' at one covariance, levels agreeing to 1e-13.

        Raises:
            AccuracyError: features too narrow.
        """
        rho = covariance / self.root
        if abs(rho) >= NEARLY_PARALLEL:
            ridge = self.ridge(max(1 - abs(rho), 0.0), math.copysign(1.0, rho))
            return ridge.value, ridge.slope
        found = self._agreed(lambda level: _product_sums(*self._level(level), rho), lambda _: self._sizes, rho)
        return float(found[0]), float(found[1])

    def ridge(self, gap: float, sign: float) -> Ridge:
        """The expectations at correlation sign (1 - gap), levels agreeing to 1e-13 (the distance: to psi's digits).

        Raises:
            AccuracyError: features too narrow.
        """

        def sums(level: int) -> Array:
            return self._ridge_sums(*self._level(level), gap, sign)

        def sizes(found: Array) -> Array:
            # psi_x - sign psi_y is known to the last digits of psi, not to its own
            blur = _ULPS / AGREEMENT * math.sqrt(found[2] * max(self.x.q, self.y.q))
            return np.array([*self._sizes, found[2] + blur])

        return Ridge(*map(float, self._agreed(sums, sizes, sign * (1 - gap))))

    @property
    def _sizes(self) -> Array:
        replicons = self.x.integrals.replicon * self.y.integrals.replicon
        return np.array([math.sqrt(self.x.q * self.y.q), math.sqrt(replicons)])

    def _agreed(self, sums: Callable[[int], Array], sizes: Callable[[Array], Array], rho: float) -> Array:
        previous: Array | None = None
        for level in range(self.first, _LAST_LEVEL):
            found = sums(level)
            if previous is not None and np.all(abs(found - previous) <= AGREEMENT * sizes(found)):
                self.first = level - 1
                return found
            previous = found
        raise AccuracyError(
            f"the kernel of {self.phi.name} at correlation {rho:.8g} of the preactivations was not resolved: its "
            "features are too narrow; rescale the activation"
        )

    def _ridge_sums(self, x: Side, y: Side, gap: float, sign: float) -> Array:
        """The double sums with g_y = rho g_x + sqrt(1 - rho^2) w and panels in w that end at the kinks of psi_y."""
        rho, spread = sign * (1 - gap), math.sqrt(gap * (2 - gap))
        kinks = [(b - self.y.a * (self.values(b) - self.centre)) / math.sqrt(self.y.v) for b in self.breakpoints]
        with np.errstate(divide="ignore", invalid="ignore"):
            cuts = (np.array(kinks)[None, :] - rho * x.g[:, None]) / spread
        cuts = np.clip(np.nan_to_num(cuts), -_REACH, _REACH)
        ends = np.tile([-_REACH, 0.0, _REACH], (len(x.g), 1))
        edges = np.sort(np.concatenate([ends, cuts], axis=1), axis=1)
        half, middle = 0.5 * np.diff(edges), 0.5 * (edges[:, 1:] + edges[:, :-1])
        nodes, weights = np.polynomial.legendre.leggauss(_ORDER)
        w = (middle[:, :, None] + half[:, :, None] * nodes).reshape(len(x.g), -1)
        with np.errstate(under="ignore"):
            inner = (half[:, :, None] * weights).reshape(len(x.g), -1) * np.exp(-0.5 * w * w)
            outer = np.exp(-0.5 * x.g * x.g) / math.sqrt(2 * math.pi)
        inner /= inner.sum(axis=1, keepdims=True)
        u = self._solved(rho * x.g[:, None] + spread * w, y)
        psi = self.values(u) - self.centre
        slope = self.slopes(u)
        slope = slope / (1 - self.y.a * slope)
        return np.array(
            [
                np.sum(outer * x.value * np.sum(inner * psi, axis=1)),
                np.sum(outer * x.slope * np.sum(inner * slope, axis=1)),
                np.sum(outer * x.weight * np.sum(inner * (x.psi[:, None] - sign * psi) ** 2, axis=1)),
            ]
        )

    def _solved(self, g: Array, y: Side) -> Array:
        """The u with u - a (phi(u) - centre) = sqrt(v) g: Newton's iteration between neighbouring nodes of y."""
        order = np.argsort(y.u)
        grid_u, grid_g = y.u[order], y.g[order]
        place = np.clip(np.searchsorted(grid_g, g), 1, len(grid_g) - 1)
        low, high = grid_u[place - 1], grid_u[place]
        outside = (g < grid_g[0]) | (g > grid_g[-1])  # where the weight is nil
        u = np.where(outside, np.clip(g, grid_g[0], grid_g[-1]), np.interp(g, grid_g, grid_u))
        target = math.sqrt(self.y.v) * g
        for _ in range(_NEWTON):
            step = (u - self.y.a * (self.values(u) - self.centre) - target) / (1 - self.y.a * self.slopes(u))
            before, u = u, np.where(outside, u, np.clip(u - step, low, high))
            if np.abs(u - before).max() <= _ROUNDING * np.abs(u).max():
                break
        return np.asarray(u)


def _product_sums(x: Side, y: Side, rho: float) -> Array:
    """The two double sums against the bivariate normal density of correlation rho."""
    gap = 1 - rho * rho
    total = np.zeros(2)
    step = max(1, _ROWS // len(y.g))
    for k in range(0, len(x.g), step):
        g = x.g[k : k + step, None]
        with np.errstate(under="ignore"):
            density = np.exp(-0.5 * (g * g + (y.g - rho * g) ** 2 / gap)) / (2 * math.pi * math.sqrt(gap))
        total += x.value[k : k + step] @ density @ y.value, x.slope[k : k + step] @ density @ y.slope
    return total
