"""What the benchmarks of designs share: DEQs by name and sigma_a2, and residuals from 30 digits."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import mpmath

from equikernel.numerics.explicit import explicit_coefficients
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ, ExplicitNetwork

__all__ = ["SIGMAS", "deq_of", "largest_residual", "markdown", "nearby"]

SIGMAS = ("0.05", "0.2", "0.5", "0.8")
_DIGITS = 30
_VANISHING = 1e-6  # of the kernel's diagonal: a coefficient below it is compared on the scale of the diagonal
_FIELDS: Mapping[str, Mapping[str, str]] = {
    "ck": {"alpha1": "alpha1", "alpha2": "alpha2", "alpha3": "alpha3", "gamma2": "tau2"},
    "ntk": {"beta1": "beta1", "beta2": "beta2", "beta3": "beta3", "kappa2": "kappa2"},
}


def deq_of(name: str, sigma_a2: str | Fraction) -> DEQ:
    """The DEQ with sigma_b2 = 1 - sigma_a2, both exact."""
    share = Fraction(sigma_a2)
    return DEQ(name, share, 1 - share)


def nearby(name: str, sigma_a2: str, count: int) -> list[DEQ]:
    """DEQs that differ a little in sigma_a2: what is computed for one is in no cache for the next."""
    return [deq_of(name, Fraction(sigma_a2) + Fraction(k, 100_000)) for k in range(1, count + 1)]


def largest_residual(network: ExplicitNetwork, deq: DEQ, match: str) -> float:
    """The largest relative difference of the four coefficients at tau0 = 1, both sides computed with 30 digits.

    A coefficient of the DEQ that vanishes is compared relative to the kernel's diagonal, gamma^2 or kappa^2.
    """
    wanted: Any = solve(deq, 1, _DIGITS, trained="aA" if match == "ntk" else "a")
    found: Any = explicit_coefficients(network, _DIGITS, ntk=match == "ntk")
    diagonal = wanted.kappa2 if match == "ntk" else wanted.gamma2
    differences = []
    with mpmath.workdps(_DIGITS):
        for name, field in _FIELDS[match].items():
            value = getattr(wanted, name)
            unit = value if abs(value) > _VANISHING * diagonal else diagonal
            differences.append(abs((getattr(found, field) - value) / unit))
    return float(max(differences))


def markdown(cells: list[Any]) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"
