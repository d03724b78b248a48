"""``equations``: the symbolic equations of an activation, with the closed forms of its moments where they exist."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from equikernel.errors import InputError, NoClosedFormError
from equikernel.numerics.closed_forms import verified_closed_forms
from equikernel.theory.activation import Activation
from equikernel.theory.activation import activation as make_activation
from equikernel.theory.closed_forms import TAU, ClosedForms
from equikernel.theory.derivation import symbol
from equikernel.theory.symbolic_equations import MOMENTS, SymbolicEquations, symbolic_equations

__all__ = ["equations"]


def equations(
    activation: str | sp.Expr | Activation | None = None,
    trained: str = "aA",
    layers: int = 0,
    parameters: Mapping[str, sp.Symbol] | None = None,
) -> SymbolicEquations:
    """The equations of a DEQ and of explicit networks, derived; for an activation, with its closed forms put in.

    Closed forms are those of ``verified_closed_forms``: each has met its enclosure in balls at several tau. Moments
    without one keep their names, and ``note`` says why.

    Args:
        activation: anything ``equikernel.activation`` takes, or None for the equations of any activation.
        trained: "a", "aA" or "aAB".
        layers: explicit layers to unroll, 0 to 16.
        parameters: names in the text of the activation that stay symbols, as in ``{"a": Symbol("a", positive=True)}``
            for "leaky_relu(x, a)".

    Raises:
        InputError: bad arguments.
    """
    if activation is None:
        return symbolic_equations(trained, layers)
    _check_names(parameters or {})
    name = str(activation) if parameters else make_activation(activation).name
    try:
        forms = verified_closed_forms(activation, parameters).forms
    except NoClosedFormError as error:
        return symbolic_equations(trained, layers, activation=name, note=f"No closed forms: {error}.")
    closed = {m: forms[m].xreplace({TAU: symbol("tau")}) for m in MOMENTS if forms.get(m) is not None}
    return symbolic_equations(trained, layers, activation=name, moments=closed, note=_missing(forms))


def _check_names(parameters: Mapping[str, sp.Symbol]) -> None:
    """Refuse a parameter that has the name of a quantity of the equations."""
    taken = {x.name for e in symbolic_equations("aAB").equations.values() for x in e.free_symbols}
    for name in parameters:
        if name in taken:
            raise InputError(f"the parameter {name} has the name of a quantity of the equations; rename it")


def _missing(forms: ClosedForms) -> str:
    """Why moments are missing, those with one reason together."""
    reasons: dict[str, list[str]] = {}
    for name in MOMENTS:
        if name in forms.reasons:
            reasons.setdefault(forms.reasons[name], []).append(name)
    return " ".join(f"No closed form of {', '.join(names)}: {why}." for why, names in reasons.items())
