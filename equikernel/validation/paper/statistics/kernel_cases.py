"""The kernel form z = phi(sigma_a A z + sigma_b B x)/sqrt m of two samples: K, the response, the backward kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.numerics.initialisation import kernel_pair
from equikernel.theory.activation import activation
from equikernel.validation.paper.statistics.ensembles import fixed_points, resolvents, squared_norms, weight_stack
from equikernel.validation.paper.statistics.formulas import GROUP, Formula, Measured, mean_of, number_of_groups

__all__ = ["KernelCase"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class KernelCase:
    """Two samples with Gram matrix (|x|^2, |y|^2, x.y), sigma_b = 1; sigma_a a standard deviation."""

    act: str
    family: str
    sigma_a: float
    gram: tuple[float, float, float]

    @property
    def group(self) -> str:
        """For tables."""
        return "kernel form"

    @property
    def parameters(self) -> str:
        """For tables."""
        xx, yy, xy = self.gram
        return f"{self.act}, σ_a = {self.sigma_a:g}, |x|² = {xx:g}, |y|² = {yy:g}, x·y = {xy:g}"

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "group": self.group,
            "act": self.act,
            "family": self.family,
            "sigma_a": self.sigma_a,
            "gram": list(self.gram),
        }

    def formulas(self) -> tuple[Formula, ...]:
        """See ``kernel_pair``; samples of one norm have one diagonal entry and one response."""
        sigma_a2 = self.sigma_a**2
        found = kernel_pair(self.act, self.family, sigma_a2, 1.0, self.gram)
        rows = [
            Formula("K(x,x)", found.xx),
            Formula("K(x,y)", found.xy),
            Formula("E b(x)b(y)", found.slope / (1.0 - sigma_a2 * found.slope)),
        ]
        different = self.gram[0] != self.gram[1]
        if different:
            rows.append(Formula("K(y,y)", found.yy))
        if self.family == "goe":
            rows.append(Formula("χ(x)", found.chi_x))
            rows += [Formula("χ(y)", found.chi_y)] if different else []
        return tuple(rows)

    def measure(self, size: int, count: int, stream: np.random.Generator) -> dict[str, Measured]:
        """By iterating, the Gram matrix of B x held exactly; gradients by inverting."""
        rows = [self._group(size, stream) for _ in range(number_of_groups(count))]
        names = ("K(x,x)", "K(y,y)", "K(x,y)", "χ(x)", "χ(y)", "E b(x)b(y)")
        found = dict(zip(names, (mean_of(values) for values in np.stack(rows, axis=1)), strict=True))
        return {formula.quantity: found[formula.quantity] for formula in self.formulas()}

    def _group(self, size: int, stream: np.random.Generator) -> Array:
        phi = activation(self.act)
        f, xx_yy_xy = phi.function("numpy"), self.gram
        A = weight_stack(stream, self.family, self.sigma_a, GROUP, size)
        root = np.linalg.cholesky(np.array([[xx_yy_xy[0], xx_yy_xy[2]], [xx_yy_xy[2], xx_yy_xy[1]]]))
        frame = np.linalg.qr(stream.standard_normal((GROUP, size, 2)))[0]
        forcing = math.sqrt(size) * frame @ root.T
        # v = u - forcing = A phi(v + forcing): a fixed point in the form that fixed_points takes
        state = fixed_points(lambda v: f(v + forcing), A, np.zeros((1, 1, 1)), f(forcing))
        K = state.swapaxes(1, 2) @ state / size
        slopes = phi.derivative("numpy")(A @ state + forcing)
        back = [resolvents(slopes[:, :, k, None] * A) * slopes[:, None, :, k] for k in range(len(root))]
        responses = [np.trace(b, axis1=1, axis2=2) / size for b in back]
        return np.stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 1], *responses, _inner(*back) / size])


def _inner(first: Array, second: Array) -> Array:
    """tr(B_x^T B_y) by polarisation."""
    return (squared_norms(first + second) - squared_norms(first - second)) / 4.0
