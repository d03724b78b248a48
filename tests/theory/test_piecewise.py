"""Breakpoints and domains: exact where possible, refused where undecidable."""

from __future__ import annotations

import mpmath
import pytest
import sympy as sp

from equikernel.errors import ActivationError
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.piecewise import check_domain, smooth_pieces
from equikernel.theory.program import X


def pieces_of(expr):
    return [(None if p.lower is None else p.lower.to_sympy(), p.expr) for p in smooth_pieces(expr)]


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (sp.Max(X, 0), [(None, 0), (0, X)]),
        (sp.Abs(sp.Abs(X) - 1), [(None, -X - 1), (-1, X + 1), (0, 1 - X), (1, X - 1)]),
        (sp.Min(1, sp.Max(-1, X)), [(None, -1), (-1, X), (1, 1)]),
        (sp.sign(X), [(None, -1), (0, 1)]),
        (sp.sign(X) ** 2, [(None, 1)]),
        (sp.Heaviside(X - 2) * X, [(None, 0), (2, X)]),
        (sp.Max(sp.exp(X) - 2, 0), [(None, 0), (sp.log(2), sp.exp(X) - 2)]),
        (sp.Max(sp.tanh(X) ** 3 - sp.Rational(1, 8), 0), [(None, 0), (sp.atanh(sp.Rational(1, 2)), None)]),
        (sp.Max(X**2 - 2, 0), [(None, X**2 - 2), (-sp.sqrt(2), 0), (sp.sqrt(2), X**2 - 2)]),
        (sp.Piecewise((X, sp.And(X > 0, X < 2)), (0, True)), [(None, 0), (0, X), (2, 0)]),
        (sp.Piecewise((1, sp.Or(X < -1, X >= 1)), (X, True)), [(None, 1), (-1, X), (1, 1)]),
        (sp.Max(X, 3 * X, X**2), None),
        (sp.sqrt(X**2), [(None, -X), (0, X)]),
    ],
    ids=str,
)
def test_breakpoints_are_found_symbolically(expr, expected):
    found = pieces_of(expr)
    if expected is None:  # the maximum of three: checked by value
        for x in (-2.0, -0.5, 0.5, 1.5, 2.5, 4.0):
            piece = next(p for p in smooth_pieces(expr) if p.contains(mpmath.mpf(x)))
            assert float(piece.expr.subs(X, x)) == pytest.approx(max(x, 3 * x, x * x))
        return
    assert [at for at, _ in found] == [at for at, _ in expected]
    for (_, got), (_, want) in zip(found, expected, strict=True):
        assert want is None or sp.expand(got - want) == 0


def test_transcendental_breakpoints_are_refined_to_any_precision():
    pieces = smooth_pieces(sp.Max(sp.tanh(X), X / 2))
    root = pieces[-1].lower
    for digits in (30, 80):
        value = root.value(mp_arithmetic(digits))
        with mpmath.workdps(digits + 20):
            assert abs(mpmath.tanh(value) - value / 2) < mpmath.mpf(10) ** (2 - digits)
    assert pieces[1].upper.to_sympy() == 0  # an exact zero among the scanned ones is recognised


def test_quintic_breakpoint_without_closed_form():
    (left, right) = smooth_pieces(sp.Max(X**5 - X - 1, 0))
    assert left.expr == 0
    assert float(right.lower) == pytest.approx(1.1673039782614187, rel=1e-15)


@pytest.mark.parametrize(
    ("expr", "says"),
    [
        (sp.log(X), "log.x. is undefined"),
        (sp.sqrt(X), "undefined on part"),
        (1 / X, "x vanishes there"),
        (sp.sin(X) / X, "vanishes there"),
        (sp.tan(X), "has poles"),
        (1 / (1 - sp.cos(X)), "vanishes there"),
        (1 / (X**2 - 2 * X + 1), "vanishes there"),
        (sp.sqrt(X**2 - 1), "is not positive"),
        (X**X, "is not positive"),
        (sp.coth(X), "poles"),
        (sp.Piecewise((sp.log(X), X > 0), (0, True)), "undefined or unbounded next to x = 0"),
        (sp.Piecewise((1 / X, X > 0), (0, True)), "undefined or unbounded next to x = 0"),
    ],
    ids=str,
)
def test_expressions_undefined_somewhere_are_refused(expr, says):
    with pytest.raises(ActivationError, match=says):
        [check_domain(piece) for piece in smooth_pieces(expr)]


@pytest.mark.parametrize("expr", [sp.Max(sp.sin(X), 0), sp.sign(sp.cos(X)), sp.Abs(sp.sin(X) * X)], ids=str)
def test_infinitely_many_breakpoints_are_refused(expr):
    with pytest.raises(ActivationError, match="changes sign more than"):
        smooth_pieces(expr)


@pytest.mark.parametrize(
    "expr",
    [
        sp.Piecewise((sp.log(1 + X), X > 0), (X, True)),
        sp.Abs(X) ** sp.Rational(3, 2),
        1 / (2 + sp.sin(X)),
        sp.sqrt(1 - sp.tanh(X)),
        sp.tan(sp.tanh(X)),
        X / (1 + sp.Abs(X)),
        sp.log(X**2 - X + 1),
    ],
    ids=str,
)
def test_expressions_defined_everywhere_are_accepted(expr):
    for piece in smooth_pieces(expr):
        check_domain(piece)


def test_a_piecewise_without_a_last_branch_is_refused():
    with pytest.raises(ActivationError, match="no branch"):
        smooth_pieces(sp.Piecewise((X, X > 0)))
