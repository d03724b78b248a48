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

from equikernel.theory.activation import Activation

__all__ = ["pair_duals"]

FloatArray = npt.NDArray[np.float64]
_ORDER = 24
_PANEL = 2.5  # longest panel, in standard deviations
_SIGMAS = 9.0
_TANH_SINH_HALF, _TANH_SINH_REACH = 48, 3.2


@cache
def _panel_rule(singular_ends: bool) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on [-1, 1]: Gauss-Legendre, or tanh-sinh for integrands singular at the ends."""
    if not singular_ends:
        return np.polynomial.legendre.leggauss(_ORDER)
    step = _TANH_SINH_REACH / _TANH_SINH_HALF
    t = step * np.arange(-_TANH_SINH_HALF, _TANH_SINH_HALF + 1)
    u = 0.5 * math.pi * np.sinh(t)
    return np.tanh(u), 0.5 * math.pi * step * np.cosh(t) / np.cosh(u) ** 2


def _panels(edges: FloatArray, singular_ends: bool) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on consecutive intervals; ``edges`` has shape (..., k + 1), sorted.

    Returns arrays of shape (..., k * order). Empty intervals get zero weights.
    """
    nodes, weights = _panel_rule(singular_ends)
    half = 0.5 * np.diff(edges, axis=-1)
    middle = 0.5 * (edges[..., 1:] + edges[..., :-1])
    points = middle[..., None] + half[..., None] * nodes
    scaled = half[..., None] * weights
    return points.reshape(*edges.shape[:-1], -1), scaled.reshape(*edges.shape[:-1], -1)


def _grid(reach: float) -> FloatArray:
    return np.linspace(-reach, reach, 2 * math.ceil(reach / _PANEL) + 1)


def pair_duals(activation: Activation, centre: float, q_i: float, q_j: float, rho: float) -> tuple[float, float | None]:
    """(E[phi_c(u) phi_c(v)], E[phi'(u) phi'(v)]) for one pair with variances q_i, q_j > 0 and correlation rho.

    The second is None when phi' is not square integrable. Accuracy about 1e-14 of
    sqrt(E phi_c^2(u) E phi_c^2(v)) for activations whose features are wider than about 0.3 standard deviations of
    their argument.
    """
    phi = activation.function("numpy", accurate=False)
    slope = activation.derivative("numpy", accurate=False) if activation.has_square_integrable_derivative else None
    sign = 1.0 if rho >= 0 else -1.0
    omega = math.acos(min(abs(rho), 1.0))
    cosine, sine = math.cos(omega / 2.0), math.sin(omega / 2.0)
    root_i, root_j = math.sqrt(q_i), sign * math.sqrt(q_j)
    reach = _SIGMAS + 2.0 * activation.growth.rate * max(root_i, abs(root_j)) + activation.growth.degree / 4.0
    kinks_i = np.array([float(b) / root_i for b in activation.breakpoints])
    kinks_j = np.array([float(b) / root_j for b in activation.breakpoints])
    outer = _grid(reach)
    if sine > 0.0:
        meetings = ((kinks_i[:, None] - kinks_j[None, :]) / (2.0 * sine)).ravel()
        outer = np.sort(np.concatenate([outer, meetings[np.abs(meetings) < reach]]))
    singular = activation.has_algebraic_breakpoints
    b, weight_b = _panels(outer, singular)
    inner = np.broadcast_to(_grid(reach), (b.size, _grid(reach).size))
    moving = np.concatenate(
        [(kinks_i[None, :] - sine * b[:, None]) / cosine, (kinks_j[None, :] + sine * b[:, None]) / cosine], axis=1
    )
    edges = np.sort(np.concatenate([inner, np.clip(moving, -reach, reach)], axis=1), axis=1)
    a, weight_a = _panels(edges, singular)
    with np.errstate(under="ignore"):
        weight = weight_a * weight_b[:, None] * np.exp(-0.5 * (a * a + (b * b)[:, None])) / (2.0 * math.pi)
    u = root_i * (cosine * a + sine * b[:, None])
    v = root_j * (cosine * a - sine * b[:, None])
    value = float(np.sum(weight * (phi(u) - centre) * (phi(v) - centre)))
    if slope is None:
        return value, None
    return value, float(np.sum(weight * slope(u) * slope(v)))
