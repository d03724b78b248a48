r"""Activations given by Hermite coefficients: sigma(t) = sum_k c_k he_k(t/tau), he_k = He_k/sqrt(k!) orthonormal.

They are evaluated by Clenshaw's recurrence: with x = t/tau and he_(k+1) = (x he_k - sqrt(k) he_(k-1))/sqrt(k + 1),

    b_k = c_k + x b_(k+1)/sqrt(k + 1) - sqrt((k + 1)/(k + 2)) b_(k+2),    sigma = b_0,

in which nothing is larger than the Hermite functions themselves: |he_k(x)| <= e^(x^2/4), up to a factor k^(-1/4) where
he_k oscillates, |x| < 2 sqrt(k).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import ActivationError, InputError
from equikernel.numerics.arithmetic import FLOAT64
from equikernel.numerics.values_only import ValuesOnly, any_shape
from equikernel.theory.activation import Growth, constant_activation
from equikernel.theory.multiprecision import MpArithmetic
from equikernel.theory.piecewise import PiecewiseProgram
from equikernel.theory.program import Program
from equikernel.theory.roots import Breakpoint

__all__ = ["MAX_DEGREE", "HermiteProgram", "HermiteSeries"]

FloatArray = npt.NDArray[np.float64]

MAX_DEGREE = 4000
_CHUNK = 4096  # numbers that go through the recurrence together: what stays in the cache


class HermiteProgram(Program):
    """A derivative of sum_k c_k he_k(t/tau) as a program: of tensors, mpmath numbers and float64 arrays alike.

    sigma^(m)(t) = tau^-m sum_(k >= m) sqrt(k!/(k - m)!) c_k he_(k-m)(t/tau).

    Args:
        coefficients: c_0 .. c_N.
        scale: tau, a standard deviation.
        order: m.
    """

    def __init__(self, coefficients: tuple[float, ...], scale: float, order: int = 0) -> None:
        super().__init__((), 0)
        self._given = (coefficients, scale, order)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HermiteProgram) and self._given == other._given

    def __hash__(self) -> int:
        return hash(self._given)

    @cached_property
    def is_constant(self) -> bool:
        """False: the recurrence gives its result the shape of x."""
        return False

    def derivative(self) -> HermiteProgram:
        """The next derivative."""
        coefficients, scale, order = self._given
        return HermiteProgram(coefficients, scale, order + 1)

    @cached_property
    def _floats(self) -> tuple[float, list[float], list[float], list[float]]:
        return self._numbers(float, math.sqrt)

    def run(self, arithmetic: Any, x: Any) -> Any:
        """Values at x; in mpmath with the digits of its context, else with float64 constants."""
        if isinstance(arithmetic, MpArithmetic):
            tau, c, gains, losses = self._numbers(arithmetic.context.mpf, arithmetic.context.sqrt)
        else:
            tau, c, gains, losses = self._floats
        x = x / tau
        after, current = 0.0 * x, 0.0 * x + c[-1]
        for k in range(len(c) - 2, -1, -1):
            after, current = current, c[k] + gains[k] * x * current - losses[k] * after
        return current

    def _numbers(self, number: Any, root: Any) -> tuple[Any, list[Any], list[Any], list[Any]]:
        """tau, the coefficients of he_0, he_1, .., 1/sqrt(k + 1) and sqrt((k + 1)/(k + 2))."""
        coefficients, scale, order = self._given
        tau = number(scale)
        c = [number(v) for v in coefficients]
        for _ in range(order):
            c = [root(number(k)) * c[k] / tau for k in range(1, len(c))] or [number(0)]
        gains = [1 / root(number(k + 1)) for k in range(len(c))]
        losses = [root(number(k + 1) / (k + 2)) for k in range(len(c))]
        return tau, c, gains, losses


class HermiteSeries(ValuesOnly):
    """The activation sigma(t) = sum_k c_k he_k(t/tau), a polynomial in a form that float64 can evaluate.

    It stands wherever the float64 path takes an activation, and its Gaussian moments, Hermite coefficients at any
    scale and dual activations are in closed form (``numerics.hermite_scales``).

    Accuracy of its values: some units of the last place of max_k |c_k he_k(x)| times sqrt(N), x = t/tau; |x| <= 8 costs
    nothing more. Far out it is a polynomial of degree N: where it exceeds the floats (|x| > 50 at least), it is
    infinite or NaN.

    Args:
        coefficients: c_0 .. c_N, N from 1 to 4000; trailing zeros are dropped.
        scale: tau, a standard deviation.
        name: how to call it.

    >>> kink = HermiteSeries([0.0, 1.0, 0.5], scale=2.0)  # t/2 + ((t/2)^2 - 1)/(2 sqrt 2)
    >>> kink(4.0) == 2.0 + 3.0 / (2.0 * 2.0**0.5)
    True

    Raises:
        ActivationError: coefficients that are not finite numbers, too many, or none but c_0.
        InputError: a scale that is not positive and finite.
    """

    def __init__(self, coefficients: Sequence[float] | FloatArray, scale: Any = 1.0, name: str | None = None) -> None:
        self.coefficients = _checked(coefficients)
        if not (isinstance(scale, int | float) and math.isfinite(scale) and scale > 0):
            raise InputError(
                f"the scale of a Hermite series must be a positive finite standard deviation; got {scale!r}"
            )
        self.scale = float(scale)
        self.name = name or f"hermite_series({self.degree})"
        if not self.degree:
            raise constant_activation(self.name, self.coefficients[0])
        self.growth = Growth(0.0, float(self.degree))

    def __repr__(self) -> str:
        return f"HermiteSeries({self.name!r}, degree={self.degree}, scale={self.scale!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return HermiteSeries, (self.coefficients, self.scale, self.name)

    @property
    def degree(self) -> int:
        """N, the largest k with c_k != 0."""
        return len(self.coefficients) - 1

    @cached_property
    def array(self) -> FloatArray:
        """c_0 .. c_N as a read-only array."""
        array = np.array(self.coefficients)
        array.flags.writeable = False
        return array

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.coefficients, self.scale

    def _no_expression(self) -> InputError:
        return InputError(
            f"{self.name} is given by Hermite coefficients, {self.degree + 1} floats: it has values, moments of "
            "15 digits and exact kernels, and no expression in x for closed forms, proofs or more digits"
        )

    @property
    def breakpoints(self) -> tuple[Breakpoint, ...]:
        return ()

    @property
    def jumps(self) -> tuple[Breakpoint, ...]:
        return ()

    @property
    def has_square_integrable_derivative(self) -> bool:
        """True: it is a polynomial."""
        return True

    @cached_property
    def parity(self) -> str | None:
        """Even or odd when all other coefficients are exactly zero."""
        if not any(self.coefficients[1::2]):
            return "even"
        return None if any(self.coefficients[::2]) else "odd"

    @cached_property
    def odd_up_to_constant(self) -> bool:
        """Whether c_2 = c_4 = .. = 0 exactly."""
        return not any(self.coefficients[2::2])

    @cached_property
    def program(self) -> PiecewiseProgram:
        """The recurrence as one piece without ends."""
        return PiecewiseProgram((), (HermiteProgram(self.coefficients, self.scale),), ())

    def function(self, arithmetic: str = "numpy", **options: Any) -> Callable[[Any], Any]:
        """Sigma as a function: "numpy" (float64, vectorised), "mpmath" (``digits=50``) or "torch".

        Raises:
            InputError: unknown arithmetic.
        """
        return _float64(self.program) if arithmetic == "numpy" else super().function(arithmetic, **options)

    def derivative(self, arithmetic: str = "numpy", **options: Any) -> Callable[[Any], Any]:
        """Sigma' = sum_k sqrt(k) c_k he_(k-1)(t/tau)/tau as a function."""
        return _float64(self.derivative_program) if arithmetic == "numpy" else super().derivative(arithmetic, **options)

    def latex(self, digits: int | None = None) -> str:
        """sigma(x) as LaTeX: the sum, not its terms."""
        return rf"\sum_{{k=0}}^{{{self.degree}}} c_k\,\mathrm{{he}}_k\!\left(x/{self.scale!r}\right)"

    @property
    def record(self) -> dict[str, Any]:
        """{"hermite": coefficients and scale}: the text alone would not do."""
        return {"hermite": self.to_record()}

    def to_record(self) -> dict[str, Any]:
        """Plain JSON types: the coefficients c_0 .. c_N and the scale, to the last bit."""
        return {"coefficients": list(self.coefficients), "scale": self.scale}

    @classmethod
    def from_record(cls, record: Any, name: str | None = None) -> HermiteSeries:
        """A series from what ``to_record`` gives.

        Raises:
            InputError, ActivationError: something else.
        """
        if not isinstance(record, dict) or set(record) != {"coefficients", "scale"}:
            raise InputError(
                f'a Hermite series must be an object with "coefficients" and "scale"; got {str(record)[:60]}'
            )
        return cls(record["coefficients"], record["scale"], name)


def _checked(coefficients: Any) -> tuple[float, ...]:
    """c_0 .. c_N as floats, without trailing zeros."""
    try:
        given = np.asarray(coefficients)
        array = given.astype(np.float64) + 0.0 if given.dtype.kind in "iuf" else np.array(math.nan)
    except (TypeError, ValueError):
        array = np.array(math.nan)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ActivationError(
            f"the coefficients of a Hermite series must be a list of finite numbers c_0, c_1, ..; got "
            f"{str(coefficients)[:60]}"
        )
    length = max(int(np.flatnonzero(array).max(initial=0)) + 1, 1)
    if length > MAX_DEGREE + 1:
        raise ActivationError(f"a Hermite series may have degree {MAX_DEGREE} at most; got {length - 1}")
    return tuple(array[:length].tolist())


def _float64(program: PiecewiseProgram) -> Callable[[Any], Any]:
    """The recurrence on float64 numbers and arrays of any shape."""
    recurrence = program.programs[0]

    def evaluate(x: FloatArray) -> FloatArray:
        result = np.empty_like(x)
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            with np.errstate(all="ignore"):
                result[part] = recurrence.run(FLOAT64, x[part])
        return result

    return any_shape(evaluate)
