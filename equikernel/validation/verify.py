"""``verify``: the identities every activation must satisfy, run on one activation, with the smallest counterexample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from equikernel.errors import EquikernelError, InputError
from equikernel.numerics.moments import require_derivative
from equikernel.theory.activation import Activation
from equikernel.theory.models import DEQ, exact_number
from equikernel.validation.identities import Identity, Measured, Point, Subject
from equikernel.validation.identities_of_functions import FUNCTION_IDENTITIES
from equikernel.validation.identities_of_kernels import KERNEL_IDENTITIES
from equikernel.validation.identities_of_moments import MOMENT_IDENTITIES
from equikernel.validation.identities_of_proofs import PROOF_IDENTITIES

__all__ = ["Check", "VerifyReport", "verify"]

_SHRINKS = 60  # measurements spent on making one counterexample smaller
_POSITIVE = frozenset({"tau", "tau0", "q", "q_i", "q_j"})  # shrinking keeps these positive
_FIXED = frozenset({"sign"})  # and these as they are
MAX_EXAMPLES = 1000


@dataclass(frozen=True)
class Check:
    """One identity on one activation.

    Attributes:
        name: of the identity.
        statement: the formula.
        passed: whether it held at every point; True when skipped.
        skipped: why it was not run, or None.
        worst: the error at the point nearest to failing.
        tolerance: what the error may be there, from the error bounds that the library claims.
        detail: the two numbers compared there, and how many points were tried and refused.
        counterexample: the smallest point found at which the identity fails, or None.
    """

    name: str
    statement: str
    passed: bool
    skipped: str | None
    worst: float
    tolerance: float
    detail: str
    counterexample: dict[str, Any] | None


@dataclass(frozen=True)
class VerifyReport:
    """The checks of one activation in one DEQ."""

    activation: Activation
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; an error that is not finite is None."""
        return {
            "activation": self.activation.to_dict(),
            "passed": self.passed,
            "checks": [
                {**asdict(check), "worst": check.worst if math.isfinite(check.worst) else None} for check in self.checks
            ],
        }

    def to_markdown(self) -> str:
        """A table, and below it what failed or was skipped."""
        rows = [f"| {c.name} | {_verdict(c)} | {_cell(c.statement)} |" for c in self.checks]
        notes = [f"- **{c.name}** skipped: {c.skipped}" for c in self.checks if c.skipped is not None]
        notes += [f"- **{c.name}** fails at `{c.counterexample}`: {c.detail}" for c in self.checks if not c.passed]
        head = [
            f"# {self.activation.name}: {'every identity holds' if self.passed else 'FAILED'}",
            "",
            "| check | result | worst | tolerance | identity |",
            "|---|---|---|---|---|",
        ]
        return "\n".join([*head, *rows, *([""] if notes else []), *notes])


def _verdict(check: Check) -> str:
    """Three cells: the result, the worst error, its tolerance."""
    if check.skipped is not None:
        return "skipped | | "
    return f"{'pass' if check.passed else '**FAIL**'} | {check.worst:.2g} | {check.tolerance:.2g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def verify(
    activation: Any,
    *,
    sigma_a2: Any = "0.2",
    sigma_b2: Any = "0.8",
    tau0: Any = 1,
    seed: int = 0,
    examples: int = 20,
) -> VerifyReport:
    """Check the identities of theory, sections 2 to 5, on one activation.

    Deterministic for a seed. The tolerances are the library's own claims (error bounds of moments, documented
    accuracies of functions, duals and kernels) and the known errors of the independent computation. A check is
    skipped, with the reason, where it has no meaning (E[phi'^2] for phi that jumps) or where the library refuses every
    point of it (no fixed point at these variances).

    Args:
        activation: anything ``equikernel.activation`` takes.
        sigma_a2: hidden variance.
        sigma_b2: input variance.
        tau0: scale of the data, a standard deviation.
        seed: of the random points, at least 0.
        examples: random points of a cheap check; dear ones take a share of it.

    Returns:
        A report whose ``checks`` say what was compared, how close it came, and where it fails.

    Raises:
        InputError: a bad activation, variance, seed or number of examples.
    """
    deq = DEQ(activation, sigma_a2, sigma_b2)
    scale = float(exact_number(tau0, "tau0", positive=True))
    _check_count("seed", seed, 0)
    _check_count("examples", examples, 1)
    if examples > MAX_EXAMPLES:
        raise InputError(f"examples must be at most {MAX_EXAMPLES}; got {examples}: run more seeds instead")
    subject = Subject(deq, scale, seed, examples)
    identities = (*FUNCTION_IDENTITIES, *MOMENT_IDENTITIES, *KERNEL_IDENTITIES, *PROOF_IDENTITIES)
    return VerifyReport(deq.activation, tuple(_check(identity, subject) for identity in identities))


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}; got {value!r}")


def _check(identity: Identity, subject: Subject) -> Check:
    if identity.needs_slope:
        try:
            require_derivative(subject.activation)
        except InputError as error:
            return _skipped(identity, str(error))
    points = identity.points(subject)
    if not points:
        return _skipped(identity, "the package it compares with is not installed")
    results: list[tuple[Point, Measured]] = []
    refusals: list[str] = []
    for point in points:
        try:
            results.append((point, identity.measure(subject, point)))
        except EquikernelError as error:
            refusals.append(str(error))
    if not results:
        return _skipped(identity, refusals[0])
    point, measured = max(results, key=lambda result: result[1].ratio)
    counterexample = None
    if not measured.holds:
        counterexample, measured = _smallest(identity, subject, point, measured)
    count = f"{len(results)} points" + (f", {len(refusals)} refused: {refusals[0]}" if refusals else "")
    return Check(
        name=identity.name,
        statement=identity.statement,
        passed=measured.holds,
        skipped=None,
        worst=measured.error,
        tolerance=measured.tolerance,
        detail=f"{measured.what} ({count})",
        counterexample=counterexample,
    )


def _skipped(identity: Identity, reason: str) -> Check:
    return Check(identity.name, identity.statement, True, reason, 0.0, 0.0, "", None)


def _smallest(identity: Identity, subject: Subject, point: Point, measured: Measured) -> tuple[Point, Measured]:
    """Greedy descent to simpler points at which the identity still fails."""
    budget = _SHRINKS
    progress = True
    while progress and budget > 0:
        progress = False
        for candidate in _simpler(point):
            budget -= 1
            try:
                found = identity.measure(subject, candidate)
            except EquikernelError:
                continue
            if not found.holds:
                point, measured, progress = candidate, found, True
                break
            if budget <= 0:
                break
    return point, measured


def _simpler(point: Point) -> Iterator[Point]:
    """Points one step simpler, the boldest steps first."""
    for name, value in point.items():
        if name in _FIXED:
            continue
        if isinstance(value, list):
            yield from ({**point, name: rows} for rows in _simpler_matrices(value))
        else:
            yield from ({**point, name: x} for x in _simpler_numbers(value) if name not in _POSITIVE or x > 0.0)


def _simpler_numbers(value: float) -> Iterator[float]:
    candidates = [0.0, 1.0, -1.0, float(round(value)), *(float(f"{value:.{digits}g}") for digits in (1, 2, 3, 6))]
    if abs(value) > 1.0:
        candidates.append(value / 2.0)
    yield from (
        c for c in dict.fromkeys(candidates) if _complexity(c) < _complexity(value) and abs(c) <= max(1.0, abs(value))
    )


def _complexity(value: float) -> tuple[int, int, float, bool]:
    """0 and 1 first, whole numbers before fractions, few digits before many, then small and positive ones."""
    rank = {0.0: 0, 1.0: 1}.get(abs(value), 2 if value == round(value) else 3)
    digits = len(repr(value).partition("e")[0].strip("-0.").replace(".", ""))
    return rank, digits, abs(value), value < 0


def _simpler_matrices(rows: list[list[float]]) -> Iterator[list[list[float]]]:
    """Without a row, without a column, with one entry simpler."""
    if len(rows) > 1:
        yield from (rows[:i] + rows[i + 1 :] for i in range(len(rows)))
    if len(rows[0]) > 1:
        yield from ([row[:j] + row[j + 1 :] for row in rows] for j in range(len(rows[0])))
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            for change in _simpler_numbers(entry):
                yield [*rows[:i], [*row[:j], change, *row[j + 1 :]], *rows[i + 1 :]]
