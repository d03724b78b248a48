"""The statistics of a fixed point with symmetric weights: GOE, or rotation invariant."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

from equikernel.numerics.initialisation.critical import goe_response
from equikernel.numerics.initialisation.edge import goe_edge
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Precision
from equikernel.numerics.initialisation.response import (
    Response,
    ResponseProblem,
    evaluate,
    goe_transform,
)
from equikernel.numerics.initialisation.result import MeanField, finer
from equikernel.numerics.initialisation.symmetric import conditional
from equikernel.theory.activation import Activation
from equikernel.theory.initialisation_nonlinear import symmetric_fluctuation, tangent_length

__all__ = ["goe_field", "response_field"]

_MANY_ATOMS = 200  # beyond, sums over x in many digits would take minutes


def goe_field(phi: Activation, sigma: Fraction, law: InputLaw, precision: Precision, *, confirm: bool) -> MeanField:
    """The fixed point that continues that of small sigma, and its statistics.

    Raises:
        ConvergenceError, NoFixedPointError: none was reached.
    """
    s = precision.number(sigma**2)
    point = goe_response(phi, sigma**2, law, precision)
    stable, few = bool(point.replicon < 1), len(law.atoms) <= _MANY_ATOMS
    edge = goe_edge(phi, sigma**2, point, law, precision)
    return replace(
        response_field(phi, "goe", point, law, precision),
        sigma=sigma,
        radius=edge.value,
        radius_bounds=(edge.lower, edge.upper),
        length_noise=_noise(phi, s, point, law, precision) if stable else None,
        residual=_residual(phi, sigma, point, law, finer(precision) if confirm and few else precision),
    )


def response_field(phi: Activation, family: str, point: Response, law: InputLaw, precision: Precision) -> MeanField:
    """What holds for every symmetric rotation-invariant W."""
    stable = bool(point.replicon < 1)
    return MeanField(
        activation=phi.name,
        family=family,
        sigma=None,
        law=law,
        digits=precision.digits,
        mean_square=point.q,
        chi=point.chi,
        stability=point.replicon,
        stable=stable,
        kappa=None,
        tangent_length=tangent_length(point.replicon, point.integrals.static) if stable else None,
        tangent_square=None,
        radius=None,
        length_noise=None,
        residual=point.size,
        status="solved" if stable else "unstable",
    )


def _noise(phi: Activation, s: Any, point: Response, law: InputLaw, precision: Precision) -> Any:
    """N Var q at fixed x; with Gaussian x the double integrals are done in float64."""
    i = point.integrals
    L = ((1 - s * i.square_v, -i.square_a), (-s * i.response_v, 1 / s - i.response_a))
    plain = law.variance is not None or len(law.atoms) > _MANY_ATOMS
    left = conditional(phi, point.v, point.a, law, Precision() if plain else precision)
    mixed = i.mixed - left.square_response
    K = ((i.fourth - left.square_square, mixed), (mixed, 1 / s - left.response_response))
    found = symmetric_fluctuation(L, K)
    return float(found) if plain or precision.digits is None else found


def _residual(phi: Activation, sigma: Fraction, point: Response, law: InputLaw, fine: Precision) -> float:
    problem = ResponseProblem(phi, goe_transform(fine.number(sigma**2)), law)
    again = evaluate(problem, fine.number(point.q), fine.number(point.chi), fine)
    return math.inf if again is None else again.size
