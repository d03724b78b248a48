"""How the pieces of an activation meet: signs of the jumps of phi and of phi' at the breakpoints, proved."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import sympy as sp
from flint import arb

from equikernel.numerics.balls.context import precision
from equikernel.numerics.balls.functions import BallFunction, breakpoint_ball
from equikernel.theory.piecewise import Piece
from equikernel.theory.program import X
from equikernel.theory.roots import Breakpoint

__all__ = ["Join", "is_continuous", "joins", "sign_of"]

_BITS = 192


@dataclass(frozen=True)
class Join:
    """A breakpoint x0 and three signs, None where they could not be proved.

    Attributes:
        side: of x0.
        jump: of phi(x0+) - phi(x0-).
        kink: of phi'(x0+) - phi'(x0-).
    """

    at: Breakpoint
    side: int | None
    jump: int | None
    kink: int | None


def sign_of(ball: arb) -> int | None:
    """The sign that all numbers of a ball share, 0 for the number 0; None otherwise."""
    if ball > 0:
        return 1
    if ball < 0:
        return -1
    return 0 if ball == 0 else None


@lru_cache(maxsize=256)
def joins(function: BallFunction) -> tuple[Join, ...]:
    """The joins of an activation, left to right."""
    found = []
    with precision(_BITS):
        pairs = itertools.pairwise(zip(function.activation.pieces, function.pieces, strict=True))
        for (left, left_ball), (right, right_ball) in pairs:
            at = left.upper
            if at is None:
                raise AssertionError("neighbouring pieces share a breakpoint")
            x0 = breakpoint_ball(at)
            before, after = left_ball.real(x0), right_ball.real(x0)
            signs = [
                sign_of(b - a) if a.is_finite() and b.is_finite() else None for a, b in zip(before, after, strict=True)
            ]
            for order in range(2):
                if signs[order] is None and _agree(left, right, at, order):
                    signs[order] = 0
            found.append(Join(at, sign_of(x0), *signs))
    return tuple(found)


def _agree(left: Piece, right: Piece, at: Breakpoint, order: int) -> bool:
    """Whether the derivatives of this order of two pieces are the same exact number at a breakpoint."""
    if at.exact is None:
        return False
    gap = sp.diff(left.expr - right.expr, X, order).subs(X, at.exact)
    return bool(gap == 0 or sp.expand(gap) == 0)


def is_continuous(function: BallFunction) -> bool:
    """Whether phi is proved to have no jump.

    Either the pieces agree exactly at every breakpoint, or phi is composed of continuous functions: no quotient or
    logarithm of a switch, by which x/abs(x) would jump.
    """
    if all(join.jump == 0 for join in joins(function)):
        return True
    expr = function.activation.expr
    if expr.has(sp.sign, sp.Heaviside, sp.Piecewise):
        return False
    risky = [n for n in sp.preorder_traversal(expr) if (n.is_Pow and n.exp.is_negative) or isinstance(n, sp.log)]
    return not any(n.has(sp.Abs, sp.Max, sp.Min) for n in risky)
