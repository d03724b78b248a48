"""Gaussian mixtures in the scaling of the theory, and families of them indexed by the dimension.

Formula: x = (mu_a + C_a^{1/2} w)/sqrt(p), w ~ N(0, I_p), in class a with proportion pi_a; C0 = sum_a pi_a C_a and
tau0^2 = tr(C0)/p. The theory asks for ||mu_a|| = O(1), ||C_a|| = O(1) and tr(C_a - C0) = O(sqrt(p)) ([Ling24],
Assumption 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import DataError, InputError
from equikernel.numerics.class_statistics import covariance_array, covariance_trace
from equikernel.numerics.data import data_matrix

__all__ = [
    "MIXTURE_FAMILIES",
    "GaussianMixture",
    "MixtureSample",
    "class_counts",
    "is_integer",
    "mixture_family",
    "seeded_generator",
]

Array = NDArray[np.float64]

# The families put p-dependent factors 1 - 2/sqrt(p) on the covariances, which this keeps well above zero.
_SMALLEST_P = 9


@dataclass(frozen=True, eq=False)
class MixtureSample:
    """A draw from a mixture: ``X`` (n, p) with samples in rows, ``labels`` (n,) in 0 ... K-1, class after class."""

    X: Array
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False, init=False)
class GaussianMixture:
    """A Gaussian mixture with K classes in dimension p, validated on construction and immutable after it.

    Args:
        means: (K, p), the mu_a (not divided by sqrt(p)).
        covariances: K items, each a number (c I_p), a diagonal (p,) or a positive semi-definite matrix (p, p).
        proportions: (K,) positive, summing to 1; equal if None.

    Attributes:
        means: (K, p).
        covariances: K arrays, in the form in which they were given.
        proportions: (K,).

    Raises:
        DataError: shapes that do not fit together, NaN, a covariance that is not symmetric positive semi-definite,
            proportions that are not positive or do not sum to 1.
    """

    means: Array
    covariances: tuple[Array, ...]
    proportions: Array
    _factors: tuple[Array, ...] = field(repr=False)

    def __init__(
        self, means: ArrayLike, covariances: Sequence[ArrayLike] | Array, proportions: ArrayLike | None = None
    ) -> None:
        centres = data_matrix(means, "means").copy()
        K, p = centres.shape
        if len(covariances) != K:
            raise DataError(f"one covariance for each of the {K} means is needed, got {len(covariances)}")
        forms = tuple(
            covariance_array(item, p, f"the covariance of class {a}").copy() for a, item in enumerate(covariances)
        )
        weights = np.full(K, 1 / K) if proportions is None else _proportion_array(proportions)
        if weights.shape != (K,):
            raise DataError(f"one proportion for each of the {K} means is needed, got {len(weights)}")
        factors = tuple(_factor(form, f"the covariance of class {a}") for a, form in enumerate(forms))
        if not any(form.any() for form in forms):
            raise DataError("all covariances are zero: at least one class must have a positive variance")
        for array in (centres, weights, *forms, *factors):
            array.setflags(write=False)
        validated = {"means": centres, "covariances": forms, "proportions": weights, "_factors": factors}
        for name, value in validated.items():
            object.__setattr__(self, name, value)

    @property
    def K(self) -> int:  # noqa: N802 - the papers' name for the number of classes
        """The number of classes."""
        return len(self.means)

    @property
    def p(self) -> int:
        """The dimension."""
        return int(self.means.shape[1])

    @property
    def tau0(self) -> float:
        """tau0 = sqrt(tr(C0)/p), the scale of the data (a standard deviation)."""
        traces = [covariance_trace(form, self.p) / self.p for form in self.covariances]
        return math.sqrt(float(self.proportions @ np.array(traces)))

    def sample(self, n: int, seed: int) -> MixtureSample:
        """``n`` samples, class after class, with the class counts of ``class_counts`` (not random).

        The same mixture, ``n`` and ``seed`` give the same bits on one machine.

        Raises:
            DataError: ``n`` is not a positive integer.
            InputError: ``seed`` is not an integer >= 0.
        """
        counts = class_counts(n, self.proportions)
        generator = seeded_generator(seed)
        X = np.empty((n, self.p))
        start = 0
        for centre, factor, count in zip(self.means, self._factors, counts, strict=True):
            normal = generator.standard_normal((int(count), self.p))
            coloured = normal @ factor.T if factor.ndim == 2 else normal * factor
            X[start : start + count] = (centre + coloured) / math.sqrt(self.p)
            start += count
        return MixtureSample(X=X, labels=np.repeat(np.arange(self.K, dtype=np.int64), counts))


def is_integer(value: object, least: int) -> bool:
    """Whether ``value`` is an integer (Python's or NumPy's, not a truth value) of at least ``least``."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least


def class_counts(n: int, proportions: ArrayLike) -> NDArray[np.int64]:
    """Counts near n pi_a that sum to n: the integer parts, and one more to the largest remainders, ties in order.

    Raises:
        DataError: ``n`` is not a positive integer, or the proportions are not positive with sum 1.
    """
    if not is_integer(n, 1):
        raise DataError(f"the number of samples must be a positive integer, got {n!r}")
    shares = n * _proportion_array(proportions)
    # A share that is an integer up to the rounding of n * pi_a must not lose one of its samples to the remainder.
    counts = np.floor(shares * (1 + 4 * np.finfo(float).eps)).astype(np.int64)
    order = np.argsort(counts - shares, kind="stable")
    counts[order[: n - int(counts.sum())]] += 1
    return counts


def seeded_generator(seed: int) -> np.random.Generator:
    """NumPy's default generator.

    Raises:
        InputError: ``seed`` is not an integer >= 0.
    """
    if not is_integer(seed, 0):
        raise InputError(f"a seed must be an integer of at least 0, got {seed!r}")
    return np.random.default_rng(seed)


def mixture_family(name: str) -> Callable[[int], GaussianMixture]:
    """A family of mixtures indexed by p, all with tau0 = 1 up to rounding: ``mixture_family("isotropic")(400)``.

    * ``isotropic``: two classes of equal size, mu = -+2 e_1, C = (1 -+ 2/sqrt(p)) I.
    * ``isotropic3``: three classes of equal size, means on a circle of radius 2, C = (1 + c/sqrt(p)) I, c = -2, 0, 2.
    * ``structured``: three classes of sizes 1/2, 1/4, 1/4: a Toeplitz covariance 0.3^|i-j| times 1 + 2/sqrt(p);
      a diagonal one with the levels 3/2 and 1/2, and a Toeplitz one (-0.5)^|i-j|, both times 1 - 2/sqrt(p).

    Raises:
        DataError: an unknown name, or (when called) p not an integer of at least 9.
    """
    try:
        build = _FAMILIES[name]
    except KeyError:
        raise DataError(f"unknown family of mixtures {name!r}: choose one of {', '.join(_FAMILIES)}") from None

    def family(p: int) -> GaussianMixture:
        if not is_integer(p, _SMALLEST_P):
            raise DataError(f"p of a mixture family must be an integer of at least {_SMALLEST_P}, got {p!r}")
        return build(int(p))

    return family


def _proportion_array(proportions: ArrayLike) -> Array:
    try:
        weights = np.array(proportions, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("proportions must be real numbers, one for each class") from error
    if weights.ndim != 1 or not len(weights) or not np.isfinite(weights).all() or weights.min() <= 0:
        raise DataError(f"proportions must be a list of positive numbers, one for each class, got {weights.tolist()}")
    if abs(weights.sum() - 1) > 4 * len(weights) * np.finfo(float).eps:
        raise DataError(f"proportions must sum to 1, got {weights.sum():.17g}: divide them by their sum")
    return weights


def _factor(covariance: Array, what: str) -> Array:
    """L with L L^T = C, in the form of C. L w and C^{1/2} w have one law, so the cheaper Cholesky factor serves."""
    if covariance.ndim < 2:
        return np.sqrt(covariance)
    try:
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:
        eigenvalues, vectors = np.linalg.eigh(covariance)
    # A singular C has eigenvalues that are zero up to the backward error p * eps * ||C|| of the eigensolver.
    floor = len(covariance) * np.finfo(float).eps * max(float(eigenvalues[-1]), 0.0)
    if eigenvalues[0] < -floor:
        raise DataError(f"{what} must be positive semi-definite, got the eigenvalue {eigenvalues[0]:.6g}")
    return np.asarray(vectors * np.sqrt(np.where(eigenvalues > floor, eigenvalues, 0.0)), dtype=np.float64)


def _toeplitz(base: float, p: int) -> Array:
    indices = np.arange(p)
    # The powers are tabulated once: p of them, not p^2.
    powers = np.power(base, indices)
    toeplitz: Array = powers[np.abs(indices[:, np.newaxis] - indices)]
    return toeplitz


def _two_level(p: int) -> Array:
    levels = np.full(p, 0.5)
    levels[: p // 2] = 1.5
    return levels * (p / float(levels.sum()))


def _means(rows: Sequence[tuple[float, float]], p: int) -> Array:
    """Means in the plane of the first two coordinates."""
    means = np.zeros((len(rows), p))
    means[:, :2] = rows
    return means


def _isotropic(p: int) -> GaussianMixture:
    shift = 2 / math.sqrt(p)
    return GaussianMixture(_means([(-2, 0), (2, 0)], p), [1 - shift, 1 + shift])


def _isotropic3(p: int) -> GaussianMixture:
    angles = [2 * math.pi * k / 3 for k in range(3)]
    shift = 2 / math.sqrt(p)
    return GaussianMixture(_means([(2 * math.cos(a), 2 * math.sin(a)) for a in angles], p), [1 - shift, 1.0, 1 + shift])


def _structured(p: int) -> GaussianMixture:
    shift = 2 / math.sqrt(p)
    covariances = [(1 + shift) * _toeplitz(0.3, p), (1 - shift) * _two_level(p), (1 - shift) * _toeplitz(-0.5, p)]
    return GaussianMixture(_means([(-1, -1), (2, 0), (0, 2)], p), covariances, [0.5, 0.25, 0.25])


_FAMILIES: dict[str, Callable[[int], GaussianMixture]] = {
    "isotropic": _isotropic,
    "isotropic3": _isotropic3,
    "structured": _structured,
}

MIXTURE_FAMILIES: tuple[str, ...] = tuple(_FAMILIES)
