"""How a fixed point is solved: checked options, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from equikernel.errors import InputError

__all__ = ["METHODS", "SolverOptions", "require_choice", "require_count"]

METHODS = ("plain", "anderson", "broyden")
_TOLERANCES = {"float64": 1e-12, "float32": 1e-5}
_LEAST_TOLERANCE = 16.0  # units of the last place: the residual's own rounding errors


def require_count(value: Any, name: str, least: int) -> int:
    """A whole number of at least ``least``, or an InputError that names it."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number, {least} or more; got {value!r}")
    return int(value)


def require_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """One of ``choices``, or an InputError that lists them."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    return value


@dataclass(frozen=True)
class SolverOptions:
    """How z = f(z) is solved.

    Attributes:
        method: "plain", "anderson" or "broyden".
        tol: the relative residual |f(z) - z|/|f(z)| that every sample must reach; None: 1e-12 in float64 and mixed
            precision, 1e-5 in float32.
        max_iter: evaluations of f, those in float32 included.
        window: differences kept by Anderson's method, rank-one updates by Broyden's before it starts afresh.
        mixed: iterate in float32 to its floor, then finish in float64.

    Raises:
        InputError: an argument outside its domain.
    """

    method: str = "plain"
    tol: float | None = None
    max_iter: int = 1000
    window: int = 6
    mixed: bool = False

    def __post_init__(self) -> None:
        require_choice(self.method, "solver", METHODS)
        require_count(self.max_iter, "max_iter", 1)
        require_count(self.window, "window", 1)
        if not isinstance(self.mixed, bool):
            raise InputError(f"mixed must be True or False; got {self.mixed!r}")
        if self.tol is not None and not 0.0 < self.tol < 1.0:
            raise InputError(f"tol must lie between 0 and 1; got {self.tol!r}")

    def tolerance(self, dtype: str) -> float:
        """The tolerance in "float64" or "float32".

        Raises:
            InputError: ``tol`` is below 16 units of the last place of the type.
        """
        if self.tol is None:
            return _TOLERANCES[dtype]
        least = least_tolerance(dtype)
        if self.tol < least:
            raise InputError(
                f"tol must lie between {least:.1e}, below which {dtype} cannot go, and 1; got {self.tol!r}"
            )
        return self.tol


def least_tolerance(dtype: str) -> float:
    """16 eps: what rounding leaves of the relative residual."""
    return _LEAST_TOLERANCE * float(np.finfo(dtype).eps)
