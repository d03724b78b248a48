"""The freedom that the coefficients leave, spent on a data set: the smallest mismatch of the exact kernels there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.optimize
from numpy.typing import ArrayLike

from equikernel.errors import AccuracyError, NoDesignError
from equikernel.numerics.data import data_matrix, mean_scale
from equikernel.numerics.designs.compare import require_scale
from equikernel.numerics.designs.design import Design
from equikernel.numerics.designs.equivalent import attempt_design, finished_design, network_of
from equikernel.numerics.designs.problem import DesignProblem
from equikernel.numerics.designs.search import SOLVED, jacobian, levenberg, ranked
from equikernel.numerics.kernels import explicit_kernels, implicit_kernels
from equikernel.theory.families import Family
from equikernel.theory.models import DEQ

__all__ = ["FittedDesign", "fit_design"]

FloatArray = npt.NDArray[np.float64]
_STEP = 0.15  # of the first simplex, relative to the unknowns
_CANDIDATES = 2


@dataclass(frozen=True)
class FittedDesign:
    """A design moved along its continuum to fit data.

    Attributes:
        design: the best one; its coefficients are the DEQ's as before.
        before: ||K_DEQ - K_net||_F/||K_DEQ||_F of the design that ``equivalent_network`` picks, on the samples used.
        after: the same of ``design``.
        freedom: the dimension of the continuum.
        samples: how many samples were used.
        evaluations: exact kernels computed.
    """

    design: Design
    before: float
    after: float
    freedom: int
    samples: int
    evaluations: int


def fit_design(
    deq: DEQ,
    X: ArrayLike,
    family: str | Family = "smooth",
    depth: str | int = "auto",
    *,
    match: str = "ck",
    tau0: Any = None,
    rates: str = "equal",
    parameters: str = "",
    samples: int = 150,
    evaluations: int = 60,
    seed: int = 0,
) -> FittedDesign:
    """The network of a family with a DEQ's coefficients whose exact kernel is nearest to the DEQ's on data.

    Minimises ||K_DEQ - K_net||_F over the solutions of the four equations, which stay satisfied, by Nelder and Mead's
    method in the tangent space, from the two solutions with the nearest third-order terms.

    Args:
        deq: the DEQ.
        X: data, (n, p), samples in rows.
        family: a name or a formula; see ``equivalent_network``.
        depth: likewise.
        match: the kernel that is matched and compared, "ck" or "ntk"; "both" compares the NTK.
        tau0: standard deviation of the data; by default that of X.
        rates: as in ``equivalent_network``.
        parameters: likewise.
        samples: the number of samples to compare on, chosen at random.
        evaluations: the most kernels to compute.
        seed: of the choice of samples and of the search.

    Raises:
        DataError: unusable data, or data of another scale than tau0.
        InputError, NoDesignError, SolutionError: as ``equivalent_network``; a family without freedom to spend.
    """
    matrix = data_matrix(X)
    tau0 = mean_scale(matrix) if tau0 is None else tau0
    attempts, target = attempt_design(deq, tau0, match, depth, family, rates=rates, parameters=parameters, seed=seed)
    attempt = next(attempts)
    require_scale(matrix, float(target.tau0))
    problem = attempt.problem
    chosen = np.random.default_rng(seed).permutation(len(matrix))[:samples]
    fit = _Fit(problem, deq, matrix[np.sort(chosen)])
    starts = [found.unknowns for found in attempt.solutions.found[:_CANDIDATES]]
    freedom = _tangent(problem, starts[0]).shape[1]
    if freedom == 0:
        raise NoDesignError(
            f"the {attempt.family.name} networks with these coefficients have no freedom left to fit data with: take a "
            "family with more parameters"
        )
    before = fit(starts[0])
    results = [fit.minimised(x, evaluations // len(starts)) for x in starts]
    after, unknowns = min(results, key=lambda pair: pair[0])
    design = finished_design(attempt, target, ranked(problem, unknowns[None])[0])
    return FittedDesign(design, before, after, freedom, len(chosen), fit.count)


class _Fit:
    """The relative distance of exact kernels as a function of the unknowns."""

    def __init__(self, problem: DesignProblem, deq: DEQ, X: FloatArray) -> None:
        self.problem, self.X, self.count = problem, X, 0
        self.ntk = problem.target.ntk
        kernels = implicit_kernels(X, deq, tau0=problem.target.tau0, ntk=self.ntk)
        self.wanted = kernels.ck if kernels.ntk is None else kernels.ntk
        self.size = float(np.linalg.norm(self.wanted))

    def __call__(self, unknowns: FloatArray) -> float:
        self.count += 1
        kernels = explicit_kernels(self.X, network_of(self.problem, unknowns), ntk=self.ntk)
        found = kernels.ck if kernels.ntk is None else kernels.ntk
        return float(np.linalg.norm(found - self.wanted)) / self.size

    def minimised(self, start: FloatArray, evaluations: int) -> tuple[float, FloatArray]:
        """The smallest distance reached from a solution, and the solution there."""
        tangent = _tangent(self.problem, start)
        reached = [(self(start), start)]

        def value(shift: FloatArray) -> float:
            point, r = levenberg(self.problem.residuals, (start + tangent @ shift)[None], 12)
            if not np.abs(r).max() <= SOLVED:
                return reached[0][0] + 1.0  # off the continuum
            try:
                reached.append((self(point[0]), point[0]))
            except AccuracyError:  # as steep as a jump: no network to be had there
                return reached[0][0] + 1.0
            return reached[-1][0]

        size = tangent.shape[1]
        simplex = np.concatenate([np.zeros((1, size)), _STEP * np.eye(size)]) * max(1.0, float(np.abs(start).max()))
        scipy.optimize.minimize(
            value,
            np.zeros(size),
            method="Nelder-Mead",
            options={"initial_simplex": simplex, "maxfev": evaluations, "xatol": 1e-4, "fatol": 1e-9},
        )
        return min(reached, key=lambda pair: pair[0])


def _tangent(problem: DesignProblem, unknowns: FloatArray) -> FloatArray:
    """An orthonormal basis of the directions in which the equations do not change, (unknowns, freedom)."""
    J = jacobian(problem.residuals, unknowns[None])[0]
    _, values, V = np.linalg.svd(J)
    rank = int((values > 1e-7 * values[0]).sum())
    return np.asarray(V[rank:].T)
