"""Hermite series as activations, and sphere designs: mpmath, polynomials as expressions, and the kernels of the DEQ."""

from __future__ import annotations

import json
import math
import pickle

import mpmath
import numpy as np
import pytest
import sympy as sp

import equikernel as ek
from equikernel.errors import AccuracyError, ActivationError, InputError, NoDesignError
from equikernel.numerics.designs.sphere import sphere_design
from equikernel.numerics.designs.sphere import terms as sphere_terms
from equikernel.numerics.explicit import explicit_coefficients
from equikernel.numerics.hermite_scales import series_rows
from equikernel.numerics.hermite_series import HermiteSeries
from equikernel.numerics.power_series import kernel_series
from equikernel.theory.program import X as SYMBOL

U = 2.0**-53
SIX = ("relu", "tanh", "silu", "gelu", "elu", "cos")
MP = mpmath.MPContext()
MP.dps = 60


def on_sphere(n, p, r, seed=0):
    """Random samples with an exact and a near duplicate, and an antipode."""
    X = np.random.default_rng(seed).normal(size=(n, p))
    X[1], X[2], X[3] = X[0], -X[0], X[0] + 1e-5 * X[4]
    return X * (math.sqrt(r) / np.linalg.norm(X, axis=1))[:, None]


def slow_series(degree, seed=0):
    """Coefficients that fall like k^(-5/4), as those of kinks do."""
    c = np.random.default_rng(seed).choice([-1.0, 1.0], degree + 1) / np.arange(1.0, degree + 2.0) ** 1.25
    c[0] = 0.0
    return c


def hermite_functions(x, degree):
    """he_0 .. he_degree at x in 60 digits."""
    x = MP.mpf(float(x))
    values = [MP.one, x]
    for k in range(1, degree):
        values.append((x * values[k] - MP.sqrt(k) * values[k - 1]) / MP.sqrt(k + 1))
    return values


def polynomial(c, scale):
    """The same function as an expression."""
    x = SYMBOL / sp.Rational(repr(scale))
    return ek.activation(
        sum(
            sp.Rational(repr(float(v)))
            * sp.expand(sp.hermite(k, x / sp.sqrt(2)) / sp.sqrt(2) ** k / sp.sqrt(sp.factorial(k)))
            for k, v in enumerate(c)
        )
    )


LOW = (0.1, 0.8, 0.3, -0.2, 0.05), 0.9


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [8.0, -8.0, 5.0, 0.3])
def test_a_thousandth_hermite_function_at_eight_standard_deviations(x):
    unit = np.zeros(1001)
    unit[1000] = 1.0
    exact = hermite_functions(x, 1000)
    # a rounding of every step, carried on by functions no larger than the largest
    assert abs(HermiteSeries(unit)(x) - exact[1000]) <= 2 * 1000 * U * max(map(abs, exact))
    assert abs(HermiteSeries(unit, 3.0)(3.0 * x) - exact[1000]) <= 2 * 1000 * U * max(map(abs, exact))


def test_values_and_derivatives_of_a_long_series():
    c, scale = slow_series(1000), 0.75
    series = HermiteSeries(c, scale)
    x = np.array([-8.0, -2.5, 0.0, 0.7, 8.0])
    values, slopes = series(scale * x), series.derivative()(scale * x)
    for i, point in enumerate(x):
        he = hermite_functions(point, 1000)
        terms = [MP.mpf(float(v)) * h for v, h in zip(c, he, strict=True)]
        rates = [MP.mpf(float(c[k])) * MP.sqrt(k) * he[k - 1] / MP.mpf(scale) for k in range(1, 1001)]
        assert abs(values[i] - MP.fsum(terms)) <= 1000 * U * sum(map(abs, terms))
        assert abs(slopes[i] - MP.fsum(rates)) <= 1000 * U * sum(map(abs, rates))


def test_shapes_and_many_digits():
    series = HermiteSeries(*LOW)
    grid = np.linspace(-3.0, 3.0, 12).reshape(3, 4)
    assert series(grid).shape == (3, 4)
    assert isinstance(series(0.5), float)
    reference = polynomial(*LOW)
    for which in ("function", "derivative"):
        ours, theirs = (getattr(a, which)("mpmath", digits=40)("0.7") for a in (series, reference))
        # the series has the float 0.9, the expression the decimal
        assert abs(ours - theirs) < 1e-15
        assert np.max(np.abs(getattr(series, which)()(grid) - getattr(reference, which)()(grid))) < 1e-14


def test_torch_gives_the_same_values_and_gradients():
    torch = pytest.importorskip("torch")
    series = HermiteSeries(slow_series(200), 1.3)
    points = np.linspace(-10.0, 10.0, 31)
    x = torch.tensor(points, requires_grad=True)
    y = series.function("torch")(x)
    y.sum().backward()
    size = np.abs(series(points)).max()
    assert np.abs(y.detach().numpy() - series(points)).max() <= 200 * U * size
    assert np.abs(x.grad.numpy() - series.derivative()(points)).max() <= 200 * U * 200 * size
    single = series.function("torch")(torch.tensor(points, dtype=torch.float32))
    assert single.dtype == torch.float32
    assert np.abs(single.numpy() - series(points)).max() <= 200 * 2.0**-24 * size


@pytest.mark.parametrize(
    ("c", "parity", "odd"),
    [([0, 1, 0, 2], "odd", True), ([3, 1, 0, 2], None, True), ([1, 0, 2], "even", False), ([0, 1, 2], None, False)],
)
def test_parity_is_that_of_the_zeros(c, parity, odd):
    series = HermiteSeries(c)
    assert (series.parity, series.odd_up_to_constant) == (parity, odd)


def test_equality_pickles_and_records():
    series = HermiteSeries([0.0, 0.1, 1 / 3, 0.0, 0.0], 1.7, name="mine")
    assert series.degree == 2
    for copy in (
        pickle.loads(pickle.dumps(series)),  # noqa: S301 - made here
        HermiteSeries.from_record(json.loads(json.dumps(series.to_record())), "mine"),
    ):
        assert copy == series
        assert hash(copy) == hash(series)
        assert copy.name == "mine"
    assert series != HermiteSeries([0.0, 0.1, 1 / 3], 1.8)
    assert r"\sum_{k=0}^{2}" in series.latex()


@pytest.mark.parametrize(
    ("c", "scale", "error", "message"),
    [
        ([], 1.0, ActivationError, "list of finite numbers"),
        ([0.0, math.nan], 1.0, ActivationError, "list of finite numbers"),
        ([[0.0, 1.0]], 1.0, ActivationError, "list of finite numbers"),
        (["0", "1"], 1.0, ActivationError, "list of finite numbers"),
        ([2.0, 0.0], 1.0, ActivationError, "constant"),
        (np.ones(4100), 1.0, ActivationError, "degree 4000 at most; got 4099"),
        ([0.0, 1.0], 0.0, InputError, "scale"),
        ([0.0, 1.0], "1", InputError, "scale"),
    ],
)
def test_bad_series(c, scale, error, message):
    with pytest.raises(error, match=message):
        HermiteSeries(c, scale)


def test_there_is_no_expression():
    series = HermiteSeries(*LOW)
    for attempt in (
        lambda: series.expr,
        lambda: ek.gaussian_moments(series, 0.9, 30),
        lambda: ek.solve(ek.DEQ(series)),
    ):
        with pytest.raises(InputError, match="Hermite coefficients"):
            attempt()
    with pytest.raises(InputError, match='"coefficients" and "scale"'):
        HermiteSeries.from_record({"coefficients": [1]})


# -- moments -----------------------------------------------------------------------------------------------------------


def test_moments_at_the_own_scale():
    c, scale = slow_series(1000), 1.3
    m = ek.gaussian_moments(HermiteSeries(c, scale), scale)
    k, q = np.arange(1001), scale**2
    exact = {
        "mean": 0.0,
        "V": math.fsum(c**2),
        "d1": c[1] / scale,
        "d2": math.sqrt(2.0) * c[2] / q,
        "h": math.fsum([*(k * c**2), *(np.sqrt((k[1:-2] + 1) * (k[1:-2] + 2)) * c[1:-2] * c[3:])]) / q,
        "v": math.fsum(k * c**2) / q,
    }
    for name, moment in m.items():
        assert abs(moment.value - exact[name]) <= moment.error + 8 * U * abs(exact[name])
        assert moment.error <= 1e-14 * abs(exact[name])


@pytest.mark.parametrize("tau", [0.3, 0.9, 1.0, 2.2])
def test_moments_at_any_scale_are_those_of_the_polynomial(tau):
    ours, theirs = ek.gaussian_moments(HermiteSeries(*LOW), tau), ek.gaussian_moments(polynomial(*LOW), tau)
    for (name, a), (_, b) in zip(ours.items(), theirs.items(), strict=True):
        # 0.9 and the coefficients are decimals there, floats here
        assert abs(a.value - b.value) <= a.error + b.error + 40 * U * abs(b.value), name
        assert a.relative_error < 1e-13


@pytest.mark.parametrize("gamma", [0.4, 0.97, 1.0, 1.02])
def test_rescaled_coefficients_give_the_same_function(gamma):
    series = HermiteSeries(slow_series(200), 1.5)
    q = (gamma * 1.5) ** 2
    row = series_rows(series, np.array([q]))[0]
    x = np.linspace(-4.0, 4.0, 17)
    same = HermiteSeries(row, math.sqrt(q))
    size = sum(
        abs(v) * np.abs(np.array([float(h) for h in hermite_functions(4.0, 200)])).max() for v in (row, series.array)
    )
    # each a_k errs by 3 N/2 units of the sum of absolute values, which is below that of all |c|
    assert np.abs(same(x * math.sqrt(q)) - series(x * math.sqrt(q))).max() <= 300 * U * size.sum() * max(1, gamma**200)


# -- kernels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [1, 60, 1000])
@pytest.mark.parametrize("r", [1.0, 0.37])
def test_explicit_kernels_on_the_sphere_are_the_power_series(degree, r):
    scale = math.sqrt(r)
    c = slow_series(degree)
    X = on_sphere(30, 5, r)
    found = ek.explicit_kernels(X, ek.ExplicitNetwork.of(HermiteSeries(c, scale), tau0=scale))
    u = np.clip(X @ X.T / r, -1.0, 1.0)
    np.fill_diagonal(u, 1.0)
    k = np.arange(degree + 1)
    for kernel, weights in ((found.ck, c**2), (found.ntk, (1 + k) * c**2)):
        expected = np.polyval(weights[::-1], u)
        # the engine's 1e-14; inner products are rounded by p u, which the slope sum k w_k magnifies
        condition = (k * weights).sum() / weights.sum()
        assert np.abs(kernel - expected).max() <= (2e-14 + 16 * U * condition) * expected.max()


@pytest.mark.parametrize("layers", [("H",), ("H", "relu"), ("relu", "H"), ("H", "H")])
def test_kernels_are_those_of_the_polynomial(layers):
    X = on_sphere(30, 5, 1.0) * np.linspace(0.3, 1.4, 30)[:, None]
    X[7] = 0.0
    X[1], X[2] = X[0], X[0] * (1.0 + 1e-9)
    nets = [
        ek.ExplicitNetwork.of(*(phi if name == "H" else name for name in layers))
        for phi in (HermiteSeries(*LOW), polynomial(*LOW))
    ]
    ours, theirs = (ek.explicit_kernels(X, net) for net in nets)
    for a, b in ((ours.ck, theirs.ck), (ours.ntk, theirs.ntk)):
        assert np.abs(a - b).max() <= 1e-13 * np.abs(b).max()


def test_a_deq_of_a_series_has_kernels():
    X = on_sphere(12, 4, 1.0)
    ours, theirs = (
        ek.implicit_kernels(X, ek.DEQ(phi, "0.05", "0.5")) for phi in (HermiteSeries(*LOW), polynomial(*LOW))
    )
    assert np.abs(ours.ntk - theirs.ntk).max() <= 1e-13 * np.abs(theirs.ntk).max()


def test_polynomials_of_high_degree_explode_off_their_sphere():
    net = ek.ExplicitNetwork.of(HermiteSeries(slow_series(1000)))
    with pytest.raises(AccuracyError, match="made for variances of at most 1, beyond which polynomials"):
        ek.explicit_ck(2.0 * on_sphere(5, 3, 1.0), net)


# -- designs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", ["0.3", "1", "2"])
@pytest.mark.parametrize("match", ["ck", "ntk"])
@pytest.mark.parametrize("name", SIX)
def test_the_kernels_differ_by_no_more_than_is_proved(name, match, r):
    deq = ek.DEQ(name, "0.3", "0.6")
    design = sphere_design(deq, r, match, terms=20)
    X = on_sphere(30, 4, float(r))
    wanted = ek.implicit_kernels(X, deq, tau0=math.sqrt(float(r)), trained="aA")
    found = ek.explicit_kernels(X, design.network)
    ours, theirs = (found.ck, wanted.ck) if match == "ck" else (found.ntk, wanted.ntk)
    error = np.abs(ours - theirs).max()
    bound, floor = float(design.kernel_error), 1e-13 * theirs.max()  # the engines' accuracy
    assert error <= bound + floor
    assert error >= 0.99 * bound - floor  # all terms are positive: the diagonal attains it
    assert bound <= float(design.relative_error) * theirs.max() * (1 + 1e-12)
    assert design.network.depth == 1


@pytest.mark.parametrize("trained", ["a", "aA", "aAB"])
def test_every_group_of_trained_parameters(trained):
    deq = ek.DEQ("gelu", "0.4", "0.6")
    design = sphere_design(deq, 1, "ntk", tolerance=1e-12, trained=trained)
    X = on_sphere(20, 4, 1.0)
    wanted = ek.implicit_ntk(X, deq, tau0=1, trained=trained)
    assert np.abs(ek.explicit_ntk(X, design.network) - wanted).max() <= (1e-12 + 1e-13) * wanted.max()


def test_the_least_number_of_terms_is_taken():
    deq = ek.DEQ("tanh")
    design = sphere_design(deq, 1, tolerance=1e-7)
    assert design.relative_error <= 1e-7
    assert design.terms % 2 == 1
    assert sphere_design(deq, 1, terms=design.terms - 1).relative_error > 1e-7
    default = sphere_design(deq, 1)
    assert default.relative_error <= 1e-6 < sphere_design(deq, 1, terms=default.terms - 1).relative_error


@pytest.mark.parametrize("name", ["elu", "gelu"])
def test_the_bound_holds_for_the_float_coefficients(name):
    deq = ek.DEQ(name)
    design = sphere_design(deq, "0.7", terms=40)
    series = kernel_series(deq, "0.7", 60, 30)
    for s in ("-0.7", "-0.2", "0.1", "0.6", "0.7"):
        u = MP.mpf(s) / MP.mpf(design.network.tau0) ** 2
        value = MP.fsum(MP.mpf(c) ** 2 * u**k for k, c in enumerate(design.coefficients))
        ball = series.enclosure(s)
        gap = abs(value - MP.mpf(ball.mid().str(40, radius=False)))
        assert gap <= float(design.kernel_error) + float(ball.rad())


def test_rounding_is_in_the_bound():
    deq = ek.DEQ("cos")
    design = sphere_design(deq, "0.7", terms=60)  # the tail is below 1e-30
    assert 1e-18 < float(design.relative_error) < 1e-14
    with pytest.raises(NoDesignError, match="float64 coefficients do not give the CK of cos to 1e-18"):
        sphere_design(deq, "0.7", tolerance=1e-18)


def test_the_four_numbers_are_those_of_the_deq():
    deq = ek.DEQ("silu", "0.4", "0.6")
    ck = explicit_coefficients(sphere_design(deq, 1, tolerance=1e-14).network)
    ntk = explicit_coefficients(sphere_design(deq, 1, "ntk", tolerance=1e-14).network)
    solution = ek.solve(deq)
    for found, wanted in (
        (ck.alpha1, solution.alpha1),
        (ck.alpha3, solution.alpha3),
        (ck.tau2, solution.gamma2),
        (ntk.beta1, solution.beta1),
        (ntk.beta3, solution.beta3),
        (ntk.kappa2, solution.kappa2),
    ):
        assert found == pytest.approx(wanted, rel=4e-14)


def test_finite_networks_have_the_kernel():
    pytest.importorskip("torch")
    from equikernel.validation.empirical import empirical_explicit_ck

    X = on_sphere(8, 4, 1.0)
    design = sphere_design(ek.DEQ("gelu"))
    found = empirical_explicit_ck(X, design.network, width=300, draws=40, seed=1)
    gap = (found.mean - ek.explicit_ck(X, design.network)) / found.standard_error
    assert np.abs(gap).max() < 5.0  # 36 entries, the largest of normal numbers


# -- signs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_signs_change_the_activation_and_not_the_kernel(name):
    deq = ek.DEQ(name)
    X = on_sphere(15, 4, 1.0)
    designs = {signs: sphere_design(deq, 1, terms=60, signs=signs) for signs in ("smooth", "own", "plus")}
    pattern = [1, -1, -1] * 20
    designs["given"] = sphere_design(deq, 1, terms=60, signs=pattern)
    assert designs["given"].signs == tuple(pattern)
    kernels = [ek.explicit_ntk(X, design.network) for design in designs.values()]
    for kernel in kernels[1:]:
        assert np.abs(kernel - kernels[0]).max() <= 1e-13 * kernels[0].max()
    steepest = {signs: design.steepness for signs, design in designs.items()}
    assert steepest["smooth"] <= 1.01 * min(steepest.values())
    smooth = designs["smooth"].network.layers[0].activation
    t = np.linspace(-4.0, 4.0, 20_001)
    assert np.abs(smooth.derivative()(t)).max() == pytest.approx(steepest["smooth"], rel=1e-2)
    # the mean of sigma'^2 does not depend on signs
    assert steepest["smooth"] >= 0.99 * math.sqrt(ek.gaussian_moments(smooth, 1.0).v.value)


def test_own_signs_give_back_an_activation_without_feedback():
    # sigma_a2 = 0: the design is phi itself, less its mean
    design = sphere_design(ek.DEQ("silu", 0, 1), 1, tolerance=1e-14, signs="own")
    silu = ek.activation("silu")
    t = np.linspace(-3.0, 3.0, 25)
    shift = ek.gaussian_moments(silu, 1.0).mean.value
    # coefficients are right to sqrt(1e-14), and he_k(3) < e^(9/4)
    assert np.abs(design.network.layers[0].activation(t) - (silu(t) - shift)).max() < 1e-7 * 10 * math.exp(2.25)


def test_designs_repeat():
    assert sphere_design(ek.DEQ("gelu")) == sphere_design(ek.DEQ("gelu"))


# -- both kernels, and what there is not -------------------------------------------------------------------------------


def test_both_kernels_need_two_learning_rates():
    # 4/19 = alpha1 of relu: delta_0 = sigma_a2 d1^2 = 1/20, and the rates are delta_0/(1 - delta_0) = 1/19 and 3/38
    with pytest.raises(NoDesignError, match=r"0\.0526316 by the coefficient of s\^1 and 0\.0789474 by that of s\^2"):
        sphere_design(ek.DEQ("relu"), 1, "both")
    with pytest.raises(NoDesignError, match=r"coefficient of s\^1 and .* by that of s\^3; ask for match"):
        sphere_design(ek.DEQ("tanh"), 1, "both")
    with pytest.raises(NoDesignError, match=r"have to be 0 by the coefficient of s\^2"):
        sphere_design(ek.DEQ("cos"), 1, "both")


@pytest.mark.parametrize(
    ("deq", "trained", "rate"),
    [
        (ek.DEQ("x", "0.2", "0.8"), "aA", 0.25),  # K = F/(1 - sigma_a2)
        (ek.DEQ("gelu", 0, 1), "aA", 0.0),
        (ek.DEQ("gelu", 0, 1), "aAB", 1.0),
    ],
)
def test_where_one_network_has_both_kernels(deq, trained, rate):
    design = sphere_design(deq, 1, "both", tolerance=1e-12, trained=trained)
    assert design.network.rates == pytest.approx((rate,), abs=1e-15)
    X = on_sphere(15, 4, 1.0)
    wanted = ek.implicit_kernels(X, deq, tau0=1, trained=trained)
    found = ek.explicit_kernels(X, design.network)
    assert np.abs(found.ck - wanted.ck).max() <= 1.1e-12 * wanted.ck.max()
    assert np.abs(found.ntk - wanted.ntk).max() <= 1.1e-12 * wanted.ntk.max()


def test_slow_decay_is_said(monkeypatch):
    monkeypatch.setattr(sphere_terms, "_ORDERS", (20, 60))
    monkeypatch.setattr(sphere_terms, "MAX_TERMS", 60)
    message = r"60 terms leave an error of 0\.0003\d of the diagonal in the CK of relu, 1e-06 was asked for.* terms=60"
    with pytest.raises(NoDesignError, match=message):
        sphere_design(ek.DEQ("relu"))


def test_no_design_in_the_chaotic_phase():
    with pytest.raises(NoDesignError, match=r"3\.75.* > 1: nearly identical samples separate"):
        sphere_design(ek.DEQ("sin(5*x)", "0.3", "0.7"))


def test_jumps_have_a_conjugate_kernel_without_feedback():
    design = sphere_design(ek.DEQ("sign(x)", 0, 1), terms=51)
    # (2/pi) asin(u) = (2/pi) sum (2m)!/(4^m m!^2 (2m + 1)) u^(2m+1)
    assert design.coefficients[3] ** 2 == pytest.approx(2 / math.pi / 6, rel=1e-14)
    with pytest.raises(InputError, match="jumps at x = 0"):
        sphere_design(ek.DEQ("sign(x)", 0, 1), match="ntk")


def test_export():
    design = sphere_design(ek.DEQ("tanh"), "0.5")
    record = json.loads(json.dumps(design.to_dict()))
    assert record["terms"] == len(record["signs"]) == len(record["coefficients"]) - 1 == design.terms
    assert record["kernel_error"] >= float(design.kernel_error)
    assert record["status"] == "proved"
    network = ek.ExplicitNetwork.of(HermiteSeries(record["coefficients"], record["scale"]), tau0=record["scale"])
    assert network.layers[0].activation == design.network.layers[0].activation


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"match": "cntk"}, "match"),
        ({"radius2": 0}, "radius2"),
        ({"radius2": "x"}, "radius2"),
        ({"terms": 0}, "terms"),
        ({"terms": 1001}, "terms"),
        ({"terms": True}, "terms"),
        ({"terms": 2.5}, "terms"),
        ({"tolerance": 0}, "tolerance"),
        ({"tolerance": math.nan}, "tolerance"),
        ({"tolerance": "1e-6"}, "tolerance"),
        ({"tolerance": 1e-3, "terms": 5}, "not both"),
        ({"trained": "B"}, "trained"),
        ({"signs": "random"}, "signs"),
        ({"signs": 1}, "signs"),
        ({"signs": [1, -1], "terms": 3}, r"each of k = 1 \.\. 3"),
        ({"signs": [1, 0.5, 1], "terms": 3}, "signs"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message):
        sphere_design(ek.DEQ("tanh"), **options)


def test_a_design_is_for_a_deq_with_an_expression():
    with pytest.raises(InputError, match="needs a DEQ"):
        sphere_design("tanh")
    with pytest.raises(InputError, match="Python function"):
        sphere_design(ek.DEQ(ek.callable_activation(np.tanh)))
