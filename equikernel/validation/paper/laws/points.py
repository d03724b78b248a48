"""What the law of the noise does to the equivalents: the rate that its moments imply, and the errors of one data set.

The equivalents know only tau0, means and covariances, and these are the same for all laws. What differs is how far the
norms chi_i = ||x_i||^2 - tau0^2 and the inner products stray. Expectations, n/p fixed, in operator norm:

1. Let E[w^4] be finite. Then chi_i has the variance (E[w^4] - 1)/p, and s_ij^2 - S_ab/p are centred terms of order 1/p,
   whose matrix has the norm O(p^{-1/2}). Both give the rate -1/2.
2. The operator norm sees the largest of n norms. With tails P(|w| > x) ~ x^{-nu} the largest of n p squares over p is
   of order p^{4/nu - 1}, and an error linear in max |chi_i| falls so where that is slower than p^{-1/2}: for nu < 8.
   For nu < 4 the largest norm grows, and the term alpha2 chi_i chi_j of the equivalent, which the kernel of a large
   sample does not follow, has the norm alpha2 ||chi||^2 ~ p^{2(4/nu - 1)}; odd functions have alpha2 = 0.
3. Where norms do not concentrate, the zeroth order of G_ij is a function g(||x_i||^2, ||x_j||^2) of order one, of
   which the equivalent has alpha2 chi_i chi_j: an error of order n. Odd functions have g = 0 off the diagonal: an
   error of order one.

``norms_only`` makes a number of the last two, for every law and every p: the same error for samples that have norms of
the law and are orthogonal to each other. It takes an independent draw of the norms, and nothing of the kernel that is
to be predicted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from equikernel.numerics.equivalents import EquivalentCoefficients, equivalent_kernel
from equikernel.numerics.kernels import implicit_kernels
from equikernel.numerics.norms import operator_norm
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.rates import THEORY_SLOPE, kernel_errors
from equikernel.validation.experiments.study import derived_seed, describe_deq
from equikernel.validation.paper.laws.samplers import Law, LawSource

__all__ = ["VARIANTS", "Expectation", "LawPoint", "expected_rate", "norms_only"]

Array = NDArray[np.float64]

VARIANTS = {"labelled": "population statistics", "free": "label-free"}


class Expectation(NamedTuple):
    """A slope for p -> infinity, and why."""

    slope: float
    reason: str


def expected_rate(law: Law, deq: DEQ) -> Expectation:
    """The slope of the error in p that the law's moments imply, derived at the head of this module."""
    odd = deq.activation.odd_up_to_constant
    if not law.concentrates:
        return Expectation(
            0.0 if odd else 1.0,
            "norms do not concentrate: error of order "
            + ("1, g = 0 for odd functions" if odd else "n from g(r_i, r_j)"),
        )
    slope = 4 / law.tail - 1
    if law.tail < 4:
        return Expectation(slope if odd else 2 * slope, "no fourth moment: the largest norm grows")
    if slope > THEORY_SLOPE:
        return Expectation(slope, "fourth moment, but fewer than eight: the largest norm decides")
    variance = law.norm_variance(10**6)
    reason = "tails of power 8: -1/2 up to logarithms" if slope == THEORY_SLOPE else "all moments"
    return Expectation(THEORY_SLOPE, f"{reason}; norms of variance {variance:.3g}/p")


def norms_only(squared_norms: Array, deq: DEQ, kernel: str, trained: str, tau0: float) -> float:
    """||G - Gbar|| for orthogonal samples of these norms: what fluctuating norms alone cost.

    Formula: G of the data diag(||x_i||), exactly, and Gbar_ij = alpha2 chi_i chi_j + [i = j] (gamma^2 + alpha1 chi_i),
    the labelled form without its term of inner products. Likewise for the NTK.

    Args:
        squared_norms: (n,), ||x_i||^2.
        deq: the network.
        kernel: "ck" or "ntk".
        trained: which parameters the NTK trains.
        tau0: standard deviation about which the equivalent is expanded.
    """
    X = np.diag(np.sqrt(squared_norms))
    exact = implicit_kernels(X, deq, tau0=tau0, trained=trained, ntk=kernel == "ntk")
    s = solve(deq, tau0, trained="a" if kernel == "ck" else trained)
    equivalent = equivalent_kernel(X, EquivalentCoefficients(s.beta1, s.beta2, 0.0, s.kappa2), tau0=tau0)
    return operator_norm(getattr(exact, kernel) - equivalent)


@dataclass(frozen=True)
class LawPoint:
    """One data set of a law: the exact kernels against the equivalents, and what its norms alone predict."""

    deq: DEQ
    source: LawSource
    kernels: tuple[str, ...]
    trained: str

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "paper non-gaussian",
            "deq": describe_deq(self.deq),
            "source": self.source.describe(),
            "kernels": list(self.kernels),
            "trained": self.trained,
        }

    def measure(self) -> dict[str, Any]:
        """For each kernel the ``kernel_errors`` of both variants, and ``norms_only`` of an independent draw."""
        sample = self.source.load()
        deviations = np.sum(sample.X**2, axis=1) - sample.tau0**2
        other = replace(self.source, seed=derived_seed(self.source.seed, "norms")).load()
        exact = implicit_kernels(sample.X, self.deq, tau0=sample.tau0, trained=self.trained, ntk="ntk" in self.kernels)
        numbers: dict[str, Any] = {
            "norm_variance": self.source.p * float(np.var(deviations, ddof=1)),
            "largest_norm_deviation": float(np.max(np.abs(deviations))),
        }
        for name in self.kernels:
            kernel = getattr(exact, name)
            numbers[name] = {
                variant: kernel_errors(
                    kernel, sample.equivalent(self.deq, name, self.trained, labelled=variant == "labelled")
                )
                for variant in VARIANTS
            }
            numbers[name]["norms_only"] = norms_only(
                np.sum(other.X**2, axis=1), self.deq, name, self.trained, sample.tau0
            )
        return numbers
