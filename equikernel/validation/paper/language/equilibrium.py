"""Equilibria z = f(z) of any block of torch, with gradients by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from equikernel.validation.deq.fixed_point import FixedPointReport, solve_fixed_point

# isort: split
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from equikernel.validation.deq.options import SolverOptions

__all__ = ["Equilibrium"]

_Map = Callable[[Tensor], Tensor]


@dataclass(eq=False)
class Equilibrium:
    """How z = f(z) and its adjoint are solved, and how that last went.

    A sample is a row of the state, whatever its shape: all of it is flattened, and has one residual.

    Attributes:
        options: of the forward solve. adjoint_options: of the backward solve.
        report: of the last forward solve.
        adjoint_report: of the backward solve that followed it, None before.
    """

    options: SolverOptions
    adjoint_options: SolverOptions
    report: FixedPointReport | None = None
    adjoint_report: FixedPointReport | None = None

    def solve(self, f: _Map, start: Tensor) -> Tensor:
        """The equilibrium, differentiable once in whatever f depends on; the reports tell of solves that fail.

        Formula: J = df/dz at z and g the gradient, in z, of a function of the equilibrium; its gradient in a parameter
        p is y^T df/dp with y = J^T y + g. For this f is evaluated once more, at z, with its graph, from which both the
        products with J^T and the last step are taken: memory does not grow with the iterations.

        Args:
            f: keeps the shape (n, ...), treats every sample alone, and can be differentiated.
            start: (n, ...).
        """
        shape = start.shape
        found, self.report = solve_fixed_point(
            lambda z: f(z.view(shape)).flatten(1), start.detach().flatten(1), self.options, throw=False
        )
        self.adjoint_report = None
        z = found.view(shape)
        if not torch.is_grad_enabled():
            return z
        z = z.detach().requires_grad_()
        image = f(z)
        attached: Tensor = _Attached.apply(image, self._adjoint(image, z))  # type: ignore[no-untyped-call]  # torch's
        return attached

    def _adjoint(self, image: Tensor, z: Tensor) -> _Map:
        def solved(gradient: Tensor) -> Tensor:
            def product(y: Tensor) -> Tensor:
                (back,) = torch.autograd.grad(image, z, y.view_as(gradient), retain_graph=True)
                return (back + gradient).flatten(1)

            y, self.adjoint_report = solve_fixed_point(product, gradient.flatten(1), self.adjoint_options, throw=False)
            return y.view_as(gradient)

        return solved


class _Attached(torch.autograd.Function):
    """f(z) as it is; its gradient is replaced by the adjoint's solution on the way back."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, adjoint: _Map) -> Tensor:
        ctx.adjoint = adjoint
        return image.view_as(image)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.adjoint(gradient), None
