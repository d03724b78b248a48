"""Pairs in torch: a Horner pass and a third-order step at a time, over all pairs of a tile, or a list, at once.

The equation and its notation are those of ``numerics.kernels.series``: a pair's correlation r solves r = s + sigma_a2
F(r) with F(r) = sum_(k>=1) C_ik C_jk r^k, and

    G = A_i0 A_j0 + w_i w_j F(r),   E[phi'(u) phi'(v)] = F'(r).

Everything is float64. The operations on a tile write into arrays that were made before.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from equikernel.numerics.kernels.careful import CRITICAL
from equikernel.numerics.kernels.problem import SharedLayer
from equikernel.validation.torch_kernels.arrays import Pairing, TileArrays

__all__ = ["solve_pairs"]

Tensor = torch.Tensor
FloatArray = npt.NDArray[np.float64]

_STEPS = 8  # full passes after which a pair is left to the careful methods
_STEP = 1e-7  # a last step this small leaves nothing in F and 1e-13 in F'
_FLAT = 1e-3  # the smallest 1 - sigma_a2 F' that a plain iteration is trusted with
_MARGIN = 1.0001  # the step after a pass may take |r| a little beyond what its terms were chosen for


def solve_pairs(
    pairing: Pairing,
    layer: SharedLayer,
    sigmas: tuple[float, float],
    own: tuple[Tensor, Tensor] | None,
    arrays: TileArrays,
) -> tuple[int, int]:
    """Solve every pair: G and E[phi'(u) phi'(v)] are ``arrays.value`` and ``arrays.slope`` then.

    What the series cannot do is marked in ``arrays.left``.

    The passes end when the last step of every pair is at most 1e-7, which leaves 1e-21 of r and, the derivatives being
    carried to the new r, 1e-13 of F'. Pairs that have not settled after 8 passes are marked too.

    Args:
        pairing: which pairs.
        layer: how far the series reach, where to start, and how the terms are packed.
        sigmas: (sigma_a2, sigma_b2).
        own: places of pairs of identical samples, which are not solved, or None.
        arrays: of the pairs' shape; ``arrays.products`` holds <x_i, x_j>, the others are overwritten.

    Returns:
        The packed terms of the last pass, 0 where it was in closed form, and the passes, the rough first one included.
    """
    sigma_a2, sigma_b2 = sigmas
    rows, columns = pairing.rows, pairing.columns
    left, right = pairing.left(rows.means), pairing.right(columns.means)
    s = torch.mul(arrays.products, sigma_b2, out=arrays.s).addcmul_(left, right, value=sigma_a2)
    s.mul_(pairing.left(rows.inverses)).mul_(pairing.right(columns.inverses))
    if own is not None:
        s[own] = 0.0
    arrays.left.zero_()
    terms, passes = _iterate(pairing, layer, sigma_a2, arrays)
    arrays.left.logical_or_(torch.gt(arrays.slope, CRITICAL / sigma_a2 if sigma_a2 else math.inf, out=arrays.mark))
    if own is not None:
        arrays.left[own] = False
    arrays.value.mul_(pairing.left(rows.roots)).mul_(pairing.right(columns.roots)).addcmul_(left, right)
    return terms, passes


def _iterate(pairing: Pairing, layer: SharedLayer, sigma_a2: float, arrays: TileArrays) -> tuple[int, int]:
    """r, F and F' of all pairs. Returns the terms of the last pass and the number of passes."""
    _start(arrays, layer.starts)
    largest = _set_aside(arrays, layer.limit)
    _evaluate(pairing, layer, _terms(layer.reach.rough, largest), arrays)
    _step(arrays, sigma_a2)
    passes = 1
    for _ in range(_STEPS):
        passes += 1
        largest = min(_MARGIN * _set_aside(arrays, layer.limit), layer.limit)
        terms = _terms(layer.reach.exact, largest)
        _evaluate(pairing, layer, terms, arrays)
        if _step(arrays, sigma_a2) <= _STEP and _magnitude(arrays.r) <= layer.limit:
            break
    else:
        torch.le(arrays.step, _STEP, out=arrays.mark)
        arrays.left.logical_or_(arrays.mark.logical_not_())
        arrays.left.logical_or_(torch.gt(torch.abs(arrays.r, out=arrays.t), layer.limit, out=arrays.mark))
    return (0 if layer.form[2] else terms), passes


def _terms(reach: FloatArray, largest: float) -> int:
    """The least number of packed terms that suffice up to |r| = largest (``Reach``); at least one."""
    return min(max(int(np.searchsorted(reach, largest)), 1), len(reach) - 1)


def _magnitude(values: Tensor) -> float:
    """The largest |value|; NaN if there is one."""
    low, high = torch.aminmax(values)
    return float(torch.maximum(-low, high))


def _start(arrays: TileArrays, starts: FloatArray) -> None:
    """R from a polynomial of degree 5 in s."""
    s, r = arrays.s, arrays.r
    *coefficients, _ = (starts[0] if _magnitude(s) <= starts[0, -1] else starts[1]).tolist()
    r.fill_(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        r.mul_(s).add_(coefficient)
    r.clamp_(-1.0, 1.0)
    arrays.step.zero_()


def _set_aside(arrays: TileArrays, limit: float) -> float:
    """Mark and zero the pairs that the series do not reach or that make no progress; the largest |r| of the others."""
    largest = _magnitude(arrays.r)
    if largest <= limit and _magnitude(arrays.step) < 1.0:
        return largest
    torch.gt(torch.abs(arrays.r, out=arrays.t), limit, out=arrays.mark)
    arrays.left.logical_or_(arrays.mark)
    arrays.left.logical_or_(torch.ge(arrays.step, 1.0, out=arrays.mark))
    arrays.r.masked_fill_(arrays.left, 0.0)
    arrays.s.masked_fill_(arrays.left, 0.0)
    return _magnitude(arrays.r)


def _evaluate(pairing: Pairing, layer: SharedLayer, terms: int, arrays: TileArrays) -> None:
    """F, F' and F''/2 at r: F = C_i1 C_j1 r + r^m Q(r^p), or in closed form for phi = a x + b |x| + c."""
    power, stride, bend = layer.form
    if bend:
        _absolute_value(arrays, 2.0 * bend / math.pi)
    else:
        _horner(pairing, terms, stride, arrays)
        _compose(power, stride, arrays)
    left, right = pairing.left(pairing.rows.first), pairing.right(pairing.columns.first)
    arrays.slope.addcmul_(left, right)
    torch.mul(arrays.r, left, out=arrays.t)
    arrays.value.addcmul_(arrays.t, right)


def _horner(pairing: Pairing, terms: int, stride: int, arrays: TileArrays) -> None:
    """Q(t), Q'(t) and Q''(t)/2 for Q = sum_k C_ik C_jk t^k over the packed terms, t = r^p."""
    a, b = pairing.rows.terms, pairing.columns.terms
    q0, q1, q2 = arrays.value, arrays.slope, arrays.bend
    t = arrays.r if stride == 1 else torch.mul(arrays.r, arrays.r, out=arrays.t)
    torch.mul(pairing.left(a[terms - 1]), pairing.right(b[terms - 1]), out=q0)
    q1.zero_()
    q2.zero_()
    for k in range(terms - 2, -1, -1):
        torch.addcmul(q1, q2, t, out=q2)
        torch.addcmul(q0, q1, t, out=q1)
        q0.mul_(t).addcmul_(pairing.left(a[k]), pairing.right(b[k]))


def _compose(power: int, stride: int, arrays: TileArrays) -> None:
    """r^m Q(r^p) and its derivatives, from Q, Q' and Q''/2 and into their places."""
    q0, q1, q2, r, y = arrays.value, arrays.slope, arrays.bend, arrays.r, arrays.t
    if stride == 1:  # m = 2: r (2 Q + r Q'), Q + r (2 Q' + r Q''/2)
        q2.mul_(r).add_(q1, alpha=2.0).mul_(r).add_(q0)
        q1.mul_(r).add_(q0, alpha=2.0).mul_(r)
        q0.mul_(r).mul_(r)
    elif power == 2:  # with y = r^2: 2 r (Q + y Q'), Q + y (5 Q' + 4 y Q''/2)
        q2.mul_(y).mul_(4.0).add_(q1, alpha=5.0).mul_(y).add_(q0)
        q1.mul_(y).add_(q0).mul_(r).mul_(2.0)
        q0.mul_(y)
    else:  # m = 3: y (3 Q + 2 y Q'), r (3 Q + y (7 Q' + 4 y Q''/2))
        q2.mul_(y).mul_(4.0).add_(q1, alpha=7.0).mul_(y).add_(q0, alpha=3.0).mul_(r)
        q1.mul_(y).mul_(2.0).add_(q0, alpha=3.0).mul_(y)
        q0.mul_(y).mul_(r)


def _absolute_value(arrays: TileArrays, scale: float) -> None:
    """F and its derivatives where F = scale (sqrt(1 - r^2) + r asin r - 1) [Cho & Saul 2009]; |r| stays clear of 1."""
    r, root = arrays.r, arrays.bend
    torch.addcmul(torch.ones((), dtype=r.dtype, device=r.device), r, r, value=-1.0, out=root).sqrt_()
    torch.asin(r, out=arrays.slope)
    torch.addcmul(root, r, arrays.slope, out=arrays.value).sub_(1.0).mul_(scale)
    arrays.slope.mul_(scale)
    root.reciprocal_().mul_(0.5 * scale)


def _step(arrays: TileArrays, sigma_a2: float) -> float:
    """One third-order step; F and F' are carried to the new r. Returns the largest step.

    With g = s + sigma_a2 F - r and h = 1 - sigma_a2 F' it solves g - h x + sigma_a2 (F''/2) x^2 = 0 to second order in
    g/h. Where h is nearly nothing the step counts as 1.
    """
    value, slope, bend, step, t = arrays.value, arrays.slope, arrays.bend, arrays.step, arrays.t
    torch.mul(slope, -sigma_a2, out=t).add_(1.0)
    torch.le(t, _FLAT, out=arrays.mark)
    t.clamp_(min=_FLAT).reciprocal_()
    torch.add(arrays.s, value, alpha=sigma_a2, out=step).sub_(arrays.r).mul_(t)
    t.mul_(bend).mul_(step).mul_(sigma_a2).add_(1.0)
    step.mul_(t)
    torch.add(arrays.r, step, out=t).clamp_(-1.0, 1.0)
    torch.sub(t, arrays.r, out=step)
    arrays.r, arrays.t = t, arrays.r
    torch.addcmul(slope, step, bend, out=arrays.t)
    value.addcmul_(step, arrays.t)
    slope.addcmul_(step, bend, value=2.0)
    step.abs_().masked_fill_(arrays.mark, 1.0)
    return _magnitude(step)
