"""Engine A: Gaussian moments by rigorous adaptive Gauss-Legendre integration (``acb.integral``, [Petras02]).

Two real integrals at a time: f + i g is analytic where f and g are, and on the real line the real and imaginary parts
of its integral are the two. Next to an algebraic singularity (a root at a breakpoint) the intervals shrink towards it,
and the function is enclosed on the last real interval instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from flint import acb, arb

from equikernel.numerics.balls.functions import BallFunction, BallPiece
from equikernel.numerics.balls.integrands import hermite2
from equikernel.numerics.balls.problem import Problem, RawBalls, Segment, segments

__all__ = ["integral_moments", "integrate", "work_limit"]

_EVALUATIONS = 100_000
_EVALUATIONS_PER_BIT = 30
# phi with He_0 and He_2, phi^2 with He_0 and He_2, then xi phi and phi'^2
_PAIRS = ((0, 3), (1, 4), (2, 5))
_NAN = acb(arb.nan(), arb.nan())
Integrand = Callable[[BallPiece, acb, bool], acb]


def integral_moments(problem: Problem, bits: int, limit: int | None = None) -> RawBalls:
    """The six raw moments, each to about 2^-bits of E|f_i|, at the current precision.

    Work is limited to ``limit`` evaluations, ``_EVALUATIONS + _EVALUATIONS_PER_BIT * bits`` by default; beyond, the
    balls are wide and valid, and ``exhausted`` is set.
    """
    parts = [s for s in segments(problem.function) if not s.is_zero]
    limit = limit or work_limit(bits)
    q2 = -1 / (2 * problem.tau * problem.tau)
    inverse = 1 / problem.tau
    norm = problem.tau * (2 * arb.pi()).sqrt()
    values = [arb(0)] * 6
    work = 0
    for kept in _groups(problem):
        pair = next(p for p in _PAIRS if kept[0] in p)
        factors = [1 / (problem.sizes[i] * norm) if i in kept else arb(0) for i in pair]
        integrand = _integrand(pair[0], factors[0], factors[1], q2, inverse)
        total, spent = integrate(integrand, parts, problem.cut.left, problem.cut.right, bits, limit - work)
        work += spent
        for i, part in zip(pair, (total.real, total.imag), strict=True):
            if i in kept:
                values[i] = part * problem.sizes[i]
    if 5 in problem.needed and _steep(problem.function):
        values[5] = arb(0, arb.pos_inf())
    return problem.result(values, work, exhausted=work >= limit)


def _groups(problem: Problem) -> list[list[int]]:
    """What is integrated together: nothing with phi'^2 where phi' is not bounded, and then not phi'^2 itself."""
    needed = [[i for i in pair if i in problem.needed] for pair in _PAIRS]
    if problem.function.activation.has_algebraic_breakpoints:
        bounded = [] if _steep(problem.function) else [5]
        needed = [*needed[:2], [i for i in needed[2] if i == 2], [i for i in needed[2] if i in bounded]]
    return [group for group in needed if group]


def _steep(function: BallFunction) -> bool:
    """Whether phi' is not enclosed at a breakpoint, as next to |x|^0.75: then neither is E[phi'^2]."""
    ends = ((piece, end) for piece in function.pieces for end in piece.ends() if end is not None)
    return not all(piece.analytic(acb(end), False)[1].is_finite() for piece, end in ends)


def _integrand(kind: int, a: arb, b: arb, q2: arb, inverse: arb) -> Integrand:
    """The integrand a f + i b g for one of the three pairs (f, g), with the Gaussian weight exp(q2 y^2)."""
    ib = acb(0, b)

    def of_values(piece: BallPiece, y: acb, analytic: bool) -> acb:
        phi = piece.analytic(y, analytic)[0]
        square = y * y
        weight = (q2 * square).exp() * phi
        if kind == 1:
            weight *= phi
        combined: acb = weight * (a + ib * hermite2(y * inverse))
        return combined

    def of_slopes(piece: BallPiece, y: acb, analytic: bool) -> acb:
        phi, slope = piece.analytic(y, analytic)
        first = a * inverse * y * phi if a != 0 else acb(0)
        second = ib * slope * slope if b != 0 else acb(0)
        return (first + second) * (q2 * y * y).exp()

    return of_slopes if kind == 2 else of_values


def work_limit(bits: int) -> int:
    """Evaluations that so many bits may take."""
    return _EVALUATIONS + _EVALUATIONS_PER_BIT * bits


def integrate(
    integrand: Integrand, parts: list[Segment], left: arb, right: arb, bits: int, limit: int
) -> tuple[acb, int]:
    """The integral over [-left, right] as a sum over segments to about 2^-bits, and the evaluations it took.

    After ``limit`` evaluations the rest is enclosed as it is: wide, but valid.
    """
    goal = arb(2) ** -bits
    total = acb(0)
    spent = 0
    raised: list[BaseException] = []

    for segment in parts:

        def evaluate(y: acb, analytic: bool, piece: BallPiece = segment.piece) -> acb:
            nonlocal spent
            spent += 1
            if raised:
                return _NAN
            try:
                return integrand(piece, y, analytic)
            except BaseException as error:  # noqa: BLE001 - flint would go on for the rest of the integral
                raised.append(error)
                return _NAN

        lower = -left if segment.lower is None else segment.lower
        upper = right if segment.upper is None else segment.upper
        middle = [arb(0)] if lower < 0 and upper > 0 else []
        for a, b in itertools.pairwise([lower, *middle, upper]):
            allowed = max(limit - spent, 1)
            part = acb.integral(evaluate, a, b, rel_tol=goal, abs_tol=goal, eval_limit=allowed)
            if raised:
                raise raised[0]
            total += segment.copies * part
    return total, spent
