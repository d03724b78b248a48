"""A fully connected DEQ whose input is added outside the activation, z = phi(W z) + U x, with a linear readout."""

from __future__ import annotations

import math

import numpy as np

from equikernel.validation.torch_arithmetic import is_tracing as _  # noqa: F401 - says what to install without torch

# isort: split
import torch
from torch import Tensor

from equikernel.theory.activation import activation
from equikernel.validation.deq.fixed_point import FixedPointReport
from equikernel.validation.deq.implicit import ImplicitSystem, implicit_state
from equikernel.validation.deq.options import SolverOptions
from equikernel.validation.deq.weights import draw_hidden_weights
from equikernel.validation.experiments.study import derived_seed

__all__ = ["SweepNetwork", "asymmetry"]


class SweepNetwork(torch.nn.Module):
    """x -> V z + b with z = phi(W z) + U x, solved by forward iteration, its gradients by that of the adjoint equation.

    Formula: z' = z - U x is the fixed point of phi(W z' + W U x), and z'/sqrt(N) that of ``implicit_state`` with the
    weight sqrt(N) W and the shift W U x. It starts from z' = 0, z = U x; the relative residual is that of z'.

    What has not converged after ``options.max_iter`` evaluations is used as it is, state and adjoint alike: nothing is
    raised, the reports tell.

    At the start W is sigma/sqrt(N) times a matrix of the family, with entries of variance 1; U has entries
    N(0, input_scale^2/p), V N(0, 1/N), b = 0. All families are made of the same normal numbers, and U and V of one seed
    are the same. The family is that of the start alone: training moves every entry of W freely, and takes a symmetric
    or orthogonal W out of its family.

    Attributes:
        hidden: W, (N, N). injection: U, (N, p). readout: V, (K, N). bias: b, (K,).
    """

    def __init__(
        self, act: str, width: int, features: int, classes: int, options: SolverOptions, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.hidden = torch.nn.Parameter(torch.empty(width, width, dtype=dtype))
        self.injection = torch.nn.Parameter(torch.empty(width, features, dtype=dtype))
        self.readout = torch.nn.Parameter(torch.empty(classes, width, dtype=dtype))
        self.bias = torch.nn.Parameter(torch.zeros(classes, dtype=dtype))
        self.system = ImplicitSystem(
            activation(act), 0.0, options, options, throw=False, remedy="", subject=f"a DEQ of width {width}"
        )

    @torch.no_grad()
    def initialise(self, family: str, sigma: float, input_scale: float, seed: int) -> SweepNetwork:
        """Draw W, U, V in this order, in float64.

        Raises:
            InputError: an unknown family.
        """
        stream = np.random.default_rng(derived_seed(seed, "init-sweep weights"))
        width, features = self.injection.shape
        drawn = (
            (self.hidden, draw_hidden_weights(stream, width, family) * sigma / math.sqrt(width)),
            (self.injection, stream.standard_normal((width, features)) * input_scale / math.sqrt(features)),
            (self.readout, stream.standard_normal(tuple(self.readout.shape)) / math.sqrt(width)),
        )
        for parameter, values in drawn:
            parameter.copy_(torch.from_numpy(values))
        self.bias.zero_()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Outputs, (n, K), of samples in rows, (n, p)."""
        return torch.nn.functional.linear(self.states(x), self.readout, self.bias)

    def states(self, x: Tensor) -> Tensor:
        """z, (n, N), of samples in rows, (n, p)."""
        injected = x @ self.injection.mT
        scale = math.sqrt(len(self.hidden))
        return scale * implicit_state(scale * self.hidden, injected @ self.hidden.mT, self.system) + injected

    @torch.no_grad()
    def jacobian_radius(self, z: Tensor) -> list[float]:
        """The spectral radius of J = diag(phi'(W z)) W at each of the states, (n, N); NaN where J is not finite."""
        hidden = self.hidden.double().cpu()  # eigenvalues of small matrices are faster there
        radii = []
        for row in z.double().cpu():
            jacobian = self.system.slope(hidden @ row)[:, None] * hidden
            finite = bool(torch.isfinite(jacobian).all())
            radii.append(float(torch.linalg.eigvals(jacobian).abs().max()) if finite else math.nan)
        return radii

    @property
    def reports(self) -> dict[str, FixedPointReport | None]:
        """Of the last forward and the last backward solve."""
        return {"forward": self.system.report, "backward": self.system.adjoint_report}


def asymmetry(weight: Tensor) -> float:
    """|W - W^T|/(2 |W|) in the Frobenius norm: 0 of a symmetric matrix, 1 of an antisymmetric one, .707 of iid."""
    wide = weight.detach().double()
    return float(torch.linalg.matrix_norm(wide - wide.mT) / (2.0 * torch.linalg.matrix_norm(wide)))
