"""Gaussian expectations of one and two variables by nested Gauss-Legendre rules, in balls of 50 digits.

One variable: E[f(sqrt(q) xi)] is cut at the kinks k/sqrt(q). Two variables with covariance [[q_i, L], [L, q_j]] and
L = +-sqrt(q_i q_j) cos(omega), 0 < omega <= pi/2, are

    u = sqrt(q_i) (c a + s b),  v = +-sqrt(q_j) (c a - s b),  c = cos(omega/2),  s = sin(omega/2),

with a and b independent and standard normal. The inner integral, over a, is cut at the kinks of both factors; the outer
one, over b, where two of those kinks meet, b = (k/sqrt(q_i) -+ k'/sqrt(q_j))/(2 s). Between the cuts both integrands
are analytic whatever the correlation: near coincidence costs neither nodes nor digits.

The nodes of a panel are counted from the Bernstein ellipse that gives the least bound M(r) r^(-2n) on the error of the
n-point Gauss rule, M being the integrand's growth on the ellipse; a panel that needs too many, because a pole is
near, is halved. The bounds leave out constants and powers, so what they promise is not taken on trust: every number is
computed twice, for different numbers of digits.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from flint import arb
from kernel_truth_functions import NORMALISER, Function, Piece, exact

__all__ = ["Moments", "duals", "moments"]

_MOST_NODES = 72
_NOTHING = 1e-45
_RADII = np.concatenate([1.0 + np.geomspace(0.02, 3.0, 48), np.geomspace(4.5, 400.0, 16)])
_ANGLES = np.exp(1j * np.linspace(0.0, math.pi, 17))
_ELLIPSES = (_RADII[:, None] * _ANGLES + 1.0 / (_RADII[:, None] * _ANGLES)) / 2.0


@functools.cache
def _rule(n: int) -> list[tuple[arb, arb]]:
    """Gauss-Legendre nodes and weights on (-1, 1)."""
    pairs = (arb.legendre_p_root(n, k, weight=True) for k in range(n))
    return [(node.mid(), weight.mid()) for node, weight in pairs]


@dataclass(frozen=True)
class _Growth:
    """The density times exp(rate (|x| + |y|) + gaussian y^2/2), analytic but for ``poles``; 10^-digits is wanted."""

    digits: float
    rate: float
    gaussian: float
    poles: tuple[complex, ...]


def _reach(digits: float, grows: float) -> float:
    """Where the density times exp(grows |x|) is below 10^-digits."""
    return grows + math.sqrt(grows**2 + 2.0 * max(digits, 0.0) * math.log(10.0))


def _nodes_needed(middle: float, half: float, growth: _Growth) -> float:
    z = middle + half * _ELLIPSES
    size = np.square(z.imag) * (1.0 + growth.gaussian) / 2.0 - np.square(z.real) / 2.0
    size += growth.rate * (np.abs(z.real) + np.abs(z.imag))
    most = size.max(axis=1) + growth.digits * math.log(10.0)
    least = math.inf
    for pole in growth.poles:
        t = (pole - middle) / half
        root = np.sqrt(complex(t * t - 1.0))
        least = min(least, max(abs(t + root), abs(t - root)))
    usable = 1.0 + 0.9 * (least - 1.0) >= _RADII
    if not usable.any():
        return math.inf
    return float((np.maximum(most, 0.0) / (2.0 * np.log(_RADII)))[usable].min())


def _points(low: arb, high: arb, growth: _Growth) -> Iterator[tuple[arb, arb]]:
    """Points and weights, without the density, of a rule for one stretch between cuts."""
    middle, half = ((low + high) / 2).mid(), ((high - low) / 2).mid()
    # not the difference of two floats: a stretch of 1e-17 between kinks of nearly equal variances counts
    if not float(half) > _NOTHING:
        return
    needed = _nodes_needed(float(middle), float(half), growth)
    if needed > _MOST_NODES and float(half) > 1e-3:
        yield from _points(low, middle, growth)
        yield from _points(middle, high, growth)
        return
    for node, weight in _rule(3 + math.ceil(min(needed, _MOST_NODES))):
        yield middle + half * node, half * weight


def _compared(a: arb, b: arb) -> int:
    """-1, 0 or 1 for exact balls: as floats, cuts 1e-20 apart would tie."""
    return int(a > b) - int(a < b)


def _stretches(cuts: Sequence[arb], reach: float) -> list[tuple[arb, arb]]:
    """Consecutive cuts within (-reach, reach), the ends included."""
    end = arb(reach)
    inside = [cut.mid() for cut in cuts if abs(float(cut)) < reach]
    inside.sort(key=functools.cmp_to_key(_compared))
    return list(itertools.pairwise([-end, *inside, end]))


def _piece_at(function: Function, x: arb) -> Piece | None:
    return function.pieces[sum(bool(x > exact(k)) for k in function.kinks)]


@dataclass(frozen=True)
class Moments:
    """E phi, E phi', E phi^2, E phi'^2, E[xi phi'] and E[xi phi phi'] at sqrt(q) xi."""

    mean: arb
    slope: arb
    square: arb
    slope_square: arb
    mean_slope: arb
    square_slope: arb

    def about(self, centre: arb) -> arb:
        """E[(phi - centre)^2]."""
        return self.square - 2 * centre * self.mean + centre**2

    def square_slope_about(self, centre: arb, q: arb) -> arb:
        """The derivative of ``about`` in the variance q, E[xi phi_c phi']/sqrt(q), the centre being held."""
        return (self.square_slope - centre * self.mean_slope) / q.sqrt()


def moments(function: Function, q: arb, digits: int) -> Moments:
    """The moments at variance q > 0, to about 10^-digits."""
    root = q.sqrt().mid()
    scale = float(root)
    reach = _reach(digits, 2.0 * function.grows * scale)
    sums = [arb(0)] * 6
    for low, high in _stretches([exact(k) / root for k in function.kinks], reach):
        piece = _piece_at(function, root * (low + high) / 2)
        if piece is None:
            continue
        poles = tuple(p / scale for p in piece.poles)
        growth = _Growth(digits, 2.0 * function.rate * scale, 2.0 * function.gaussian * scale**2, poles)
        for x, weight in _points(low, high, growth):
            f, slope = piece.value(root * x)
            density = weight * (-x * x / 2).exp()
            parts = (f, slope, f * f, slope * slope, x * slope, x * f * slope)
            sums = [total + density * part for total, part in zip(sums, parts, strict=True)]
    return Moments(*((total * NORMALISER).mid() for total in sums))


def _opposite(p: complex, o: complex) -> bool:
    """Whether poles lie on two sides of the path: above and below, or, when real, beyond its two ends."""
    return p.imag * o.imag <= 0.0 if p.imag or o.imag else p.real * o.real < 0.0


@dataclass(frozen=True)
class _Pair:
    """Two activations' arguments u = r_i (c a + s b) and v = r_j (c a - s b), r_j with the sign of the covariance."""

    function: Function
    r_i: arb
    r_j: arb
    c: arb
    s: arb

    @property
    def rate(self) -> float:
        return self.function.rate * self.total

    @property
    def grows(self) -> float:
        return self.function.grows * self.total

    @property
    def total(self) -> float:
        """What exp(|u| + |v|) grows like: exp(total (c |a| + s |b|))."""
        return float(self.r_i) + abs(float(self.r_j))

    def gaussian(self, part: arb) -> float:
        """The growth of both factors in a (part = c) or b (part = s)."""
        return self.function.gaussian * float((self.r_i**2 + self.r_j**2) * part**2)

    def meetings(self) -> list[arb]:
        """The values of b at which a kink of u meets one of v."""
        kinks = [exact(k) for k in self.function.kinks]
        return [(k / self.r_i - other / self.r_j) / (2 * self.s) for k in kinks for other in kinks]

    def outer_poles(self) -> list[complex]:
        """The values of b at which the inner integral is singular: a pole meets a kink, or two poles pinch the path."""
        r_i, r_j, width = float(self.r_i), float(self.r_j), 2.0 * float(self.s)
        poles = {pole for piece in self.function.pieces if piece for pole in piece.poles}
        first, second = ([complex(p) / r for p in poles] for r in (r_i, r_j))
        kinks_first, kinks_second = ([float(k) / r for k in self.function.kinks] for r in (r_i, r_j))
        meetings = [
            *itertools.product(first, kinks_second),
            *itertools.product(kinks_first, second),
            *((p, o) for p, o in itertools.product(first, second) if _opposite(p, o)),
        ]
        return [(p - o) / width for p, o in meetings]

    def inner(self, b: arb, digits: float) -> tuple[arb, arb]:
        """The integrals of phi phi and phi' phi' times the density over a, at one b."""
        shift = self.s * b / self.c
        c_i, c_j, d_i, d_j = self.r_i * self.c, self.r_j * self.c, self.r_i * self.s * b, -self.r_j * self.s * b
        cuts = [exact(k) / c_i - shift for k in self.function.kinks]
        cuts += [exact(k) / c_j + shift for k in self.function.kinks]
        offset = float(shift)
        value, slope = arb(0), arb(0)
        rate, gaussian = self.rate * float(self.c), self.gaussian(self.c)
        digits += self.grows * abs(float(self.s * b)) / math.log(10.0)
        for low, high in _stretches(cuts, _reach(digits, self.grows * float(self.c))):
            middle = (low + high) / 2
            first = _piece_at(self.function, c_i * middle + d_i)
            second = _piece_at(self.function, c_j * middle + d_j)
            if first is None or second is None:
                continue
            poles = [p / float(c_i) - offset for p in first.poles] + [p / float(c_j) + offset for p in second.poles]
            for a, weight in _points(low, high, _Growth(digits, rate, gaussian, tuple(poles))):
                f, f_slope = first.value(c_i * a + d_i)
                g, g_slope = second.value(c_j * a + d_j)
                density = weight * (-a * a / 2).exp()
                value += density * (f * g)
                slope += density * (f_slope * g_slope)
        return value, slope


def duals(function: Function, q_i: arb, q_j: arb, rho: arb, digits: int) -> tuple[arb, arb]:
    """E[phi(u) phi(v)] and E[phi'(u) phi'(v)], not centred, at the correlation rho, to about 10^-digits."""
    negative = bool(rho < 0)
    size = abs(rho)
    pair = _Pair(
        function,
        q_i.sqrt().mid(),
        (-q_j.sqrt() if negative else q_j.sqrt()).mid(),
        ((1 + size) / 2).sqrt().mid(),
        ((1 - size) / 2).sqrt().mid(),
    )
    if size == 1:
        value, slope = pair.inner(arb(0), digits)
        return (value * NORMALISER).mid(), (slope * NORMALISER).mid()
    # the kinks' places in a move with b at the rate s/c, and complex ones let the inner density grow
    moving = float(pair.s / pair.c) ** 2 if function.kinks else 0.0
    gaussian, rate = moving + pair.gaussian(pair.s), pair.rate
    reach = _reach(digits, pair.grows)
    poles = pair.outer_poles()
    value, slope = arb(0), arb(0)
    for low, high in _stretches(pair.meetings(), reach):
        # on the real line a stretch between meetings is free of singularities: one found there is another branch's
        outside = tuple(p for p in poles if p.imag or not float(low) < p.real < float(high))
        for b, weight in _points(low, high, _Growth(digits, rate, gaussian, outside)):
            part, slope_part = pair.inner(b, digits - float(b) ** 2 / (2.0 * math.log(10.0)))
            density = weight * (-b * b / 2).exp()
            value += density * part
            slope += density * slope_part
    scale = NORMALISER**2
    return (value * scale).mid(), (slope * scale).mid()
