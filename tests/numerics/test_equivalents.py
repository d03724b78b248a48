from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from equikernel.errors import DataError, InputError
from equikernel.numerics.class_statistics import (
    class_statistics,
    covariance_array,
    covariance_trace,
    unbiased_trace_products,
)
from equikernel.numerics.data import data_matrix
from equikernel.numerics.equivalents import EquivalentCoefficients, equivalent_kernel

EPS = np.finfo(float).eps
COEFFICIENTS = EquivalentCoefficients(linear=0.4, norm=0.07, square=0.09, diagonal=0.8)


@pytest.fixture
def population():
    """Three classes in p = 5, one covariance of each form, and eight samples of mean squared norm 1."""
    rng = np.random.default_rng(1)
    p = 5
    root = rng.standard_normal((p, p))
    covariances = [1.1, rng.uniform(0.5, 1.5, p), root @ root.T / p]
    means = rng.standard_normal((3, p))
    labels = np.array([2, 0, 1, 1, 0, 2, 2, 1])
    X = rng.standard_normal((8, p))
    X /= math.sqrt((X**2).sum() / len(X))
    return X, labels, means, covariances


def dense(covariance, p):
    return np.asarray(covariance) if np.ndim(covariance) == 2 else np.diag(np.broadcast_to(covariance, (p,)))


# --- the formulas ---


def test_population_form_is_the_published_matrix_formula(population):
    """alpha1 X X^T + V C V^T + (diagonal - tau0^2 alpha1) I, built with the matrices of the theory."""
    X, labels, means, covariances = population
    (n, p), K = X.shape, len(means)
    C = [dense(c, p) for c in covariances]
    J = np.eye(K)[labels]
    C0 = sum(np.count_nonzero(labels == a) / n * C[a] for a in range(K))
    t = np.array([np.trace(c - C0) / math.sqrt(p) for c in C])
    S = np.array([[np.trace(a @ b) / p for b in C] for a in C])
    psi = np.array(
        [np.sum((x - means[a] / math.sqrt(p)) ** 2) - np.trace(C[a]) / p for x, a in zip(X, labels, strict=True)]
    )
    V = np.column_stack([J / math.sqrt(p), psi])
    a1, a2, a3, d = COEFFICIENTS.linear, COEFFICIENTS.norm, COEFFICIENTS.square, COEFFICIENTS.diagonal
    M = np.block([[a2 * np.outer(t, t) + a3 * S, a2 * t[:, None]], [a2 * t[None, :], np.array([[a2]])]])
    expected = a1 * X @ X.T + V @ M @ V.T + (d - a1 * 0.9**2) * np.eye(n)
    got = equivalent_kernel(X, COEFFICIENTS, labels=labels, means=means, covariances=covariances, tau0=0.9)
    np.testing.assert_allclose(got, expected, rtol=0, atol=50 * p * EPS * np.abs(expected).max())
    stats = class_statistics(X, labels, means=means, covariances=covariances)
    np.testing.assert_allclose(stats.trace_deviations, t, rtol=0, atol=50 * EPS * p)
    np.testing.assert_allclose(stats.trace_products, S, rtol=50 * EPS)
    np.testing.assert_allclose(stats.norm_residuals, psi, rtol=0, atol=50 * EPS * p)
    assert stats.counts.tolist() == [2, 3, 3]


@pytest.mark.parametrize("estimate", [False, True])
def test_entries_off_the_diagonal(population, estimate):
    X, labels, means, covariances = population
    X, labels = np.tile(X, (4, 1)) * np.linspace(0.9, 1.1, 32)[:, None], np.tile(labels, 4)
    given = {} if estimate else {"means": means, "covariances": covariances}
    kernel = equivalent_kernel(X, COEFFICIENTS, labels=labels, tau0=1.0, **given)
    stats = class_statistics(X, labels, **given)
    for i, j in itertools.permutations(range(len(X)), 2):
        expected = (
            COEFFICIENTS.linear * math.fsum(X[i] * X[j])
            + COEFFICIENTS.norm * stats.norm_deviations[i] * stats.norm_deviations[j]
            + COEFFICIENTS.square * stats.trace_products[labels[i], labels[j]] / X.shape[1]
        )
        assert kernel[i, j] == pytest.approx(expected, rel=0, abs=100 * EPS)


def test_label_free_entries(population):
    X = population[0]
    kernel = equivalent_kernel(X, COEFFICIENTS, tau0=1.1)
    for i, j in itertools.product(range(len(X)), repeat=2):
        s = math.fsum(X[i] * X[j])
        chi = [math.fsum(X[k] ** 2) - 1.1**2 for k in (i, j)]
        expected = COEFFICIENTS.linear * s + COEFFICIENTS.norm * chi[0] * chi[1] + COEFFICIENTS.square * s**2
        if i == j:
            expected += COEFFICIENTS.diagonal - COEFFICIENTS.linear * 1.1**2 - COEFFICIENTS.square * 1.1**4
        assert kernel[i, j] == pytest.approx(expected, rel=0, abs=100 * EPS)


def test_more_rows_than_a_block_and_symmetric_to_the_bit():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((600, 40)) / math.sqrt(40)
    labels = np.arange(600) % 3
    small = np.r_[0:5, 254:259, 510:515, 595:600]
    free = equivalent_kernel(X, COEFFICIENTS, tau0=1.0)
    np.testing.assert_allclose(
        free[np.ix_(small, small)], equivalent_kernel(X[small], COEFFICIENTS, tau0=1.0), rtol=0, atol=100 * EPS
    )
    for kernel in (free, equivalent_kernel(X, COEFFICIENTS, labels=labels, tau0=1.0)):
        assert np.array_equal(kernel, kernel.T)


def test_the_three_forms_of_a_covariance_agree(population):
    X, labels, means, _ = population
    p = X.shape[1]
    kernels = [
        equivalent_kernel(X, COEFFICIENTS, labels=labels, means=means, covariances=[form(0.8), form(1.2), 1.0], tau0=1)
        for form in (lambda c: c, lambda c: np.full(p, c), lambda c: c * np.eye(p))
    ]
    for kernel in kernels[1:]:
        np.testing.assert_allclose(kernel, kernels[0], rtol=0, atol=100 * EPS)


def test_a_diagonal_is_never_expanded():
    """The dense form of these covariances would take 80 GB each."""
    p = 100_000
    X = np.random.default_rng(3).standard_normal((4, p)) / math.sqrt(p)
    stats = class_statistics(X, [0, 1, 1, 0], means=np.zeros((2, p)), covariances=[1.0, np.linspace(0.5, 1.5, p)])
    # sum of (0.5 + k/(p-1))^2 over k = 0 ... p-1, divided by p, is 1 + (p+1)/(12(p-1)).
    expected = [[1.0, 1.0], [1.0, 1 + (p + 1) / (12 * (p - 1))]]
    np.testing.assert_allclose(stats.trace_products, expected, rtol=1e-12)


def test_one_class(population):
    X = population[0]
    ones = np.zeros(len(X), dtype=int)
    for given in ({}, {"means": np.zeros((1, 5)), "covariances": [1.0]}):
        stats = class_statistics(X, ones, **given)
        assert stats.trace_deviations == pytest.approx([0.0], abs=10 * EPS)
        assert np.isfinite(equivalent_kernel(X, COEFFICIENTS, labels=ones, tau0=1.0, **given)).all()


def test_an_empty_class_changes_nothing(population):
    X, labels, means, covariances = population
    expected = equivalent_kernel(X, COEFFICIENTS, labels=labels, means=means, covariances=covariances, tau0=1.0)
    got = equivalent_kernel(
        X, COEFFICIENTS, labels=labels, means=np.vstack([means, means[0]]), covariances=[*covariances, 3.0], tau0=1.0
    )
    assert np.array_equal(got, expected)


def test_estimates_do_not_depend_on_the_names_of_the_classes():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((30, 10)) / math.sqrt(10)
    labels = rng.integers(0, 3, 30)
    kernel = equivalent_kernel(X, COEFFICIENTS, labels=labels, tau0=1.0)
    renamed = equivalent_kernel(X, COEFFICIENTS, labels=np.array([-7, 12, 400])[labels], tau0=1.0)
    assert np.array_equal(kernel, renamed)


def test_estimates_ignore_where_the_classes_are():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((20, 12)) / math.sqrt(12)
    labels = np.repeat([0, 1], 10)
    here = class_statistics(X, labels)
    moved = class_statistics(X + np.array([[3.0], [-2.0]])[labels], labels)
    for name in ("trace_deviations", "trace_products", "norm_residuals", "norm_deviations"):
        np.testing.assert_allclose(getattr(moved, name), getattr(here, name), rtol=0, atol=1e4 * EPS)


def test_label_free_form_is_positive_and_exact_on_the_sphere():
    """With the constant left over >= 0, as it is for every kernel, and outliers of any norm in the data."""
    rng = np.random.default_rng(6)
    X = rng.standard_normal((60, 30))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    sphere = equivalent_kernel(X, COEFFICIENTS, tau0=1.0)
    np.testing.assert_allclose(np.diagonal(sphere), COEFFICIENTS.diagonal, rtol=20 * EPS)
    X[:5] *= 2.5
    X[5] = X[6]
    X[7] = 0.0
    kernel = equivalent_kernel(X, COEFFICIENTS, tau0=1.0)
    constant = COEFFICIENTS.diagonal - COEFFICIENTS.linear - COEFFICIENTS.square
    assert np.linalg.eigvalsh(kernel)[0] >= constant - 60 * EPS * np.linalg.norm(kernel, 2)


# --- the estimators ---


def test_trace_estimator_is_the_u_statistic():
    """Li & Chen (2012): three averages over distinct pairs, triples and quadruples, by explicit loops."""
    rows = np.random.default_rng(7).standard_normal((7, 3)) + 2.0
    n = len(rows)
    inner = rows @ rows.T
    pairs = np.mean([inner[i, j] ** 2 for i, j in itertools.permutations(range(n), 2)])
    triples = np.mean([inner[i, j] * inner[j, k] for i, j, k in itertools.permutations(range(n), 3)])
    quadruples = np.mean([inner[i, j] * inner[k, m] for i, j, k, m in itertools.permutations(range(n), 4)])
    expected = pairs - 2 * triples + quadruples
    # The loops subtract numbers of the size of inner^2, so that is the scale of their rounding.
    assert unbiased_trace_products([rows])[0, 0] == pytest.approx(expected, rel=0, abs=100 * EPS * inner.max() ** 2)


@pytest.mark.parametrize("law", ["normal", "exponential"])
def test_trace_estimators_are_unbiased(law):
    """z-scores over 4000 replicates with n_a < p, where the plug-in tr(S^2) is more than twice too large."""
    rng = np.random.default_rng(8)
    p, sizes, replicates = 12, (6, 9), 4000
    roots = [
        np.diag(np.linspace(0.5, 1.5, p)),
        np.linalg.cholesky(0.5 ** np.abs(np.subtract.outer(range(p), range(p)))),
    ]
    truth = np.array([[np.trace(a @ a.T @ b @ b.T) for b in roots] for a in roots])
    draw = rng.standard_normal if law == "normal" else rng.standard_exponential
    estimates = np.empty((replicates, 2, 2))
    plug_in = np.empty(replicates)
    for k in range(replicates):
        groups = [draw((n, p)) @ root.T + 1.0 for n, root in zip(sizes, roots, strict=True)]
        estimates[k] = unbiased_trace_products(groups)
        plug_in[k] = np.sum(np.cov(groups[0].T) ** 2)
    z = (estimates.mean(axis=0) - truth) / (estimates.std(axis=0, ddof=1) / math.sqrt(replicates))
    assert np.abs(z).max() < 4
    assert plug_in.mean() > 2 * truth[0, 0]


def test_estimated_class_statistics_are_unbiased():
    """Means over replicates of t, S and of psi_0 against the population values; psi_0 in mean is 0."""
    rng = np.random.default_rng(9)
    p, replicates = 10, 3000
    diagonals = np.array([np.linspace(0.8, 1.4, p), np.linspace(1.3, 0.5, p)])
    labels = np.repeat([0, 1], [5, 8])
    scale = np.sqrt(diagonals)[labels]
    values = np.empty((replicates, 7))
    for k in range(replicates):
        X = (scale * rng.standard_normal((13, p)) + labels[:, None]) / math.sqrt(p)
        stats = class_statistics(X, labels)
        values[k] = [
            *stats.trace_deviations,
            *stats.trace_products[np.triu_indices(2)],
            stats.norm_residuals[0],
            stats.norm_residuals[-1],
        ]
    pooled = np.array([5, 8]) @ diagonals / 13
    truth = [
        *((diagonals - pooled).sum(axis=1) / math.sqrt(p)),
        *[diagonals[a] @ diagonals[b] / p for a, b in ((0, 0), (0, 1), (1, 1))],
        0.0,
        0.0,
    ]
    z = (values.mean(axis=0) - truth) / (values.std(axis=0, ddof=1) / math.sqrt(replicates))
    assert np.abs(z).max() < 4


def test_estimated_deviations_average_to_zero():
    rng = np.random.default_rng(10)
    X = rng.standard_normal((40, 15)) / math.sqrt(15)
    stats = class_statistics(X, rng.integers(0, 2, 40))
    assert abs(stats.norm_deviations.mean()) < 40 * EPS


# --- the theorem ---

SIGMA_A2, SIGMA_B2 = 0.2, 0.8


def relu_coefficients():
    """Closed forms at tau0 = 1: q = sa2 q (1/2 - 1/(2 pi)) + sb2, since Var relu(sqrt(q) xi) = q (1/2 - 1/(2 pi))."""
    h = 0.5 - 1 / (2 * math.pi)
    q = SIGMA_B2 / (1 - SIGMA_A2 * h)
    d1_squared, d2_squared = 0.25, 1 / (2 * math.pi * q)
    gap = 1 - SIGMA_A2 * d1_squared
    slope = SIGMA_B2 / gap
    norm_slope = SIGMA_B2 / (1 - SIGMA_A2 * h)
    ck = EquivalentCoefficients(
        linear=d1_squared * slope,
        norm=d2_squared * norm_slope**2 / (4 * gap),
        square=d2_squared * slope**2 / (2 * gap),
        diagonal=q * h,
    )
    return ck, q


def relu_ck(X):
    """The exact implicit CK of ReLU by iterating the arc-cosine kernel, bias centred at q; contraction sa2/2 = 0.1."""
    bias = math.sqrt(relu_coefficients()[1] / (2 * math.pi))
    gram = X @ X.T
    norms = np.diagonal(gram)
    q = norms.copy()
    cross = gram.copy()
    for _ in range(20):
        q = SIGMA_A2 * (q / 2 - 2 * bias * np.sqrt(q / (2 * math.pi)) + bias**2) + SIGMA_B2 * norms
    means = np.sqrt(q / (2 * math.pi))
    scale = np.sqrt(np.outer(q, q))
    for _ in range(20):
        rho = np.clip(cross / scale, -1, 1)
        arc = scale * (np.sqrt(1 - rho**2) + (math.pi - np.arccos(rho)) * rho) / (2 * math.pi)
        kernel = arc - bias * np.add.outer(means, means) + bias**2
        cross = SIGMA_A2 * kernel + SIGMA_B2 * gram
    np.fill_diagonal(kernel, (q - SIGMA_B2 * norms) / SIGMA_A2)
    return kernel


def two_classes(p, seed):
    n = 4 * p // 5
    labels = np.repeat([0, 1], n // 2)
    means = np.zeros((2, p))
    means[:, 0] = (-2, 2)
    covariances = [1 - 2 / math.sqrt(p), 1 + 2 / math.sqrt(p)]
    noise = np.random.default_rng(seed).standard_normal((n, p))
    X = (means[labels] + np.sqrt(covariances)[labels][:, None] * noise) / math.sqrt(p)
    return X, labels, means, covariances


@pytest.mark.parametrize("variant", ["population", "estimated", "label-free"])
def test_operator_norm_error_falls_like_the_square_root_of_p(variant):
    """Slope -1/2 from p = 100 to 400. One draw scatters by about 15 %, so over six draws at each end the slope has a
    standard error of about 0.15 sqrt(2/6)/log(4) = 0.06; the tolerance is four of these.
    """
    coefficients, _ = relu_coefficients()
    errors = {}
    for p in (100, 400):
        found = []
        for seed in range(6):
            X, labels, means, covariances = two_classes(p, seed)
            given = {
                "population": {"labels": labels, "means": means, "covariances": covariances},
                "estimated": {"labels": labels},
                "label-free": {},
            }[variant]
            found.append(np.linalg.norm(relu_ck(X) - equivalent_kernel(X, coefficients, tau0=1.0, **given), 2))
        errors[p] = np.mean(found)
    slope = math.log(errors[400] / errors[100]) / math.log(4)
    assert abs(slope + 0.5) < 0.24
    assert errors[400] < 0.05


def test_the_second_moments_are_not_centred():
    """On the constant vector the term in S is worth a3 n/p = 0.8 a3 at every p; centring S would leave all of it."""
    coefficients, _ = relu_coefficients()
    residuals = []
    for seed in range(4):
        X, labels, means, covariances = two_classes(400, seed)
        difference = relu_ck(X) - equivalent_kernel(
            X, coefficients, labels=labels, means=means, covariances=covariances, tau0=1.0
        )
        residuals.append(difference.sum() / len(X))
    assert abs(np.mean(residuals)) < 0.2 * coefficients.square * 0.8


# --- bad input ---


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (np.zeros(3), "two dimensions"),
        (np.zeros((2, 2, 2)), "two dimensions"),
        (np.zeros((0, 3)), "at least one sample"),
        (np.zeros((3, 0)), "at least one sample"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), "NaN or infinity in row 1"),
        (np.array([[np.inf, 2.0]]), "NaN or infinity in row 0"),
        (np.array([["a", "b"]]), "real numbers"),
        (np.array([[1j, 2.0]]), "real numbers"),
        (np.array([[object()]]), "real numbers"),
        ([[1.0, 2.0], [3.0]], "unequal length"),
    ],
)
def test_data_that_is_refused(X, says):
    with pytest.raises(DataError, match=says):
        data_matrix(X)


def test_data_comes_back_as_contiguous_float64():
    matrix = data_matrix(np.arange(6, dtype=np.uint8).reshape(2, 3).T)
    assert matrix.dtype == np.float64
    assert matrix.flags.c_contiguous


@pytest.mark.parametrize(
    ("covariance", "says"),
    [
        (-1.0, "variances >= 0"),
        ([1.0, -0.5, 1.0], "variances >= 0"),
        ([1.0, 2.0], "shape"),
        (np.eye(4), "shape"),
        (np.triu(np.ones((3, 3))), "symmetric"),
        ([1.0, np.nan, 1.0], "finite"),
        ([[1.0], [1.0, 2.0]], "real numbers"),
        ("one", "real numbers"),
    ],
)
def test_covariances_that_are_refused(covariance, says):
    with pytest.raises(DataError, match=says):
        covariance_array(covariance, 3)


def test_covariance_trace():
    assert covariance_trace(covariance_array(2.0, 3), 3) == 6.0
    assert covariance_trace(covariance_array([1, 2, 3], 3), 3) == 6.0
    assert covariance_trace(covariance_array(np.diag([1, 2, 3]), 3), 3) == 6.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": [0, 1]}, "shape"),
        ({"labels": np.zeros((8, 1), dtype=int)}, "shape"),
        ({"labels": np.zeros(8)}, "integers"),
        ({"labels": np.array([2, 0, 1, 1, 0, 2, 3, 1])}, "0 ... 2"),
        ({"labels": np.array([2, 0, 1, 1, 0, -1, 2, 1])}, "0 ... 2"),
        ({"means": None}, "both means and covariances"),
        ({"covariances": None}, "both means and covariances"),
        ({"means": np.zeros((3, 4))}, "means must have the shape"),
        ({"means": np.zeros((2, 5))}, "means must have the shape"),
        ({"means": np.full((3, 5), np.nan)}, "means must be finite"),
        ({"covariances": [1.0, 1.0, np.ones(4)]}, "the covariance of class 2"),
        ({"labels": None}, "no labels"),
        ({"means": None, "covariances": None}, "class 0 has 2 sample"),
        ({"tau0": 0.5}, "solve the model at tau0 = 1"),
        ({"tau0": 2.0}, "solve the model at tau0 = 1"),
    ],
)
def test_arguments_that_do_not_fit_together(population, change, says):
    X, labels, means, covariances = population
    given = {"labels": labels, "means": means, "covariances": covariances, "tau0": 1.0} | change
    with pytest.raises(DataError, match=says):
        equivalent_kernel(X, COEFFICIENTS, **given)


@pytest.mark.parametrize("tau0", [0.0, -1.0, math.nan, math.inf])
def test_scales_that_are_refused(population, tau0):
    with pytest.raises(InputError, match="tau0 must be a positive number"):
        equivalent_kernel(population[0], COEFFICIENTS, tau0=tau0)


@pytest.mark.parametrize("field", ["linear", "norm", "square", "diagonal"])
def test_coefficients_must_be_finite(field):
    values = {"linear": 1.0, "norm": 1.0, "square": 1.0, "diagonal": 1.0}
    with pytest.raises(InputError, match=field):
        EquivalentCoefficients(**values | {field: math.nan})
