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
from typing import Any, NamedTuple, cast

from equikernel.errors import InputError
from equikernel.validation.torch_operations import TORCH, TorchArithmetic  # first: it says what to install

# isort: split
import torch

from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.piecewise import PiecewiseProgram
from equikernel.theory.program import Program

__all__ = ["TORCH", "TorchArithmetic", "is_tracing", "torch_function", "values_over"]

Tensor = torch.Tensor


class _Break(NamedTuple):
    """A breakpoint rounded to a tensor's type, how the rounding went, and the activation's value where it is exact."""

    point: float
    rounded_up: bool
    value: float | None

    def left_of(self, x: Tensor) -> Tensor:
        """Where x lies to the left of the exact breakpoint, or on it."""
        return x < self.point if self.rounded_up else x <= self.point

    def right_of(self, x: Tensor) -> Tensor:
        """Where x lies to the right of the exact breakpoint; like ``left_of``, nowhere for NaN."""
        return x >= self.point if self.rounded_up else x > self.point

    def neighbours(self, dtype: torch.dtype) -> Tensor:
        """The last number that belongs to the piece on the left, and the first one to that on the right."""
        at = torch.tensor(self.point, dtype=dtype)
        other = torch.nextafter(at, torch.tensor(-math.inf if self.rounded_up else math.inf, dtype=dtype))
        return torch.stack((other, at) if self.rounded_up else (at, other))


class _Clip(NamedTuple):
    """min(max(program, lower), upper), None for no bound; ``zero``: (x where x > lower, else lower), lower = 0."""

    program: Program
    lower: float | None
    upper: float | None
    zero: bool

    def evaluate(self, x: Tensor, *, overwrite: bool) -> Tensor:
        value: Tensor = self.program.run(TORCH, x)
        if value is x and not overwrite:
            value = torch.nn.functional.threshold(x, 0.0, 0.0) if self.zero else x.clamp(self.lower, self.upper)
        elif self.zero:
            value = torch.threshold_(value, 0.0, 0.0)
        else:
            value = value.clamp_(self.lower, self.upper)
        return value.clamp_(max=self.upper) if self.zero and self.upper is not None else value


class _Plan(NamedTuple):
    """What evaluation in one type can save without changing a bit.

    Attributes:
        clip: the whole function in one or two passes, where it is a clipped increasing line.
        pieces: constants as numbers, the others as programs.
        proper: a piece that is NaN where x is, None without one; NaN goes there.
        apart: whether the value at a breakpoint is not that of the piece on its left.
    """

    clip: _Clip | None
    pieces: tuple[Program | float, ...]
    proper: int | None
    apart: tuple[bool, ...]


class _TorchFunction:
    """A piecewise program on tensors, and its derivative made when first asked for."""

    def __init__(self, program: PiecewiseProgram) -> None:
        self._program = program
        self._breaks: dict[torch.dtype, list[_Break]] = {}
        self._plans: dict[torch.dtype, _Plan] = {}

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

    def plan(self, dtype: torch.dtype) -> _Plan:
        if dtype not in self._plans:
            programs, breaks = self._program.programs, self.rounded_breaks(dtype)
            probe = torch.tensor([0.0, math.nan], dtype=dtype)
            at_probe = [program.run(TORCH, probe) for program in programs]
            pieces = tuple(
                float(value[0]) if program.is_constant else program
                for program, value in zip(programs, at_probe, strict=True)
            )
            proper = next((k for k, value in enumerate(at_probe) if bool(value[1].isnan())), None)
            apart = tuple(_is_apart(at, program, dtype) for at, program in zip(breaks, programs, strict=False))
            clip = None if any(apart) else _clip(pieces, breaks, dtype)
            self._plans[dtype] = _Plan(clip, pieces, proper, apart)
        return self._plans[dtype]

    def evaluate(self, x: Tensor, *, overwrite: bool = False) -> Tensor:
        """The values alone, unknown to autograd when called from a ``torch.autograd.Function``.

        Args:
            x: any real floating type.
            overwrite: whether the values may be written over x, which is then what is returned or of no more use.
        """
        breaks = self.rounded_breaks(x.dtype)
        if not breaks:
            value: Tensor = self._program.programs[0].run(TORCH, x)
            return value
        plan = self.plan(x.dtype)
        if plan.clip is not None:
            return plan.clip.evaluate(x, overwrite=overwrite)
        first, *others = plan.pieces
        result = _values(first, x)
        for k, (at, piece) in enumerate(zip(breaks, others, strict=True)):
            other = piece if isinstance(piece, float) else piece.run(TORCH, x)
            # NaN, for which every comparison is false, goes to the proper piece
            if plan.proper is not None and k >= plan.proper:
                result = torch.where(at.right_of(x), other, result)
            else:
                result = torch.where(at.left_of(x), result, other)
            if plan.apart[k]:
                result = torch.where(x == at.point, cast("float", at.value), result)
        return torch.where(torch.isnan(x), x, result) if plan.proper is None else result

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


def _values(piece: Program | float, x: Tensor) -> Tensor:
    value: Tensor = torch.full_like(x, piece) if isinstance(piece, float) else piece.run(TORCH, x)
    return value


def _is_apart(at: _Break, left: Program, dtype: torch.dtype) -> bool:
    """Whether the value at a breakpoint that the type has may differ, by a bit, from that of the piece on its left."""
    if at.value is None:
        return False
    if not _is_exactly_rounded(left):
        return True  # an elementary function may be off by an ulp, on another device by another one
    points = torch.tensor([at.point, -at.point] if at.point == 0.0 else [at.point], dtype=dtype)
    return not _same_bits(left.run(TORCH, points), torch.full_like(points, at.value))


def _is_exactly_rounded(program: Program) -> bool:
    """Whether every operation is one that IEEE 754 defines to the bit."""
    return all(i.op in ("x", "const", "add", "mul", "div", "neg") for i in program.instructions)


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) & (a.signbit() == b.signbit())).all())


def _clip(pieces: tuple[Program | float, ...], breaks: list[_Break], dtype: torch.dtype) -> _Clip | None:
    """The function as a clipped line [constant |] a x + b [| constant], a > 0, where that gives the same bits.

    Multiplication and addition round monotonically, so it does if it does on both sides of every breakpoint. Zeros have
    two signs, of which max and min take any: a bound of zero is taken only for x itself, where a comparison decides.
    """
    middle = 0 if isinstance(pieces[0], Program) else 1
    program = pieces[middle]
    if not isinstance(program, Program) or len(pieces) > middle + 2 or not _is_increasing_line(program, dtype):
        return None
    lower = pieces[0] if isinstance(pieces[0], float) else None
    upper = pieces[-1] if isinstance(pieces[-1], float) else None
    if len(pieces) != 1 + (lower is not None) + (upper is not None) or upper == 0.0:
        return None
    bounds = [bound for bound in (lower, upper) if bound is not None]
    for at, bound in zip(breaks, bounds, strict=True):
        left, right = program.run(TORCH, at.neighbours(dtype)).tolist()
        if not left <= bound <= right:
            return None
    zero = lower is not None and lower == 0.0
    if zero and (program.result != 0 or breaks[0].point != 0.0 or breaks[0].rounded_up):
        return None
    return _Clip(program, lower, upper, zero)


def _is_increasing_line(program: Program, dtype: torch.dtype) -> bool:
    """Whether the program is x, or constants added to it and multiplied by it, rounding nothing but monotonically."""
    constants = {k for k, i in enumerate(program.instructions) if i.op == "const"}
    for op, args, _ in program.instructions:
        if op not in ("x", "const", "add", "mul", "neg") or (op in ("add", "mul") and not constants & set(args)):
            return False
    low, high = program.run(TORCH, torch.tensor([-1.0, 1.0], dtype=dtype)).tolist()
    return bool(low < high)


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


def values_over(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x) without a gradient, perhaps written over x.

    Args:
        function: of ``torch_function``, or any other function of tensors.
        x: of a real floating type; afterwards its values are of no more use.
    """
    return function.evaluate(x, overwrite=True) if isinstance(function, _TorchFunction) else function(x)


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
