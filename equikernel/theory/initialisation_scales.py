"""What it means for two weight families to be equally large: variance, spectral radius and operator norm.

As N grows, a family of scale sigma (a standard deviation) has E|Wx|^2/|x|^2 = sigma^2 in all three families, spectral
radius sigma (iid, orthogonal) or 2 sigma (goe), operator norm 2 sigma (iid, goe) or sigma (orthogonal). The ranking of
the families depends on which of these is held equal, so comparisons say which.
"""

from __future__ import annotations

from typing import Any

from equikernel.errors import InputError
from equikernel.theory.initialisation import FAMILIES

__all__ = ["MATCHES", "matched_sigma", "scale_of"]

MATCHES = ("variance", "radius", "operator_norm")
_SCALES = {
    "iid": {"variance": 1, "radius": 1, "operator_norm": 2},
    "orthogonal": {"variance": 1, "radius": 1, "operator_norm": 1},
    "goe": {"variance": 1, "radius": 2, "operator_norm": 2},
}


def _factor(family: str, match: str, size: int | None) -> int:
    if match not in MATCHES:
        raise InputError(f"unknown match {match!r}: expected one of {', '.join(MATCHES)}")
    if family not in FAMILIES:
        raise InputError(
            f"{match} is undefined for the weight family {family!r}: only {', '.join(FAMILIES)} can be matched"
        )
    if size == 1 and match != "variance" and family != "orthogonal":
        raise InputError(
            f"the {match.replace('_', ' ')} of a 1 x 1 matrix of the {family} family is random at every sigma; "
            "match by variance, or take N > 1"
        )
    return _SCALES[family][match]


def scale_of(family: str, match: str, sigma: Any, size: int | None = None) -> Any:
    """The standard deviation, spectral radius or operator norm (as ``match`` says) of a family of scale sigma.

    The limits of large N are taken for every N > 1; at N = 1 they mean nothing. [Agarwala22], derived and checked.

    Args:
        family: "iid", "orthogonal" or "goe".
        match: "variance", "radius" or "operator_norm".
        sigma: standard deviation; any arithmetic.
        size: N, if it is known.

    Raises:
        InputError: an unknown match, a family without a known norm, or N = 1 where the norm is random.
    """
    return _factor(family, match, size) * sigma


def matched_sigma(family: str, match: str, value: Any, size: int | None = None) -> Any:
    """The sigma at which the matched quantity is ``value``: the inverse of ``scale_of``, with its arguments and errors.

    ``value`` is a standard deviation for "variance", so that the three scales can share an axis.
    """
    return value / _factor(family, match, size)
