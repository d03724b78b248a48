"""What mean-field theory says of a network of the sweep before training."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import InputError, SolutionError
from equikernel.numerics.initialisation import InputLaw, MeanField, mean_field
from equikernel.validation.paper.sweep.config import Cell

__all__ = ["input_variances", "predicted"]

_PARTS = 3
_DIGITS = 12  # of a variance, which the equations take as the decimal that it prints as


def input_variances(injected: NDArray[np.float64]) -> list[float]:
    """Of the entries of Ux, as they are in one network: for all samples together, then in three parts of the samples.

    For one x the entries are Gaussian with the variance |Ux|^2/N, which differs from x to x: all entries together are a
    mixture of Gaussians, and not the law that any sample sees. So the samples are taken in three parts of increasing
    |Ux|^2.

    Args:
        injected: Ux, (n, N).
    """
    squares = np.sort((injected**2).mean(axis=1))
    parts = [part.mean() for part in np.array_split(squares, min(_PARTS, len(squares)))]
    return [float(f"{variance:.{_DIGITS}g}") for variance in (squares.mean(), *parts)]


def predicted(act: str, cell: Cell, variances: Sequence[float]) -> dict[str, Any]:
    """Mean-field theory for Gaussian entries of Ux.

    Args:
        act: phi.
        cell: family and sigma.
        variances: of ``input_variances``.

    Returns:
        Plain JSON types. For the first variance ``length`` (|z|^2/N), ``radius`` (of J) and ``stable``;
        ``length_mixed``, the mean of ``length`` over the others, None where the first one is unstable; ``why``, the
        sentence that says why there are no numbers.
    """
    try:
        found = _field(act, cell, variances[0])
        mixed = [float(_field(act, cell, v).mean_square) for v in variances[1:]] if found.stable else []
    except (SolutionError, InputError) as error:
        return {"length": None, "radius": None, "stable": False, "length_mixed": None, "why": str(error)}
    return {
        "length": float(found.mean_square),
        "radius": float(found.radius),
        "stable": bool(found.stable),
        "length_mixed": statistics.fmean(mixed) if mixed else None,
        "why": None,
    }


def _field(act: str, cell: Cell, variance: float) -> MeanField:
    return mean_field(act, cell.family, cell.sigma, InputLaw.gaussian(variance), throw=False, confirm=False)
