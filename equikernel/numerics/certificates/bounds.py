"""Where every fixed point of T(q) = q must lie: theorems with premises that are proved, not assumed.

With b = sigma_b2 tau0^2 and T(q) = sigma_a2 V(q) + b, every fixed point is at least b. From above (proofs in
docs/proofs.md):

    bounded       osc = sup phi - inf phi:  V <= osc^2/4                   (Popoviciu)
    lipschitz     phi continuous, |phi'| <= L:  V <= L^2 q                 (Poincare)
    asymptotes    phi = s(+-) x + r, osc(r) <= 2R:  |sqrt V - sqrt(v q)| <= R,
                  v = (s(+)^2 + s(-)^2)/2 - (s(+) - s(-))^2/(2 pi)
    homogeneous   r constant:  V = v q

For asymptotes, sigma_a2 v < 1 bounds the fixed points, and sigma_a2 v > 1 proves T(q) > q from some q on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import constant, exact, precision
from equikernel.numerics.balls.functions import BallFunction
from equikernel.numerics.balls.joins import is_continuous
from equikernel.numerics.certificates.ranges import End, affine_ends, slope_range, value_range
from equikernel.theory.program import X

__all__ = ["THEOREMS", "Asymptotics", "Bound", "asymptotics", "best_bound", "bound_by", "interval_bound", "interval_to"]

_BITS = 64
_LARGEST = 1e300
MARGIN = 1 + 2.0**-16  # recorded bounds are looser by this, so that a second computation confirms them
EXPONENT = 16.0
INTERVAL = 1000.0  # without a theorem, the multiple of max(1, b) up to which fixed points are sought


@dataclass(frozen=True)
class Bound:
    """A statement about all fixed points: none lies above ``upper`` (a variance).

    Attributes:
        theorem: one of ``THEOREMS``, or "interval" when nothing is known above ``upper``.
        upper: a float; None for homogeneous maps with T(q) > q for every q.
        sign: the sign of q - T(q) above ``upper``; 0 for "interval".
        statement: the sentence, with its numbers.
    """

    theorem: str
    upper: float | None
    sign: int
    statement: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"theorem": self.theorem, "upper": self.upper, "sign": self.sign, "statement": self.statement}


@dataclass(frozen=True)
class Asymptotics:
    """phi = s(-) x + r on the left and s(+) x + r on the right, with osc(r) <= 2 R.

    Attributes:
        slopes: (s(-), s(+)), exact.
        v: (s(+)^2 + s(-)^2)/2 - (s(+) - s(-))^2/(2 pi), exact: V(q)/q tends to it.
        R: half the oscillation of r; 0 exactly when r is a constant.
    """

    slopes: tuple[sp.Expr, sp.Expr]
    v: sp.Expr
    R: arb


def asymptotics(function: BallFunction, ends: tuple[End, End] | None = None) -> Asymptotics:
    """The affine asymptotes of an activation, with a bound on the distance to them.

    Raises:
        UncertifiedError: there are none, or they could not be proved.
    """
    left, right = ends or affine_ends(function)
    if left.value is None or right.value is None:
        raise UncertifiedError("phi is not proved to have affine asymptotes")
    slopes = (left.value.slope, right.value.slope)
    v = sp.expand((slopes[1] ** 2 + slopes[0] ** 2) / 2 - (slopes[1] - slopes[0]) ** 2 / (2 * sp.pi))
    if _constant_remainder(function, slopes):
        return Asymptotics(slopes, v, arb(0))
    return Asymptotics(slopes, v, (value_range(function, (left, right), slopes).oscillation / 2).upper())


def _constant_remainder(function: BallFunction, slopes: tuple[sp.Expr, sp.Expr]) -> bool:
    """Whether phi = c + s(-) x for x < 0 and c + s(+) x for x > 0, exactly."""
    pieces = function.activation.pieces
    if len(pieces) > 2 or (len(pieces) == 2 and function.activation.breakpoints[0].exact != 0):
        return False
    rest = [sp.expand(p.expr - s * X) for p, s in zip(pieces, (slopes[0], slopes[1])[-len(pieces) :], strict=True)]
    return not any(r.has(X) for r in rest) and len(set(rest)) == 1


@dataclass(frozen=True)
class _Data:
    """What a theorem may use: the activation, its ends, and the two parameters of T."""

    function: BallFunction
    ends: tuple[End, End]
    fractions: tuple[Fraction, Fraction]
    margin: float = MARGIN

    def upwards(self, B: arb) -> float:
        """A float above B, by the margin."""
        upper = float((B * self.margin).upper()) * (1 + 2.0**-50)
        if not upper < _LARGEST:
            raise UncertifiedError("the bound is too large to be of use")
        return upper

    @property
    def sigma_a2(self) -> arb:
        return exact(self.fractions[0])

    @property
    def b(self) -> arb:
        return exact(self.fractions[1])

    def growth(self, v: sp.Expr) -> arb:
        """sigma_a2 v, exact where v is a fraction of few bits."""
        return constant(sp.Rational(*self.fractions[0].as_integer_ratio()) * v)


def _bounded(data: _Data) -> Bound:
    found = value_range(data.function, data.ends, (sp.S.Zero, sp.S.Zero))
    B = data.b + data.sigma_a2 * found.oscillation**2 / 4
    spread = f"[{float(found.low):.6g}, {float(found.high):.6g}]"
    return Bound(
        "bounded",
        data.upwards(B),
        1,
        f"phi lies in {spread}, so Var phi <= oscillation^2/4 (Popoviciu) bounds every T(q)",
    )


def _lipschitz(data: _Data) -> Bound:
    if not is_continuous(data.function):
        raise UncertifiedError("phi is not proved to be continuous")
    L = slope_range(data.function, data.ends).magnitude
    contraction = data.sigma_a2 * L**2
    if not contraction < 1:
        raise UncertifiedError(f"sigma_a2*L^2 = {float(contraction.mid()):.6g} is not below 1, with |phi'| <= L")
    return Bound(
        "lipschitz",
        data.upwards(data.b / (1 - contraction)),
        1,
        f"|phi'| <= L = {float(L):.6g}, so V <= L^2 q (Poincare) and sigma_a2*L^2 = {float(contraction.mid()):.6g} < 1",
    )


def _asymptotes(data: _Data) -> Bound:
    found = asymptotics(data.function, data.ends)
    v, R, a2, b = constant(found.v), found.R, data.sigma_a2, data.b
    growth = data.growth(found.v)
    name = f"V/q tends to v = {float(v.mid()):.6g} with |sqrt V - sqrt(v q)| <= R = {float(R):.6g}"
    if growth < 1:
        # sqrt q <= r with r^2 = a2 (sqrt v r + R)^2 + b
        linear = a2 * v.sqrt() * R
        r: arb = (linear + (linear**2 + (1 - growth) * (a2 * R**2 + b)).sqrt()) / (1 - growth)
        return Bound("asymptotes", data.upwards(r**2), 1, f"{name}, and sigma_a2*v = {float(growth.mid()):.6g} < 1")
    if growth > 1:
        # a2 (sqrt v r - R)^2 > r^2 for r > sigma_a R/(sigma_a sqrt v - 1), where sqrt v r > R too
        r = a2.sqrt() * R / (growth.sqrt() - 1)
        upper = data.upwards(max((r**2).upper(), b.upper()))
        return Bound(
            "asymptotes", upper, -1, f"{name}, and sigma_a2*v = {float(growth.mid()):.6g} > 1: T(q) > q from there on"
        )
    raise UncertifiedError("sigma_a2*v is not distinguishable from 1, with v the limit of V/q")


def _homogeneous(data: _Data) -> Bound:
    found = asymptotics(data.function, data.ends)
    if found.R != 0:
        raise UncertifiedError("phi is not positively homogeneous up to a constant")
    growth = data.growth(found.v)
    name = f"V = v q with v = {float(constant(found.v).mid()):.6g}"
    if growth < 1:
        return Bound("homogeneous", data.upwards(data.b / (1 - growth)), 1, f"{name}: T is affine, of slope below 1")
    if growth >= 1:
        return Bound("homogeneous", None, -1, f"{name}, and sigma_a2*v >= 1: T(q) > q for every q")
    raise UncertifiedError("sigma_a2*v is not distinguishable from 1")


THEOREMS: dict[str, Callable[[_Data], Bound]] = {
    "homogeneous": _homogeneous,
    "asymptotes": _asymptotes,
    "bounded": _bounded,
    "lipschitz": _lipschitz,
}


def bound_by(theorem: str, function: BallFunction, sigma_a2: Fraction, b: Fraction, margin: float = MARGIN) -> Bound:
    """The bound that one theorem gives.

    Args:
        theorem: a key of ``THEOREMS``.
        function: the activation, proved.
        sigma_a2: as an exact fraction.
        b: sigma_b2 tau0^2, as an exact fraction.
        margin: the factor by which ``upper`` is looser than the theorem.

    Raises:
        UncertifiedError: the theorem does not apply; the message says why.
    """
    with precision(_BITS):
        return THEOREMS[theorem](_Data(function, affine_ends(function), (sigma_a2, b), margin))


def best_bound(function: BallFunction, sigma_a2: Fraction, b: Fraction) -> tuple[Bound, tuple[str, ...]]:
    """The lowest of the bounds that hold, and why the other theorems do not apply."""
    found: list[Bound] = []
    reasons: list[str] = []
    with precision(_BITS):
        try:
            data = _Data(function, affine_ends(function), (sigma_a2, b))
        except UncertifiedError as error:
            return interval_bound(function, b), (str(error),)
        for theorem, prove in THEOREMS.items():
            try:
                found.append(prove(data))
            except UncertifiedError as error:
                reasons.append(f"{theorem}: {error}")
            if found and found[-1].theorem == "homogeneous":
                return found[-1], ()
    if not found:
        return interval_bound(function, b), tuple(reasons)
    return min(found, key=lambda bound: bound.upper or 0.0), tuple(reasons)


def interval_bound(function: BallFunction, b: Fraction) -> Bound:
    """No theorem: fixed points are sought on an interval, and nothing is claimed beyond.

    It ends at 1000 max(1, b), or where phi ~ e^(c|x|) at max(16/c^2, 2 b): there V grows like e^(2 c^2 q).
    """
    upper = INTERVAL * max(1.0, float(b))
    rate = function.activation.growth.rate
    if rate > 0:
        upper = min(upper, max(EXPONENT / rate**2, 2 * float(b)))
    return interval_to(upper)


def interval_to(upper: float) -> Bound:
    """No theorem: fixed points are counted up to ``upper`` only."""
    return Bound("interval", upper, 0, f"no theorem bounds the fixed points: counted on (0, {upper:g}] only")
