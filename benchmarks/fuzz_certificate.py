"""The certificate of a random network against its own check, and against the solver that proves nothing."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from equikernel.errors import EquikernelError, InputError
from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.certificates.check import check_certificate
from equikernel.numerics.fixed_points import scan_fixed_points
from equikernel.numerics.solve import COEFFICIENTS, Solution, solve
from equikernel.theory.activation import Activation
from equikernel.theory.models import DEQ

__all__ = ["certificate_faults"]

_DIGITS = 15
_FLOAT_ERROR = 1e-13  # of V and h, relative: what the solver promises of its moments
_SIGMA_A2 = ("0.05", "0.2", "0.5", "0.9", "0.99", "1.5", "4")
_SIGMA_B2 = ("0.8", "0.1", "1", "2", "1e-3")
_TAU0 = ("1", "0.5", "2")


def certificate_faults(act: Activation, rng: random.Random) -> list[str]:
    """Certify a random network of ``act``; sentences about what is wrong, none when all is well.

    The record must survive JSON and its own check, and a false digit put into it must not; the solver's fixed points
    must be those counted, and its numbers lie in the enclosures.
    """
    deq = DEQ(act, rng.choice(_SIGMA_A2), rng.choice(_SIGMA_B2))
    tau0 = rng.choice(_TAU0)
    trained = "aA" if act.has_square_integrable_derivative else "a"
    record = json.loads(json.dumps(certify(deq, tau0, _DIGITS, trained).to_dict(), allow_nan=False))
    setting = f"sigma_a2 = {deq.sigma_a2}, sigma_b2 = {deq.sigma_b2}, tau0 = {tau0}"
    faults = [*_check_faults(record, rng), *_solver_faults(deq, tau0, trained, record)]
    return [f"certificate at {setting}: {fault}" for fault in faults]


def _check_faults(record: dict[str, Any], rng: random.Random) -> Iterator[str]:
    if not record["checkable"]:
        yield "the text of the activation does not parse back"
        return
    report = check_certificate(record)
    if not report.passed:
        yield f"rejected by its check: {report.failure}"
        return
    tampered = _tampered(record, rng)
    if tampered is not None and _accepted(tampered):
        yield f"a tampered record is accepted: {tampered['enclosures']}"


def _tampered(record: dict[str, Any], rng: random.Random) -> dict[str, Any] | None:
    """The record with one enclosure moved by three radii; None when it has no inexact one."""
    inexact = [name for name, ball in record["enclosures"].items() if Fraction(ball["rad"]) > 0]
    if not inexact:
        return None
    other = copy.deepcopy(record)
    ball = other["enclosures"][rng.choice(inexact)]
    moved = Fraction(ball["mid"]) + 3 * Fraction(ball["rad"])
    scale = 10 ** (60 - math.floor(math.log10(abs(moved)))) if moved else 1
    ball["mid"] = f"{round(moved * scale)}e{-round(math.log10(scale))}"
    return other


def _accepted(record: dict[str, Any]) -> bool:
    try:
        return check_certificate(record).passed
    except InputError:
        return False


def _solver_faults(deq: DEQ, tau0: str, trained: str, record: dict[str, Any]) -> Iterator[str]:
    number = record["count"]["number"]
    try:
        scan = scan_fixed_points(deq, float(Fraction(tau0)))
        solution = solve(deq, tau0, trained=trained, throw=False)
    except EquikernelError:
        return  # the solver refuses what could be certified
    if number is not None and not scan.tangent and len(scan.points) > number and record["bound"]["sign"] != 0:
        yield f"{number} fixed points proved, {len(scan.points)} found by the scan: {[p.q for p in scan.points]}"
    if number is not None and len(scan.points) < number:
        yield f"{number} fixed points proved, but {len(scan.points)} found by the scan up to {scan.upper}"
    if solution.solved and record["selected"] is not None:
        yield from _outside(solution, record)


def _outside(solution: Solution, record: dict[str, Any]) -> Iterator[str]:
    """Numbers of the solver that lie outside their enclosures by more than their accuracy."""
    slope = record["stability"]["norm"]["value"]
    condition = 1.0 if slope is None else 1.0 / max(1.0 - float(slope["mid"]), 1e-12)
    for name in COEFFICIENTS:
        ball, value = record["enclosures"].get(name), getattr(solution, name)
        if ball is None or value is None:
            continue
        middle, radius = Fraction(ball["mid"]), Fraction(ball["rad"])
        allowed = radius + abs(middle) * Fraction(100 * _FLOAT_ERROR * condition**2)
        if abs(Fraction(float(value)) - middle) > allowed:
            yield f"{name} is {value!r} by the solver, {ball['mid']} by the certificate"
