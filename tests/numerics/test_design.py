"""Designs: exact where the family allows, refused in one sentence elsewhere."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from equikernel.errors import InputError, NoDesignError
from equikernel.numerics.designs.equivalent import equivalent_network
from equikernel.numerics.explicit import explicit_coefficients
from equikernel.numerics.kernels import explicit_ck, implicit_ck
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ


@pytest.mark.parametrize("sigma_a2", ["0.05", "0.2", "0.5"])
@pytest.mark.parametrize("match", ["ck", "ntk"])
@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "arctan", "hard_tanh", "softsign"])
def test_odd_activations_take_one_hard_tanh_layer(name, match, sigma_a2):
    deq = DEQ(name, sigma_a2, "0.8")
    design = equivalent_network(deq, match=match)
    assert (design.depth, design.family, design.status) == (1, "hard-tanh", "solved")
    assert design.residual <= 1e-12
    # recomputed here from the network alone
    target, achieved = solve(deq), explicit_coefficients(design.network)
    pairs = (
        [("gamma2", "tau2"), ("alpha1", "alpha1"), ("alpha3", "alpha3")]
        if match == "ck"
        else [("kappa2", "kappa2"), ("beta1", "beta1"), ("beta3", "beta3")]
    )
    for wanted, got in pairs:
        assert getattr(achieved, got) == pytest.approx(getattr(target, wanted), rel=1e-12)


@pytest.mark.parametrize("tau0", [0.5, 1, 2])
@pytest.mark.parametrize("sigma_a2", ["0.05", "0.2", "0.5", "0.8"])
def test_relu_takes_two_leaky_layers(sigma_a2, tau0):
    design = equivalent_network(DEQ("relu", sigma_a2, "0.5"), tau0)
    assert (design.depth, design.family) == (2, "leaky-relu")
    assert design.residual <= 1e-12
    for layer in design.network.layers:
        assert dict(layer.params)["a"] > dict(layer.params)["b"]


def test_exact_kernels_of_the_design_approach_those_of_the_deq():
    deq = DEQ("relu")
    design = equivalent_network(deq)
    gaps = []
    for p in (200, 800):
        X = np.random.default_rng(p).normal(size=(p // 2, p)) / math.sqrt(p)
        gaps.append(np.linalg.norm(implicit_ck(X, deq, tau0=1) - explicit_ck(X, design.network), 2))
    assert gaps[1] < 0.7 * gaps[0]
    assert gaps[1] < 0.1


@pytest.mark.parametrize("name", ["gelu", "swish", "elu", "cos"])
def test_no_compromise_is_called_a_solution(name):
    with pytest.raises(NoDesignError, match="no leaky-relu network of depth 2") as caught:
        equivalent_network(DEQ(name))
    assert caught.value.exit_code == 3


def test_depth_one_is_impossible_without_a_symmetry():
    with pytest.raises(NoDesignError, match="one layer forces alpha2 = alpha3/2"):
        equivalent_network(DEQ("relu"), depth=1)
    with pytest.raises(NoDesignError, match="alpha2 = alpha3 = 0"):
        equivalent_network(DEQ("gelu"), family="hard-tanh")


def test_too_rough_for_hard_tanh():
    # V/(d1^2 tau0^2) of a clip lies in [1, pi/2): the readout of sign is beyond
    with pytest.raises(NoDesignError, match="hard-tanh"):
        equivalent_network(DEQ("sign"))


@pytest.mark.parametrize(
    "bad", [{"match": "both"}, {"depth": 3}, {"family": "cubic"}, {"depth": 1, "family": "leaky-relu"}], ids=str
)
def test_bad_arguments(bad):
    with pytest.raises((InputError, NoDesignError)):
        equivalent_network(DEQ("relu"), **bad)


def test_export_round_trips_through_json():
    exported = json.loads(json.dumps(equivalent_network(DEQ("tanh")).to_dict()))
    assert exported["depth"] == 1
    assert exported["layers"][0]["params"].keys() == {"a", "c"}
    assert exported["residual"] <= 1e-12
