"""Families: formulas with parameters, what they are made of, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from equikernel.errors import InputError, ParseError
from equikernel.theory.activation import activation
from equikernel.theory.families import FAMILIES, family

LINEAR = {"leaky-relu": 2, "piecewise-linear": 3, "smooth": 3, "hermite-cubic": 3, "quadratic": 2}
X = np.linspace(-4, 4, 41)


def values(layer, tau=1.3):
    """Some decimal parameters."""
    return {str(p): f"{0.4 + 0.35 * k}" for k, p in enumerate(layer.parameters)}, repr(tau)


@pytest.mark.parametrize("name", FAMILIES)
def test_formula_with_numbers_is_the_expression_with_numbers(name):
    layer = FAMILIES[name].layers[0]
    known, tau = values(layer)
    symbols = {str(s): s for s in layer.expr.free_symbols}
    numbers = {symbols[k]: sp.Rational(v) for k, v in {**known, "tau": tau}.items() if k in symbols}
    from_text = activation(layer.at(known, tau))
    from_expression = activation(layer.expr.subs(numbers))
    np.testing.assert_allclose(from_text(X), from_expression(X), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", FAMILIES)
def test_sums_of_functions_and_scales_are_recognised(name):
    layer = FAMILIES[name].layers[0]
    assert (layer.basis is None) == (name not in LINEAR)
    if layer.basis is not None:
        assert len(layer.basis) == LINEAR[name]
        assert layer.scaling == layer.parameters
    known, tau = values(layer)
    twice = {k: str(2 * float(v)) if k in map(str, layer.scaling) else v for k, v in known.items()}
    a, b = activation(layer.at(known, tau))(X), activation(layer.at(twice, tau))(X)
    # constants do not count
    np.testing.assert_allclose(np.diff(b), 2 * np.diff(a), rtol=1e-12, atol=1e-12)


def test_parameters_are_found_in_the_formula():
    made = family("a*x + b*sin(c*x)")
    assert [str(p) for p in made.layers[0].parameters] == ["a", "b", "c"]
    assert made.layers[0].scaling == made.layers[0].parameters[:2]
    assert made.layers[0].basis is None
    assert family("a*tanh(c*x)", "c>0").layers[0].parameters[1].is_positive
    assert family("max(a*x, b*x)").layers[0].scaling == ()  # not linear in them


def test_one_formula_a_layer():
    made = family("a*x + b*abs(x); c*tanh(x)")
    assert made.depth == 2
    assert [len(layer.parameters) for layer in made.at_depth(2)] == [2, 1]
    with pytest.raises(InputError, match="has 2 layers; got depth 1"):
        made.at_depth(1)


def test_negative_numbers_read_well_and_parse():
    layer = FAMILIES["piecewise-linear"].layers[0]
    text = layer.at({"a": "-0.5", "b": "2", "c": "-1e-3"}, "1")
    assert text == "-0.5*x + 2*abs(x) - 1e-3*hard_tanh(x, -1, 1)"
    np.testing.assert_allclose(activation(text)(X), -0.5 * X + 2 * abs(X) - 1e-3 * np.clip(X, -1, 1), rtol=1e-13)


def test_terms_can_be_left_out():
    layer = FAMILIES["smooth"].layers[0].without(frozenset({"b"}))
    assert layer.text == "a*x + c*tanh(x/tau)"
    assert [str(p) for p in layer.parameters] == ["a", "c"]
    assert FAMILIES["smooth"].layers[0].without(frozenset({"a"})).text == "b*log_cosh(x/tau) + c*tanh(x/tau)"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("gelu", "unknown family 'gelu': expected auto, hard-tanh"),
        ("x*tanh(x)", "has no parameters"),
        ("a*x + b", "the parameter b drops out"),
        ("a*x + b*0", "the parameter b drops out"),
        ("", "a family is a name"),
        (3, "unknown family|no parameters"),
    ],
)
def test_what_is_no_family(spec, says):
    with pytest.raises((InputError, ParseError), match=says):
        family(spec)


def test_signs_of_unknown_parameters():
    with pytest.raises(InputError, match="parameter c was declared, but the formula 'a\\*x' has no such name"):
        family("a*x", "c>0")
    with pytest.raises(ParseError):
        family("a*x + b*foo(x)")
