"""``ClosedForms``: the moments of one activation as expressions, and how they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from equikernel.errors import InputError, NoClosedFormError
from equikernel.theory.closed_forms.combination import Combination
from equikernel.theory.closed_forms.integrals import TAU, Step
from equikernel.theory.closed_forms.pieces import Smooth
from equikernel.theory.closed_forms.steps import Share
from equikernel.theory.program import X

__all__ = ["DERIVED", "RAW", "ClosedForms", "Expectation"]

RAW = ("m0", "s0", "m1", "m2", "s2", "v")
DERIVED = ("mean", "V", "d1", "d2", "h")


@dataclass(frozen=True)
class Expectation:
    """How one raw moment was found: its integrand as shares (coefficient, atom, interval), and its value."""

    name: str
    shares: tuple[Share, ...]
    value: Combination


@dataclass(frozen=True)
class ClosedForms:
    """Closed forms of the Gaussian moments of phi(tau xi), tau > 0 a standard deviation.

    Raw moments as in ``theory.moments`` without shift: m0 = E[phi], s0 = E[phi^2], m1 = E[xi phi],
    m2 = E[(xi^2 - 1) phi], s2 = E[(xi^2 - 1) phi^2], v = E[phi'^2]; from them mean, V, d1, d2, h. Each is an attribute,
    a SymPy expression in ``TAU`` and the parameters; one without a closed form raises NoClosedFormError with the reason
    (``get`` returns None instead).

    Attributes:
        expr: phi, in x and the parameters.
        pieces: the smooth pieces of phi.
        expressions: the closed forms found, by name.
        reasons: why there is none, by name, for the others.
        expectations: how the raw moments were found.
        integrals: the steps of the integration, each after those it uses.
    """

    expr: sp.Expr
    pieces: tuple[Smooth, ...]
    expressions: Mapping[str, sp.Expr]
    reasons: Mapping[str, str]
    expectations: tuple[Expectation, ...]
    integrals: tuple[Step, ...]

    def get(self, name: str) -> sp.Expr | None:
        """The closed form of a moment, or None."""
        return self.expressions.get(name)

    def __getitem__(self, name: str) -> sp.Expr:
        """The closed form of a moment.

        Raises:
            NoClosedFormError: it has none; the sentence says why.
            InputError: there is no moment of that name.
        """
        if name not in (*RAW, *DERIVED):
            raise InputError(f"unknown moment {name!r}: expected one of {', '.join((*RAW, *DERIVED))}")
        if name not in self.expressions:
            raise NoClosedFormError(f"{name} of {self.expr} has no closed form here: {self.reasons[name]}")
        return self.expressions[name]

    @property
    def m0(self) -> sp.Expr:
        """E[phi]."""
        return self["m0"]

    @property
    def s0(self) -> sp.Expr:
        """E[phi^2]."""
        return self["s0"]

    @property
    def m1(self) -> sp.Expr:
        """E[xi phi]."""
        return self["m1"]

    @property
    def m2(self) -> sp.Expr:
        """E[(xi^2 - 1) phi]."""
        return self["m2"]

    @property
    def s2(self) -> sp.Expr:
        """E[(xi^2 - 1) phi^2]."""
        return self["s2"]

    @property
    def v(self) -> sp.Expr:
        """E[phi'^2]."""
        return self["v"]

    @property
    def mean(self) -> sp.Expr:
        """E[phi], m0 by another name."""
        return self["mean"]

    @property
    def V(self) -> sp.Expr:  # noqa: N802 - the name of the moment everywhere else
        """Var phi."""
        return self["V"]

    @property
    def d1(self) -> sp.Expr:
        """E[phi']."""
        return self["d1"]

    @property
    def d2(self) -> sp.Expr:
        """E[phi'']."""
        return self["d2"]

    @property
    def h(self) -> sp.Expr:
        """dV/dq at q = tau^2, half of E[(phi_c^2)'']."""
        return self["h"]

    @property
    def is_complete(self) -> bool:
        """Whether every moment has a closed form."""
        return not self.reasons

    @property
    def parameters(self) -> tuple[sp.Symbol, ...]:
        """The symbols of phi other than x."""
        return tuple(sorted(self.expr.free_symbols - {X}, key=str))

    def steps(self) -> list[str]:
        """The derivation, one LaTeX formula (of display mathematics) or sentence a step."""
        from equikernel.theory.closed_forms.derivation import steps

        return steps(self)

    def derivation_latex(self) -> str:
        """The derivation as a LaTeX document (article, amsmath)."""
        from equikernel.theory.closed_forms.derivation import document

        return document(self)

    def to_latex(self) -> str:
        """The moments as an ``align*`` environment, long sums broken over lines."""
        from equikernel.theory.closed_forms.derivation import moments_latex

        return moments_latex(self)

    def to_dict(self) -> dict[str, Any]:
        """Expressions as strings and as LaTeX, and reasons, as plain JSON types."""
        return {
            "expression": str(self.expr),
            "parameters": [str(symbol) for symbol in self.parameters],
            "variable": str(TAU),
            "moments": {
                name: {"expression": str(value), "latex": sp.latex(value)} for name, value in self.expressions.items()
            },
            "no_closed_form": dict(self.reasons),
        }
