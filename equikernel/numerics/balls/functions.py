"""An activation with its pieces proved, evaluated in ball arithmetic.

``theory.piecewise`` finds breakpoints by algebra where it can and by a scan where it cannot, and resolves branches at
sample points. Here both are proved: the sign at every sample point is decided by a ball, and every switch function
whose zeros came from a scan is shown to have no others (by its sign, or that of its derivatives, on boxes that cover
the line). What cannot be proved is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp
from flint import acb, arb, ctx

from equikernel.errors import ActivationError, UncertifiedError
from equikernel.numerics.balls.arithmetic import AnalyticArithmetic, BallArithmetic
from equikernel.numerics.balls.context import constant, hull, precision
from equikernel.numerics.balls.envelope import Envelope, EnvelopeArithmetic
from equikernel.theory.activation import Activation
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.piecewise import (
    Resolver,
    partition,
    sample_point,
    switch_factors,
    switch_functions,
    switch_points,
)
from equikernel.theory.program import Program, X
from equikernel.theory.roots import Breakpoint, compiled, real_zeros, scanned_factors
from equikernel.theory.wording import brief

__all__ = ["BallFunction", "BallPiece", "ball_function", "breakpoint_ball", "mpf_ball"]

_REAL = BallArithmetic()
_ANALYTIC = {flag: AnalyticArithmetic(flag) for flag in (False, True)}
_PROOF_BITS = 256
_MAX_BOXES = 20_000
_SMALLEST_BOX = 2.0**-40
_MAX_ORDER = 4  # derivatives tried to prove a sign on a half-line


def mpf_ball(value: Any) -> arb:
    """An mpmath number, exactly, whatever the precision."""
    sign, mantissa, exponent, _ = value._mpf_
    return arb((-int(mantissa) if sign else int(mantissa), int(exponent)))


def breakpoint_ball(at: Breakpoint) -> arb:
    """An enclosure of a breakpoint at the current precision.

    Raises:
        UncertifiedError: no sign change could be shown around it.
    """
    if at.exact is not None:
        return constant(at.exact)
    if at.program is None:
        raise AssertionError("a breakpoint has an exact value or a bracket")
    point = mpf_ball(at.value(mp_arithmetic(int(ctx.prec / 3.3) + 5)))
    for loss in (4, 12, ctx.prec // 4, ctx.prec // 2):
        radius = (1 + point.abs_upper()) * arb(2) ** (loss - ctx.prec)
        low, high = (point - radius).lower(), (point + radius).upper()
        left, right = at.program.run(_REAL, low), at.program.run(_REAL, high)
        if (left < 0 and right > 0) or (left > 0 and right < 0):
            return hull(low, high)
    raise UncertifiedError(
        f"the breakpoint near x = {point.mid().str(8, radius=False)} cannot be enclosed: "
        "no sign change could be proved around it"
    )


@dataclass(frozen=True)
class BallPiece:
    """phi and phi' as smooth programs between two breakpoints; None for an infinite end."""

    lower: Breakpoint | None
    upper: Breakpoint | None
    program: Program
    slope: Program

    def ends(self) -> tuple[arb | None, arb | None]:
        """Enclosures of the ends at the current precision."""
        return (
            None if self.lower is None else breakpoint_ball(self.lower),
            None if self.upper is None else breakpoint_ball(self.upper),
        )

    def real(self, y: arb) -> tuple[arb, arb]:
        """Phi and phi' over the real ball ``y`` (the smooth branch, also outside its interval)."""
        return self._both(_REAL, y)

    def analytic(self, z: acb, analytic: bool) -> tuple[acb, acb]:
        """Phi and phi' over a complex box; with ``analytic``, not finite unless both are analytic on the box."""
        return self._both(_ANALYTIC[analytic], z)

    def _both(self, arithmetic: Any, x: Any) -> tuple[Any, Any]:
        both, value, slope = self.program.with_derivative
        results = both.trace(arithmetic, x)
        return results[value], results[slope]


class BallFunction:
    """An activation whose decomposition into smooth pieces has been proved.

    Attributes:
        activation: phi.
        pieces: the smooth pieces, left to right.
    """

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        with precision(_PROOF_BITS):
            _prove_pieces(activation)
        programs = zip(activation.pieces, activation.program.programs, strict=True)
        slopes = activation.derivative_program.programs
        self.pieces = tuple(
            BallPiece(piece.lower, piece.upper, program, slope)
            for (piece, program), slope in zip(programs, slopes, strict=True)
        )

    @property
    def parity(self) -> str | None:
        """Even, odd or None, decided on the expressions."""
        return self.activation.parity

    def envelope(self, side: int, start: arb) -> tuple[Envelope, Envelope]:
        """Bounds of phi and phi' on {side*y >= start}; ``start`` beyond all breakpoints (see ``outermost``).

        Raises:
            UncertifiedError: no bound could be proved.
        """
        index = -1 if side > 0 else 0
        arithmetic = EnvelopeArithmetic(side, start)
        try:
            piece = self.pieces[index]
            return piece.program.run(arithmetic, arithmetic.x), piece.slope.run(arithmetic, arithmetic.x)
        except UncertifiedError:
            if not start > 0:
                raise
        # once more, with the leading power of every polynomial in front: x^4 - x^3 is x^4 (1 - 1/x)
        program = compiled(_leading_first(self.activation.pieces[index].expr))
        return program.run(arithmetic, arithmetic.x), program.derivative().run(arithmetic, arithmetic.x)

    def outermost(self) -> arb:
        """The largest magnitude of a breakpoint, at the current precision; 0 without breakpoints."""
        sizes = [breakpoint_ball(b).abs_upper() for b in self.activation.breakpoints]
        return max(sizes, default=arb(0))


@lru_cache(maxsize=256)
def ball_function(activation: Activation) -> BallFunction:
    """The activation in ball arithmetic, its pieces proved.

    Raises:
        UncertifiedError: the breakpoints cannot be proved complete, or a branch cannot be decided.
    """
    return BallFunction(activation)


def _leading_first(expr: sp.Expr) -> sp.Expr:
    """The expression with its sums of powers of x written as the leading power times a sum that tends to a constant."""
    if not expr.args or not expr.has(X):
        return expr
    if expr.is_Add and expr.is_polynomial(X):
        polynomial = sp.Poly(expr, X)
        n = polynomial.degree()
        return sp.Mul(X**n, sp.Add(*(c * X ** (k - n) for (k,), c in polynomial.terms())), evaluate=False)
    return expr.func(*(_leading_first(a) for a in expr.args), evaluate=False)


# -- proofs ----------------------------------------------------------------------------------------------------------


class _CertainResolver(Resolver):
    """Decides branches by balls."""

    def sign(self, expr: sp.Expr) -> int:
        if not expr.has(X):
            ball = arb(0) if expr == 0 else constant(expr)
        else:
            ball = compiled(expr).run(_REAL, mpf_ball(self.point))
        if ball > 0 or ball < 0:
            return 1 if ball > 0 else -1
        if ball == 0 or sp.expand(expr) == 0:
            return 0
        raise UncertifiedError(f"the sign of {brief(expr)}, on which a branch depends, cannot be proved")


def _prove_pieces(activation: Activation) -> None:
    expr = activation.expr
    for factor in _scanned(expr):
        _prove_zeros(factor)
    _prove_distinct(list(switch_points(expr)))
    for lower, upper in partition(expr):
        point = sample_point(lower, upper)
        resolved = _CertainResolver(point).expression(expr)
        home = next(piece for piece in activation.pieces if piece.contains(point))
        if home.expr != resolved and sp.expand(home.expr - resolved) != 0:
            raise UncertifiedError(f"the branch of {activation.name} near x = {float(point):.6g} cannot be proved")


def _prove_distinct(points: list[Breakpoint]) -> None:
    """Show that breakpoints that were taken for one are equal.

    Raises:
        UncertifiedError: two can neither be told apart nor shown to be equal.
    """
    balls = [(breakpoint_ball(point), point) for point in dict.fromkeys(points)]
    for (a, first), (b, second) in itertools.combinations(balls, 2):
        if not a.overlaps(b):
            continue
        if first.exact is None or second.exact is None or sp.expand(first.exact - second.exact) != 0:
            raise UncertifiedError(
                f"two breakpoints near x = {a.mid().str(8, radius=False)} can neither be told apart nor be shown to be "
                "equal; write the switches so that they share an expression"
            )


def _scanned(expr: sp.Expr) -> Iterator[sp.Expr]:
    """The factors of switch functions whose zeros were found by a scan."""
    for function in switch_functions(expr):
        for _, factor in switch_factors(function):
            yield from scanned_factors(factor)


def _prove_zeros(factor: sp.Expr) -> None:
    """Show that the zeros of a smooth factor are those that the scan found.

    Raises:
        UncertifiedError: names the factor.
    """
    program = compiled(factor)
    orders = [program]
    for _ in range(_MAX_ORDER):
        orders.append(orders[-1].derivative())
    unproved = UncertifiedError(
        f"the breakpoints cannot be proved complete: the zeros of {brief(factor)} were found by a scan, "
        "and interval arithmetic cannot exclude others; write the switch with polynomials or invertible functions"
    )
    try:
        zeros = [breakpoint_ball(b) for b in real_zeros(factor)]
        reach = max([z.abs_upper() for z in zeros], default=arb(0)) + 1
        start = next((s for s in (reach * 4**k for k in range(8)) if _settled_outside(orders, s)), None)
    except (ActivationError, UncertifiedError):
        raise unproved from None
    if start is None or not _covered(orders, zeros, (-start).lower(), start.upper()):
        raise unproved


def _settled_outside(orders: list[Program], start: arb) -> bool:
    """Whether the function keeps its sign on both half-lines |x| >= start."""
    return all(_settled(orders, side, start) for side in (-1, 1))


def _settled(orders: list[Program], side: int, start: arb) -> bool:
    arithmetic = EnvelopeArithmetic(side, start)
    for n, program in enumerate(orders):
        try:
            envelope = program.run(arithmetic, arithmetic.x)
        except UncertifiedError:
            continue
        sign = 1 if envelope.low > 0 else -1 if envelope.high < 0 else 0
        if sign == 0:
            continue
        # moving outward, derivatives of odd order count with the sign of the side
        outward = sign * (side if n % 2 else 1)
        at_start = [orders[k].run(_REAL, side * start) * (side if k % 2 else 1) for k in range(n)]
        if all(outward * value > 0 for value in at_start):
            return True
    return False


def _covered(orders: list[Program], zeros: list[arb], low: arb, high: arb) -> bool:
    """Whether boxes cover [low, high], each without a zero or with a monotone function and at most a known zero."""
    value, slope = orders[0], orders[1]
    boxes: list[tuple[arb, arb]] = [(low, high)]
    for _ in range(_MAX_BOXES):
        if not boxes:
            return True
        a, b = boxes.pop()
        box = hull(a, b)
        v, s = value.run(_REAL, box), slope.run(_REAL, box)
        if v > 0 or v < 0:
            continue
        if s > 0 or s < 0:
            left, right = value.run(_REAL, a), value.run(_REAL, b)
            if (left > 0 and right > 0) or (left < 0 and right < 0):
                continue
            changes = (left < 0 and right > 0) or (left > 0 and right < 0)
            if changes and any(box.overlaps(zero) for zero in zeros):
                continue
        if b - a < _SMALLEST_BOX:
            return False
        inside = ((9 * a + 7 * b) / 16).mid()  # off the middle, where zeros like to be
        boxes += [(a, inside), (inside, b)]
    return False
