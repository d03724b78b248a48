"""The explicit networks that a DEQ is held against: its equivalent, and the one that nobody designed."""

from __future__ import annotations

import math
from functools import lru_cache

import sympy as sp

from equikernel.errors import UnstableError
from equikernel.numerics.designs.equivalent import family_design
from equikernel.numerics.moments import gaussian_moments
from equikernel.theory.activation import Activation, activation
from equikernel.theory.models import DEQ, ExplicitNetwork, Layer

__all__ = ["equivalent_of", "naive_network"]


@lru_cache(maxsize=32)
def equivalent_of(deq: DEQ, kernel: str = "ck", tau0: float = 1.0, *, extra: int = 0) -> ExplicitNetwork:
    """The explicit network with the kernel's coefficients, found once; of the NTK with free learning rates.

    One layer with free rates has the coefficients of an NTK, but few solutions among which the nearest could be chosen:
    ``extra`` layers leave a choice.

    Args:
        deq: the network.
        kernel: "ck" or "ntk".
        tau0: standard deviation of the data.
        extra: layers beyond those needed.

    Raises:
        NoDesignError: there is none.
    """
    rates = "equal" if kernel == "ck" else "free"
    depth = equivalent_of(deq, kernel, tau0).depth + extra if extra else "auto"
    return family_design(deq, tau0, kernel, depth, rates=rates).network


def naive_network(phi: str | sp.Expr | Activation | DEQ, tau0: float = 1.0, depth: int = 2) -> ExplicitNetwork:
    """Layers of the activation itself, initialised so that each keeps the variance: no kernel is matched.

    Formula: sigma_l = c phi with c^2 Var phi(tau0 xi) = tau0^2, the same in every layer; centring is that of every
    explicit network (theory, section 1). For phi = relu it is He's initialisation, of the centred relu.

    Args:
        phi: an activation, or a DEQ, whose activation is taken.
        tau0: standard deviation of the data.
        depth: the number of layers.

    Raises:
        InputError: a bad activation, tau0 or depth.
        UnstableError: Var phi(tau0 xi) is zero or infinite.
    """
    act = phi.activation if isinstance(phi, DEQ) else activation(phi)
    variance = float(gaussian_moments(act, tau0).V.value)
    if not (math.isfinite(variance) and variance > 0.0):
        raise UnstableError(f"a naive network of {act.name} cannot keep the variance: Var phi is {variance} at tau0")
    factor = tau0 / math.sqrt(variance)
    scaled = Activation(sp.Float(factor) * act.expr, f"{factor:.6g}*{act.name}")
    return ExplicitNetwork((Layer(scaled),) * depth, float(tau0))
