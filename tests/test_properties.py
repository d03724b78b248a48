"""Properties of the whole library on activations, networks and data drawn with the public strategies."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
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


def test_contradictory_wishes_are_refused():
    with pytest.raises(EquikernelError, match="jumps"):
        activations(smooth=True, jumps=True)
