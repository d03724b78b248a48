"""Hermite rows of an activation at many scales: A_k(q) = E[phi_c(sqrt(q) xi) he_k(xi)], he_k orthonormal.

phi_c = phi - centre with one constant for all scales, so that A_0 need not vanish away from the scale of centring.
Rows are computed by the kink-split rules of ``numerics.quadrature`` and, where there are many scales, interpolated at
Chebyshev points in log q; the interpolation is checked against direct rows before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import AccuracyError
from equikernel.numerics.moments import quick_moments
from equikernel.numerics.quadrature import Rule, rule
from equikernel.theory.activation import Activation

__all__ = ["HermiteRows", "hermite_rows", "second_moment"]

FloatArray = npt.NDArray[np.float64]

_CHUNK = 128
_GROUP_RATIO = 64.0  # q within one interpolation table
_TABLE_SIZES = (12, 24, 48, 96, 192)
_TABLE_TOLERANCE = 2e-14


@dataclass(frozen=True)
class HermiteRows:
    """For every variance q_i: the coefficients and two energies.

    Attributes:
        variances: q_i, shape (n,).
        coefficients: A_ik, shape (n, terms), k from 0.
        second_moment: E[phi_c(sqrt(q_i) xi)^2] = sum_k A_ik^2, shape (n,).
        slope_energy: E[phi'(sqrt(q_i) xi)^2] = sum_k k A_ik^2 / q_i, shape (n,); inf where it does not exist.
    """

    variances: FloatArray
    coefficients: FloatArray
    second_moment: FloatArray
    slope_energy: FloatArray


def _weighted(r: Rule, taus: FloatArray, extra_levels: int) -> Iterator[tuple[Any, Any, FloatArray]]:
    """Chunks of (indices, nodes, xi) with xi = y/tau, one octave of tau at a time, at a converged level."""
    octaves = np.ceil(np.log2(taus)).astype(int)
    for octave in np.unique(octaves):
        members = np.flatnonzero(octaves == octave)
        for end in (taus[members].min(), taus[members].max()):
            quick_moments(r.activation, float(end))
        level = min(r.converged_level(float(taus[members[0]])) + extra_levels, r.last_level)
        nodes = r.nodes(float(taus[members[0]]), level)
        for start in range(0, len(members), _CHUNK):
            chunk = members[start : start + _CHUNK]
            yield chunk, nodes, nodes.y[None, :] / taus[chunk, None]


def second_moment(activation: Activation, centre: float, variances: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For every positive q: g = E[(phi(sqrt(q) xi) - centre)^2] and g' = E[(xi^2 - 1) phi_c^2]/(2 q), shapes (n,)."""
    value, slope = np.empty_like(variances), np.empty_like(variances)
    taus = np.sqrt(variances)
    for chunk, nodes, xi in _weighted(rule(activation), taus, 0):
        with np.errstate(under="ignore", invalid="ignore", over="ignore"):
            squares = (nodes.phi - centre) ** 2 * nodes.dy
            density = np.exp(-0.5 * xi * xi) / (taus[chunk, None] * math.sqrt(2.0 * math.pi))
            terms = np.where(density > 0.0, density * squares[None, :], 0.0)
            value[chunk] = terms.sum(axis=1)
            slope[chunk] = ((xi * xi - 1.0) * terms).sum(axis=1) / (2.0 * variances[chunk])
    if not np.isfinite(value).all():
        raise AccuracyError(
            f"E[phi_c^2] of {activation.name} overflows at q = {variances.max():.4g}; scale the data down"
        )
    return value, slope


def _direct_rows(activation: Activation, centre: float, variances: FloatArray, terms: int) -> FloatArray:
    """A_k(q) for positive q by quadrature, shape (n, terms)."""
    rows = np.empty((len(variances), terms))
    taus = np.sqrt(variances)
    # the rule must resolve he_k, which oscillates with frequency sqrt(k) in xi
    extra = max(0, math.ceil(math.log2(max(math.sqrt(terms) * 9.0 * 2.0 / math.pi, 1.0))) - 3)
    for chunk, nodes, xi in _weighted(rule(activation), taus, extra):
        with np.errstate(under="ignore", over="ignore", invalid="ignore"):
            half = np.exp(-0.25 * xi * xi)
            # half-weights keep he_k exp(-xi^2/4) bounded for every k
            factor = (nodes.phi - centre)[None, :] * nodes.dy[None, :] * half
            factor = np.where(half > 0.0, factor, 0.0) / (taus[chunk, None] * math.sqrt(2.0 * math.pi))
        before, current = np.zeros_like(half), half
        for k in range(terms):
            rows[chunk, k] = np.einsum("ij,ij->i", factor, current)
            before, current = current, (xi * current - math.sqrt(k) * before) / math.sqrt(k + 1)
    return rows


def _chebyshev_matrix(points: FloatArray, low: float, high: float, size: int) -> FloatArray:
    """Barycentric interpolation from the Chebyshev points of [low, high] to ``points``, shape (len(points), size)."""
    k = np.arange(size)
    nodes = np.cos(np.pi * (2 * k + 1) / (2 * size))
    weights = np.sin(np.pi * (2 * k + 1) / (2 * size)) * (-1.0) ** k
    t = (2.0 * points - low - high) / (high - low)
    gap = t[:, None] - nodes[None, :]
    hit = gap == 0.0
    matrix = weights / np.where(hit, 1.0, gap)
    matrix[hit.any(axis=1)] = 0.0
    matrix[hit] = 1.0
    normalised: FloatArray = matrix / matrix.sum(axis=1, keepdims=True)
    return normalised


def _group_rows(activation: Activation, centre: float, variances: FloatArray, terms: int) -> FloatArray:
    """Rows for variances within a factor _GROUP_RATIO of each other, interpolated when that is cheaper."""
    low, high = math.log(variances.min()), math.log(variances.max())
    for size in _TABLE_SIZES:
        if 2 * size >= len(variances) or high - low < 1e-12:
            break
        k = np.arange(size)
        table_points = 0.5 * (low + high) + 0.5 * (high - low) * np.cos(np.pi * (2 * k + 1) / (2 * size))
        table = _direct_rows(activation, centre, np.exp(table_points), terms)
        probes = low + (high - low) * np.array([0.013, 0.31, 0.479, 0.77, 0.991])
        truth = _direct_rows(activation, centre, np.exp(probes), terms)
        error = np.linalg.norm(_chebyshev_matrix(probes, low, high, size) @ table - truth, axis=1)
        if (error <= _TABLE_TOLERANCE * np.linalg.norm(truth, axis=1)).all():
            rows: FloatArray = _chebyshev_matrix(np.log(variances), low, high, size) @ table
            return rows
    return _direct_rows(activation, centre, variances, terms)


def hermite_rows(activation: Activation, centre: float, variances: FloatArray, terms: int) -> HermiteRows:
    """Rows for every variance (zero allowed: phi_c(0) and nothing else).

    Args:
        activation: phi.
        centre: the constant subtracted, E[phi(tau* xi)].
        variances: q_i >= 0, shape (n,).
        terms: number of coefficients, k = 0 .. terms - 1.
    """
    n = len(variances)
    rows = np.zeros((n, terms))
    energy, slopes = np.empty(n), np.empty(n)
    zero = variances == 0.0
    if zero.any():
        rows[zero, 0] = activation(0.0) - centre
        energy[zero] = rows[zero, 0] ** 2
        slopes[zero] = _slope_at_zero(activation)
    order = np.flatnonzero(~zero)[np.argsort(variances[~zero])]
    start = 0
    while start < len(order):
        limit = variances[order[start]] * _GROUP_RATIO
        stop = int(np.searchsorted(variances[order], limit, side="right"))
        members = order[start:stop]
        rows[members] = _group_rows(activation, centre, variances[members], terms)
        start = stop
    positive = ~zero
    energy[positive] = second_moment(activation, centre, variances[positive])[0]
    slopes[positive] = _slope_energy(activation, variances[positive])
    return HermiteRows(variances, rows, energy, slopes)


def _slope_at_zero(activation: Activation) -> float:
    """phi'(0)^2, or the mean of both sides at a kink: the limit of E[phi'(sqrt(q) xi)^2] as q -> 0."""
    if not activation.has_square_integrable_derivative:
        return math.inf
    derivative = activation.derivative("numpy")
    sides = np.array([derivative(1e-300), derivative(-1e-300)])
    return float(np.mean(sides**2))


def _slope_energy(activation: Activation, variances: FloatArray) -> FloatArray:
    """E[phi'(sqrt(q) xi)^2] for positive q, inf where it does not exist."""
    result = np.full_like(variances, math.inf)
    if not activation.has_square_integrable_derivative:
        return result
    taus = np.sqrt(variances)
    for chunk, nodes, xi in _weighted(rule(activation), taus, 0):
        with np.errstate(under="ignore", over="ignore", invalid="ignore"):
            density = np.exp(-0.5 * xi * xi) / (taus[chunk, None] * math.sqrt(2.0 * math.pi))
            terms = np.where(density > 0.0, density * (nodes.slope**2 * nodes.dy)[None, :], 0.0)
        result[chunk] = terms.sum(axis=1)
    return result
