"""Properties of the whole library on activations, networks and data drawn with the public strategies."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equikernel.errors import EquikernelError
from equikernel.numerics.kernels import implicit_kernels
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.solve import COEFFICIENTS, solve
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ
from equikernel.validation.strategies import (
    activation_expressions,
    activations,
    data_matrices,
    deqs,
    gaussian_mixtures,
)

EPS = 2.0**-52
modest = settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@settings(modest, max_examples=40)
@given(activation_expressions())
def test_any_expression_is_an_activation_or_refused(text):
    try:
        act = activation(text)
        solve(DEQ(act, "0.1", "0.5"), trained="a")
    except EquikernelError:
        return
    assert np.isfinite(act(np.linspace(-30, 30, 61))).all()


@modest
@given(activations(), st.sampled_from([-7.25, -1.0, -0.125, 0.0, 0.625, 3.0, 11.5]))
def test_float64_equals_many_digits(act, x):
    truth, slope = act.function("mpmath", digits=30)(x), act.derivative("mpmath", digits=30)(x)
    moved = 0 if mpmath.isnan(slope) else 2e-15 * abs(x * slope)
    assert abs(mpmath.mpf(act(x)) - truth) <= 3e-14 * abs(truth) + moved + 1e-280


@modest
@given(activations(), st.sampled_from([0.25, 1.0, 1.75]))
def test_claimed_error_bounds_hold(act, tau):
    coarse, fine = gaussian_moments(act, tau), gaussian_moments(act, tau, 25)
    for (name, a), (_, b) in zip(coarse.items(), fine.items(), strict=True):
        assert abs(mpmath.mpf(a.value) - b.value) <= a.error + b.error + 2e-16 * abs(b.value), name


@modest
@given(deqs())
def test_solutions_are_finite_and_satisfy_their_equation(deq):
    solution = solve(deq)
    assert solution.residual < 1e-14
    assert all(math.isfinite(getattr(solution, name)) for name in COEFFICIENTS)
    # the readout alone trains less than the whole: kappa^2 >= gamma^2 >= alpha_1 tau_0^2
    assert solution.kappa2 >= solution.gamma2 * (1 - 1e-14)
    assert solution.gamma2 >= solution.alpha1 * (1 - 1e-12)


@modest
@given(deqs(spread=4.0), data_matrices(min_n=2, outliers=False), st.randoms(use_true_random=False))
def test_kernels_are_positive_and_see_no_order(deq, X, random):
    try:
        kernels = implicit_kernels(X, deq, tau0=1)
    except EquikernelError:  # a sample may lie outside the stable phase
        return
    for kernel in (kernels.ck, kernels.ntk):
        scale = max(float(np.abs(kernel).max()), 1e-300)
        assert (kernel == kernel.T).all()
        # near-duplicates of kinked activations: the NTK moves like the square root of the rounding of rho
        allowed = 1e-12 if kernel is kernels.ck else 2e-7
        assert np.linalg.eigvalsh(kernel).min() >= -allowed * len(X) * scale
    order = list(range(len(X)))
    random.shuffle(order)
    permuted = implicit_kernels(X[order], deq, tau0=1)
    gap = np.abs(permuted.ck - kernels.ck[np.ix_(order, order)]).max()
    assert gap <= 1e-12 * max(float(np.abs(kernels.ck).max()), 1e-300)


@modest
@given(gaussian_mixtures(), st.integers(2, 12))
def test_mixtures_sample_what_they_say(mixture, n):
    sample = mixture.sample(n, seed=0)
    assert sample.X.shape == (n, mixture.p)
    assert np.isfinite(sample.X).all()
    assert set(sample.labels) <= set(range(mixture.K))


@modest
@given(deqs(), data_matrices(outliers=False), st.integers(0, 5))
def test_a_repeated_sample_repeats_its_row_to_the_bit(deq, X, place):
    again = np.concatenate([X, X[[place % len(X)]]])
    try:
        ck = implicit_kernels(again, deq, tau0=1, ntk=False).ck
    except EquikernelError:  # a sample may lie outside the stable phase
        return
    assert np.array_equal(ck[-1], ck[place % len(X)])
    assert np.array_equal(ck[:, -1], ck[:, place % len(X)])


@modest
@given(activations(jumps=False), st.sampled_from(["-1", "2", "1/3"]), st.sampled_from([0.5, 1.0, 1.5]))
def test_moments_are_homogeneous(act, factor, tau):
    """c phi has moments c d1, c d2, c^2 V, c^2 h, c^2 v."""
    c = sp.Rational(factor)
    plain, scaled = gaussian_moments(act, tau), gaussian_moments(activation(c * act.expr), tau)
    powers = {"mean": 1, "d1": 1, "d2": 1, "V": 2, "h": 2, "v": 2}
    for (name, a), (_, b) in zip(plain.items(), scaled.items(), strict=True):
        f = float(c) ** powers[name]
        assert abs(b.value - f * a.value) <= b.error + abs(f) * a.error + 4 * EPS * abs(b.value), name


@modest
@given(activations(), st.sampled_from([0.5, 1.0, 1.5]))
def test_parity_is_what_the_moments_say(act, tau):
    """phi(-x) has the moments of phi but for the sign of d1; a parity makes some of them vanish exactly."""
    m, mirrored = gaussian_moments(act, tau), gaussian_moments(act.scaled(sp.Integer(-1)), tau)
    signs = {"mean": 1, "V": 1, "d1": -1, "d2": 1, "h": 1, "v": 1}
    for (name, a), (_, b) in zip(m.items(), mirrored.items(), strict=True):
        assert abs(b.value - signs[name] * a.value) <= a.error + b.error + 4 * EPS * abs(a.value), name
    if act.parity is not None:
        sign = {"even": 1, "odd": -1}[act.parity]
        assert act(2.25) == pytest.approx(sign * act(-2.25), rel=1e-13, abs=1e-290)
        vanishing = [m.d1] if act.parity == "even" else [m.mean, m.d2]
        assert all(x.value == 0 for x in vanishing)
