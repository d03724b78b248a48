"""The correction of finite width: how large the bias of mean kernels is, and with which power of the width it falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import InputError
from equikernel.validation.empirical import EmpiricalKernel, kept_entries, root_mean_square

__all__ = ["BiasMoments", "Power", "bias_moments", "fitted_power"]

Array = NDArray[np.float64]

_GROUPS = 8  # of draws, for the jackknife
_LOWEST, _HIGHEST, _STEPS = 0.1, 4.0, 391  # powers that are looked for
_CONFIDENCE = 0.95


class Power(NamedTuple):
    """A power of 1/m and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2.0

    @property
    def determined(self) -> bool:
        """Whether it is known at all: the search did not end where it had to."""
        return (self.low, self.high) != (_LOWEST, _HIGHEST)

    def shown(self) -> str | None:
        """As "a ± half the interval", None where it is not known."""
        return f"{self.value:.2f} ± {self.error:.2f}" if self.determined else None


@dataclass(frozen=True, eq=False)
class BiasMoments:
    """Products of the biases of mean kernels at k widths, averaged over entries i <= j, in units of the exact kernel.

    Attributes:
        widths: (k,), m.
        products: (k, k), mean over entries of D_a D_b, D = mean kernel - exact kernel over the exact one's root mean
            square. Products of different widths are free of bias, as their networks are independent.
        noise: (k,), what Monte Carlo adds to the diagonal: mean of squared standard errors.
        without: (groups, k, k), the products without a group of draws, for the jackknife.
        entries: the number of entries.
    """

    widths: Array
    products: Array
    noise: Array
    without: Array
    entries: int

    def size(self, width: float) -> float:
        """Root mean square of the bias at a width, relative to the kernel, were it to fall as 1/m.

        Formula: b/width with D_m = b/m fitted to every entry by weighted least squares; its square has the part that
        Monte Carlo adds subtracted, and is 0 where nothing is left.
        """
        x = 1.0 / self.widths
        total = float(np.sum(x * x / self.noise))
        weights = x / self.noise / total
        return math.sqrt(max(float(weights @ self.products @ weights) - 1.0 / total, 0.0)) / width

    def explained(self, powers: Array, products: Array) -> Array:
        """The part of sum D_m^2/noise_m that D_m = b m^(-power) explains, b free for every entry.

        Formula: u^T S u/(u^T N u), S the products, N the noise, u_m = m^(-power)/noise_m. Noise adds 1 to it at every
        power, so that its maximum is not drawn anywhere.

        Args:
            powers: (P,).
            products: (..., k, k). Returns (..., P).
        """
        u = (self.widths / self.widths[0]) ** -powers[:, None] / self.noise
        return np.asarray(
            self.entries * np.einsum("pa,...ab,pb->...p", u, products, u) / np.sum(u * u * self.noise, axis=1)
        )

    @property
    def strength(self) -> float:
        """How clearly the bias is seen: its significance squared, mean over entries, were it to fall as 1/m.

        Noise alone makes 1. It does not look at the power, so that choosing by it does not prefer one power to another.
        """
        return float(self.explained(np.ones(1), self.products)[0]) / self.entries

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, from which ``from_dict`` makes it again."""
        return {
            **{name: getattr(self, name).tolist() for name in ("widths", "products", "noise", "without")},
            "entries": self.entries,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> BiasMoments:
        """From ``to_dict``."""
        arrays = {name: np.array(record[name], dtype=float) for name in ("widths", "products", "noise", "without")}
        return cls(**arrays, entries=int(record["entries"]))


def bias_moments(kernels: Sequence[EmpiricalKernel], exact: ArrayLike) -> BiasMoments:
    """The moments of the biases of empirical kernels of one network at several widths.

    Args:
        kernels: each from 4 or more draws.
        exact: (n, n), not zero.

    Raises:
        InputError: fewer than two widths or four draws, or kernels that do not fluctuate.
    """
    kernel = np.asarray(exact, dtype=float)
    groups = min(_GROUPS, *(k.draws for k in kernels))
    if len({k.width for k in kernels}) < 2 or groups < 4:
        raise InputError("a power of the width needs two or more widths and 4 or more draws at each")
    scale = root_mean_square(kernel)
    target = kernel[kept_entries(len(kernel))]
    noise = np.array([float(np.var(k.entries, axis=0, ddof=1).mean()) / k.draws for k in kernels]) / scale**2
    if not (noise > 0.0).all():
        raise InputError("a power of the width needs kernels that differ between draws; these are all the same")

    def products(left_out: int | None) -> Array:
        bias = np.array([_mean_without(k.entries, left_out, groups) - target for k in kernels]) / scale
        return np.asarray(bias @ bias.T / len(target))

    return BiasMoments(
        widths=np.array([float(k.width) for k in kernels]),
        products=products(None),
        noise=noise,
        without=np.array([products(g) for g in range(groups)]),
        entries=len(target),
    )


def _mean_without(entries: Array, left_out: int | None, groups: int) -> Array:
    kept = entries if left_out is None else entries[np.arange(len(entries)) % groups != left_out]
    return np.asarray(kept.mean(axis=0))


def fitted_power(moments: Sequence[BiasMoments]) -> Power:
    """The power a common to all of ``moments`` for which D_m = b m^(-a), b free for every entry, explains most.

    The interval is Student's, from the jackknife over groups of draws; draws of different moments are independent, or
    are not counted twice by whoever puts them together. Without a bias worth the name it is wide.

    Args:
        moments: one or more.
    """
    grid = np.linspace(_LOWEST, _HIGHEST, _STEPS)
    own = [m.explained(grid, m.products) for m in moments]
    total = np.sum(own, axis=0)
    value, variance, dof = float(_peaks(grid, total[None])[0]), 0.0, 0
    for one, curve in zip(moments, own, strict=True):
        others = _peaks(grid, total - curve + one.explained(grid, one.without))
        variance += (len(others) - 1) * float(np.var(others))
        dof += len(others) - 1
    reach = float(scipy.stats.t.isf((1.0 - _CONFIDENCE) / 2.0, dof)) * math.sqrt(variance)
    if not _LOWEST + 0.05 < value < _HIGHEST - 0.05:
        return Power(value, _LOWEST, _HIGHEST)  # the search ended where it had to: nothing is known
    return Power(value, value - reach, value + reach)


def _peaks(grid: Array, curves: Array) -> Array:
    """Where each of (r, P) curves is largest: the best of the grid, and the parabola through it and its neighbours."""
    k = np.clip(np.argmax(curves, axis=1), 1, len(grid) - 2)
    rows = np.arange(len(curves))
    left, middle, right = (curves[rows, k + d] for d in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(bend < 0.0, np.clip(0.5 * (left - right) / bend, -1.0, 1.0), 0.0)
    return np.asarray(grid[k] + shift * (grid[1] - grid[0]))
