"""Programs: what would overflow or cancel is rewritten, and derivatives keep the stable forms."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy as sp

from equikernel.errors import ActivationError
from equikernel.numerics.arithmetic import FLOAT64
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.program import X, compile_expression

EXPRESSIONS = [
    X / (1 + sp.exp(-X)),
    X * (1 + sp.erf(X / sp.sqrt(2))) / 2,
    X * sp.erf(X) / 2 + X / 2,
    X * sp.tanh(sp.log(1 + sp.exp(X))),
    sp.log(sp.exp(X) + sp.exp(-X)),
    sp.log(2 + 3 * sp.exp(2 * X)),
    sp.exp(X) - 1,
    X * sp.exp(X) - X,
    1 / (1 + sp.exp(X)) ** 2,
    sp.exp(2 * X) / (1 + sp.exp(X)) ** 3,
    1 - sp.tanh(X) ** 2,
    X + X * sp.tanh(X),
    1 - sp.cos(X),
    1 - sp.erf(X),
    1 - sp.erfc(X),
    sp.log(sp.cosh(X)),
    sp.log(1 + X**2),
    sp.asinh(X) * sp.atan(X),
    (1 + X**2) ** sp.Rational(-1, 3),
    sp.sqrt(1 + X**2),
    2**X,
    sp.sinh(X) - sp.cosh(X),
    sp.sech(X) + sp.tan(sp.tanh(X)),
]


@pytest.mark.parametrize("expr", EXPRESSIONS, ids=str)
def test_program_and_its_derivatives_equal_sympy_at_fifty_digits(expr):
    arithmetic = mp_arithmetic(70)
    program = compile_expression(expr)
    for order in range(3):
        for point in ("-3.7", "-0.21", "0.4", "2.9"):
            truth = sp.diff(expr, X, order).subs(X, sp.Rational(point)).evalf(60)
            got = program.run(arithmetic, arithmetic.context.mpf(sp.Rational(point).p) / sp.Rational(point).q)
            assert abs(mpmath.mpf(str(truth)) - mpmath.mpf(str(got))) <= mpmath.mpf(10) ** -13 * max(1, abs(got))
            assert abs(sp.Float(str(got), 60) - truth) <= sp.Float(10) ** -48 * max(1, abs(truth))
        program = program.derivative()


@pytest.mark.parametrize(
    ("expr", "at", "value"),
    [
        (sp.log(1 + sp.exp(X)), 800.0, 800.0),
        (sp.log(sp.exp(X) + sp.exp(-X)), -800.0, 800.0),
        (sp.log(sp.cosh(X)), 1000.0, 1000.0 - np.log(2.0)),
        (X / (1 + sp.exp(-X)), -800.0, 0.0),
        (sp.exp(X) / (1 + sp.exp(X)), 900.0, 1.0),
        (X * sp.tanh(sp.log(1 + sp.exp(X))), 800.0, 800.0),
        (sp.exp(-X) / (1 + sp.exp(-X)) ** 2, -900.0, 0.0),
    ],
    ids=str,
)
def test_no_overflow(expr, at, value):
    program = compile_expression(expr)
    assert program.run(FLOAT64, np.array([at]))[0] == pytest.approx(value, rel=1e-15, abs=1e-300)
    assert np.isfinite(program.derivative().run(FLOAT64, np.array([at])))[0]


@pytest.mark.parametrize(
    ("expr", "at"),
    [(1 + sp.erf(X), -9), (1 - sp.tanh(X) ** 2, 30), (sp.exp(X) - 1, sp.Rational(1, 10**12)), (1 + sp.tanh(X), -40)],
    ids=str,
)
def test_no_cancellation(expr, at):
    truth = float(expr.subs(X, at).evalf(40, maxn=400))
    assert compile_expression(expr).run(FLOAT64, np.array([float(at)]))[0] == pytest.approx(truth, rel=1e-13)


def test_unsupported_functions_are_refused_by_name():
    with pytest.raises(ActivationError, match="gamma is not supported"):
        compile_expression(sp.gamma(X))


def test_a_constant_program_takes_the_shape_of_its_argument():
    program = compile_expression(sp.Integer(3))
    assert program.is_constant
    assert program.run(FLOAT64, np.zeros((2, 3))).shape == (2, 3)
