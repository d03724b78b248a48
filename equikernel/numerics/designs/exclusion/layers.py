"""What the layers of a linear family can be: ranges of the first layer's moments, and what the second layer costs.

All in units of the data's standard deviation tau0: of a layer with V = 1, p = d1^2, s = d2^2, H = h, W = v.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import sympy as sp
from flint import arb, arb_mat

from equikernel.numerics.balls.context import exact
from equikernel.numerics.designs.exact import linear_forms
from equikernel.numerics.designs.exclusion.intervals import Intervals

__all__ = ["BallForms", "FirstLayer", "SecondLayer", "ball_forms"]

FloatArray = npt.NDArray[np.float64]
_WORST = 0.5  # how far a form may be from the diagonal one that it is compared with


@dataclass(frozen=True)
class BallForms:
    """Moments of sum_j theta_j f_j at the data's scale, in balls: d = L theta (2, k), and theta^T Q theta."""

    d: arb_mat
    V: arb_mat
    h: arb_mat
    v: arb_mat

    @property
    def size(self) -> int:
        """K."""
        return int(self.V.nrows())


def ball_forms(basis: tuple[sp.Expr, ...], tau0: Fraction, bits: int) -> BallForms:
    """The forms of a basis; entries of v are NaN where it is infinite."""
    table = linear_forms(basis, tau0, bits)
    scale = exact(tau0)
    d = arb_mat([table.linear["d1"], [x * scale for x in table.linear["d2"]]])
    V = arb_mat([[x / scale**2 for x in row] for row in table.quadratic["V"]])
    return BallForms(d, V, arb_mat(table.quadratic["h"]), arb_mat(table.quadratic["v"]))


def _middles(matrix: arb_mat) -> FloatArray:
    return np.array([[float(x.mid()) for x in row] for row in matrix.tolist()])


def _matrix(values: FloatArray) -> arb_mat:
    return arb_mat([[arb(float(x)) for x in row] for row in values])


def _distance(matrix: arb_mat, diagonal: FloatArray) -> arb:
    """An upper bound of the norm of a matrix less a diagonal one."""
    difference = matrix - _matrix(np.diag(diagonal))
    return sum((x.abs_upper() for row in difference.tolist() for x in row), arb(0)).upper()


def _whitening(V: arb_mat) -> FloatArray | None:
    """C with C^T V C = 1 but for rounding; None where the functions are (nearly) dependent."""
    try:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(_middles(V))).T)
    except np.linalg.LinAlgError:
        return None


def _table(matrix: arb_mat) -> list[list[Intervals]]:
    return [[Intervals.of(x) for x in row] for row in matrix.tolist()]


# -- the first layer ---------------------------------------------------------------------------------------------------


class FirstLayer:
    """Ranges of p, s, H and W on boxes of directions theta = C u, u on the faces u_i = 1 of the cube [-1, 1]^k.

    These faces meet every line through 0, and theta and -theta have the same moments. Each moment is a ratio F(u)/V(u)
    of forms; with lam near F(c)/V(c) at a box's middle c, it is lam + (F - lam V)(u)/V(u), whose numerator nearly
    vanishes at c and is expanded about it.
    """

    def __init__(self, forms: BallForms, whitening: FloatArray, ntk: bool) -> None:
        C = _matrix(whitening)
        d = forms.d * C
        outer = [arb_mat([[d[r, i] * d[r, j] for j in range(forms.size)] for i in range(forms.size)]) for r in (0, 1)]
        squares = C.transpose()
        V = squares * forms.V * C
        self.size = forms.size
        self.least = float(Intervals.of(1 - _distance(V, np.ones(forms.size))).low)  # V(u) >= least |u|^2
        self._V = _table(V)
        wanted = [*outer, squares * forms.h * C] + ([squares * forms.v * C] if ntk else [])
        self._forms = [_table(form) for form in wanted]
        self._floats = np.array([_middles(form) for form in wanted])

    @classmethod
    def of(cls, forms: BallForms, *, ntk: bool) -> FirstLayer | None:
        """None where the functions are (nearly) dependent or v is infinite."""
        whitening = _whitening(forms.V)
        if whitening is None:
            return None
        made = cls(forms, whitening, ntk)
        return made if made.least > _WORST and np.isfinite(made._floats).all() else None

    def boxes(self, pieces: int) -> tuple[FloatArray, FloatArray]:
        """The faces cut into pieces along each axis: ends (B, k)."""
        edges = np.linspace(-1.0, 1.0, pieces + 1)
        axes = self.size - 1
        cells = np.array(list(itertools.product(range(pieces), repeat=axes)), dtype=int).reshape(pieces**axes, axes)
        low, high = [], []
        for face in range(self.size):
            low.append(np.insert(edges[cells], face, 1.0, axis=1))
            high.append(np.insert(edges[cells + 1], face, 1.0, axis=1))
        return np.concatenate(low), np.concatenate(high)

    def moments(self, low: FloatArray, high: FloatArray) -> list[Intervals]:
        """p, s, H and, for the NTK, W on boxes (B, k)."""
        centre = (low + high) / 2
        radius = np.nextafter(np.maximum(high - centre, centre - low), np.inf)
        radius[low == high] = 0.0
        u = [Intervals.exactly(column) for column in centre.T]
        least = np.nextafter(self.least * self._nearest(low, high), -np.inf)
        V, V_slopes = self._expand(self._V, u)
        found = []
        for table, floats in zip(self._forms, self._floats, strict=True):
            F, slopes = self._expand(table, u)
            ratio = np.einsum("bi,ij,bj->b", centre, floats, centre) / np.einsum("bi,bi->b", centre, centre)
            lam = Intervals.exactly(ratio)
            reach = Intervals.exactly((F - lam * V).size())
            for i in range(self.size):
                r = Intervals.exactly(radius[:, i])
                reach = reach + r * Intervals.exactly((slopes[i] - lam * V_slopes[i]).size())
                for j in range(self.size):
                    entry = Intervals.exactly((table[i][j] - lam * self._V[i][j]).size())
                    reach = reach + r * Intervals.exactly(radius[:, j]) * entry
            span = np.nextafter(reach.high / least, np.inf)
            found.append(Intervals(np.nextafter(ratio - span, -np.inf), np.nextafter(ratio + span, np.inf)))
        positive = Intervals(0.0, np.inf)
        return [found[0].meet(positive), found[1].meet(positive), found[2], *found[3:]]

    @staticmethod
    def _nearest(low: FloatArray, high: FloatArray) -> FloatArray:
        """A lower bound of |u|^2 on boxes."""
        total = Intervals.exactly(np.zeros(len(low)))
        for a, b in zip(low.T, high.T, strict=True):
            total = total + Intervals(a, b).square()
        return total.low

    def _expand(self, table: list[list[Intervals]], u: list[Intervals]) -> tuple[Intervals, list[Intervals]]:
        """A form and its gradient at points."""
        slopes = []
        value = Intervals.exactly(0.0)
        for row, x in zip(table, u, strict=True):
            half = Intervals.exactly(0.0)
            for entry, y in zip(row, u, strict=True):
                half = half + entry * y
            value = value + x * half
            slopes.append(half.scaled(2.0))
        return value, slopes


# -- the second layer --------------------------------------------------------------------------------------------------


class SecondLayer:
    """Which P = d1^2, S = d2^2 a layer of the family can have together with V + f v = a number, f >= 0.

    With d1 and d2 fixed, V + f v is least at (d1, d2) G^-1 (d1, d2)^T, G = sum_i a_i a_i^T/(1 + f w_i), where a_i is
    what the i-th coordinate contributes to (d1, d2) when V = 1 and v = diag(w). With as many functions as there are
    conditions on them, it has no other value.

    Args:
        d: the linear forms, (2, k), in coordinates in which
        w: 1 and diag(w) are V and v, both relatively up to
        off: at most 1/2.
    """

    def __init__(self, d: arb_mat, w: FloatArray, off: arb) -> None:
        self._a = _table(d)
        self._w = w
        self._slack = Intervals.of(1 - off).low, Intervals.of(1 + off).high
        self._there = [not all(x == 0 for x in row) for row in d.tolist()]
        self._determined = len(w) <= sum(self._there)

    @classmethod
    def of(cls, forms: BallForms, *, ntk: bool) -> SecondLayer | None:
        """None where the functions are (nearly) dependent or v is infinite."""
        whitening = _whitening(forms.V)
        if whitening is None:
            return None
        w = np.zeros(forms.size)
        if ntk:
            v = whitening.T @ _middles(forms.v) @ whitening
            if not np.isfinite(v).all():
                return None
            w, turned = np.linalg.eigh((v + v.T) / 2)
            whitening = whitening @ turned
        C = _matrix(whitening)
        off = _distance(C.transpose() * forms.V * C, np.ones(forms.size))
        if ntk:
            if not w.min() > 0:
                return None
            off = max(off, (_distance(C.transpose() * forms.v * C, w) / arb(float(w.min()))).upper())
        return cls(forms.d * C, w, off) if off < _WORST else None

    def excludes(self, P: Intervals, S: Intervals, f: Intervals, diagonal: Intervals) -> npt.NDArray[np.bool_]:
        """Where no layer has P, S and V + f v = diagonal."""
        excluded = np.zeros(np.shape(P.low), dtype=bool)
        for there, value in zip(self._there, (P, S), strict=True):
            if not there:
                excluded |= value.low > 0
        least, most = (self._values(P, S, end) for end in (f.low, f.high))
        ways = [self._beyond(a, b, diagonal) for a, b in zip(least, most, strict=True)]
        if not ways:
            return excluded
        # one function: both values must be the diagonal; otherwise two signs of d1 d2, of which one suffices
        together = np.logical_or if len(self._w) == 1 else np.logical_and
        return np.asarray(excluded | together.reduce(ways))

    def _beyond(self, least: Intervals, most: Intervals, diagonal: Intervals) -> npt.NDArray[np.bool_]:
        above = np.nextafter(least.low * self._slack[0], -np.inf) > diagonal.high
        if not self._determined:
            return np.asarray(above)
        return np.asarray(above | (np.nextafter(most.high * self._slack[1], np.inf) < diagonal.low))

    def _values(self, P: Intervals, S: Intervals, f: FloatArray) -> list[Intervals]:
        """The least values of V + f v; with d1 and d2 both there, for both signs of their product."""
        one = Intervals.exactly(np.ones_like(f))
        weights = [one / (one + Intervals.exactly(f) * Intervals.exactly(w)) for w in self._w]

        def entry(i: int, j: int) -> Intervals:
            total = Intervals.exactly(np.zeros_like(f))
            for a, b, weight in zip(self._a[i], self._a[j], weights, strict=True):
                total = total + (a.square() if i == j else a * b) * weight
            return total

        if not all(self._there) or len(self._w) == 1:
            return [value / entry(k, k) for k, value in enumerate((P, S)) if self._there[k]]
        first, both, second = entry(0, 0), entry(0, 1), entry(1, 1)
        determinant = first * second - both.square()
        square = second / determinant * P + first / determinant * S
        cross = (both / determinant * P.root() * S.root()).scaled(2.0)
        return [square - cross, square + cross]
