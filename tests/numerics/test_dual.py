"""Pair duals and Hermite rows against closed forms, up to correlation one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from equikernel.numerics.dual import pair_duals
from equikernel.numerics.enclosed_moments import enclosed_moments
from equikernel.numerics.kernels.samples import scales_of
from equikernel.numerics.kernels.table import ENERGIES, HermiteTable, hermite_table
from equikernel.theory.activation import activation

RHOS = [0.0, 0.3, -0.7, 0.9, 0.9999, 1 - 1e-8, 1.0, -1.0, -(1 - 1e-12)]
SCALES = [(1.0, 1.0), (1.3, 0.2), (0.05, 4.0)]


def relu(q, r, rho):  # arc-cosine kernels [Cho & Saul]; acos loses half the digits near 1, atan2 does not
    theta = math.atan2(math.sqrt((1 - rho) * (1 + rho)), rho)
    return math.sqrt(q * r) * (math.sin(theta) + (math.pi - theta) * rho) / (2 * math.pi), (math.pi - theta) / (
        2 * math.pi
    )


def erf(q, r, rho):
    covariance = rho * math.sqrt(q * r)
    denominator = math.sqrt((1 + 2 * q) * (1 + 2 * r))
    value = 2 / math.pi * math.asin(2 * covariance / denominator)
    return value, 4 / math.pi / math.sqrt((1 + 2 * q) * (1 + 2 * r) - 4 * covariance**2)


def sin(q, r, rho):
    covariance = rho * math.sqrt(q * r)
    decay = math.exp(-(q + r) / 2)
    return decay * math.sinh(covariance), decay * math.cosh(covariance)


def exp(q, r, rho):
    value = math.exp((q + r) / 2 + rho * math.sqrt(q * r))
    return value, value


def sign(_q, _r, rho):
    return 2 / math.pi * math.atan2(rho, math.sqrt((1 - rho) * (1 + rho))), None


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize(("name", "truth"), [("relu", relu), ("erf", erf), ("sin", sin), ("exp", exp), ("sign", sign)])
def test_closed_forms(name, truth, rho, scales):
    value, slope = pair_duals(activation(name), 0.0, *scales, rho)
    expected, expected_slope = truth(*scales, rho)
    size = math.sqrt(truth(scales[0], scales[0], 1.0)[0] * truth(scales[1], scales[1], 1.0)[0])
    assert abs(value - expected) <= 4e-15 * size
    if expected_slope is None:
        assert slope is None
    else:
        slopes = math.sqrt(truth(scales[0], scales[0], 1.0)[1] * truth(scales[1], scales[1], 1.0)[1])
        # 1 - rho is only known to eps: near 1 the angle of a kink moves by sqrt(eps) at worst
        rounding = 2**-53 / math.sqrt(max(1 - abs(rho), 2**-53)) if name == "relu" else 0.0
        assert abs(slope - expected_slope) <= 4e-15 * slopes + rounding


@pytest.mark.parametrize("name", ["gelu", "hard_tanh", "where(x > 1, x - 1, where(x < -0.5, x + 0.5, 0))"])
def test_correlation_one_and_zero_are_one_dimensional(name):
    act = activation(name)
    q = np.array([0.7, 1.9])
    table = hermite_table(act)
    exact = table.energies(q).second_moment(0.2)[0]
    for variance, value in zip(q, exact, strict=True):
        assert pair_duals(act, 0.2, variance, variance, 1.0)[0] == pytest.approx(value, rel=1e-14)
    means = table.rows(q, 2)[:, 0] - 0.2
    assert pair_duals(act, 0.2, q[0], q[1], 0.0)[0] == pytest.approx(means[0] * means[1], rel=1e-13)


def test_hermite_rows_of_exp():
    q = np.array([0.3, 1.0, 2.5])
    rows = hermite_table(activation("exp")).rows(q, 30)
    k = np.arange(30)
    factorials = np.array([math.factorial(int(i)) for i in k], dtype=float)
    expected = np.exp(q / 2)[:, None] * q[:, None] ** (k / 2) / np.sqrt(factorials)
    assert np.abs(rows - expected).max() <= 3e-15 * np.exp(q.max())


def test_hermite_rows_of_relu():
    # E[relu he_k] = he_(k-2)(0)/sqrt(2 pi) in the probabilists' normalisation, orthonormalised by sqrt(k!)
    rows = hermite_table(activation("relu")).rows(np.array([1.0]), 40)[0]
    polynomials = [1.0, 0.0]
    for k in range(1, 40):
        polynomials.append(-k * polynomials[k - 1])
    for k in range(2, 40):
        expected = polynomials[k - 2] / math.sqrt(2 * math.pi * math.factorial(k))
        assert rows[k] == pytest.approx(expected, abs=2e-15)


@pytest.mark.parametrize(("name", "variance"), [("tanh", 9.0), ("tanh(5*x)", 1.0), ("softsign", 9.0)])
def test_features_narrower_than_a_panel(name, variance):
    act = activation(name)
    exact = hermite_table(act).energies(np.array([variance]))
    value, slope = pair_duals(act, 0.0, variance, variance, 1.0)
    assert value == pytest.approx(exact.second_moment(0.0)[0][0], rel=2e-14)
    assert slope == pytest.approx(exact.slope_energy[0], rel=2e-14)


@pytest.mark.parametrize("name", ["erf(relu(x)**1.5)", "abs(x)**1.5", "sqrt(abs(x))", "relu6(x)**2.5 - x"])
def test_pieces_singular_at_their_ends(name):
    act = activation(name)
    assert act.has_algebraic_breakpoints
    q = np.array([0.7, 1.9])
    table = hermite_table(act)
    for variance, value in zip(q, table.energies(q).second_moment(0.2)[0], strict=True):
        assert pair_duals(act, 0.2, variance, variance, 1.0)[0] == pytest.approx(value, rel=1e-13)
    means = table.rows(q, 2)[:, 0] - 0.2
    assert pair_duals(act, 0.2, q[0], q[1], 0.0)[0] == pytest.approx(means[0] * means[1], rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "gelu", "cos", "mish"])
def test_parseval(name):
    q = np.exp(np.linspace(-3, 0.5, 60))  # many scales: the rows are interpolated
    table = hermite_table(activation(name))
    rows, energies = table.rows(q, 256), table.energies(q)
    energy = energies.second_moment(0.0)[0]
    assert np.abs((rows**2).sum(axis=1) - energy).max() <= 1e-14 * energy.max()
    weighted = (rows**2 * np.arange(256)).sum(axis=1) / q
    assert np.abs(weighted - energies.slope_energy).max() <= 1e-12 * energies.slope_energy.max()


def test_interpolated_rows_equal_direct_rows():
    act = activation("hard_tanh")
    q = np.exp(np.linspace(-1.0, 1.0, 400))
    table = HermiteTable(act)
    interpolated = table.rows(q, 200)[[3, 211, 397]]
    for row, variance in zip(interpolated, q[[3, 211, 397]], strict=True):
        direct = table._direct(math.ceil(math.log2(variance)), np.array([variance]), 200)[0, ENERGIES:]
        assert np.abs(row - direct).max() <= 1e-14


def test_zero_variance_leaves_only_the_constant():
    scales = scales_of(hermite_table(activation("gelu")), np.array([0.0, 1.0]), 0.25)
    assert scales.means[0] == -0.25
    assert not scales.rows[0].any()
    assert scales.second_moment[0] == 0.0625
    assert scales.slope_energy[0] == pytest.approx(0.25)


def test_a_high_power_is_integrated_far_enough():
    """x^11 sin x at correlation one, from balls: its weight lies beyond ten standard deviations."""
    act = activation("x**11*sin(x)")
    moments = enclosed_moments(act, "1", 20)
    value, slope = pair_duals(act, 0.0, 1.0, 1.0, 1.0)
    assert value == pytest.approx(float(moments.V.value + moments.mean.value**2), rel=1e-14)
    assert slope == pytest.approx(float(moments.v.value), rel=1e-14)
