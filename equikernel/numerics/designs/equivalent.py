"""Explicit networks with the kernel coefficients of a DEQ: the designs of [Ling24], solved exactly or refused.

Two families: one layer of hard tanh for odd activations, two layers of leaky ReLU for ReLU-like ones. A design is
returned only if its coefficients, recomputed by the general recursion, equal the DEQ's; a best approximation is never
passed off as a solution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize

from equikernel.errors import InputError, NoDesignError
from equikernel.numerics.explicit import ExplicitCoefficients, explicit_coefficients
from equikernel.numerics.moments import Moments, gaussian_moments
from equikernel.numerics.solve import Solution, solve
from equikernel.theory.activation import Activation, activation
from equikernel.theory.models import DEQ, ExplicitNetwork, Layer

__all__ = ["FAMILIES", "Design", "equivalent_network"]

FAMILIES = {"hard-tanh": 1, "leaky-relu": 2}  # family -> depth
TOLERANCE = 1e-12
_CK = {"alpha1": "alpha1", "alpha2": "alpha2", "alpha3": "alpha3", "gamma2": "tau2"}
_NTK = {"beta1": "beta1", "beta2": "beta2", "beta3": "beta3", "kappa2": "kappa2"}


@dataclass(frozen=True)
class Design:
    """An explicit network whose CK (or NTK) has the coefficients of a DEQ's.

    Attributes:
        network: the network; its layers are uncentred, as ``ExplicitNetwork`` takes them.
        match: "ck" (alpha1, alpha2, alpha3, gamma^2) or "ntk" (beta1, beta2, beta3, kappa^2).
        family: its name in ``FAMILIES``.
        residual: largest relative difference between target and achieved.
        target: the DEQ's coefficients.
        achieved: the network's, recomputed by ``explicit_coefficients``.
        status: "solved".
    """

    network: ExplicitNetwork
    match: str
    family: str
    residual: float
    target: dict[str, float]
    achieved: dict[str, float]
    status: str = "solved"

    @property
    def depth(self) -> int:
        """The number of hidden layers."""
        return self.network.depth

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "match": self.match,
            "depth": self.depth,
            "family": self.family,
            "tau0": self.network.tau0,
            "layers": [layer.to_dict() for layer in self.network.layers],
            "target": self.target,
            "achieved": self.achieved,
            "residual": self.residual,
            "status": self.status,
        }


def equivalent_network(
    deq: DEQ, tau0: Any = 1, match: str = "ck", depth: str | int = "auto", family: str = "auto"
) -> Design:
    """The explicit network of a family with the same high-dimensional kernel as a DEQ ([Ling24]; theory, section 6).

    Odd activations take one layer a*clip(x, -c, c); others two layers max(a x, b x) with the gauge fixed by
    tau_1 = tau_0. Relative residual at most 1e-12 in each of the four coefficients, or an error.

    Args:
        deq: the network to imitate.
        tau0: standard deviation of the data.
        match: "ck", or "ntk" (all parameters of the explicit network trained; a and A of the DEQ).
        depth: "auto", 1 or 2.
        family: "auto", "hard-tanh" or "leaky-relu".

    Raises:
        InputError: unknown match, depth or family, or a depth the family does not have.
        NoDesignError: the family has no network with these coefficients.
        SolutionError: the DEQ itself has no fixed point, or is unstable.
    """
    if match not in ("ck", "ntk"):
        raise InputError(f'match must be "ck" or "ntk"; got {match!r}')
    if depth not in ("auto", 1, 2, "1", "2"):
        raise InputError(f'depth must be "auto", 1 or 2; got {depth!r}')
    if family != "auto" and family not in FAMILIES:
        raise InputError(f"unknown family {family!r}: expected auto, {' or '.join(FAMILIES)}")
    solution = solve(deq, tau0, trained="a" if match == "ck" else "aA")
    wanted = None if depth == "auto" else int(depth)
    chosen = _choose_family(solution, wanted, family)
    candidates = (_hard_tanh_layers if chosen == "hard-tanh" else _leaky_layers)(solution, match)
    target = {name: float(getattr(solution, name)) for name in (_CK if match == "ck" else _NTK)}
    best: Design | None = None
    for layers in candidates:
        network = ExplicitNetwork(layers, float(solution.tau0))
        achieved = _achieved(explicit_coefficients(network, ntk=match == "ntk"), match)
        residual = _residual(target, achieved)
        if best is None or residual < best.residual:
            best = Design(network, match, chosen, residual, target, achieved)
    if best is None or best.residual > TOLERANCE:
        found = (
            "none satisfies even three of the four equations"
            if best is None
            else (f"the nearest misses by {best.residual:.2g} (relative)")
        )
        raise NoDesignError(
            f"no {chosen} network of depth {FAMILIES[chosen]} has the {match.upper()} coefficients of the DEQ with "
            f"{deq.activation.name}: {found}; no other family is available for this activation"
        )
    return best


def _choose_family(solution: Solution, depth: int | None, family: str) -> str:
    moments = _moments_of(solution)
    flat = moments.d2.value == 0 or moments.d2.relative_error > 1.0
    name = solution.deq.activation.name
    if family == "auto":
        family = "hard-tanh" if (flat and depth != 2) else "leaky-relu"
    if depth == 1 and not flat:
        raise NoDesignError(
            f"no network of depth 1 can match {name}: one layer forces alpha2 = alpha3/2, here "
            f"alpha2/alpha3 = {float(solution.alpha2 / solution.alpha3):.6g}; ask for depth 2"
        )
    if depth is not None and FAMILIES[family] != depth:
        raise InputError(f"the family {family} has depth {FAMILIES[family]}; got depth {depth}")
    if family == "hard-tanh" and not flat:
        raise NoDesignError(
            f"no hard-tanh layer can match {name}: an odd layer has alpha2 = alpha3 = 0, here "
            f"alpha3 = {float(solution.alpha3):.6g}; use the family leaky-relu"
        )
    return family


def _moments_of(solution: Solution) -> Moments:
    if solution.moments is None:
        raise AssertionError("a solved Solution carries its moments")
    return solution.moments


def _achieved(coefficients: ExplicitCoefficients, match: str) -> dict[str, float]:
    fields = _CK if match == "ck" else _NTK
    return {name: float(getattr(coefficients, field)) for name, field in fields.items()}


def _residual(target: dict[str, float], achieved: dict[str, float]) -> float:
    """Largest |achieved - target|/|target|; where the target is zero, relative to the kernel's diagonal."""
    diagonal = target.get("gamma2", target.get("kappa2", 1.0))
    return max(abs(achieved[k] - t) / (abs(t) if t else diagonal) for k, t in target.items())


def _hard_tanh_layers(solution: Solution, match: str) -> Iterator[tuple[Layer, ...]]:
    """One layer a*clip(x, -c, c) with the diagonal and the linear coefficient of the DEQ.

    By scaling it has the moments of hard tanh at s = tau0/c, so that with R(s) = V/(d1 s)^2 the ratio
    gamma^2/(alpha1 tau0^2) is R and kappa^2/(beta1 tau0^2) is (R + v/d1^2)/2: both increase in s from 1.
    """
    unit = activation("hard_tanh")
    tau02 = float(solution.tau0) ** 2
    linear, diagonal = (solution.alpha1, solution.gamma2) if match == "ck" else (solution.beta1, solution.kappa2)
    if linear <= 0:
        return
    goal = diagonal / (linear * tau02)

    def excess(log_s: float) -> float:
        s = math.exp(log_s)
        m = gaussian_moments(unit, s)
        ratio = m.V.value / (m.d1.value * s) ** 2
        return float((ratio if match == "ck" else (ratio + m.v.value / m.d1.value**2) / 2) - goal)

    low, high = math.log(0.1), math.log(1e4)
    if abs(excess(low)) <= 1e-14 * goal:  # a linear activation: a clip that the data never reaches
        s = math.exp(low)
    elif excess(low) < 0 < excess(high):
        s = math.exp(scipy.optimize.brentq(excess, low, high, xtol=1e-15, rtol=1e-15))
    else:
        return
    d1 = gaussian_moments(unit, s).d1.value
    a = math.sqrt(linear if match == "ck" else linear / 2.0) / d1
    a, c = float(a), float(solution.tau0) / s
    yield (_layer(f"{a!r}*max(min(x, {c!r}), -{c!r})", {"a": a, "c": c}),)


def _leaky_layers(solution: Solution, match: str) -> Iterator[tuple[Layer, ...]]:
    """Two layers m_l x + d_l |x| = max(a_l x, b_l x): three of the four equations, the fourth is checked.

    With x = (d_1/m_1)^2, y = (d_2/m_2)^2, P = (m_1 m_2)^2, k = 2/pi and X = 1 + (1 - k) x, the recursion gives

        CK:  alpha1 = P,   4 tau0^2 alpha2/(k P) = x + y X,     2 tau0^2 alpha3/(k P) = x + y/X
        NTK: beta1 = 3 P,  4 tau0^2 beta2/(k P) = 2 x + y X,    2 tau0^2 beta3/(k P) = 4 x + 5 y/X

    and eliminating y leaves a cubic in x.
    """
    k = 2.0 / math.pi
    tau02 = float(solution.tau0) ** 2
    if match == "ck":
        P, second, third = float(solution.alpha1), float(solution.alpha2), float(solution.alpha3)
        x2, x3, y3 = 1.0, 1.0, 1.0
    else:
        P, second, third = float(solution.beta1) / 3.0, float(solution.beta2), float(solution.beta3)
        x2, x3, y3 = 2.0, 4.0, 5.0
    if P <= 0:
        return
    second, third = 4.0 * tau02 * second / (k * P), 2.0 * tau02 * third / (k * P)
    X = np.polynomial.Polynomial([1.0, 1.0 - k])
    unknown = np.polynomial.Polynomial([0.0, 1.0])
    cubic = x2 * unknown + (third - x3 * unknown) * X**2 / y3 - second
    for root in map(complex, cubic.roots()):
        if abs(root.imag) > 1e-7 * max(1.0, abs(root)):
            continue
        x = _polished(cubic, root.real)
        y = float((third - x3 * x) * X(x) / y3)
        if x < -1e-14 or y < -1e-14:
            continue
        x, y = max(x, 0.0), max(y, 0.0)
        m1 = 1.0 / math.sqrt(X(x))  # the gauge: tau_1 = tau_0
        m2 = math.sqrt(P) / m1
        d1, d2 = m1 * math.sqrt(x), m2 * math.sqrt(y)
        yield (_leaky(m1, d1), _leaky(m2, d2))


def _polished(polynomial: np.polynomial.Polynomial, x: float) -> float:
    slope = polynomial.deriv()
    for _ in range(4):
        s = float(slope(x))
        if s == 0.0:
            break
        x -= float(polynomial(x)) / s
    return x


def _leaky(m: float, d: float) -> Layer:
    a, b = m + d, m - d
    return _layer(f"max({a!r}*x, {b!r}*x)", {"a": a, "b": b})


def _layer(text: str, params: dict[str, float]) -> Layer:
    """A layer from grammar text; repr gives the shortest decimal that reads back as the same float."""
    made: Activation = activation(text)
    return Layer(made, tuple(params.items()))
