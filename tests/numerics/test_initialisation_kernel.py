"""The kernel of DEQs with GOE weights: oracles, the i.i.d. kernel, coefficients by differences, refusals."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from equikernel.errors import EquikernelError, InputError, UnstableError
from equikernel.numerics.initialisation import goe_coefficients, kernel_pair, kernel_sample
from equikernel.numerics.initialisation.independent import independent
from equikernel.numerics.initialisation.pair_table import PairTable
from equikernel.numerics.initialisation.precision import Precision
from equikernel.numerics.kernels import implicit_ck
from equikernel.numerics.kernels.effective import effective_table
from equikernel.numerics.solve import solve
from equikernel.theory.activation import activation
from equikernel.theory.equations import ntk_entry
from equikernel.theory.models import DEQ


def printed(value, text):
    """The value rounds to the printed decimal."""
    places = len(text.split(".")[1])
    assert abs(mpmath.mpf(value) - mpmath.mpf(text)) <= mpmath.mpf("0.5000001") * mpmath.mpf(10) ** -places, text


@pytest.mark.parametrize(
    ("name", "family", "sigma_a", "xx", "xy"),
    [
        ("relu", "iid", 1.0, "1.0000000", "0.6654203"),
        ("tanh", "iid", 1.2, "0.4918120", "0.2120926"),
        ("tanh", "goe", 0.8, "0.5673814", "0.2395315"),
    ],
)
def test_oracles_of_the_kernel(name, family, sigma_a, xx, xy):
    found = kernel_pair(name, family, sigma_a**2, 1.0, (1.0, 1.0, 0.5))
    printed(found.xx, xx)
    printed(found.xy, xy)
    if family == "goe":
        printed(found.chi_x, "0.5978901")


def test_odd_activation_flips_the_kernel_with_the_angle():
    plus, minus = (kernel_pair("tanh", "goe", 0.64, 1.0, (1.0, 1.0, c)) for c in (0.5, -0.5))
    assert minus.xy == pytest.approx(-plus.xy, rel=1e-13)


def test_kernel_agrees_with_the_iid_kernel():
    """kernel_pair with iid weights, centred as implicit_ck centres, at samples of different norm."""
    X = np.array([[1.0, 0.2, 0.0], [0.3, 1.1, -0.4]])
    network = DEQ("gelu", "0.3", "0.7")
    G = implicit_ck(X, network, tau0=1.0)
    gram = X @ X.T
    q = float(solve(network, 1.0).tau) ** 2
    centre = independent(activation("gelu"), q, Precision()).p1
    found = kernel_pair("gelu", "iid", 0.3, 0.7, (gram[0, 0], gram[1, 1], gram[0, 1]), centre)
    assert [found.xx, found.yy, found.xy] == pytest.approx([G[0, 0], G[1, 1], G[0, 1]], rel=1e-11)


def test_samples_of_different_norm_have_different_responses():
    found = kernel_pair("tanh", "goe", 0.64, 1.0, (1.0, 2.0, 0.5))
    assert found.chi_y < found.chi_x - 0.1
    assert found.xx == pytest.approx(kernel_pair("tanh", "goe", 0.64, 1.0, (1.0, 1.0, 0.0)).xx, rel=1e-13)
    swapped = kernel_pair("tanh", "goe", 0.64, 1.0, (2.0, 1.0, 0.5))
    assert swapped.xy == pytest.approx(found.xy, rel=1e-12)
    assert found.slope**2 <= found.stability_x * found.stability_y / 0.64**2


@pytest.mark.parametrize("name", ["relu", "softplus"])
def test_goe_coefficients_are_derivatives_of_the_pair_equation(name):
    """alpha1, alpha3, beta1, beta3 in x.y; alpha2, beta2 in the two norms; alpha4 on the diagonal; by differences."""
    sigma_a2, sigma_b2, step = 0.2, 0.8, 2e-3
    found = goe_coefficients(name, sigma_a2, sigma_b2)
    full = goe_coefficients(name, sigma_a2, sigma_b2, trained="aAB")
    kernels = {"a": found.ck, "aA": found.ntk, "aAB": full.ntk}

    def kernel(dx, dy, inner):
        pair = kernel_pair(name, "goe", sigma_a2, sigma_b2, (1 + dx, 1 + dy, inner), found.centre)
        return np.array([ntk_entry(pair.xy, pair.slope, inner, sigma_a2, sigma_b2, trained) for trained in kernels])

    zero, up, down = kernel(0, 0, 0), kernel(0, 0, step), kernel(0, 0, -step)
    assert np.all(abs(zero) < 1e-14)
    cross = kernel(step, step, 0) - kernel(step, -step, 0) - kernel(-step, step, 0) + kernel(-step, -step, 0)
    tolerance = 20 * step**2  # third and fourth derivatives are of order ten
    for k, (trained, coefficients) in enumerate(kernels.items()):
        linear, norms, square = list(vars(coefficients).values())[slice(2, 5) if trained == "a" else slice(0, 3)]
        assert (up - down)[k] / (2 * step) == pytest.approx(linear, abs=tolerance), trained
        assert cross[k] / (4 * step**2) == pytest.approx(norms, abs=tolerance), trained
        assert (up + down)[k] / (2 * step**2) == pytest.approx(square, abs=tolerance), trained
    above, below = (kernel_sample(name, "goe", sigma_a2, sigma_b2, 1 + d, found.centre).v for d in (step, -step))
    assert (above - below) / (2 * step) == pytest.approx(found.ck.alpha4, abs=tolerance)
    at = kernel_sample(name, "goe", sigma_a2, sigma_b2, 1, found.centre)
    assert found.q == pytest.approx(at.v, rel=1e-13)
    diagonal = [ntk_entry(at.q, at.integrals.replicon, 1.0, sigma_a2, sigma_b2, trained) for trained in ("aA", "aAB")]
    assert [found.ntk.kappa2, full.ntk.kappa2] == pytest.approx(diagonal, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "hardtanh"])
@pytest.mark.parametrize("rho", [0.979, -0.979, 0.5])
def test_both_rules_of_a_pair_agree(name, rho):
    x, y = (kernel_sample(name, "goe", 0.2, 1.0, norm2) for norm2 in (1.0, 1.02))
    table = PairTable(activation(name), x, y, 0.0)
    covariance = rho * np.sqrt(x.v * y.v)
    value, slope = table.at(covariance)
    other = table.ridge(1 - abs(rho), np.sign(rho))
    assert [other.value, other.slope] == pytest.approx([value, slope], rel=1e-12, abs=1e-13)
    assert other.distance == pytest.approx(x.q + y.q - 2 * np.sign(rho) * value, rel=1e-11)


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "hardtanh"])
def test_nearly_parallel_samples(name):
    """K(x, x) - K(x, y) = (1 - x.y) sigma_b^2 E psi'^2/(1 - R) + ..., R = sigma_a^2 E psi'^2."""
    sigma_a2 = 0.2
    for gap in (1e-3, 1e-5, 1e-8, 1e-12):
        pair = kernel_pair(name, "goe", sigma_a2, 1.0, (1.0, 1.0, 1.0 - gap))
        y2 = pair.stability_x / sigma_a2
        # the next term is of relative order sqrt(gap) where phi has kinks; gap itself was rounded
        tolerance = 3 * gap**0.5 + 4e-16 / gap
        assert (pair.xx - pair.xy) / gap == pytest.approx(y2 / (1 - pair.stability_x), rel=tolerance)


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_hermite_series_of_the_effective_activation(name):
    """Mehler's series against the double integral, at two samples of different norm."""
    sigma_a2, centre, inner = 0.2, 0.1, 0.6
    points = [kernel_sample(name, "goe", sigma_a2, 1.0, norm2, centre) for norm2 in (1.0, 1.5)]
    table = effective_table(activation(name), sigma_a2, centre)
    A, B = table.rows(np.array([point.v for point in points]), 61) - centre * (np.arange(61) == 0)
    pair = kernel_pair(name, "goe", sigma_a2, 1.0, (1.0, 1.5, inner), centre)
    rho = (sigma_a2 * pair.xy + inner) / np.sqrt(points[0].v * points[1].v)
    assert np.sum(A * B * rho ** np.arange(61)) == pytest.approx(pair.xy, abs=1e-12)
    assert A[1] / points[0].v ** 0.5 == pytest.approx(points[0].chi, rel=1e-12)
    assert A[0] == pytest.approx(points[0].integrals.mean, abs=1e-13)


def test_oscillations_along_a_ridge_are_resolved():
    """E sin(u_x) sin(u_y) at preactivations of standard deviation 60, .985 correlated: 1e-30, not the rule's error."""
    found = kernel_pair("sin(3*x)", "goe", 0.02, 1.0, (500.0, 500.0, 492.5))
    assert [found.xy, found.slope] == pytest.approx([0.0, 0.0], abs=1e-12)


def test_goe_coefficients_of_odd_activations():
    found = goe_coefficients("tanh", 0.3, 0.7)
    assert found.centre == 0
    assert found.ck.alpha2 == found.ck.alpha3 == 0


def test_goe_coefficients_without_recurrence_are_the_iid_ones():
    """At sigma_a = 0 no family matters: alpha1 = sigma_b^2 d1^2, alpha3 = sigma_b^4 d2^2/2, and so on."""
    found = goe_coefficients("relu", 1e-12, 0.5, tau0=2.0).ck
    assert found.alpha1 == pytest.approx(0.5 / 4, rel=1e-10)
    assert found.alpha3 == pytest.approx(0.25 / (2 * np.pi * 2.0) / 2, rel=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernel_pair("tanh", "goe", 0.6, 1.0, (1, 1, 2)), InputError, r"\|x.y\|"),
        (lambda: kernel_sample("tanh", "goe", 0.6, 1.0, 0), InputError, "x = 0"),
        (lambda: kernel_sample("tanh", "goe", 4, 0.01, 1), UnstableError, "critical sigma_a2 is 0.380995"),
    ],
)
def test_refusals_are_one_sentence(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, EquikernelError)
    assert "\n" not in str(caught.value)
