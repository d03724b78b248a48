"""Gaussian energies and Hermite rows of an activation at any variance, interpolated from a table that is made once.

a_k(q) = E[phi(sqrt(q) xi) he_k(xi)], he_k orthonormal, is a smooth function of log q. It is computed by the kink-split
rules of ``numerics.quadrature`` at the Chebyshev points of every octave (2^(e-1), 2^e] of q that is met, and
interpolated between them; every octave is checked against direct values before it is used, and where no number of
points will do (fast oscillations) the direct values themselves are taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from threading import RLock
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from equikernel.errors import AccuracyError
from equikernel.numerics.hermite_scales import series_energies
from equikernel.numerics.hermite_series import HermiteSeries
from equikernel.numerics.moments import quick_moments
from equikernel.numerics.quadrature import Nodes, rule
from equikernel.theory.activation import Activation

__all__ = ["ENERGIES", "TIERS", "Energies", "HermiteTable", "chebyshev", "hermite_table", "interpolation", "project"]

FloatArray = npt.NDArray[np.float64]

_SIZES = (12, 20, 36, 68, 132)  # Chebyshev points of an octave
_PROBES = np.array([-0.97, -0.52, 0.11, 0.63, 0.99])
ENERGIES = 4  # columns before the row: V, dV/dq, v, dE[phi]/dq
TIERS = (136, 264, 1024, 4096)  # lengths of rows: a table each, so that no bit depends on what was asked for before
_BATCH = 1024  # variances at which a Hermite series is expanded together
_TINY = 1e-300  # half-weights below it would only produce subnormal numbers


@dataclass(frozen=True)
class Energies:
    """Moments of phi at every variance q_i, shapes (n,).

    Attributes:
        mean: E[phi(sqrt(q_i) xi)].
        mean_slope: its derivative in q, E[(xi^2 - 1) phi]/(2 q).
        variance: V(q_i) = Var phi(sqrt(q_i) xi).
        variance_slope: dV/dq.
        slope_energy: E[phi'(sqrt(q_i) xi)^2]; inf where it does not exist.
    """

    mean: FloatArray
    mean_slope: FloatArray
    variance: FloatArray
    variance_slope: FloatArray
    slope_energy: FloatArray

    def second_moment(self, centre: float) -> tuple[FloatArray, FloatArray]:
        """E[(phi - centre)^2] and its derivative in q."""
        gap = self.mean - centre
        return self.variance + gap * gap, self.variance_slope + 2.0 * gap * self.mean_slope


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def project(factor: Any, half: Any, xi: Any, rows: Any) -> None:
    """rows[k] = sum_j factor_j half_j he_k(xi_j): the recursion of he_k exp(-xi^2/4), which stays bounded."""
    before = np.zeros_like(half)
    current = half.copy()
    for k in range(len(rows)):
        rows[k] = np.sum(factor * current)
        root, scale = math.sqrt(k), 1.0 / math.sqrt(k + 1.0)
        for j in range(len(xi)):
            following = (xi[j] * current[j] - root * before[j]) * scale
            before[j] = current[j]
            current[j] = following


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _combine(weights: Any, values: Any, members: Any, out: Any) -> None:
    """out[members] = weights @ values, as far as there are columns: a row's bits do not depend on the other rows."""
    for i in range(len(members)):
        row = out[members[i]]
        row[:] = 0.0
        for k in range(values.shape[0]):
            weight = weights[i, k]
            for column in range(len(row)):
                row[column] += weight * values[k, column]


def chebyshev(size: int) -> tuple[FloatArray, FloatArray]:
    """Chebyshev points on [-1, 1] and their barycentric weights."""
    angle = np.pi * (2 * np.arange(size) + 1) / (2 * size)
    return np.cos(angle), np.sin(angle) * (-1.0) ** np.arange(size)


def interpolation(points: FloatArray, size: int) -> FloatArray:
    """Barycentric interpolation from the Chebyshev points to ``points`` in [-1, 1], (len(points), size)."""
    nodes, weights = chebyshev(size)
    gap = points[:, None] - nodes
    hit = gap == 0.0
    matrix = weights / np.where(hit, 1.0, gap)
    struck = hit.any(axis=1)
    matrix[struck] = hit[struck]
    normalised: FloatArray = matrix / matrix.sum(axis=1, keepdims=True)
    return normalised


@dataclass(frozen=True)
class _Cell:
    """Values at an octave's Chebyshev points: V, dV/dq, v, da_0/dq, a_0 ... a_(terms-1). size 0: do not interpolate."""

    size: int
    values: FloatArray


class HermiteTable:
    """Energies and Hermite rows of one activation at any positive variance. Safe to share between threads.

    Accuracy: 4e-15 of the row's norm (checked), as far as float64 values of phi allow.

    Attributes:
        tolerance: of the interpolation at the probes, relative to the row's norm.
    """

    tolerance = 4e-15

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        self._has_slope = activation.has_square_integrable_derivative
        self._cells: dict[tuple[int, int], _Cell] = {}
        self._lock = RLock()

    def energies(self, variances: FloatArray) -> Energies:
        """Moments at positive variances, shape (n,)."""
        V, slope, v, mean_slope, mean = self._values(variances, 1).T
        if not self._has_slope:
            v = np.full_like(v, math.inf)
        return Energies(mean, mean_slope, V, slope, v)

    @property
    def slope_energy_at_zero(self) -> float:
        """phi'(0)^2, or the mean of both sides at a kink: the limit of E[phi'(sqrt(q) xi)^2] as q -> 0."""
        if not self._has_slope:
            return math.inf
        derivative = self.activation.derivative("numpy")
        return float(np.mean(np.array([derivative(1e-300), derivative(-1e-300)]) ** 2))

    def rows(self, variances: FloatArray, terms: int) -> FloatArray:
        """a_k(q_i) for k < terms at positive variances, shape (n, terms)."""
        return self._values(variances, terms)[:, ENERGIES:]

    def _values(self, variances: FloatArray, terms: int) -> FloatArray:
        """The first 4 + terms columns of the cells; the bits for a variance depend on nothing but itself."""
        tier = next((t for t in TIERS if t >= terms), terms)
        result = np.empty((len(variances), ENERGIES + terms))
        octaves = np.ceil(np.log2(variances)).astype(int)
        for octave in np.unique(octaves):
            members = np.flatnonzero(octaves == octave)
            cell = self._cell(int(octave), tier)
            if cell.size == 0:
                result[members] = self._direct(int(octave), variances[members], tier)[:, : ENERGIES + terms]
                continue
            points = 2.0 * (np.log2(variances[members]) - octave) + 1.0
            _combine(interpolation(points, cell.size), cell.values, members, result)
        return result

    def _cell(self, octave: int, tier: int) -> _Cell:
        with self._lock:
            if (octave, tier) not in self._cells:
                self._cells[octave, tier] = self._new_cell(octave, tier)
            return self._cells[octave, tier]

    def _new_cell(self, octave: int, terms: int) -> _Cell:
        truth = self._direct(octave, 2.0 ** (octave + 0.5 * (_PROBES - 1.0)), terms)
        for size in _SIZES:
            values = self._direct(octave, 2.0 ** (octave + 0.5 * (chebyshev(size)[0] - 1.0)), terms)
            error = np.abs(interpolation(_PROBES, size) @ values - truth)
            scale = np.abs(truth)
            scale[:, ENERGIES:] = np.sqrt(truth[:, :1] + truth[:, ENERGIES : ENERGIES + 1] ** 2)
            scale[:, 1] += truth[:, 0] / 2.0**octave
            scale[:, 3] = scale[:, ENERGIES] / 2.0**octave
            if (error <= self.tolerance * scale).all():
                return _Cell(size, values)
        return _Cell(0, np.empty((0, 0)))

    def _direct(self, octave: int, variances: FloatArray, terms: int) -> FloatArray:
        """The columns at variances of one octave, by quadrature: shape (n, 4 + terms)."""
        result = np.empty((len(variances), ENERGIES + terms))
        nodes = self._nodes(octave, terms)
        for i, q in enumerate(variances):
            tau = math.sqrt(q)
            xi = nodes.y / tau
            with np.errstate(under="ignore"):
                half = np.exp(-0.25 * xi * xi)
            kept = half > _TINY
            xi, half = xi[kept], half[kept]
            weight = nodes.dy[kept] * half / (tau * math.sqrt(2.0 * math.pi))
            phi, slope = nodes.phi[kept], nodes.slope[kept]
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                density = weight * half
                mean = float(density @ phi) / float(density.sum())
                f = phi - mean
                energy = density * f * f
                V, W = float(energy.sum()), float(((xi * xi - 1.0) * energy).sum()) / (2.0 * q)
                v = float((density * slope * slope).sum()) if self._has_slope else 0.0
                project(weight * f, half, xi, result[i, ENERGIES:])
            result[i, :ENERGIES] = V, W, v, result[i, ENERGIES + 2] / (math.sqrt(2.0) * q)
            result[i, ENERGIES] = mean
        if not np.isfinite(result[:, [0, 3]]).all():
            raise AccuracyError(
                f"E[phi^2] of {self.activation.name} overflows at q = {variances.max():.4g}; scale the data down"
            )
        return result

    def _nodes(self, octave: int, terms: int) -> Nodes:
        """Nodes for the octave of q that resolve he_k for all k below ``terms``."""
        r = rule(self.activation)
        high = 2.0 ** (octave / 2.0)
        for tau in (high / math.sqrt(2.0) * (1.0 + 1e-12), high):
            quick_moments(self.activation, tau)
        return r.nodes(high, min(r.converged_level(high) + self.extra_levels(terms), r.last_level))

    @staticmethod
    def extra_levels(terms: int) -> int:
        """How often to halve the step for he_k, k < terms, which oscillate with frequency sqrt(k) in xi."""
        return max(0, math.ceil(math.log2(max(math.sqrt(terms) * 9.0 * 2.0 / math.pi, 1.0))) - 3)


class _SeriesTable(HermiteTable):
    """The table of a Hermite series, which needs no quadrature: every value in closed form."""

    def __init__(self, series: HermiteSeries) -> None:
        super().__init__(series)
        self._series = series

    def _values(self, variances: FloatArray, terms: int) -> FloatArray:
        result = np.zeros((len(variances), ENERGIES + terms))
        distinct, places = np.unique(variances, return_inverse=True)
        places = places.ravel()
        kept = min(terms, 1 + self._series.degree)
        for start in range(0, len(distinct), _BATCH):
            part = distinct[start : start + _BATCH]
            energies, rows = np.split(series_energies(self._series, part), [ENERGIES - 1], axis=1)
            members = (places >= start) & (places < start + _BATCH)
            which = places[members] - start
            result[members, : ENERGIES - 1] = energies[which]
            if self._series.degree > 1:
                result[members, ENERGIES - 1] = (rows[:, 2] / (math.sqrt(2.0) * part))[which]
            result[members, ENERGIES : ENERGIES + kept] = rows[which, :kept]
        return result


@lru_cache(maxsize=256)
def hermite_table(activation: Activation) -> HermiteTable:
    """The activation's table, shared by all that need it."""
    return _SeriesTable(activation) if isinstance(activation, HermiteSeries) else HermiteTable(activation)
