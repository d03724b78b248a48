"""Moments of layers as functions of their parameters, against those of the activation itself."""

from __future__ import annotations

import numpy as np
import pytest

from equikernel.numerics.designs.functionals import (
    GridLayer,
    closed_layer,
    layer_model,
    layer_moments,
    layer_slopes,
    reflection,
)
from equikernel.numerics.moments import gaussian_moments
from equikernel.theory.activation import activation
from equikernel.theory.families import FAMILIES, family

FORMULAS = [*FAMILIES, "a*x + b*sin(c*x)", "a*tanh(b*x) + c*x"]


def draws(layer, count=4):
    values = np.random.default_rng(1).normal(size=(count, len(layer.parameters)))
    positive = np.array([bool(p.is_positive) for p in layer.parameters])
    return np.where(positive, np.abs(values) + 0.1, values)


def made(layer, row, tau):
    return activation(layer.at({str(p): repr(float(v)) for p, v in zip(layer.parameters, row, strict=True)}, repr(tau)))


@pytest.mark.parametrize("tau", [0.7, 1.3])
@pytest.mark.parametrize("formula", FORMULAS)
def test_moments_of_families(formula, tau):
    layer = family(formula).layers[0]
    rows = draws(layer)
    found = layer_model(layer, tau).moments(rows, np.full(len(rows), tau))
    for k, row in enumerate(rows):
        act = made(layer, row, tau)
        wanted = gaussian_moments(act, tau)
        for name, moment in wanted.items():
            if name != "mean":
                # sums of up to three terms of the size of the largest
                scale = max(1.0, abs(moment.value), float(np.abs(row).max()) ** 2 * 20)
                assert float(np.asarray(getattr(found, name))[k]) == pytest.approx(moment.value, abs=1e-13 * scale)


@pytest.mark.parametrize("name", ["gelu", "relu", "tanh", "hard_tanh", "sign", "square"])
def test_moments_of_third_order(name):
    # differences of the moments in q = tau^2, from another rule of quadrature
    tau, step = 0.9, 1e-3
    act = activation(name)
    found = layer_moments(act, tau)
    above, below = (gaussian_moments(act, (tau**2 + s) ** 0.5) for s in (step, -step))
    slope = {n: (getattr(above, n).value - getattr(below, n).value) / (2 * step) for n in ("d1", "d2", "h")}
    assert found.d3 == pytest.approx(2 * slope["d1"], abs=1e-5)
    assert found.d4 == pytest.approx(2 * slope["d2"], abs=1e-4)
    assert found.h_q == pytest.approx(slope["h"] + found.d2**2 / 2, abs=1e-4)


@pytest.mark.parametrize("formula", ["a*x + b*sin(c*x)", "erf", "hard-tanh"])
def test_grid_and_closed_forms_agree(formula):
    layer = family(formula).layers[0]
    rows, tau = draws(layer), np.full(4, 0.8)
    closed, grid = closed_layer(layer), GridLayer(layer)
    assert closed is not None
    a, b = closed.moments(rows, tau), grid.moments(rows, tau)
    for name in ("V", "d1", "d2", "h", "v"):
        # the grid's step is 0.05, and clipping has kinks
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=2e-2, atol=2e-3)


def test_families_closed_under_reflection():
    assert reflection(FAMILIES["smooth"].layers[0]).tolist() == [[-1, 0, 0], [0, 1, 0], [0, 0, -1]]
    assert reflection(FAMILIES["leaky-relu"].layers[0]).tolist() == [[0, -1], [-1, 0]]
    assert reflection(family("a*x + b*exp(x)").layers[0]) is None
    assert reflection(FAMILIES["erf"].layers[0]) is None


def test_slopes():
    layer = FAMILIES["leaky-relu"].layers[0]
    np.testing.assert_allclose(layer_slopes(layer, np.array([[2.0, -3.0], [0.5, 0.25]]), 1.0), [3.0, 0.5])
