"""The arithmetics programs run in: float64 arrays, float64 with running error bounds, and mpmath numbers.

float64 alone cannot tell when a user's expression cancelled or overflowed. ``numpy_function`` therefore runs the
program with first-order running error bounds and recomputes, in as many digits as it takes, the points where the bound
exceeds ``RELATIVE_TOLERANCE``; well-written activations never need it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import scipy.special
import sympy as sp

from equikernel.errors import AccuracyError
from equikernel.theory.multiprecision import mp_arithmetic, sympy_to_mpf
from equikernel.theory.piecewise import PiecewiseProgram
from equikernel.theory.program import Operators, Program
from equikernel.theory.roots import Breakpoint

__all__ = [
    "FLOAT64",
    "Float64Arithmetic",
    "bounded_float64",
    "mpmath_function",
    "numpy_function",
]

FloatArray = npt.NDArray[np.float64]

UNIT_ROUNDOFF = 2.0**-53
RELATIVE_TOLERANCE = 3e-14
_INPUT_ULPS = 8.0
_UNDERFLOW = 1e-290  # relative accuracy ends near the smallest float64 numbers
_MOST_REPAIRS = 20_000
_MAX_BITS = 6400


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _log_cosh(x: Any) -> Any:
    # near zero log cosh x = log1p(2 sinh(x/2)^2) keeps relative accuracy, far away |x| - log 2 does
    a = np.abs(x)
    small = np.minimum(a, 1.0)
    return np.where(a < 1.0, np.log1p(2.0 * np.sinh(0.5 * small) ** 2), a + np.log1p(np.exp(-2.0 * a)) - np.log(2.0))


def _sech2(x: Any) -> Any:
    e = np.exp(-2.0 * np.abs(x))
    return 4.0 * e / (1.0 + e) ** 2


_NUMPY_UNARY: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "sech2": _sech2,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "sigmoid": scipy.special.expit,
    "softplus": _softplus,
    "log_cosh": _log_cosh,
}


class Float64Arithmetic(Operators):
    """Plain float64 arrays."""

    def __init__(self) -> None:
        self._constants: dict[sp.Expr, float] = {}

    def constant(self, value: sp.Expr) -> float:
        if value not in self._constants:
            self._constants[value] = float(sympy_to_mpf(value, mp_arithmetic(25)))
        return self._constants[value]

    def unary(self, name: str) -> Callable[[Any], Any]:
        return _NUMPY_UNARY[name]

    def fill(self, x: Any, value: Any) -> Any:
        return np.full(np.shape(x), value)


FLOAT64 = Float64Arithmetic()


class _Bounded:
    """A float64 array with a first-order bound on its absolute error."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: Any) -> None:
        self.value = value
        self.error = error


# |f'(u)| from (u, f(u)), for carrying an error bound through f
_SLOPES: dict[str, Callable[[Any, Any], Any]] = {
    "exp": lambda u, v: v,
    "expm1": lambda u, v: v + 1.0,
    "log": lambda u, v: 1.0 / u,
    "log1p": lambda u, v: 1.0 / (1.0 + u),
    "sqrt": lambda u, v: 0.5 / v,
    "sin": lambda u, v: np.cos(u),
    "cos": lambda u, v: np.sin(u),
    "tan": lambda u, v: 1.0 + v * v,
    "sinh": lambda u, v: np.cosh(u),
    "cosh": lambda u, v: np.sinh(u),
    "tanh": lambda u, v: _sech2(u),
    "sech2": lambda u, v: 2.0 * np.tanh(u) * v,
    "atan": lambda u, v: 1.0 / (1.0 + u * u),
    "asinh": lambda u, v: 1.0 / np.sqrt(1.0 + u * u),
    "erf": lambda u, v: 1.1284 * np.exp(-u * u),
    "erfc": lambda u, v: 1.1284 * np.exp(-u * u),
    "sigmoid": lambda u, v: v * scipy.special.expit(-u),
    "softplus": lambda u, v: scipy.special.expit(u),
    "log_cosh": lambda u, v: np.tanh(u),
}
_ULPS = 4.0  # no other library function used here errs by more, in units of 2^-53 relative


class _BoundedArithmetic:
    """float64 arrays carrying running error bounds (first order)."""

    def constant(self, value: sp.Expr) -> _Bounded:
        number = FLOAT64.constant(value)
        exact = value.is_Rational and sp.Rational(number) == value
        return _Bounded(number, 0.0 if exact else abs(number) * UNIT_ROUNDOFF)

    def unary(self, name: str) -> Callable[[_Bounded], _Bounded]:
        function, slope = _NUMPY_UNARY[name], _SLOPES[name]

        def apply(a: _Bounded) -> _Bounded:
            value = function(a.value)
            # a finite value at an infinite argument is a limit (tanh, erf, 1/(1+e^u)): the overflow does no harm
            harmless = (a.error == 0.0) | (np.isinf(a.value) & np.isfinite(value))
            carried = np.where(harmless, 0.0, np.abs(slope(a.value, value)) * a.error)
            # scipy's erfc rounds u^2 before it exponentiates, where u > 0; beyond 28 it is 0
            ulps = _ULPS + np.clip(a.value, 0.0, 28.0) ** 2 if name == "erfc" else _ULPS
            if name == "log_cosh":  # the one function here that vanishes together with its slope
                carried = carried + a.error * a.error
            return _Bounded(value, carried + ulps * UNIT_ROUNDOFF * np.abs(value))

        return apply

    def _rounded(self, value: Any, error: Any) -> _Bounded:
        return _Bounded(value, error + UNIT_ROUNDOFF * np.abs(value))

    def add(self, a: _Bounded, b: _Bounded) -> _Bounded:
        return self._rounded(a.value + b.value, a.error + b.error)

    def mul(self, a: _Bounded, b: _Bounded) -> _Bounded:
        # the last term matters where both factors cancelled to zero
        error = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
        return self._rounded(a.value * b.value, error)

    def div(self, a: _Bounded, b: _Bounded) -> _Bounded:
        value = a.value / b.value
        error = (a.error + np.abs(value) * b.error) / np.maximum(np.abs(b.value) - b.error, 0.0)
        # a divisor that overflowed leaves less than |a|/1e308
        vanished = np.isinf(b.value) & np.isfinite(a.value)
        return self._rounded(value, np.where(vanished, np.abs(a.value) * 1e-308, error))

    def neg(self, a: _Bounded) -> _Bounded:
        return _Bounded(-a.value, a.error)

    def powi(self, a: _Bounded, n: int) -> _Bounded:
        value = a.value**n
        size = np.abs(a.value) + a.error
        return _Bounded(value, n * size ** (n - 1) * a.error + 2.0 * UNIT_ROUNDOFF * np.abs(value))

    def powr(self, a: _Bounded, exponent: _Bounded) -> _Bounded:
        value = a.value**exponent.value
        carried = np.where(a.error == 0.0, 0.0, np.abs(exponent.value * value / a.value) * a.error)
        # an inexact exponent moves the power by |log a| times its rounding
        log_base = np.abs(np.log(np.where(a.value > 0.0, a.value, 1.0)))
        return _Bounded(value, carried + (2.0 * UNIT_ROUNDOFF + log_base * exponent.error) * np.abs(value))

    def fill(self, x: _Bounded, value: _Bounded) -> _Bounded:
        shape = np.shape(x.value)
        return _Bounded(np.full(shape, value.value), np.full(shape, value.error))


_BOUNDED = _BoundedArithmetic()


def _accurate_point(program: Program, x: float) -> float:
    """One value of a program, rounded to float64: precision is raised until two levels agree to 60 bits."""
    previous = None
    bits = 100
    while bits <= _MAX_BITS:
        arithmetic = mp_arithmetic(int(bits * 0.30103))
        try:
            value = program.run(arithmetic, arithmetic.context.mpf(x))
        except OverflowError:
            return float("inf") if previous is None or previous > 0 else float("-inf")
        except (ZeroDivisionError, ValueError):
            return float("nan")
        # two zeros do not agree on anything: a tail may be absorbed twice
        if previous is not None and value != 0 and abs(value - previous) <= abs(value) * mpmath.mpf(2) ** -60:
            return float(value)
        previous = value
        bits *= 2
    # nothing but cancellation to the last bit: the value is zero to over a thousand digits
    return 0.0


Needed = Callable[[FloatArray, FloatArray], Any]


def bounded_float64(
    program: Program,
) -> Callable[[FloatArray, Needed | None], tuple[FloatArray, FloatArray]]:
    """A smooth program on float64 arrays: values, repaired in mpmath where they lost accuracy, and error bounds.

    A value counts as accurate when its error bound is below 3e-14 relative, or below the change that moving x by a few
    units of its last place makes (no float64 function of a float64 argument can promise more at sin(1e6 x)). The bounds
    are first-order running bounds.

    The function returned takes x and, as a second argument, None or a function of (values, errors) that says which
    values are worth repairing: for the others the error bound is the honest answer.
    """
    slope = program.derivative()

    def evaluate(x: FloatArray, needed: Needed | None = None) -> tuple[FloatArray, FloatArray]:
        with np.errstate(all="ignore"):
            run = program.run(_BOUNDED, _Bounded(x, 0.0))
            value = np.array(np.broadcast_to(run.value, x.shape), dtype=np.float64)
            error = np.array(np.broadcast_to(run.error, x.shape), dtype=np.float64)
            suspect = np.isfinite(x) & ~(error <= RELATIVE_TOLERANCE * np.abs(value) + _UNDERFLOW)
            if suspect.any():
                moved = _INPUT_ULPS * UNIT_ROUNDOFF * np.abs(x[suspect] * slope.run(FLOAT64, x[suspect]))
                suspect[suspect] = ~(error[suspect] <= moved)
            if needed is not None and suspect.any():
                suspect &= needed(value, error)
        repairs = np.flatnonzero(suspect)
        if len(repairs) > _MOST_REPAIRS:
            raise AccuracyError(
                f"the expression loses its accuracy in float64 at {len(repairs)} points (the first is "
                f"x = {x[repairs[0]]:.6g}); write it without cancellation, or evaluate it with accurate=False"
            )
        for i in repairs:
            value[i] = _accurate_point(program, float(x[i]))
            error[i] = UNIT_ROUNDOFF * abs(value[i])
        return value, error

    return evaluate


def _accurate_float64(program: Program) -> Callable[[FloatArray], FloatArray]:
    evaluate = bounded_float64(program)
    return lambda x: evaluate(x, None)[0]


def numpy_function(program: PiecewiseProgram, *, accurate: bool = True) -> Callable[[Any], Any]:
    """A vectorised float64 function.

    The error at a point is at most about 3e-14 relative, or what moving x by a few units of its last place would
    change, whichever is larger.

    With ``accurate=False`` the plain program runs without error bounds: faster on large arrays, and as accurate as
    the expression as written after the rewrites of ``theory.program``.
    """
    breaks = [_last_on_the_left(b) for b in program.breakpoints]
    values = [
        (float(b), float(v(mp_arithmetic(40))))
        for b, v in zip(program.breakpoints, program.values, strict=True)
        if float(b) == b.value(mp_arithmetic(40))
    ]
    functions = [_accurate_float64(p) if accurate else _plain_float64(p) for p in program.programs]

    def evaluate(x: Any) -> Any:
        array = np.asarray(x, dtype=np.float64)
        with np.errstate(all="ignore"):
            result = _select(array.ravel(), breaks, functions, values).reshape(array.shape)
        return float(result) if array.ndim == 0 else result

    return evaluate


def _plain_float64(program: Program) -> Callable[[FloatArray], FloatArray]:
    def evaluate(x: FloatArray) -> FloatArray:
        value: FloatArray = program.run(FLOAT64, x)
        return value

    return evaluate


def _last_on_the_left(at: Breakpoint) -> float:
    """The largest float64 that is not above the breakpoint."""
    nearest = float(at)
    return float(np.nextafter(nearest, -np.inf)) if nearest > at.value(mp_arithmetic(40)) else nearest


def _select(
    x: FloatArray,
    breaks: Sequence[float],
    functions: Sequence[Callable[[FloatArray], FloatArray]],
    values: Sequence[tuple[float, float]],
) -> FloatArray:
    """``functions[k]`` above ``breaks[k-1]`` up to ``breaks[k]``, single values where a breakpoint is a float."""
    if not breaks:
        return functions[0](x)
    result = np.empty_like(x)
    place = np.searchsorted(np.asarray(breaks), x, side="left")
    for k, function in enumerate(functions):
        inside = place == k
        if inside.any():
            result[inside] = function(x[inside])
    for at, value in values:
        result[x == at] = value
    result[np.isnan(x)] = np.nan
    return result


def mpmath_function(program: PiecewiseProgram, *, digits: int = 50) -> Callable[[Any], Any]:
    """A scalar function of mpmath numbers, correct to ``digits`` significant digits.

    The argument is taken exactly. Precision is raised until two levels agree, so that cancellation in the expression
    as written does not show.
    """

    def evaluate(x: Any) -> Any:
        previous = None
        work = digits + 10
        target = mpmath.mpf(10) ** (-digits - 2)
        while work <= 40 * digits + 4000:
            arithmetic = mp_arithmetic(work)
            value = program.run(arithmetic, arithmetic.number(x))
            if previous is not None and value != 0 and abs(value - previous) <= abs(value) * target:
                return mp_arithmetic(digits + 2).number(value)
            previous = value
            work *= 2
        return mp_arithmetic(digits + 2).context.zero

    return evaluate
