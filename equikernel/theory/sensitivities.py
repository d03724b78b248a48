"""Derivatives of every coefficient in sigma_a2, sigma_b2 and tau0, by implicit differentiation of q = T(q).

    dq/dp = (dT/dp at fixed q)/(1 - sigma_a2 h),    dC/dp = (partial of C) + sum over moments (dC/dM) M'(q) dq/dp.

The formulas of ``theory.equations`` run on ``Tangent`` numbers, which carry a derivative along; nothing is
differentiated by hand, and values may be SymPy symbols, floats, mpmath numbers or balls. The moments' own derivatives
in the variance q, with He_k the monic Hermite polynomials, phi~ = phi - c for any constant c as in ``theory.moments``:

    V' = h,  d1' = E[phi''']/2,  d2' = E[phi'''']/2,  v' = E[(phi'^2)'']/2,
    h' = E[(phi_c^2)'''']/4 - d2^2/2,

the last because the centring follows the fixed point: h = V' with V = E[phi^2] - E[phi]^2 at every q, and
V'' = E[(phi^2)'''']/4 - 2 (d2/2)^2 - 2 E[phi] E[phi'''']/4. Derivatives stand for Stein's form,
E[f^(k)(tau xi)] = E[He_k(xi) f(tau xi)]/tau^k, so that kinks and jumps need no special case; v needs phi' itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import sympy as sp

from equikernel.theory.derivation import derive_implicit, equate, solve_linear, symbol
from equikernel.theory.equations import (
    ImplicitNTK,
    fixed_point_map,
    gain_norm,
    implicit_ck_coefficients,
    implicit_ntk_coefficients,
)
from equikernel.theory.models import require_trained

__all__ = [
    "PARAMETERS",
    "MomentSlopes",
    "Tangent",
    "coefficient_slopes",
    "curvature_slope",
    "equilibrium_slope",
    "mean_slope_slope",
    "square_slope_slope",
    "symbolic_sensitivities",
    "variance_curvature",
]

PARAMETERS = ("sigma_a2", "sigma_b2", "tau0")


def mean_slope_slope(m3: Any, tau: Any) -> Any:
    """d(d1)/dq = E[phi''']/2 = m3/(2 tau^3), m3 = E[He_3(xi) phi~]."""
    return m3 / (2 * tau * tau * tau)


def curvature_slope(m4: Any, tau: Any) -> Any:
    """d(d2)/dq = E[phi'''']/2 = m4/(2 tau^4), m4 = E[He_4(xi) phi~]."""
    q = tau * tau
    return m4 / (2 * q * q)


def variance_curvature(m0: Any, m4: Any, s4: Any, d2: Any, tau: Any) -> Any:
    """dh/dq = d^2V/dq^2 = (s4 - 2 m0 m4)/(4 tau^4) - d2^2/2, s4 = E[He_4(xi) phi~^2], re-centred at every q."""
    q = tau * tau
    return (s4 - 2 * m0 * m4) / (4 * q * q) - d2 * d2 / 2


def square_slope_slope(w2: Any, tau: Any) -> Any:
    """dv/dq = E[(phi'^2)'']/2 = w2/(2 tau^2), w2 = E[He_2(xi) phi'(tau xi)^2]."""
    return w2 / (2 * tau * tau)


@dataclass(frozen=True)
class Tangent:
    """A number and its derivative in one direction, under + - * /."""

    value: Any
    slope: Any

    def __add__(self, other: Any) -> Tangent:
        b = _tangent(other)
        return Tangent(self.value + b.value, self.slope + b.slope)

    def __sub__(self, other: Any) -> Tangent:
        b = _tangent(other)
        return Tangent(self.value - b.value, self.slope - b.slope)

    def __mul__(self, other: Any) -> Tangent:
        b = _tangent(other)
        return Tangent(self.value * b.value, self.slope * b.value + self.value * b.slope)

    def __truediv__(self, other: Any) -> Tangent:
        b = _tangent(other)
        quotient = self.value / b.value
        return Tangent(quotient, (self.slope - quotient * b.slope) / b.value)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Tangent:
        return _tangent(other) - self

    def __rtruediv__(self, other: Any) -> Tangent:
        return _tangent(other) / self


def _tangent(value: Any) -> Tangent:
    return value if isinstance(value, Tangent) else Tangent(value, 0)


@dataclass(frozen=True)
class MomentSlopes:
    """The moments at tau and their derivatives in q = tau^2; v is None where it is infinite.

    Attributes:
        V: a number; its derivative is the value of ``h``.
        d1: d1 and E[phi''']/2.
        d2: d2 and E[phi'''']/2.
        h: h and d^2V/dq^2.
        v: v and dv/dq.
    """

    V: Any
    d1: Tangent
    d2: Tangent
    h: Tangent
    v: Tangent | None

    def along(self, dq: Any) -> tuple[Tangent, Tangent, Tangent, Tangent, Tangent | None]:
        """V, d1, d2, h, v with their derivatives when q moves at the rate ``dq``."""
        V = Tangent(self.V, self.h.value * dq)
        d1, d2, h = (Tangent(m.value, m.slope * dq) for m in (self.d1, self.d2, self.h))
        return V, d1, d2, h, None if self.v is None else Tangent(self.v.value, self.v.slope * dq)


def _directions(values: Mapping[str, Any], parameter: str) -> tuple[Tangent, Tangent, Tangent]:
    """sigma_a2, sigma_b2 and tau0^2, moving as ``parameter`` does."""
    a2, b2, tau0 = (Tangent(values[name], 1 if name == parameter else 0) for name in PARAMETERS)
    return a2, b2, tau0 * tau0


def equilibrium_slope(moments: MomentSlopes, values: Mapping[str, Any], parameter: str) -> Any:
    """dq/dp = (dT/dp at fixed q)/(1 - sigma_a2 h), q = tau*^2 a variance.

    Args:
        moments: at the fixed point.
        values: sigma_a2, sigma_b2 (variances) and tau0 (a standard deviation), by name.
        parameter: p, one of ``PARAMETERS``.
    """
    a2, b2, tau02 = _directions(values, parameter)
    return fixed_point_map(Tangent(moments.V, 0), a2, b2, tau02).slope / gain_norm(moments.h.value, values["sigma_a2"])


def coefficient_slopes(
    moments: MomentSlopes, values: Mapping[str, Any], parameter: str, dq: Any, trained: str
) -> dict[str, Any]:
    """The derivatives of gamma2, lambda1, alpha1..alpha4, beta1..beta3, kappa2 in p, when q moves at the rate ``dq``.

    Raises:
        InputError: ``trained`` is not one of a, aA, aAB.
    """
    require_trained(trained)
    a2, b2, tau02 = _directions(values, parameter)
    V, d1, d2, h, v = moments.along(dq)
    ck = implicit_ck_coefficients(V, d1, d2, h, a2, b2)
    if trained == "a" or v is None:
        ntk = ImplicitNTK(ck.alpha1, ck.alpha2, ck.alpha3, ck.gamma2)
    else:
        ntk = implicit_ntk_coefficients(ck, d1, d2, v, a2, b2, tau02, train_input=trained == "aAB")
    return {f.name: getattr(state, f.name).slope for state in (ck, ntk) for f in fields(state)}


@cache
def symbolic_sensitivities(trained: str = "aA") -> dict[str, dict[str, sp.Eq]]:
    """Parameter p -> name -> derivative in p, as an equation whose left side is the symbol ``D_name``.

    Each equation C = B/A of ``theory.derivation`` is differentiated as C A = B, so that C' = (B' - C A')/A. Right
    sides contain derivatives of earlier quantities, D_q first, and d1_q, d2_q, h_q, v_q for the moments' derivatives
    in q.

    Raises:
        InputError: ``trained`` is not one of a, aA, aAB.
    """
    results = derive_implicit(trained).results
    return {parameter: _differentiated(results, symbol(parameter)) for parameter in PARAMETERS}


def _differentiated(results: Mapping[str, sp.Eq], parameter: sp.Symbol) -> dict[str, sp.Eq]:
    q_rate = symbol("D_q")
    rates = {symbol(name): symbol(f"{name}_q") * q_rate for name in ("d1", "d2", "h", "v")}
    rates |= {symbol("V"): symbol("h") * q_rate, parameter: sp.S.One}
    equilibrium = solve_linear(q_rate, _total(results["tau"].rhs, rates) - q_rate)
    table = {"q": equilibrium, "tau": equate(symbol("D_tau"), q_rate / (2 * symbol("tau")))}
    for name, equation in results.items():
        if name == "tau":
            continue
        rate = symbol(f"D_{name}")
        numerator, denominator = sp.fraction(equation.rhs)
        content, gain = denominator.as_content_primitive()
        change = sp.expand(_total(numerator, rates) / content - equation.lhs * _total(gain, rates))
        table[name] = equate(rate, change / gain)
        rates[equation.lhs] = rate
    return table


def _total(expr: sp.Expr, rates: Mapping[sp.Symbol, sp.Expr]) -> sp.Expr:
    return sp.Add(*(sp.diff(expr, x) * rate for x, rate in rates.items()))
