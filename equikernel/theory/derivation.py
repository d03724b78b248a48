"""The four equations, the NTK coefficients and the explicit recursion, solved for order by order.

The equations that hold at infinite width are taken from ``theory.equations`` (Lambda = sigma_a2 G + sigma_b2 s, the
entry of the NTK); their expansion from ``theory.expansion``. Unknown coefficients are inserted, the terms s,
chi_i chi_j and s^2 are compared, and each comparison is linear in one unknown. What the sources state
([Ling24], [Gu22], [Feng23]) comes out; nothing of it is put in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import sympy as sp

from equikernel.theory.equations import fixed_point_map, ntk_entry
from equikernel.theory.expansion import CHI_I, CHI_J, Expansion, S, Term, kernel_terms, terms
from equikernel.theory.models import require_trained

__all__ = ["Derivation", "Step", "derive_explicit_layer", "derive_implicit", "equate", "solve_linear", "symbol"]

_POSITIVE = ("sigma_a2", "sigma_b2", "tau")  # and tau0, tau2_1 ...
_COMPARED = (S, CHI_I * CHI_J, S**2)


@cache
def symbol(name: str) -> sp.Symbol:
    """The symbol of a quantity of the equations: real, and positive where that goes without saying."""
    return sp.Symbol(name, positive=True) if name.startswith(_POSITIVE) else sp.Symbol(name, real=True)


@dataclass(frozen=True)
class Step:
    """One step of a derivation.

    Attributes:
        text: what is done, with mathematics between backticks.
        results: the quantities it determines, each an equation with that quantity on its left.
        comparisons: the equations that were solved for them, where they are not the results themselves.
        dropped: terms whose matrices vanish in operator norm.
    """

    text: str
    results: Mapping[str, sp.Eq]
    comparisons: tuple[sp.Eq, ...] = ()
    dropped: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Derivation:
    """The steps, in an order in which each uses results of earlier ones only."""

    steps: tuple[Step, ...]

    @property
    def results(self) -> dict[str, sp.Eq]:
        """All results by name."""
        return {name: equation for step in self.steps for name, equation in step.results.items()}


def _symbols(*names: str) -> list[sp.Symbol]:
    return [symbol(name) for name in names]


def equate(left: sp.Expr, right: sp.Expr) -> sp.Eq:
    """Left = right, left alone: SymPy would make a truth value of an equation that it can decide."""
    return sp.Eq(left, right, evaluate=False)


def solve_linear(unknown: sp.Symbol, residual: sp.Expr) -> sp.Eq:
    """Unknown = ..., from an equation residual = 0 that is linear in it."""
    residual = sp.expand(residual)
    return equate(unknown, residual.coeff(unknown, 0) / -residual.coeff(unknown, 1))


def _coefficients(found: tuple[Term, ...]) -> dict[sp.Expr, sp.Expr]:
    """Coefficients of the terms kept.

    Raises:
        AssertionError: a term that should vanish by centring does not, and would be a fourth coefficient.
    """
    kept = {t.monomial: t.coefficient for t in found if t.kept}
    if not set(kept) <= set(_COMPARED):
        raise AssertionError(f"the expansion has terms beyond s, chi_i chi_j and s^2: {kept}")
    return {monomial: kept.get(monomial, sp.S.Zero) for monomial in _COMPARED}


def _dropped(found: tuple[Term, ...]) -> tuple[Term, ...]:
    return tuple(t for t in found if not t.kept)


@cache
def derive_implicit(trained: str = "aA") -> Derivation:
    """The equations of the DEQ for tau, gamma2, lambda1, alpha1..alpha4 and, for ``trained``, beta1..beta3, kappa2.

    Moments V, d1, d2, h, v are symbols, taken at tau; sigma_a2, sigma_b2 are variances, tau and tau0 standard
    deviations. Each result is an equation with one symbol on its left; ``tau`` is the scalar equation of the fixed
    point.

    Raises:
        InputError: ``trained`` is not one of a, aA, aAB.
    """
    require_trained(trained)
    return Derivation((_diagonal(), _off_diagonal(), _tangent(trained), _tangent_diagonal(trained)))


def _diagonal() -> Step:
    V, h, alpha4, gamma2 = _symbols("V", "h", "alpha4", "gamma2")
    a2, b2, tau0, tau = _symbols("sigma_a2", "sigma_b2", "tau0", "tau")
    deviation = alpha4 * CHI_I
    right = sp.expand(fixed_point_map(V + h * deviation, a2, b2, tau0**2 + CHI_I))
    return Step(
        "Diagonal: `q_i = sigma_a2 V_c(q_i) + sigma_b2 |x_i|^2` with `q_i = tau^2 + alpha4 chi_i`, "
        "`|x_i|^2 = tau0^2 + chi_i` and `V_c(q_i) = V + h (q_i - tau^2)`, compared at orders 0 and 1 in `chi_i`.",
        {
            "tau": equate(tau**2, right.coeff(CHI_I, 0)),
            "gamma2": equate(gamma2, V),
            "alpha4": solve_linear(alpha4, right.coeff(CHI_I, 1) - alpha4),
        },
        (equate(alpha4, right.coeff(CHI_I, 1)),),
    )


def _off_diagonal() -> Step:
    a2, b2, lambda1, alpha4 = _symbols("sigma_a2", "sigma_b2", "lambda1", "alpha4")
    alpha1, alpha2, alpha3 = _symbols("alpha1", "alpha2", "alpha3")
    kernel = Expansion(alpha1, alpha2, alpha3)
    inner = sp.Poly(sp.expand(fixed_point_map(kernel.entry, a2, b2, S)), S, CHI_I, CHI_J)
    gain = inner.coeff_monomial(S)
    found = kernel_terms(Expansion(lambda1, inner.coeff_monomial(CHI_I * CHI_J), inner.coeff_monomial(S**2), alpha4))
    linear, norms, square = _coefficients(found).values()
    return Step(
        "Off the diagonal: `G_ij = alpha1 s + alpha2 chi_i chi_j + alpha3 s^2` and "
        "`Lambda_ij = sigma_a2 G_ij + sigma_b2 s`, whose coefficient of `s` is called `lambda1`, "
        "inserted in the expansion of the kernel map and compared term by term. "
        "Terms in `chi_i`, `chi_j` and their squares vanish, for `phi_c` is centred.",
        {
            "lambda1": solve_linear(lambda1, gain.subs(alpha1, linear) - lambda1),
            "alpha1": equate(alpha1, linear),
            "alpha2": solve_linear(alpha2, norms - alpha2),
            "alpha3": solve_linear(alpha3, square - alpha3),
        },
        (equate(lambda1, gain), *map(equate, (alpha1, alpha2, alpha3), (linear, norms, square))),
        _dropped(found),
    )


def _tangent(trained: str) -> Step:
    a2, b2, lambda1, alpha4, G, G_dot = _symbols("sigma_a2", "sigma_b2", "lambda1", "alpha4", "G", "G_dot")
    kernel = Expansion(*_symbols("alpha1", "alpha2", "alpha3"))
    unknowns = _symbols("beta1", "beta2", "beta3")
    entry = ntk_entry(G, G_dot, S, a2, b2, trained)
    # K = numerator/denominator, compared as K denominator = numerator: linear in the coefficients of K
    numerator, denominator = sp.fraction(entry)
    residual = numerator - Expansion(*unknowns).entry * denominator
    found = terms(residual.subs({G: kernel.entry, G_dot: _slope(Expansion(lambda1, 0, 0, alpha4))}))
    return Step(
        f"Tangent kernel (trained {trained}): `K_ij = {sp.sstr(entry, order='old')}` elementwise with "
        "`G_dot = dg/dc` and `K_ij = beta1 s + beta2 chi_i chi_j + beta3 s^2`, multiplied out and compared.",
        {str(x): solve_linear(x, c) for x, c in zip(unknowns, _coefficients(found).values(), strict=True)},
        dropped=_dropped(found),
    )


def _tangent_diagonal(trained: str) -> Step:
    V, v, a2, b2, tau0, kappa2 = _symbols("V", "v", "sigma_a2", "sigma_b2", "tau0", "kappa2")
    return Step(
        "On the diagonal the two Gaussian variables coincide, so that `G_ii = V` and `G_dot_ii = E[phi'^2] = v` up to "
        "`O(p^(-1/2))`, and `s = tau0^2`. "
        "The multiple of the identity is what the diagonal has beyond the off-diagonal formula: "
        "`gamma2 - alpha1 tau0^2` for `G`, `kappa2 - beta1 tau0^2` for `K`.",
        {"kappa2": equate(kappa2, ntk_entry(V, v, tau0**2, a2, b2, trained))},
    )


@cache
def derive_explicit_layer() -> Derivation:
    """One layer of an explicit network: the coefficients after it (``alpha1_next``...) from those before it.

    The moments V, d1, d2, h, v are those of the layer's activation at the scale of its input, the square root of the
    ``tau2`` before the layer. The keys of the results have no suffix.
    """
    alphas = _symbols(*(f"alpha{k}_prev" for k in (1, 2, 3, 4)))
    next_alphas = _symbols(*(f"alpha{k}_next" for k in (1, 2, 3)))
    theta = Expansion(*_symbols(*(f"beta{k}_prev" for k in (1, 2, 3))))
    V, h, v = _symbols("V", "h", "v")
    inner = Expansion(*alphas)
    forward = kernel_terms(inner)
    # Theta_next = Sigma_next + Theta * dg/dc is the entry of an NTK whose last layer's inputs have the kernel Theta
    tangent = terms(ntk_entry(Expansion(*next_alphas).entry, _slope(inner), theta.entry, 0, 1, "aAB"))
    sigma = dict(zip(("alpha1", "alpha2", "alpha3"), _coefficients(forward).values(), strict=True))
    betas = dict(zip(("beta1", "beta2", "beta3"), _coefficients(tangent).values(), strict=True))
    kappa2 = ntk_entry(V, v, symbol("kappa2_prev"), 0, 1, "aAB")
    return Derivation(
        (
            Step(
                "One explicit layer: `Sigma_ij = alpha1 s + alpha2 chi_i chi_j + alpha3 s^2` and "
                "`Sigma_ii = tau2 + alpha4 chi_i` inserted in the expansion of the kernel map of the next layer.",
                _after({"tau2": V} | sigma | {"alpha4": h * alphas[3]}),
                dropped=_dropped(forward),
            ),
            Step(
                "Its tangent kernel: `Theta_next = Sigma_next + Theta * dg/dc`, elementwise.",
                _after(betas | {"kappa2": kappa2}),
                dropped=_dropped(tangent),
            ),
        )
    )


def _after(right: Mapping[str, sp.Expr]) -> dict[str, sp.Eq]:
    return {name: equate(symbol(f"{name}_next"), sp.expand(value)) for name, value in right.items()}


def _slope(inner: Expansion) -> sp.Expr:
    """The derivative kernel dg/dc to first order."""
    return sum((t.monomial * t.coefficient for t in kernel_terms(inner, times=1)), sp.S.Zero)
