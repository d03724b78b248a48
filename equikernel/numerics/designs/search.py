"""Many Levenberg-Marquardt iterations side by side: all solutions of a design, and of a continuum the nearest one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from equikernel.numerics.designs.problem import DesignProblem

__all__ = ["SOLVED", "Found", "Solutions", "descend", "jacobian", "levenberg", "ranked", "search"]

FloatArray = npt.NDArray[np.float64]
_Residuals = Callable[[FloatArray], FloatArray]

_STARTS_EACH = 8  # for each unknown
_MORE_STARTS, _MORE_DEAR_STARTS = 1000, 96  # where those find nothing: solutions may fill a small corner
_STEPS, _DESCENT_STEPS, _BACK_STEPS = 40, 60, 3
_CONVERGED = 1e-26
SOLVED = 1e-9  # of the float64 equations: rounding, magnified by a nearly singular Jacobian
_DIFFERENCE = 1e-7
_SINGULAR = 1e-10
_WORTH = 1e-4  # of the squared distance: a step that gains less is the last
_LARGE = 1e100
_GIVEN_UP = 1e4  # damping beyond which no step is found
_SAME = 1e-5
_STEEPEST = 1e4  # slopes, in units of output and input: what is steeper runs off to a jump
_ENOUGH = 8  # solutions carried on along the continuum: they flow together


@dataclass(frozen=True)
class Found:
    """One solution.

    Attributes:
        unknowns: as in ``DesignProblem``, (unknowns,).
        distance: root mean square of the third-order terms' differences, relative to the kernel's diagonal.
        lipschitz: product of the layers' largest slopes within 4 standard deviations.
    """

    unknowns: FloatArray
    distance: float
    lipschitz: float


@dataclass(frozen=True)
class Solutions:
    """All solutions found, the nearest first, and the smallest largest equation over all starts."""

    found: tuple[Found, ...]
    residual: float
    starts: int


def jacobian(residuals: _Residuals, x: FloatArray) -> FloatArray:
    """D residuals/d x by central differences, (B, equations, unknowns)."""
    count, size = x.shape
    steps = _DIFFERENCE * np.maximum(1.0, np.abs(x))
    moved = np.repeat(x[None], 2 * size, axis=0)
    for j in range(size):
        moved[2 * j, :, j] += steps[:, j]
        moved[2 * j + 1, :, j] -= steps[:, j]
    values = residuals(moved.reshape(-1, size)).reshape(size, 2, count, -1)
    return np.asarray(np.moveaxis((values[:, 0] - values[:, 1]) / (2.0 * steps.T[:, :, None]), 0, 2))


def levenberg(
    residuals: _Residuals, x: FloatArray, steps: int, enough: int | None = None
) -> tuple[FloatArray, FloatArray]:
    """Least squares from every row of x, (B, unknowns); returns the points and their residuals.

    With ``enough`` the iteration ends when so many rows have converged to zero.
    """
    x = x.copy()
    r = residuals(x)
    damping = np.full(len(x), 1e-2)
    for _ in range(steps):
        cost = _squares(r)
        if enough is not None and (cost <= _CONVERGED).sum() >= enough:
            break
        J = jacobian(residuals, x)
        usable = np.isfinite(J).all(axis=(1, 2)) & (cost < _LARGE)
        J = np.where(usable[:, None, None], J, 0.0)
        normal = np.einsum("bij,bik->bjk", J, J)
        size = np.maximum(np.einsum("bjj->bj", normal), 1e-12)
        normal[:, np.arange(x.shape[1]), np.arange(x.shape[1])] += damping[:, None] * size + 1e-14
        gradient = np.einsum("bij,bi->bj", J, np.where(usable[:, None], r, 0.0))
        step = -np.linalg.solve(normal, gradient[..., None])[..., 0]
        tried = x + step
        r_tried = residuals(tried)
        new_cost = _squares(r_tried)
        better = new_cost < cost
        x[better], r[better] = tried[better], r_tried[better]
        damping = np.where(better, np.maximum(damping * 0.1, 1e-12), np.minimum(damping * 10.0, 1e8))
        if not (better & (np.abs(step).max(axis=1) > 1e-13)).any():
            break
    return x, r


def descend(problem: DesignProblem, x: FloatArray) -> FloatArray:
    """Along the solutions, from every row of x, to where the third-order terms are nearest to the target's.

    Gauss-Newton steps in the tangent space, damped, each followed by Newton steps back onto the solutions; a step that
    does not come back, or not nearer, is not taken.
    """
    x, freedom = x.copy(), problem.unknowns - problem.equations
    count = problem.residuals(x[:1]).shape[1]
    there = problem.residuals_and_differences(x)[:, count:]
    cost, damping = _squares(there), np.full(len(x), 1e-3)
    for _ in range(_DESCENT_STEPS):
        J = jacobian(problem.residuals_and_differences, x)
        J = np.where(np.isfinite(J).all(axis=(1, 2), keepdims=True), J, 0.0)
        back = np.linalg.pinv(J[:, :count], rcond=_SINGULAR)
        tangent = np.swapaxes(np.linalg.svd(J[:, :count])[2][:, -freedom:], 1, 2)
        A = J[:, count:] @ tangent
        normal = np.swapaxes(A, 1, 2) @ A
        size = np.einsum("bjj->b", normal)[:, None, None]
        normal += (damping[:, None, None] * size + 1e-14) * np.eye(freedom)
        tried = x - (tangent @ np.linalg.solve(normal, np.swapaxes(A, 1, 2) @ there[..., None]))[..., 0]
        for _ in range(_BACK_STEPS):
            tried = tried - (back @ _finite(problem.residuals(tried))[..., None])[..., 0]
        values = problem.residuals_and_differences(tried)
        new_cost = _squares(values[:, count:])
        better = (np.abs(_finite(values[:, :count])).max(axis=1) <= SOLVED) & (new_cost < cost)
        gained = better & (new_cost < (1.0 - _WORTH) * cost)
        x[better], there[better], cost[better] = tried[better], values[better, count:], new_cost[better]
        damping = np.where(better, np.maximum(damping * 0.2, 1e-12), damping * 8.0)
        if not (gained | (~better & (damping < _GIVEN_UP))).any():
            break
    return x


def _finite(values: FloatArray) -> FloatArray:
    """What is no number, or too large to be squared, as a large number."""
    return np.nan_to_num(np.clip(values, -_LARGE, _LARGE), nan=_LARGE)


def _squares(values: FloatArray) -> FloatArray:
    return np.asarray(np.sum(_finite(values) ** 2, axis=1))


def search(problem: DesignProblem, seed: int = 0, *, thorough: bool = True) -> Solutions:
    """Solve the equations from many starts; where they leave freedom, go on to the smallest third-order terms.

    The solutions are ranked by how near the third-order terms are to the target's (``theory.next_order``), then by the
    Lipschitz constant. Those with the same terms and constant (mirror images) are one.

    Args:
        problem: the equations.
        seed: of the starting points.
        thorough: whether to try 1000 more starts (96 where the moments are dear) if the first find nothing.
    """
    best, tried = np.inf, 0
    # with fewer unknowns than equations a solution is a coincidence, and any start finds it
    thorough = thorough and problem.unknowns >= problem.equations
    more = _MORE_STARTS if problem.is_cheap else _MORE_DEAR_STARTS
    for count in (_STARTS_EACH * problem.unknowns, *([more] if thorough else [])):
        x, r = levenberg(problem.residuals, problem.starts(count, seed + tried), _STEPS, _ENOUGH)
        worst = np.where(np.isfinite(r).all(axis=1), np.abs(r).max(axis=1), np.inf)
        best, tried = min(best, float(worst.min())), tried + count
        solved = x[worst <= SOLVED][:_ENOUGH]
        if len(solved):
            break
    else:
        return Solutions((), best, tried)
    if problem.unknowns > problem.equations:
        solved = descend(problem, solved)
    return Solutions(ranked(problem, solved), best, tried)


def ranked(problem: DesignProblem, solved: FloatArray) -> tuple[Found, ...]:
    """Solutions (B, unknowns), the nearest first, each once; none as steep as a jump."""
    differences = problem.differences(solved)
    distances = np.sqrt(np.mean(differences**2, axis=1))
    slopes = problem.lipschitz(solved)
    limit = _STEEPEST * problem.target.diagonal**0.5 / problem.tau0
    kept: list[int] = []
    for k in np.lexsort((slopes, np.round(distances, 9))):
        if limit <= slopes[k] < np.inf:
            continue
        known = any(
            np.abs(differences[k] - differences[j]).max() < _SAME and np.isclose(slopes[k], slopes[j], rtol=_SAME)
            for j in kept
        )
        if not known:
            kept.append(int(k))
    return tuple(Found(problem.canonical(solved[k]), float(distances[k]), float(slopes[k])) for k in kept)
