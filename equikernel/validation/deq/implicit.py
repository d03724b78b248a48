"""Gradients of fixed points by the implicit function theorem, of any order, without unrolling an iteration."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from equikernel.numerics.moments import require_derivative
from equikernel.theory.activation import Activation
from equikernel.validation.deq.fixed_point import FixedPointReport, solve_fixed_point
from equikernel.validation.deq.maps import AdjointMap, StateMap
from equikernel.validation.deq.options import SolverOptions

__all__ = ["ImplicitSystem", "implicit_state"]


@dataclass(eq=False)
class ImplicitSystem:
    """What z = (phi(z W^T + c) - mean)/sqrt(m) is solved with, and how that last went.

    Attributes:
        activation: phi, uncentred.
        phi: its form in torch. slope: that of its derivative; made when first needed.
        mean: the centring constant.
        options: of the forward solve. adjoint_options: of the backward solves.
        throw: whether non-convergence is an error.
        subject: what is solved, and ``remedy``, for the error's sentence.
        report: of the last forward solve. adjoint_report: of the last backward solve.
    """

    activation: Activation
    mean: float
    options: SolverOptions
    adjoint_options: SolverOptions
    throw: bool
    remedy: str
    subject: str
    phi: Callable[[Tensor], Tensor] = field(init=False)
    report: FixedPointReport | None = None
    adjoint_report: FixedPointReport | None = None

    def __post_init__(self) -> None:
        self.phi = self.activation.function("torch")

    def slope(self, u: Tensor) -> Tensor:
        """phi'(u).

        Raises:
            InputError: phi jumps, so that states have no gradient.
        """
        require_derivative(self.activation)
        slope: Tensor = self.activation.derivative("torch")(u)
        return slope

    def solve(self, weight: Tensor, shift: Tensor) -> Tensor:
        """The state, from zero."""
        z, self.report = solve_fixed_point(
            StateMap(weight, shift.contiguous(), self.phi, self.mean),
            None,
            self.options,
            throw=self.throw,
            subject=f"the state of {self.subject}",
            remedy=self.remedy,
        )
        return z

    def solve_adjoint(self, weight: Tensor, slopes: Tensor, shift: Tensor) -> Tensor:
        """The fixed point of delta = slopes * (delta weight^T + shift)."""
        delta, self.adjoint_report = solve_fixed_point(
            AdjointMap(weight, shift.contiguous(), slopes.contiguous()),
            slopes * shift,
            self.adjoint_options,
            throw=self.throw,
            subject=f"the adjoint of {self.subject}",
            remedy=self.remedy,
        )
        return delta


def implicit_state(weight: Tensor, shift: Tensor, system: ImplicitSystem) -> Tensor:
    """The state z = (phi(z W^T + c) - mean)/sqrt(m), differentiable in W and c to any order that phi has.

    Formula, g the gradient in z, u = z W^T + c, D = phi'(u)/sqrt(m): the gradient in c is the fixed point
    delta = D * (delta W + g), that in W is delta^T z. The adjoint equation is differentiated in the same way: with
    cotangent h of delta, s = D * (s W^T + h) solves an equation of the same form, transposed.

    Args:
        weight: W, (m, m).
        shift: c, (n, m).
        system: the rest.

    Raises:
        ConvergenceError: the state, or in the backward pass an adjoint, did not converge.
        InputError: in the backward pass, of an activation that jumps.
    """
    z: Tensor = _State.apply(weight, shift, system)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return z


class _State(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, shift: Tensor, system: ImplicitSystem) -> Tensor:
        z = system.solve(weight, shift)
        ctx.system = system
        ctx.save_for_backward(weight, shift, z)
        return z

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, shift, z = ctx.saved_tensors
        slopes = ctx.system.slope(z @ weight.mT + shift) / math.sqrt(z.shape[-1])
        delta: Tensor = _Adjoint.apply(weight.mT, slopes, gradient, ctx.system)  # type: ignore[no-untyped-call]
        return delta.mT @ z, delta, None


class _Adjoint(torch.autograd.Function):
    """delta = D * (delta V^T + g); it is its own adjoint with V transposed, hence differentiable again."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, slopes: Tensor, shift: Tensor, system: ImplicitSystem) -> Tensor:
        delta = system.solve_adjoint(weight, slopes, shift)
        ctx.system = system
        ctx.save_for_backward(weight, slopes, shift, delta)
        return delta

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        weight, slopes, shift, delta = ctx.saved_tensors
        s: Tensor = _Adjoint.apply(weight.mT, slopes, gradient, ctx.system)  # type: ignore[no-untyped-call]
        in_slopes = (gradient + s @ weight) * (delta @ weight.mT + shift)
        return s.mT @ delta, in_slopes, s, None
