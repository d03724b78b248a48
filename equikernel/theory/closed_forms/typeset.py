"""LaTeX of closed forms: roots joined as papers print them, long sums broken into lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

import sympy as sp
from sympy.printing.latex import LatexPrinter

__all__ = ["broken", "filled", "latex"]

_WIDTH = 66  # characters of a line, roughly
_INVISIBLE = re.compile(r"\\(?:left|right|Bigl|Bigr|bigl|bigr|operatorname|frac|sqrt|mathrm|quad|[a-z]*space)|[{}^_\s]")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_HALF = sp.Rational(1, 2)


class _Printer(LatexPrinter):  # type: ignore[misc]  # SymPy's printers are untyped
    r"""SymPy's printer, with 1/\sqrt{2\pi} for \sqrt{2}/(2\sqrt{\pi}) and \sqrt{2/\pi} for \sqrt{2}/\sqrt{\pi}."""

    def _print_Mul(self, expr: sp.Mul) -> str:  # noqa: N802 - the name SymPy dispatches on
        factors = list(expr.args)
        root_pi = sp.pi**-_HALF
        roots = [f for f in factors if f.is_Pow and f.base.is_Integer and f.exp == _HALF]
        if root_pi not in factors or len(roots) != 1:
            return str(super()._print_Mul(expr))
        base = roots[0].base
        rest = sp.Mul(*(f for f in factors if f not in (root_pi, roots[0])))
        rational, plain = rest.as_coeff_Mul()
        # a symbol, because SymPy takes roots of products apart
        if rational.q % base == 0:
            joined = rational * base * plain / sp.Symbol(rf"\sqrt{{{base} \pi}}")
        else:
            joined = rational * plain * sp.Symbol(rf"\sqrt{{\frac{{{base}}}{{\pi}}}}")
        return str(super()._print_Mul(joined)) if joined.is_Mul else str(self._print(joined))


_PRINTER = _Printer({"inv_trig_style": "full", "ln_notation": False})


def latex(expr: sp.Expr) -> str:
    """An expression on one line."""
    return str(_PRINTER.doprint(expr))


def _width(text: str) -> int:
    return len(_COMMAND.sub("x", _INVISIBLE.sub("", text)))


def broken(expr: sp.Expr, *, signed: bool = False) -> list[str]:
    """An expression over several lines, broken between the terms of sums; ``signed`` puts a sign before the first."""
    chunks = _chunks(expr)
    if signed and not chunks[0].startswith("-"):
        chunks[0] = f"+{chunks[0]}"
    return filled(chunks)


def filled(chunks: Sequence[str]) -> list[str]:
    """Chunks of LaTeX joined to lines that are not too long."""
    lines = [chunks[0]]
    for chunk in chunks[1:]:
        if _width(lines[-1]) + _width(chunk) > _WIDTH:
            lines.append(chunk)
        else:
            lines[-1] += f" {chunk}"
    return lines


def _chunks(expr: sp.Expr) -> list[str]:
    """Pieces of LaTeX between which a line may end; every one but the first begins with a sign."""
    text = latex(expr)
    if _width(text) <= _WIDTH:
        return [text]
    if expr.is_Add:
        result: list[str] = []
        for term in expr.as_ordered_terms():
            first, *more = _chunks(term)
            result += [first if not result or first.startswith("-") else f"+{first}", *more]
        return result
    if expr.is_Mul or expr.is_Pow:
        return _bracketed(expr) or [text]
    return [text]


def _bracketed(product: sp.Expr) -> list[str] | None:
    """A product with its longest sum opened; None where it has none."""
    factors = sp.Mul.make_args(product)
    sums = [
        f for f in factors if f.as_base_exp()[0].is_Add and f.as_base_exp()[1].is_Integer and f.as_base_exp()[1] > 0
    ]
    if not sums:
        return None
    longest = max(sums, key=lambda f: _width(latex(f)))
    base, exponent = longest.as_base_exp()
    inner = _chunks(base)
    front = sp.Mul(*(f for f in factors if f != longest))
    front_text = "" if front == 1 else "-" if front == -1 else latex(front) + r"\,"
    closing = r"\Bigr)" + ("" if exponent == 1 else f"^{{{exponent}}}")
    inner[0] = rf"{front_text}\Bigl({inner[0]}"
    inner[-1] += closing
    return inner
