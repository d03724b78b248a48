"""The law of the input's entries, as a command line names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from equikernel.errors import DataError, InputError
from equikernel.numerics.initialisation import InputLaw
from equikernel.theory.models import exact_number
from equikernel.validation.data_files import reading

__all__ = ["LAWS", "input_law", "scaled_law"]

LAWS = ("gaussian", "constant", "signs")
_MOST = 100_000  # entries of a file: every one is a term of the integrals


def input_law(kind: str, scale: Any = 1, mean: Any = 0) -> InputLaw:
    """The law of an entry of x.

    Args:
        kind: "gaussian" (N(mean, scale^2)), "constant" (every entry is ``scale``), "signs" (+scale and -scale), or
            the path of a .npy or a text file of numbers, whose entries, times ``scale``, are equally likely.
        scale: a standard deviation, a value, or a factor.
        mean: of the Gaussian.

    Raises:
        InputError: an unknown law, a scale that is no number, or a mean that has no place.
        DataError: a file that cannot be read, or that has more than 100000 numbers.
    """
    if kind == "gaussian":
        return InputLaw.gaussian(exact_number(scale, "the scale of x") ** 2, mean)
    if str(mean).strip() != "0":
        raise InputError(f"a mean of x is for the law gaussian; got the mean {mean} with the law {kind}")
    if kind == "constant":
        return InputLaw.constant(scale)
    if kind == "signs":
        return InputLaw.signs(scale)
    if not Path(kind).exists():
        raise InputError(
            f"unknown law of x {kind!r}: there is no such file; expected {', '.join(LAWS)}, or a .npy or text file of "
            "numbers"
        )
    factor = float(exact_number(scale, "the scale of x"))
    return InputLaw.sample(factor * value for value in _numbers(Path(kind)))


def _numbers(path: Path) -> list[float]:
    """The numbers of a file, in one list."""
    with reading(path, "a file of numbers"):
        if path.suffix.lower() == ".npy":
            found = np.load(path, allow_pickle=False)
            if found.dtype.kind not in "biuf":
                raise DataError(f"{path} must hold real numbers; got an array of type {found.dtype}")
        else:
            found = [float(word) for word in path.read_text(encoding="utf-8").replace(",", " ").split()]
        values = np.asarray(found, dtype=np.float64).ravel()
    if values.size > _MOST:
        raise DataError(
            f"{path} holds {values.size} numbers; a law of x may have {_MOST}: give a sample of them, or their Gaussian"
        )
    return [float(value) for value in values]


def scaled_law(law: InputLaw, factor: Any) -> InputLaw:
    """The law of factor times x, for a positive factor; a float is the decimal it prints as."""
    by = exact_number(factor, "the factor of x", positive=True)
    if law.variance is not None:
        return InputLaw.gaussian(law.variance * by**2, law.mean * by)
    return InputLaw(f"{float(by):.6g} times {law.name}", atoms=tuple(atom * by for atom in law.atoms))
