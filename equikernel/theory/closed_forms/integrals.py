r"""Gaussian integrals of atoms over intervals, by integration by parts: no antiderivative is ever searched for.

Write <f> for the integral of f over (l, u) against the density g of N(0, tau^2). Completing the square,
D = 1 - 2 b tau^2, v = tau^2/D, mu = (a + iw) v, and Stein's identity with boundary terms is, for
f = x^n exp((a + iw)x + b x^2) prod_j erf(alpha_j x + beta_j) = x^n F,

    <x^n F> = mu <x^(n-1) F> + (n-1) v <x^(n-2) F>
              + v sum_j 2 alpha_j exp(-beta_j^2)/sqrt(pi) <x^(n-1) F exp(-alpha_j^2 x^2 - 2 alpha_j beta_j x)/erf_j>
              - v [x^(n-1) F g]_l^u,

which lowers n or the number of erfs. What is left has n = 0, K = exp((a + iw)^2 tau^2/(2D))/sqrt(D):

    no erf                 K (erf(z_u) - erf(z_l))/2,  z_x = (D x - (a + iw) tau^2)/(tau sqrt(2D))
    one, on the line       K erf((alpha (a + iw) tau^2 + beta D)/sqrt(D (D + 2 alpha^2 tau^2)))
    one, centred, x > 0    K atan(alpha tau sqrt(2/D))/pi
    two, centred           K (2/pi) asin(2 alpha beta tau^2/sqrt((D + 2 alpha^2 tau^2)(D + 2 beta^2 tau^2))),
                           half of it for x > 0
    an odd integrand       0 on the line.

[Daniely16] has several of these as dual activations at correlation 1; asin and atan are Sheppard's orthant
probabilities.
Every other base integral needs Owen's T function or an orthant probability in four dimensions or more. It is carried
as a symbol (an ``OpenIntegral``), because it may cancel: E[erf(alpha x + beta) (xi^2 - 1) 1(x > h)] closes though
E[erf(alpha x + beta) 1(x > h)] does not.
"""

from __future__ import annotations

from typing import NamedTuple

import sympy as sp

from equikernel.theory.closed_forms.atoms import Atom, without_erf
from equikernel.theory.closed_forms.combination import Combination, OpenIntegral, inverse_root, rational
from equikernel.theory.closed_forms.kernels import im_erf, re_erf
from equikernel.theory.program import X

__all__ = ["TAU", "GaussianIntegrals", "Interval", "Step"]

TAU = sp.Symbol("tau", positive=True)
_ROOT2 = sp.sqrt(2)
_HALF = sp.Rational(1, 2)


class Interval(NamedTuple):
    """(lower, upper); None is an infinite end."""

    lower: sp.Expr | None = None
    upper: sp.Expr | None = None

    @property
    def is_line(self) -> bool:
        return self.lower is None and self.upper is None

    @property
    def is_half_line(self) -> bool:
        """Whether it is (0, oo)."""
        return self.lower == 0 and self.upper is None

    def __str__(self) -> str:
        if self.is_line:
            return "the whole line"
        if self.upper is None:
            return f"x > {self.lower}"
        return f"x < {self.upper}" if self.lower is None else f"{self.lower} < x < {self.upper}"


class Step(NamedTuple):
    """One line of a derivation: <atom> over an interval equals ``terms`` and ``boundary`` by ``rule``, so ``value``."""

    atom: Atom
    interval: Interval
    rule: str
    terms: tuple[tuple[Combination, Atom], ...]
    boundary: Combination
    value: Combination


class GaussianIntegrals:
    """Integrals of atoms against N(0, tau^2), remembered, with the steps that led to them."""

    def __init__(self) -> None:
        self._known: dict[tuple[Atom, Interval], Combination] = {}
        self.steps: list[Step] = []

    def __call__(self, atom: Atom, interval: Interval) -> Combination:
        """The (complex) integral of an atom over an interval."""
        stride = 2 if atom.a == atom.w == 0 else 1
        for n in range(atom.n % stride, atom.n, stride):  # ascending, so that no recursion is as deep as the degree
            self._integral(atom._replace(n=n), interval)
        return self._integral(atom, interval)

    def _integral(self, atom: Atom, interval: Interval) -> Combination:
        key = (atom, interval)
        if key not in self._known:
            step = self._step(atom, interval)
            self.steps.append(step)
            self._known[key] = step.value
        return self._known[key]

    def _step(self, atom: Atom, interval: Interval) -> Step:
        if interval.is_line and atom.parity == -1:
            return Step(atom, interval, "odd integrand", (), Combination(), Combination())
        if atom.n == 0:
            rule, value = _base(atom, interval)
            return Step(atom, interval, rule, (), Combination(), value)
        terms = _by_parts(atom)
        boundary = _boundary(atom, interval)
        value = boundary + Combination.total(c * self(smaller, interval) for c, smaller in terms)
        return Step(atom, interval, "integration by parts", tuple(terms), boundary, value)


def _spread(atom: Atom) -> sp.Expr:
    """D = 1 - 2 b tau^2."""
    return 1 - 2 * atom.b * TAU**2


def _by_parts(atom: Atom) -> list[tuple[Combination, Atom]]:
    """Stein's identity without the boundary terms."""
    n, v = atom.n, rational(TAU**2 / _spread(atom))
    lower = atom._replace(n=n - 1)
    terms: list[tuple[Combination, Atom]] = []
    rate = Combination.of(rational(atom.a * v)) + Combination.of(rational(atom.w * v) * sp.I)
    if rate:
        terms.append((rate, lower))
    if n > 1:
        terms.append((Combination.of((n - 1) * v), atom._replace(n=n - 2)))
    for j, (alpha, beta) in enumerate(atom.erfs):
        terms.append((Combination.of(2 * alpha * v * sp.exp(-(beta**2)) / sp.sqrt(sp.pi)), without_erf(lower, j)))
    return terms


def _boundary(atom: Atom, interval: Interval) -> Combination:
    """-v [x^(n-1) F g]_l^u."""
    v = rational(TAU**2 / _spread(atom))
    total = Combination()
    for point, sign in ((interval.upper, -1), (interval.lower, 1)):
        if point is None or (point == 0 and atom.n > 1):
            continue
        exponent = rational(sp.together(atom.a * point + (atom.b - 1 / (2 * TAU**2)) * point**2))
        value = Combination.of(sign * v * point ** (atom.n - 1) * sp.exp(exponent) / (sp.sqrt(2 * sp.pi) * TAU))
        for alpha, beta in atom.erfs:
            value = value * sp.erf(sp.expand(alpha * point + beta))
        total = total + value * _phase(atom.w * point)
    return total


def _phase(angle: sp.Expr) -> Combination:
    """e^(i angle)."""
    return Combination.of(sp.cos(angle)) + Combination.of(sp.I * sp.sin(angle))


def _erf(real: sp.Expr, imaginary: sp.Expr) -> Combination:
    """Erf of a complex number."""
    if imaginary == 0:
        return Combination.of(sp.erf(real))
    return Combination.of(re_erf(real, imaginary)) + Combination.of(sp.I * im_erf(real, imaginary))


def _times(coefficient: sp.Expr, root: Combination) -> sp.Expr:
    """A rational function times one root, as a canonical argument of a function."""
    return sp.Add(*(rational(c) * kernel for kernel, c in (root * rational(coefficient)).terms.items()))


def _mass(atom: Atom) -> Combination:
    """K = exp((a + iw)^2 tau^2/(2D))/sqrt(D)."""
    d = _spread(atom)
    real = rational((atom.a**2 - atom.w**2) * TAU**2 / (2 * d))
    mass: Combination = inverse_root(d) * sp.exp(real) * _phase(rational(atom.a * atom.w * TAU**2 / d))
    return mass


def _base(atom: Atom, interval: Interval) -> tuple[str, Combination]:
    """(rule, value) of an integral with n = 0."""
    count = len(atom.erfs)
    centred = atom.parity is not None
    if count == 0:
        return "Gaussian integral", _mass(atom) * (_end(atom, interval.upper, 1) - _end(atom, interval.lower, -1))
    if count == 1 and interval.is_line:
        return "one erf on the line", _mass(atom) * _one_erf(atom)
    if count == 1 and interval.is_half_line and centred:
        argument = _times(_ROOT2 * atom.erfs[0][0] * TAU, inverse_root(_spread(atom)))
        return "one centred erf on the half-line", _mass(atom) * (sp.atan(argument) / sp.pi)
    if count == 2 and centred and (interval.is_line or interval.is_half_line):
        share = 1 if interval.is_line else _HALF
        return "two centred erfs", _mass(atom) * _two_erfs(atom) * share
    # real part and imaginary part apart: one complex symbol times i would be lost when the real part is taken
    parts = {OpenIntegral(_sentence(atom, interval, sp.cos)): sp.S.One}
    if atom.w != 0:
        parts[sp.I * OpenIntegral(_sentence(atom, interval, sp.sin))] = sp.S.One
    return "no closed form", Combination(parts)


def _end(atom: Atom, end: sp.Expr | None, infinite_sign: int) -> Combination:
    """erf(z)/2 at one end of an interval."""
    if end is None:
        return Combination.of(sp.Rational(infinite_sign, 2))
    d = _spread(atom)
    root = inverse_root(d)
    real = _times((d * end - atom.a * TAU**2) * _ROOT2 / (2 * TAU), root)
    value: Combination = _erf(real, _times(-atom.w * TAU * _ROOT2 / 2, root)) * _HALF
    return value


def _one_erf(atom: Atom) -> Combination:
    (alpha, beta), d = atom.erfs[0], _spread(atom)
    root: Combination = inverse_root(d) * inverse_root(sp.expand(d + 2 * alpha**2 * TAU**2))
    return _erf(_times(alpha * atom.a * TAU**2 + beta * d, root), _times(alpha * atom.w * TAU**2, root))


def _two_erfs(atom: Atom) -> Combination:
    (alpha, _), (beta, _) = atom.erfs
    d = _spread(atom)
    root = inverse_root(sp.expand(d + 2 * alpha**2 * TAU**2)) * inverse_root(sp.expand(d + 2 * beta**2 * TAU**2))
    return Combination.of(2 * sp.asin(_times(2 * alpha * beta * TAU**2, root)) / sp.pi)


def _sentence(atom: Atom, interval: Interval, wave: type[sp.Function]) -> str:
    rest = atom._replace(w=sp.S.Zero).to_expr()
    integrand = f"{rest}*{wave(atom.w * X)}" if atom.w != 0 else str(rest)
    count = len(atom.erfs)
    where = f"over {interval}" if interval.is_line else f"over the interval {interval}"
    dimensions = count + (not interval.is_line)
    if dimensions == 2:
        why = "is a bivariate normal probability off its centre, which needs Owen's T function"
    elif atom.parity is not None and (interval.is_line or interval.is_half_line):
        why = f"is an orthant probability of {dimensions} correlated normals, which has no elementary form beyond three"
    else:
        why = f"is a probability of {dimensions} correlated normals off their centre, beyond even Owen's T function"
    return f"the Gaussian integral of {integrand} {where} {why}"
