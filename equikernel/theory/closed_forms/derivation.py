"""The derivation of closed forms as LaTeX: what was integrated, by which rule, step by step.

Plain ``article`` and ``amsmath``. Sums are broken over lines at their terms, inside brackets too, and rationals too
long for a line are named and written out once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import sympy as sp

from equikernel.theory.closed_forms.atoms import Atom
from equikernel.theory.closed_forms.combination import OpenIntegral
from equikernel.theory.closed_forms.integrals import Interval, Step
from equikernel.theory.closed_forms.typeset import broken, filled, latex

if TYPE_CHECKING:
    from equikernel.theory.closed_forms.forms import ClosedForms, Expectation

__all__ = ["document", "moments_latex", "steps"]

_MAX_LINE_DIGITS = 60
_SYMBOLS = {
    "m0": r"\mathrm{E}[\varphi]",
    "s0": r"\mathrm{E}[\varphi^2]",
    "m1": r"\mathrm{E}[\xi\varphi]",
    "m2": r"\mathrm{E}[(\xi^2-1)\varphi]",
    "s2": r"\mathrm{E}[(\xi^2-1)\varphi^2]",
    "v": r"v = \mathrm{E}[\varphi'^2]",
    "V": r"V = \mathrm{E}[\varphi^2]-\mathrm{E}[\varphi]^2",
    "d1": r"d_1 = \tau^{-1}\,\mathrm{E}[\xi\varphi]",
    "d2": r"d_2 = \tau^{-2}\,\mathrm{E}[(\xi^2-1)\varphi]",
    "h": r"h = \tfrac12\tau^{-2}\left(\mathrm{E}[(\xi^2-1)\varphi^2]"
    r"-2\,\mathrm{E}[\varphi]\,\mathrm{E}[(\xi^2-1)\varphi]\right)",
}
_RULES = r"""Let $x\sim N(0,\tau^2)$ with density $g$, $\xi=x/\tau$, $D=1-2b\tau^2$, and
$\langle f\rangle_{l}^{u}=\int_l^u f(x)\,g(x)\,dx$. For $F=e^{ax+bx^2}\prod_j\operatorname{erf}(\alpha_jx+\beta_j)$
($a$ complex where there is a phase), completing the square and integrating by parts give
\begin{align*}
\langle x^nF\rangle_l^u&=\frac{\tau^2}{D}\Bigl(a\,\langle x^{n-1}F\rangle_l^u+(n-1)\langle x^{n-2}F\rangle_l^u
-\bigl[x^{n-1}F\,g\bigr]_l^u\\
&\qquad+\sum_j\tfrac{2\alpha_j}{\sqrt\pi}\,e^{-\beta_j^2}\bigl\langle x^{n-1}\tfrac{F}{\operatorname{erf}_j}
e^{-\alpha_j^2x^2-2\alpha_j\beta_jx}\bigr\rangle_l^u\Bigr).
\end{align*}
With $K=e^{a^2\tau^2/(2D)}/\sqrt D$ and $z_x=(Dx-a\tau^2)/(\tau\sqrt{2D})$, the base cases are
\begin{align*}
\langle e^{ax+bx^2}\rangle_l^u&=\tfrac12K\left(\operatorname{erf}z_u-\operatorname{erf}z_l\right),\\
\langle e^{ax+bx^2}\operatorname{erf}(\alpha x+\beta)\rangle_{-\infty}^{\infty}
&=K\operatorname{erf}\frac{\alpha a\tau^2+\beta D}{\sqrt{D(D+2\alpha^2\tau^2)}},\\
\langle e^{bx^2}\operatorname{erf}(\alpha x)\rangle_0^{\infty}
&=\frac1{\pi\sqrt D}\arctan\frac{\alpha\tau\sqrt2}{\sqrt D},\\
\langle e^{bx^2}\operatorname{erf}(\alpha x)\operatorname{erf}(\beta x)\rangle_{-\infty}^{\infty}
&=\frac2{\pi\sqrt D}\arcsin\frac{2\alpha\beta\tau^2}{\sqrt{(D+2\alpha^2\tau^2)(D+2\beta^2\tau^2)}}.
\end{align*}"""
_HEAD = r"""\documentclass{article}
\usepackage{amsmath}
\setlength{\textwidth}{18cm}
\setlength{\oddsidemargin}{-1.1cm}
\setlength{\textheight}{24cm}
\setlength{\topmargin}{-2cm}
\setlength{\parindent}{0pt}
\allowdisplaybreaks
\begin{document}
"""


def document(forms: ClosedForms) -> str:
    """The derivation as a document that compiles with pdflatex."""
    return _HEAD + "\n\n".join(steps(forms)) + "\n\\end{document}\n"


def moments_latex(forms: ClosedForms) -> str:
    """The closed forms, one below the other."""
    names = _Names()
    lines = [line for name in _SYMBOLS if name in forms.expressions for line in _moment(name, forms, names)]
    return "\n".join([*names.definitions(), _align(lines)])


def steps(forms: ClosedForms) -> list[str]:
    """The derivation in order: phi, the rules, the integrands, the integrals, the moments, and what does not close."""
    names = _Names()
    body = [_RULES, *(_integrand(expectation, names) for expectation in forms.expectations)]
    body.append("The integrals, each from those above it:")
    body += [_step(step, names) for step in _needed(forms)]
    body.append("Together:")
    for name in _SYMBOLS:
        if name in forms.expressions:
            body.append(_align(_moment(name, forms, names)))
    body += [rf"No closed form of \texttt{{{name}}}: {_escaped(why)}." for name, why in forms.reasons.items()]
    return [_function(forms, names), *names.definitions(), *body]


class _Names:
    """Names for rationals with too many digits for a line."""

    def __init__(self) -> None:
        self._names: dict[sp.Rational, sp.Symbol] = {}

    def __call__(self, expr: sp.Expr) -> sp.Expr:
        long = [
            r for r in expr.atoms(sp.Rational) if len(str(r)) > 20 and r not in self._names and -r not in self._names
        ]
        for r in sorted(long, key=abs):
            if -r not in self._names:
                self._names[r] = sp.Symbol(f"r_{{{len(self._names) + 1}}}", real=True)
        return expr.xreplace({**self._names, **{-r: -name for r, name in self._names.items()}})

    def definitions(self) -> list[str]:
        """What the names stand for, digits broken over lines."""
        return [_align(_digits(latex(name), str(r))) for r, name in self._names.items()]


def _digits(name: str, digits: str) -> list[str]:
    parts = [digits[k : k + _MAX_LINE_DIGITS] for k in range(0, len(digits), _MAX_LINE_DIGITS)]
    return [f"{name} &= {parts[0]}", *(rf"&\quad {part}" for part in parts[1:])]


def _align(lines: Iterable[str]) -> str:
    return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


def _function(forms: ClosedForms, names: _Names) -> str:
    if len(forms.pieces) == 1:
        return _align(_equated(r"\varphi(x)", broken(names(forms.pieces[0].expr))))
    branches = r" \\ ".join(f"{latex(names(piece.expr))} & {_condition(piece.interval)}" for piece in forms.pieces)
    return rf"The activation is \[\varphi(x)=\begin{{cases}}{branches}\end{{cases}}\]"


def _condition(interval: Interval) -> str:
    lower, upper = interval
    left = "" if lower is None else f"{latex(lower)}<"
    right = "" if upper is None else f"<{latex(upper)}"
    return f"{left}x{right}"


def _bracket(atom: Atom, interval: Interval) -> str:
    lower = r"-\infty" if interval.lower is None else latex(interval.lower)
    upper = r"\infty" if interval.upper is None else latex(interval.upper)
    return rf"\bigl\langle {latex(atom.to_expr())}\bigr\rangle_{{{lower}}}^{{{upper}}}"


def _integrand(expectation: Expectation, names: _Names) -> str:
    """A raw moment as a sum of brackets."""
    terms = []
    for coefficient, atom, interval in expectation.shares:
        terms += _with_coefficient(names(coefficient), _bracket(atom, interval))
    symbol = _SYMBOLS[expectation.name].rsplit(" = ", maxsplit=1)[-1]
    return _align(_equated(symbol, terms or ["0"])) + (
        " (real parts of what is complex)" if _has_phase(expectation) else ""
    )


def _equated(left: str, terms: Sequence[str]) -> list[str]:
    """The lines of left = sum of signed terms."""
    first, *more = filled([terms[0].removeprefix("+"), *terms[1:]])
    return [f"{left} &= {first}", *(rf"&\quad {line}" for line in more)]


def _has_phase(expectation: Expectation) -> bool:
    return any(atom.w != 0 for _, atom, _ in expectation.shares)


def _with_coefficient(coefficient: sp.Expr, bracket: str) -> list[str]:
    if coefficient == 1:
        return [f"+{bracket}"]
    lines = broken(coefficient)
    if len(lines) == 1 and not coefficient.is_Add:
        text = lines[0]
        return [(text if text.startswith("-") else f"+{text}") + r"\," + bracket]
    return [r"+\Bigl(" + lines[0], *lines[1:-1], *([lines[-1]] if len(lines) > 1 else []), r"\Bigr)\," + bracket]


def _needed(forms: ClosedForms) -> Sequence[Step]:
    """The steps that the closed moments rest on, in order."""
    known = {(step.atom, step.interval): step for step in forms.integrals}
    wanted: set[tuple[Atom, Interval]] = set()
    stack = [(atom, interval) for e in forms.expectations for _, atom, interval in e.shares]
    while stack:
        key = stack.pop()
        if key not in wanted:
            wanted.add(key)
            stack += [(atom, key[1]) for _, atom in known[key].terms]
    return [
        step for step in forms.integrals if (step.atom, step.interval) in wanted and not step.value.atoms(OpenIntegral)
    ]


def _step(step: Step, names: _Names) -> str:
    bracket = _bracket(step.atom, step.interval)
    terms = [
        term
        for coefficient, atom in step.terms
        for term in _with_coefficient(names(coefficient.to_expr()), _bracket(atom, step.interval))
    ]
    if step.boundary:
        terms += broken(names(step.boundary.to_expr()), signed=True)
    value = broken(names(step.value.to_expr()))
    lines = [*_equated(bracket, terms), f"&= {value[0]}"] if terms else [f"{bracket} &= {value[0]}"]
    rule = f"{step.rule[0].upper()}{step.rule[1:]}"
    return f"{rule}:\n" + _align([*lines, *(rf"&\quad {part}" for part in value[1:])])


def _moment(name: str, forms: ClosedForms, names: _Names) -> list[str]:
    value = broken(names(forms.expressions[name]))
    symbol, _, definition = _SYMBOLS[name].partition(" = ")
    first = [f"{symbol} &= {definition}", f"&= {value[0]}"] if definition else [f"{symbol} &= {value[0]}"]
    return [*first, *(rf"&\quad {part}" for part in value[1:])]


_SPECIAL = re.compile(r"([\\{}_^&%#$~])")
_ESCAPES = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda match: _ESCAPES.get(match.group(), "\\" + match.group()), text)
