"""Equations as LaTeX that compiles with article and amsmath, in lines no wider than the page.

Symbols are named as in the papers: ``sigma_a2`` is sigma_a^2 and its square sigma_a^4, ``alpha1_next`` and ``d1_2``
carry the number of a layer. A sum too wide for a line is broken between its terms; what is too wide and no sum has its
widest parts named and given on lines of their own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

import sympy as sp
from sympy.printing.latex import LatexPrinter

__all__ = [
    "PREAMBLE",
    "aligned",
    "auxiliary_names",
    "document",
    "fits",
    "latex",
    "markup_latex",
    "plain",
    "symbol_latex",
    "text_latex",
]

PREAMBLE = "\\documentclass{article}\n\\usepackage{amsmath}\n\\allowdisplaybreaks\n\\sloppy\n"
_SQUARES = frozenset({"sigma_a2", "sigma_b2", "gamma2", "kappa2", "tau2"})
_LAYERS = {"next": r"\ell", "prev": r"\ell-1"}
_NAME = re.compile(r"([A-Za-z]+?)(?:_([abcijq]{1,2}))?(\d*)(?:_(\w+))?")
_SPECIAL = {
    "tr": r"\operatorname{tr}",
    "E": r"\operatorname{E}",
    "phi": r"\varphi",
    "phi_c": r"\varphi_{c}",
    "G_dot": r"\dot{G}",
    "G_dot_ii": r"\dot{G}_{ii}",
}
_LINE = 50.0  # glyphs of average width on a line of article's 345 pt, left-hand side and margin of error included
_NARROW = 4.0
_LONGEST, _SHOWN = 15, 10  # digits of a number shown in full, and of one that is cut
_TOKEN = re.compile(r"\\(?:operatorname|mathrm|text)|\\[A-Za-z]+|\\.|.", re.DOTALL)
_INVISIBLE = frozenset({r"\left", r"\right", r"\,", r"\;", r"\quad", r"\displaystyle", "{", "}", " ", "&"})


def symbol_latex(name: str) -> str:
    """A symbol's name in the package as LaTeX, squares as squares: tau2_3 is tau_3^2, D_q is q'."""
    if name.startswith("D_"):
        inner = symbol_latex(name.removeprefix("D_"))
        return rf"\left({inner}\right)'" if "^" in inner else f"{inner}'"
    if name in _SPECIAL:
        return _SPECIAL[name]
    root, power = _root(name)
    return root if power == 1 else f"{root}^{{{power}}}"


def _root(name: str) -> tuple[str, int]:
    """The LaTeX of a symbol, or of its square root and 2 when the name stands for a square."""
    match = _NAME.fullmatch(name)
    if match is None:
        return name, 1
    letter, subscript, digits, layer = match.groups()
    square = f"{letter}{'_' + subscript if subscript else ''}{digits}" in _SQUARES
    indices = [subscript, None if square else digits, _LAYERS.get(layer or "", layer)]
    shown = ",".join(i for i in indices if i)
    base = sp.latex(sp.Symbol(letter))
    return f"{base}_{{{shown}}}" if shown else base, 2 if square else 1


class _Printer(LatexPrinter):  # type: ignore[misc]  # SymPy's printers are untyped
    """SymPy's printer with the papers' names."""

    def __init__(self) -> None:
        super().__init__({"order": "rev-lex", "fold_short_frac": False, "ln_notation": False})

    def _print_Symbol(self, expr: sp.Symbol, style: str = "plain") -> str:  # noqa: N802 - the name SymPy dispatches on
        return symbol_latex(expr.name)

    def _print_Pow(self, expr: sp.Expr) -> str:  # noqa: N802 - the name SymPy dispatches on
        if isinstance(expr.base, sp.Symbol) and expr.exp.is_Rational and expr.exp > 0:
            root, power = _root(expr.base.name)
            exponent = power * expr.exp
            if power == 2:
                return root if exponent == 1 else f"{root}^{{{self._print(exponent)}}}"
        return str(super()._print_Pow(expr))


def latex(expr: sp.Basic) -> str:
    """An expression or equation as LaTeX; numbers of more than 15 digits as decimals that end in dots."""
    long = {x for x in expr.atoms(sp.Rational) if max(abs(x.p), x.q) >= 10**_LONGEST}
    shown = {x: sp.sign(x) * sp.Symbol(_decimal(abs(x)), positive=True) for x in long}
    return str(_Printer().doprint(expr.xreplace(shown)))


def _decimal(number: sp.Rational) -> str:
    text, _, exponent = str(sp.N(number, _SHOWN)).partition("e")
    dots = "" if sp.Rational(f"{text}e{exponent or 0}") == number else r"\ldots"
    text = text.rstrip("0") if not dots else text
    return rf"{text}{dots} \cdot 10^{{{int(exponent)}}}" if exponent else f"{text}{dots}"


def fits(equation: sp.Eq) -> bool:
    """Whether an equation can be set in one line."""
    return width(latex(equation.lhs)) + 2 + width(latex(equation.rhs)) <= _LINE


def width(text: str) -> float:
    """About how many glyphs wide a formula is set: fractions count their wider half, exponents two thirds."""
    return _width(_glyphs(text))


def _glyphs(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _width(glyphs: list[str]) -> float:
    total, k = 0.0, 0
    while k < len(glyphs):
        glyph = glyphs[k]
        if glyph == r"\frac":
            top, k = _group(glyphs, k + 1)
            bottom, k = _group(glyphs, k)
            total += max(_width(top), _width(bottom)) + 0.5
        elif glyph in {"^", "_"}:
            content, k = _group(glyphs, k + 1)
            total += 0.67 * _width(content)
        elif glyph in _INVISIBLE:
            k += 1
        else:
            total += 2.0 if glyph in {"+", "-", "="} else 1.0
            k += 1
    return total


def _group(glyphs: list[str], start: int) -> tuple[list[str], int]:
    """The glyphs of a braced group (or the single glyph) at ``start``, and where the next one begins."""
    if start >= len(glyphs) or glyphs[start] != "{":
        return glyphs[start : start + 1], start + 1
    depth = 0
    for k in range(start, len(glyphs)):
        depth += {"{": 1, "}": -1}.get(glyphs[k], 0)
        if depth == 0:
            return glyphs[start + 1 : k], k + 1
    return glyphs[start + 1 :], len(glyphs)


def auxiliary_names() -> Iterator[sp.Symbol]:
    """A_1, A_2, ...: the names of parts that are given on lines of their own, for one document."""
    return (sp.Symbol(f"A_{k}", real=True) for k in itertools.count(1))


def aligned(equations: Iterable[sp.Eq], names: Iterator[sp.Symbol]) -> str:
    """An ``align*`` environment of equations, broken where a line would be wider than the page.

    ``names`` are taken for parts that have to stand on their own (``auxiliary_names``).
    """
    lines = [line for equation in equations for line in _equation_lines(equation, names)]
    return "\n".join([r"\begin{align*}", " \\\\\n".join(lines), r"\end{align*}"])


def _equation_lines(equation: sp.Eq, names: Iterator[sp.Symbol]) -> list[str]:
    left = latex(equation.lhs)
    room = _LINE - width(left) - 2
    right, named = _fitted(equation.rhs, room, names)
    head, *rest = _broken(right, room)
    lines = [f"{left} &= {head}", *(rf"&\quad {part}" for part in rest)]
    for name, value in named:
        lines += _equation_lines(sp.Eq(name, value, evaluate=False), names)
    return lines


def _fitted(expr: sp.Expr, room: float, names: Iterator[sp.Symbol]) -> tuple[sp.Expr, list[tuple[sp.Symbol, sp.Expr]]]:
    """The expression with its widest parts replaced by names until every term of it fits, and those parts."""
    named: list[tuple[sp.Symbol, sp.Expr]] = []
    while True:
        wide = (t for t in sp.Add.make_args(expr) if width(latex(t)) > room)
        part = next((p for p in map(_widest_part, wide) if p is not None), None)
        if part is None:
            return expr, named
        name = next(names)
        named.append((name, part))
        expr = expr.xreplace({part: name})


def _widest_part(term: sp.Expr) -> sp.Expr | None:
    """The widest sum inside a term, or its widest factor if there is none; None when all are narrow."""
    inside = [e for e in sp.preorder_traversal(term) if isinstance(e, sp.Expr) and e != term]
    for candidates in ([e for e in inside if e.is_Add], [e for e in term.args if not e.is_Number]):
        widths = {e: width(latex(e)) for e in candidates}
        widest = max(widths, key=lambda e: widths[e], default=None)
        if widest is not None and widths[widest] > _NARROW:
            return widest
    return None


def _broken(expr: sp.Expr, room: float) -> list[str]:
    """The terms of a sum gathered into lines; signs stand at the beginnings of lines."""
    whole = latex(expr)
    if width(whole) <= room or not isinstance(expr, sp.Add):
        return [whole]
    lines: list[str] = [""]
    for term in expr.as_ordered_terms(order="rev-lex"):
        shown = latex(term)
        signed = shown if shown.startswith("-") else f"+ {shown}"
        if lines[-1] and width(lines[-1]) + width(signed) > room:
            lines.append("")
        lines[-1] = f"{lines[-1]} {signed}".strip()
    lines[0] = lines[0].removeprefix("+ ")
    return lines


_TEXT = {"^": r"\textasciicircum{}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$", "|": r"\ensuremath{|}"}
_TEXT |= {"<": r"\ensuremath{<}", ">": r"\ensuremath{>}", "*": r"\ensuremath{*}", "\\": r"\textbackslash{}"}
_TEXT |= {"{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
_BREAKS = frozenset("*/+(")  # after these a formula in running text may be broken


def text_latex(text: str) -> str:
    """Plain text made safe for LaTeX; what is not ASCII becomes a question mark."""
    shown = (_TEXT.get(c, c) + (r"\allowbreak{}" if c in _BREAKS else "") for c in text)
    return "".join(shown).encode("ascii", "replace").decode("ascii")


def plain(text: str) -> str:
    """Text with its mathematics, which stands between backticks, as it is."""
    return text.replace("`", "")


def markup_latex(text: str) -> str:
    """Text whose mathematics stands between backticks as LaTeX: names become symbols."""
    parts = text.split("`")
    return "".join(f"${_mathematics(part)}$" if k % 2 else text_latex(part) for k, part in enumerate(parts))


def _mathematics(text: str) -> str:
    def converted(match: re.Match[str]) -> str:
        name, power, exponent = match.groups()
        if exponent is not None:
            return f"^{{{exponent}}}"
        if name is None:
            return {"<": r"\langle ", ">": r"\rangle ", "*": r"\,"}[match[0]]
        return f"{symbol_latex(name)}^{{{power}}}" if power else symbol_latex(name)

    return re.sub(r"([A-Za-z]\w*)(?:\^(\d))?|\^\(([^()]*)\)|[<>*]", converted, text)


def document(body: str) -> str:
    """A LaTeX document that compiles as it is."""
    return f"{PREAMBLE}\\begin{{document}}\n{body}\n\\end{{document}}\n"
