"""What is checked of a Python function before it is an activation: values, growth, smoothness and declarations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from equikernel.errors import ActivationError
from equikernel.numerics.local_chebyshev import CENTRAL, LocalChebyshev, NotSmoothError
from equikernel.theory.activation import Growth, constant_activation

__all__ = ["check_declarations", "check_slopes", "check_values", "measured_growth", "smooth"]

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

_FARTHEST = 1e4
_EXPLAINED = 300.0  # log|phi| from which it may well overflow soon
_PROBES = np.unique(np.concatenate([0.5 * np.arange(-16, 17), CENTRAL * np.sin(np.arange(1.0, 400.0))]))
_RADII = (1.0 + 0.0137 * np.arange(6)) / (1.0 + 5 * 0.0137)
_JUMP = 1e-9  # of the size of phi nearby
_WRONG_SLOPE = 1e-6  # of the largest slope nearby
_ASYMMETRY = 1e-12


@contextmanager
def smooth(name: str) -> Iterator[None]:
    """Say what to do about a function that local interpolants cannot resolve."""
    try:
        yield
    except NotSmoothError as error:
        if error.beside is not None:
            raise ActivationError(
                f"{name} is not smooth up to its breakpoint x = {error.beside:g} (it has a root or a power there, "
                "another kink beside, or errors far above rounding): give it as an expression, such as "
                'activation("max(x,0)**1.5")'
            ) from None
        at = round(error.at, 5) + 0.0
        if error.everywhere:
            raise ActivationError(
                f"{name} cannot be resolved around x = {at:g}: its values have errors far above rounding, or it varies "
                "on scales below 0.01; compute it to float64 accuracy, or rescale it"
            ) from None
        raise ActivationError(
            f"{name} is not smooth near x = {at:g}: declare its kinks, as in kinks=({at:g},), and its jumps; if it has "
            "neither there, its values have errors far above rounding, or features narrower than 1e-5"
        ) from None


def measured_growth(name: str, phi: Function) -> Growth:
    """Growth from |phi| up to x = 10^4, or up to where it overflows.

    Raises:
        ActivationError: NaN, infinite values that growth does not explain, or growth like exp(x^2).
    """
    reach, overflow = _FARTHEST, None
    while True:
        x = reach * np.concatenate([_RADII, -_RADII])
        values = np.abs(phi(x))
        if np.isnan(values).any():
            raise _undefined(name, x[np.isnan(values)][0], math.nan)
        if np.isfinite(values).all():
            break
        overflow = x[np.isinf(values)][0]
        reach *= 2.0**-0.25
    sizes = [float(np.max(np.abs(phi(x * scale)))) for scale in (0.01, 0.1, 1.0)]
    logs = [math.log(size) if size > 0.0 else 0.0 for size in sizes]
    growth = Growth.of(logs, reach)
    if overflow is not None and logs[-1] < _EXPLAINED:
        raise _undefined(name, overflow, math.inf)
    return growth


def check_values(name: str, phi: Function, breakpoints: Sequence[float]) -> None:
    """Refuse what is not finite near the origin, and constants.

    Raises:
        ActivationError: names the point.
    """
    x = np.concatenate([_PROBES, breakpoints])
    values = phi(x)
    bad = ~np.isfinite(values)
    if bad.any():
        raise _undefined(name, x[bad][0], values[bad][0])
    if np.ptp(values) == 0.0:
        raise constant_activation(name, values[0])


def _undefined(name: str, x: float, value: float) -> ActivationError:
    return ActivationError(
        f"{name} is {value:g} at x = {x:.6g}: an activation must be finite for every x; write it so that it neither "
        "overflows nor divides by zero, such as logaddexp(0, x) for log(1 + exp(x))"
    )


def check_slopes(name: str, table: LocalChebyshev, breakpoints: Sequence[float], derivative: Function | None) -> None:
    """Refuse kinks near the origin that are not declared, and a derivative that is not the function's.

    Raises:
        ActivationError: names the point.
    """
    x = np.setdiff1d(_PROBES, breakpoints)
    with smooth(name):
        slope, error = table.slopes(x)
    if derivative is None:
        return
    given = derivative(x)
    size = np.maximum(np.abs(slope), np.max(np.abs(slope[np.abs(x) <= 2.0])))
    excess = np.nan_to_num((np.abs(given - slope) - error) / size, nan=math.inf)
    worst = int(np.argmax(excess))
    if excess[worst] > _WRONG_SLOPE:
        raise ActivationError(
            f"the derivative given for {name} is {given[worst]:.9g} at x = {x[worst]:.6g}, where the function's slope "
            f"is {slope[worst]:.9g}: correct it, or leave it out"
        )


def check_declarations(
    name: str, phi: Function, breakpoints: Sequence[float], jumps: Sequence[float], *, odd: bool
) -> None:
    """Refuse jumps declared as kinks, and what is declared odd and is not.

    Raises:
        ActivationError: names the point.
    """
    for b in breakpoints:
        near = phi(b + np.linspace(-1.0, 1.0, 8))
        left, right = phi(np.nextafter(b, [-math.inf, math.inf]))
        if b not in jumps and not abs(left - right) <= _JUMP * np.max(np.abs(near)):
            raise ActivationError(
                f"{name} jumps from {left:.6g} to {right:.6g} at x = {b:g}: declare it in jumps, not in kinks"
            )
    if not odd:
        return
    x = np.setdiff1d(_PROBES[_PROBES > 0.0], np.abs(breakpoints))
    right, left = phi(x), phi(-x)
    total = right + left
    unequal = np.abs(total - total[0]) > _ASYMMETRY * np.max(np.abs(left) + np.abs(right))
    if unequal.any():
        raise ActivationError(
            f"{name} is declared odd up to a constant, but phi(x) + phi(-x) is {total[0]:.9g} at x = {x[0]:.6g} and "
            f"{total[unequal][0]:.9g} at x = {x[unequal][0]:.6g}"
        )
