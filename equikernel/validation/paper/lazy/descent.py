"""A network of finite width that is trained by full-batch gradient descent, with its tangent kernel on the way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.validation.torch_arithmetic import is_tracing as _  # noqa: F401 - says what to install without torch

# isort: split
import torch
from torch import Tensor

from equikernel.theory.models import DEQ
from equikernel.validation.deq.ensembles import Ensemble, Networks, centring
from equikernel.validation.deq.module import DEQModule, deq_module
from equikernel.validation.deq.options import SolverOptions
from equikernel.validation.experiments.study import derived_seed
from equikernel.validation.explicit_networks import explicit_sampler, gram
from equikernel.validation.modules import ExplicitModule, explicit_module
from equikernel.validation.paper.lazy.problem import Contestant

__all__ = ["Trainee"]

Array = NDArray[np.float64]

# Relative, of states and adjoints: far below what is measured, and reached in two thirds of the iterations to 1e-15.
TOLERANCE = 1e-10


class Trainee:
    """A contestant of finite width in float64, with one output; all its arrays are NumPy's.

    Args:
        contestant: which network, and what of it is trained.
        width: m, of every hidden layer.
        X: (N, p), samples in rows.
        n: the number of training samples, the first of X.
        tau0: standard deviation of the data.
        seed: of the weights; networks of different widths and kinds are independent.

    Raises:
        EquikernelError: as ``deq_module`` and ``explicit_module``.
    """

    def __init__(self, contestant: Contestant, width: int, X: Array, n: int, tau0: float, seed: int) -> None:
        network, self.trained = contestant.network, contestant.trained
        self.X, self.n, self.tau0 = torch.from_numpy(X), n, tau0
        seed = derived_seed(seed, "weights", contestant.name, width)
        self.module: DEQModule | ExplicitModule
        if isinstance(network, DEQ):
            self.module = deq_module(
                network,
                width,
                X.shape[1],
                tau0=tau0,
                dtype="float64",
                seed=seed,
                solver=SolverOptions("plain", TOLERANCE),
            )
            groups = self.module.parameter_groups(1.0, self.trained)
        else:
            self.module = explicit_module(network, width, X.shape[1], dtype="float64", seed=seed)
            groups = self.module.parameter_groups(1.0)
            if self.trained == "a":
                groups = groups[-1:]
        pairs: list[tuple[Tensor, float]] = [(p, float(g["lr"])) for g in groups for p in g["params"]]
        self.parameters, self.rates = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        self.initial = [p.detach().clone() for p in self.parameters]

    def outputs(self) -> Array:
        """The network's values f, (N,)."""
        with torch.no_grad():
            return _numpy(self.module(self.X))

    def features(self) -> Array:
        """The last layer's states, (N, m), whose inner products are the CK."""
        with torch.no_grad():
            states: Array = self.module.features(self.X).numpy()
        return states

    def descent(
        self, y: Array, rate: float, *, penalty: float = 0.0, towards_zero: bool = False, momentum: float = 0.0
    ) -> Iterator[Array]:
        """Gradient descent without end: f of the training samples before each step, (n,).

        Formula, for every group of parameters with its rate eta_l, and c its initial or zero values:

            v <- momentum v - rate (eta_l dL/dtheta + penalty (theta - c)),    theta <- theta + v,

        gradient descent (with Polyak's momentum) on L + penalty/2 sum_l ||theta_l - c_l||^2/eta_l in the parameters
        theta_l/sqrt(eta_l), whose tangent kernel is the NTK with the learning rates.

        Args:
            y: (n,).
            rate: eta.
            penalty: lambda.
            towards_zero: c = 0, plain weight decay, instead of the initial values.
            momentum: in [0, 1).

        Raises:
            ConvergenceError: a DEQ has left the weights for which its states converge.
        """
        X, labels = self.X[: self.n], torch.from_numpy(y)
        centres = [torch.zeros_like(p) if towards_zero else p for p in self.initial]
        speeds = [torch.zeros_like(p) for p in self.initial]
        while True:
            f = self.module(X).squeeze(-1)
            yield _numpy(f.detach())
            gradients = torch.autograd.grad(f, self.parameters, grad_outputs=f.detach() - labels)
            with torch.no_grad():
                for p, v, g, c, eta in zip(self.parameters, speeds, gradients, centres, self.rates, strict=True):
                    v.mul_(momentum).sub_(g, alpha=rate * eta)
                    if penalty:
                        v.sub_(p - c, alpha=rate * penalty)
                    p.add_(v)

    def tangent_kernel(self, *, all_samples: bool = True) -> Array:
        """The NTK of the present weights (trained "a": the CK), (N, N) or (n, n); formulas at ``empirical_ntk``."""
        X = self.X if all_samples else self.X[: self.n]
        with torch.no_grad():
            if self.trained == "a":
                return gram(self.module.features(X).T)
            if isinstance(self.module, DEQModule):
                return _deq_kernel(self.module, X, self.tau0, self.trained)
            return _explicit_kernel(self.module, X)

    def drift(self) -> Array:
        """J theta0, (N,): the derivative of f along the initial values of what is trained, at the present weights.

        Formula: v -> theta0^T J^T v is linear, and J theta0 its gradient: two backward passes.
        """
        v = torch.zeros(len(self.X), dtype=torch.float64, requires_grad=True)
        f = self.module(self.X).squeeze(-1)
        back = torch.autograd.grad(f, self.parameters, grad_outputs=v, create_graph=True)
        product: Any = sum((g * theta).sum() for g, theta in zip(back, self.initial, strict=True))
        (drift,) = torch.autograd.grad(product, v)
        return _numpy(drift)

    @torch.no_grad()
    def kept(self) -> float:
        """The norm of all trained hidden weights relative to the initial one; 1 where none are trained."""
        pairs = [(p, c) for p, c in zip(self.parameters, self.initial, strict=True) if p is not self.module.readout]
        now, before = (math.sqrt(sum(float((pair[k] ** 2).sum()) for pair in pairs)) for k in (0, 1))
        return now / before if pairs else 1.0

    @torch.no_grad()
    def forget_hidden(self) -> None:
        """Set the trained hidden weights to zero, where weight decay without end takes them."""
        for p in self.parameters:
            if p is not self.module.readout:
                p.zero_()


def _numpy(values: Tensor) -> Array:
    array: Array = values.detach().reshape(-1).numpy().copy()
    return array


def _deq_kernel(module: DEQModule, X: Tensor, tau0: float, trained: str) -> Array:
    """K_ij = z_i.z_j + (delta_i.delta_j)(sigma_a^2 z_i.z_j + sigma_b^2 x_i.x_j [B trained])."""
    deq = module.deq
    mean, contraction = centring(deq, tau0)
    ensemble = Ensemble(deq, X, module.width, mean, contraction, module.options)
    shift = math.sqrt(deq.sigma_b2) * (X @ module.B.T)
    networks = Networks(math.sqrt(deq.sigma_a2) * module.A[None], shift[None], module.readout[None])  # type: ignore[index]
    z = ensemble.states(networks)[0]
    delta = ensemble.adjoints(networks, z)[0]
    conjugate = gram(z[0].T)
    inputs = float(deq.sigma_b2) * gram(X.T) if trained == "aAB" else 0.0
    return conjugate + gram(delta[0].T) * (float(deq.sigma_a2) * conjugate + inputs)


def _explicit_kernel(module: ExplicitModule, X: Tensor) -> Array:
    """The kernel that ``explicit_sampler`` makes of weights from a stream, of the module's own weights."""
    weights = iter([*module.weights, module.readout.T])  # type: ignore[union-attr]
    return explicit_sampler(X, module.network, module.widths[0], ntk=True)(lambda _rows, _columns: next(weights))
