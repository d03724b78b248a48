"""Monte Carlo against closed forms, quadrature and mpmath; its points against their definitions; its bits."""

import math

import mpmath
import numpy as np
import pytest
import scipy.stats
from scipy.special import ndtr

from equikernel.errors import AccuracyError, InputError
from equikernel.numerics.dual import pair_duals
from equikernel.numerics.montecarlo import (
    MonteCarloDual,
    dual_moments_mc,
    elementary,
    estimates,
    independent_duals,
    machine,
    nets,
    normals,
    sobol_duals,
    sums,
    threads,
)
from equikernel.numerics.montecarlo.lowering import OPERATIONS, Lines, Steps, lower
from equikernel.theory.activation import activation, registry_names

ROOT_2PI = math.sqrt(2 * math.pi)
UNIT = 2.0**-53


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


def exp_dual(q_i, q_j, lam):
    value = math.exp((q_i + q_j) / 2 + lam)
    return value, value


def identity_dual(_q_i, _q_j, lam):
    return lam, 1.0


ORACLES = {"relu": relu_dual, "sin": sin_dual, "erf": erf_dual, "exp": exp_dual, "identity": identity_dual}
PAIRS = [(1.0, 1.0, 0.5), (0.5, 2.0, -0.7), (1.3, 1.3, 1.3), (1.3, 1.3, -1.3), (2.0, 0.5, 1.0), (1.0, 1.0, 0.999)]
SAMPLERS = {
    "sobol": lambda *pair, **options: sobol_duals(*pair, **({"samples": 2**10} | options)),
    "independent": lambda *pair, **options: independent_duals(*pair, **({"samples": 2**18} | options)),
}


# -- estimates against the truth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", ORACLES)
def test_closed_forms_within_the_error_bars(name, sampler):
    estimate = SAMPLERS[sampler](activation(name), *np.array(PAIRS).T, seed=3)
    value, slope = np.array([ORACLES[name](*pair) for pair in PAIRS]).T
    # 120 two-sided tests at 1e-5 in all (Bonferroni)
    bound = scipy.stats.t.isf(1e-5 / 240, estimate.degrees)
    assert np.abs(estimate.z(value)).max() < bound
    assert np.abs(estimate.z_slope(slope)).max() < bound


INTEGRANDS = ["relu", "tanh", "gelu", "hard_tanh", "elu", "exp", "cos", "softsign", "abs", "x**3 - x"]


@pytest.fixture(scope="module")
def known():
    """Activations, variances and covariances at random, with what quadrature says."""
    generator, found = np.random.default_rng(0), []
    for k in range(400):
        phi = activation(INTEGRANDS[k % len(INTEGRANDS)])
        q_i, q_j, rho = *np.exp(generator.uniform(-1.5, 0.4, 2)), generator.uniform(-1.0, 1.0)
        found.append((phi, (q_i, q_j, rho * math.sqrt(q_i * q_j)), pair_duals(phi, 0.0, q_i, q_j, rho)))
    return found


@pytest.mark.parametrize(("sampler", "samples"), [("sobol", 2**7), ("sobol", 2**10), ("independent", 2**13)])
def test_error_bars_are_honest(sampler, samples, known):
    """Intervals miss as often as they should, over integrands and covariances, each estimate with a seed of its own."""
    scores = []
    for seed, (phi, pair, (value, slope)) in enumerate(known):
        estimate = SAMPLERS[sampler](phi, *pair, samples=samples, seed=seed)
        scores.append((abs(estimate.z(value)), abs(estimate.z_slope(slope))))
    for level in (0.2, 0.05):
        missed = np.sum(np.array(scores) > scipy.stats.t.isf(level / 2, estimate.degrees), axis=0)
        low, high = scipy.stats.binom.ppf([1e-4, 1 - 1e-4], len(known), level)
        assert low <= missed.min() <= missed.max() <= high


@pytest.mark.parametrize("pair", [(0.5, 2.0, -0.7), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("name", ["relu", "hard_tanh", "exp"])
def test_error_bars_are_honest_at_one_pair(name, pair):
    # kinks that meet the same cells of the net in all replicates, or one term that outweighs all, would show here
    runs, phi = 300, activation(name)
    q_i, q_j, lam = pair
    value, slope = pair_duals(phi, 0.0, q_i, q_j, lam / math.sqrt(q_i * q_j))
    found = [dual_moments_mc(phi, *pair, 0.0, samples=2**8, seed=k) for k in range(runs)]
    bound = scipy.stats.t.isf(0.025, 15)
    low, high = scipy.stats.binom.ppf([1e-4, 1 - 1e-4], runs, 0.05)
    assert low <= sum(abs(e.z(value)) > bound for e in found) <= high
    assert low <= sum(abs(e.z_slope(slope)) > bound for e in found) <= high


def test_more_samples_shrink_the_error_faster_than_plain_monte_carlo():
    errors = [dual_moments_mc(activation("sin"), 1.0, 1.0, 0.5, 0.0, samples=2**k).value_error for k in (6, 12)]
    # 64 times the samples: plain Monte Carlo gains 8; the scatter of an error over 16 replicates is below 2
    assert errors[0] / errors[1] > 32


def test_the_two_samplers_agree():
    pair = (1.2, 0.7, 0.4)
    a, b = sobol_duals(activation("mish"), *pair), independent_duals(activation("mish"), *pair)
    # errors of 1e-7 and 3e-4: only one of them counts, and the slope's likewise
    assert abs(b.z(a.value)) < 5.0
    assert abs(b.z_slope(a.slope)) < 5.0
    assert a.value_error < b.value_error / 100


def test_the_centre_is_subtracted():
    m = dual_moments_mc(activation("relu"), 1.0, 1.0, 1.0, 1 / ROOT_2PI, samples=2**12)
    assert abs(m.z(0.5 - 1 / (2 * math.pi))) < scipy.stats.t.isf(1e-6, 15)
    many = sobol_duals(activation("relu"), 1.0, 1.0, 1.0, centre=[0.0, 1 / ROOT_2PI], samples=2**12)
    assert many.value[1] == m.value
    assert many.slope[0] == many.slope[1] == m.slope


@pytest.mark.parametrize(("q_i", "q_j"), [(0.0, 1.7), (1.7, 0.0), (0.0, 0.0)])
def test_a_zero_variance_is_a_point_mass(q_i, q_j):
    m = dual_moments_mc(activation("exp"), q_i, q_j, 0.0, 0.0, samples=2**12)
    expected = math.exp((q_i + q_j) / 2)
    assert abs(m.z(expected)) < scipy.stats.t.isf(1e-6, 15)
    assert abs(m.z_slope(expected)) < scipy.stats.t.isf(1e-6, 15)
    plain = independent_duals(activation("cos"), q_i, q_j, 0.0, samples=2**12)
    assert abs(plain.z(1 / expected)) < scipy.stats.norm.isf(1e-6)
    # at a breakpoint the value is phi's own, here 0, and not that of a piece
    assert dual_moments_mc(activation("sign"), 0.0, 1.0, 0.0, 0.0, samples=2**6).value == 0.0


def test_jumps_have_a_value_but_no_slope():
    m = dual_moments_mc(activation("sign"), 1.0, 2.0, 0.5, 0.0, samples=2**12)
    assert abs(m.z(2 / math.pi * math.asin(0.5 / math.sqrt(2.0)))) < scipy.stats.t.isf(1e-6, 15)
    assert m.slope is None
    assert m.slope_error is None
    with pytest.raises(InputError, match="not square integrable"):
        m.z_slope(0.3)


def test_a_rare_jump_is_seen_because_the_points_are_spread_wider():
    m = dual_moments_mc(activation("heaviside(x - 4)"), 1.0, 1.0, 1.0, 0.0, samples=2**10)
    rare = float(ndtr(-4.0))
    # 2^14 points of N(0, 1) would see half an event on average; of N(0, 2), 38
    assert m.value > 0.0
    assert abs(m.z(rare)) < scipy.stats.t.isf(1e-5, 15)


def test_what_never_varied_gets_the_rule_of_three():
    constant = independent_duals(activation("sign"), 1.0, 1.0, 1.0, samples=1000)
    assert constant.value == 1.0
    assert constant.value_error == pytest.approx(3 / 1000, rel=1e-10)


def test_standard_errors_are_the_textbooks():
    terms = np.random.default_rng(1).normal(0.3, 1.0, (16, 100))
    mean, error = estimates.independent_estimate(np.array([[terms.sum(), (terms**2).sum(), 0.0]]), terms.size)
    # sums of 1600 terms of size one, and a difference of them
    assert mean[0] == pytest.approx(terms.mean(), rel=1e-12)
    assert error[0] == pytest.approx(scipy.stats.sem(terms.ravel()), rel=1e-12)
    sums_ = np.stack([terms.sum(axis=1), (terms**2).sum(axis=1), np.abs(terms).sum(axis=1)], axis=-1)[:, None]
    mean, error = estimates.replicated_estimate(sums_, 100)
    assert mean[0] == pytest.approx(terms.mean(), rel=1e-12)
    assert error[0] == pytest.approx(scipy.stats.sem(terms.mean(axis=1)), rel=1e-12)


def test_an_exact_estimate_allows_no_difference():
    m = MonteCarloDual(0.0, 0.0, 0.0, 0.0, 16)
    assert m.z(0.0) == 0.0
    assert m.z(1e-300) == math.inf
    assert m.z_slope(-1e-300) == -math.inf


# -- bits --------------------------------------------------------------------------------------------------------------


def _numbers(estimate):
    return np.stack([estimate.value, estimate.value_error, estimate.slope, estimate.slope_error])


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_the_same_bits_for_any_number_of_threads_and_any_order_of_the_parts(name, monkeypatch):
    def computed():
        nets._kept.cache_clear()
        sobol = sobol_duals(activation(name), *pair, samples=2**13, seed=5)
        return _numbers(sobol), _numbers(independent_duals(activation(name), *pair, samples=2**18 + 999, seed=5))

    def backwards(task, count, _terms):
        for k in reversed(range(count)):
            task(k)

    pair = np.array(PAIRS[:2]).T
    monkeypatch.setattr(threads, "_WORTH_THREADS", 0)
    monkeypatch.setattr(threads.numba, "get_num_threads", lambda: 1)
    expected = computed()
    for number in (2, 5):
        monkeypatch.setattr(threads.numba, "get_num_threads", lambda n=number: n)
        assert all(np.array_equal(a, b) for a, b in zip(computed(), expected, strict=True))
    for module in (nets, sums):
        monkeypatch.setattr(module, "in_threads", backwards)
    assert all(np.array_equal(a, b) for a, b in zip(computed(), expected, strict=True))


def test_large_sets_of_points_are_made_in_parts_and_give_the_same_bits(monkeypatch):
    whole = sobol_duals(activation("tanh"), *PAIRS[0], samples=2**8, replicates=5)
    monkeypatch.setattr(nets, "_BATCH_BYTES", 2 * 12 * 2**8)
    assert [batch.shape for batch in nets.net_batches(2**8, 5, 0)] == [(2, 3, 2**8), (2, 3, 2**8), (1, 3, 2**8)]
    parts = sobol_duals(activation("tanh"), *PAIRS[0], samples=2**8, replicates=5)
    assert np.array_equal(_numbers(whole), _numbers(parts))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_estimate_does_not_depend_on_the_other_pairs(sampler):
    q_i, q_j, lam = np.array(PAIRS).T.reshape(3, 2, 3)
    many = SAMPLERS[sampler](activation("elu"), q_i, q_j, lam, samples=2**9)
    assert many.value.shape == (2, 3)
    one = SAMPLERS[sampler](activation("elu"), q_i[1, 2], q_j[1, 2], lam[1, 2], samples=2**9)
    assert one.value.shape == ()
    assert np.array_equal(_numbers(one), _numbers(many)[:, 1, 2])
    without = SAMPLERS[sampler](activation("elu"), q_i[1, 2], q_j[1, 2], lam[1, 2], samples=2**9, slope=False)
    assert without.slope is None
    assert without.value == one.value


def test_same_seed_same_bits_other_seed_other_bits():
    first, again, other = (dual_moments_mc(activation("gelu"), 1.0, 1.0, 0.3, 0.1, 2**8, seed=s) for s in (5, 5, 6))
    assert first == again
    assert first.value != other.value


def test_more_replicates_keep_the_first_ones():
    few, many = (next(nets.net_batches(2**6, replicates, 1)) for replicates in (3, 8))
    assert np.array_equal(few, many[:3])


# -- points ------------------------------------------------------------------------------------------------------------

COUNT = 2**20


@pytest.fixture(scope="module")
def pairs_of_normals():
    a, b = np.empty((2, COUNT))
    normals.fill_normals(normals.stream_keys(12, 0, 1)[0], 0, a, b)
    return a, b


def test_pairs_are_functions_of_their_number(pairs_of_normals):
    a, b = np.empty((2, 1000))
    normals.fill_normals(normals.stream_keys(12, 0, 1)[0], 777, a, b)
    assert np.array_equal(a, pairs_of_normals[0][777:1777])
    assert np.array_equal(b, pairs_of_normals[1][777:1777])


def test_normals_are_normal(pairs_of_normals):
    a, b = pairs_of_normals
    level = 1e-6  # a test; there are fewer than 100
    bound = scipy.stats.norm.isf(level / 2) / math.sqrt(COUNT)
    for x in (a, b):
        assert scipy.stats.kstest(x, "norm").pvalue > level
        # moments of order k have variance (2k-1)!! - ((k-1)!!)^2
        for k, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
            assert abs(np.mean(x**k) - expected) < bound * math.sqrt(variance)
        beyond = int(np.sum(np.abs(x) > 4.0))
        assert scipy.stats.binomtest(beyond, COUNT, 2 * float(ndtr(-4.0))).pvalue > level
    assert scipy.stats.kstest((a**2 + b**2) / 2, "expon").pvalue > level
    assert scipy.stats.kstest(np.arctan2(b, a) / (2 * math.pi) + 0.5, "uniform").pvalue > level


def test_normals_are_independent(pairs_of_normals):
    a, b = pairs_of_normals
    other = np.empty((2, COUNT))
    normals.fill_normals(normals.stream_keys(13, 0, 1)[0], 0, other[0], other[1])
    bound = scipy.stats.norm.isf(1e-6 / 2)
    for x, y in ((a, b), (a[1:], a[:-1]), (a[1:], b[:-1]), (b[1:], b[:-1]), (a, other[0]), (a, other[1])):
        assert abs(np.corrcoef(x, y)[0, 1]) * math.sqrt(len(x)) < bound
        assert abs(np.corrcoef(x**2, y**2)[0, 1]) * math.sqrt(len(x)) < bound
        cells = np.histogram2d(ndtr(x), ndtr(y), bins=16, range=[[0, 1], [0, 1]])[0]
        assert scipy.stats.chisquare(cells.ravel()).pvalue > 1e-6


def test_random_bits_are_balanced():
    key = normals.stream_keys(3, 0, 1)[0]
    words = np.array([normals.random_bits(key, np.uint64(n)) for n in range(4096)], dtype=np.uint64)
    ones = [int(np.sum((words >> np.uint64(k)) & np.uint64(1))) for k in range(64)]
    low, high = scipy.stats.binom.ppf([1e-7, 1 - 1e-7], 4096, 0.5)
    assert low <= min(ones) <= max(ones) <= high


def test_unit_numbers_are_the_middles_of_their_cells():
    bits = [0, 2**12 - 1, 2**12, 2**63, 2**64 - 1]
    expected = [(b >> 12) * 2.0**-52 + UNIT for b in bits]
    assert [elementary.unit_number(np.uint64(b)) for b in bits] == expected
    assert 0.0 < expected[0] < expected[-1] < 1.0


def test_the_net_is_sobols():
    m = 9
    sobol = scipy.stats.qmc.Sobol(2, scramble=False).random(2**m)
    digits = {(int(x * 2**m), int(y * 2**m)) for x, y in sobol}
    assert digits == set(enumerate(nets._second_digits(2**m).tolist()))


def test_scrambles_are_nested_and_leave_one_point_in_every_cell():
    m = 9
    tables = np.empty((2, 2**m), dtype=np.uint32)
    for table, key in zip(tables, normals.stream_keys(8, 1, 2), strict=True):
        nets._nested_scramble(key, table)
        for d in range(1, m + 1):  # the first d digits of the image are a permutation of the first d digits
            leading = table.reshape(2**d, -1) >> (m - d)
            assert (leading == leading[:, :1]).all()
            assert sorted(leading[:, 0]) == list(range(2**d))
    assert not np.array_equal(*tables)
    x, y = tables[0], tables[1][nets._second_digits(2**m)]
    for d in range(m + 1):
        cells = set(zip((x >> d).tolist(), (y >> (m - d)).tolist(), strict=True))
        assert len(cells) == 2**m


def test_every_node_of_a_scramble_flips_as_often_as_not():
    tables = np.empty((2000, 8), dtype=np.uint32)
    for table, key in zip(tables, normals.stream_keys(4, 1, 2000), strict=True):
        nets._nested_scramble(key, table)
    # 2^7 scrambles of three digits, all equally likely
    counts = np.unique(tables, axis=0, return_counts=True)[1]
    assert len(counts) == 2**7
    assert scipy.stats.chisquare(counts).pvalue > 1e-6


def test_points_and_weights_are_of_the_two_gaussians():
    m, replicates = 2, 2**10
    points = next(nets.net_batches(2**m, replicates, 2)).astype(np.float64)
    a, b, weight = points.transpose(1, 0, 2)
    # the ratio 2 exp(-r^2/4) of the densities of N(0, I) and N(0, 2 I), for points and weights rounded to 2^-24
    square = a * a + b * b
    assert (np.abs(weight / (2 * np.exp(-square / 4)) - 1) <= (1 + square / 2) * 1.001 * 2.0**-24).all()
    # back to the unit square, the rotation undone: one point in every quarter of x and in every quarter of y
    turn = normals.stream_keys(2, nets._PURPOSE, 4 * replicates).reshape(-1, 4)[:, 3:] * 2.0**-64
    x, y = weight / 2 * 2**m, (np.arctan2(b, a) / (2 * math.pi) - turn) % 1.0 * 2**m
    for z in (x, y):
        assert np.array_equal(np.sort(z.astype(int), axis=1), np.tile(np.arange(2**m), (replicates, 1)))
        assert scipy.stats.kstest((z % 1.0).ravel(), "uniform").pvalue > 1e-6
    assert scipy.stats.kstest(turn.ravel(), "uniform").pvalue > 1e-6
    # scrambles and tails of x and y have nothing to do with each other
    table = np.histogram2d(x[:, 0], y[:, 0], bins=2**m, range=[[0, 2**m]] * 2)[0]
    assert scipy.stats.chisquare(table.ravel()).pvalue > 1e-6
    bound = scipy.stats.norm.isf(1e-6 / 2) / math.sqrt(x.size)
    assert abs(np.corrcoef((x % 1.0).ravel(), (y % 1.0).ravel())[0, 1]) < bound


# -- functions ---------------------------------------------------------------------------------------------------------

WIDE = np.concatenate([s * np.geomspace(1e-15, 600.0, 400) for s in (-1, 1)] + [np.linspace(-9, 9, 400)])
POSITIVE = np.concatenate([np.geomspace(1e-300, 1e300, 400), np.linspace(0.4, 2.5, 400)])
# argument, mpmath's function, and units of 2^-53 relative
ACCURACY = {
    "exp": (WIDE, mpmath.exp, 4),
    "expm1": (WIDE, mpmath.expm1, 6),
    "sigmoid": (WIDE, lambda x: 1 / (1 + mpmath.exp(-x)), 6),
    "log": (POSITIVE, mpmath.log, 4),
    "log1p": (np.concatenate([POSITIVE, -np.geomspace(1e-15, 0.999, 400)]), mpmath.log1p, 8),
    "softplus": (WIDE, lambda x: mpmath.log1p(mpmath.exp(x)), 8),
    "log_cosh": (WIDE, lambda x: mpmath.log(mpmath.cosh(x)), 12),
    "tanh": (WIDE, mpmath.tanh, 8),
    "sech2": (WIDE[np.abs(WIDE) < 350], lambda x: mpmath.sech(x) ** 2, 8),
    "sinh": (WIDE, mpmath.sinh, 8),
    "cosh": (WIDE, mpmath.cosh, 6),
    "asinh": (WIDE, mpmath.asinh, 8),
    "erf": (WIDE, mpmath.erf, 6),
    "erfc": (WIDE[WIDE < 26], mpmath.erfc, 8),
    "sin": (WIDE * 1000, mpmath.sin, 8),
    "cos": (WIDE * 1000, mpmath.cos, 8),
    "tan": (WIDE * 1000, mpmath.tan, 12),
    "atan": (WIDE * 1000, mpmath.atan, 8),
    "sqrt": (POSITIVE, mpmath.sqrt, 1),
}
assert set(ACCURACY) | {"add", "mul", "div", "neg", "powr"} == set(OPERATIONS)


def _run(operation, x, y=0.0):
    """One operation on rows x and y, by the machine."""
    code = OPERATIONS.index(operation)
    second = 0 if operation in ACCURACY or operation == "neg" else 1
    table = Steps(np.array([]), np.array([y]), np.array([[code, 0, second, 2]]), np.array([[2, 2]]), 7)
    rows = np.empty((7, len(x)))
    rows[0], rows[1] = x, y
    return rows[machine._evaluate(table, False, rows)[0]]


@pytest.mark.parametrize("operation", ACCURACY)
def test_elementary_functions_to_a_few_units_of_the_last_place(operation):
    x, function, units = ACCURACY[operation]
    got = _run(operation, x)
    with mpmath.workdps(60):
        for point, value in zip(x.tolist(), got.tolist(), strict=True):
            exact = function(mpmath.mpf(point))
            # exp(-x^2) carries the rounding of x^2
            allowed = units + (2 * point**2 if operation == "erfc" and point > 0 else 0)
            assert abs(value - exact) <= allowed * UNIT * abs(exact), point


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("exp", (math.inf, 0.0)),
        ("expm1", (math.inf, -1.0)),
        ("sigmoid", (1.0, 0.0)),
        ("log1p", (math.inf, math.nan)),
        ("softplus", (math.inf, 0.0)),
        ("log_cosh", (math.inf, math.inf)),
        ("tanh", (1.0, -1.0)),
        ("sech2", (0.0, 0.0)),
        ("sinh", (math.inf, -math.inf)),
        ("cosh", (math.inf, math.inf)),
        ("erf", (1.0, -1.0)),
        ("erfc", (0.0, 2.0)),
        ("atan", (math.pi / 2, -math.pi / 2)),
    ],
)
def test_elementary_functions_at_infinity(operation, expected):
    got = _run(operation, np.array([math.inf, -math.inf, math.nan]))
    assert np.allclose(got, (*expected, math.nan), rtol=2 * UNIT, atol=0.0, equal_nan=True)


def test_logarithms_at_and_below_zero():
    assert _run("log", np.array([0.0, -1.0, math.inf])).tolist()[::2] == [-math.inf, math.inf]
    assert np.isnan(_run("log", np.array([-1.0]))).all()
    assert _run("log1p", np.array([-1.0])).tolist() == [-math.inf]
    assert _run("powr", np.array([0.0]), 1.5).tolist() == [0.0]


@pytest.mark.parametrize("exponent", [0.3, 1.5, 7.25])
def test_powers(exponent):
    x = POSITIVE[(POSITIVE > 1e-30) & (POSITIVE < 1e30)]
    with mpmath.workdps(40):
        exact = [mpmath.mpf(b) ** mpmath.mpf(exponent) for b in x.tolist()]
        gaps = [float(abs(g / e - 1)) for g, e in zip(_run("powr", x, exponent).tolist(), exact, strict=True)]
    # the logarithm's rounding, c |log b| (1 + 2) units, and the exponential's
    assert (np.array(gaps) <= (4 + 3 * exponent * np.abs(np.log(x))) * UNIT).all()


def test_circle_points():
    words = normals.stream_keys(1, 0, 2000).tolist() + [k << 61 for k in range(8)] + [2**64 - 1]
    with mpmath.workdps(40):
        for word in words:
            cosine, sine = elementary.circle_point(np.uint64(word))
            # the angle is that of the middle of a cell of 2^-55 turns
            angle = mpmath.pi * (2 * (word >> 9) + 1) / mpmath.mpf(2) ** 55
            assert abs(cosine - mpmath.cos(angle)) <= 4 * UNIT * abs(mpmath.cos(angle))
            assert abs(sine - mpmath.sin(angle)) <= 4 * UNIT * abs(mpmath.sin(angle))


EXPRESSIONS = [
    "abs(x)**1.5",
    "x**7 - x**2",
    "sqrt(1 + x**2)*log(2 + x**2)",
    "where(x > 1, 2*x - 1, where(x < -0.5, exp(x), x**2))",
    "relu(x) - relu(x - 1) + 2*relu(x + 2) - relu(x - 3) + relu(x - 4)",
    "sinh(x)/(1 + cosh(x))",
    "sin(1000000*x)",
]


@pytest.mark.parametrize("name", [*registry_names(), *EXPRESSIONS])
def test_compiled_functions_are_the_activations_own(name):
    phi = activation(name)
    x = np.concatenate([np.random.default_rng(0).normal(0.0, 2.0, 300), [-30.0, 30.0]])
    sums_, points = np.zeros((1, 6)), np.ones((3, 1))
    for point in x.tolist():
        # one point of weight 1, u = v = x: the sums are phi(x)^2 and phi'(x)^2
        points[0], sums_[:] = point, 0.0
        row = np.array([[1.0, 1.0, 0.0, 0.0]])
        tables = lower(phi, True)
        (machine.add_lines if isinstance(tables, Lines) else machine.add_steps)(tables, True, row, points, sums_)
        expected, slope = phi.function("numpy")(point), phi.derivative("numpy")(point)
        # a rounding of x moves phi by |x phi'|, and a difference such as x - tanh(x) has the rounding of its terms
        allowed = 64 * UNIT * (abs(expected) + abs(point * slope) + abs(point))
        assert abs(math.sqrt(sums_[0, 0]) - abs(expected)) <= allowed, point
        assert abs(math.sqrt(sums_[0, 3]) - abs(slope)) <= allowed + 64 * UNIT * (1 + abs(slope)), point


def test_piecewise_linear_activations_are_lines():
    assert lower(activation("hard_tanh"), True)[:3] == ((-1.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 1.0))
    assert isinstance(lower(activation("identity"), True), Lines)
    assert isinstance(lower(activation("sign"), False), Lines)
    assert isinstance(lower(activation("relu(x)**2"), False), Steps)


# -- other activations -------------------------------------------------------------------------------------------------


class Tanh:
    def function(self, arithmetic):
        assert arithmetic == "numpy"
        return np.tanh

    def derivative(self, _arithmetic):
        return lambda x: 1.0 - np.tanh(x) ** 2


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_any_object_with_numpy_functions(sampler):
    pairs = np.array(PAIRS).T
    ours = SAMPLERS[sampler](activation("tanh"), *pairs, samples=2**10)
    theirs = SAMPLERS[sampler](Tanh(), *pairs, samples=2**10)
    # the same points: what differs is the rounding of tanh and of the sums
    assert np.abs(ours.value - theirs.value).max() < 1e-14
    assert np.abs(ours.slope - theirs.slope).max() < 1e-14


def test_a_function_of_the_wrong_shape_is_refused():
    class Scalar(Tanh):
        def function(self, _arithmetic):
            return lambda x: 1.0

    with pytest.raises(InputError, match="of the shape of its argument"):
        sobol_duals(Scalar(), 1.0, 1.0, 0.5, samples=2**6)


def test_what_overflows_is_computed_with_care_or_refused():
    # inf/inf in plain float64 where x > 709, which happens
    m = sobol_duals(activation("(1 + exp(x))/(2 + exp(x))"), 6e4, 6e4, 6e4, samples=2**6, replicates=4)
    tau = math.sqrt(6e4)

    def mean_square(function):
        edges = [-2500, -500, -40, 0, 40, 500, 2500]
        return float(mpmath.quad(lambda x: function(x) ** 2 * mpmath.npdf(x, 0, tau), edges))

    bound = scipy.stats.t.isf(1e-5, 3)
    assert abs(m.z(mean_square(lambda x: 1 - 1 / (2 + mpmath.exp(x))))) < bound
    assert abs(m.z_slope(mean_square(lambda x: mpmath.exp(x) / (2 + mpmath.exp(x)) ** 2))) < bound
    with pytest.raises(AccuracyError, match=r"variances 1e\+06 and 1e\+06"):
        sobol_duals(activation("exp"), 1e6, 1e6, 0.0, samples=2**6)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q_i": -1.0}, "q_i must be a finite variance"),
        ({"q_j": math.nan}, "q_j must be a finite variance"),
        ({"lam": 1.001}, "lam must be a covariance"),
        ({"lam": math.nan}, "lam must be a covariance"),
        ({"centre": math.inf}, "centre must be finite"),
        ({"q_i": "1"}, "q_i must be a real number"),
        ({"q_i": 1j}, "q_i must be a real number"),
        ({"q_i": [1.0, -2.0]}, r"got -2.0 at index \(1,\)"),
        ({"q_i": [1.0, 2.0], "q_j": [1.0, 2.0, 3.0]}, "shapes that broadcast"),
        ({"samples": 1000}, "power of two"),
        ({"samples": 2**25}, r"at most 2\^24"),
        ({"samples": 1}, "samples must be a whole number of at least 2"),
        ({"replicates": 1}, "replicates must be a whole number of at least 2"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": 0.5}, "seed must be a whole number of at least 0"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"q_i": 1.0, "q_j": 1.0, "lam": 0.5, "centre": 0.0} | change
    with pytest.raises(InputError, match=message):
        sobol_duals(activation("relu"), **arguments)


def test_a_stream_has_an_end():
    with pytest.raises(InputError, match=r"at most 2\^40"):
        independent_duals(activation("relu"), 1.0, 1.0, 0.5, samples=2**41)


def test_no_pairs():
    none = sobol_duals(activation("relu"), np.zeros((0, 3)), 1.0, 0.0)
    assert none.value.shape == none.slope_error.shape == (0, 3)


def test_pairs_beyond_one_batch(monkeypatch):
    from equikernel.numerics.montecarlo import duals

    lam = np.linspace(-1.0, 1.0, 7)
    whole = sobol_duals(activation("relu"), 1.0, 1.0, lam, samples=2**6)
    monkeypatch.setattr(duals, "_AT_ONCE", 3)
    assert np.array_equal(_numbers(sobol_duals(activation("relu"), 1.0, 1.0, lam, samples=2**6)), _numbers(whole))
