r"""Enclosures of all Hermite coefficients c_0 .. c_N of an activation at once: shared nodes, one error bound a panel.

c_k = E[phi(tau x) he_k(x)], x ~ N(0, 1), he_k = He_k/sqrt(k!). Gauss-Legendre on panels between the breakpoints; with
|phi he_k density| <= M inside the Bernstein ellipse of parameter r around a panel of half-length h, n nodes are off by
at most (64/15) h M r^(2-2n)/(1 - r^-2) ([Trefethen13], theorem 19.3). M is the product of a ball of phi on a box
around the ellipse and of a bound of all he_k at once, from Mehler's formula with w = conj(z) = x - iy:

    |he_k(z)|^2 <= sum_j t^(j-k) |he_j(z)|^2 = t^-k (1 - t^2)^(-1/2) exp(t x^2/(1 + t) + t y^2/(1 - t)),  0 < t < 1.

The same bound on the real line gives the tails, and what is left next to a breakpoint where phi is not analytic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from flint import acb, arb, ctx

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.arithmetic import BallArithmetic
from equikernel.numerics.balls.context import hull, precision
from equikernel.numerics.balls.functions import BallFunction, BallPiece
from equikernel.numerics.balls.problem import Segment, segments
from equikernel.numerics.balls.tails import tail_growth

__all__ = ["hermite_coefficients", "working_bits"]

_REAL = BallArithmetic()
_PARAMETERS = (1.5, 2.0, 3.0, 4.5, 7.0, 12.0, 24.0, 48.0)  # r of the ellipses tried
_LONGEST_RULE, _LONGEST_RULE_PER_BIT = 64, 0.17  # longer rules take longer to make than the sums they save
_MEHLER = tuple(arb(1) - arb(2) ** -j for j in range(1, 11))  # t
_MAX_WORK = 30_000_000  # nodes times coefficients, counted once more for every 1024 bits: a minute or so
_MAX_PANELS = 20_000
_MOST = 10**9
_PROOF_BITS = 64
_TRIES = 400
_AMPLIFICATION = 0.8  # bits a degree: the recurrence of He_k in balls grows like He_k(i x), at most 3^(k/2) e^(x^2/4)
_STRETCH = 1.05


def working_bits(order: int, bits: int) -> int:
    """The precision at which c_0 .. c_order come out to about 2^-bits."""
    return bits + int(_AMPLIFICATION * order) + 3 * order.bit_length() + 40


@dataclass(frozen=True)
class _Problem:
    """c_0 .. c_order of phi(tau x), each to about 2^goal."""

    function: BallFunction
    tau: arb
    order: int
    goal: int

    def too_hard(self) -> UncertifiedError:
        """The refusal when the work goes beyond what is stated."""
        return UncertifiedError(
            f"{self.order + 1} Hermite coefficients of {self.function.activation.name} need more than the stated work "
            f"({_MAX_WORK} nodes times coefficients, or {_MAX_PANELS} panels); take a smaller order, fewer digits or a "
            "smoother activation"
        )


@dataclass(frozen=True)
class _Panel:
    """[lower, upper] in x, exact; ``nodes`` = 0 stands for a bound of the integral instead of a rule."""

    lower: arb
    upper: arb
    nodes: int
    error: arb


def hermite_coefficients(function: BallFunction, tau: arb, order: int, bits: int) -> list[arb]:
    """[c_0, .., c_order], each to about 2^-bits, at the current precision (see ``working_bits``).

    Args:
        function: phi.
        tau: a standard deviation; a ball stands for all of its points.
        order: the largest k.
        bits: absolute accuracy.

    Raises:
        UncertifiedError: no growth bound of phi, or more than the stated number of nodes.
    """
    problem = _Problem(function, tau, order, -bits - 8)
    error = _end_slack(problem)
    with precision(_PROOF_BITS):
        # of a symmetric function one half-line is integrated, and its tail stands for both
        tails = {side: _tail(problem, side if function.parity is None else 1) for side in (-1, 1)}
        error += sum((bound for _, bound in tails.values()), arb(0))
    parts = []
    for segment in segments(function):
        low, high = (
            side * tails[side][0] if end is None else (end / tau).mid()
            for side, end in ((-1, segment.lower), (1, segment.upper))
        )
        parts += [(segment, panel) for panel in (_panels(problem, segment.piece, low, high) if low < high else ())]
    if sum(panel.nodes for _, panel in parts) * (order + 1) * (1 + ctx.prec // 1024) > _MAX_WORK:
        raise problem.too_hard()
    sums = [arb(0)] * (order + 1)
    for segment, panel in parts:
        error += segment.copies * panel.error
        _add_panel(sums, tau, segment, panel)
    return _normalised(sums, function.parity, error)


def _add_panel(sums: list[arb], tau: arb, segment: Segment, panel: _Panel) -> None:
    """Add E[phi He_k] on one panel to every sum."""
    middle, half = (panel.lower + panel.upper) / 2, (panel.upper - panel.lower) / 2
    factor = segment.copies * half / (2 * arb.pi()).sqrt()
    for node, weight in _rule(panel.nodes, ctx.prec) if panel.nodes else ():
        x = middle + half * node
        value = segment.piece.program.run(_REAL, tau * x) * (-x * x / 2).exp() * (weight * factor)
        before, current = arb(0), arb(1)
        for k in range(len(sums)):
            sums[k] += current * value
            before, current = current, x * current - k * before


def _normalised(sums: list[arb], parity: str | None, error: arb) -> list[arb]:
    """E[phi he_k], with ``error`` added, from E[phi He_k]."""
    coefficients = []
    root = arb(1)
    for k, total in enumerate(sums):
        root *= arb(max(k, 1)).sqrt()
        vanishes = (parity == "odd" and k % 2 == 0) or (parity == "even" and k % 2 == 1)
        coefficients.append(arb(0) if vanishes else total / root + arb(0, error.upper()))
    return coefficients


@lru_cache(maxsize=64)
def _rule(nodes: int, bits: int) -> tuple[tuple[arb, arb], ...]:
    """Gauss-Legendre nodes and weights on [-1, 1] to ``bits`` bits."""
    with precision(bits):
        half = [arb.legendre_p_root(nodes, k, weight=True) for k in range((nodes + 1) // 2)]
    mirrored = [(-x, w) for x, w in half[: nodes // 2]]
    return (*half, *mirrored)


# -- panels ----------------------------------------------------------------------------------------------------------


def _panels(problem: _Problem, piece: BallPiece, low: arb, high: arb) -> list[_Panel]:
    """Panels that cover [low, high], halved while that saves nodes."""
    found: list[_Panel] = []
    with precision(_PROOF_BITS):
        shortest = 2.0 ** max(problem.goal, -1000)
        longest = _LONGEST_RULE - _LONGEST_RULE_PER_BIT * problem.goal
        open_ = [_best(problem, piece, low, high)]
        tried = 0
        while open_:
            tried += 1
            if tried > _MAX_PANELS:
                raise problem.too_hard()
            panel = open_.pop()
            middle = ((panel.lower + panel.upper) / 2).mid()
            halves = [_best(problem, piece, panel.lower, middle), _best(problem, piece, middle, panel.upper)]
            if panel.nodes <= min(longest, sum(half.nodes for half in halves)):
                found.append(panel)
            elif float(panel.upper - panel.lower) < shortest:
                found.append(_bounded(problem, piece, panel.lower, panel.upper))
            else:
                open_ += halves
    return found


def _best(problem: _Problem, piece: BallPiece, lower: arb, upper: arb) -> _Panel:
    """The ellipse with the fewest nodes around one panel; _MOST nodes when phi is not analytic in any."""
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    best = _Panel(lower, upper, _MOST, arb(0))
    for r in _PARAMETERS:
        wide, tall = half * (r + 1 / r) / 2, half * (r - 1 / r) / 2
        box = acb(hull((middle - wide).lower(), (middle + wide).upper()), hull(-tall.upper(), tall.upper()))
        values = piece.analytic(box * problem.tau, analytic=True)[0]
        if not values.is_finite():
            break
        largest = abs(values).abs_upper() * _weight_bound(problem.order, box.real, tall)
        scale = largest * half * 64 / (15 * (1 - arb(r) ** -2))
        excess = _log2(scale) - problem.goal
        if excess > best.nodes * 2 * math.log2(r):
            continue
        nodes = _rounded(max(math.ceil(excess / (2 * math.log2(r))) + 1, 1)) if excess > -math.inf else 1
        if nodes < best.nodes:
            best = _Panel(lower, upper, nodes, (scale * arb(r) ** (2 - 2 * nodes)).upper())
    return best


def _bounded(problem: _Problem, piece: BallPiece, lower: arb, upper: arb) -> _Panel:
    """A panel so short that the size of the integrand will do."""
    x = hull(lower, upper)
    value = piece.program.run(_REAL, problem.tau * x)
    if not value.is_finite():
        raise UncertifiedError(
            f"{problem.function.activation.name} is not enclosed next to a breakpoint, nor are its Hermite coefficients"
        )
    bound = value.abs_upper() * _weight_bound(problem.order, x, arb(0)) * (upper - lower)
    return _Panel(lower, upper, 0, bound.upper())


def _rounded(nodes: int) -> int:
    """A few nodes more, so that rules are used again."""
    step: int = 1 << max(nodes.bit_length() - 4, 1)
    return -(-nodes // step) * step


def _log2(value: arb) -> float:
    return float(value.upper().log().mid()) / math.log(2) if value.upper() > 0 else -math.inf


def _weight_bound(order: int, real: arb, tall: arb) -> arb:
    """A bound of |he_k(z) exp(-z^2/2)|/sqrt(2 pi), k <= order, for Re z in ``real`` and |Im z| <= ``tall``."""
    square, height = real.abs_lower() ** 2, tall.abs_upper() ** 2
    norm = (2 * arb.pi()).sqrt()
    bounds = [
        (_mehler(order, t) - square / (2 * (1 + t)) + height * (t / (1 - t) + 1) / 2).exp().upper() for t in _MEHLER
    ]
    return min(bounds) / norm


@lru_cache(maxsize=4096)
def _mehler(order: int, t: arb) -> arb:
    """The logarithm of sqrt(t^-order (1 - t^2)^(-1/2))."""
    return -order * t.log() / 2 - (1 - t * t).log() / 4


# -- tails and ends --------------------------------------------------------------------------------------------------


def _tail(problem: _Problem, side: int) -> tuple[arb, arb]:
    """A cut X and a bound, below 2^goal, of |integral of phi he_k| over side*x >= X.

    With |phi(y)| <= C (1 + y)^m e^(c y), the integrand is at most e^psi, psi concave, whose integral is at most
    e^psi(X)/(-psi'(X)).
    """
    tau, target = problem.tau, arb(2) ** problem.goal
    growth = tail_growth(problem.function, side)
    envelope = growth.phi
    cut = max((arb(growth.start) / tau).upper(), arb(1))
    for _ in range(_TRIES):
        for t in _MEHLER:
            falling = cut / (1 + t) - tau * (envelope.k / (1 + tau * cut) + envelope.c)
            if not falling > 0:
                continue
            psi = _mehler(problem.order, t) + envelope.k * (1 + tau * cut).log() + envelope.c * tau * cut
            bound = envelope.C * (psi - cut * cut / (2 * (1 + t))).exp() / (falling * (2 * arb.pi()).sqrt())
            if bound < target:
                return cut, bound.upper()
        cut = (cut * _STRETCH).upper()
    raise UncertifiedError(
        f"the Gaussian tails of {problem.function.activation.name} could not be bounded; reduce tau0 or the sigmas"
    )


def _end_slack(problem: _Problem) -> arb:
    """What the integrals lose as pieces end at the midpoints of the balls of their ends, symmetric pieces twice."""
    total = arb(0)
    for piece in problem.function.pieces:
        for end in piece.ends():
            x = arb(0) if end is None else end / problem.tau
            if x.rad() != 0:
                value = piece.program.run(_REAL, problem.tau * x)
                total += 2 * value.abs_upper() * _weight_bound(problem.order, x, arb(0)) * x.rad()
    return total
