"""Dual activations of single pairs by kink-split quadrature: exact at any correlation, near +-1 included.

With rho = s cos(omega), s = +-1, and independent standard normals a, b, the pair
u = sqrt(q_i)(cos(omega/2) a + sin(omega/2) b), v = s sqrt(q_j)(cos(omega/2) a - sin(omega/2) b) has variances q_i, q_j
and correlation rho. For fixed b the integrand in a has kinks where u or v crosses a breakpoint, and as a function of b
the inner integral is smooth except where two kinks meet; Gauss-Legendre panels between those points converge
geometrically, whatever the activation and however close rho is to +-1. Where a piece itself is singular at its end
(|x|^1.5), tanh-sinh panels take their place.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from equikernel.errors import AccuracyError
from equikernel.theory.activation import Activation

__all__ = ["pair_duals"]

FloatArray = npt.NDArray[np.float64]
_ORDERS = (16, 24)  # the first bounds the error of the second: about its 3/2 power
_AGREEMENT = 1e-10
_PANEL = 2.5  # longest panel, in standard deviations of u and v or units of their arguments
_REFINEMENTS = 4
_SIGMAS = 9.0
_TANH_SINH_HALF, _TANH_SINH_REACH = 48, 3.2


@cache
def _panel_rule(order: int | None) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on [-1, 1]: Gauss-Legendre, or (None) tanh-sinh for integrands singular at the ends."""
    if order is not None:
        return np.polynomial.legendre.leggauss(order)
    step = _TANH_SINH_REACH / _TANH_SINH_HALF
    t = step * np.arange(-_TANH_SINH_HALF, _TANH_SINH_HALF + 1)
    u = 0.5 * math.pi * np.sinh(t)
    return np.tanh(u), 0.5 * math.pi * step * np.cosh(t) / np.cosh(u) ** 2


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


def _grid(reach: float, panel: float) -> FloatArray:
    return np.linspace(-reach, reach, 2 * math.ceil(reach / panel) + 1)


def pair_duals(activation: Activation, centre: float, q_i: float, q_j: float, rho: float) -> tuple[float, float | None]:
    """(E[phi_c(u) phi_c(v)], E[phi'(u) phi'(v)]) for one pair with variances q_i, q_j > 0 and correlation rho.

    The second is None when phi' is not square integrable. Accuracy about 1e-14 of
    sqrt(E phi_c^2(u) E phi_c^2(v)): panels are halved until two orders of the rule agree.

    Raises:
        AccuracyError: features too narrow for the finest panels.
    """
    panel = _PANEL / math.sqrt(max(q_i, q_j, 1.0))
    if activation.has_algebraic_breakpoints:
        value, slope, _ = _integrate(activation, centre, (q_i, q_j, rho), panel, None)
        return value, slope
    for _ in range(_REFINEMENTS):
        coarse, fine = (_integrate(activation, centre, (q_i, q_j, rho), panel, order) for order in _ORDERS)
        gaps = [abs(a - b) for a, b in zip(coarse[:2], fine[:2], strict=True) if a is not None and b is not None]
        if all(gap <= _AGREEMENT * size for gap, size in zip(gaps, fine[2], strict=False)):
            return fine[0], fine[1]
        panel /= 2.0
    raise AccuracyError(
        f"E[phi(u) phi(v)] of {activation.name} at variances {q_i:.4g}, {q_j:.4g} and correlation {rho:.6g} did not "
        "converge: its features are too narrow; rescale the activation or the data"
    )


def _integrate(
    activation: Activation, centre: float, pair: tuple[float, float, float], panel: float, order: int | None
) -> tuple[float, float | None, tuple[float, float]]:
    """The two expectations with panels of a given length and order, and the integrals of their absolute values."""
    q_i, q_j, rho = pair
    phi = activation.function("numpy", accurate=False)
    slope = activation.derivative("numpy", accurate=False) if activation.has_square_integrable_derivative else None
    sign = 1.0 if rho >= 0 else -1.0
    omega = math.acos(min(abs(rho), 1.0))
    cosine, sine = math.cos(omega / 2.0), math.sin(omega / 2.0)
    root_i, root_j = math.sqrt(q_i), sign * math.sqrt(q_j)
    reach = _SIGMAS + 2.0 * activation.growth.rate * max(root_i, abs(root_j)) + activation.growth.degree / 4.0
    kinks_i = np.array([float(b) / root_i for b in activation.breakpoints])
    kinks_j = np.array([float(b) / root_j for b in activation.breakpoints])
    grid = _grid(reach, panel)
    outer = grid
    if sine > 0.0:
        meetings = ((kinks_i[:, None] - kinks_j[None, :]) / (2.0 * sine)).ravel()
        outer = np.sort(np.concatenate([grid, meetings[np.abs(meetings) < reach]]))
    b, weight_b = _panels(outer, order)
    moving = np.concatenate(
        [(kinks_i[None, :] - sine * b[:, None]) / cosine, (kinks_j[None, :] + sine * b[:, None]) / cosine], axis=1
    )
    inner = np.broadcast_to(grid, (b.size, grid.size))
    edges = np.sort(np.concatenate([inner, np.clip(moving, -reach, reach)], axis=1), axis=1)
    a, weight_a = _panels(edges, order)
    with np.errstate(under="ignore"):
        weight = weight_a * weight_b[:, None] * np.exp(-0.5 * (a * a + (b * b)[:, None])) / (2.0 * math.pi)
    u = root_i * (cosine * a + sine * b[:, None])
    v = root_j * (cosine * a - sine * b[:, None])
    values = weight * (phi(u) - centre) * (phi(v) - centre)
    value, size = float(np.sum(values)), float(np.sum(np.abs(values)))
    if slope is None:
        return value, None, (size, 0.0)
    slopes = weight * slope(u) * slope(v)
    return value, float(np.sum(slopes)), (size, float(np.sum(np.abs(slopes))))
