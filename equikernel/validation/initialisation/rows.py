"""One row for each activation, family and sigma: the statistics of a DEQ at initialisation, or why there are none.

Everything is plain JSON types under the names of ``MeanField``, with the critical sigma and the bounds of the edge.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from equikernel.errors import EquikernelError, InputError, NoFixedPointError, SolutionError, UnstableError
from equikernel.numerics.initialisation import (
    Critical,
    InputLaw,
    MeanField,
    critical_sigma,
    haar_length_statistics,
    linear_depth_error,
    linear_deq,
    mean_field,
)
from equikernel.numerics.initialisation.precision import slope_range
from equikernel.theory.activation import Activation, activation
from equikernel.theory.initialisation import require_family
from equikernel.theory.initialisation_depth import tied_length, tied_noise, untied_length, untied_noise
from equikernel.theory.initialisation_scales import matched_sigma, scale_of
from equikernel.theory.models import exact_number
from equikernel.theory.program import X

__all__ = [
    "FIELDS",
    "InitRow",
    "answer_row",
    "critical_record",
    "exact_scales",
    "init_rows",
    "require_answer",
    "status_of",
]

FIELDS = (
    *("mean_square", "chi", "kappa", "stability", "tangent_length", "tangent_square", "radius", "length_noise"),
    "residual",
)


@dataclass(frozen=True)
class InitRow:
    """A row.

    Attributes:
        record: plain JSON types; ``status`` is "solved", "unstable", "no fixed point", "refused" (bad input) or
            "not found" (the numerics gave up).
        failure: why the fixed point is not stable, or there is none; None if all is well.
    """

    record: dict[str, Any]
    failure: EquikernelError | None = None


@dataclass(frozen=True)
class _Question:
    """What is asked of every row."""

    phi: Activation
    law: InputLaw
    digits: int | None
    size: int | None
    depth: int | None
    confirm: bool
    criticals: dict[str, Critical]

    @property
    def linear(self) -> bool:
        return bool(self.phi.has_expression and self.phi.expr == X)

    def critical(self, family: str) -> Critical:
        if family not in self.criticals:
            self.criticals[family] = critical_sigma(self.phi, family, self.law)
        return self.criticals[family]


def init_rows(
    act: str | Activation,
    families: Sequence[str],
    scales: Sequence[Any],
    law: InputLaw,
    *,
    match: str = "variance",
    digits: int | None = None,
    size: int | None = None,
    depth: int | None = None,
    confirm: bool = True,
    criticals: Mapping[str, Critical] | None = None,
) -> list[InitRow]:
    """The statistics of z = phi(W z) + x for every scale and family, scale by scale.

    A row without a stable fixed point says so and does not stop the others; see ``require_answer``. The leading values
    in 1/N are those of ``mean_field``, with its accuracy. No formula assumes that phi is odd or that x is symmetric.

    Args:
        act: activation.
        families: of weights.
        scales: of W: sigma, or its spectral radius or operator norm, as ``match`` says.
        law: of the entries of x.
        match: "variance" (the scale is sigma, a standard deviation), "radius" or "operator_norm".
        digits: significant digits; None for float64.
        size: N, for the exact lengths of a linear DEQ with orthogonal weights.
        depth: number of iterations, for a linear DEQ.
        confirm: whether residuals are recomputed with more digits, see ``mean_field``.
        criticals: the critical sigmas of families, as far as they are known already.

    Raises:
        InputError: an activation, a family, a match or a scale that cannot be read; size and depth for a nonlinear DEQ.
    """
    question = _Question(activation(act), law, digits, size, depth, confirm, dict(criticals or {}))
    exact = exact_scales(families, scales, match)
    if (size is not None or depth is not None) and not question.linear:
        raise InputError(
            f"statistics at finite N or finite depth are known for linear DEQs: {question.phi.name} is not the "
            "identity, so leave out --size and --depth"
        )
    rows = []
    for scale, family in itertools.product(exact, families):
        head = {"activation": question.phi.name, "family": family, "match": match, "scale": float(scale)}
        ask = partial(_row, question, family, match, scale)
        rows.append(answer_row(ask, {**head, "sigma": None, "law": law.name}))
    return rows


def exact_scales(families: Sequence[str], scales: Sequence[Any], match: str) -> list[Fraction]:
    """The scales as exact numbers.

    Raises:
        InputError: a scale, a family or a match that cannot be read.
    """
    for family in families:
        scale_of(require_family(family), match, 1)
    return [
        exact_number(scale, "sigma" if match == "variance" else f"the {match.replace('_', ' ')}") for scale in scales
    ]


def answer_row(ask: Callable[[], InitRow], head: dict[str, Any]) -> InitRow:
    """The row, or, where there is no number at all, its beginning ``head`` and the reason."""
    try:
        row = ask()
    except EquikernelError as error:
        row = InitRow({"status": status_of(error)}, error)
    message = None if row.failure is None else str(row.failure)
    return InitRow({**head, **row.record, "message": message}, row.failure)


def status_of(error: EquikernelError) -> str:
    """The word for a failure in a column of verdicts."""
    if isinstance(error, NoFixedPointError):
        return "no fixed point"
    if isinstance(error, UnstableError):
        return "unstable"
    return "refused" if isinstance(error, InputError) else "not found"


def require_answer(rows: Sequence[InitRow]) -> None:
    """Nothing, if one row at least has a stable fixed point.

    Raises:
        EquikernelError: none has; the error of the row if there is one, else one sentence for all.
    """
    if not rows or any(row.failure is None for row in rows):
        return
    first = rows[0].failure
    if first is None:
        raise AssertionError("looked at above")
    if len({str(row.failure) for row in rows}) == 1:
        raise first
    refused = [row.failure for row in rows if isinstance(row.failure, InputError)]
    if len(refused) == len(rows):
        raise first
    limits = {row.record["family"]: row.record.get("critical_sigma") for row in rows}
    shown = ", ".join(f"{value:.7g} ({family})" for family, value in limits.items() if value is not None)
    if not shown:
        raise first
    sigmas = ", ".join(dict.fromkeys(f"{row.record['sigma']:.6g}" for row in rows if row.record["sigma"] is not None))
    raise SolutionError(
        f"{rows[0].record['activation']} has no stable fixed point at sigma = {sigmas}; the critical sigma is {shown}: "
        "reduce sigma"
    )


def _row(question: _Question, family: str, match: str, scale: Fraction) -> InitRow:
    """The numbers of one row; of an unstable fixed point those that have a meaning."""
    phi, law = question.phi, question.law
    sigma: Fraction = matched_sigma(family, match, scale, question.size)
    record: dict[str, Any] = {"sigma": float(sigma), **dict.fromkeys(FIELDS)}
    record |= critical_record(question.critical(family))
    if question.linear:
        record["linear"] = _linear(family, sigma, question.size, question.depth)
    try:
        found = mean_field(phi, family, sigma, law, digits=question.digits, throw=False, confirm=question.confirm)
    except SolutionError as error:
        return InitRow({**record, "radius_bounds": None, "status": status_of(error)}, error)
    failure = None if found.stable else _unstable(found, record["critical_sigma"])
    numbers = found.to_dict()
    record |= {name: numbers[name] for name in (*FIELDS, "radius_bounds", "status")}
    if family == "goe":
        low, high = slope_range(phi)
        record["real_spectrum"] = not low < 0 < high
        if not found.stable:  # the minimum that is the edge has passed to the other side of the fixed point's response
            record["radius"] = record["radius_bounds"] = None
    return InitRow(record, failure)


def _unstable(found: MeanField, critical: float | None) -> UnstableError:
    name = "R" if found.family == "goe" else "chi"
    end = "unknown" if critical is None else f"{critical:.7g}"
    return UnstableError(
        f"the fixed point of {found.activation} with {found.family} weights is unstable at sigma = "
        f"{float(found.sigma):.6g} ({name} = {float(found.stability):.6g}, stable needs {name} < 1); the critical "
        f"sigma is {end}: reduce sigma"
    )


def critical_record(critical: Critical) -> dict[str, Any]:
    """The critical sigma (None if there is none) and its kind."""
    return {"critical_sigma": None if critical.kind == "none" else critical.sigma, "critical_kind": critical.kind}


def _linear(family: str, sigma: Fraction, size: int | None, depth: int | None) -> dict[str, Any]:
    """The closed forms of z = W z + x: lengths relative to |x|^2; see ``LinearStatistics``.

    At N = 1 the leading values mean nothing and only the exact ones of orthogonal weights are given.
    """
    stable = sigma < (Fraction(1, 2) if family == "goe" else 1)
    exact_only = size == 1 and family == "orthogonal"
    record: dict[str, Any] = {
        "leading": dict(vars(linear_deq(family, sigma, size))) if stable and not exact_only else None
    }
    if size is not None:
        haar = haar_length_statistics(size, sigma) if stable and family == "orthogonal" else None
        record["exact"] = None if haar is None else {"size": size, "mean": haar.mean, "variance": haar.variance}
    if depth is not None:
        s = sigma**2
        record["depth"] = {
            "iterations": depth,
            "length": float(tied_length(family, s, depth)),
            "length_noise": float(tied_noise(family, s, depth)),
            "untied_length": float(untied_length(s, depth)),
            "untied_noise": float(untied_noise(family, s, depth)),
            "error": linear_depth_error(family, sigma, depth) if stable else None,
        }
    return record
