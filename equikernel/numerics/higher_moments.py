"""The Gaussian moments and their derivatives in the variance q = tau^2, with error bounds.

Derivatives ask for integrands two Hermite degrees higher than ``numerics.moments``: E[He_3 phi~], E[He_4 phi~],
E[He_4 phi~^2] and E[He_2 phi'^2], with He_k the monic Hermite polynomials in xi, at the same quadrature nodes. Always
in mpmath: He_4 cancels more than float64 has to give, and at 32 digits the nodes are there since ``solve`` computed
its residual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from equikernel.errors import AccuracyError
from equikernel.numerics.moments import multiprecision_moments
from equikernel.numerics.quadrature import FIRST_LEVEL, Nodes, Rule, not_converged, rule
from equikernel.theory.activation import Activation
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.sensitivities import (
    curvature_slope,
    mean_slope_slope,
    square_slope_slope,
    variance_curvature,
)

__all__ = ["Bounded", "moment_derivatives"]

_TERM_ULPS = 16
_LEVEL_DIGITS = 5  # two levels agree to the working digits less these; the last is about twice as good


@dataclass(frozen=True)
class Bounded:
    """An mpmath number and a bound on its absolute error, an mpmath number too."""

    value: Any
    error: Any


@dataclass(frozen=True)
class _Integrals:
    values: tuple[Any, ...]
    sizes: tuple[Any, ...]
    rounding: tuple[Any, ...]


def moment_derivatives(activation: Activation, tau: Any, digits: int) -> dict[str, Bounded]:
    """V, d1, d2, h, v at tau and d1_q, d2_q, h_q, v_q, their derivatives in q = tau^2 (V's is h).

    v and v_q are left out where v is infinite. What vanishes by symmetry is exactly zero. Accuracy is absolute, about
    10^-(digits - 10) of the integrals of the integrands' absolute values.

    Args:
        activation: phi.
        tau: a standard deviation, positive, taken exactly.
        digits: working digits.

    Raises:
        AccuracyError: the quadrature did not converge, or the moments overflow.
    """
    c = mp_arithmetic(digits).context
    tau = mp_arithmetic(digits).number(tau)
    moments = multiprecision_moments(activation, tau, digits)
    found = {name: Bounded(m.value, c.mpf(m.error)) for name, m in moments.items()}
    mean, d2 = found.pop("mean"), found["d2"]
    (m3, m4, s4, w2), (e3, e4, es4, ew2) = _converged(rule(activation, digits), tau, mean.value, digits)
    exact_zero = Bounded(c.zero, c.zero)

    def derivative(value: Any, error: Any, vanishes: bool = False) -> Bounded:
        return exact_zero if vanishes else Bounded(value, error)

    q = tau * tau
    # phi~ is centred by a computed mean: its error enters where m0 = 0 would stand
    h_error = es4 + 2 * mean.error * (abs(m4) + e4) + 4 * q * q * abs(d2.value) * d2.error
    found["d1_q"] = derivative(mean_slope_slope(m3, tau), mean_slope_slope(e3, tau), activation.parity == "even")
    found["d2_q"] = derivative(curvature_slope(m4, tau), curvature_slope(e4, tau), activation.odd_up_to_constant)
    found["h_q"] = Bounded(variance_curvature(c.zero, m4, s4, d2.value, tau), h_error / (4 * q * q))
    if "v" in found:
        found["v_q"] = Bounded(square_slope_slope(w2, tau), square_slope_slope(ew2, tau))
    return found


def _converged(r: Rule, tau: Any, mean: Any, digits: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The four integrals, halving the step until two levels agree, and bounds on their errors."""
    c = mp_arithmetic(digits).context
    unit = c.mpf(10) ** -digits
    relative = unit * 10**_LEVEL_DIGITS
    count = 4 if r.activation.has_square_integrable_derivative else 3
    previous: tuple[Any, ...] = ()
    for level in range(FIRST_LEVEL, r.last_level + 1):
        nodes = r.nodes(tau, level)
        found = _integrals(nodes, tau, mean, r.math, unit)
        if not all(c.isfinite(size) for size in found.sizes[:count]):
            raise AccuracyError(
                f"the derivatives of the moments of {r.activation.name} at tau = {float(tau):.6g} overflow; "
                "reduce tau0 or the sigmas"
            )
        if previous:
            tail = r.tail(tau) * (abs(nodes.y).max() / tau) ** 4
            gaps = [abs(a - b) for a, b in zip(found.values, previous, strict=True)]
            noise = [error + tail for error in found.rounding]
            agreed = [g <= relative * s + 2 * n for g, s, n in zip(gaps, found.sizes, noise, strict=True)]
            if all(agreed[:count]):
                return found.values, tuple(g + n for g, n in zip(gaps, noise, strict=True))
        previous = found.values
    raise not_converged(r.activation, tau, r.digits)


def _integrals(nodes: Nodes, tau: Any, mean: Any, math_: Any, unit: Any) -> _Integrals:
    xi = nodes.y / tau
    square = xi * xi
    weight = nodes.dy * math_.exp(-square / 2) / (tau * math_.root_two_pi)
    f = nodes.phi - mean
    f_error = nodes.phi_error + unit * (abs(nodes.y * nodes.slope) + abs(nodes.phi) + abs(mean))
    he2, he3, he4 = square - 1, xi * (square - 3), square * (square - 6) + 3
    size2, size3, size4 = square + 1, abs(xi) * (square + 3), square * (square + 6) + 3  # nothing cancels in these
    ff, ff_error = f * f, 2 * abs(f) * f_error
    slopes, slopes_error = nodes.slope * nodes.slope, 2 * abs(nodes.slope) * nodes.slope_error
    integrands = (
        (he3, size3, f, f_error),
        (he4, size4, f, f_error),
        (he4, size4, ff, ff_error),
        (he2, size2, slopes, slopes_error),
    )
    ulps = unit * (_TERM_ULPS + square)
    return _Integrals(
        tuple(np.sum(weight * he * g) for he, _, g, _ in integrands),
        tuple(np.sum(weight * size * abs(g)) for _, size, g, _ in integrands),
        tuple(np.sum(weight * size * (error + ulps * abs(g))) for _, size, g, error in integrands),
    )
