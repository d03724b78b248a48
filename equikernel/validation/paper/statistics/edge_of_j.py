"""Where the spectrum of J ends for goe weights, and how far inside the largest eigenvalue lies at finite N."""

from __future__ import annotations

from dataclasses import dataclass

from equikernel.numerics.initialisation import InputLaw
from equikernel.numerics.initialisation.critical import goe_response
from equikernel.numerics.initialisation.edge import goe_edge
from equikernel.numerics.initialisation.precision import Precision
from equikernel.numerics.initialisation.symmetric import spectral
from equikernel.theory.activation import activation
from equikernel.theory.models import exact_number

__all__ = ["FiniteEdge", "finite_edge"]

# the mean of the Tracy-Widom law for real symmetric matrices [Bornemann, Math. Comp. 79 (2010)]
_TRACY_WIDOM = -1.2065335745820


@dataclass(frozen=True)
class FiniteEdge:
    """E lambda_max = value + shift N^(-2/3) + O(1/N)."""

    value: float
    shift: float


def finite_edge(act: str, sigma: float, law: InputLaw) -> FiniteEdge:
    """The edge and the Tracy-Widom shift of the largest eigenvalue of J, spectrum real.

    Formula: lambda(t)^2 = s f(t), f(t) = E[d/(1 - t d)]/t, and the resolvent's trace g(t) = E[1/(1 - t d)]/lambda. At
    the minimum of f the inverse lambda(g) has the curvature lambda'' = (s f''/(2 lambda))/(dg/dt)^2, and near such an
    edge eigenvalues lie as those of GOE do: shift = E TW_1 (lambda''/2)^(1/3).

    Raises:
        EquikernelError: no fixed point.
    """
    phi, plain = activation(act), Precision()
    s = exact_number(sigma, "sigma") ** 2
    point = goe_response(phi, s, law, plain)
    edge = goe_edge(phi, s, point, law, plain)
    t, value = float(edge.t), float(edge.value)
    drift, second, third, fourth = (float(k) for k in spectral(phi, point.v, point.a, t, law, plain))
    bend = 2.0 * drift / t**3 + 2.0 * fourth
    trace_slope = (drift + 2.0 * t * second + t * t * third) / value
    curvature = float(s) * bend / (2.0 * value) / trace_slope**2
    return FiniteEdge(value, _TRACY_WIDOM * (curvature / 2.0) ** (1.0 / 3.0))
