"""``dual_activation(phi)``: E[phi(u) phi(v)] and E[phi'(u) phi'(v)] as functions of q_i, q_j and rho."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy.core.evalf import PrecisionExhausted

from equikernel.errors import AccuracyError, InputError
from equikernel.theory.activation import Activation
from equikernel.theory.closed_forms import function_of
from equikernel.theory.dual_forms.assembly import assembled
from equikernel.theory.dual_forms.gaussian import GaussianAlgebra
from equikernel.theory.dual_forms.terms import SIGNUM, Expansion, Term, derivative, expansion
from equikernel.theory.dual_forms.values import Q_I, Q_J, RHO
from equikernel.theory.program import X

__all__ = ["DualForm", "dual_activation"]

_CLOSE = sp.Rational(1, 10**8)
_LOST = 100  # terms this much larger than their sum are worth a word
_MAX_DIGITS = 1000


@dataclass(frozen=True)
class DualForm:
    """The dual activation of phi ([Daniely16]) in closed form, with (u, v) centred Gaussian.

    E u^2 = q_i > 0 and E v^2 = q_j > 0 are variances, rho in [-1, 1] is the correlation, and every formula holds at
    rho = 1 and -1 too, except that ``slope`` is infinite there when phi jumps.

    Attributes:
        activation: phi, as an expression in ``x`` and real parameters.
        expression: E[phi(u) phi(v)].
        slope: E[phi'(u) phi'(v)] = d E[phi(u) phi(v)]/d Cov(u, v) (Price's theorem).
        mean_i: E[phi(u)], a function of q_i.
        mean_j: E[phi(v)], the same function of q_j.
        jumps: whether phi jumps at 0.
        steps: how it was derived: pairs of a sentence and a formula in LaTeX.
    """

    activation: sp.Expr
    expression: sp.Expr
    slope: sp.Expr
    mean_i: sp.Expr
    mean_j: sp.Expr
    jumps: bool
    steps: tuple[tuple[str, str], ...]

    @property
    def parameters(self) -> tuple[sp.Symbol, ...]:
        """The symbols of phi other than x, in the order of their names."""
        return tuple(sorted(self.activation.free_symbols - {X}, key=str))

    @property
    def covariance(self) -> sp.Expr:
        """The covariance of phi(u) and phi(v), each centred at its own variance."""
        return self.expression - self.mean_i * self.mean_j

    def centred(self, constant: sp.Expr) -> sp.Expr:
        """E[(phi(u) - c)(phi(v) - c)], one constant c = E[phi(tau* xi)] for the whole network (theory, section 1)."""
        return self.expression - constant * (self.mean_i + self.mean_j) + constant**2

    @property
    def cancellation(self) -> str:
        """Where the terms of the formula nearly cancel, so that floating point loses digits; empty if nowhere."""
        return " and ".join(name for name, value in (("rho -> -1", -1), ("rho -> 1", 1)) if self._cancels(value))

    def _cancels(self, end: int) -> bool:
        values = {Q_I: sp.S.One, Q_J: sp.S.One, RHO: end * (1 - _CLOSE)}
        values |= {p: sp.Rational(-13, 10) if p.is_negative else sp.Rational(17, 10) for p in self.parameters}
        terms = [sp.N(term.subs(values), 40) for term in sp.Add.make_args(sp.expand(self.expression))]
        return bool(_LOST * abs(sum(terms)) < max(map(abs, terms)))

    def value(self, q_i: Any, q_j: Any, rho: Any, digits: int = 15, *, slope: bool = False) -> sp.Expr:
        """E[phi(u) phi(v)], or E[phi'(u) phi'(v)], to ``digits`` digits: precision rises until they are right.

        Args:
            q_i: variance of u, positive; a float is the decimal it prints as.
            q_j: variance of v.
            rho: correlation, -1 to 1.
            digits: significant digits, 1 to 1000.
            slope: whether E[phi'(u) phi'(v)] is wanted.

        Raises:
            InputError: an argument outside its domain, phi with parameters, or the slope of a jump at rho = +-1.
            AccuracyError: the digits could not be had (a value that vanishes without being the number 0).
        """
        if self.parameters:
            names = ", ".join(map(str, self.parameters))
            raise InputError(f"a value needs numbers in the place of the parameters {names} of phi; substitute them")
        values = {Q_I: _number(q_i, "q_i"), Q_J: _number(q_j, "q_j"), RHO: _number(rho, "rho")}
        if min(values[Q_I], values[Q_J]) <= 0 or abs(values[RHO]) > 1:
            raise InputError(
                "expected variances q_i, q_j > 0 and a correlation -1 <= rho <= 1; "
                f"got q_i = {q_i}, q_j = {q_j}, rho = {rho}"
            )
        if not 1 <= digits <= _MAX_DIGITS:
            raise InputError(f"digits must be 1 to {_MAX_DIGITS}; got {digits!r}")
        if slope and self.jumps and abs(values[RHO]) == 1:
            raise InputError(f"E[phi'(u) phi'(v)] is infinite at rho = {rho} because phi jumps; keep |rho| < 1")
        expression = (self.slope if slope else self.expression).subs(values)
        try:
            return sp.N(expression, digits, maxn=20 * digits + 1000, strict=True)
        except PrecisionExhausted:
            raise AccuracyError(
                f"{digits} digits of the dual activation at q_i = {q_i}, q_j = {q_j}, rho = {rho} are not to be had: "
                "its value is zero or very nearly so; ask for fewer digits"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: the expressions as text and as LaTeX, the parameters, cancellation, and the steps."""
        formulas = {
            "expression": self.expression,
            "slope": self.slope,
            "mean_i": self.mean_i,
            "mean_j": self.mean_j,
            "covariance": self.covariance,
        }
        return {
            "activation": str(self.activation),
            "parameters": [str(p) for p in self.parameters],
            **{name: str(formula) for name, formula in formulas.items()},
            "latex": {name: sp.latex(formula) for name, formula in formulas.items()},
            "jumps": self.jumps,
            "cancellation": self.cancellation,
            "steps": [{"text": text, "latex": formula} for text, formula in self.steps],
        }

    def to_latex(self) -> str:
        """E[phi(u) phi(v)] and E[phi'(u) phi'(v)] as two equations, without the delimiters of mathematics."""
        return (
            rf"\mathbb{{E}}[\varphi(u)\varphi(v)] &= {sp.latex(self.expression)} \\"
            "\n"
            rf"\mathbb{{E}}[\varphi'(u)\varphi'(v)] &= {sp.latex(self.slope)}"
        )


def dual_activation(phi: str | sp.Expr | Activation, parameters: Mapping[str, sp.Symbol] | None = None) -> DualForm:
    """E[phi(u) phi(v)] for (u, v) ~ N(0, [[q_i, rho sqrt(q_i q_j)], [., q_j]]), in closed form.

    The class: finite sums of x^n exp(a x + b x^2) with factors sin, cos, sinh, cosh, erf(c x) and pieces that meet at
    x = 0, as far as what is left after Stein's identity is an arcsine or a single error function (see
    ``dual_forms.gaussian``): relu, leaky relu, abs, sign, powers of relu, erf, gelu, Phi, sin, cos, exp, Gaussians,
    polynomials, and sums and products of those.

    Args:
        phi: a registry name, a string of the grammar, an ``Activation``, or a SymPy expression in ``x`` and other real
            symbols, which are parameters.
        parameters: the parameters in a string, by name; see ``theory.grammar.parse``.

    Raises:
        NoClosedFormError: phi is outside the class; the message says which part of it, and why.
        ActivationError: phi is no activation, or assumptions do not decide a sign that its pieces depend on.
    """
    return _derived(function_of(phi, parameters))


@lru_cache(maxsize=64)
def _derived(phi: Activation | sp.Expr) -> DualForm:
    expression = phi.expr if isinstance(phi, Activation) else phi
    terms = expansion(phi)
    slopes = derivative(terms)
    algebra = GaussianAlgebra([terms, slopes])
    mean = assembled(algebra.values, algebra.product(terms, {Term(): sp.S.One}))
    dual = assembled(algebra.values, algebra.product(terms, terms))
    slope = assembled(algebra.values, algebra.product(slopes, slopes))
    return DualForm(
        activation=expression,
        expression=dual,
        slope=slope,
        mean_i=mean,
        mean_j=mean.subs(Q_I, Q_J),
        jumps=any(term.pinned for term in slopes),
        steps=_steps(terms, dual, slope),
    )


def _steps(terms: Expansion, dual: sp.Expr, slope: sp.Expr) -> tuple[tuple[str, str], ...]:
    phi = sp.Add(*(coefficient * term.to_sympy() for term, coefficient in terms.items()))
    steps = [("phi is a finite sum of elementary terms", rf"\varphi(x) = {sp.latex(phi)}")]
    if any(term.rate != 0 or term.curvature != 0 for term in terms):
        steps.append(
            (
                "exponentials turn the Gaussian into another one",
                (
                    r"\mathbb{E}[e^{m^\top w}f(w)] = e^{m^\top\Sigma m/2}\,\mathbb{E}[f(w+\Sigma m)],\quad"
                    r"\mathbb{E}[e^{b w_k^2}f(w)] = (1-2b\Sigma_{kk})^{-1/2}\,\mathbb{E}_{\Sigma'}[f(w)],\quad"
                    r"\Sigma'^{-1} = \Sigma^{-1}-2b\,e_ke_k^\top"
                ),
            )
        )
    if any(term.degree for term in terms):
        stein = r"\mathbb{E}[w_kf(w)] = \textstyle\sum_l\Sigma_{kl}\,\mathbb{E}[\partial_lf(w)]"
        steps.append(("Stein's identity lowers the degree", stein))
    if any(term.scales for term in terms):
        law = r"\mathbb{E}[\operatorname{sgn}(u)\operatorname{sgn}(v)] = \tfrac2\pi\arcsin\rho"
        if any(scale != SIGNUM for term in terms for scale in term.scales):
            law += (
                r",\quad\mathbb{E}[\operatorname{erf}(\alpha u)\operatorname{erf}(\beta v)] = \tfrac2\pi\arcsin"
                r"\frac{2\alpha\beta\Sigma_{uv}}{\sqrt{(1+2\alpha^2\Sigma_{uu})(1+2\beta^2\Sigma_{vv})}}"
            )
        steps.append(("the arcsine law", law))
    steps.append(("together", rf"\mathbb{{E}}[\varphi(u)\varphi(v)] = {sp.latex(dual)}"))
    steps.append(
        (
            "the same for the derivative, which by Price's theorem is the derivative in the covariance",
            rf"\mathbb{{E}}[\varphi'(u)\varphi'(v)] = {sp.latex(slope)}",
        )
    )
    return tuple(steps)


def _number(value: Any, name: str) -> sp.Rational:
    """A real argument as an exact fraction: a float is the decimal it prints as."""
    try:
        if isinstance(value, bool) or not math.isfinite(float(value)):
            raise InputError(f"{name} must be a finite number; got {value!r}")
        return sp.Rational(str(value))
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a finite number; got {value!r}") from None
