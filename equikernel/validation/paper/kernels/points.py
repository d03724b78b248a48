"""One kernel on one sample: the DEQ's exact kernel against its equivalents, a naive network, and finite DEQs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import EquikernelError
from equikernel.numerics.norms import operator_norm
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.empirical import average_draws
from equikernel.validation.experiments.sources import MixtureSource, Sample, Source
from equikernel.validation.experiments.spectra import finite_kernels
from equikernel.validation.experiments.study import describe_deq
from equikernel.validation.paper.networks import equivalent_of, naive_network

__all__ = ["KINDS", "KernelPoint", "comparison"]

Array = NDArray[np.float64]

KINDS = {
    "network": "equivalent network",
    "deeper": "equivalent network, one layer more",
    "matrix": "high-dimensional equivalent",
    "naive": "naive network",
    "finite": "finite DEQs",
}


def comparison(exact: Array, other: Array, leading: int) -> dict[str, Any]:
    """How far a kernel is from the exact one.

    Formulas, A the exact kernel with eigenpairs (a_k, u_k) in decreasing order, B the other with (b_k, v_k):

        operator, frobenius: ||A - B||/||A|| in either norm;      rescaled: min_c ||A - c B||_F/||A||_F, blind to scale;
        wasserstein: mean_k |a_k - b_k|/mean_k a_k, the Wasserstein-1 distance of the two spectra;
        cosines: |u_k . v_k| for k <= ``leading``;                subspace: ||U^T V||_F^2/leading of the first of them.

    A cosine says little where a_k is hardly separated from a_(k+1); the subspace is insensitive to an exchange.
    """
    (a, u), (b, v) = (_decreasing(matrix) for matrix in (exact, other))
    best = float(np.vdot(exact, other) / np.vdot(other, other))
    overlap = u[:, :leading].T @ v[:, :leading]
    return {
        "operator": operator_norm(exact - other) / float(np.max(np.abs(a))),
        "frobenius": float(np.linalg.norm(exact - other) / np.linalg.norm(exact)),
        "rescaled": float(np.linalg.norm(exact - best * other) / np.linalg.norm(exact)),
        "wasserstein": float(np.mean(np.abs(a - b)) / np.mean(a)),
        "leading": [float(x) for x in b[:leading]],
        "cosines": [float(x) for x in np.abs(np.diag(overlap))],
        "subspace": float(np.sum(overlap**2) / leading),
    }


def _decreasing(matrix: Array) -> tuple[Array, Array]:
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1], vectors[:, ::-1]


@dataclass(frozen=True)
class KernelPoint:
    """One kernel of one network on one sample.

    Attributes:
        deq: the network. source: of the samples, of scale 1.
        kernel: "ck" or "ntk". trained: which parameters the NTK of the DEQ trains.
        width: of the finite networks. draws: how many of them are averaged. seed: of their weights.
    """

    deq: DEQ
    source: Source
    kernel: str
    trained: str
    width: int
    draws: int
    seed: int

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "paper spectra",
            "deq": describe_deq(self.deq),
            "source": self.source.describe(),
            **{key: getattr(self, key) for key in ("kernel", "trained", "width", "draws", "seed")},
        }

    def measure(self) -> dict[str, Any]:
        """Eigenvalues in decreasing order and ``comparison`` for each of ``KINDS``; a sentence where there is none.

        The deeper equivalent network is for the NTK alone: see ``networks.equivalent_of``.
        """
        sample = self.source.load()
        leading = 2 if sample.labels is None else len(np.unique(sample.labels))
        exact = sample.exact(self.deq, self.kernel, self.trained)
        values, _ = _decreasing(exact)
        numbers: dict[str, Any] = {
            "eigenvalues": {"exact": values.tolist()},
            "leading": values[:leading].tolist(),
            "kinds": {},
            "failures": {},
        }
        for kind, kernel_of in self._kinds(numbers).items():
            try:
                other = kernel_of(sample)
            except EquikernelError as error:
                numbers["failures"][kind] = str(error)
                continue
            numbers["eigenvalues"][kind] = _decreasing(other)[0].tolist()
            numbers["kinds"][kind] = comparison(exact, other, leading)
        numbers["noise"] = numbers.get("noise", 0.0) / float(np.linalg.norm(exact))
        return numbers

    def _kinds(self, numbers: dict[str, Any]) -> dict[str, Callable[[Sample], Array]]:
        labelled = isinstance(self.source, MixtureSource)

        def finite(sample: Sample) -> Array:
            draws = finite_kernels(sample, self.deq, self.kernel, self.trained, self.width, self.draws, self.seed)
            mean = average_draws(draws, self.width)
            numbers["noise"] = float(np.linalg.norm(mean.standard_error))
            return mean.mean

        def explicit(network: Callable[[], ExplicitNetwork]) -> Callable[[Sample], Array]:
            return lambda sample: sample.exact(network(), self.kernel, self.trained)

        deeper = {"deeper": explicit(lambda: equivalent_of(self.deq, self.kernel, extra=1))}
        return {
            "network": explicit(lambda: equivalent_of(self.deq, self.kernel)),
            **(deeper if self.kernel == "ntk" else {}),
            "matrix": lambda sample: sample.equivalent(self.deq, self.kernel, self.trained, labelled=labelled),
            "naive": explicit(lambda: naive_network(self.deq)),
            "finite": finite,
        }
