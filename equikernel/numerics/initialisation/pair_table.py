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
from functools import partial

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
_REACH, _NEWTON = 9.0, 8
_FIRST_ORDER, _LAST_ORDER = 20, 640
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
    """E psi_x psi_y and E psi_x' psi_y' at a covariance of (g_x, g_y).

    Args:
        phi: activation.
        x: one sample.
        y: the other one.
        centre: the constant subtracted from phi.
        sides: by Var g and level, where nodes are kept that several pairs share.
    """

    def __init__(
        self,
        phi: Activation,
        x: Response,
        y: Response,
        centre: float,
        sides: dict[tuple[float, int], Side] | None = None,
    ) -> None:
        self.phi, self.centre = phi, centre
        self.x, self.y = (x, y) if x.v >= y.v else (y, x)  # the outer rule is that of the narrower features
        self.root = math.sqrt(x.v * y.v)
        self.sides: dict[tuple[float, int], Side] = {} if sides is None else sides
        self.first = FIRST_LEVEL  # the one before the level that agreed last time
        self.order = _FIRST_ORDER  # likewise, nodes of a panel of the inner rule
        self.values, self.slopes = phi.function("numpy"), phi.derivative("numpy")
        self.breakpoints = [float(b) for b in phi.breakpoints]

    def _level(self, level: int) -> tuple[Side, Side]:
        return self._side(self.x, level), self._side(self.y, level)

    def _side(self, point: Response, level: int) -> Side:
        key = (float(point.v), level)
        if key not in self.sides:
            self.sides[key] = Side(self.phi, point, self.centre, level)
        return self.sides[key]

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
        """The expectations at correlation sign (1 - gap).

        The rules in g_x and in w are refined in turn until both agree to 1e-13, the distance to psi's digits.

        Raises:
            AccuracyError: features too narrow.
        """
        rho = sign * (1 - gap)
        previous: Array | None = None
        while self.order <= _LAST_ORDER:
            found = self._agreed(partial(self._ridge_sums, gap, sign), self._ridge_sizes, rho)
            if previous is not None and np.all(abs(found - previous) <= AGREEMENT * self._ridge_sizes(found)):
                self.order //= 2
                return Ridge(*map(float, found))
            previous, self.order = found, 2 * self.order
        raise self._unresolved(rho)

    def _ridge_sizes(self, found: Array) -> Array:
        # psi_x - sign psi_y is known to the last digits of psi, not to its own
        blur = _ULPS / AGREEMENT * math.sqrt(found[2] * max(self.x.q, self.y.q))
        return np.array([*self._sizes, found[2] + blur])

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
        raise self._unresolved(rho)

    def _unresolved(self, rho: float) -> AccuracyError:
        return AccuracyError(
            f"the kernel of {self.phi.name} at correlation {rho:.8g} of the preactivations was not resolved: its "
            "features are too narrow; rescale the activation"
        )

    def _ridge_sums(self, gap: float, sign: float, level: int) -> Array:
        """The double sums with g_y = rho g_x + sqrt(1 - rho^2) w and panels in w that end at the kinks of psi_y."""
        x, y = self._level(level)
        step = max(1, _ROWS // (self.order * (len(self.breakpoints) + 2)))
        with np.errstate(under="ignore"):
            outer = np.exp(-0.5 * x.g * x.g) / math.sqrt(2 * math.pi)
        total = np.zeros(3)
        for k in range(0, len(x.g), step):
            rows = slice(k, k + step)
            psi, slope, square = self._inner_sums(x.g[rows], x.psi[rows], y, gap, sign)
            total += (
                np.sum(outer[rows] * x.value[rows] * psi),
                np.sum(outer[rows] * x.slope[rows] * slope),
                np.sum(outer[rows] * x.weight[rows] * square),
            )
        return total

    def _inner_sums(self, g: Array, psi_x: Array, y: Side, gap: float, sign: float) -> tuple[Array, ...]:
        """E psi_y, E psi_y' and E (psi_x - sign psi_y)^2 over w at each g_x."""
        rho, spread = sign * (1 - gap), math.sqrt(gap * (2 - gap))
        kinks = [(b - self.y.a * (self.values(b) - self.centre)) / math.sqrt(self.y.v) for b in self.breakpoints]
        with np.errstate(divide="ignore", invalid="ignore"):
            cuts = (np.array(kinks)[None, :] - rho * g[:, None]) / spread
        cuts = np.clip(np.nan_to_num(cuts), -_REACH, _REACH)
        ends = np.tile([-_REACH, 0.0, _REACH], (len(g), 1))
        edges = np.sort(np.concatenate([ends, cuts], axis=1), axis=1)
        half, middle = 0.5 * np.diff(edges), 0.5 * (edges[:, 1:] + edges[:, :-1])
        nodes, weights = np.polynomial.legendre.leggauss(self.order)
        w = (middle[:, :, None] + half[:, :, None] * nodes).reshape(len(g), -1)
        with np.errstate(under="ignore"):
            inner = (half[:, :, None] * weights).reshape(len(g), -1) * np.exp(-0.5 * w * w)
        inner /= inner.sum(axis=1, keepdims=True)
        u = self._solved(rho * g[:, None] + spread * w, y)
        psi = self.values(u) - self.centre
        slope = self.slopes(u)
        slope = slope / (1 - self.y.a * slope)
        square = (psi_x[:, None] - sign * psi) ** 2
        return tuple(np.asarray(np.sum(inner * f, axis=1)) for f in (psi, slope, square))

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
