"""Expectations of piecewise sums of atoms: which integrals over which intervals they come down to.

An atom with erfs closes on few intervals, and cancellation between pieces must not be missed. So the coefficient of
such an atom, a step function over the pieces, is written on a basis: where the atom is even or odd it is folded onto
x > 0, then the steps become one whole (or half) line and half-lines that begin at the breakpoints. Atoms without erf
close on every interval and are only joined across pieces with equal coefficients.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import sympy as sp

from equikernel.errors import NoClosedFormError
from equikernel.theory.closed_forms.atoms import Atom, Sum, without_phases
from equikernel.theory.closed_forms.combination import Combination
from equikernel.theory.closed_forms.integrals import GaussianIntegrals, Interval

__all__ = ["Share", "expectation", "shares"]

_MAX_DEGREE = 40

Share = tuple[sp.Expr, Atom, Interval]


def expectation(pieces: Sequence[tuple[Interval, Sum]], integrals: GaussianIntegrals) -> Combination:
    """E[f(x)], x ~ N(0, tau^2), of a function given by a sum of atoms on each interval.

    Raises:
        NoClosedFormError: exp(b x^2) with b not known to be nonpositive on an unbounded piece.
    """
    parts = (_scaled(integrals(atom, interval), c) for c, atom, interval in shares(pieces))
    return Combination.total(parts).real()


def _scaled(value: Combination, coefficient: sp.Expr) -> Combination:
    return Combination.total(value * term for term in sp.Add.make_args(sp.expand(without_phases(coefficient))))


def shares(pieces: Sequence[tuple[Interval, Sum]]) -> list[Share]:
    """The (coefficient, atom, interval) that f is the sum of, as far as its expectation goes."""
    intervals = [interval for interval, _ in pieces]
    atoms = sorted({atom for _, function in pieces for atom in function}, key=str)
    result: list[Share] = []
    for atom in atoms:
        steps = [(interval, function.get(atom, sp.S.Zero)) for interval, function in pieces]
        _require_degree(atom)
        _require_integrable(atom, steps)
        if atom.erfs:
            result += _half_lines(atom, *(_folded(atom, steps) if _is_symmetric(atom, intervals) else (steps, None)))
        else:
            result += [(c, atom, interval) for interval, c in _joined(steps) if c != 0]
    return result


def _joined(steps: Sequence[tuple[Interval, sp.Expr]]) -> list[tuple[Interval, sp.Expr]]:
    """Neighbours with equal coefficients as one interval."""
    joined: list[tuple[Interval, sp.Expr]] = []
    for interval, c in steps:
        if joined and joined[-1][1] == c:
            joined[-1] = (Interval(joined[-1][0].lower, interval.upper), c)
        else:
            joined.append((interval, c))
    return joined


def _is_symmetric(atom: Atom, intervals: Sequence[Interval]) -> bool:
    points = [interval.upper for interval in intervals[:-1]]
    return atom.parity is not None and all(
        sp.expand(left + right) == 0 for left, right in zip(points, reversed(points), strict=True)
    )


def _folded(
    atom: Atom, steps: Sequence[tuple[Interval, sp.Expr]]
) -> tuple[list[tuple[Interval, sp.Expr]], sp.Expr | None]:
    """Steps on x > 0 with the same expectation, from steps that are symmetric about 0."""
    parity = atom.parity or 1
    count = len(steps)
    folded = []
    for k in range(count // 2, count):
        interval, c = steps[k]
        mirrored = steps[count - 1 - k][1]
        lower = sp.S.Zero if k == count // 2 else interval.lower
        folded.append((Interval(lower, interval.upper), sp.expand(c + parity * mirrored)))
    return folded, sp.S.Zero


def _half_lines(atom: Atom, steps: Sequence[tuple[Interval, sp.Expr]], start: sp.Expr | None) -> list[Share]:
    """Steps from ``start`` on as multiples of half-lines, the first one starting at ``start``."""
    result = []
    first = steps[0][1]
    if first != 0:
        if start is not None and atom.parity == 1:
            result.append((first / 2, atom, Interval()))
        else:
            result.append((first, atom, Interval(start, None)))
    for (_, before), (interval, after) in itertools.pairwise(steps):
        jump = sp.expand(after - before)
        if jump != 0:
            result.append((jump, atom, Interval(interval.lower, None)))
    return result


def _require_degree(atom: Atom) -> None:
    if atom.n > _MAX_DEGREE and (atom.a != 0 or atom.w != 0 or atom.erfs):
        raise NoClosedFormError(
            f"the integrand has degree {atom.n} beside an exponential, a sine or an erf: beyond {_MAX_DEGREE} a closed "
            "form would be unreadable; ask for numbers instead"
        )


def _require_integrable(atom: Atom, steps: Sequence[tuple[Interval, sp.Expr]]) -> None:
    if atom.b == 0 or atom.b.is_nonpositive:
        return
    unbounded = any(c != 0 and None in interval for interval, c in steps)
    if atom.erfs or unbounded:
        raise NoClosedFormError(
            f"exp({atom.b}*x**2) must not grow on an unbounded interval or beside an erf: expected a coefficient that "
            f"is known to be nonpositive, got {atom.b} (give its symbols the assumptions that make it so)"
        )
