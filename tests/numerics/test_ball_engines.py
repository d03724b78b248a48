"""The two rigorous engines: they must agree with each other, and none of the known traps may catch them."""

from __future__ import annotations

import cmath
import threading
from typing import Any

import numpy as np
import pytest
import sympy as sp
from flint import acb, arb, ctx

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls import integral, moments, trapezoid
from equikernel.numerics.balls.context import hull, precision
from equikernel.numerics.balls.envelope import Envelope
from equikernel.numerics.balls.functions import BallPiece, ball_function
from equikernel.numerics.balls.integral import integrate
from equikernel.numerics.balls.integrands import SHAPES, Shape
from equikernel.numerics.balls.maps import IntervalMap, LineMap, RayMap
from equikernel.numerics.balls.moments import ball_moments
from equikernel.numerics.balls.problem import moment_problem, segments
from equikernel.numerics.balls.strip import is_analytic
from equikernel.numerics.balls.tails import cut_integrals
from equikernel.theory.activation import activation
from equikernel.theory.program import X, compile_expression

HARD = (
    ("tanh", "0.001"),
    ("mish", "0.9"),
    ("gelu", "7"),
    ("swish", "1000"),
    ("relu", "0.05"),
    ("elu", "3"),
    ("hard_tanh", "0.001"),
    ("hard_tanh", "40"),
    ("sign", "0.7"),
    ("tanh(200*x)", "1"),
    ("tanh(x-3)", "0.05"),
    ("sin(30*x)", "0.3"),
    ("sin", "5"),
    ("x+1000", "0.7"),
    ("exp(3*x)", "5"),
    ("5*where(abs(x)>2,1,0)", "0.1"),
    ("relu(x-sqrt(2))", "0.9"),
    ("max(tanh(x), x/2)", "1"),
    ("1/(1+25*x**2)", "2"),
    ("sqrt(x**2+1/10**6)", "0.5"),
    ("x**3*exp(-abs(x))", "1"),
)


def exact(text: str) -> arb:
    with precision(80):
        return arb(text).mid()


@pytest.mark.parametrize(("spec", "tau"), HARD)
def test_engines_agree(spec: str, tau: str) -> None:
    act, scale = activation(spec), exact(tau)
    a, b = (ball_moments(act, scale, 55, engine) for engine in ("integral", "trapezoid"))
    assert (a.engine, b.engine) == ("integral", "trapezoid")
    for (name, p), (_, q) in zip(a.items(), b.items(), strict=True):
        assert p.overlaps(q), name
        for ball in (p, q):
            assert ball.contains(0) or ball.rel_accuracy_bits() >= 53, name


@pytest.mark.parametrize(("spec", "bits"), [("tanh", 350), ("gelu", 260), ("elu", 350), ("hard_tanh", 700)])
def test_engines_agree_at_many_digits(spec: str, bits: int) -> None:
    act, scale = activation(spec), exact("0.95")
    a, b = (ball_moments(act, scale, bits, engine) for engine in ("integral", "trapezoid"))
    for (name, p), (_, q) in zip(a.items(), b.items(), strict=True):
        assert p.overlaps(q), name
        assert p.contains(0) or min(p.rel_accuracy_bits(), q.rel_accuracy_bits()) >= bits - 2, name


def test_auto_takes_the_trapezoidal_rule_for_many_digits_of_smooth_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ball_moments(activation("tanh"), exact("1"), 53).engine == "integral"
    assert ball_moments(activation("tanh"), exact("1"), 400).engine == "trapezoid"
    # a root at a breakpoint has no strip around it: the other engine steps in
    monkeypatch.setattr(moments, "_TRAPEZOID_KINKED", 40)
    assert ball_moments(activation("relu"), exact("1"), 53).engine == "trapezoid"
    assert ball_moments(activation("sqrt(abs(x))"), exact("1"), 53).engine == "integral"


def test_many_bits_are_asked_for_only_where_they_are_needed() -> None:
    found = ball_moments(activation("relu"), exact("1"), 53)
    assert found.bits == 53
    assert all(ball.rel_accuracy_bits() < 110 for _, ball in found.items())


# -- traps ------------------------------------------------------------------------------------------------------------


def test_trap_root_of_a_square_gives_no_false_certificate() -> None:
    # sqrt(z^2) is |x| on the line and analytic nowhere near 0: ignoring that once gave 1.99946 +/- 4e-20 for 2
    expr = sp.Pow(sp.Pow(X, 2, evaluate=False), sp.Rational(1, 2), evaluate=False)
    program = compile_expression(expr)
    piece = BallPiece(None, None, program, program.derivative())
    line = segments(ball_function(activation("identity")))[0]
    segment = type(line)(piece, None, None, 1)
    with precision(80):
        total, _ = integrate(lambda p, y, flag: p.analytic(y, flag)[0], [segment], arb(1), arb(2), 60, 10_000)
        assert total.real.contains(arb(5) / 2)
        assert not is_analytic(piece, LineMap(1.0), -1.0, 1.0, 0.5)


@pytest.mark.parametrize("seed", range(12))
def test_trap_no_pole_escapes_the_cover(seed: int) -> None:
    # boxes of a few ulps that leave a gap between them once hid a pole: the cover must fail just beyond each
    generator = np.random.default_rng(seed)
    a, b = generator.uniform(-4, 4), 10 ** generator.uniform(-4, 0)
    rational = [sp.Rational(c) for c in (a, b)]
    program = compile_expression(1 / ((X - rational[0]) ** 2 + rational[1] ** 2))
    piece = BallPiece(None, None, program, program.derivative())
    height = cmath.asinh(complex(a, b)).imag
    with precision(64):
        assert is_analytic(piece, LineMap(1.0), -4.0, 4.0, 0.9 * height)
        assert not is_analytic(piece, LineMap(1.0), -4.0, 4.0, 1.0001 * height)


def test_trap_hulls_of_doubles_are_covers() -> None:
    with precision(53):
        for k in range(1, 50):
            a = 1 / k
            b = a * (1 + 2.0**-52)
            box = hull(a, b)
            assert box.contains(arb(a))
            assert box.contains(arb(b))


def test_trap_an_exhausted_budget_is_an_error_or_an_honest_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integral, "_EVALUATIONS", 60)
    monkeypatch.setattr(integral, "_EVALUATIONS_PER_BIT", 0)
    with pytest.raises(UncertifiedError, match="stated work"):
        ball_moments(activation("tanh(200*x)"), exact("1"), 53, "integral")
    with precision(80):
        problem = moment_problem(ball_function(activation("tanh(200*x)")), exact("1"), 60)
        raw = integral.integral_moments(problem, 60)
    assert raw.exhausted
    truth = ball_moments(activation("tanh(200*x)"), exact("1"), 53, "trapezoid")
    for wide, ball in zip(raw.values, truth.raw, strict=True):
        assert wide.contains(ball.mid()) or wide.overlaps(ball)


def test_trap_too_many_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trapezoid, "_NODES", 10)
    monkeypatch.setattr(trapezoid, "_NODES_PER_BIT", 0)
    with pytest.raises(UncertifiedError, match='use the engine "integral"'):
        ball_moments(activation("tanh"), exact("1"), 53, "trapezoid")
    with pytest.raises(UncertifiedError, match="strip of analyticity"):
        ball_moments(activation("sqrt(abs(x))"), exact("1"), 53, "trapezoid")


def test_trap_the_square_of_the_slope_is_infinite_at_a_jump() -> None:
    assert ball_moments(activation("sign"), exact("1"), 53).v_or_none is None
    assert ball_moments(activation("sqrt(abs(x))"), exact("1"), 53).v_or_none is None
    # square integrable, but unbounded: no enclosure, and no harm to the others
    steep = ball_moments(activation("x+abs(x)**0.75"), exact("1"), 53)
    assert steep.v_or_none is not None
    assert not steep.v_or_none.is_finite()
    assert all(ball.rel_accuracy_bits() >= 53 for name, ball in steep.items() if name != "v")


def test_trap_precision_belongs_to_the_process() -> None:
    before = ctx.prec
    found: dict[int, Any] = {}
    bits = (40, 90, 160, 53, 120, 200)
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: ball_moments(activation("swish"), arb(1), n)}))
        for n in bits
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ctx.prec == before
    for n in bits:
        assert found[n].V.rel_accuracy_bits() >= n
        assert found[n].V.overlaps(found[200].V)
    with pytest.raises(UncertifiedError):
        ball_moments(activation("tanh"), arb("1e200"), 53)
    assert ctx.prec == before


# -- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*SHAPES, Shape(2, 0, 4), Shape(0, 0, 4)])
@pytest.mark.parametrize("tau", ["0.1", "1", "30"])
def test_tails_of_the_identity(shape: Shape, tau: str) -> None:
    # E[|tau xi|^p |xi|^m; |xi| > x] is an incomplete gamma function; the bound must be above it, and not far
    with precision(100):
        t = exact(tau)
        cut = cut_integrals(ball_function(activation("identity")), t, [shape], [arb(2) ** -40])
        (bound,) = cut.tails
        p = shape.value + shape.degree
        x = cut.right / t
        truth = t**shape.value * (arb(2) ** p / arb.pi()).sqrt() * (x * x / 2).gamma_upper(arb(p + 1) / 2)
        assert bound <= arb(2) ** -40
        # 1 + y stands for y, and (1 + xi)^m for a polynomial of that degree
        slack = ((1 + cut.right) / cut.right) ** shape.value * ((1 + x) / x) ** shape.degree
        assert truth * arb("0.999") <= bound
        assert bound <= 2 * truth * slack


def test_an_activation_without_growth_bound_is_refused() -> None:
    function = ball_function(activation("tanh"))
    unbounded = Envelope(arb.neg_inf(), arb.pos_inf(), arb.pos_inf(), 0, arb(0), None, None)
    function = type(function)(activation("tanh"))
    function.envelope = lambda side, start: (unbounded, unbounded)  # type: ignore[method-assign]
    with pytest.raises(UncertifiedError, match="no growth bound"):
        cut_integrals(function, arb(1), SHAPES, [arb(1)] * 6)


@pytest.mark.parametrize(
    "change",
    [LineMap(0.5), RayMap(arb(2), 1, 0.7), RayMap(arb(-1), -1, 3.0), IntervalMap(arb(-1), arb(3))],
    ids=["line", "ray to the right", "ray to the left", "interval"],
)
def test_maps_and_their_slopes(change: Any) -> None:
    with precision(200):
        step = arb(2) ** -60
        for t in (-2.5, -0.3, 0.0, 0.4, 1.7):
            y, slope = change.at(arb(t).exp())
            (above, _), (below, _) = change.at((t + step).exp()), change.at((t - step).exp())
            difference = abs(above - below) / (2 * step)
            assert abs(difference - slope) <= arb(2) ** -100 * (1 + slope)
            box, _ = change.at(acb(hull(t - 0.01, t + 0.01), hull(-0.01, 0.01)).exp())
            assert box.contains(acb(y))


def test_trap_an_exception_inside_an_integral_is_not_swallowed() -> None:
    """flint goes on after an exception in the integrand; the first one must come out, and soon."""
    calls = 0

    def failing(*_: object) -> acb:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    function = ball_function(activation("tanh"))
    with precision(64), pytest.raises(KeyboardInterrupt):
        integrate(failing, segments(function), arb(10), arb(10), 53, 1000)
    assert calls == 1
