"""Nonlinear DEQs at initialisation: oracles to all printed digits, many digits, closed forms, symmetries, refusals."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad

from equikernel.numerics.initialisation import (
    InputLaw,
    haar_length_statistics,
    linear_depth_error,
    linear_deq,
    mean_field,
    reflection_transform,
    symmetric_mean_field,
)
from equikernel.numerics.initialisation.precision import Precision
from equikernel.numerics.initialisation.response import goe_transform
from equikernel.numerics.initialisation.symmetric import symmetric
from equikernel.theory.activation import activation
from equikernel.theory.initialisation import linear_statistics
from equikernel.theory.initialisation_nonlinear import relu_goe

STANDARD = InputLaw.gaussian()


def printed(value, text):
    """The value rounds to the printed decimal."""
    places = len(text.split(".")[1])
    assert abs(mpmath.mpf(value) - mpmath.mpf(text)) <= mpmath.mpf("0.5000001") * mpmath.mpf(10) ** -places, text


ORACLES = [
    ("tanh", "iid", "0.8", {"mean_square": "1.3705793", "chi": "0.3123216", "kappa": "0.1313065"}),
    ("tanh", "iid", "0.8", {"tangent_length": "1.4541682", "length_noise": "2.0859931"}),
    ("tanh", "orthogonal", "0.8", {"length_noise": "2.0001555"}),
    ("tanh", "iid", "1.5", {"mean_square": "1.6209047", "chi": "0.6009907", "tangent_length": "2.506207"}),
    ("tanh", "goe", "0.5", {"mean_square": "1.6499649", "chi": "0.8148417", "stability": "0.1976311"}),
    ("tanh", "goe", "0.5", {"tangent_length": "1.7009490", "radius": "0.7529751", "length_noise": "2.0671701"}),
    ("tanh", "goe", "0.8", {"mean_square": "2.0120588", "chi": "0.5860598", "stability": "0.3939269"}),
    ("tanh", "goe", "0.8", {"tangent_length": "2.5182256", "radius": "0.9124403", "length_noise": "2.2330149"}),
    ("relu", "goe", "0.55", {"mean_square": "1.6248275", "chi": "0.6140657", "length_noise": "10.831567"}),
    ("relu", "iid", "0.8", {"length_noise": "5.169654"}),
    # V_z = 5 v^2/4 + 4 v (1/2 - 1/(2 pi)), v = s q, q = 1/(1 - s/2), kappa = s/2
    ("relu", "orthogonal", "0.8", {"length_noise": "4.21181066674862"}),
]


@pytest.mark.parametrize(("name", "family", "sigma", "values"), ORACLES)
def test_oracles(name, family, sigma, values):
    found = mean_field(name, family, sigma, STANDARD)
    assert found.residual < 1e-12
    assert found.status == "solved"
    for field, text in values.items():
        printed(getattr(found, field), text)


@pytest.mark.parametrize("law", [STANDARD, InputLaw.constant(1), InputLaw.signs(), InputLaw.sample([1.0, -1.0, 1.0])])
@pytest.mark.parametrize(("family", "sigma"), [("iid", "0.6"), ("orthogonal", "0.6"), ("goe", "0.4")])
def test_the_identity_is_the_linear_deq(family, sigma, law):
    """Q, T, N Var q, tau(P^2), the edge: a linear DEQ does not care for the law of x with E x^2 = 1."""
    found = mean_field("x", family, sigma, law)
    truth = linear_deq(family, sigma)
    assert found.mean_square == pytest.approx(truth.length, rel=1e-12)
    assert found.tangent_length == pytest.approx(truth.length, rel=1e-12)
    assert found.length_noise == pytest.approx(truth.length_noise, rel=1e-11)
    assert found.radius == pytest.approx(float(sigma) * (2 if family == "goe" else 1), rel=1e-12)
    if family != "goe":
        assert found.tangent_square == pytest.approx(truth.square, rel=1e-12)


@pytest.mark.parametrize("law", [STANDARD, InputLaw.signs(), InputLaw.sample([0.5, -0.5, 1.5, -1.5])])
def test_relu_goe_closed_forms(law):
    found = mean_field("relu", "goe", "0.55", law)
    truth = relu_goe(0.55**2, math.sqrt)
    assert found.chi == pytest.approx(truth.response, rel=1e-12)
    assert found.stability == pytest.approx(truth.replicon, rel=1e-12)
    assert found.mean_square == pytest.approx(truth.gain * law.moment(2), rel=1e-12)
    assert found.tangent_length == pytest.approx(truth.gain, rel=1e-12)
    assert found.radius == pytest.approx(truth.edge, rel=1e-12)


@pytest.mark.parametrize(("family", "digits"), [("iid", 40), ("orthogonal", 25), ("goe", 20)])
def test_digits_agree_with_more_digits(family, digits):
    law = InputLaw.signs()
    few, many = (mean_field("tanh", family, "0.6", law, digits=d) for d in (digits, digits + 10))
    assert few.residual < 10.0**-digits
    names = ["mean_square", "chi", "stability", "tangent_length", "length_noise", "radius"]
    for name in names:
        a, b = getattr(few, name), getattr(many, name)
        with mpmath.workdps(digits + 20):
            assert abs(mpmath.mpf(a) - mpmath.mpf(b)) <= mpmath.mpf(10) ** -digits * abs(mpmath.mpf(b)), name
    plain = mean_field("tanh", family, "0.6", law)
    for name in names:
        assert getattr(plain, name) == pytest.approx(float(getattr(few, name)), rel=2e-13), name
    assert isinstance(few.to_dict()["mean_square"], str)
    assert isinstance(plain.to_dict()["mean_square"], float)


def test_goe_against_an_independent_integration():
    """SciPy's adaptive quadrature over g with a root finder for u, at x = 1: nothing in common with the rule."""
    found = mean_field("tanh", "goe", "0.7", InputLaw.constant(1))
    s = 0.49
    v, a = s * found.mean_square, s * found.chi

    def average(f):
        def integrand(g):
            u = g
            for _ in range(60):
                u -= (u - g - a * (math.tanh(u) + 1)) / (1 - a / math.cosh(u) ** 2)
            return f(math.tanh(u) + 1, 1 / math.cosh(u) ** 2) * math.exp(-g * g / (2 * v)) / math.sqrt(2 * math.pi * v)

        return quad(integrand, -12 * math.sqrt(v), 12 * math.sqrt(v), epsabs=1e-12, epsrel=1e-12, limit=200)[0]

    assert average(lambda z, d: z * z) == pytest.approx(found.mean_square, rel=1e-11)
    assert average(lambda z, d: d / (1 - a * d)) == pytest.approx(found.chi, rel=1e-11)
    replicon = s * average(lambda z, d: (d / (1 - a * d)) ** 2)
    assert replicon == pytest.approx(found.stability, rel=1e-11)


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "hardtanh"])
def test_derivatives_in_v_and_a(name):
    """Against differences; and dchi/da = dq/dv, for both come from one potential."""
    phi, law, plain = activation(name), InputLaw.gaussian("0.7", "0.3"), Precision()
    v, a, step = 0.6, 0.3, 2e-3
    here = symmetric(phi, v, a, law, plain)
    assert here.mass == pytest.approx(1, abs=1e-13)
    assert here.response_a == pytest.approx(here.square_v, rel=1e-11, abs=1e-13)

    def central(field, dv, da):
        up, down = (symmetric(phi, v + sign * dv, a + sign * da, law, plain) for sign in (1, -1))
        return (getattr(up, field) - getattr(down, field)) / (2 * (dv + da))

    for which, (dv, da) in {"v": (step, 0.0), "a": (0.0, step)}.items():
        for field in ("mean", "square", "response"):
            # Richardson: the error is of order step^4 times a fifth derivative of order 100
            difference = (4 * central(field, dv / 2, da / 2) - central(field, dv, da)) / 3
            assert getattr(here, f"{field}_{which}") == pytest.approx(difference, abs=100 * step**4), (field, which)


@pytest.mark.parametrize("sigma", ["0.3", "1.2"])
def test_sign_of_the_activation_does_not_matter(sigma):
    """-phi(W z) = phi((-W) z) and -W has the law of W."""
    plus, minus = (mean_field(name, "goe", sigma, STANDARD) for name in ("tanh", "-tanh(x)"))
    assert minus.chi == pytest.approx(-plus.chi, rel=1e-12)
    for field in ("mean_square", "stability", "radius", "length_noise", "tangent_length"):
        assert getattr(minus, field) == pytest.approx(getattr(plus, field), rel=1e-11), field


def test_goe_transform_is_the_goe():
    found = symmetric_mean_field("tanh", goe_transform(0.64), STANDARD)
    truth = mean_field("tanh", "goe", "0.8", STANDARD)
    assert found.mean_square == pytest.approx(truth.mean_square, rel=1e-13)
    assert found.tangent_length == pytest.approx(truth.tangent_length, rel=1e-12)


def test_reflection_of_the_identity_is_known():
    """W = sigma O D O^T, D = +-1: tau((I - W)^-2) = (1 + s)/(1 - s)^2, tau((I - W)^-1) = 1/(1 - s)."""
    s = 0.36
    found = symmetric_mean_field("x", reflection_transform(s, math.sqrt), STANDARD)
    assert found.mean_square == pytest.approx((1 + s) / (1 - s) ** 2, rel=1e-12)
    assert found.chi == pytest.approx(1 / (1 - s), rel=1e-12)
    assert found.tangent_length == pytest.approx((1 + s) / (1 - s) ** 2, rel=1e-12)


def test_transform_in_many_digits():
    context = Precision(30).mp.context
    transform = reflection_transform(context.mpf("0.36"), context.sqrt)
    found = symmetric_mean_field("x", transform, InputLaw.constant(1), digits=20)
    assert abs(found.mean_square - context.mpf("1.36") / context.mpf("0.64") ** 2) < 1e-19


def test_zero_sigma():
    found = mean_field("softplus", "goe", 0, STANDARD)
    assert found.mean_square == pytest.approx(1 + math.log(2) ** 2, rel=1e-14)
    assert found.chi == pytest.approx(0.5)
    assert (found.stability, found.tangent_length, found.length_noise, found.radius) == (0, 1, 0, 0)
    assert mean_field("tanh", "iid", 0, STANDARD).kappa == 0
    near = mean_field("softplus", "goe", "1e-6", STANDARD)
    assert near.mean_square == pytest.approx(found.mean_square, rel=1e-10)


def test_input_laws():
    law = InputLaw.gaussian("0.5", "-0.1")
    assert law.moment(3) == pytest.approx(-0.001 - 0.15)
    assert law.moment(4) == pytest.approx(1e-4 + 6 * 0.01 * 0.5 + 3 * 0.25)
    assert InputLaw.gaussian(0, 2) == InputLaw.constant(2)
    assert [InputLaw.signs(2).moment(k) for k in range(5)] == [1, 0, 4, 0, 16]
    assert InputLaw.sample([0.5, 1.5]).moment(2) == 1.25
    assert InputLaw.sample(np.linspace(-1, 1, 301)).moment(2) == pytest.approx(np.mean(np.linspace(-1, 1, 301) ** 2))
    assert STANDARD.is_symmetric
    assert not InputLaw.constant(1).is_symmetric
    assert InputLaw.constant(0).is_zero


def test_haar_statistics_in_numbers():
    for size, mean, variance in ((1, "12.654321", "152.415790"), (40, "3.024691", "1.659155")):
        found = haar_length_statistics(size, "0.8")
        printed(found.mean, mean)
        printed(found.variance, variance)
    assert linear_deq("goe", "0.49").length_noise == pytest.approx(
        float(linear_statistics("goe", mpmath.mpf("0.2401"), mpmath.sqrt).length_noise), rel=1e-14
    )
    assert linear_depth_error("goe", "0.01", 30) == pytest.approx(
        sum((2 * j + 1) * 1e-4 ** (31 + j) * math.comb(62 + 2 * j, 31 + j) / (32 + j) for j in range(20)), rel=1e-13
    )
    assert linear_depth_error("iid", 0, 3) == 0
