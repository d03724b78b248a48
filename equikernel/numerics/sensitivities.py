"""``sensitivities``: how every coefficient moves with sigma_a2, sigma_b2 and tau0, as numbers with error bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equikernel.numerics.fixed_points import defect
from equikernel.numerics.higher_moments import Bounded, moment_derivatives
from equikernel.numerics.moment_values import FLOAT64_DIGITS, Moment, format_number
from equikernel.numerics.solve import COEFFICIENTS, MAX_DIGITS, Solution, solve
from equikernel.theory.equation_latex import symbol_latex
from equikernel.theory.models import DEQ
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.sensitivities import (
    PARAMETERS,
    MomentSlopes,
    Tangent,
    coefficient_slopes,
    equilibrium_slope,
)

__all__ = ["Sensitivities", "sensitivities"]

_GUARD = 17  # working digits beyond those of the result; 15 digits then share the nodes of the solver's residual
_SURE = 5  # digits beyond those of the result that errors are quoted for
_SMALLEST = 1e-300  # bounds below it, of results with many digits, are reported as this


@dataclass(frozen=True)
class Sensitivities:
    """Derivatives of the coefficients of ``solution`` in its parameters.

    Attributes:
        solution: the solution they are taken at.
        table: coefficient -> parameter -> derivative, an error bound, and provenance. Parameters are sigma_a2,
            sigma_b2 (variances) and tau0 (a standard deviation). A derivative smaller than its error bound is a zero as
            far as the numbers can tell.
    """

    solution: Solution
    table: Mapping[str, Mapping[str, Moment]]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters differentiated in."""
        return PARAMETERS

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; numbers with more than 17 digits are strings."""
        s = self.solution
        return {
            "activation": s.deq.activation.name,
            "sigma_a2": float(s.deq.sigma_a2),
            "sigma_b2": float(s.deq.sigma_b2),
            "tau0": float(s.tau0),
            "digits": s.digits,
            "trained": s.trained,
            "sensitivities": {
                name: {
                    parameter: {"value": format_number(d.value, s.digits), "error": d.error}
                    for parameter, d in row.items()
                }
                for name, row in self.table.items()
            },
        }

    def to_latex(self) -> str:
        """A table: a row a coefficient, a column a parameter; to 15 digits, so that it fits a page."""
        head = " & ".join(rf"$\partial/\partial {symbol_latex(p)}$" for p in PARAMETERS)
        rows = [
            " & ".join([f"${symbol_latex(name)}$", *(self.shown(name, p, FLOAT64_DIGITS) for p in PARAMETERS)]) + r" \\"
            for name in self.table
        ]
        lines = [r"\begin{tabular}{llll}", r"\hline", rf" & {head} \\", r"\hline", *rows, r"\hline"]
        return "\n".join([*lines, r"\end{tabular}"])

    def shown(self, name: str, parameter: str, most: int = MAX_DIGITS) -> str:
        """A derivative as text with ``most`` digits at most, 0 where it cannot be told from zero."""
        d = self.table[name][parameter]
        if abs(d.value) <= d.error:
            return "0"
        digits = min(most, self.solution.digits)
        number = format_number(d.value, digits)
        return number if isinstance(number, str) else f"{number:.{digits}g}"


def sensitivities(deq: DEQ, tau0: Any = 1, digits: int = 15, trained: str = "aA") -> Sensitivities:
    """d(tau, q, gamma2, lambda1, alpha1..4, beta1..3, kappa2)/d(sigma_a2, sigma_b2, tau0), by implicit differentiation.

    dq/dp = (dT/dp)/(1 - sigma_a2 h), and the chain rule through the moments (``theory.sensitivities``), all in mpmath
    with 17 guard digits. Error bounds are of first order: those of the quadrature, through the formulas.

    Args:
        deq: the network.
        tau0: standard deviation of the data.
        digits: significant digits; up to 15 the results are floats, above mpmath numbers.
        trained: "a", "aA" or "aAB": which NTK beta and kappa2 belong to.

    Raises:
        InputError: bad arguments, or an activation without the derivative that the NTK needs.
        SolutionError: no solution, none that is stable, or moments that did not converge (see ``solve``).
    """
    deq.require_independent("sensitivities are")
    solution = solve(deq, tau0, digits, trained)
    work = solution.digits + _GUARD
    arithmetic = mp_arithmetic(work)
    value, slope = defect(deq, solution.tau0, solution.q, work)
    q = arithmetic.number(solution.q) - value / slope
    moments = moment_derivatives(deq.activation, arithmetic.context.sqrt(q), work)
    parameters = {
        name: arithmetic.number(x)
        for name, x in zip(PARAMETERS, (deq.sigma_a2, deq.sigma_b2, solution.tau0), strict=True)
    }
    columns = {p: _column(moments, parameters, p, q, solution) for p in PARAMETERS}
    provenance = f"quadrature ({work} working digits)"
    table = {
        name: {p: _rounded(columns[p][name], solution.digits, provenance) for p in PARAMETERS} for name in COEFFICIENTS
    }
    return Sensitivities(solution, table)


def _column(
    moments: Mapping[str, Bounded], parameters: Mapping[str, Any], parameter: str, q: Any, solution: Solution
) -> dict[str, Bounded]:
    """The derivatives in one parameter; errors by moving each moment by its bound."""
    values = {name: m.value for name, m in moments.items()}
    centre = _slopes(values, parameters, parameter, q, solution.trained)
    # the guard digits beyond these are left to the error of q, which the derivatives magnify
    errors = {name: abs(slope) / 10 ** (solution.digits + _SURE) for name, slope in centre.items()}
    for moved, moment in moments.items():
        if moment.error:
            there = _slopes(values | {moved: moment.value + moment.error}, parameters, parameter, q, solution.trained)
            for name in errors:
                errors[name] += abs(there[name] - centre[name])
    return {name: Bounded(slope, errors[name]) for name, slope in centre.items()}


def _slopes(
    values: Mapping[str, Any], parameters: Mapping[str, Any], parameter: str, q: Any, trained: str
) -> dict[str, Any]:
    d1, d2, h = (Tangent(values[name], values[f"{name}_q"]) for name in ("d1", "d2", "h"))
    v = Tangent(values["v"], values["v_q"]) if "v" in values else None
    slopes = MomentSlopes(values["V"], d1, d2, h, v)
    dq = equilibrium_slope(slopes, parameters, parameter)
    return {"q": dq, "tau": dq / (2 * q**0.5)} | coefficient_slopes(slopes, parameters, parameter, dq, trained)


def _rounded(found: Bounded, digits: int, provenance: str) -> Moment:
    if digits > FLOAT64_DIGITS:
        return Moment(found.value, max(float(found.error), _SMALLEST), provenance)
    value = float(found.value)
    return Moment(value, float(found.error) + abs(value) * 2.0**-53, provenance)
