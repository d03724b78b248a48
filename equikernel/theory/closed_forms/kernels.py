"""Real and imaginary part of erf at a complex point, as functions of two arguments.

Trigonometric integrands on an interval give erf(a + ib). The expectation is real, so that closed forms are written with
Re erf(a + ib) and Im erf(a + ib) rather than with an expression that only turns out to be real. For complex a and b
they mean the analytic continuations (erf(a + ib) + erf(a - ib))/2 and (erf(a + ib) - erf(a - ib))/(2i): an integrand
that grows like exp(x^2) on a bounded interval makes both arguments imaginary from some tau on.
"""

from __future__ import annotations

from typing import Any

import sympy as sp
from mpmath.libmp import prec_to_dps

__all__ = ["im_erf", "re_erf"]


class re_erf(sp.Function):  # type: ignore[misc]  # noqa: N801 - SymPy is untyped; its functions are named like this
    """Re erf(a + ib): odd in a, even in b."""

    nargs = 2

    @classmethod
    def eval(cls, a: sp.Expr, b: sp.Expr) -> sp.Expr | None:
        if b == 0:
            return sp.erf(a)
        if a == 0:
            return sp.S.Zero
        if a.could_extract_minus_sign():
            return -cls(-a, b)
        return cls(a, -b) if b.could_extract_minus_sign() else None

    def _eval_is_extended_real(self) -> bool | None:
        return True if all(argument.is_extended_real for argument in self.args) else None

    def _eval_evalf(self, prec: int) -> sp.Expr:
        return self.rewrite(sp.erf).evalf(prec_to_dps(prec), chop=True)

    def _eval_rewrite_as_erf(self, a: sp.Expr, b: sp.Expr, **_: Any) -> sp.Expr:
        return (sp.erf(a + sp.I * b) + sp.erf(a - sp.I * b)) / 2

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        return _latex("Re", self, printer, exp)


class im_erf(sp.Function):  # type: ignore[misc]  # noqa: N801 - as re_erf
    """Im erf(a + ib): even in a, odd in b."""

    nargs = 2

    @classmethod
    def eval(cls, a: sp.Expr, b: sp.Expr) -> sp.Expr | None:
        if b == 0:
            return sp.S.Zero
        if a == 0:
            return sp.erfi(b)
        if b.could_extract_minus_sign():
            return -cls(a, -b)
        return cls(-a, b) if a.could_extract_minus_sign() else None

    def _eval_is_extended_real(self) -> bool | None:
        return True if all(argument.is_extended_real for argument in self.args) else None

    def _eval_evalf(self, prec: int) -> sp.Expr:
        return self.rewrite(sp.erf).evalf(prec_to_dps(prec), chop=True)

    def _eval_rewrite_as_erf(self, a: sp.Expr, b: sp.Expr, **_: Any) -> sp.Expr:
        return (sp.erf(a + sp.I * b) - sp.erf(a - sp.I * b)) / (2 * sp.I)

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        return _latex("Im", self, printer, exp)


def _latex(part: str, function: sp.Function, printer: Any, exp: str | None) -> str:
    a, b = (printer._print(argument) for argument in function.args)  # noqa: SLF001 - how SymPy's printers recurse
    text = rf"\operatorname{{{part}}}\operatorname{{erf}}\left({a} + i\,{b}\right)"
    return text if exp is None else rf"\left({text}\right)^{{{exp}}}"
