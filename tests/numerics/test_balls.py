"""Ball arithmetic under the engines: enclosures against mpmath, analyticity, growth, and the proof of the pieces."""

from __future__ import annotations

import math
import threading
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy as sp
from flint import acb, arb, ctx

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.arithmetic import AnalyticArithmetic, BallArithmetic
from equikernel.numerics.balls.context import constant, exact, hull, precision
from equikernel.numerics.balls.envelope import EnvelopeArithmetic
from equikernel.numerics.balls.functions import ball_function, breakpoint_ball, mpf_ball
from equikernel.numerics.balls.integrands import SHAPES
from equikernel.numerics.balls.joins import is_continuous
from equikernel.numerics.balls.tails import cut_integrals
from equikernel.theory.activation import activation, registry_names
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.program import X, compile_expression

EXTRA = (
    "exp(-x)*sin(x)",
    "log(1+x**2)",
    "sqrt(1+x**2)",
    "x**3*exp(-abs(x))",
    "cosh(x)/(1+sinh(x)**2)",
    "erf(x)*x-exp(-x**2)",
    "tanh(200*x)",
    "log(cosh(3*x))",
    "asinh(exp(x))",
    "log(2+sin(x))",
    "atan(x**3)",
    "(1+x**2)**0.3",
    "expm1(-x**2)",
    "tan(atan(x)/2)",
    "erfc(x)*x**2",
    "1/(x**4-x**3+1)",
    "x/(x**6-5*x**5+x+9000)",
)
MP = mp_arithmetic(60)
ROOT_OF_SQUARE = sp.Pow(sp.Pow(X, 2, evaluate=False), sp.Rational(1, 2), evaluate=False)


@pytest.mark.parametrize("spec", [*registry_names(), *EXTRA])
def test_balls_contain_the_values_inside_them(spec: str) -> None:
    generator = np.random.default_rng(sum(map(ord, spec)))
    act = activation(spec)
    function = ball_function(act)
    for piece in function.pieces:
        low = -8.0 if piece.lower is None else float(piece.lower)
        high = 8.0 if piece.upper is None else float(piece.upper)
        low, high = (low if piece.lower else min(low, high - 4)), (high if piece.upper else max(high, low + 4))
        for radius in (1e-14, 1e-3, 0.2, 1.5):
            middle = generator.uniform(low, high)
            a, b = max(low, middle - radius), min(high, middle + radius)
            with precision(64):
                value, slope = piece.real(hull(a, b))
            for point in (a, b, generator.uniform(a, b)):
                with precision(200):
                    for ball, program in ((value, piece.program), (slope, piece.slope)):
                        truth = mpf_ball(program.run(MP, MP.context.mpf(point)))
                        slack = arb(10) ** -50 * (1 + truth.abs_upper())
                        assert not ball.is_finite() or (ball + arb(0, slack)).overlaps(truth), (point, ball, truth)


@pytest.mark.parametrize("spec", [*registry_names(), *EXTRA])
def test_complex_boxes_agree_with_mpmath_off_the_line(spec: str) -> None:
    """At a complex point near the line, the continuation of the real function, by its Taylor series."""
    act = activation(spec)
    for index, piece in enumerate(ball_function(act).pieces):
        base = {0: -1.3, len(act.pieces) - 1: 1.7}.get(index, 0.0)
        if piece.lower is not None:
            base = max(base, float(piece.lower) + 0.4)
        if piece.upper is not None:
            base = min(base, float(piece.upper) - 0.4)
        with precision(100):
            coefficients = []
            program = piece.program
            for order in range(14):
                coefficients.append(program.run(BallArithmetic(), arb(base)) / math.factorial(order))
                program = program.derivative()
            z = acb(base + 1e-5, 2e-5) if "200" in spec else acb(base + 1e-3, 2e-3)
            step = z - acb(base)
            taylor = sum((acb(c) * step**n for n, c in enumerate(coefficients)), acb(0))
            value = piece.analytic(z, True)[0]
            assert float((value - taylor).abs_upper()) < 1e-20 * (1 + float(taylor.abs_upper())) * 10**6


@pytest.mark.parametrize(
    ("expr", "box"),
    [
        (sp.sqrt(X), acb(arb(0, 1), arb(0, 1))),
        (ROOT_OF_SQUARE, acb(arb(0, 0.1), arb(1, 0.1))),
        (sp.log(X), acb(arb(-1, 0.5), arb(0, 0.5))),
        (sp.atan(X), acb(arb(0, 0.1), arb(1, 0.1))),
        (sp.asinh(X), acb(arb(0, 0.1), arb(-2, 0.1))),
        (sp.log(1 + X), acb(arb(-1, 0.5), arb(0, 0.5))),
        (sp.log(1 + sp.exp(X)), acb(arb(0, 0.1), arb(math.pi, 0.1))),
        (sp.log(sp.cosh(X)), acb(arb(0, 0.1), arb(math.pi / 2, 0.1))),
        (1 / (1 + sp.exp(-X)), acb(arb(0, 0.1), arb(math.pi, 0.1))),
        (sp.tanh(X), acb(arb(0, 0.1), arb(math.pi / 2, 0.1))),
    ],
)
def test_trap_the_analytic_flag_is_forwarded(expr: sp.Expr, box: acb) -> None:
    """A box that meets a cut or a pole has no finite value: ignoring that gave false certificates."""
    with precision(64):
        assert not compile_expression(expr).run(AnalyticArithmetic(True), box).is_finite()


def test_trap_the_root_of_a_square_is_not_integrated_across_its_cut() -> None:
    """The integral of sqrt(z^2) over [-1, 1], which is 1: the flag keeps the result from being a false certificate."""
    square_root = compile_expression(ROOT_OF_SQUARE)
    with precision(64):
        integral = acb.integral(lambda z, flag: square_root.run(AnalyticArithmetic(flag), z), -1, 1)
        assert integral.real.contains(1)


@pytest.mark.parametrize("spec", [*registry_names(), *EXTRA])
def test_envelopes_hold_on_the_half_line(spec: str) -> None:
    act = activation(spec)
    function = ball_function(act)
    with precision(128):
        for side in (-1, 1):
            start = function.outermost() + 7
            piece = function.pieces[-1 if side > 0 else 0]
            for envelope, program in zip(function.envelope(side, start), (piece.program, piece.slope), strict=True):
                for t in (start.upper(), start.upper() + arb("0.01"), *(start.upper() * k for k in (2, 9, 60))):
                    point = side * MP.context.make_mpf(t.mid()._mpf_)
                    value = mpf_ball(program.run(MP, point))
                    slack = arb(10) ** -30 * (1 + value.abs_upper())
                    assert not value < envelope.low - slack
                    assert not value > envelope.high + slack
                    assert not abs(value) > envelope.C * (1 + t) ** envelope.k * (envelope.c * t).exp() + slack
                    for bound, sign in ((envelope.below, 1), (envelope.above, -1)):
                        assert bound is None or not sign * (value - bound[0] - bound[1] * t) < -slack


def test_an_envelope_refuses_what_grows_faster_than_an_exponential() -> None:
    with precision(64):
        arithmetic = EnvelopeArithmetic(1, arb(3))
        with pytest.raises(UncertifiedError, match="at most linearly"):
            compile_expression(sp.exp(X**2)).run(arithmetic, arithmetic.x)
        with pytest.raises(UncertifiedError, match="denominator"):
            compile_expression(1 / (2 + sp.sin(X) * X)).run(arithmetic, arithmetic.x)


@pytest.mark.parametrize(
    "spec", ["max(exp(x)-2-x,0)", "max(x*tanh(x)-1,0)", "max(sin(x),x/10)", "abs(erf(x)-x/2)", "max(tanh(x)-1,x)"]
)
def test_scanned_breakpoints_are_proved(spec: str) -> None:
    act = activation(spec)
    assert ball_function(act).pieces
    with precision(200):
        for at in act.breakpoints:
            ball = breakpoint_ball(at)
            assert ball.rad() < 1e-40
            assert ball.overlaps(mpf_ball(at.value(MP)) + arb(0, "1e-50"))


@pytest.mark.parametrize("spec", ["max(x, 0.001*sin(1000*x))", "max(x, sin(1000*x)/900)"])
def test_breakpoints_that_cannot_be_proved_complete_are_refused(spec: str) -> None:
    """The scan sees few of the crossings of a rapid oscillation, or none."""
    with pytest.raises(UncertifiedError, match="cannot be proved complete"):
        ball_function(activation(spec))


@pytest.mark.parametrize("value", [sp.sqrt(2) / 3, sp.pi**2, sp.exp(sp.Rational(1, 7)), sp.erfinv(sp.Rational(1, 3))])
def test_constants(value: sp.Expr) -> None:
    with precision(200):
        assert constant(value).overlaps(mpf_ball(MP.constant(value)) + arb(0, "1e-55"))
        assert constant(value).rad() < 1e-55


def test_a_constant_without_a_rule_is_refused() -> None:
    with precision(64), pytest.raises(UncertifiedError, match="no rigorous rule"):
        constant(sp.zeta(3))


def test_trap_precision_is_global_to_the_process() -> None:
    """Two threads with different precisions do not disturb each other, and the precision is restored."""
    before = ctx.prec
    radii: dict[int, list[Any]] = {100: [], 400: []}

    def work(bits: int) -> None:
        for _ in range(50):
            with precision(bits):
                radii[bits].append(float(exact(Fraction(1, 3)).rad()))

    threads = [threading.Thread(target=work, args=(bits,)) for bits in radii]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ctx.prec == before
    assert all(2.0**-104 < r < 2.0**-98 for r in radii[100])
    assert all(2.0**-404 < r < 2.0**-398 for r in radii[400])


@pytest.mark.parametrize(
    ("spec", "proved"),
    [
        ("gelu", True),
        ("elu", True),
        ("max(x*tanh(x)-1,0)", True),
        ("where(x > 1, x**2, x)", True),
        ("where(x > 0, sin(x), 1 - cos(x))", True),
        ("sign", False),
        ("where(x > 0, x + 1e-45, x)", False),
        ("x/abs(x) + x", False),
        ("softsign", True),
    ],
)
def test_continuity_is_proved_on_the_expressions(spec: str, proved: bool) -> None:
    """A jump of 1e-45 is below what the numerical detection of jumps sees."""
    assert is_continuous(ball_function(activation(spec))) is proved


def test_tails_of_a_symmetric_function_stand_for_both_sides() -> None:
    """Only the right half-line is integrated: the left one must not be cut, or bounded, by a rule of its own."""
    for spec in ("tanh", "cos", "x**3", "max(x*tanh(x)-1,0)"):
        with precision(128):
            cut = cut_integrals(ball_function(activation(spec)), arb(1), SHAPES, [arb(2) ** -90] * len(SHAPES))
        assert cut.left == cut.right


def test_asinh_has_boxes_on_both_sides() -> None:
    with precision(64):
        arithmetic = AnalyticArithmetic(True)
        for z in (acb(3, arb(0, 2)), acb(-3, arb(0, 2)), acb(arb(1, 0.5), arb(0, 3))):
            value = compile_expression(sp.asinh(X)).run(arithmetic, z)
            assert value.is_finite()
            assert (value - z.mid().asinh()).contains(0)
        assert not compile_expression(sp.asinh(X)).run(arithmetic, acb(arb(0, 1), arb(2, 0.1))).is_finite()


def test_an_envelope_of_zero_takes_nothing_away() -> None:
    """A factor that is zero beyond the breakpoints, and a term that is."""
    with precision(64):
        for side in (-1, 1):
            phi, _ = ball_function(activation("(relu(x)-relu(x))*x + exp(-x**2)")).envelope(side, arb(9))
            assert phi.c < -8
        assert ball_function(activation("hard_sigmoid(-x)*x**3")).envelope(1, arb(9))[0].magnitude == 0
