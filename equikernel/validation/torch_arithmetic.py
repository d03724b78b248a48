"""torch as an arithmetic for programs: differentiable activations for tensors of any float type on any device.

The gradient of phi is not traced through the operations of its program: backward evaluates the derivative program, so
that autograd gives phi' itself, whatever overflows on a branch not taken. Graphs made by ``torch.export``,
``torch.jit.trace`` and ``torch.compile`` hold nothing but operations; in them phi is written so that going back through
the operations gives phi' too. torch is imported with this module, which ``equikernel.arithmetics`` names and only
``Activation.function("torch")`` and the finite-width networks load.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

from equikernel.errors import InputError

try:
    import torch
except ModuleNotFoundError as error:
    raise InputError(
        "networks and activations in torch need the package torch, which is not installed: "
        'pip install "equikernel[torch]"'
    ) from error

from equikernel.numerics.arithmetic import Float64Arithmetic
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.piecewise import PiecewiseProgram

__all__ = ["TorchArithmetic", "is_tracing", "torch_function"]

Tensor = torch.Tensor


def _softplus(x: Tensor) -> Tensor:
    # torch.nn.functional.softplus returns x itself above a threshold; this is max(x, 0) + log1p(exp(-|x|))
    return -torch.nn.functional.logsigmoid(-x)


def _log_cosh(x: Tensor) -> Tensor:
    # near zero log cosh x = log1p(2 sinh(x/2)^2) keeps relative accuracy, far away |x| - log 2 does
    a = x.abs()
    near = torch.log1p(2.0 * torch.sinh(0.5 * a.clamp(max=1.0)) ** 2)
    return torch.where(a < 1.0, near, a + (torch.log1p(torch.exp(-2.0 * a)) - 0.6931471805599453))


def _sech2(x: Tensor) -> Tensor:
    e = torch.exp(-2.0 * x.abs())
    return 4.0 * e / (1.0 + e) ** 2


_TORCH_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "sech2": _sech2,
    "atan": torch.atan,
    "asinh": torch.asinh,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "sigmoid": torch.sigmoid,
    "softplus": _softplus,
    "log_cosh": _log_cosh,
}


class TorchArithmetic(Float64Arithmetic):
    """Tensors; constants are Python numbers, which take the type and device of the tensor they meet."""

    def unary(self, name: str) -> Callable[[Any], Any]:
        return _TORCH_UNARY[name]

    def fill(self, x: Any, value: Any) -> Any:
        return torch.full_like(x, value)


TORCH = TorchArithmetic()


class _Break(NamedTuple):
    """A breakpoint rounded to a tensor's type, how the rounding went, and the activation's value where it is exact."""

    point: float
    rounded_up: bool
    value: float | None

    def left_of(self, x: Tensor) -> Tensor:
        """Where x lies to the left of the exact breakpoint, or on it."""
        return x < self.point if self.rounded_up else x <= self.point


class _TorchFunction:
    """A piecewise program on tensors, and its derivative made when first asked for."""

    def __init__(self, program: PiecewiseProgram) -> None:
        self._program = program
        self._breaks: dict[torch.dtype, list[_Break]] = {}

    @cached_property
    def derivative(self) -> _TorchFunction:
        return _TorchFunction(self._program.derivative())

    def rounded_breaks(self, dtype: torch.dtype) -> list[_Break]:
        if dtype not in self._breaks:
            arithmetic = mp_arithmetic(40)
            found = []
            for at, value in zip(self._program.breakpoints, self._program.values, strict=True):
                exact = at.value(arithmetic)
                point = float(torch.tensor(float(at), dtype=dtype))
                found.append(_Break(point, point > exact, float(value(arithmetic)) if point == exact else None))
            self._breaks[dtype] = found
        return self._breaks[dtype]

    def evaluate(self, x: Tensor) -> Tensor:
        """The values alone, unknown to autograd when called from a ``torch.autograd.Function``."""
        first, *others = self._program.programs
        result: Tensor = first.run(TORCH, x)
        for at, program in zip(self.rounded_breaks(x.dtype), others, strict=True):
            result = torch.where(at.left_of(x), result, program.run(TORCH, x))
            if at.value is not None:
                result = torch.where(x == at.point, at.value, result)
        # a comparison with NaN is false, which would turn it into the value of a constant last piece
        return torch.where(torch.isnan(x), x, result) if others else result

    def record(self, x: Tensor) -> Tensor:
        """The same values by operations that lead back to phi', for graphs, in which there is nothing else.

        Each piece is run on points of its own, and elsewhere on an inner one: an infinite slope of a piece that is not
        taken would make the gradient 0 * inf. A breakpoint that x can hit exactly has its value and its mean slope.
        """
        breaks, slopes = self.rounded_breaks(x.dtype), self.derivative.rounded_breaks(x.dtype)
        if not breaks:
            return self.evaluate(x)
        points = [at.point for at in breaks]
        inner = [points[0] - 1.0, *((a + b) / 2.0 for a, b in itertools.pairwise(points)), points[-1] + 1.0]
        free, hits = x, []
        for at, slope in zip(breaks, slopes, strict=True):
            if at.value is not None:
                hit = x == at.point
                free = torch.where(hit, inner[0], free)
                finite = slope.value if slope.value is not None and math.isfinite(slope.value) else 0.0
                hits.append((hit, at.value + finite * (x - at.point)))
        left = [at.left_of(free) for at in breaks]
        first, *others = self._program.programs
        result: Tensor = first.run(TORCH, torch.where(left[0], free, inner[0]))
        for k, program in enumerate(others, 1):
            inside = ~left[k - 1] & left[k] if k < len(left) else ~left[k - 1]
            result = torch.where(left[k - 1], result, program.run(TORCH, torch.where(inside, free, inner[k])))
        for hit, line in hits:
            result = torch.where(hit, line, result)
        return torch.where(torch.isnan(x), x, result)

    def __call__(self, x: Any) -> Tensor:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            got = f"a tensor of {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__
            raise InputError(
                f"an activation in torch takes a tensor of a real floating type; got {got}: convert it first"
            )
        if is_tracing() or torch.compiler.is_compiling():
            return self.record(x)
        value: Tensor = _Differentiable.apply(x, self)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return value


class _Differentiable(torch.autograd.Function):
    """d phi = phi'(x) dx in reverse and in forward mode, under vmap too; phi' is differentiable in its turn."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, function: _TorchFunction) -> Tensor:
        value = function.evaluate(x)
        return value.clone() if value is x else value  # autograd forbids returning an input itself

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _TorchFunction], output: Tensor) -> None:  # noqa: ARG004 - torch's
        x, ctx.function = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * ctx.function.derivative(x), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (x,) = ctx.saved_tensors
        derivative: Tensor = ctx.function.derivative(x)
        return tangent * derivative


def is_tracing() -> bool:
    """Whether ``torch.jit.trace`` is recording."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]  # torch leaves it untyped


def torch_function(program: PiecewiseProgram) -> Callable[[Tensor], Tensor]:
    """A function x -> phi(x) of tensors, elementwise, in the tensor's own type and on its own device.

    Autograd, forward-mode differentiation, ``torch.func`` and higher derivatives give phi', phi'', ... away from the
    breakpoints, and the mean of the one-sided derivatives there. Accuracy: a few units of the last place times the
    condition of the program as compiled; unlike ``numpy_function``, nothing is recomputed in higher precision where
    an expression cancels.

    Args:
        program: ``Activation.program`` or ``Activation.derivative_program``.

    Raises:
        InputError: (the returned function) the argument is not a tensor of a real floating type.
    """
    return _TorchFunction(program)
