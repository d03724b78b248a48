"""The equations as one object: the fixed point, the coefficients of CK and NTK, the explicit recursion, sensitivities.

Everything shown comes from ``theory.derivation``. The moments stay the names V, d1, d2, h, v of expectations, or are
replaced by expressions in tau where such are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from equikernel.errors import InputError
from equikernel.theory.derivation import Derivation, Step, derive_explicit_layer, derive_implicit, equate, symbol
from equikernel.theory.equation_latex import (
    aligned,
    auxiliary_names,
    document,
    fits,
    latex,
    markup_latex,
    plain,
    text_latex,
)
from equikernel.theory.models import TRAINED
from equikernel.theory.sensitivities import symbolic_sensitivities
from equikernel.theory.unrolled import unrolled

__all__ = ["MAX_LAYERS", "MOMENTS", "SymbolicEquations", "symbolic_equations"]

MAX_LAYERS = 16
MOMENTS = {
    "V": "Var phi(tau xi)",
    "d1": "E[phi'(tau xi)]",
    "d2": "E[phi''(tau xi)]",
    "h": "E[(phi_c^2)''(tau xi)]/2 = dV/dq at q = tau^2",
    "v": "E[phi'(tau xi)^2]",
}
_MOMENTS_LATEX = (
    r"V &= \operatorname{Var}\varphi(\tau\xi), & d_1 &= \operatorname{E}[\varphi'(\tau\xi)], & "
    "d_2 &= \\operatorname{E}[\\varphi''(\\tau\\xi)], \\\\\n"
    r"h &= \tfrac12\operatorname{E}[(\varphi_c^2)''(\tau\xi)], & v &= \operatorname{E}[\varphi'(\tau\xi)^2]. & &"
)
_ENTRIES = (
    "Off the diagonal, `G_ij = alpha1 s + alpha2 chi_i chi_j + alpha3 s^2` and "
    "`K_ij = beta1 s + beta2 chi_i chi_j + beta3 s^2`, with `s = <x_i, x_j>` and `chi_i = |x_i|^2 - tau0^2`; "
    "the diagonals are `gamma2` and `kappa2`. For data of classes `a`, `b` the term `s^2` may be replaced by its mean "
    "`S_ab/p`, `S_ab = tr(C_a C_b)/p` with the class covariances themselves: centring them first leaves an error that "
    "does not vanish."
)
_SLOPES = (
    "A prime (D_ in text) is the derivative in the parameter; `q = tau^2`, and the moments' own derivatives in `q` are "
    "`d1_q = E[phi''']/2`, `d2_q = E[phi'''']/2`, `h_q = E[(phi_c^2)'''']/4 - d2^2/2`, `v_q = E[(phi'^2)'']/2`."
)


@dataclass(frozen=True)
class SymbolicEquations:
    """The equations of a DEQ and of explicit networks, in SymPy.

    sigma_a2, sigma_b2, gamma2, kappa2, tau2 are variances, tau and tau0 standard deviations; V, d1, d2, h, v are the
    Gaussian moments at tau. Names ending in ``_prev`` and ``_next`` are before and after a layer, in ``_1``, ``_2``
    ... after so many.

    Attributes:
        trained: the parameters the NTK trains, "a", "aA" or "aAB".
        activation: its name, or None for any activation.
        equations: name -> equation; "tau" is the fixed point equation tau^2 = T(tau^2).
        recursion: one layer of an explicit network.
        unrolled: the explicit network after ``layers`` layers, in the moments of its layers; empty for 0.
        layers: the number of explicit layers unrolled.
        moments: closed forms in tau that were put in the place of names.
        slopes: parameter -> name -> derivative, by implicit differentiation.
        note: why there are no closed forms, or which are missing; "" when nothing is to be said.
        implicit: the derivation of ``equations``, its results with the moments by name.
        layer: the derivation of ``recursion``, likewise.
    """

    trained: str
    activation: str | None
    equations: Mapping[str, sp.Eq]
    recursion: Mapping[str, sp.Eq]
    unrolled: Mapping[str, sp.Eq]
    layers: int
    moments: Mapping[str, sp.Eq]
    slopes: Mapping[str, Mapping[str, sp.Eq]]
    note: str
    implicit: Derivation
    layer: Derivation

    @property
    def sympy(self) -> dict[str, sp.Eq]:
        """The equations of the DEQ by name."""
        return dict(self.equations)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The derivation, step by step."""
        return self.implicit.steps + self.layer.steps

    @property
    def moment_slopes(self) -> dict[str, sp.Eq]:
        """The derivatives in q = tau^2 of the moments that have closed forms: d1_q, d2_q, h_q, v_q (that of V is h)."""
        tau = symbol("tau")
        return {
            f"{name}_q": equate(symbol(f"{name}_q"), sp.factor_terms(sp.diff(equation.rhs, tau) / (2 * tau)))
            for name, equation in self.moments.items()
            if name != "V"
        }

    def _sections(self, sensitivities: bool, *, narrow: bool = False) -> list[tuple[str, str, tuple[sp.Eq, ...]]]:
        """(title, remark, equations) of what is shown; ``narrow`` leaves closed forms out where they do not fit."""
        equations, recursion = self.equations, self.recursion
        if narrow:
            equations = _narrow(equations, self.implicit.results)
            recursion = _narrow(recursion, self.layer.results)
        sections = []
        scope = f"NTK coefficients are for trained {self.trained}."
        if self.activation is not None:
            given = f"Activation: {self.activation}. {self.note} ".replace("`", "'")
            scope = f"{given.rstrip()} {scope}"
        if self.moments:
            sections.append(("Closed forms of the moments", scope, tuple(self.moments.values())))
        remark = _ENTRIES if self.moments else f"{scope} {_ENTRIES}"
        sections.append(("The equations of a deep equilibrium model", remark, tuple(equations.values())))
        at = "The moments are those of the layer's activation at the scale of its input, `tau2_prev`."
        sections.append(("One layer of an explicit network", at, tuple(recursion.values())))
        if self.layers:
            start = (
                "From `alpha1 = alpha4 = beta1 = 1`, `kappa2 = tau0^2`; `d1_k` is `d1` at the scale of the k-th input."
            )
            sections.append((f"An explicit network of depth {self.layers}", start, tuple(self.unrolled.values())))
        if sensitivities:
            for k, (parameter, slopes) in enumerate(self.slopes.items()):
                remark = _SLOPES if k == 0 else ""
                sections.append((f"Derivatives in {parameter}", remark, tuple(slopes.values())))
            if self.moments:
                sections.append(("Derivatives of the moments in q", "", tuple(self.moment_slopes.values())))
        return sections

    def to_text(self, *, derivation: bool = False, sensitivities: bool = False) -> str:
        """Plain text: a line an equation, SymPy's notation."""
        lines: list[str] = []
        if derivation:
            for k, step in enumerate(self.steps, start=1):
                lines += [f"Step {k}. {plain(step.text)}", *map(_line, (*step.comparisons, *step.results.values()))]
                lines += [
                    f"  dropped: {t.monomial} * ({t.coefficient}), of operator norm O(p^({t.exponent}))"
                    for t in step.dropped
                ]
                lines.append("")
        for title, remark, equations in self._sections(sensitivities):
            lines += [title, *([plain(remark)] if remark else []), *map(_line, equations), ""]
        lines += ["Moments, xi ~ N(0, 1)", *(f"  {name} = {meaning}" for name, meaning in MOMENTS.items())]
        return "\n".join(lines)

    def to_latex(self, *, derivation: bool = False, sensitivities: bool = False, extra: str = "") -> str:
        """A document that compiles with article and amsmath, its lines no wider than the page.

        Where a closed form would not fit in an equation, the moment keeps its name. ``extra`` is LaTeX for the end.
        """
        body: list[str] = []
        names = auxiliary_names()
        if derivation:
            body.append(r"\section*{Derivation}")
            for k, step in enumerate(self.steps, start=1):
                body += [rf"\paragraph{{Step {k}.}} {markup_latex(step.text)}"]
                body.append(aligned((*step.comparisons, *step.results.values()), names))
                if step.dropped:
                    terms = ",\\quad ".join(f"${latex(t.coefficient * t.monomial)}$" for t in step.dropped)
                    body.append(f"Dropped, of operator norm $O(p^{{{step.dropped[0].exponent}}})$: {terms}.")
        for title, remark, equations in self._sections(sensitivities, narrow=True):
            body += [rf"\section*{{{text_latex(title)}}}", markup_latex(remark), aligned(equations, names)]
        body += [r"\section*{Moments}", f"\\begin{{align*}}\n{_MOMENTS_LATEX}\n\\end{{align*}}", extra]
        return document("\n".join(part for part in body if part))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: every equation as the text of its two sides and as LaTeX."""
        return {
            "activation": self.activation,
            "trained": self.trained,
            "layers": self.layers,
            "note": self.note,
            "moments": _record(self.moments),
            "moment_slopes": _record(self.moment_slopes),
            "equations": _record(self.equations),
            "recursion": _record(self.recursion),
            "unrolled": _record(self.unrolled),
            "slopes": {parameter: _record(slopes) for parameter, slopes in self.slopes.items()},
            "derivation": [
                {
                    "text": plain(step.text),
                    "comparisons": [_sides(e) for e in step.comparisons],
                    "results": _record(step.results),
                    "dropped": [
                        {"term": str(t.coefficient * t.monomial), "norm": f"O(p^({t.exponent}))"} for t in step.dropped
                    ],
                }
                for step in self.steps
            ],
        }


def _narrow(substituted: Mapping[str, sp.Eq], named: Mapping[str, sp.Eq]) -> dict[str, sp.Eq]:
    """The equations that fit on a line as they are, the others with the moments by name."""
    return {name: equation if fits(equation) else named[name] for name, equation in substituted.items()}


def _line(equation: sp.Eq) -> str:
    return f"  {_text(equation.lhs)} = {_text(equation.rhs)}"


def _text(expr: sp.Expr) -> str:
    return str(sp.sstr(expr, order="rev-lex"))


def _sides(equation: sp.Eq) -> dict[str, str]:
    return {"left": _text(equation.lhs), "right": _text(equation.rhs), "latex": latex(equation)}


def _record(equations: Mapping[str, sp.Eq]) -> dict[str, dict[str, str]]:
    return {name: _sides(equation) for name, equation in equations.items()}


def symbolic_equations(
    trained: str = "aA",
    layers: int = 0,
    *,
    activation: str | None = None,
    moments: Mapping[str, sp.Expr] | None = None,
    note: str = "",
) -> SymbolicEquations:
    """The four equations, the NTK coefficients, the explicit recursion and their derivatives, derived.

    Args:
        trained: "a", "aA" or "aAB".
        layers: explicit layers to unroll, 0 to 16.
        activation: what to call the activation.
        moments: closed forms of V, d1, d2, h, v in ``symbol("tau")``; names left out stay names.
        note: a sentence to print with the moments.

    Raises:
        InputError: ``trained`` or ``layers`` out of range.
    """
    if not 0 <= layers <= MAX_LAYERS:
        raise InputError(f"layers must be a whole number from 0 to {MAX_LAYERS}; got {layers!r}")
    if trained not in TRAINED:
        raise InputError(f"trained must be one of {', '.join(TRAINED)}; got {trained!r}")
    implicit, layer = derive_implicit(trained), derive_explicit_layer()
    closed = dict(moments or {})
    here = {symbol(name): value for name, value in closed.items()}
    before = {x: value.xreplace({symbol("tau"): sp.sqrt(symbol("tau2_prev"))}) for x, value in here.items()}
    return SymbolicEquations(
        trained=trained,
        activation=activation,
        equations=_substituted(implicit.results, here),
        recursion=_substituted(layer.results, before),
        unrolled=unrolled(layers, closed),
        layers=layers,
        moments={name: equate(symbol(name), value) for name, value in closed.items()},
        slopes=symbolic_sensitivities(trained),
        note=note,
        implicit=implicit,
        layer=layer,
    )


def _substituted(equations: Mapping[str, sp.Eq], values: Mapping[sp.Expr, sp.Expr]) -> dict[str, sp.Eq]:
    """The equations with values put in their right sides, and zeros found on the way."""
    known = dict(values)
    result = {}
    for name, equation in equations.items():
        result[name] = equate(equation.lhs, equation.rhs.xreplace(known))
        if result[name].rhs == 0:
            known[equation.lhs] = sp.S.Zero
    return result
