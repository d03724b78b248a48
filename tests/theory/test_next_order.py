"""Third-order terms against finite differences of the exact kernels, which share no formula with them."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest

from equikernel.numerics.designs.functionals import layer_moments
from equikernel.numerics.kernels import explicit_kernels, implicit_kernels
from equikernel.numerics.solve import solve
from equikernel.theory.activation import activation
from equikernel.theory.equations import ImplicitCK, ImplicitNTK, explicit_input, explicit_layer
from equikernel.theory.models import DEQ, ExplicitNetwork, Layer
from equikernel.theory.next_order import explicit_third_order, implicit_third_order, input_third_order

STEP = 2e-2
# fourth-order central differences err by about step^4 times derivatives of order 5 to 7; entries themselves by 1e-13
TOLERANCE = {"mixed": 2e-5, "cubic": 2e-4, "square": 2e-4, "norms": 2e-4, "diagonal": 1e-5}


def pair(s, chi_i, chi_j, tau02):
    """Two samples with the given inner product and squared norms."""
    a, b = tau02 + chi_i, tau02 + chi_j
    x = np.array([np.sqrt(a), 0.0])
    y0 = s / np.sqrt(a)
    return np.array([x, [y0, np.sqrt(b - y0 * y0)]])


def derivative(f, order):
    """d^order f/dx^order at 0, fourth order in the step."""
    stencils = {
        0: ((0, 1.0),),
        1: ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12)),
        2: ((-2, -1 / 12), (-1, 4 / 3), (0, -5 / 2), (1, 4 / 3), (2, -1 / 12)),
        3: ((-3, 1 / 8), (-2, -1.0), (-1, 13 / 8), (1, -13 / 8), (2, 1.0), (3, -1 / 8)),
    }
    return sum(w * f(k * STEP) for k, w in stencils[order]) / STEP**order


def measured(kernel, tau02):
    """The terms from a function of (s, chi_i, chi_j) that gives a 2 x 2 kernel."""

    def coefficient(a, b, c):
        factor = np.prod([float(np.prod(range(1, n + 1))) for n in (a, b, c)])
        return (
            derivative(
                lambda s: derivative(lambda i: derivative(lambda j: kernel(pair(s, i, j, tau02))[0, 1], c), b),
                a,
            )
            / factor
        )

    return {
        "mixed": coefficient(1, 1, 0),
        "cubic": coefficient(3, 0, 0),
        "square": coefficient(2, 1, 0),
        "norms": coefficient(0, 2, 1),
        "diagonal": derivative(lambda i: kernel(pair(0.0, i, 0.0, tau02))[0, 0], 1),
    }


def compare(terms, kernel, tau02):
    for name, value in measured(kernel, tau02).items():
        assert asdict(terms)[name] == pytest.approx(value, abs=TOLERANCE[name]), name


@pytest.mark.parametrize("trained", ["aA", "aAB"])
@pytest.mark.parametrize(("name", "tau0"), [("gelu", 1), ("relu", 1.2), ("tanh", 1), ("elu", 0.9)])
def test_terms_of_a_deq(name, tau0, trained):
    deq = DEQ(name, "0.3", "0.8")
    solution = solve(deq, tau0, trained=trained)
    moments = layer_moments(deq.activation, float(solution.tau))
    ck = ImplicitCK(*(float(getattr(solution, f)) for f in ImplicitCK.__dataclass_fields__))
    ntk = ImplicitNTK(*(float(getattr(solution, f)) for f in ImplicitNTK.__dataclass_fields__))
    found = implicit_third_order(ck, ntk, moments, 0.3, 0.8, trained)
    compare(found.ck, lambda X: implicit_kernels(X, deq, tau0=tau0, ntk=False).ck, tau0**2)
    compare(found.ntk, lambda X: implicit_kernels(X, deq, tau0=tau0, trained=trained).ntk, tau0**2)


@pytest.mark.parametrize("rates", [(), (0.5, 2.0)])
def test_terms_of_an_explicit_network(rates):
    network = ExplicitNetwork(tuple(Layer(activation(a)) for a in ("gelu", "x + 0.3*abs(x)")), 1.1, rates)
    first, *later = network.learning_rates
    state, terms = explicit_input(1.1**2, first), input_third_order(first)
    for layer, rate in zip(network.layers, later, strict=True):
        m = layer_moments(layer.activation, state.tau2**0.5)
        state, terms = (
            explicit_layer(state, m.V, m.d1, m.d2, m.h, m.v, rate),
            explicit_third_order(state, terms, m, rate),
        )
    compare(terms.ck, lambda X: explicit_kernels(X, network).ck, 1.1**2)
    compare(terms.ntk, lambda X: explicit_kernels(X, network).ntk, 1.1**2)


def test_formulas_run_on_exact_numbers():
    half = Fraction(1, 2)
    state, terms = explicit_input(Fraction(1)), input_third_order(Fraction(1))
    moments = layer_moments(activation("x**2"), 1.0)
    exact = type(moments)(*(Fraction(round(float(x))) for x in vars(moments).values()))
    out = explicit_third_order(state, terms, exact)
    # (u v)^2 - 1 of u = s + ..: E = 2 s^2 + chi_i chi_j, nothing of third order
    assert (out.ck.mixed, out.ck.cubic, out.ck.square, out.ck.norms) == (0, 0, 0, 0)
    assert explicit_layer(state, exact.V, exact.d1, exact.d2, exact.h, exact.v).alpha3 == 4 * half
