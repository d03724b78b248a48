"""Somebody's Python function as a function of float64 arrays: called on arrays or numbers, its values checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import ActivationError

__all__ = ["Elementwise"]

FloatArray = npt.NDArray[np.float64]

_SAMPLE = np.array([-2.7, -1.3, -0.61, 0.37, 0.83, 1.9, 3.1])
_SAME = 1e-9  # two evaluations at one point, of the largest value: vectorised library functions differ by rounding


class Elementwise:
    """A function of float64 arrays, shape (n,), that returns float64 arrays, made of one of arrays or of numbers.

    Attributes:
        takes_arrays: whether the function is called on whole arrays; else on one float after the other.

    Raises:
        ActivationError: the function raises on floats, or what it returns is not real float64 numbers, one for each
            argument and depending on that argument alone.
    """

    def __init__(self, function: Callable[[Any], Any], name: str) -> None:
        self._function = function
        self._name = name
        self.takes_arrays = self._accepts_arrays()
        whole = self(_SAMPLE)
        parts = np.concatenate([self(_SAMPLE[:2]), self(_SAMPLE[2:])])
        known = np.isfinite(whole) & np.isfinite(parts)
        largest = np.max(np.abs(whole), where=known, initial=0.0)
        differ = known & ~(np.abs(whole - parts) <= _SAME * largest)
        if differ.any():
            raise ActivationError(
                f"{name} gives {whole[differ][0]:.6g} and {parts[differ][0]:.6g} at x = {_SAMPLE[differ][0]:g} in two "
                "calls with other arguments beside: an activation must act on each number by itself, without chance"
            )

    def __call__(self, x: FloatArray) -> FloatArray:
        """Values at x, shape (n,); overflow is infinite."""
        with np.errstate(all="ignore"):
            # a copy, lest the function work in place
            result = self._on_array(x.copy()) if self.takes_arrays else self._on_numbers(x)
        array = np.asarray(result)
        kind, size = array.dtype.kind, array.dtype.itemsize
        if kind in "iub":
            return array.astype(np.float64)
        if kind != "f" or size < 8:
            what = {"c": "complex numbers", "f": f"{array.dtype} numbers", "O": "objects"}.get(kind, str(array.dtype))
            raise ActivationError(f"{self._name} returns {what}: an activation must return real float64 numbers")
        if array.shape != x.shape:
            raise ActivationError(
                f"{self._name} returns an array of shape {array.shape} for one of shape {x.shape}: an activation must "
                "return one number for each of its arguments"
            )
        # a new array, lest the function return its argument or a view
        return np.array(array, dtype=np.float64)

    def _accepts_arrays(self) -> bool:
        try:
            with np.errstate(all="ignore"):
                return bool(np.shape(self._function(_SAMPLE.copy())) == _SAMPLE.shape)
        except Exception:  # noqa: BLE001 - whatever it raises on arrays, numbers may do
            return False

    def _on_array(self, x: FloatArray) -> Any:
        try:
            return self._function(x)
        except Exception as error:
            raise self._failed(error, f"between x = {x.min():.6g} and {x.max():.6g}" if x.size else "") from error

    def _on_numbers(self, x: FloatArray) -> Any:
        values = []
        for number in x.tolist():
            try:
                values.append(self._function(number))
            except OverflowError:
                values.append(float("inf"))
            except Exception as error:
                raise self._failed(error, f"at x = {number:.6g}") from error
        try:
            return np.asarray(values)
        except ValueError as error:
            raise self._failed(error, "making an array of its values") from error

    def _failed(self, error: Exception, where: str) -> ActivationError:
        return ActivationError(
            f"{self._name} raised {type(error).__name__} {where} ({error}): an activation must return a real number "
            "for every float64 number, or an array for an array"
        )
