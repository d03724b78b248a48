"""The pairs that the tiles leave, through all layers: by long series, then by quadrature."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from equikernel.numerics.kernels.careful import (
    LONG,
    Pairs,
    Solved,
    opposite_distance,
    solve_by_angle,
    solve_by_long_series,
    squared_distance,
)
from equikernel.numerics.kernels.effective import EffectiveTable, solve_by_quadrature
from equikernel.numerics.kernels.problem import Problem
from equikernel.numerics.kernels.samples import Scales

__all__ = ["solve_leftover"]

FloatArray = npt.NDArray[np.float64]


def solve_leftover(problem: Problem, pairs: Pairs) -> list[tuple[Pairs, Solved]]:
    """Pairs through all layers by long series, and those that these cannot do by quadrature.

    For GOE weights that is a double integral a pair, else an integral in the angle.
    """
    sigma_a2, sigma_b2 = problem.engine.sigmas
    results: list[tuple[Pairs, Solved]] = []
    inputs = pairs.products
    for layer, a, b in zip(problem.engine.layers, problem.rows.layers, problem.columns.layers, strict=True):
        given = Pairs(pairs.i, pairs.j, inputs)
        results.append((given, solve_by_long_series(layer.table, a, b, given, (sigma_a2, sigma_b2))))
        inputs = results[-1][1].G
    rest = np.flatnonzero(np.min([s.method for _, s in results], axis=0) < LONG)
    if len(rest):
        table = problem.engine.layers[0].table
        if isinstance(table, EffectiveTable):
            _replace(results[0][1], rest, _by_double_integral(problem, table, pairs.only(rest)))
        else:
            _by_angle(problem, results, rest)
    return results


def _by_double_integral(problem: Problem, table: EffectiveTable, pairs: Pairs) -> Solved:
    sides = problem.rows.layers[0], problem.columns.layers[0]
    x, y = problem.rows.X[pairs.i], problem.columns.X[pairs.j]
    return solve_by_quadrature(
        table, sides, pairs, problem.engine.sigma_b2, lambda sign: squared_distance(x, y, np.full(len(x), sign))
    )


def _replace(solved: Solved, which: npt.NDArray[np.int64], found: Solved) -> None:
    for name, array in vars(found).items():
        getattr(solved, name)[which] = array


def _by_angle(problem: Problem, results: list[tuple[Pairs, Solved]], rest: npt.NDArray[np.int64]) -> None:
    """Replace the solutions of some pairs, in all layers, by those of the careful method."""
    sigma_a2, sigma_b2 = problem.engine.sigmas
    pairs = results[0][0].only(rest)
    previous: tuple[tuple[Scales, Scales], Solved, FloatArray] | None = None
    for k, (_, solved) in enumerate(results):
        sides = problem.rows.layers[k], problem.columns.layers[k]
        if previous is None:
            estimate = solved.r[rest] if sigma_a2 else pairs.products
            sign = np.where(estimate < 0.0, -1.0, 1.0)
            distance = sigma_b2 * squared_distance(problem.rows.X[pairs.i], problem.columns.X[pairs.j], sign)
        else:
            estimate, distance = previous[1].G, previous[1].distance
            turned = (estimate < 0.0) != (previous[2] < 0.0)
            distance = np.where(turned, opposite_distance(previous[0], pairs, distance), distance)
        table = problem.engine.layers[k].table
        found = solve_by_angle(table, sides, pairs, distance, sigma_a2, estimate)
        _replace(solved, rest, found)
        previous = sides, found, estimate
