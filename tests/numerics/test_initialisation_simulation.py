"""The formulas against matrices that are drawn, at two sizes N each; fixed seeds, z-scores.

What the experiment ``statistics`` has no case for; its own tests do the rest.

Means at size N differ from their limits by c/N. Where c is known it is subtracted; else two sizes N, 2N are combined to
2 f(2N) - f(N), which leaves O(1/N^2), below the standard errors here. |z| < 4 in each comparison: all of these together
would fail by chance about once in 200 choices of seeds.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from equikernel.numerics.initialisation import (
    InputLaw,
    iterates,
    kernel_pair,
    linear_deq,
    mean_field,
)
from equikernel.theory.initialisation_depth import tied_length

LIMIT = 4.0


def weights(family, sigma, count, size, rng):
    """``count`` matrices of one family."""
    A = rng.standard_normal((count, size, size))
    if family == "iid":
        return A * (sigma / np.sqrt(size))
    if family == "goe":
        return (A + A.swapaxes(1, 2)) * (sigma / np.sqrt(2 * size))
    q, r = np.linalg.qr(A)
    return sigma * q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]


def mean_and_error(values):
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def variance_and_error(values):
    centred = values - np.mean(values)
    variance = np.mean(centred**2)
    return variance, np.sqrt((np.mean(centred**4) - variance**2) / len(values))


def extrapolated(pairs):
    """2 f(2N) - f(N) and its standard error, from (value, error) at N and 2N."""
    (one, error_one), (two, error_two) = pairs
    return 2 * two - one, np.hypot(2 * error_two, error_one)


def z(pair, truth):
    return abs(pair[0] - truth) / pair[1]


def lengths(draw, size, count, rng, f=np.tanh, even=-1.0):
    """|z|^2/N at the fixed point z = f(W z) + x, x = 1 at odd places and ``even`` at even ones."""
    W = draw(count, size, rng)
    x = np.ones((count, size, 1))
    x[:, ::2] = even
    state = x
    for _ in range(60):
        state = f(W @ state) + x
    return np.mean(state[:, :, 0] ** 2, axis=1)


@pytest.mark.parametrize(("family", "sigma"), [("iid", 0.7), ("orthogonal", 0.7), ("goe", 0.35)])
def test_lengths_without_any_symmetry(family, sigma):
    """Softplus with x = 1: E x, E phi and E phi'' all count."""
    rng = np.random.default_rng(15)
    found = mean_field("softplus", family, sigma, InputLaw.constant(1))
    draw = partial(weights, family, sigma)
    data = {n: lengths(draw, n, 600, rng, lambda u: np.logaddexp(u, 0), even=1.0) for n in (40, 80)}
    assert z(extrapolated([mean_and_error(v) for v in data.values()]), found.mean_square) < LIMIT
    noises = [np.multiply(variance_and_error(v), size) for size, v in data.items()]
    assert z(extrapolated(noises), found.length_noise) < LIMIT


def test_relu_goe_lengths():
    rng = np.random.default_rng(10)
    found = mean_field("relu", "goe", 0.4, InputLaw.signs())
    pairs = [
        mean_and_error(lengths(partial(weights, "goe", 0.4), n, 1000, rng, lambda u: np.maximum(u, 0)))
        for n in (40, 80)
    ]
    assert z(extrapolated(pairs), found.mean_square) < LIMIT


def test_goe_kernels_of_samples_of_different_norm():
    """Gram matrix of the inputs held exactly: |x|^2 = 1, |y|^2 = 2, x.y = 1/2.

    The gradients of a^T z with respect to A are b z^T with b = D (a + sigma_a A b): their inner products are
    K(x, y) tau(B_x^T B_y), B = (I - D sigma_a A)^-1 D, and the second factor is slope/(1 - sigma_a^2 slope).
    """
    rng, sigma_a2 = np.random.default_rng(12), 0.64
    truth = kernel_pair("tanh", "goe", sigma_a2, 1.0, (1.0, 2.0, 0.5))
    expected = [truth.xx, truth.yy, truth.xy, truth.slope / (1 - sigma_a2 * truth.slope)]
    root = np.linalg.cholesky(np.array([[1.0, 0.5], [0.5, 2.0]]))
    pairs = []
    for size in (80, 160):
        A = weights("goe", 0.8, 250, size, rng)
        B = np.linalg.qr(rng.standard_normal((250, size, 2)))[0] * np.sqrt(size) @ root.T
        state = B
        for _ in range(80):
            state = np.tanh(A @ state + B)
        K = state.swapaxes(1, 2) @ state / size
        slopes = 1 - state**2
        # (I - D A)^-1 D = (D^-1 - A)^-1
        back = [np.linalg.inv(np.eye(size) / slopes[:, :, k, None] - A) for k in range(2)]
        backward = np.sum(back[0] * back[1], axis=(1, 2)) / size
        pairs.append([mean_and_error(v) for v in (K[:, 0, 0], K[:, 1, 1], K[:, 0, 1], backward)])
    for one, two, value in zip(*pairs, expected, strict=True):
        assert z(extrapolated([one, two]), value) < LIMIT


def test_medians_near_the_critical_sigma():
    """Within N^-1/2 of sigma = 1 a sampled radius may exceed 1; where moments are infinite, medians are not.

    The median of r stays within a factor of 2 of tau(P) outside the window, at sigma = 1 - 2 N^-1/2.
    """
    rng, size, count = np.random.default_rng(14), 64, 200
    W = weights("iid", 1.0, count, size, rng)
    radius = np.abs(np.linalg.eigvals(W[:60])).max(axis=1)
    assert 0.2 < np.mean(radius > 1) < 1
    sigma = 1 - 2 / np.sqrt(size)
    r = np.sum(np.linalg.inv(np.eye(size) - sigma * W)[:, :, 0] ** 2, axis=1)
    length = linear_deq("iid", sigma).length
    assert length / 2 < np.median(r) < 2 * length


def test_iterates_of_goe_weights_are_the_linear_ones():
    found = iterates("x", "goe", 0.4, InputLaw.gaussian(), 6, samples=64_000)
    truth = np.array([float(tied_length("goe", 0.16, depth)) for depth in range(7)])
    # 16 batches: Student's t with 15 degrees of freedom, 4.9 is as rare as 4 of a normal
    assert np.all(abs(found.mean_square - truth) < 4.9 * found.standard_error)


def test_iterates_without_memory():
    """Linear, and to the fixed point; increments are those of the covariance."""
    law = InputLaw.gaussian()
    found = iterates("x", "iid", 0.5, law, 6)
    truth = [float(tied_length("iid", 0.25, depth)) for depth in range(7)]
    assert found.mean_square == pytest.approx(truth, rel=1e-13)
    assert found.increments == pytest.approx([0.25 ** (t + 1) for t in range(6)], rel=1e-11)
    deep = iterates("tanh", "orthogonal", 0.5, law, 16)
    assert deep.mean_square[-1] == pytest.approx(mean_field("tanh", "iid", 0.5, law).mean_square, rel=1e-12)


def test_iterates_of_goe_weights_against_matrices():
    law = InputLaw.signs()
    found = iterates("tanh", "goe", 0.8, law, 4, samples=64_000)
    rng, data = np.random.default_rng(13), {}
    for size in (60, 120):
        W = weights("goe", 0.8, 400, size, rng)
        x = np.ones((400, size, 1))
        x[:, ::2] = -1.0
        state, rows = x, []
        for _ in range(4):
            state = np.tanh(W @ state) + x
            rows.append(mean_and_error(np.mean(state[:, :, 0] ** 2, axis=1)))
        data[size] = rows
    for t in range(4):
        value, error = extrapolated([data[60][t], data[120][t]])
        assert abs(value - found.mean_square[t + 1]) < LIMIT * np.hypot(error, found.standard_error[t + 1])
