"""What is known of the samples before any pair is looked at: scales, Hermite rows, and how far their series reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from equikernel.numerics.kernels.table import HermiteTable

__all__ = [
    "ALL",
    "EVEN",
    "ODD",
    "SLOPE_TAIL",
    "TAIL",
    "Packing",
    "Reach",
    "Scales",
    "largest_correlation",
    "reach_of",
    "scaled_rows",
    "scales_of",
    "series_reach",
    "share_left",
]

FloatArray = npt.NDArray[np.float64]

TAIL = 1e-15  # of sqrt(V_i V_j): what a cut series may lose in G
SLOPE_TAIL = 1e-14  # of sqrt(v_i v_j): what it may lose in E[phi'(u) phi'(v)]
_ROUGH = 1e-6  # for the first pass
_ROUNDING = 4e-15  # an energy is a difference of sums with this relative rounding: less counts as nothing
_DROPPED = 1e-16  # of the slope's energy: coefficients that a packing may leave out
_ROW_TERMS = 131  # k of a short series


@dataclass(frozen=True)
class Packing:
    """Which k >= 2 are in the series: power, power + stride, power + 2 stride, ..."""

    power: int
    stride: int

    @property
    def terms(self) -> int:
        """How many of them a short series has: 128, or 64 of every other k."""
        return 128 // self.stride

    def first_left_out(self, terms: int) -> int:
        """The least k in the packing that ``terms`` of them do not cover."""
        return self.power + self.stride * terms


ALL, EVEN, ODD = Packing(2, 1), Packing(2, 2), Packing(3, 2)


@dataclass(frozen=True)
class Scales:
    """A layer's view of n samples.

    Attributes:
        variances: q_i, (n,).
        centre: the constant c of phi_c = phi - c.
        means: A_0 = E[phi_c(sqrt(q_i) xi)], (n,).
        second_moment: E[phi_c(sqrt(q_i) xi)^2], (n,): the diagonal of the CK.
        slope_energy: E[phi'(sqrt(q_i) xi)^2], (n,), inf where phi jumps: the diagonal of E[phi'(u) phi'(v)].
        variance: V(q_i), (n,).
        rows: C_ik = a_k(q_i)/sqrt(q_i), k < 131, (n, 131); zero where q_i = 0.
    """

    variances: FloatArray
    centre: float
    means: FloatArray
    second_moment: FloatArray
    slope_energy: FloatArray
    variance: FloatArray
    rows: FloatArray

    @cached_property
    def roots(self) -> FloatArray:
        """sqrt(q_i)."""
        return np.sqrt(self.variances)

    @cached_property
    def inverse_roots(self) -> FloatArray:
        """1/sqrt(q_i), and 0 for q_i = 0."""
        return np.divide(1.0, self.roots, out=np.zeros_like(self.roots), where=self.roots > 0.0)

    @cached_property
    def energy(self) -> FloatArray:
        """V(q_i)/q_i = sum_(k>=1) C_ik^2, and 0 for q_i = 0."""
        energy: FloatArray = self.variance * self.inverse_roots**2
        return energy

    @cached_property
    def packing(self) -> Packing:
        """ODD or EVEN when the other terms k >= 2 carry nothing, else ALL."""
        energy = np.arange(_ROW_TERMS) * self.rows**2
        total = energy[:, 1:].sum(axis=1)
        for packing, others in ((ODD, energy[:, 2::2]), (EVEN, energy[:, 3::2])):
            if (others.sum(axis=1) <= _DROPPED * total).all():
                return packing
        return ALL

    def packed(self, packing: Packing) -> FloatArray:
        """w, 1/w, A_0, C_1 and the packed C_k of every sample, (n, 4 + packing.terms)."""
        result = np.empty((len(self.variances), 4 + packing.terms))
        columns = (self.roots, self.inverse_roots, self.means, self.rows[:, 1])
        for k, column in enumerate(columns):
            result[:, k] = column
        result[:, 4:] = self.rows[:, packing.power : packing.first_left_out(packing.terms) : packing.stride]
        return result

    def tails(self, packing: Packing) -> tuple[FloatArray, FloatArray]:
        """What terms 0 .. packing.terms of the series leave of V and of v q, the largest share over the samples.

        Two arrays (packing.terms + 1,); the second is zero when phi jumps: then the slope sets no limit.
        """
        squares = self.rows[:, 1:] ** 2
        k = np.arange(1, _ROW_TERMS)
        cuts = packing.power - 1 + packing.stride * np.arange(packing.terms + 1)
        left = share_left(np.cumsum(squares, axis=1)[:, cuts - 1], self.energy)
        slopes = share_left(np.cumsum(k * squares, axis=1)[:, cuts - 1], self.slope_energy)
        return left, slopes if np.isfinite(self.slope_energy).all() else np.zeros_like(left)


def share_left(kept: FloatArray, total: FloatArray) -> FloatArray:
    """max_i (1 - kept_ik/total_i), with what is rounding taken for zero; (n, m) and (n,) give (m,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(total[:, None] > 0.0, 1.0 - kept / total[:, None], 0.0)
    worst: FloatArray = np.where(share <= _ROUNDING, 0.0, share).max(axis=0, initial=0.0)
    return worst


def scales_of(table: HermiteTable, variances: FloatArray, centre: float) -> Scales:
    """Everything of the samples with variances q_i >= 0 under phi - centre."""
    n = len(variances)
    at_zero = float(table.activation(0.0))
    means, spread = np.full(n, at_zero - centre), np.zeros(n)
    slopes = np.full(n, table.slope_energy_at_zero)
    positive = variances > 0.0
    if positive.any():
        energies = table.energies(variances[positive])
        means[positive], spread[positive] = energies.mean - centre, energies.variance
        slopes[positive] = energies.slope_energy
    rows = scaled_rows(table, variances, _ROW_TERMS)
    return Scales(variances, centre, means, spread + means * means, slopes, spread, rows)


def scaled_rows(table: HermiteTable, variances: FloatArray, terms: int) -> FloatArray:
    """C_ik = a_k(q_i)/sqrt(q_i) of variances q_i >= 0, k < terms, (n, terms); zero where q_i = 0."""
    rows = np.zeros((len(variances), terms))
    positive = variances > 0.0
    if positive.any():
        q = variances[positive]
        rows[positive] = table.rows(q, terms) / np.sqrt(q)[:, None]
    return rows


@dataclass(frozen=True)
class Reach:
    """How far the series reach.

    Attributes:
        exact: exact[k] is the largest |r| for which k packed terms suffice, increasing.
        rough: the same for a first pass.
        bound: of what is cut off, relative to sqrt(V_i V_j).
    """

    exact: FloatArray
    rough: FloatArray
    bound: float


def reach_of(rows: Scales, columns: Scales, packing: Packing) -> Reach:
    """How far the series of all pairs of rows and columns reach.

    |sum_(k >= K) A_ik A_jk r^k| <= |r|^K sqrt(R_i R_j) with R_i the energy left in the row of i, and likewise for the
    derivative.
    """
    pairs = zip(rows.tails(packing), columns.tails(packing), strict=True)
    left, slopes = (np.sqrt(a * b) for a, b in pairs)
    cuts = np.array([packing.first_left_out(k) for k in range(packing.terms + 1)])
    reach = np.minimum(largest_correlation(left, TAIL, cuts), largest_correlation(slopes, SLOPE_TAIL, cuts - 1))
    rough = np.minimum(largest_correlation(left, _ROUGH, cuts), largest_correlation(slopes, _ROUGH, cuts - 1))
    return Reach(np.maximum.accumulate(reach), np.maximum.accumulate(rough), TAIL)


def largest_correlation(left: FloatArray, allowed: float, power: int | npt.NDArray[np.int64]) -> FloatArray:
    """The largest r <= 1 with left r^power <= allowed."""
    with np.errstate(divide="ignore"):
        found: FloatArray = np.minimum((allowed / left) ** (1.0 / power), 1.0)
    return found


def series_reach(rows: FloatArray, energy: FloatArray, slope_energy: FloatArray) -> float:
    """The largest |r| up to which these series, all of the same length, lose no more than ``TAIL`` and ``SLOPE_TAIL``.

    Args:
        rows: (n, terms), C_k from k = 0 on; the first is of no account.
        energy: (n,), of all terms but the first.
        slope_energy: (n,), of the derivative; infinite where phi jumps.
    """
    squares, powers = rows[:, 1:] ** 2, np.arange(1, rows.shape[1])
    shares = [(squares.sum(axis=1), energy, TAIL, rows.shape[1])]
    if np.isfinite(slope_energy).all():
        shares.append((squares @ powers, slope_energy, SLOPE_TAIL, rows.shape[1] - 1))
    reaches = [largest_correlation(share_left(kept[:, None], total), tail, k) for kept, total, tail, k in shares]
    return min(1.0, *(float(reach[0]) for reach in reaches))
