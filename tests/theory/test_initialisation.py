"""Linear DEQs at initialisation: oracles, identities, every arithmetic, and Weyl's integration formula."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy as sp
from flint import arb, ctx

from equikernel.errors import InputError
from equikernel.theory.equations import implicit_ck_coefficients
from equikernel.theory.initialisation import (
    DIVERGENCE,
    FAMILIES,
    haar_length,
    haar_length_variance,
    haar_square,
    haar_trace_variance,
    kernel_mean,
    kernel_noise,
    length_noise,
    length_variance,
    linear_statistics,
    noise_at_length,
)
from equikernel.theory.initialisation_depth import (
    depth_error,
    tied_length,
    tied_noise,
    tied_square,
    untied_length,
    untied_noise,
)
from equikernel.theory.initialisation_kernel import symmetric_ck_coefficients
from equikernel.theory.initialisation_nonlinear import relu_goe
from equikernel.theory.initialisation_scales import MATCHES, matched_sigma, scale_of

s = sp.Symbol("s", positive=True)


def printed(value: object, text: str) -> None:
    """The value rounds to the printed decimal."""
    places = len(text.split(".")[1])
    assert abs(mpmath.mpf(value) - mpmath.mpf(text)) <= mpmath.mpf("0.5000001") * mpmath.mpf(10) ** -places


@pytest.mark.parametrize(
    ("family", "sigma", "length", "noise"),
    [
        ("iid", "0.8", "2.777778", "103.642737"),
        ("orthogonal", "0.8", "2.777778", "54.869684"),
        ("goe", "0.4", "2.083333", "17.039609"),
        ("goe", "0.49", "8.382318", "6268.499454"),
    ],
)
def test_oracles_of_linear_deqs(family, sigma, length, noise):
    found = linear_statistics(family, mpmath.mpf(sigma) ** 2, mpmath.sqrt)
    printed(found.length, length)
    printed(found.length_noise, noise)


@pytest.mark.parametrize(
    ("size", "mean", "variance"),
    [
        (1, "12.654321", "152.415790"),
        (2, "7.716049", "76.207895"),
        (5, "4.753086", "23.794282"),
        (40, "3.024691", "1.659155"),
    ],
)
def test_oracles_of_haar_weights(size, mean, variance):
    printed(haar_length(size, sp.Rational(16, 25)), mean)
    printed(haar_length_variance(size, sp.Rational(16, 25)), variance)


@pytest.mark.parametrize(
    ("family", "sigma", "mean", "noise", "untied"),
    [
        ("iid", "0.7", "1.847749", "11.578903", "5.926182"),
        ("orthogonal", "0.8", "2.311744", "16.209419", "7.396137"),
        ("goe", "0.4", "1.654080", "5.366041", "1.508779"),
    ],
)
def test_oracles_of_three_iterations(family, sigma, mean, noise, untied):
    square = sp.Rational(sigma) ** 2
    printed(tied_length(family, square, 3), mean)
    printed(tied_noise(family, square, 3), noise)
    printed(untied_noise(family, square, 3), untied)
    if family == "goe":
        printed(untied_length(square, 3), "1.189696")
    else:
        assert untied_length(square, 3) == tied_length(family, square, 3)


def test_goe_is_as_the_specification_writes_it():
    """The forms without cancellation are those of the table."""
    S = sp.Symbol("S", positive=True)
    square = (1 - S**2) / 4
    found = linear_statistics("goe", square, lambda argument: sp.sqrt(sp.expand(argument)))
    expected = {
        "length": 2 / (S * (1 + S)),
        "length_noise": 2 * (1 - S) * (4 * S**2 + 3 * S + 1) / (S**5 * (1 + S) ** 2),
        "trace_noise": (1 - S**2) * (9 - S**2) / (4 * S**8),
        "length_correction": (1 + 4 * square) / (2 * S**4) - 1 / (2 * S**3),
        "square": S**-5,
        "overlap": (1 - S) / (2 * square),
    }
    for name, value in expected.items():
        assert sp.simplify(getattr(found, name) - value) == 0, name


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_is_twice_the_excess_of_the_square(family):
    found = linear_statistics(family, s, sp.sqrt)
    assert sp.simplify(found.length_noise - length_noise(found.length, found.square)) == 0
    assert (
        sp.simplify(
            noise_at_length(family, found.length, sp.sqrt).subs(s, sp.Rational(3, 25))
            - (found.length_noise.subs(s, sp.Rational(3, 25)))
        )
        == 0
    )
    cosine = sp.Symbol("c")
    assert kernel_mean(cosine, found.length) == cosine * found.length
    assert sp.simplify(kernel_noise(1, found.length, found.square) - found.length_noise) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_divergence_exponents(family):
    """eps^k times the statistic has a limit that is neither 0 nor infinite."""
    eps = sp.Symbol("eps", positive=True)
    at = {"iid": 1 - eps, "orthogonal": 1 - eps, "goe": (1 - eps) / 4}[family]
    found = linear_statistics(family, at, lambda argument: sp.sqrt(sp.expand(argument)))
    exponents = DIVERGENCE[family]
    for value, exponent in (
        (found.length, exponents.length),
        (found.length_noise, exponents.length_noise),
        (found.length_noise / found.length**2, exponents.relative),
    ):
        limit = sp.limit(sp.powsimp(value * eps ** sp.Rational(str(exponent))), eps, 0)
        assert limit.is_finite
        assert limit > 0


def test_goe_fluctuates_most_beyond_a_length():
    def gap(length):
        return noise_at_length("goe", length, mpmath.sqrt) - noise_at_length("iid", length, mpmath.sqrt)

    crossing = mpmath.findroot(gap, 21)
    printed(crossing, "21.0498")
    assert gap(crossing - 1) < 0 < gap(crossing + 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_arithmetic_agrees(family):
    truth = linear_statistics(family, sp.Rational(9, 100), sp.sqrt)
    found = {
        "float": linear_statistics(family, 0.09, math.sqrt),
        "mpmath": linear_statistics(family, mpmath.mpf("0.09"), mpmath.sqrt),
    }
    arrays = linear_statistics(family, np.array([0.09, 0.16]), np.sqrt)
    with ctx.workprec(120):
        balls = linear_statistics(family, arb(9) / 100, lambda a: a.sqrt())
        for name, expected in vars(truth).items():
            value = float(expected)
            for arithmetic, statistics in found.items():
                assert float(getattr(statistics, name)) == pytest.approx(value, rel=1e-14), (arithmetic, name)
            assert getattr(arrays, name)[0] == pytest.approx(value, rel=1e-14)
            ball = getattr(balls, name)
            assert ball.overlaps(arb(int(expected.p)) / int(expected.q))  # S = 4/5: all are rational
            assert ball.rad() < 1e-30


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_in_every_arithmetic(family):
    exact = sp.Rational(4, 25)
    for function in (tied_length, tied_square, untied_noise):
        value = float(function(family, exact, 4))
        assert float(function(family, mpmath.mpf("0.16"), 4)) == pytest.approx(value, rel=1e-14)
        assert function(family, np.array([0.16]), 4)[0] == pytest.approx(value, rel=1e-14)
        assert float(function(family, arb(4) / 25, 4).mid()) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_zero_and_one_by_hand(family):
    """z_1 = x + W x: r = 1 + 2 x.Wx + |Wx|^2."""
    assert tied_length(family, s, 0) == 1
    assert sp.expand(tied_noise(family, s, 0)) == 0
    assert sp.expand(tied_length(family, s, 1)) == 1 + s
    by_hand = {"iid": 4 * s + 2 * s**2, "orthogonal": 4 * s, "goe": 8 * s + 2 * s**2}[family]
    assert sp.expand(tied_noise(family, s, 1) - by_hand) == 0
    assert sp.expand(untied_noise(family, s, 1) - by_hand) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_tends_to_the_fixed_point(family):
    square = mpmath.mpf("0.04")
    limit = linear_statistics(family, square, mpmath.sqrt)
    assert abs(tied_length(family, square, 40) - limit.length) < 1e-14
    assert abs(tied_noise(family, square, 40) - limit.length_noise) < 1e-12


def test_depth_error_of_goe_is_its_series():
    with mpmath.workdps(60):
        square = mpmath.mpf("0.16")
        for depth in (0, 1, 5):
            series = mpmath.nsum(
                lambda j, depth=depth: (
                    (2 * j + 1)
                    * square ** (depth + 1 + j)
                    * mpmath.binomial(2 * (depth + 1 + j), depth + 1 + j)
                    / (depth + 2 + j)
                ),
                [0, mpmath.inf],
            )
            assert abs(depth_error("goe", square, depth, mpmath.sqrt) - series) < mpmath.mpf(10) ** -15


@pytest.mark.parametrize("family", ["iid", "orthogonal"])
def test_depth_error_without_memory(family):
    assert depth_error(family, s, 3, sp.sqrt) == s**4 / (1 - s)


def angles(size: int) -> list[tuple[list[float], int, tuple[int, int]]]:
    """Components of O(N): (eigenvalues +-1, number of angles, exponents of 1 - cos and 1 + cos in the density)."""
    if size % 2:
        return [([1.0], size // 2, (1, 0)), ([-1.0], size // 2, (0, 1))]
    return [([], size // 2, (0, 0)), ([1.0, -1.0], size // 2 - 1, (1, 1))]


def haar_traces(size: int, sigma: float, nodes: int = 48) -> np.ndarray:
    """E Tr P, E (Tr P)^2, E Tr P^2 over O(N), by Weyl's integration formula and the trapezoidal rule."""
    theta = math.pi * (np.arange(nodes) + 0.5) / nodes
    totals = []
    for fixed, count, (minus, plus) in angles(size):
        point = np.array([1 / (1 - sigma * e) ** 2 for e in fixed])
        trace, square, density = point.sum(), (point**2).sum(), np.ones(())
        cosines = np.cos(np.meshgrid(*[theta] * count, indexing="ij")) if count else []
        for c in cosines:
            pair = 1 / (1 - 2 * sigma * c + sigma**2)
            trace, square = trace + 2 * pair, square + 2 * pair**2
            density = density * (1 - c) ** minus * (1 + c) ** plus
        for a, b in itertools.combinations(cosines, 2):
            density = density * (a - b) ** 2
        mass = np.sum(density)
        totals.append([np.sum(density * f) / mass for f in (trace, np.square(trace), square)])
    return np.mean(totals, axis=0)


@pytest.mark.parametrize("size", range(1, 7))
def test_haar_formulas_by_weyl_integration(size):
    sigma = 0.5
    mean, second, square = haar_traces(size, sigma)
    assert mean / size == pytest.approx(haar_length(size, sigma**2), rel=1e-13)
    assert second - mean**2 == pytest.approx(haar_trace_variance(sigma**2), rel=1e-11)
    assert square == pytest.approx(haar_square(size, sigma**2), rel=1e-12)


def test_haar_variance_tends_to_its_limit():
    size = sp.Symbol("N", positive=True)
    limit = sp.limit(size * haar_length_variance(size, s), size, sp.oo)
    assert sp.simplify(limit - linear_statistics("orthogonal", s, sp.sqrt).length_noise) == 0
    correction = sp.limit(size * (haar_length(size, s) - 1 / (1 - s)), size, sp.oo)
    assert sp.simplify(correction - linear_statistics("orthogonal", s, sp.sqrt).length_correction) == 0


def test_length_variance_of_a_fixed_matrix():
    """For P = diag(1, 3) in a random basis of the plane, r = 2 + cos(2 theta) has variance 1/2."""
    assert length_variance(sp.Integer(2), sp.Integer(4), 0, sp.Integer(10)) == sp.Rational(1, 2)


def test_matching():
    assert [scale_of(f, m, 1) for m in MATCHES for f in FAMILIES] == [1, 1, 1, 1, 1, 2, 2, 1, 2]
    for family, match in itertools.product(FAMILIES, MATCHES):
        assert scale_of(family, match, matched_sigma(family, match, s)) == s
    assert matched_sigma("orthogonal", "operator_norm", s, size=1) == s


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("wigner", "variance", 1), "undefined"),
        (("iid", "norm", 1), "unknown match"),
        (("goe", "operator_norm", 1, 1), "1 x 1"),
        (("iid", "radius", 1, 1), "1 x 1"),
    ],
)
def test_matching_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        matched_sigma(*arguments)


def test_unknown_family_and_bad_depth():
    for call in (
        lambda: linear_statistics("wigner", 0.1, math.sqrt),
        lambda: noise_at_length("wigner", 2.0, math.sqrt),
        lambda: tied_length("wigner", 0.1, 2),
    ):
        with pytest.raises(InputError, match="unknown weight family"):
            call()
    for depth in (-1, 1.5, True):
        with pytest.raises(InputError, match="non-negative integer"):
            tied_square("iid", 0.1, depth)


def test_relu_goe_solves_its_equations():
    """Chi = P/(1 - a), R = s P/(1 - a)^2, q = 1 + E phi (phi + 2x) with P = 1/2, by the definitions."""
    s = sp.Rational(3, 8)
    found = relu_goe(s, sp.sqrt)
    a = s * found.response
    assert found.response == sp.Rational(1, 2) / (1 - a)
    assert found.replicon == s / (2 * (1 - a) ** 2)
    # z = (g + x)/(1 - a) where u > 0, u = (g + a x)/(1 - a); Var g = s q
    assert found.gain == 1 + a / (1 - a) + (s * found.gain + a**2) / (2 * (1 - a) ** 2)


def test_symmetric_coefficients_reduce_to_the_four_equations():
    V, d1, d2, h, a2, b2 = sp.symbols("V d1 d2 h a2 b2")
    reduced = symmetric_ck_coefficients(V, d1, d2, d2 / 2, h, a2, b2)
    for name, value in vars(implicit_ck_coefficients(V, d1, d2, h, a2, b2)).items():
        assert sp.simplify(getattr(reduced, name) - value) == 0, name
