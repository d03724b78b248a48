import math

import numpy as np
import pytest
import scipy.stats

from equikernel.errors import InputError
from equikernel.numerics.montecarlo import MonteCarloDual, dual_moments_mc
from equikernel.theory.activation import activation

ROOT_2PI = math.sqrt(2 * math.pi)


def relu_dual(q_i, q_j, lam):
    """Arc-cosine kernels of order 1 and 0 [Cho & Saul 2009]."""
    rho = min(max(lam / math.sqrt(q_i * q_j), -1.0), 1.0)
    angle = math.acos(rho)
    sine = math.sqrt((1 - rho) * (1 + rho))
    value = math.sqrt(q_i * q_j) * (sine + (math.pi - angle) * rho) / (2 * math.pi)
    return value, (math.pi - angle) / (2 * math.pi)


def sin_dual(q_i, q_j, lam):
    damping = math.exp(-(q_i + q_j) / 2)
    return damping * math.sinh(lam), damping * math.cosh(lam)


def erf_dual(q_i, q_j, lam):
    """[Williams 1996]; the slope is its derivative in lam."""
    root = math.sqrt((1 + 2 * q_i) * (1 + 2 * q_j))
    return 2 / math.pi * math.asin(2 * lam / root), 4 / math.pi / math.sqrt(root**2 - 4 * lam**2)


def identity_dual(_q_i, _q_j, lam):
    return lam, 1.0


ORACLES = {"relu": relu_dual, "sin": sin_dual, "erf": erf_dual, "identity": identity_dual}
PAIRS = [(1.0, 1.0, 0.5), (0.5, 2.0, -0.7), (1.3, 1.3, 1.3), (1.3, 1.3, -1.3), (2.0, 0.5, 1.0), (1.0, 1.0, 0.999)]


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("pair", PAIRS)
def test_closed_forms_within_the_error_bars(name, pair):
    estimate = dual_moments_mc(activation(name), *pair, 0.0, samples=2**10, seed=3)
    value, slope = ORACLES[name](*pair)
    # 48 two-sided tests at 1e-5 in all (Bonferroni), 15 degrees of freedom
    bound = scipy.stats.t.isf(1e-5 / 96, 15)
    assert abs(estimate.z(value)) < bound
    assert abs(estimate.z_slope(slope)) < bound


HONEST = [("relu", (0.5, 2.0, -0.7)), ("sin", (1.0, 1.0, 0.5)), ("erf", (1.3, 1.3, 1.3))]


@pytest.mark.parametrize(("name", "pair"), HONEST)
def test_error_bars_are_honest(name, pair):
    # the t interval at 95 % must cover in 95 % of the seeds: binomial(200, 0.95), tail probability 1e-4 on each side
    runs = 200
    quantile = scipy.stats.t.ppf(0.975, 7)
    value, slope = ORACLES[name](*pair)
    estimates = [dual_moments_mc(activation(name), *pair, 0.0, samples=2**7, replicates=8, seed=k) for k in range(runs)]
    for covered in (
        sum(abs(e.z(value)) < quantile for e in estimates),
        sum(abs(e.z_slope(slope)) < quantile for e in estimates),
    ):
        assert scipy.stats.binom.ppf(1e-4, runs, 0.95) <= covered <= scipy.stats.binom.ppf(1 - 1e-4, runs, 0.95)


def test_more_samples_shrink_the_error_faster_than_plain_monte_carlo():
    errors = [dual_moments_mc(activation("sin"), 1.0, 1.0, 0.5, 0.0, samples=2**k).value_error for k in (6, 12)]
    # 64 times the samples: plain Monte Carlo gains 8; the scatter of an error over 16 replicates is below 2
    assert errors[0] / errors[1] > 32


def test_the_centre_is_subtracted():
    m = dual_moments_mc(activation("relu"), 1.0, 1.0, 1.0, 1 / ROOT_2PI, samples=2**12)
    assert abs(m.z(0.5 - 1 / (2 * math.pi))) < scipy.stats.t.isf(1e-6, 15)


@pytest.mark.parametrize(("q_i", "q_j"), [(0.0, 1.7), (1.7, 0.0), (0.0, 0.0)])
def test_a_zero_variance_is_a_point_mass(q_i, q_j):
    m = dual_moments_mc(activation("exp"), q_i, q_j, 0.0, 0.0, samples=2**12)
    expected = math.exp((q_i + q_j) / 2)
    assert abs(m.z(expected)) < scipy.stats.t.isf(1e-6, 15)
    assert abs(m.z_slope(expected)) < scipy.stats.t.isf(1e-6, 15)


def test_jumps_have_a_value_but_no_slope():
    m = dual_moments_mc(activation("sign"), 1.0, 2.0, 0.5, 0.0, samples=2**12)
    assert abs(m.z(2 / math.pi * math.asin(0.5 / math.sqrt(2.0)))) < scipy.stats.t.isf(1e-6, 15)
    assert m.slope is None
    assert m.slope_error is None
    with pytest.raises(InputError, match="not square integrable"):
        m.z_slope(0.3)


def test_same_seed_same_bits_other_seed_other_bits():
    first, again, other = (dual_moments_mc(activation("gelu"), 1.0, 1.0, 0.3, 0.1, 2**8, seed=s) for s in (5, 5, 6))
    assert first == again
    assert first.value != other.value


def test_covariance_beyond_the_variances_by_rounding_is_the_limit():
    q = 0.1 + 0.2
    limit = dual_moments_mc(activation("tanh"), q, q, q, 0.0, 2**8)
    assert dual_moments_mc(activation("tanh"), q, q, np.nextafter(q, 1.0), 0.0, 2**8) == limit


def test_z_of_an_estimate_without_error():
    exact = MonteCarloDual(0.0, 0.0, None, None, 2)
    assert exact.z(0.0) == 0.0
    assert exact.z(1e-300) == math.inf
    assert exact.z(-1e-300) == -math.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q_i": -1.0}, "q_i must be a finite variance"),
        ({"q_j": math.nan}, "q_j must be a finite variance"),
        ({"lam": 1.001}, "lam must be a covariance"),
        ({"lam": math.nan}, "lam must be a covariance"),
        ({"samples": 1000}, "power of two"),
        ({"samples": 1}, "samples must be a whole number of at least 2"),
        ({"replicates": 1}, "replicates must be a whole number of at least 2"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": 0.5}, "seed must be a whole number of at least 0"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"q_i": 1.0, "q_j": 1.0, "lam": 0.5, "centre": 0.0} | change
    with pytest.raises(InputError, match=message):
        dual_moments_mc(activation("relu"), **arguments)
