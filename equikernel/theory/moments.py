"""V, d1, d2, h and v from six raw Gaussian moments: one set of formulas for every arithmetic.

With xi ~ N(0, 1) and a constant shift c (any number; the results do not depend on it), the raw moments of
phi~ = phi(tau xi) - c are

    m0 = E[phi~]        s0 = E[phi~^2]
    m1 = E[xi phi~]     m2 = E[(xi^2 - 1) phi~]     s2 = E[(xi^2 - 1) phi~^2]     v = E[phi'(tau xi)^2].

Stein's identity turns derivatives into these, so kinks and jumps need no special case (theory of distributions):
E[phi'(tau xi)] = E[xi phi]/tau, E[phi''(tau xi)] = E[(xi^2 - 1) phi]/tau^2.
"""

from __future__ import annotations

from typing import Any

__all__ = ["curvature", "mean_slope", "variance", "variance_slope"]


def variance(m0: Any, s0: Any) -> Any:
    """V = Var phi(tau xi) = s0 - m0^2."""
    return s0 - m0 * m0


def mean_slope(m1: Any, tau: Any) -> Any:
    """d1 = E[phi'(tau xi)] = m1/tau, tau a standard deviation."""
    return m1 / tau


def curvature(m2: Any, tau: Any) -> Any:
    """d2 = E[phi''(tau xi)] = m2/tau^2."""
    return m2 / (tau * tau)


def variance_slope(m0: Any, m2: Any, s2: Any, tau: Any) -> Any:
    """H = E[(xi^2 - 1) phi_c^2]/(2 tau^2) = (s2 - 2 m0 m2)/(2 tau^2): dV/dq at q = tau^2 with the bias held fixed."""
    return (s2 - 2 * m0 * m2) / (2 * tau * tau)
