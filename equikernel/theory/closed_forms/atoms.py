"""The class of integrands with closed forms, as an algebra: x^n exp(a x + b x^2) e^(i w x) prod erf(alpha x + beta).

A function on one piece is a sum of real parts Re(c e^(iwx)) x^n e^(ax+bx^2) prod_j erf(alpha_j x + beta_j), with a
complex coefficient c for each ``Atom``. The class is closed under sums, products and differentiation, so that phi^2 and
phi'^2 need no symbolic manipulation of expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import sympy as sp

from equikernel.errors import NoClosedFormError
from equikernel.theory.program import X

__all__ = ["Atom", "Sum", "atoms_of", "differentiate", "multiply", "without_phases"]

_MAX_ATOMS = 150  # of a product: beyond, nobody wants to read the result
_HALF = sp.Rational(1, 2)


class Atom(NamedTuple):
    """x^n exp(a x + b x^2) e^(i w x) prod erf(alpha x + beta); w is 0 or has no leading minus, alpha is not 0."""

    n: int = 0
    a: sp.Expr = sp.S.Zero
    b: sp.Expr = sp.S.Zero
    w: sp.Expr = sp.S.Zero
    erfs: tuple[tuple[sp.Expr, sp.Expr], ...] = ()

    @property
    def parity(self) -> int | None:
        """1 if even, -1 if odd, None if neither: of the factors without phase."""
        if self.a != 0 or self.w != 0 or any(beta != 0 for _, beta in self.erfs):
            return None
        return -1 if (self.n + len(self.erfs)) % 2 else 1

    def to_expr(self) -> sp.Expr:
        """The atom as an expression in x, its phase left as e^(iwx)."""
        erfs = [sp.erf(alpha * X + beta) for alpha, beta in self.erfs]
        return X**self.n * sp.exp(self.a * X + self.b * X**2 + sp.I * self.w * X) * sp.Mul(*erfs)


Sum = dict[Atom, sp.Expr]


def _conjugate(c: sp.Expr) -> sp.Expr:
    return c.xreplace({sp.I: -sp.I}) if c.has(sp.I) else c


def without_phases(c: sp.Expr) -> sp.Expr:
    """A coefficient with exp(i d) written as cos d + i sin d."""
    if not c.has(sp.I):
        return c

    def written_out(e: sp.Expr) -> sp.Expr:
        real, imaginary = e.args[0].as_real_imag()
        return sp.exp(real) * (sp.cos(imaginary) + sp.I * sp.sin(imaginary))

    return c.replace(lambda e: isinstance(e, sp.exp) and e.has(sp.I), written_out)


def _real_part(c: sp.Expr) -> sp.Expr:
    plain = without_phases(c)
    return sp.expand((plain + _conjugate(plain)) / 2) if plain.has(sp.I) else plain


def _collected(terms: Iterable[tuple[Atom, sp.Expr]]) -> Sum:
    """The terms with canonical phases, equal atoms joined, zeros dropped."""
    result: Sum = {}
    for atom, coefficient in terms:
        key, c = atom, coefficient
        if atom.w == 0:
            c = _real_part(c)
        elif atom.w.could_extract_minus_sign():
            key, c = atom._replace(w=-atom.w), _conjugate(c)
        result[key] = result[key] + c if key in result else c
    expanded = {atom: sp.expand(c) for atom, c in result.items()}
    if len(expanded) > _MAX_ATOMS:
        raise NoClosedFormError(
            f"the activation or its square is a sum of more than {_MAX_ATOMS} terms x^n exp(ax + bx^2) erf(...): "
            "a closed form would be unreadable; ask for numbers instead"
        )
    return {atom: c for atom, c in expanded.items() if c != 0}


def multiply(left: Sum, right: Sum) -> Sum:
    """The product of two sums: Re(z1) Re(z2) = (Re(z1 z2) + Re(z1 conj(z2)))/2 where both have phases."""
    terms: list[tuple[Atom, sp.Expr]] = []
    for p, cp in left.items():
        for q, cq in right.items():
            a, b = sp.expand(p.a + q.a), sp.expand(p.b + q.b)
            product = Atom(p.n + q.n, a, b, sp.expand(p.w + q.w), tuple(sorted(p.erfs + q.erfs, key=str)))
            if p.w == 0 or q.w == 0:
                terms.append((product, cp * cq))
            else:
                terms.append((product, _HALF * cp * cq))
                terms.append((product._replace(w=sp.expand(p.w - q.w)), _HALF * cp * _conjugate(cq)))
    return _collected(terms)


def differentiate(function: Sum) -> Sum:
    """The derivative with respect to x."""
    terms: list[tuple[Atom, sp.Expr]] = []
    for atom, c in function.items():
        if atom.n:
            terms.append((atom._replace(n=atom.n - 1), atom.n * c))
        rate = atom.a + sp.I * atom.w
        if rate != 0:
            terms.append((atom, c * rate))
        if atom.b != 0:
            terms.append((atom._replace(n=atom.n + 1), 2 * atom.b * c))
        for j, (alpha, beta) in enumerate(atom.erfs):
            terms.append((without_erf(atom, j), c * 2 * alpha / sp.sqrt(sp.pi) * sp.exp(-(beta**2))))
    return _collected(terms)


def without_erf(atom: Atom, j: int) -> Atom:
    """The atom with erf(alpha x + beta), its j-th, replaced by the exponential exp(-alpha^2 x^2 - 2 alpha beta x)."""
    alpha, beta = atom.erfs[j]
    return atom._replace(
        a=sp.expand(atom.a - 2 * alpha * beta),
        b=sp.expand(atom.b - alpha**2),
        erfs=atom.erfs[:j] + atom.erfs[j + 1 :],
    )


# -- from expressions ------------------------------------------------------------------------------------------------


def atoms_of(expr: sp.Expr) -> Sum:
    """A smooth expression in x as a sum of atoms.

    Raises:
        NoClosedFormError: a factor is outside the class; the sentence names it.
    """
    for kind, written_out in _OF_NUMBERS.items():
        expr = expr.replace(kind, lambda u, kind=kind, of=written_out: kind(u) if u.has(X) else of(u))
    return _atoms(expr)


# numbers written as these functions are as atoms: a constant piece must cancel against the boundary terms beside it
_OF_NUMBERS: dict[type, Callable[[sp.Expr], sp.Expr]] = {
    sp.erfc: lambda u: 1 - sp.erf(u),
    sp.cosh: lambda u: (sp.exp(u) + sp.exp(-u)) / 2,
    sp.sinh: lambda u: (sp.exp(u) - sp.exp(-u)) / 2,
}


def _atoms(expr: sp.Expr) -> Sum:
    if not expr.has(X):
        return _collected([(Atom(), expr)])
    if expr == X:
        return {Atom(n=1): sp.S.One}
    if expr.is_Add:
        return _collected(term for part in expr.args for term in _atoms(part).items())
    if expr.is_Mul:
        constant, rest = expr.as_independent(X, as_Add=False)
        product: Sum = {Atom(): constant}
        for factor in sp.Mul.make_args(rest):
            product = multiply(product, _atoms(factor))
        return product
    if expr.is_Pow and expr.exp.is_Integer and expr.exp > 0:
        return _power(_atoms(expr.base), int(expr.exp))
    if expr.is_Pow and not expr.base.has(X):
        return _atoms(sp.exp(sp.expand(expr.exp * sp.log(expr.base)), evaluate=False))
    if expr.is_Pow and isinstance(expr.base, sp.exp):
        return _atoms(sp.exp(sp.expand(expr.base.args[0] * expr.exp)))
    return _function(expr)


def _power(base: Sum, n: int) -> Sum:
    result: Sum = {Atom(): sp.S.One}
    for bit in f"{n:b}":
        result = multiply(result, result)
        if bit == "1":
            result = multiply(result, base)
    return result


def _coefficients(expr: sp.Expr, argument: sp.Expr, degree: int) -> list[sp.Expr]:
    """The coefficients of ``argument`` as a polynomial in x, constant first; ``expr`` is what they are wanted for."""
    polynomial = sp.expand(argument)
    if not polynomial.is_polynomial(X):
        raise _outside(expr, f"{argument} is no polynomial in x")
    coefficients = sp.Poly(polynomial, X).all_coeffs()[::-1]
    if len(coefficients) > degree + 1:
        only = "linear" if degree == 1 else "at most quadratic"
        raise _outside(expr, f"{argument} has degree {len(coefficients) - 1} in x, and only {only} arguments close")
    return [sp.expand(c) for c in coefficients] + [sp.S.Zero] * (degree + 1 - len(coefficients))


def _function(expr: sp.Expr) -> Sum:
    """One function of an argument that depends on x."""
    if isinstance(expr, sp.exp):
        c0, c1, c2 = _coefficients(expr, expr.args[0], 2)
        return {Atom(a=c1, b=c2): sp.exp(c0)}
    if isinstance(expr, (sp.sin, sp.cos)):
        c0, c1 = _coefficients(expr, expr.args[0], 1)
        phase = sp.exp(sp.I * c0)
        return _collected([(Atom(w=c1), phase if isinstance(expr, sp.cos) else -sp.I * phase)])
    if isinstance(expr, (sp.sinh, sp.cosh)):
        c0, c1 = _coefficients(expr, expr.args[0], 1)
        sign = 1 if isinstance(expr, sp.cosh) else -1
        return _collected([(Atom(a=c1), sp.exp(c0) / 2), (Atom(a=-c1), sign * sp.exp(-c0) / 2)])
    if isinstance(expr, sp.erf):
        beta, alpha = _coefficients(expr, expr.args[0], 1)
        if alpha == 0:
            return {Atom(): sp.erf(beta)}
        sign = -1 if alpha.could_extract_minus_sign() else 1
        return {Atom(erfs=((sign * alpha, sign * beta),)): sp.Integer(sign)}
    if isinstance(expr, sp.erfc):
        return _collected([(Atom(), sp.S.One), *((atom, -c) for atom, c in _atoms(sp.erf(expr.args[0])).items())])
    raise _outside(expr, next((why for kinds, why in _SINGULAR if isinstance(expr, kinds)), ""))


_SINGULAR = (
    (
        (sp.tanh, sp.tan, sp.sech, sp.csch, sp.coth, sp.sec, sp.csc, sp.cot),
        "it has poles in the complex plane, such a sum has none",
    ),
    ((sp.log, sp.atan, sp.asinh), "it has branch points in the complex plane, such a sum has none"),
    (sp.Pow, "it is a quotient or a root, and such sums only have sums and products"),
)


def _outside(expr: sp.Expr, why: str = "") -> NoClosedFormError:
    reason = f" ({why})" if why else ""
    return NoClosedFormError(
        f"{expr} is not a finite sum of terms x^n exp(a*x + b*x^2) cos(w*x) erf(alpha*x + beta){reason}"
    )
