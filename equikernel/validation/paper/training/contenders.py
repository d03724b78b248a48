"""The networks that are trained against each other: a DEQ, its equivalent explicit network, and a naive one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import NoDesignError
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.deq.module import DEQModule, deq_module
from equikernel.validation.deq.options import SolverOptions
from equikernel.validation.experiments.sources import Sample
from equikernel.validation.experiments.study import describe_deq
from equikernel.validation.modules import ExplicitModule, explicit_module
from equikernel.validation.paper.networks import equivalent_of, naive_network

__all__ = ["KINDS", "Contender"]

KINDS = ("deq", "equivalent", "naive")
_WORDS = {"deq": "DEQ", "equivalent": "equivalent network", "naive": "naive network"}
_NAIVE_DEPTH = 2  # where there is no equivalent network whose depth could be taken
_MOST_ITERATIONS = 300  # a contraction by 0.98 an iteration reaches 1e-3 before


@dataclass(frozen=True)
class Contender:
    """A network of infinite width that becomes a module of any width.

    Attributes:
        kind: one of ``KINDS``: the DEQ itself, the explicit network with its conjugate kernel, or the naive network of
            as many layers (``naive_network``).
        deq: the DEQ.
        tol: relative residual of a DEQ's solves, forward and backward.
    """

    kind: str
    deq: DEQ
    tol: float

    def describe(self) -> dict[str, Any]:
        """What the network depends on."""
        return {"kind": self.kind, "deq": describe_deq(self.deq), **({"tol": self.tol} if self.kind == "deq" else {})}

    @property
    def title(self) -> str:
        """For sentences."""
        return f"the {_WORDS[self.kind]} of {self.deq.activation.name}"

    @property
    def network(self) -> DEQ | ExplicitNetwork:
        """What it is, at infinite width.

        Raises:
            SolutionError: there is no equivalent network, or the DEQ has no stable fixed point.
        """
        if self.kind == "deq":
            return self.deq
        if self.kind == "equivalent":
            return equivalent_of(self.deq)
        try:
            depth = equivalent_of(self.deq).depth
        except NoDesignError:
            depth = _NAIVE_DEPTH
        return naive_network(self.deq, 1.0, depth)

    def module(self, width: int, features: int, classes: int, seed: int, device: str) -> DEQModule | ExplicitModule:
        """The network of a finite width in float32, with random weights and an output for each class.

        Raises:
            EquikernelError: as ``network``, ``deq_module`` and ``explicit_module``.
        """
        network = self.network
        if isinstance(network, DEQ):
            options = SolverOptions(tol=self.tol, max_iter=_MOST_ITERATIONS)
            return deq_module(network, width, features, seed=seed, device=device, readout=classes, solver=options)
        return explicit_module(network, width, features, seed=seed, device=device, readout=classes)

    def steepness(self, X: NDArray[np.float64]) -> float:
        """The largest eigenvalue of K/n, K the network's exact NTK of infinite width, all parameters trained.

        Gradient descent on the mean of n losses, each of curvature at most c in the outputs, is stable in the linear
        regime for rates below 2/(c * steepness); c = 1/2 for the cross-entropy.

        Args:
            X: (n, p), samples in rows.
        """
        kernel = Sample(X, None, 1.0).exact(self.network, "ntk", "aAB")
        return float(np.linalg.eigvalsh(kernel)[-1]) / len(X)
