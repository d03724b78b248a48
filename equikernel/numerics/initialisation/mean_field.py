"""Nonlinear DEQs z = phi(W z) + x at initialisation, for any activation, input law and weight family."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from equikernel.errors import ConvergenceError, EquikernelError, NoFixedPointError, UnstableError
from equikernel.numerics.initialisation.branch import Branch, Critical, critical_point
from equikernel.numerics.initialisation.critical import critical_goe
from equikernel.numerics.initialisation.independent_field import independent_field
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Precision, require_slope
from equikernel.numerics.initialisation.response import ResponseProblem, Transform, solve_response
from equikernel.numerics.initialisation.result import MeanField
from equikernel.numerics.initialisation.symmetric_field import goe_field, response_field
from equikernel.theory.activation import Activation, activation
from equikernel.theory.initialisation import require_family
from equikernel.theory.models import exact_number

__all__ = ["MeanField", "critical_sigma", "mean_field", "symmetric_mean_field"]

_GUARD = 10
_NEARLY = 1e-6  # 1 - R at which sigma is compared with the critical one


def critical_sigma(act: str | Activation, family: str, law: InputLaw) -> Critical:
    """Where stability ends: chi = 1 (iid, orthogonal) or R = 1 (goe), or the fixed point ceases to exist.

    Relative accuracy about 1e-13 (1e-12 where sigma turns back at the critical point).

    Args:
        act: activation.
        family: "iid", "orthogonal" or "goe".
        law: of the entries of x.

    Raises:
        InputError: unknown family, unbounded phi' with goe, or x = 0 where z = 0 then.
        UnstableError: phi' is not square integrable.
    """
    phi = activation(act)
    require_slope(phi)
    if require_family(family) == "goe":
        return critical_goe(phi, law)
    return critical_point(Branch(phi, law))


def mean_field(
    act: str | Activation,
    family: str,
    sigma: Any,
    law: InputLaw,
    *,
    digits: int | None = None,
    throw: bool = True,
    confirm: bool = True,
) -> MeanField:
    """The fixed point and its statistics; see ``MeanField``.

    q, chi and the rest to about 1e-13 (float64) or ``digits`` digits. Of several fixed points the shortest is taken
    (iid, orthogonal), or the one reached from short states (goe). [Agarwala22]; derived for this package and checked by
    simulation. Orthogonal W agrees with iid at leading order in everything but ``tangent_square``, ``length_noise``.

    Args:
        act: activation.
        family: "iid", "orthogonal" or "goe".
        sigma: standard deviation (scale) of W; a float is the decimal it prints as.
        law: of the entries of x.
        digits: significant digits; None for float64.
        throw: whether an unstable fixed point is an error; else it is returned with ``status`` "unstable".
        confirm: whether ``residual`` is recomputed with more digits, which takes most of the time of a float64 call;
            else it is that of the working arithmetic.

    Raises:
        InputError: bad sigma or family, unbounded phi' with goe, or x = 0 where z = 0 then.
        UnstableError: sigma at or beyond the critical value, which the message names.
        NoFixedPointError: no fixed point at this sigma; the message names the critical sigma.
        AccuracyError: the quadrature did not converge.
    """
    phi = activation(act)
    require_family(family)
    require_slope(phi)
    exact = exact_number(sigma, "sigma")
    precision = Precision(None if digits is None else digits + _GUARD)
    if exact == 0:
        return _at_zero(phi, family, law, digits)
    found = replace(_solved(phi, family, exact, law, precision, confirm=confirm), digits=digits)
    if throw and not found.stable:
        name = "R" if family == "goe" else "chi"
        raise UnstableError(
            f"the fixed point of {phi.name} with {family} weights is unstable at sigma = {float(exact):.6g} "
            f"({name} = {float(found.stability):.6g}, stable needs {name} < 1); the critical sigma is "
            f"{critical_sigma(phi, family, law).sigma:.7g}: reduce sigma"
        )
    return found


def _solved(
    phi: Activation, family: str, sigma: Fraction, law: InputLaw, precision: Precision, *, confirm: bool
) -> MeanField:
    """The fixed point, if there is one; where the branch of fixed points ends, rounding must not invent one."""
    try:
        if family == "goe":
            found = goe_field(phi, sigma, law, precision, confirm=confirm)
        else:
            found = independent_field(phi, family, sigma, law, precision, confirm=confirm)
    except (NoFixedPointError, ConvergenceError) as failure:
        raise _beyond(phi, family, sigma, law, failure) from None
    if abs(found.stability - 1) < _NEARLY:
        critical = critical_sigma(phi, family, law)
        if critical.kind == "no fixed point" and float(sigma) >= critical.sigma * (1 - _NEARLY**2):
            raise _beyond(phi, family, sigma, law, None)
    return found


def _beyond(
    phi: Activation, family: str, sigma: Fraction, law: InputLaw, failure: EquikernelError | None
) -> EquikernelError:
    """The error for a sigma at which no fixed point was found, naming the critical one."""
    critical = critical_sigma(phi, family, law)
    if failure is not None and critical.sigma > float(sigma):
        return failure
    return NoFixedPointError(
        f"{phi.name} with {family} weights has no fixed point at sigma = {float(sigma):.6g}; the critical sigma is "
        f"{critical.sigma:.7g}: reduce sigma"
    )


def _at_zero(phi: Activation, family: str, law: InputLaw, digits: int | None) -> MeanField:
    """W = 0: z = phi(0) + x."""
    Branch(phi, law).at_rest()
    precision = Precision(digits)
    options = {} if digits is None else {"digits": digits}
    arithmetic = "numpy" if digits is None else "mpmath"
    zero = precision.number(0)
    rest = precision.number(phi.function(arithmetic, **options)(zero))
    slope = precision.number(phi.derivative(arithmetic, **options)(zero)) if family == "goe" else zero
    m1, m2 = (law.moment(k, precision.number) for k in (1, 2))
    one = zero + 1
    q = rest * rest + 2 * rest * m1 + m2
    found = MeanField(
        phi.name, family, Fraction(0), law, digits, q, slope, zero, True, zero, one, one, zero, zero, 0.0, "solved"
    )
    if family == "goe":
        return replace(found, kappa=None, tangent_square=None, radius_bounds=(zero, zero))
    return found


def symmetric_mean_field(
    act: str | Activation, transform: Transform, law: InputLaw, *, digits: int | None = None
) -> MeanField:
    """The fixed point for a symmetric rotation-invariant W: u = g + R(chi) z, Var g = R'(chi) q, R its R-transform.

    Stable iff R'(chi) E y^2 < 1. ``radius`` and ``length_noise`` are not known here, and ``residual`` is in the working
    arithmetic, for ``transform`` may not know another. Derived for this package, and checked by simulation for W with
    eigenvalues +-sigma.

    Raises:
        ConvergenceError: no fixed point was reached.
        UnstableError: the fixed point is unstable.
        InputError: phi' is unbounded, or x = 0 where z = 0 then.
    """
    phi = activation(act)
    precision = Precision(None if digits is None else digits + _GUARD)
    point = solve_response(ResponseProblem(phi, transform, law), precision)
    found = replace(response_field(phi, transform.name, point, law, precision), digits=digits)
    if not found.stable:
        raise UnstableError(
            f"the fixed point of {phi.name} with {transform.name} weights is unstable (R'(chi) E y^2 = "
            f"{float(found.stability):.6g}, stable needs a number below 1); reduce the scale of W"
        )
    return found
