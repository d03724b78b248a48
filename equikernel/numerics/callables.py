"""Plain Python functions as activations of the float64 path: the exact kernels and the moments to 15 digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy as sp

from equikernel.arithmetics import ARITHMETICS
from equikernel.errors import InputError
from equikernel.numerics.arithmetic import UNIT_ROUNDOFF
from equikernel.numerics.callable_checks import check_declarations, check_slopes, check_values, measured_growth, smooth
from equikernel.numerics.elementwise import Elementwise
from equikernel.numerics.local_chebyshev import LocalChebyshev
from equikernel.numerics.values_only import ValuesOnly, any_shape
from equikernel.theory.activation import BoundedFunction
from equikernel.theory.roots import Breakpoint

__all__ = ["CallableActivation", "callable_activation"]

FloatArray = npt.NDArray[np.float64]

_ULPS = 8.0  # what values are taken to err by


class CallableActivation(ValuesOnly):
    """An activation given by a Python function; see ``callable_activation``.

    It has float64 values and nothing to derive from: what needs an expression (closed forms, certificates, more than
    15 digits, LaTeX) raises ``InputError``. Two are equal when they have the same function object and declarations.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        derivative: Callable[[Any], Any] | None,
        kinks: Iterable[float],
        jumps: Iterable[float],
        name: str | None,
        odd: bool,
    ) -> None:
        for given in (function, *(() if derivative is None else (derivative,))):
            if not callable(given):
                raise InputError(f"an activation's function and derivative must be callable; got {given!r}")
        self.name = name or str(getattr(function, "__name__", type(function).__name__)).strip("<>")
        self._given = (function, derivative)
        self._jumps = _points(jumps, "jumps")
        self._breaks = tuple(sorted({*_points(kinks, "kinks"), *self._jumps}))
        self._odd = bool(odd)
        self._phi = Elementwise(function, self.name)
        self._table = LocalChebyshev(self._phi, self._breaks)
        self._slope = None if derivative is None else Elementwise(derivative, f"the derivative of {self.name}")
        self.growth = measured_growth(self.name, self._phi)
        check_values(self.name, self._phi, self._breaks)
        check_declarations(self.name, self._phi, self._breaks, self._jumps, odd=odd)
        check_slopes(self.name, self._table, self._breaks, self._slope)

    def __repr__(self) -> str:
        return f"callable_activation({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        kinks = tuple(b for b in self._breaks if b not in self._jumps)
        return CallableActivation, (*self._given, kinks, self._jumps, self.name, self._odd)

    @property
    def _key(self) -> tuple[Any, ...]:
        return (*(id(f) for f in self._given), self._breaks, self._jumps, self._odd)

    def _no_expression(self) -> InputError:
        return InputError(
            f"{self.name} is a Python function, known by its float64 values alone: for closed forms, proofs, designs, "
            'text, and more than 15 digits, give it as an expression, such as activation("x*tanh(x)")'
        )

    @cached_property
    def breakpoints(self) -> tuple[Breakpoint, ...]:
        return tuple(Breakpoint(sp.Rational(repr(b))) for b in self._breaks)

    @cached_property
    def jumps(self) -> tuple[Breakpoint, ...]:
        return tuple(b for b in self.breakpoints if float(b) in self._jumps)

    @cached_property
    def has_square_integrable_derivative(self) -> bool:
        """Whether no jumps were declared: steeper kinks are refused when it is made."""
        return not self._jumps

    @cached_property
    def parity(self) -> str | None:
        """None: nothing can be proved of a function."""
        return None

    @cached_property
    def odd_up_to_constant(self) -> bool:
        """Whether it was declared so."""
        return self._odd

    def function(self, arithmetic: str = "numpy", *, accurate: bool = True, **options: Any) -> Callable[[Any], Any]:
        """The function on float64 numbers or arrays of any shape.

        With ``accurate=False`` one that takes no arrays is replaced by its interpolant, within about 1e-15 of the
        largest value nearby, which is faster.

        Raises:
            InputError: another arithmetic than "numpy".
        """
        self._require_float64(arithmetic, options)
        return any_shape(self._phi if accurate or self._phi.takes_arrays else self._interpolant)

    def derivative(self, arithmetic: str = "numpy", *, accurate: bool = True, **options: Any) -> Callable[[Any], Any]:
        """Phi', given or of the interpolant; at a breakpoint, the mean of the one-sided derivatives."""
        self._require_float64(arithmetic, options)
        return any_shape(self._mean_slopes)

    def float64_piece(self, k: int) -> tuple[BoundedFunction, BoundedFunction]:
        # there is nothing to repair values with
        return lambda x, _: self._bounded(self._phi, x), lambda x, _: self._slopes(x)

    def _interpolant(self, x: FloatArray) -> FloatArray:
        with smooth(self.name):
            value = self._table.values(x)
        unknown = np.isnan(value)
        if unknown.any():
            value[unknown] = self._phi(x[unknown])
        return value

    def _bounded(self, function: Elementwise, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values and what they are taken to err by."""
        value = function(x)
        return value, _ULPS * UNIT_ROUNDOFF * np.abs(value)

    def _slopes(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Phi' and error bounds away from the breakpoints."""
        if self._slope is not None:
            return self._bounded(self._slope, x)
        with smooth(self.name):
            return self._table.slopes(x)

    def _mean_slopes(self, x: FloatArray) -> FloatArray:
        value = self._slopes(x)[0]
        for b, mean in self._slopes_at_breaks:
            value[x == b] = mean
        return value

    @cached_property
    def _slopes_at_breaks(self) -> tuple[tuple[float, float], ...]:
        sides = [self._slopes(np.nextafter(b, [-math.inf, math.inf]))[0] for b in self._breaks]
        return tuple((b, float(np.mean(side))) for b, side in zip(self._breaks, sides, strict=True))

    def _require_float64(self, arithmetic: str, options: dict[str, Any]) -> None:
        if arithmetic in ARITHMETICS and arithmetic != "numpy":
            raise self._no_expression()
        if arithmetic != "numpy" or options:
            got = ", ".join([repr(arithmetic), *options])
            raise InputError(
                f'of a Python function there is the arithmetic "numpy", with the option accurate; got {got}'
            )


def _points(values: Any, what: str) -> tuple[float, ...]:
    """Declared points as increasing floats."""
    try:
        points = np.array(list(values) if isinstance(values, Iterable) else [values], dtype=np.float64)
    except (TypeError, ValueError):
        points = np.array([math.nan])
    if not np.isfinite(points).all():
        raise InputError(f"{what} must be finite numbers, such as {what}=(0.0,); got {values!r}")
    return tuple(float(p) for p in np.unique(points) + 0.0)


def callable_activation(
    function: Callable[[Any], Any],
    *,
    derivative: Callable[[Any], Any] | None = None,
    kinks: Iterable[float] = (),
    jumps: Iterable[float] = (),
    name: str | None = None,
    odd: bool = False,
) -> CallableActivation:
    """An activation from a Python function, for the exact kernels and float64 moments.

    It stands wherever these take an activation: ``DEQ(callable_activation(f))``, ``ExplicitNetwork.of(...)``. Results
    are as accurate as the function's values: they are taken to be right to a few units of the last place.

    Without ``derivative``, phi' is that of Chebyshev interpolants between the kinks. Accuracy where phi varies on
    scales of about 1: 1e-14 of the largest |phi'| nearby in the mean, 5e-13 at worst.

    Args:
        function: from a float64 array to an array of the same shape, or from a float to a float (slower).
        derivative: phi', in the same way; compared with the function's slope at 400 points.
        kinks: where phi is continuous and phi or a derivative is not smooth. Values there are the function's own.
        jumps: where phi jumps; then it has no neural tangent kernel.
        name: how to call it; by default the function's name.
        odd: whether phi - c is odd for some constant c. Checked; samples x and -x then share their work.

    >>> import numpy as np
    >>> leaky = callable_activation(lambda x: np.maximum(x, 0.1 * x), kinks=(0,), name="leaky")
    >>> leaky.derivative()(np.array([-1.0, 0.0, 1.0])).round(12).tolist()
    [0.1, 0.55, 1.0]

    Raises:
        ActivationError: values that are NaN, infinite, complex or not float64, not one for each number, or constant;
            growth like exp(x^2); a kink, jump or other singularity in |x| < 32 that is not declared; declarations or
            a derivative that the values contradict.
        InputError: arguments of the wrong kind.
    """
    return CallableActivation(function, derivative, kinks, jumps, name, odd)
