"""Dual activations of pairs by kink-split quadrature: exact at any correlation, near +-1 included.

With rho = s cos(omega), s = +-1, and independent standard normals a, b, the pair
u = sqrt(q_i)(cos(omega/2) a + sin(omega/2) b), v = s sqrt(q_j)(cos(omega/2) a - sin(omega/2) b) has variances q_i, q_j
and correlation rho. For fixed b the integrand in a has kinks where u or v crosses a breakpoint, and as a function of b
the inner integral is smooth except where two kinks meet; Gauss-Legendre panels between those points converge
geometrically, whatever the activation and however close rho is to +-1. Where a piece itself is singular at its end
(|x|^1.5), tanh-sinh panels take their place.

The angle omega is the variable, not rho: near rho = 1 it keeps the digits that 1 - rho has lost.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import mpmath
import numpy as np
import numpy.typing as npt

from equikernel.errors import AccuracyError
from equikernel.numerics.absolute import absolute_form
from equikernel.numerics.hermite_scales import SeriesForm
from equikernel.numerics.hermite_series import HermiteSeries
from equikernel.theory.activation import Activation

__all__ = ["RotatedDuals", "pair_duals", "rotated_duals"]

FloatArray = npt.NDArray[np.float64]
# (parts of a panel, order); None: panels end at kinks alone. Each tells the error of the one before, more than its own
_LEVELS = ((None, 24), (None, 36), (1, 36), (2, 36), (4, 36), (8, 36))
_AGREEMENT = 1e-10  # of two levels: the error of the finer one is far below, about the 3/2 power
_EPS = 2.0**-52
_SIGMAS = 9.0
_TANH_SINH_HALF, _TANH_SINH_REACH = 48, 3.2
_FEATURE = 3.0  # smooth activations are resolved by a panel so long at the origin, and three times as long further out
_NODES = 30_000  # of a batch of pairs: what stays in the cache


@dataclass(frozen=True)
class RotatedDuals:
    """Expectations of pairs, arrays of one shape.

    Attributes:
        value: E[phi_c(u) phi_c(v)].
        slope: E[phi'(u) phi'(v)]; NaN when phi' is not square integrable.
        distance: E[(phi_c(u) - s phi_c(v))^2], relatively accurate however small.
        error: bound of the quadrature's error relative to E[|phi_c(u) phi_c(v)|] and E[|phi'(u) phi'(v)|].
    """

    value: FloatArray
    slope: FloatArray
    distance: FloatArray
    error: FloatArray


@cache
def _panel_rule(order: int | None) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on [-1, 1]: Gauss-Legendre, or (None) tanh-sinh for integrands singular at the ends."""
    if order is not None:
        return _legendre(order)
    step = _TANH_SINH_REACH / _TANH_SINH_HALF
    t = step * np.arange(-_TANH_SINH_HALF, _TANH_SINH_HALF + 1)
    u = 0.5 * math.pi * np.sinh(t)
    return np.tanh(u), 0.5 * math.pi * step * np.cosh(t) / np.cosh(u) ** 2


def _legendre(order: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre nodes and weights to the last digit: NumPy's weights have relative errors of 1e-13.

    A step of Newton's iteration in 30 digits, and w = 2 (1 - x^2)/(n P_(n-1)(x))^2.
    """
    context = mpmath.mp.clone()
    context.dps = 30
    nodes, weights = np.empty(order), np.empty(order)
    for k, start in enumerate(np.polynomial.legendre.leggauss(order)[0]):
        x = context.mpf(float(start))
        for _ in range(2):
            before, value = context.one, x
            for n in range(1, order):
                before, value = value, ((2 * n + 1) * x * value - n * before) / (n + 1)
            slope = order * (before - x * value)
            x -= value * (1 - x * x) / slope
        nodes[k], weights[k] = float(x), float(2 * (1 - x * x) / slope**2)
    return nodes, weights


def _panels(edges: FloatArray, order: int | None) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on consecutive intervals; ``edges`` has shape (..., k + 1), sorted.

    Returns arrays of shape (..., k * order). Empty intervals get zero weights.
    """
    nodes, weights = _panel_rule(order)
    half = 0.5 * np.diff(edges, axis=-1)
    middle = 0.5 * (edges[..., 1:] + edges[..., :-1])
    points = middle[..., None] + half[..., None] * nodes
    scaled = half[..., None] * weights
    return points.reshape(*edges.shape[:-1], -1), scaled.reshape(*edges.shape[:-1], -1)


def _angle_of(rho: float) -> tuple[float, float]:
    """(omega, s) of a correlation rho = s cos(omega), s = +-1, 0 <= omega <= pi/2."""
    return math.acos(min(abs(rho), 1.0)), 1.0 if rho >= 0 else -1.0


def pair_duals(activation: Activation, centre: float, q_i: float, q_j: float, rho: float) -> tuple[float, float | None]:
    """(E[phi_c(u) phi_c(v)], E[phi'(u) phi'(v)]) for one pair with variances q_i, q_j > 0 and correlation rho.

    The second is None when phi' is not square integrable. Accuracy: see ``rotated_duals``.

    Raises:
        AccuracyError: features too narrow for the finest panels.
    """
    omega, sign = _angle_of(rho)
    found = rotated_duals(activation, centre, *(np.array([v]) for v in (q_i, q_j, omega, sign)))
    slope = float(found.slope[0]) if activation.has_square_integrable_derivative else None
    return float(found.value[0]), slope


def rotated_duals(
    activation: Activation, centre: float, q_i: FloatArray, q_j: FloatArray, omega: FloatArray, sign: FloatArray
) -> RotatedDuals:
    """The expectations of many pairs with variances q_i, q_j > 0 and correlations sign * cos(omega), shapes (n,).

    Accuracy about 1e-14 of sqrt(E phi_c^2(u) E phi_c^2(v)), and 1e-12 of the distance itself: panels are refined until
    two levels agree. Piecewise linear phi with its kink at 0, and Hermite series, in closed form.

    Raises:
        AccuracyError: features too narrow for the finest panels.
    """
    form = SeriesForm(activation) if isinstance(activation, HermiteSeries) else absolute_form(activation)
    if form is not None:
        return RotatedDuals(*form.duals(centre, (np.sqrt(q_i), np.sqrt(q_j)), omega, sign), np.zeros(len(omega)))
    result = RotatedDuals(*(np.empty(len(omega)) for _ in range(4)))
    pending = np.arange(len(omega))
    if activation.has_algebraic_breakpoints:
        _fill(result, pending, _integrate(activation, centre, (q_i, q_j, omega, sign), 2, None))
        return result
    coarse: _Sums | None = None
    for parts, order in _LEVELS:
        pair = (q_i[pending], q_j[pending], omega[pending], sign[pending])
        fine = _integrate(activation, centre, pair, parts, order)
        if coarse is not None:
            error = _disagreement(coarse, fine)
            agree = error <= _AGREEMENT
            fine.error[:] = error**1.5
            _fill(result, pending[agree], fine.only(agree))
            pending, fine = pending[~agree], fine.only(~agree)
            if not len(pending):
                return result
        coarse = fine
    k = pending[0]
    raise AccuracyError(
        f"E[phi(u) phi(v)] of {activation.name} at variances {q_i[k]:.4g}, {q_j[k]:.4g} and correlation "
        f"{sign[k] * math.cos(omega[k]):.6g} did not converge: its features are too narrow; rescale the activation or "
        "the data, or declare the kinks of a function given as a callable"
    )


@dataclass(frozen=True)
class _Sums:
    """Sums of one level, the integrals of the absolute values, and room for an error."""

    value: FloatArray
    slope: FloatArray
    distance: FloatArray
    value_size: FloatArray
    slope_size: FloatArray
    error: FloatArray

    def only(self, which: npt.NDArray[np.bool_]) -> _Sums:
        return _Sums(*(array[which] for array in vars(self).values()))


def _fill(result: RotatedDuals, where: npt.NDArray[np.int64], sums: _Sums) -> None:
    for name in ("value", "slope", "distance", "error"):
        getattr(result, name)[where] = getattr(sums, name)


def _disagreement(coarse: _Sums, fine: _Sums) -> FloatArray:
    """The largest relative difference of two levels, over what was integrated."""
    # phi(u) - phi(v) is only known to the last digits of phi
    rounding = 4.0 * _EPS * (np.sqrt(fine.distance * fine.value_size) + _EPS * fine.value_size)
    with np.errstate(invalid="ignore", divide="ignore"):
        gaps = [
            np.abs(coarse.value - fine.value) / fine.value_size,
            np.abs(coarse.slope - fine.slope) / fine.slope_size,
            np.maximum(np.abs(coarse.distance - fine.distance) - rounding, 0.0) / fine.distance,
        ]
    # 0/0: an integrand that vanishes; NaN slopes: phi jumps
    worst: FloatArray = np.nan_to_num(np.array(gaps), nan=0.0, posinf=np.inf).max(axis=0)
    return worst


def _integrate(
    activation: Activation, centre: float, pairs: tuple[FloatArray, ...], parts: int | None, order: int | None
) -> _Sums:
    """The sums of all pairs with panels of a given fineness and order, a batch at a time."""
    nodes = (order or 2 * _TANH_SINH_HALF) ** 2 * (2 + len(activation.breakpoints)) ** 2 * 2 * (parts or 1)
    batch = max(1, _NODES // nodes)
    results = [
        _integrate_batch(activation, centre, tuple(p[start : start + batch] for p in pairs), parts, order)
        for start in range(0, len(pairs[0]), batch)
    ]
    return _Sums(*(np.concatenate([getattr(part, name) for part in results]) for name in _Sums.__dataclass_fields__))


def _outer_grid(reach: float, steepness: float, parts: int | None) -> FloatArray:
    """Panels of b, along which the arguments of phi move by ``steepness`` a unit."""
    if parts is None:
        return np.array([-reach, reach])
    longest = min(reach, _FEATURE / max(steepness, 1e-300)) / parts
    return np.linspace(-reach, reach, 2 * math.ceil(reach / longest) + 1)


def _features(largest: float, reach: float, parts: int | None) -> FloatArray:
    """Arguments of phi at which panels of a end besides kinks: 0, and growing distances from it."""
    if parts is None:
        return np.empty(0)
    distances = [0.0]
    while distances[-1] < largest * reach:
        distances.append(max(3.0 * distances[-1], _FEATURE))
    ends = np.array(distances)
    fine = np.concatenate([np.linspace(a, b, parts, endpoint=False) for a, b in itertools.pairwise(ends)])
    return np.unique(np.concatenate([-fine, fine]))


def _integrate_batch(
    activation: Activation, centre: float, pairs: tuple[FloatArray, ...], parts: int | None, order: int | None
) -> _Sums:
    q_i, q_j, omega, sign = pairs
    phi = activation.function("numpy", accurate=False)
    slope = activation.derivative("numpy", accurate=False) if activation.has_square_integrable_derivative else None
    cosine, sine = np.cos(0.5 * omega), np.sin(0.5 * omega)
    root_i, root_j = np.sqrt(q_i), sign * np.sqrt(q_j)
    largest = float(np.sqrt(max(q_i.max(), q_j.max())))
    reach = _SIGMAS + 2.0 * activation.growth.rate * largest + activation.growth.degree / 4.0
    breakpoints = np.array([float(b) for b in activation.breakpoints])
    kinks_i, kinks_j = breakpoints / root_i[:, None], breakpoints / root_j[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        meetings = (kinks_i[:, :, None] - kinks_j[:, None, :]).reshape(len(omega), -1) / (2.0 * sine[:, None])
    meetings = np.clip(np.nan_to_num(meetings, nan=0.0), -reach, reach)
    grid = _outer_grid(reach, largest * float(sine.max()), parts)
    outer = np.sort(np.concatenate([np.broadcast_to(grid, (len(omega), len(grid))), meetings], axis=1), axis=1)
    b, weight_b = _panels(outer, order)
    tilt = sine[:, None] * b
    ends = np.unique(np.concatenate([breakpoints, _features(largest, reach, parts)]))
    moving = (
        np.concatenate(
            [
                (ends / root_i[:, None])[:, None, :] - tilt[:, :, None],
                (ends / root_j[:, None])[:, None, :] + tilt[:, :, None],
            ],
            axis=2,
        )
        / cosine[:, None, None]
    )
    ends_of_all = np.broadcast_to(np.array([-reach, reach]), (*b.shape, 2))
    edges = np.sort(np.concatenate([ends_of_all, np.clip(moving, -reach, reach)], axis=2), axis=2)
    a, weight_a = _panels(edges, order)
    with np.errstate(under="ignore", over="ignore", invalid="ignore"):
        weight = weight_a * weight_b[:, :, None] * np.exp(-0.5 * (a * a + (b * b)[:, :, None]))
        # 2 pi, but for the rounding of nodes and weights, which the sums below have in common with it
        total = weight.sum(axis=(1, 2))
        along = cosine[:, None, None] * a
        u = root_i[:, None, None] * (along + tilt[:, :, None])
        v = root_j[:, None, None] * (along - tilt[:, :, None])
        f, g = phi(u) - centre, phi(v) - centre
        values = weight * f * g
        gaps = weight * (f - sign[:, None, None] * g) ** 2
        slopes = np.full((len(omega), 1, 1), math.nan) if slope is None else weight * slope(u) * slope(v)
    sums = [terms.sum(axis=(1, 2)) / total for terms in (values, slopes, gaps, np.abs(values), np.abs(slopes))]
    return _Sums(sums[0], sums[1], sums[2], sums[3], sums[4], np.zeros(len(omega)))
