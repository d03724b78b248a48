from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from equikernel.errors import DataError, InputError
from equikernel.validation.mixtures import MIXTURE_FAMILIES, GaussianMixture, class_counts, is_integer, mixture_family

EPS = np.finfo(float).eps


def test_moments_of_a_sample():
    """z-scores of every class mean and every second moment, for one covariance of each form."""
    rng = np.random.default_rng(0)
    p, n = 6, 30_000
    root = rng.standard_normal((p, p))
    covariances = [0.7, np.linspace(0.5, 2.0, p), root @ root.T / p]
    means = rng.standard_normal((3, p))
    mixture = GaussianMixture(means, covariances, [0.5, 0.3, 0.2])
    sample = mixture.sample(n, seed=1)
    assert np.bincount(sample.labels).tolist() == [15_000, 9_000, 6_000]
    worst = 0.0
    for a, form in enumerate(covariances):
        C = np.asarray(form) if np.ndim(form) == 2 else np.diag(np.broadcast_to(form, (p,)))
        rows = math.sqrt(p) * sample.X[sample.labels == a] - means[a]
        count = len(rows)
        worst = max(worst, np.max(np.abs(rows.mean(axis=0)) / np.sqrt(np.diagonal(C) / count)))
        # Var(w_i w_j) = C_ii C_jj + C_ij^2 for centred normal w.
        error = np.sqrt((np.outer(np.diagonal(C), np.diagonal(C)) + C**2) / count)
        worst = max(worst, np.max(np.abs(rows.T @ rows / count - C) / error))
    # 81 z-scores: the largest exceeds 4.5 with probability 81 * 7e-6.
    assert worst < 4.5


def test_toeplitz_root_is_cholesky():
    mixture = mixture_family("structured")(60)
    for form, factor in zip(mixture.covariances, mixture._factors, strict=True):
        if form.ndim == 2:
            assert np.array_equal(np.triu(factor, 1), np.zeros_like(factor))
            np.testing.assert_allclose(factor @ factor.T, form, rtol=0, atol=60 * EPS * np.abs(form).max())


def test_singular_covariance_has_a_root_of_its_rank():
    direction = np.array([3.0, 0.0, 4.0]) / 5
    covariance = 2 * np.outer(direction, direction)
    X = GaussianMixture(np.zeros((1, 3)), [covariance]).sample(200, seed=0).X
    np.testing.assert_allclose(X - np.outer(X @ direction, direction), 0, atol=100 * EPS)


def test_samples_are_the_same_to_the_bit():
    for name in MIXTURE_FAMILIES:
        first, again = (mixture_family(name)(40).sample(31, seed=5) for _ in range(2))
        assert np.array_equal(first.X, again.X)
        assert np.array_equal(first.labels, again.labels)
        assert not np.array_equal(first.X, mixture_family(name)(40).sample(31, seed=6).X)


@pytest.mark.parametrize("name", MIXTURE_FAMILIES)
@pytest.mark.parametrize("p", [9, 50, 201])
def test_families_are_in_the_scaling_of_the_theory(name, p):
    mixture = mixture_family(name)(p)
    assert mixture.p == p
    assert mixture.tau0 == pytest.approx(1, rel=10 * EPS)
    np.testing.assert_allclose(np.linalg.norm(mixture.means, axis=1), 2, rtol=0.5)
    np.testing.assert_allclose(mixture.proportions @ mixture.means, 0, atol=10 * EPS)
    for form in mixture.covariances:
        C = np.asarray(form) if form.ndim == 2 else np.diag(np.broadcast_to(form, (p,)))
        assert abs(np.trace(C) - p) <= 2 * math.sqrt(p) * (1 + 10 * p * EPS)
        # Largest eigenvalues: 3/2 for the two levels (a little more for odd p), (1 + r)/(1 - r) for Toeplitz r^|i-j|.
        assert np.linalg.eigvalsh(C)[-1] <= 3 * (1 + 2 / math.sqrt(p))


def test_families_differ_in_their_number_of_classes():
    assert [mixture_family(name)(20).K for name in MIXTURE_FAMILIES] == [2, 3, 3]


def test_scale_of_the_sample():
    """The mean of ||x||^2 is tau0^2 + sum of pi_a ||mu_a||^2/p, within its standard error."""
    mixture = mixture_family("isotropic")(100)
    X = mixture.sample(4000, seed=2).X
    norms = (X**2).sum(axis=1)
    expected = mixture.tau0**2 + 4 / 100
    assert abs(norms.mean() - expected) < 4 * norms.std(ddof=1) / math.sqrt(len(X))


@pytest.mark.parametrize(
    ("n", "proportions", "counts"),
    [
        (10, [0.5, 0.3, 0.2], [5, 3, 2]),
        (10, [1 / 3, 1 / 3, 1 / 3], [4, 3, 3]),
        (7, [0.5, 0.25, 0.25], [3, 2, 2]),
        (1, [0.4, 0.6], [0, 1]),
        (3, [1.0], [3]),
    ],
)
def test_class_counts(n, proportions, counts):
    assert class_counts(n, proportions).tolist() == counts


def test_class_counts_survive_rounding():
    """n * (k/n) may round below k; the count must be k all the same."""
    for n in range(1, 300):
        k = np.array([n // 3, n - n // 3])
        if k.min() > 0:
            assert np.array_equal(class_counts(n, k / n), k)


def test_is_integer():
    assert is_integer(3, 3)
    assert is_integer(np.int64(3), 1)
    assert not any(is_integer(value, 1) for value in (0, 2.0, True, "2", None))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((np.zeros(3), [1.0]), "two dimensions"),
        ((np.full((1, 3), np.nan), [1.0]), "means must be finite"),
        ((np.zeros((2, 3)), [1.0]), "one covariance for each"),
        ((np.zeros((2, 3)), [1.0, -1.0]), "class 1 must have variances >= 0"),
        ((np.zeros((1, 3)), [np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1.0]])]), "positive semi-definite, got .* -1"),
        ((np.zeros((1, 3)), [np.ones(2)]), "shape"),
        ((np.zeros((2, 3)), [0.0, 0.0]), "all covariances are zero"),
        ((np.zeros((2, 3)), [1.0, 1.0], [0.5, 0.6]), "sum to 1"),
        ((np.zeros((2, 3)), [1.0, 1.0], [1.5, -0.5]), "positive"),
        ((np.zeros((2, 3)), [1.0, 1.0], [0.5, np.nan]), "positive"),
        ((np.zeros((2, 3)), [1.0, 1.0], [1.0]), "one proportion for each"),
        ((np.zeros((2, 3)), [1.0, 1.0], ["half", "half"]), "real numbers"),
    ],
)
def test_mixtures_that_are_refused(arguments, says):
    with pytest.raises(DataError, match=says):
        GaussianMixture(*arguments)


@pytest.mark.parametrize("n", [0, -1, 2.5, True])
def test_sizes_that_are_refused(n):
    with pytest.raises(DataError, match="positive integer"):
        mixture_family("isotropic")(20).sample(n, seed=0)


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_seeds_that_are_refused(seed):
    with pytest.raises(InputError, match="a seed must be an integer of at least 0"):
        mixture_family("isotropic")(20).sample(5, seed=seed)


def test_families_that_are_refused():
    with pytest.raises(DataError, match="choose one of isotropic, isotropic3, structured"):
        mixture_family("anisotropic")
    with pytest.raises(DataError, match="at least 9, got 4"):
        mixture_family("isotropic")(4)


def test_a_mixture_is_immutable_and_owns_its_arrays():
    means = np.zeros((1, 3))
    mixture = GaussianMixture(means, [1.0])
    means[0, 0] = 5.0
    assert mixture.means[0, 0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        mixture.means[0, 0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixture.means = means
