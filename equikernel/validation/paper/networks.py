"""The explicit networks that a DEQ is held against: its equivalent, and the one that nobody designed."""

from __future__ import annotations

import math

import sympy as sp

from equikernel.errors import UnstableError
from equikernel.numerics.moments import gaussian_moments
from equikernel.theory.activation import Activation, activation
from equikernel.theory.models import DEQ, ExplicitNetwork, Layer

__all__ = ["naive_network"]


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
