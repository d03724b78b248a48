"""Integrals for symmetric weights, where u = g + a (phi(u) + x) with g ~ N(0, v) independent of x.

Where 1 - a phi' > 0 that is an increasing change of variables, so integrals over g become integrals over u with weight
density(g) (1 - a phi'(u)) du, and the breakpoints of phi stay where they are. Given u, x is averaged in closed form
(Gaussian) or summed (atoms). Derivatives in v and a are put on the weight: no second derivative of phi is taken, and
kinks are given their due.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from equikernel.errors import AccuracyError, UnstableError
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import NOISE, Array, Precision, converged
from equikernel.numerics.quadrature import Nodes
from equikernel.theory.activation import Activation

__all__ = ["Conditional", "Symmetric", "Weights", "conditional", "scale_of_u", "spectral", "symmetric"]

_MATRIX = 2_000_000  # nodes times atoms handled at a time


@dataclass(frozen=True)
class Symmetric:
    """Integrals over g ~ N(0, v) and x, with u = g + a z, z = phi(u) + x, y = dz/dg = phi'/(1 - a phi').

    Attributes:
        mass: E 1, a check.
        mean: E z; square: E z^2; fourth: E z^4.
        response: E y; replicon: E y^2; static: E (1 - a phi')^-2; mixed: E z^2 y; opening: E (1 - a phi')^-1.
        mean_v, square_v, response_v: derivatives in v at fixed a.
        mean_a, square_a, response_a: derivatives in a at fixed v.
    """

    mass: Any
    mean: Any
    square: Any
    fourth: Any
    response: Any
    replicon: Any
    static: Any
    mixed: Any
    opening: Any
    mean_v: Any
    square_v: Any
    response_v: Any
    mean_a: Any
    square_a: Any
    response_a: Any


def scale_of_u(activation: Activation, v: float, a: float, law: InputLaw, precision: Precision) -> float:
    """A scale at whose reach the density of u has died: u grows by a phi(u) + a x beyond g."""
    shift, spread = abs(a * float(law.mean)), v
    if law.variance is None:
        shift = abs(a) * max(abs(float(x)) for x in law.atoms)
    else:
        spread += a * a * float(law.variance)
    needed = shift + precision.sigmas * math.sqrt(spread)
    phi = activation.function("numpy")
    scale = math.sqrt(v)
    while scale < 1e100:
        ends = np.array([-1.0, 1.0]) * precision.sigmas * scale
        if np.all(np.sign(ends) * (ends - a * phi(ends)) >= needed):
            break
        scale *= 2.0
    return scale


class Weights:
    """Weights of one set of nodes: dy, the open factor 1 - a phi' and the density of u."""

    def __init__(self, nodes: Nodes, m: Any, v: Any, a: Any, precision: Precision) -> None:
        self.nodes, self.math, self.v, self.a, self.precision = nodes, m, v, a, precision
        # the array first: mpmath numbers on its left would try to read it as text
        self.g0 = nodes.y - nodes.phi * a  # g = g0 - a x
        self.open = 1 - nodes.slope * a
        if not np.all(self.open > 0):
            raise _closed(float(a), float(nodes.slope[np.argmin(self.open)]))

    def density(self, distance: Array, variance: Any) -> Array:
        root = self.precision.sqrt(variance)
        return np.asarray(self.math.exp(-distance * distance / (2 * variance)) / (root * self.math.root_two_pi))

    def moments(self, law: InputLaw) -> list[Array]:
        """E[z^k; u] per du (without 1 - a phi'), k = 0 ... 4."""
        phi, number, a, v = self.nodes.phi, self.precision.number, self.a, self.v
        if law.variance is None:
            return self._mixture(self.precision.array(law.atoms), None)
        mean, variance = number(law.mean), number(law.variance)
        total = v + a * a * variance
        from_mean = self.g0 - a * mean
        density = self.density(from_mean, total)
        M, C = phi + mean + a * variance * from_mean / total, variance * v / total
        MM = M * M
        return [
            density,
            density * M,
            density * (MM + C),
            density * M * (MM + 3 * C),
            density * (MM * (MM + 6 * C) + 3 * C * C),
        ]

    def _mixture(self, atoms: Array, probabilities: Array | None) -> list[Array]:
        powers = np.stack([atoms**0, atoms, atoms**2, atoms**3, atoms**4], axis=1)
        powers = powers / len(atoms) if probabilities is None else powers * probabilities[:, None]
        step = max(1, _MATRIX // len(atoms))
        parts = [self.at(atoms, slice(k, k + step)) @ powers for k in range(0, len(self.g0), step)]
        e0, e1, e2, e3, e4 = np.concatenate(parts).T
        f = self.nodes.phi
        ff = f * f
        return [
            e0,
            f * e0 + e1,
            ff * e0 + 2 * f * e1 + e2,
            f * (ff * e0 + 3 * f * e1 + 3 * e2) + e3,
            ff * (ff * e0 + 4 * f * e1 + 6 * e2) + 4 * f * e3 + e4,
        ]

    def at(self, atoms: Array, rows: slice) -> Array:
        """The density of g at u given x, shape (rows, atoms)."""
        return self.density(self.g0[rows, None] - self.a * atoms[None, :], self.v)


def _closed(a: float, slope: float) -> UnstableError:
    return UnstableError(
        f"u = g + a (phi(u) + x) has no unique solution: a phi' reaches {a * slope:.6g} (a = {a:.6g}) and must stay "
        "below 1; reduce sigma"
    )


def symmetric(activation: Activation, v: Any, a: Any, law: InputLaw, precision: Precision) -> Symmetric:
    """The integrals of ``Symmetric`` for v > 0 (a variance) and 1 - a phi' > 0.

    Raises:
        UnstableError: 1 - a phi' <= 0 somewhere.
        AccuracyError: the quadrature did not converge.
    """
    v, a = precision.number(v), precision.number(a)

    def terms(nodes: Nodes, m: Any) -> list[Array]:
        weights = Weights(nodes, m, v, a, precision)
        Z = [nodes.dy * z for z in weights.moments(law)]
        J, slope, u = weights.open, nodes.slope, nodes.y
        # E[(g^2/v - 1) z^k]/(2v) and E[g z^(k+1)]/v with g = u - a z
        heat = [(u * u * Z[k] - 2 * a * u * Z[k + 1] + a * a * Z[k + 2] - v * Z[k]) / (2 * v * v) for k in range(3)]
        pull = [(u * Z[k + 1] - a * Z[k + 2]) / v for k in range(3)]
        return [
            J * Z[0],
            J * Z[1],
            J * Z[2],
            J * Z[4],
            slope * Z[0],
            slope * slope * Z[0] / J,
            Z[0] / J,
            slope * Z[2],
            Z[0],
            J * heat[1],
            J * heat[2],
            slope * heat[0],
            J * pull[1] - slope * Z[1],
            J * pull[2] - slope * Z[2],
            slope * pull[0],
        ]

    return Symmetric(
        *converged(activation, scale_of_u(activation, float(v), float(a), law, precision), precision, terms)
    )


@dataclass(frozen=True)
class Conditional:
    """E_x of products of what is left when g is averaged at fixed x: squares E (E_g z^2)^2, and so on."""

    square_square: Any
    square_response: Any
    response_response: Any


def conditional(activation: Activation, v: Any, a: Any, law: InputLaw, precision: Precision) -> Conditional:
    """E_x[(E_g z^2)^2], E_x[E_g z^2 E_g y], E_x[(E_g y)^2].

    Gaussian x by the trapezoidal rule, which converges geometrically since E_g[.] is an entire function of x; its step
    is halved until two agree.

    Raises:
        AccuracyError: no convergence.
    """
    v, a = precision.number(v), precision.number(a)
    if law.variance is None:
        atoms = precision.array(law.atoms)
        return _conditional(activation, v, a, law, atoms, atoms**0 / len(atoms), precision)
    previous: Conditional | None = None
    for halvings in range(8):
        atoms, weights = _gaussian_atoms(law, 2.0**-halvings, precision)
        found = _conditional(activation, v, a, law, atoms, weights, precision)
        if previous is not None:
            pairs = zip(vars(found).values(), vars(previous).values(), strict=True)
            if all(abs(new - old) <= 4 * precision.relative * abs(new) + NOISE * precision.unit for new, old in pairs):
                return found
        previous = found
    raise AccuracyError(f"the average over x of the mean-field integrals of {activation.name} did not converge")


def _gaussian_atoms(law: InputLaw, step: float, precision: Precision) -> tuple[Array, Array]:
    count = math.ceil(precision.sigmas / step)
    xi = precision.array([k * step for k in range(-count, count + 1)])
    exponential = np.exp if precision.mp is None else np.frompyfunc(precision.mp.context.exp, 1, 1)
    weights = exponential(-xi * xi / 2)
    root = precision.sqrt(precision.number(law.variance))
    return precision.number(law.mean) + root * xi, weights / weights.sum()


def _conditional(
    activation: Activation, v: Any, a: Any, law: InputLaw, atoms: Array, probabilities: Array, precision: Precision
) -> Conditional:
    def terms(nodes: Nodes, m: Any) -> list[Array]:
        weights = Weights(nodes, m, v, a, precision)
        J, f = weights.open * nodes.dy, nodes.phi
        columns = np.stack([J, J * f, J * f * f, nodes.slope * nodes.dy], axis=1)
        step = max(1, _MATRIX // len(atoms))
        rows = [slice(k, k + step) for k in range(0, len(f), step)]
        return [np.stack([weights.at(atoms, r).T @ columns[r] for r in rows])]

    (sums,) = converged(activation, scale_of_u(activation, float(v), float(a), law, precision), precision, terms)
    square = sums[:, 2] + 2 * atoms * sums[:, 1] + atoms * atoms * sums[:, 0]
    response = sums[:, 3]
    return Conditional(
        (probabilities * square * square).sum(),
        (probabilities * square * response).sum(),
        (probabilities * response * response).sum(),
    )


def spectral(
    activation: Activation, v: Any, a: Any, t: Any, law: InputLaw, precision: Precision
) -> tuple[Any, Any, Any, Any]:
    """E d, E[d^2/(1 - t d)], E[d^3/(1 - t d)^2], E[d^4/(1 - t d)^3] for d = phi'(u).

    Raises:
        UnstableError: 1 - t d <= 0 somewhere.
        AccuracyError: the quadrature did not converge.
    """
    v, a, t = (precision.number(k) for k in (v, a, t))

    def terms(nodes: Nodes, m: Any) -> list[Array]:
        weights = Weights(nodes, m, v, a, precision)
        d = nodes.slope
        gap = 1 - t * d
        if not np.all(gap > 0):
            raise _closed(float(t), float(d[np.argmin(gap)]))
        w = nodes.dy * weights.open * weights.moments(law)[0]
        ratio = d / gap
        return [w * d, w * d * ratio, w * d * ratio * ratio, w * d * ratio * ratio * ratio]

    scale = scale_of_u(activation, float(v), float(a), law, precision)
    first, second, third, fourth = converged(activation, scale, precision, terms)
    return first, second, third, fourth
