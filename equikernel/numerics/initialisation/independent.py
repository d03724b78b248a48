"""Integrals over u ~ N(0, v), for weights whose u = W z is independent of x: iid and orthogonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from equikernel.numerics.initialisation.precision import Array, Precision, converged
from equikernel.numerics.quadrature import Nodes
from equikernel.theory.activation import Activation

__all__ = ["Independent", "independent"]


@dataclass(frozen=True)
class Independent:
    """Integrals over u ~ N(0, v).

    Attributes:
        p1: E phi; p2, p3, p4: E phi^2, E phi^3, E phi^4.
        p1_v: dE phi/dv; p2_v: dE phi^2/dv.
        d1: E phi'; d2: E phi'^2; d4: E phi'^4.
        d2_v: dE phi'^2/dv.
    """

    p1: Any
    p2: Any
    p3: Any
    p4: Any
    p1_v: Any
    p2_v: Any
    d1: Any
    d2: Any
    d4: Any
    d2_v: Any


def independent(activation: Activation, v: Any, precision: Precision) -> Independent:
    """The integrals over u ~ N(0, v), v > 0 a variance; derivatives by the weight (u^2/v - 1)/(2v).

    Raises:
        AccuracyError: the quadrature did not converge, or overflows.
    """
    v = precision.number(v)
    root = precision.sqrt(v)

    def terms(nodes: Nodes, m: Any) -> list[Array]:
        w = nodes.dy * m.exp(-nodes.y * nodes.y / (2 * v)) / (root * m.root_two_pi)
        heat = w * (nodes.y * nodes.y / v - 1) / (2 * v)
        f, slopes = nodes.phi, nodes.slope * nodes.slope
        square = f * f
        return [
            w * f,
            w * square,
            w * square * f,
            w * square * square,
            heat * f,
            heat * square,
            w * nodes.slope,
            w * slopes,
            w * slopes * slopes,
            heat * slopes,
        ]

    # phi^4 grows twice as fast as what the rule's reach is made for
    scale = float(root) * (2.0 if activation.growth.rate > 0.0 else 1.0)
    return Independent(*converged(activation, scale, precision, terms))
