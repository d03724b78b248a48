"""Rows for the kernel form z = phi(sigma_a A z + sigma_b B x)/sqrt m: K(x, x), K(y, y), K(x, y) of two samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from typing import Any

from equikernel.errors import NoFixedPointError, SolutionError, UnstableError
from equikernel.numerics.initialisation import Critical, InputLaw, kernel_pair
from equikernel.numerics.initialisation.branch import Branch, critical_point
from equikernel.numerics.initialisation.critical import critical_goe
from equikernel.numerics.initialisation.precision import require_slope
from equikernel.theory.activation import Activation, activation
from equikernel.theory.initialisation_scales import matched_sigma
from equikernel.theory.models import exact_number
from equikernel.validation.initialisation.rows import InitRow, answer_row, critical_record, exact_scales, status_of

__all__ = ["KERNEL_FIELDS", "KernelQuestion", "kernel_rows"]

KERNEL_FIELDS = ("xx", "yy", "xy", "chi_x", "chi_y", "slope", "stability_x", "stability_y")
_NOTHING = InputLaw.centring(0.0)  # is added outside phi, and taken from it


@dataclass(frozen=True)
class KernelQuestion:
    """Two samples and the scale of their weights.

    Attributes:
        sigma_b: standard deviation of B.
        norm2_x, norm2_y: |x|^2 and |y|^2.
        cosine: of the angle between x and y.

    The norms and sigma_b must be positive.
    """

    sigma_b: Any = 1
    norm2_x: Any = 1
    norm2_y: Any = 1
    cosine: float = 0.5

    def to_dict(self) -> dict[str, float]:
        """Plain JSON types."""
        sigma_b, norm2_x, norm2_y = map(float, self._exact)
        return {"sigma_b": sigma_b, "norm2_x": norm2_x, "norm2_y": norm2_y, "cosine": self.cosine}

    @property
    def _exact(self) -> tuple[Fraction, Fraction, Fraction]:
        return (
            exact_number(self.sigma_b, "sigma_b", positive=True),
            exact_number(self.norm2_x, "|x|^2", positive=True),
            exact_number(self.norm2_y, "|y|^2", positive=True),
        )

    @property
    def sigma_b2(self) -> float:
        """The variance of B."""
        return float(self._exact[0] ** 2)

    @property
    def gram(self) -> tuple[float, float, float]:
        """|x|^2, |y|^2, x.y."""
        _, x, y = self._exact
        return float(x), float(y), self.cosine * math.sqrt(float(x) * float(y))


def kernel_rows(
    act: str | Activation,
    families: Sequence[str],
    scales: Sequence[Any],
    question: KernelQuestion,
    match: str = "variance",
) -> list[InitRow]:
    """K and its stability for every scale and family; phi is not centred. Accuracy: see ``kernel_pair``.

    The critical sigma_a is that of the sample at which stability ends first.

    Args:
        act: activation.
        families: of weights.
        scales: of sigma_a A: sigma_a, or its spectral radius or operator norm, as ``match`` says.
        question: the samples and sigma_b.
        match: "variance" (the scale is sigma_a), "radius" or "operator_norm".

    Raises:
        InputError: an activation, a family or a number that cannot be read; x = 0 or sigma_b = 0, where K may vanish.
    """
    phi = activation(act)
    exact = exact_scales(families, scales, match)
    question.to_dict()  # reads its numbers
    critical = cache(lambda family: _critical(phi, family, question))
    rows = []
    for scale, family in itertools.product(exact, families):
        sigma = matched_sigma(family, match, scale)
        head = {"activation": phi.name, "family": family, "match": match, "scale": float(scale), "sigma": float(sigma)}
        rows.append(answer_row(partial(_row, phi, family, sigma, question, critical), head))
    return rows


def _row(
    phi: Activation, family: str, sigma: Fraction, question: KernelQuestion, critical_of: Callable[[str], Critical]
) -> InitRow:
    require_slope(phi)
    critical = critical_of(family)
    record = {**dict.fromkeys(KERNEL_FIELDS), **critical_record(critical)}
    try:
        found = kernel_pair(phi, family, float(sigma**2), question.sigma_b2, question.gram)
    except SolutionError as error:
        failure = error if float(sigma) < critical.sigma else _beyond(phi, family, sigma, critical)
        return InitRow({**record, "status": status_of(failure)}, failure)
    return InitRow({**record, **vars(found), "status": "solved"})


def _critical(phi: Activation, family: str, question: KernelQuestion) -> Critical:
    biases = {question.sigma_b2 * norm2 for norm2 in question.gram[:2]}
    limits = [
        critical_goe(phi, _NOTHING, bias) if family == "goe" else critical_point(Branch(phi, _NOTHING, bias))
        for bias in sorted(biases)
    ]
    return min(limits, key=lambda limit: limit.sigma)


def _beyond(phi: Activation, family: str, sigma: Fraction, critical: Critical) -> SolutionError:
    kind = NoFixedPointError if critical.kind == "no fixed point" else UnstableError
    return kind(
        f"the kernel of {phi.name} with {family} weights has no stable fixed point at sigma_a = {float(sigma):.6g}; "
        f"the critical sigma_a is {critical.sigma:.7g}: reduce sigma"
    )
