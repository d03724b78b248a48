"""Families of hidden weights: their algebra to rounding, their statistics to standard errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from equikernel.errors import InputError
from equikernel.theory.initialisation import FAMILIES
from equikernel.theory.initialisation_scales import scale_of
from equikernel.validation.deq.weights import draw_hidden_weights

M, DRAWS = 24, 400


@pytest.fixture(scope="module", name="drawn")
def _drawn() -> dict[str, np.ndarray]:
    return {
        family: np.array([draw_hidden_weights(np.random.default_rng(seed), M, family) for seed in range(DRAWS)])
        for family in FAMILIES
    }


def z_score(values, expected):
    """Of the mean of one number a draw."""
    return (values.mean() - expected) / (values.std(ddof=1) / math.sqrt(len(values)))


@pytest.mark.parametrize("family", FAMILIES)
def test_entries_have_mean_zero_and_variance_one(drawn, family):
    A = drawn[family]
    off = ~np.eye(M, dtype=bool)
    assert abs(z_score(A[:, off].mean(axis=1), 0.0)) < 4
    diagonal = np.diagonal(A, axis1=1, axis2=2)
    assert abs(z_score(diagonal.mean(axis=1), 0.0)) < 4
    if family != "orthogonal":  # whose sum of squares is m^2 in every draw: see the single entries below
        assert abs(z_score(np.square(A[:, off]).mean(axis=1), 1.0)) < 4
        assert abs(z_score(np.square(diagonal).mean(axis=1), 2.0 if family == "goe" else 1.0)) < 4
    for i, j in ((0, 1), (5, 3), (M - 1, 0)):
        assert abs(z_score(np.square(A[:, i, j]), 1.0)) < 4
    # another entry of the row, of the column, and an unrelated one: uncorrelated
    for other in ((0, 2), (7, 1), (9, 12)):
        assert abs(z_score(A[:, 0, 1] * A[:, other[0], other[1]], 0.0)) < 4


def test_orthogonal_matrices_are_orthogonal_and_not_of_one_sign(drawn):
    A = drawn["orthogonal"]
    product = A @ A.transpose(0, 2, 1) / M
    # Householder QR: a few m eps
    assert np.abs(product - np.eye(M)).max() <= 10 * M * np.finfo(float).eps
    # Haar: det = 1 and -1 alike; LAPACK's own Q has a sign that does not vary
    assert abs(np.linalg.det(A / math.sqrt(M)).sum()) <= 4 * math.sqrt(DRAWS)
    # Haar: E[tr Q] = 0, E[(tr Q)^2] = 1
    traces = np.trace(A, axis1=1, axis2=2) / math.sqrt(M)
    assert abs(z_score(traces, 0.0)) < 4
    assert abs(z_score(np.square(traces), 1.0)) < 4


def test_goe_is_symmetric_to_the_bit(drawn):
    A = drawn["goe"]
    assert np.array_equal(A, A.transpose(0, 2, 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_spectral_radius(family):
    m = 400
    A = draw_hidden_weights(np.random.default_rng(0), m, family)
    radius = np.abs(np.linalg.eigvals(A)).max() / math.sqrt(m)
    # finite-size corrections: none, about m^(-2/3) for GOE, about sqrt(log(m)/m)/2 for i.i.d.
    slack = {"orthogonal": 1e-12, "goe": 4 * m ** (-2 / 3), "iid": 2 * math.sqrt(math.log(m) / m)}[family]
    assert radius == pytest.approx(scale_of(family, "radius", 1), abs=slack)


def test_all_families_take_the_same_numbers_of_the_stream():
    after = []
    for family in FAMILIES:
        stream = np.random.default_rng(7)
        draw_hidden_weights(stream, 5, family)
        after.append(stream.standard_normal())
    assert len(set(after)) == 1
    stream = np.random.default_rng(7)
    assert np.array_equal(draw_hidden_weights(np.random.default_rng(7), 5), stream.standard_normal((5, 5)))


def test_unknown_families():
    with pytest.raises(InputError, match="unknown weight family 'gue': expected one of iid, orthogonal, goe"):
        draw_hidden_weights(np.random.default_rng(0), 3, "gue")
