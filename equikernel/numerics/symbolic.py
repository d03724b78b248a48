"""``equations``: the symbolic equations of an activation, with the closed forms of its moments where they exist."""

from __future__ import annotations

from typing import Any

import sympy as sp

from equikernel.errors import AccuracyError, NoClosedFormError
from equikernel.numerics.moments import gaussian_moments
from equikernel.theory.activation import Activation
from equikernel.theory.activation import activation as make_activation
from equikernel.theory.closed_forms import TAU, ClosedForms, closed_form_moments
from equikernel.theory.derivation import symbol
from equikernel.theory.multiprecision import mp_arithmetic, sympy_to_mpf
from equikernel.theory.symbolic_equations import MOMENTS, SymbolicEquations, symbolic_equations

__all__ = ["equations"]

_CHECKED_AT = (sp.Rational(1, 8), sp.S.One, sp.Integer(8))
_TOLERANCE = 1e-12


def equations(
    activation: str | sp.Expr | Activation | None = None, trained: str = "aA", layers: int = 0
) -> SymbolicEquations:
    """The equations of a DEQ and of explicit networks, derived; for an activation, with its closed forms put in.

    A closed form is used when it has agreed with quadrature to 12 digits at tau = 1/8, 1, 8. Moments without one keep
    their names, and ``note`` says why.

    Args:
        activation: anything ``equikernel.activation`` takes, or None for the equations of any activation.
        trained: "a", "aA" or "aAB".
        layers: explicit layers to unroll, 0 to 16.

    Raises:
        InputError: bad arguments.
        AccuracyError: a closed form disagrees with quadrature (a defect of this package).
    """
    if activation is None:
        return symbolic_equations(trained, layers)
    act = make_activation(activation)
    try:
        forms = closed_form_moments(act)
    except NoClosedFormError as error:
        return symbolic_equations(trained, layers, activation=act.name, note=f"No closed forms: {error}.")
    closed = {name: forms[name] for name in MOMENTS if forms.get(name) is not None}
    _check(act, closed)
    here = {name: value.xreplace({TAU: symbol("tau")}) for name, value in closed.items()}
    return symbolic_equations(trained, layers, activation=act.name, moments=here, note=_missing(forms))


def _missing(forms: ClosedForms) -> str:
    """Why moments are missing, those with one reason together."""
    reasons: dict[str, list[str]] = {}
    for name in MOMENTS:
        if name in forms.reasons:
            reasons.setdefault(forms.reasons[name], []).append(name)
    return " ".join(f"No closed form of {', '.join(names)}: {why}." for why, names in reasons.items())


def _check(act: Activation, closed: dict[str, sp.Expr]) -> None:
    arithmetic = mp_arithmetic(40)
    for tau in _CHECKED_AT:
        moments = dict(gaussian_moments(act, float(tau)).items())
        for name, expr in closed.items():
            value: Any = sympy_to_mpf(expr.xreplace({TAU: tau}), arithmetic)
            computed = moments[name]
            if abs(value - computed.value) > 2 * computed.error + _TOLERANCE * abs(value):
                shown, other = (arithmetic.context.nstr(x, 15) for x in (value, computed.value))
                raise AccuracyError(
                    f"the closed form {expr} of {name} of {act.name} is {shown} at tau = {tau}, against {other} by "
                    "quadrature; please report it"
                )
