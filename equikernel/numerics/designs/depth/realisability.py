"""What one layer can be: linear inequalities between its moments that every activation obeys, proved with balls.

A centred layer with orthonormal Hermite coefficients c_1, c_2, ... at its input scale has, in units of that scale,

    p = d1^2 = c_1^2,   s = d2^2 = 2 c_2^2,   V = sum c_k^2,   W = v = sum k c_k^2,
    H = h = sum k c_k^2 + sum sqrt((k+1)(k+2)) c_k c_(k+2).

For fixed weights w W + eta H + lam V is a quadratic form that couples c_k with c_(k+2) only. Where its part beyond
degree 2 is positive, eliminating that part leaves the best inequality w W + eta H + lam V >= odd c_1^2 + even c_2^2.
Over all weights these inequalities describe the attainable (p, s, H, W) exactly (docs/proofs.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb

from equikernel.numerics.balls.context import precision

__all__ = ["BITS", "Cut", "Cuts", "coupling", "cuts_of"]

BITS = 96
_TRUNCATED = 121  # degree at which the float64 library cuts the chains, beyond what its choice of weights feels
_DEGREES = (60, 240, 960)  # where the proved bound of the tail takes over, tried in this order
_BISECTIONS = 48
_SAFE = 1e-9
_LEAST_LAM = 0.5  # H + lam V is (xi^2 - 1)/2 + lam on odd functions: positive from lam = 1/2 on

FloatArray = npt.NDArray[np.float64]


def coupling(k: Any) -> Any:
    """Half of sqrt((k+1)(k+2)): what H has off its diagonal between c_k and c_(k+2)."""
    return ((k + 1) * (k + 2)) ** 0.5 / 2


@dataclass(frozen=True)
class Cut:
    """w W + eta H + lam V >= odd c_1^2 + even c_2^2, for every layer; odd and even are balls, proved."""

    eta: float
    lam: float
    odd: arb
    even: arb


class Cuts:
    """A library of inequalities: chosen from in float64, proved with balls when they are used.

    Attributes:
        w: the weight of W: 1 for bounds of W from below, 0 (with eta = 1) for bounds of H.
        eta, lam, odd, even: their coefficients in float64, shape (n,), unproved.
    """

    def __init__(self, w: int) -> None:
        self.w = w
        etas = _ETAS if w else np.ones(1)
        offsets = _OFFSETS if w else _MANY_OFFSETS
        lowest = _lowest_lam(etas) if w else np.full(1, _LEAST_LAM)
        self.eta = np.repeat(etas, offsets.size)
        self.lam = (lowest[:, None] + offsets[None, :]).ravel()
        self.odd, self.even = (_pivots(w, self.eta, self.lam, k)[0] for k in (1, 2))
        self._proved: dict[int, Cut | None] = {}

    def proved(self, index: int) -> Cut | None:
        """One of them with proved coefficients; None where the bound of its tail fails."""
        if index not in self._proved:
            self._proved[index] = _proved(self.w, float(self.eta[index]), float(self.lam[index]))
        return self._proved[index]


_ETAS = np.concatenate([np.geomspace(1e-3, 0.5, 40) - 0.5, np.geomspace(0.01, 100.0, 40)])
_OFFSETS = np.geomspace(3e-3, 100.0, 48)
_MANY_OFFSETS = np.geomspace(1e-4, 1e3, 400)


@lru_cache(maxsize=2)
def cuts_of(w: int) -> Cuts:
    """The library for bounds of W (w = 1) or of H (w = 0)."""
    return Cuts(w)


def _pivots(w: int, eta: FloatArray, lam: FloatArray, first: int) -> tuple[FloatArray, FloatArray]:
    """The pivot of c_first, and the least of those after it, in the chain of c_first, c_(first+2), ... in float64."""
    k = first + 2 * ((_TRUNCATED - first) // 2)
    pivot = (w + eta) * k + lam
    least = pivot
    for degree in range(k - 2, first - 1, -2):
        least = np.minimum(least, pivot)
        safe = np.where(pivot > 0, pivot, np.inf)
        pivot = (w + eta) * degree + lam - (eta * coupling(degree)) ** 2 / safe
    return pivot, least


def _lowest_lam(eta: FloatArray) -> FloatArray:
    """The least lam, up to rounding, for which W + eta H + lam V is positive on degrees 3 and more."""
    low, high = np.full(eta.shape, -4.0 - 3.0 * np.max(eta)), np.full(eta.shape, 3.0 * (1.0 + np.max(eta)))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        positive = np.minimum(*(_pivots(1, eta, middle, k)[1] for k in (1, 2))) > 0
        low, high = np.where(positive, low, middle), np.where(positive, middle, high)
    return high


def _proved(w: int, eta: float, lam: float) -> Cut | None:
    with precision(BITS):
        for degree in _DEGREES:
            odd, even = (_proved_pivot(w, eta, lam, first, degree) for first in (1, 2))
            if odd is not None and even is not None:
                return Cut(eta, lam, odd, even)
    return None


def _proved_pivot(w: int, eta: float, lam: float, first: int, degree: int) -> arb | None:
    """A ball whose lower end is below the pivot of c_first in the infinite chain; None if a pivot may be negative."""
    k = degree + first
    pivot = _tail(w, eta, lam, k)
    if pivot is None:
        return None
    for j in range(k - 2, first - 1, -2):
        if not pivot > 0:
            return None
        pivot = (w + arb(eta)) * j + lam - arb(eta) ** 2 * ((j + 1) * (j + 2)) / (4 * pivot)
    return pivot


def _tail(w: int, eta: float, lam: float, k: int) -> arb | None:
    """A k + B below the pivot f_k of every chain cut at a higher degree, by induction from its end.

    f_k = (w + eta) k + lam - eta^2 (k+1)(k+2)/(4 f_(k+2)). With A the larger root of A + D = w + eta, D = eta^2/(4 A),
    the step from k + 2 to k holds if g(k) = lam - B - D + D B (k+1)/(A (k+2) + B) >= 0. As g is monotone in k, its
    values at k and at infinity decide.
    """
    A = (w + arb(eta) + (arb(w) + 2 * w * arb(eta)).sqrt()) / 2
    if not A > 0:
        return None
    D = arb(eta) ** 2 / (4 * A)
    B = arb(_intercept(float(A.mid()), float(D.mid()), lam, k))
    here = lam - B - D + D * B * (k + 1) / (A * (k + 2) + B)
    far = lam - B - D + D * B / A
    if not (A * (k + 2) + B > 0 and here > 0 and far > 0):
        return None
    return A * k + B


def _intercept(A: float, D: float, lam: float, k: int) -> float:
    """Nearly the largest B for which the induction holds at k and at infinity."""
    room = lam - D
    slope = room - A * (k + 2) + D * (k + 1)
    inside = slope * slope + 4 * room * A * (k + 2)
    if not inside >= 0:
        return -np.inf
    B = (slope + inside**0.5) / 2
    if D < A * (1 - _SAFE):
        B = min(B, room / (1 - D / A))
    return float(B - _SAFE * (1 + abs(B)))
