"""The monotone-shape theorem: at most one fixed point, for all sigma_a2, sigma_b2 and tau0 at once.

If phi is nondecreasing and -x phi'' >= 0 as a measure, V(q)/q is nonincreasing, so that T(q)/q = 1 has at most one
solution (docs/proofs.md). The premises are proved by the signs of (f, f', f'') of every intermediate result of the
program on a half-line, by the rules of calculus, and by the signs of jumps and kinks where the pieces meet; nothing is
sampled. The theorem holds for -phi as for phi, and for even phi when the premises hold for x > 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import sympy as sp
from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.arithmetic import BallArithmetic
from equikernel.numerics.balls.context import constant, precision
from equikernel.numerics.balls.functions import BallFunction, BallPiece
from equikernel.numerics.balls.joins import joins, sign_of
from equikernel.theory.program import Operators, Program

__all__ = ["Shape", "SignArithmetic", "Signs", "monotone_shape"]

_BITS = 128
_REAL = BallArithmetic()
Sign = int | None  # 1: >= 0, -1: <= 0, 0: = 0, None: not known


@dataclass(frozen=True)
class Shape:
    """Whether the theorem applies.

    Attributes:
        holds: proved; False means not proved, which is no statement about phi.
        statement: what was proved, or what could not be.
    """

    holds: bool
    statement: str


@dataclass(frozen=True)
class Signs:
    """Signs of f, f' and f'' on an interval; ``affine`` is (a, b) where f = a x + b, exactly."""

    value: Sign
    slope: Sign
    curve: Sign
    affine: tuple[sp.Expr, sp.Expr] | None = None


@lru_cache(maxsize=256)
def monotone_shape(function: BallFunction) -> Shape:
    """Prove the premises of the theorem, or say which one could not be proved."""
    with precision(_BITS):
        failure = "phi is not of one curvature on each side of 0"
        for orientation in (1, -1):
            for half in (False, True):
                if half and function.parity != "even":
                    continue
                reason = _obstacle(function, orientation, half)
                if reason is None:
                    direction = "nondecreasing" if orientation > 0 else "nonincreasing"
                    where = " for x > 0, and phi is even" if half else ""
                    sign = "" if orientation > 0 else "-"
                    return Shape(
                        True,
                        f"phi is {direction} and {sign}(-x phi'') >= 0{where}: V/q is nonincreasing, so there is at "
                        "most one fixed point for all sigma_a2, sigma_b2 and tau0",
                    )
                if orientation > 0 and not half:
                    failure = reason
    return Shape(False, f"the monotone-shape theorem was not proved to apply: {failure}")


def _obstacle(function: BallFunction, orientation: int, half: bool) -> str | None:
    """Which premise is not proved for orientation*phi; None when all are. ``half``: for x > 0 only."""
    for piece, side, low, high in _parts(function):
        if half and side < 0:
            continue
        signs = interval_signs(piece.program, side, low, high)
        if not _is(signs.slope, orientation):
            return "phi is not shown to be monotone"
        if not _is(signs.curve, -orientation * side):
            return f"the sign of phi'' is not shown to be constant for x {'>' if side > 0 else '<'} 0"
    for join in joins(function):
        if half and join.side != 1:
            continue
        if join.side == 0:
            if not _is(join.jump, orientation):
                return "the jump of phi at 0 has the wrong sign"
            continue
        if join.jump != 0 or join.side is None:
            return f"phi is not shown to be continuous at x = {join.at.to_sympy()}"
        if not _is(join.kink, -orientation * join.side):
            return f"the kink at x = {join.at.to_sympy()} is not shown to bend towards 0"
    return None


def _is(sign: Sign, wanted: int) -> bool:
    """Whether a sign is proved to be the wanted one, zero included."""
    return sign is not None and sign * wanted >= 0


def _parts(function: BallFunction) -> Iterator[tuple[BallPiece, int, arb | None, arb | None]]:
    """The parts of the pieces on either side of 0, with their ends (None: infinite)."""
    for piece in function.pieces:
        lower, upper = piece.ends()
        if lower is None or not lower >= 0:
            yield piece, -1, lower, arb(0) if upper is None or not upper <= 0 else upper
        if upper is None or not upper <= 0:
            yield piece, 1, arb(0) if lower is None or not lower >= 0 else lower, upper


def interval_signs(program: Program, side: int, low: arb | None, high: arb | None) -> Signs:
    """The signs of a program and its first two derivatives on an interval on one side of 0."""
    ends = [None if end is None else program.trace(_REAL, end) for end in (low, high)]
    arithmetic = SignArithmetic()
    values: list[Signs] = []
    for index, (op, args, payload) in enumerate(program.instructions):
        signs = Signs(side, 1, 0, (sp.S.One, sp.S.Zero)) if op == "x" else arithmetic.apply(op, args, payload, values)
        at_ends = [None if trace is None else sign_of(trace[index]) for trace in ends]
        values.append(_settled(signs, at_ends[0], at_ends[1]))
    return values[program.result]


def _settled(signs: Signs, at_low: Sign, at_high: Sign) -> Signs:
    """The sign of a monotone function from its signs at the ends of the interval."""
    if signs.value is not None or signs.slope is None:
        return signs
    first, last = (at_low, at_high) if signs.slope >= 0 else (at_high, at_low)
    if first is not None and first >= 0:
        return replace(signs, value=1)
    if last is not None and last <= 0:
        return replace(signs, value=-1)
    return signs


def _plus(a: Sign, b: Sign) -> Sign:
    if a is None or b is None:
        return None
    if a == 0 or b == 0:
        return a + b
    return a if a == b else None


def _times(a: Sign, b: Sign) -> Sign:
    if a == 0 or b == 0:
        return 0
    return None if a is None or b is None else a * b


def _sign(value: sp.Expr) -> Sign:
    """The sign of an exact number."""
    if value.is_Rational:
        return int(bool(value > 0)) - int(bool(value < 0))
    try:
        return sign_of(constant(value))
    except UncertifiedError:
        return None


class SignArithmetic(Operators):
    """The operations of programs on ``Signs``: the product and chain rules on signs."""

    def apply(self, op: str, args: tuple[int, ...], payload: Any, values: list[Signs]) -> Signs:
        """One instruction on earlier results."""
        operands = [values[a] for a in args]
        if op == "const":
            return self.constant(payload)
        if op == "powi":
            return self.powi(operands[0], int(payload))
        if op == "powr":
            return self.powr(operands[0], self.constant(payload))
        if op in {"add", "mul", "div", "neg"}:
            return getattr(self, op)(*operands)  # type: ignore[no-any-return]  # one of the four methods below
        return self.unary(op)(operands[0])

    def constant(self, value: sp.Expr) -> Signs:
        return Signs(_sign(value), 0, 0, (sp.S.Zero, value))

    def fill(self, x: Any, value: Signs) -> Signs:
        return value

    def add(self, a: Signs, b: Signs) -> Signs:
        affine = None
        if a.affine and b.affine:
            affine = a.affine[0] + b.affine[0], a.affine[1] + b.affine[1]
        return Signs(_plus(a.value, b.value), _plus(a.slope, b.slope), _plus(a.curve, b.curve), affine)

    def neg(self, a: Signs) -> Signs:
        affine = (-a.affine[0], -a.affine[1]) if a.affine else None
        return Signs(_times(-1, a.value), _times(-1, a.slope), _times(-1, a.curve), affine)

    def mul(self, a: Signs, b: Signs) -> Signs:
        affine = None
        if a.affine and b.affine and (a.affine[0] == 0 or b.affine[0] == 0):
            (p, q), (r, s) = a.affine, b.affine
            affine = p * s + q * r, q * s
        slope = _plus(_times(a.slope, b.value), _times(a.value, b.slope))
        bend = _plus(_times(a.curve, b.value), _times(a.value, b.curve))
        return Signs(_times(a.value, b.value), slope, _plus(bend, _times(a.slope, b.slope)), affine)

    def div(self, a: Signs, b: Signs) -> Signs:
        if b.value in {0, None}:
            return Signs(None, None, None)
        if a.affine and b.affine:
            # (p x + q)/(r x + s) has the derivatives D/(r x + s)^2 and -2 r D/(r x + s)^3, D = p s - q r
            (p, q), (r, s) = a.affine, b.affine
            slope = _sign(sp.expand(p * s - q * r))
            curve = _times(_times(-1, _sign(r)), _times(slope, b.value))
            return Signs(_times(a.value, b.value), slope, curve)
        return self.mul(a, self._chain(b, (b.value, -1, b.value)))

    def powi(self, a: Signs, n: int) -> Signs:
        return self._chain(a, (1, a.value, 1) if n % 2 == 0 else (a.value, 1, a.value))

    def powr(self, a: Signs, exponent: Signs) -> Signs:
        if not exponent.affine:
            return Signs(None, None, None)
        c = exponent.affine[1]
        return self._chain(a, (1, _sign(c), _sign(sp.expand(c * (c - 1)))))

    def unary(self, name: str) -> Callable[[Signs], Signs]:
        return lambda u: self._chain(u, _FUNCTIONS[name](u.value))

    def _chain(self, u: Signs, outer: tuple[Sign, Sign, Sign]) -> Signs:
        """(g(u))' = g' u' and (g(u))'' = g'' u'^2 + g' u''."""
        value, first, second = outer
        squared = 0 if u.slope == 0 else 1
        return Signs(value, _times(first, u.slope), _plus(_times(second, squared), _times(first, u.curve)))


def _minus(s: Sign) -> Sign:
    return None if s is None else -s


# the signs of g, g', g'' at arguments of sign s
_FUNCTIONS: dict[str, Callable[[Sign], tuple[Sign, Sign, Sign]]] = {
    "exp": lambda s: (1, 1, 1),
    "expm1": lambda s: (s, 1, 1),
    "log": lambda s: (None, 1, -1),
    "log1p": lambda s: (s, 1, -1),
    "sqrt": lambda s: (1, 1, -1),
    "sin": lambda s: (None, None, None),
    "cos": lambda s: (None, None, None),
    "tan": lambda s: (None, None, None),
    "sinh": lambda s: (s, 1, s),
    "cosh": lambda s: (1, s, 1),
    "sech2": lambda s: (1, _minus(s), None),
    "erfc": lambda s: (1, -1, s),
    "softplus": lambda s: (1, 1, 1),
    "log_cosh": lambda s: (1, s, 1),
    "sigmoid": lambda s: (1, 1, _minus(s)),
    **dict.fromkeys(("tanh", "atan", "asinh", "erf"), lambda s: (s, 1, _minus(s))),
}
