"""Identities of phi and phi' themselves: every arithmetic gives the same function."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import mpmath
import numpy as np

from equikernel.numerics.arithmetic import RELATIVE_TOLERANCE
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.validation.identities import EPS, Identity, Measured, Point, Subject

__all__ = ["FUNCTION_IDENTITIES"]

_DIGITS = 60
_STEP = mpmath.mpf(10) ** -18  # of the difference quotients: truncation 1e-36, rounding 1e-42
_INPUT_ULPS = 8.0 * EPS / 2.0  # numpy functions may err by what moving x by so much changes
_TINY = 1e-290  # relative accuracy ends near the smallest float64 numbers
_HUGE = 1.7e308
_FLOAT64_DIGITS = 15  # mpmath's 15 digits are 53 bits
_ROUNDING_FACTOR = 16.0  # a library's elementary functions err by a few units where mpmath's err by half of one


def _grid(subject: Subject) -> list[Point]:
    """A dense grid to +-40, the breakpoints and both their sides, and random points."""
    near = [
        point
        for b in subject.breakpoints
        for point in (b, np.nextafter(b, -math.inf), np.nextafter(b, math.inf), b - 1e-6, b + 1e-6, -b)
    ]
    tiny = [sign * 10.0**-k for k in (3, 8, 15) for sign in (-1, 1)]
    random = 3.0 * subject.generator("grid").standard_normal(subject.examples)
    points = [*np.linspace(-40.0, 40.0, 161), *tiny, *near, *random]
    return [{"x": float(x)} for x in points]


def _value(subject: Subject, x: Any, digits: int = _DIGITS) -> Any:
    return subject.activation.function("mpmath", digits=digits)(x)


def _compare(got: float, truth: Any, tolerance: float, what: str) -> Measured:
    """The distance of a float64 value from the truth, which may lie beyond float64's range."""
    if abs(truth) > _HUGE:
        agrees = math.isinf(got) and (got > 0) == (truth > 0)
        return Measured(0.0 if agrees else math.inf, _TINY, what)
    return Measured(float(abs(got - truth)) if math.isfinite(got) else math.inf, tolerance, what)


def _float64(subject: Subject, point: Point) -> Measured:
    x = point["x"]
    truth = _value(subject, x, 30)
    slope = subject.activation.derivative("mpmath", digits=15)(x)
    tolerance = float(RELATIVE_TOLERANCE * abs(truth) + _INPUT_ULPS * abs(x * slope)) + _TINY
    got = float(subject.activation.function("numpy")(x))
    return _compare(got, truth, tolerance, f"numpy {got!r}, mpmath {mpmath.nstr(truth, 20)}")


def _torch(subject: Subject, point: Point) -> Measured:
    import torch

    x = point["x"]
    truth = _value(subject, x, 30)
    got = float(subject.activation.function("torch")(torch.tensor(x, dtype=torch.float64)))
    return _compare(got, truth, _plain_rounding(subject, x, truth), f"torch {got!r}, mpmath {mpmath.nstr(truth, 20)}")


def _plain_rounding(subject: Subject, x: float, truth: Any) -> float:
    """What 53 bits lose on the program as compiled: seen in mpmath at x and its neighbours, times a margin."""
    plain, program = mp_arithmetic(_FLOAT64_DIGITS), subject.activation.program
    losses = [_INPUT_ULPS * abs(x * subject.activation.derivative("mpmath", digits=15)(x))]
    for ulps in range(-4, 5):
        neighbour = x + ulps * float(np.spacing(abs(x)))
        if (neighbour - x) * ulps < 0 or any(min(x, neighbour) <= b <= max(x, neighbour) for b in subject.breakpoints):
            continue
        losses.append(abs(program.run(plain, plain.context.mpf(neighbour)) - _value(subject, neighbour, 30)))
    return float(_ROUNDING_FACTOR * (max(losses) + EPS * abs(truth))) + _TINY


def _derivative_points(subject: Subject) -> list[Point]:
    gap = 1e-12
    return [p for p in _grid(subject) if all(abs(p["x"] - b) > gap * (1 + abs(b)) for b in subject.breakpoints)]


def _derivative(subject: Subject, point: Point) -> Measured:
    x = mp_arithmetic(_DIGITS).context.mpf(point["x"])
    h = _STEP
    middle = _value(subject, x)
    near = [_value(subject, x + k * h) for k in (-2, -1, 1, 2)]
    quotient, wide = (near[2] - near[1]) / (2 * h), (near[3] - near[0]) / (4 * h)
    bend = (near[2] - 2 * middle + near[1]) / (h * h)
    rounding = mpmath.mpf(10) ** (2 - _DIGITS) * max(abs(v) for v in (middle, *near)) / h
    allowed = RELATIVE_TOLERANCE * abs(quotient) + _INPUT_ULPS * abs(x * bend) + abs(quotient - wide) + rounding
    got = float(subject.activation.derivative("numpy")(point["x"]))
    what = f"derivative {got!r}, difference quotient {mpmath.nstr(quotient, 20)}"
    return _compare(got, quotient, float(allowed) + _TINY, what)


def _torch_points(subject: Subject) -> list[Point]:
    return _grid(subject) if importlib.util.find_spec("torch") is not None else []


FUNCTION_IDENTITIES = (
    Identity("numpy = mpmath", "phi(x) in float64 and in 30 digits agree, |x| <= 40 and breakpoints", _grid, _float64),
    Identity("torch = mpmath", "phi(x) in torch (float64) and in 30 digits agree to rounding", _torch_points, _torch),
    Identity(
        "derivative",
        "phi'(x) = (phi(x + h) - phi(x - h))/(2 h) in 60 digits, h = 1e-18",
        _derivative_points,
        _derivative,
    ),
)
