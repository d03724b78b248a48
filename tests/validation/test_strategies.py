import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, find, given, settings
from hypothesis import strategies as st

from equikernel.errors import EquikernelError, InputError
from equikernel.numerics.solve import solve
from equikernel.theory.activation import activation, registry_names
from equikernel.validation import strategies
from equikernel.validation.strategies import (
    activation_expressions,
    activations,
    data_matrices,
    deqs,
    gaussian_mixtures,
)

quick = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


def drawn(strategy, count):
    """Examples of a strategy, the same at every run."""
    seen = []

    @settings(quick, max_examples=count)
    @given(strategy)
    def collect(value):
        seen.append(value)

    collect()
    return seen


def smallest(strategy, condition=lambda value: True):
    return find(strategy, condition, settings=settings(quick, max_examples=200, phases=list(Phase)))


def test_most_expressions_are_activations():
    texts = drawn(activation_expressions(), 150)
    accepted = 0
    for text in texts:
        try:
            activation(text)
        except EquikernelError:
            continue
        accepted += 1
    # 99 in 100 when this was written
    assert accepted >= 0.9 * len(texts)
    assert len(set(texts)) >= 0.7 * len(texts)


def test_expressions_cover_the_grammar():
    text = " ".join(drawn(activation_expressions(), 300))
    for part in ("sin(", "exp(", "max(", "where(x <", "sign(", "relu(", "tanh(", "**3", "/(", "expm1("):
        assert part in text, part


def test_depth_zero_is_x_and_expressions_shrink():
    assert set(drawn(activation_expressions(0), 5)) == {"x"}
    assert smallest(activation_expressions()) == "x"
    # the arms and the constant have shrunk too
    assert smallest(activation_expressions(2), lambda t: "where" in t) == "where(x < 1, x, x)"


def test_parentheses_keep_an_operand_together():
    assert [strategies._atom(t) for t in ("x", "tanh(x)")] == ["x", "tanh(x)"]
    assert strategies._atom("x + 1") == "(x + 1)"
    # a closing parenthesis at the end is not the one that opens at the start
    assert strategies._atom("tanh(x) + erf(x)") == "(tanh(x) + erf(x))"


@pytest.mark.parametrize(
    ("wishes", "holds"),
    [
        ({}, lambda a: True),
        ({"smooth": True}, lambda a: not a.breakpoints),
        ({"smooth": False}, lambda a: bool(a.breakpoints)),
        ({"jumps": True}, lambda a: bool(a.jumps)),
        ({"jumps": False}, lambda a: not a.jumps),
        ({"smooth": False, "jumps": False}, lambda a: bool(a.breakpoints) and not a.jumps),
    ],
)
def test_activations_are_as_wished_for(wishes, holds):
    found = drawn(activations(**wishes), 20)
    assert all(holds(a) for a in found)
    names = {a.name for a in found}
    assert names & set(registry_names())
    assert names - set(registry_names())


def test_activations_without_variance_are_left_out():
    assert strategies._usable("x - x") is None
    assert strategies._usable("log(x)") is None
    assert strategies._usable("tan(x)") is None
    assert strategies._usable("relu").name == "relu"


def test_the_simplest_activation_is_the_identity():
    assert smallest(activations(smooth=True, max_depth=0)).expr == activation("identity").expr


@pytest.mark.parametrize(("trained", "count"), [("a", 3), ("aA", 6)])
def test_deqs_are_stable_at_every_scale_of_the_spread(trained, count):
    found = drawn(deqs(trained=trained, tau0=1.5, spread=1.5), count)
    for deq in found:
        for tau0 in (1.0, 1.5, 2.25):
            solution = solve(deq, tau0, trained=trained)
            sigma_a2 = float(deq.sigma_a2)
            assert abs(sigma_a2 * solution.moments.h.value) < 1
            if trained == "aA":
                assert sigma_a2 * solution.moments.v.value < 1
    if trained == "aA":
        assert not any(d.activation.jumps for d in found)
    assert all(0 < d.sigma_a2 <= 4 for d in found)


def test_deqs_of_a_given_activation():
    found = drawn(deqs(st.just(activation("tanh"))), 6)
    assert {d.activation.name for d in found} == {"tanh"}


def test_two_digits_round_down_exactly():
    assert strategies._two_digits(0.2999) == Fraction(29, 100)
    assert strategies._two_digits(3.0) == 3
    assert strategies._two_digits(1e-4) <= Fraction(1, 10**4)


def test_mixtures_cover_every_form():
    found = drawn(gaussian_mixtures(min_classes=2, max_classes=3, min_p=2, max_p=5), 60)
    assert {m.K for m in found} == {2, 3}
    assert {m.p for m in found} == {2, 3, 4, 5}
    forms = [np.asarray(c) for m in found for c in m.covariances]
    assert {f.ndim for f in forms} == {0, 1, 2}
    assert any(f.ndim == 2 and np.linalg.matrix_rank(f) < len(f) for f in forms)
    assert all(math.isclose(m.proportions.sum(), 1.0) and m.tau0 > 0 for m in found)
    assert any(len(set(m.proportions)) > 1 for m in found)


def features_of(X):
    """Which of the hard cases a matrix has."""
    norms = np.linalg.norm(X, axis=1)
    found = set()
    for i in range(len(X)):
        if norms[i] == 0:
            found.add("zero")
            continue
        for j in range(i):
            if norms[j] == 0:
                continue
            gap = np.abs(X[i] - X[j]).max() / norms[i]
            found |= {"duplicate"} if gap == 0 else {"near"} if gap < 1e-2 else set()
            found |= {"antipode"} if np.array_equal(X[i], -X[j]) else set()
            found |= {"outlier"} if max(norms[i] / norms[j], norms[j] / norms[i]) >= 10 else set()
    return found


def test_data_have_every_hard_case():
    matrices = drawn(data_matrices(min_n=2, max_n=6), 150)
    counts = Counter(feature for X in matrices for feature in features_of(X))
    assert set(counts) == {"zero", "duplicate", "near", "antipode", "outlier"}
    assert min(counts.values()) >= 5
    for X in matrices:
        assert X.dtype == np.float64
        assert np.isfinite(X).all()
        assert 2 <= len(X) <= 6
        assert 1 <= X.shape[1] <= 4
        assert math.isclose(float(np.mean(np.sum(X**2, axis=1))), 1.0, rel_tol=1e-14)


def test_data_shrink_to_one_sample_and_stay_exact():
    assert smallest(data_matrices()).shape == (1, 1)
    two = smallest(data_matrices(), lambda X: "duplicate" in features_of(X))
    assert two.tolist() == [[1.0], [1.0]]


def test_data_without_outliers():
    for X in drawn(data_matrices(outliers=False, min_p=1, max_p=1), 30):
        norms = np.abs(X)
        # multiples of 1/8 up to 2, moved by 2^-10 at most; what is smaller is near zero
        norms = norms[norms > 1e-2 * norms.max()]
        assert norms.max() / norms.min() < 16.1


@quick
@given(st.data())
def test_strategies_compose(data):
    mixture = data.draw(gaussian_mixtures(max_p=3))
    n = data.draw(st.integers(1, 4))
    assume(mixture.p > 1)
    assert mixture.sample(n, seed=1).X.shape == (n, mixture.p)


@pytest.mark.parametrize("depth", [-1, 1.5, True, "2"])
def test_bad_depths_are_named(depth):
    for strategy in (activation_expressions, lambda d: activations(max_depth=d)):
        with pytest.raises(InputError, match="max_depth must be a whole number of at least 0"):
            strategy(depth)


def test_contradictory_wishes_are_refused():
    with pytest.raises(InputError, match="not both"):
        activations(smooth=True, jumps=True)
