"""First layers that are proved to do: Hermite coefficients, and a path on which the last equation changes sign."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.optimize
from flint import arb

from equikernel.numerics.designs.depth.realisability import coupling

if TYPE_CHECKING:
    from equikernel.numerics.designs.depth.two_layers import Target

__all__ = ["DEGREES", "layer_moments", "witness"]

_DEGREE = 60
_FAR, _TERMS = 20001, 100  # a block of smoothly varying coefficients far up the odd chain: H = 2 W there, nearly
DEGREES = (*range(1, _DEGREE + 1), *range(_FAR, _FAR + 2 * _TERMS, 2))  # of the coefficients of a witness
_REACHES = (0.01, 0.05, 0.2, 0.6)  # how far the coefficient of he_3 may be moved
_EVALUATIONS = 1500
_HOPELESS = 1e100
_FAR_START = 0.1
_WIDTH = 1e-9  # half the length of the path that is checked with balls

FloatArray = npt.NDArray[np.float64]
_ALL = np.array(DEGREES, dtype=float)
_LOW = np.array([i for i, k in enumerate(DEGREES) if k + 2 in DEGREES])
_HIGH = np.array([DEGREES.index(DEGREES[i] + 2) for i in _LOW])
_PAIRS = (_ALL[_LOW] + 1) * (_ALL[_LOW] + 2)
_BLOCK = np.sin(np.pi * np.arange(1, _TERMS + 1) / (_TERMS + 1)) / math.sqrt(_FAR * _TERMS / 2)  # W about 1


def layer_moments(c: FloatArray) -> tuple[float, float, float, float]:
    """p, s, H and W of a layer with coefficients c at ``DEGREES``, scaled to V = 1, in float64."""
    V, W = float(c @ c), float(_ALL @ (c * c))
    cross = float(np.sqrt(_PAIRS) @ (c[_LOW] * c[_HIGH]))
    return float(c[0] ** 2) / V, float(2 * c[1] ** 2) / V, (W + cross) / V, W / V


def ball_layer_moments(c: Sequence[arb]) -> tuple[arb, arb, arb, arb]:
    """``layer_moments`` in balls."""
    V, W = sum((x * x for x in c), arb(0)), sum((k * x * x for k, x in zip(DEGREES, c, strict=True)), arb(0))
    cross = sum((arb(n).sqrt() * c[i] * c[j] for n, i, j in zip(_PAIRS, _LOW, _HIGH, strict=True)), arb(0))
    return c[0] * c[0] / V, 2 * c[1] * c[1] / V, (W + cross) / V, W / V


def witness(target: Target, start: tuple[float, float, float, float]) -> tuple[tuple[int, float], ...] | None:
    """Degrees and coefficients next to those of a layer that is proved to do, or None.

    Candidates are the layers that make w W + eta H + lam V least for given c_1 and c_2, on which the inequalities are
    sharp, with c_3 moved until S H^2 = R. If balls prove that S H^2 - R changes sign between two close values of c_3
    and that the cost is at most the diagonal in between, some layer in between satisfies all equations.

    Args:
        target: what two layers are to have.
        start: c_1, c_2, eta and lam to begin the search of the least cost with.
    """
    best: list[FloatArray] = []
    limit = float(target.diagonal.mid())

    def cost(point: FloatArray) -> float:
        found = _candidate(target, point)
        if found is None:
            return _HOPELESS
        value = _cost(target, found)
        if value < limit:
            best.append(found)
            raise StopIteration
        return value

    with contextlib.suppress(StopIteration):
        scipy.optimize.minimize(
            cost, (*start, _FAR_START), method="Nelder-Mead", options={"maxfev": _EVALUATIONS, "xatol": 1e-9}
        )
    if not best or not _does(target, best[0]):
        return None
    return tuple((k, float(x)) for k, x in zip(DEGREES, best[0], strict=True) if x)


def _candidate(target: Target, point: FloatArray) -> FloatArray | None:
    c1, c2, eta, lam, far = (float(x) for x in point)
    c = _minimiser(0 if target.match == "ck" else 1, 1.0 if target.match == "ck" else eta, lam, c1, c2, far)
    if c is None or (c1 == 0 and target.e1 == 0):
        return c
    return _moved(target, c)


def _minimiser(w: int, eta: float, lam: float, c1: float, c2: float, far: float) -> FloatArray | None:
    """The layer with c_1 and c_2 that makes w W + eta H + lam V least among polynomials; None if none does."""
    c = np.zeros(len(DEGREES))
    c[0], c[1], c[_DEGREE:] = c1, c2, far * _BLOCK
    for first in (1, 2):
        k = np.arange(first + 2, _DEGREE + 1, 2)
        bands = np.zeros((2, k.size))
        bands[0, 1:] = eta * coupling(k[:-1])
        bands[1] = (w + eta) * k + lam
        right = np.zeros(k.size)
        right[0] = -eta * coupling(first) * c[first - 1]
        try:
            c[k - 1] = scipy.linalg.solveh_banded(bands, right)
        except np.linalg.LinAlgError:
            return None
    return c


def _defect(target: Target, c: Any) -> Any:
    """S H^2 - R."""
    p, s, H, _ = ball_layer_moments(c) if isinstance(c, list) else layer_moments(c)
    _, S, R = target.second_layer(p, s)
    return S * H * H - R


def _cost(target: Target, c: FloatArray) -> float:
    """The cost of a layer, where it is one: ``_HOPELESS`` for S or P that is negative."""
    p, s, H, W = layer_moments(c)
    P, S = target.second_layer(p, s)[:2] if p > 0 else target.second_layer_even(s, H)
    return float(target.cost(P, S, W)) if S > 0 and P >= 0 else _HOPELESS


def _moved(target: Target, c: FloatArray) -> FloatArray | None:
    """C with its third coefficient moved to a nearby sign change of the defect."""
    moved = c.copy()

    def defect(third: float) -> float:
        moved[2] = third
        return float(_defect(target, moved))

    centre = float(c[2])
    for reach in _REACHES:
        low, high = centre - reach, centre + reach
        if defect(low) * defect(high) < 0:
            moved[2] = scipy.optimize.brentq(defect, low, high, xtol=1e-15, rtol=1e-14)
            return moved
    return None


def _does(target: Target, c: FloatArray) -> bool:
    """Whether balls prove that a layer on the path c + t he_3, |t| <= _WIDTH, does."""
    if c[0] == 0:
        _, s, H, W = ball_layer_moments([arb(float(x)) for x in c])
        P, S = target.second_layer_even(s, H)
        return bool(s > 0 and S > 0 and target.cost(P, S, W) <= target.diagonal)
    ends = [_on_path(c, arb(t)) for t in (-_WIDTH, _WIDTH)]
    if not _defect(target, ends[0]) * _defect(target, ends[1]) < 0:
        return False
    p, s, _, W = ball_layer_moments(_on_path(c, arb(0, _WIDTH)))
    P, S, _ = target.second_layer(p, s)
    return bool(p > 0 and S > 0 and target.cost(P, S, W) <= target.diagonal)


def _on_path(c: FloatArray, t: arb) -> list[arb]:
    balls = [arb(float(x)) for x in c]
    balls[2] += t
    return balls
