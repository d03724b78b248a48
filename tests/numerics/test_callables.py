"""Python functions as activations, against the registry's, closed-form derivatives, and what users get wrong."""

from __future__ import annotations

import math
import pickle
import threading

import numpy as np
import pytest
import scipy.special

import equikernel as ek
from equikernel.errors import AccuracyError, ActivationError, InputError, NoFixedPointError
from equikernel.numerics.callables import CallableActivation, callable_activation
from equikernel.numerics.centring import centring_scale
from equikernel.numerics.local_chebyshev import LocalChebyshev, NotSmoothError


def normal_cdf(x):
    return 0.5 * scipy.special.erfc(-x / math.sqrt(2.0))


def normal_density(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def gelu(x):
    return x * normal_cdf(x)


def gelu_by_number(x):
    total = 0.0
    for _ in range(20):  # as slow as somebody's own series
        total += 0.05 * math.erfc(-x / math.sqrt(2.0))
    return 0.5 * x * total


def relu(x):
    return np.maximum(x, 0.0)


def elu(x):
    return np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0)))


def leaky_by_number(x):
    return x if x > 0 else 0.1 * x


# registry name or expression, function, declarations, closed-form derivative
CASES = {
    "tanh": ("tanh", np.tanh, {"odd": True}, lambda x: 1.0 / np.cosh(x) ** 2),
    "relu": ("relu", relu, {"kinks": [0]}, lambda x: np.where(x > 0.0, 1.0, 0.0)),
    "elu": ("elu", elu, {"kinks": [0.0]}, lambda x: np.exp(np.minimum(x, 0.0))),
    "hard_tanh": (
        "hard_tanh",
        lambda x: np.clip(x, -1.0, 1.0),
        {"kinks": (-1, 1)},
        lambda x: np.where(abs(x) < 1.0, 1.0, 0.0),
    ),
    "gelu": ("gelu", gelu, {}, lambda x: normal_cdf(x) + x * normal_density(x)),
    "gelu by number": ("gelu", gelu_by_number, {}, lambda x: normal_cdf(x) + x * normal_density(x)),
    "leaky by number": (
        "max(x, x/10)",
        leaky_by_number,
        {"kinks": 0},
        lambda x: np.where(x > 0.0, 1.0, 0.1),
    ),
}


def made(case, *, with_derivative):
    _, function, declared, derivative = CASES[case]
    return callable_activation(function, derivative=derivative if with_derivative else None, **declared)


def samples():
    """Norms spread tenfold, near and exact duplicates, an antipode, a zero row."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(9, 6)) / math.sqrt(6.0) * np.geomspace(0.3, 3.0, 9)[:, None]
    X[1], X[2], X[3], X[4] = X[0], -X[0], X[0] * (1.0 + 1e-7), 0.0
    return X


def relative_gap(ours, theirs):
    return np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))


@pytest.mark.parametrize(
    ("case", "with_derivative"), [*((case, False) for case in CASES), ("hard_tanh", True), ("gelu", True)]
)
def test_kernels_agree_with_the_expression(case, with_derivative):
    X, phi, reference = samples(), made(case, with_derivative=with_derivative), CASES[case][0]
    ours = ek.implicit_kernels(X, ek.DEQ(phi), trained="aAB")
    theirs = ek.implicit_kernels(X, ek.DEQ(reference), trained="aAB")
    # both engines promise 1e-14 of the scale; a numerical phi' errs by 1e-14 in the mean
    assert relative_gap(ours.ck, theirs.ck) < 1e-13
    assert relative_gap(ours.ntk, theirs.ntk) < 1e-13


@pytest.mark.parametrize("case", ["tanh", "elu", "leaky by number"])
def test_explicit_networks_mix_both_kinds(case):
    X, phi, reference = samples(), made(case, with_derivative=False), CASES[case][0]
    ours = ek.explicit_ntk(X, ek.ExplicitNetwork.of(phi, "gelu", phi))
    theirs = ek.explicit_ntk(X, ek.ExplicitNetwork.of(reference, "gelu", reference))
    assert relative_gap(ours, theirs) < 1e-13


@pytest.mark.parametrize("with_derivative", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tau", [0.05, 1.0, 3.7])
def test_moments_agree_with_the_expression_within_their_bounds(case, with_derivative, tau):
    ours = ek.gaussian_moments(made(case, with_derivative=with_derivative), tau)
    theirs = ek.gaussian_moments(ek.activation(CASES[case][0]), tau)
    for (name, a), (_, b) in zip(ours.items(), theirs.items(), strict=True):
        assert abs(a.value - b.value) <= a.error + b.error, name
        # sums of absolute values are at most a few phi(tau), and divided by tau^2 in d2 and h
        assert a.error <= 1e-11 * max(1.0, float(theirs.V.value)) / min(1.0, tau) ** 2, name
        assert "Python function" in a.provenance or a.error == 0.0


def test_jumps_have_a_conjugate_kernel_and_no_tangent_kernel():
    # its fixed points at r = -1 repel: that -x gives -z must be known
    step = callable_activation(np.sign, jumps=[0.0], odd=True)
    X = samples()
    ours = ek.implicit_ck(X, ek.DEQ(step))
    assert relative_gap(ours, ek.implicit_ck(X, ek.DEQ("sign(x)"))) < 1e-13
    with pytest.raises(InputError, match="sign jumps at x = 0"):
        ek.implicit_ntk(X, ek.DEQ(step))


# -- the derivative ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_derivative_of_the_interpolants(case):
    derivative = CASES[case][3]
    x = np.random.default_rng(1).uniform(-9.0, 9.0, 4000)
    error = np.abs(made(case, with_derivative=False).derivative()(x) - derivative(x))
    # cells are no narrower than 1/4 here: 16 units of roundoff times n^2/w at most at their ends, n/w elsewhere
    assert error.max() < 16 * 2.0**-53 * 20**2 / 0.25
    assert np.sqrt(np.mean(error**2)) < 16 * 2.0**-53 * 20 / 0.25


@pytest.mark.parametrize(
    ("function", "derivative", "kinks"),
    [
        (lambda x: np.tanh(100.0 * x), lambda x: 100.0 * (1.0 - np.tanh(100.0 * x) ** 2), []),
        (lambda x: np.sin(3.0 * x) + x, lambda x: 3.0 * np.cos(3.0 * x) + 1.0, []),
        (lambda x: 1.0 / (1.0 + x * x), lambda x: -2.0 * x / (1.0 + x * x) ** 2, []),
        (lambda x: 1.0 - np.tanh(x), lambda x: -1.0 / np.cosh(x) ** 2, []),  # nothing but rounding errors for x > 19
        (lambda x: np.log(1.0 + np.exp(x)), scipy.special.expit, []),
        (np.exp, np.exp, []),
        (lambda x: np.maximum(x, 0.1) ** 3, lambda x: np.where(x > 0.1, 3.0 * x * x, 0.0), [0.1]),
    ],
)
def test_slopes_stay_within_their_bounds(function, derivative, kinks):
    table = LocalChebyshev(function, kinks)
    x = np.random.default_rng(2).uniform(-12.0, 12.0, 4000)
    slope, bound = table.slopes(x)
    # the closed form errs too, by a few units of its largest value
    assert (np.abs(slope - derivative(x)) <= bound + 8 * 2.0**-53 * np.maximum(1.0, np.abs(derivative(x)))).all()
    values = table.values(x)
    assert np.max(np.abs(values - function(x))) <= 64 * 2.0**-53 * np.max(np.abs(function(x)))


def test_derivative_at_a_kink_is_the_mean_of_its_sides():
    for with_derivative in (False, True):
        phi = made("leaky by number", with_derivative=with_derivative)
        assert phi.derivative()(0.0) == pytest.approx(0.55, abs=1e-14)
        assert phi.derivative()(np.array([[1e-300], [-1e-300]])).ravel() == pytest.approx([1.0, 0.1], abs=1e-14)


def test_interpolants_far_out():
    table = LocalChebyshev(lambda x: np.sin(100.0 * x), [])
    slope, _ = table.slopes(np.array([1.0, 30_000.0, 1e300, math.inf, math.nan]))
    assert slope[0] == pytest.approx(100.0 * math.cos(100.0), rel=1e-11)
    assert np.isnan(slope[1:]).all()  # too many cells, and beyond the last one
    # an interpolant that knows nothing gives way to the function
    sine = callable_activation(lambda x: math.sin(100.0 * x))
    assert sine.function(accurate=False)(30_000.0) == math.sin(3e6)


def test_overflow_far_out_is_infinite_and_no_kink():
    exponential = callable_activation(math.exp, name="exp")
    assert exponential.growth.rate == pytest.approx(1.0)
    assert exponential(1000.0) == math.inf
    assert exponential.derivative()(600.0) == pytest.approx(math.exp(600.0), rel=1e-12)
    assert np.isnan(exponential.derivative()(1000.0))


def test_threads_share_the_cells():
    table = LocalChebyshev(np.tanh, [])
    x = np.linspace(-300.0, 300.0, 1001)
    found = []
    threads = [threading.Thread(target=lambda: found.append(table.slopes(x)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((f == found[0]).all() for f in found)
    # nor do the bits depend on the order in which points are asked for
    again = LocalChebyshev(np.tanh, [])
    assert [float(again.slopes(x[k : k + 1])[0][0]) for k in range(1000, -1, -50)] == found[0][::-50].tolist()


# -- the scale of centring ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tau0", [0.2, 1, "2.5"])
def test_centring_scale(case, tau0):
    ours = centring_scale(ek.DEQ(made(case, with_derivative=False), "0.4", "0.6"), tau0)
    theirs = ek.solve(ek.DEQ(CASES[case][0], "0.4", "0.6"), tau0, trained="a").tau
    # V to a few units of roundoff, the condition 1/(1 - sigma_a2 h) at most 1/(1 - 0.4)
    assert ours == pytest.approx(theirs, rel=1e-14)
    assert centring_scale(ek.DEQ(CASES[case][0], "0.4", "0.6"), tau0) == theirs


@pytest.mark.parametrize("expression", ["2*x", "x**2", "5*where(abs(x) > 2, 1, 0)"])
def test_centring_chooses_and_refuses_like_solve(expression):
    functions = {
        "2*x": (lambda x: 2.0 * x, {}),
        "x**2": (np.square, {}),
        "5*where(abs(x) > 2, 1, 0)": (lambda x: 5.0 * (np.abs(x) > 2.0), {"jumps": [-2, 2]}),
    }
    function, declared = functions[expression]
    phi = callable_activation(function, name=expression, **declared)
    for sigmas in (("0.2", "0.5"), ("0.9", "0.1"), ("0.3", "0.8")):
        solution = ek.solve(ek.DEQ(expression, *sigmas), trained="a", throw=False)
        if solution.solved:
            assert centring_scale(ek.DEQ(phi, *sigmas), 1) == pytest.approx(solution.tau, rel=1e-13)
        else:
            with pytest.raises(NoFixedPointError) as caught:
                centring_scale(ek.DEQ(phi, *sigmas), 1)
            assert str(caught.value) == solution.status


@pytest.mark.parametrize("tau0", [0, -1, math.nan, "one"])
def test_centring_refuses_bad_scales(tau0):
    with pytest.raises(InputError, match="tau0 must be a positive finite number"):
        centring_scale(ek.DEQ(callable_activation(np.tanh)), tau0)


# -- what has no answer ------------------------------------------------------------------------------------------------

NEEDS_AN_EXPRESSION = {
    "expr": lambda phi: phi.expr,
    "pieces": lambda phi: phi.pieces,
    "program": lambda phi: phi.program,
    "derivative_program": lambda phi: phi.derivative_program,
    "latex": lambda phi: phi.latex(),
    "to_dict": lambda phi: phi.to_dict(),
    "scaled": lambda phi: phi.scaled(2),
    "mpmath": lambda phi: phi.function("mpmath", digits=30),
    "torch": lambda phi: phi.derivative("torch"),
    "more digits": lambda phi: ek.gaussian_moments(phi, 1.0, digits=16),
    "solve": lambda phi: ek.solve(ek.DEQ(phi)),
    "certify": lambda phi: ek.certify(ek.DEQ(phi)),
    "closed forms": ek.closed_form_moments,
    "dual activation": ek.dual_activation,
    "enclosures": lambda phi: ek.enclosed_moments(phi, 1, 10),
    "series": lambda phi: ek.kernel_series(ek.DEQ(phi)),
    "sensitivities": lambda phi: ek.sensitivities(ek.DEQ(phi)),
    "phases": lambda phi: ek.phase_diagram(phi, "0.8"),
    "equivalents": lambda phi: ek.equivalent_ck(np.eye(3), ek.DEQ(phi)),
    "designs": lambda phi: ek.equivalent_network(ek.DEQ(phi)),
}


@pytest.mark.parametrize("what", NEEDS_AN_EXPRESSION)
def test_what_needs_an_expression_asks_for_one(what):
    with pytest.raises(InputError, match=r"is a Python function, .* give it as an expression"):
        NEEDS_AN_EXPRESSION[what](callable_activation(np.tanh))


@pytest.mark.parametrize(("arithmetic", "options"), [("decimal", {}), ("numpy", {"digits": 20})])
def test_unknown_arithmetics(arithmetic, options):
    with pytest.raises(InputError, match='there is the arithmetic "numpy", with the option accurate'):
        callable_activation(np.tanh).function(arithmetic, **options)


def test_a_plain_function_is_told_how():
    with pytest.raises(InputError, match="use callable_activation"):
        ek.DEQ(np.tanh)


REFUSED = {
    "kink": (relu, {}, r"not smooth near x = 0: declare its kinks, as in kinks=\(0,\)"),
    "kink elsewhere": (lambda x: np.abs(x - 0.5), {}, r"near x = 0\.5: declare its kinks"),
    "kink of two": (lambda x: np.clip(x, -1.0, 1.0), {"kinks": [-1]}, "near x = 1: declare its kinks"),
    "kink, with derivative": (relu, {"derivative": lambda x: 1.0 * (x > 0)}, "declare its kinks"),
    "jump": (lambda x: np.where(x > 1.5, 1.0, x), {}, "near x = 1.5: declare its kinks, .* and its jumps"),
    "jump declared as kink": (np.sign, {"kinks": [0]}, "jumps from -1 to 1 at x = 0: declare it in jumps"),
    "root": (lambda x: np.sqrt(relu(x)), {"kinks": [0]}, "not smooth up to its breakpoint x = 0"),
    "noise": (lambda x: np.tanh(x) + 1e-9 * np.sin(1e9 * x), {}, "cannot be resolved .* errors far above rounding"),
    "nan": (lambda x: np.sin(x) / x, {}, "is nan at x = 0: an activation must be finite"),
    "nan on half the line": (np.sqrt, {}, "is nan at x = -9"),
    "overflow": (lambda x: np.log(1.0 + np.exp(x)), {}, "is inf at x = 7.*logaddexp"),
    "overflow, number by number": (lambda x: 1.0 / (1.0 + math.exp(-x)), {}, "is inf at x = -7"),
    "exp(x^2)": (lambda x: np.exp(x * x), {}, "grows .* too fast"),
    "exp(x^2), number by number": (lambda x: math.exp(x * x), {}, "grows .* too fast"),
    "constant": (lambda x: 0.0 * x + 2.0, {}, r"is the constant 2\.0"),
    "complex": (lambda x: x + 0.0j, {}, "returns complex numbers"),
    "complex at some": (lambda x: x ** (1 / 3) if np.ndim(x) == 0 else None, {}, "returns complex numbers"),
    "objects": (lambda x: x.astype(object), {}, "returns objects"),
    "nothing": (lambda x: None, {}, "returns objects"),
    "text": (lambda x: "1", {}, "returns <U1"),
    "float32": (lambda x: np.tanh(x.astype(np.float32)), {}, "returns float32 numbers: .* float64"),
    "two columns": (lambda x: np.stack([x, x]), {}, r"returns an array of shape \(7, 2\)"),
    "ragged": (lambda x: [1.0] * (1 + int(x > 0)), {}, "raised ValueError making an array"),
    "not by itself": (lambda x: np.exp(x) / np.exp(x).sum(), {}, "must act on each number by itself"),
    "by chance": (lambda x: x + np.random.default_rng().normal(size=x.shape), {}, "without chance"),
    "raises": (lambda x: 1 / 0, {}, r"raised ZeroDivisionError at x = -2\.7"),
    "raises at a number": (lambda x: 1.0 / (float(x) - 8.0), {}, "raised ZeroDivisionError at x = 8 "),
    "raises on later arrays": (lambda x: x if x.size < 9 else x.nothing, {}, "raised AttributeError between"),
    "wrong derivative": (
        np.tanh,
        {"derivative": np.cos},
        "derivative given for tanh is .* correct it, or leave it out",
    ),
    "undefined derivative": (np.tanh, {"derivative": lambda x: x / x}, "is nan at x = 0"),
    "not odd": (lambda x: x + x * x, {"odd": True}, "declared odd up to a constant, but"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_fault(case):
    function, declared, sentence = REFUSED[case]
    with pytest.raises(ActivationError, match=sentence):
        callable_activation(function, **declared)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"function": 3}, "must be callable; got 3"),
        ({"function": np.tanh, "derivative": "cos"}, "must be callable; got 'cos'"),
        ({"function": np.tanh, "kinks": ["a"]}, "kinks must be finite numbers"),
        ({"function": np.tanh, "jumps": [math.inf]}, "jumps must be finite numbers"),
    ],
)
def test_bad_arguments(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        callable_activation(**arguments)


def test_an_undeclared_kink_beyond_the_probed_range_is_found_when_it_matters():
    phi = callable_activation(lambda x: np.tanh(x) + 0.1 * np.maximum(x - 40.0, 0.0))
    with pytest.raises(ActivationError, match=r"near x = 40: declare its kinks, as in kinks=\(40,\)"):
        phi.derivative()(41.0)


def test_a_kink_is_refused_or_does_no_harm():
    with pytest.raises(NotSmoothError):
        LocalChebyshev(lambda x: np.maximum(x - 0.3, 0.0) ** 2, []).resolve(np.array([0.3]))
    hidden = {size: callable_activation(lambda x, s=size: np.tanh(x) + s * np.abs(x - 0.3)) for size in (1e-7, 1e-9)}
    with pytest.raises(AccuracyError, match=r"did not converge .* declare its kinks"):
        ek.gaussian_moments(hidden[1e-7], 1.0)
    X, declared = samples(), ek.DEQ("tanh(x) + 1e-9*abs(x - 0.3)")
    assert relative_gap(ek.implicit_ntk(X, ek.DEQ(hidden[1e-9])), ek.implicit_ntk(X, declared)) < 1e-13


# -- an object among others --------------------------------------------------------------------------------------------


def test_functions_that_work_in_place_or_return_their_argument():
    in_place = callable_activation(lambda x: np.maximum(x, 0.0, out=x), kinks=[0])
    x = np.array([-1.0, 2.0])
    assert in_place(x).tolist() == [0.0, 2.0]
    assert x.tolist() == [-1.0, 2.0]
    same = callable_activation(lambda x: x)
    assert same(x) is not x
    assert callable_activation(lambda x: x > 0, jumps=[0])(x).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("case", ["gelu", "gelu by number"])
def test_shapes(case):
    phi = made(case, with_derivative=False)
    x = np.linspace(-2.0, 2.0, 12).reshape(3, 2, 2)
    for function in (phi, phi.function(accurate=False), phi.derivative(accurate=False)):
        assert function(x).shape == x.shape
        assert isinstance(function(0.5), float)
        assert function(x)[1, 0, 1] == pytest.approx(function(x[1, 0, 1]), abs=1e-15)


def test_declarations_are_sorted_and_kept_apart():
    phi = callable_activation(lambda x: np.abs(x) + (x > 2), kinks=(v for v in (0, 0.0, -0.0)), jumps=2, name="mine")
    assert [float(b) for b in phi.breakpoints] == [0.0, 2.0]
    assert [float(b) for b in phi.jumps] == [2.0]
    assert not phi.has_square_integrable_derivative
    assert repr(ek.DEQ(phi)) == "DEQ('mine', sigma_a2=1/5, sigma_b2=4/5)"
    assert float(callable_activation(lambda x: np.abs(x - 0.1), kinks=[0.1]).breakpoints[0]) == 0.1


def test_equality_is_of_the_function_and_its_declarations():
    one, same = callable_activation(relu, kinks=[0]), callable_activation(relu, kinks=(0.0,), name="another")
    assert one == same
    assert hash(one) == hash(same)
    assert one != callable_activation(relu, kinks=[0, 1])
    assert one != callable_activation(lambda x: np.maximum(x, 0.0), kinks=[0])
    assert one != ek.activation("relu")


def test_pickle_round_trip():
    for phi in (made("relu", with_derivative=False), callable_activation(elu, kinks=[0], name="mine")):
        again = pickle.loads(pickle.dumps(phi))  # noqa: S301 - our own bytes
        assert isinstance(again, CallableActivation)
        assert (again, again.name) == (phi, phi.name)
        assert again.derivative()(0.7) == phi.derivative()(0.7)
