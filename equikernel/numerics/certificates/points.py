"""The fixed points and coefficients of a certificate, confirmed with the other engine and more sharply than claimed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import exact, precision
from equikernel.numerics.certificates.budget import Budget
from equikernel.numerics.certificates.claims import RejectedError, require, require_sentence
from equikernel.numerics.certificates.coefficients import (
    COEFFICIENTS,
    STABILITY,
    UNENCLOSED,
    Coefficients,
    coefficients_at,
    meaning_of,
)
from equikernel.numerics.certificates.decimals import missing_bits
from equikernel.numerics.certificates.localise import Run
from equikernel.numerics.certificates.record import Record
from equikernel.numerics.certificates.refine import Zero, sharpen

__all__ = ["confirm_coefficients", "confirm_points"]

_MORE_BITS = 24  # how much sharper the coefficients are enclosed than claimed
_SLOPE_BITS = 40
_FEW_BITS, _MOST_BITS = 20, 4000
_T = TypeVar("_T")


def confirm_points(record: Record, runs: tuple[Run, ...], engine: str, budget: Budget) -> list[Zero]:
    """One ball for each run, with a change of sign of F over it, and its stability.

    Args:
        record: the claims.
        runs: those with exactly one zero, in order.
        engine: of ``ball_moments``; any other where it has no proof.
        budget: what it may take.

    Raises:
        RejectedError: a claim is false or could not be confirmed.
        UncertifiedError: F could not be enclosed, or not within the budget.
    """
    points, equation = record.points, record.equation
    require(len(points) == len(runs), f"there are {len(runs)} located fixed points, not {len(points)}")
    zeros = []
    for (q, stable), run in zip(points, runs, strict=True):
        budget.require("every fixed point was confirmed")
        name = f"the fixed point near q = {q.mid().str(10, radius=False)}"
        bits = _bits_of(q) + _MORE_BITS
        with precision(bits):
            low, high = q.lower(), q.upper()
            require(bool(low < run.upper) and bool(high > run.lower), f"{name} is not in its boxes")
            # beyond the ends of the run there is no other zero to look for: there the signs are known
            signs = [
                run.signs[0] if low <= run.lower else _sign(record, low, bits, engine),
                run.signs[1] if high >= run.upper else _sign(record, high, bits, engine),
            ]
            trivial = q.is_exact() and equation.sigma_a2 == 0 and bool(q == exact(equation.b))
            changes = signs in ([-1, 1], [1, -1])
            require(changes or trivial, f"{name}: no change of sign of q - T(q) over its ball")
            zero = Zero(q, arb(0, arb.pos_inf()))
            if stable is not None:
                zero = _zero_that_is(record, q, stable, engine)
                require(zero.stable is stable, f"{name}: its stability was not confirmed")
        zeros.append(zero)
    first_stable = next((index for index, (_, stable) in enumerate(points) if stable), None)
    require(record.selected == first_stable, "the coefficients do not belong to the smallest stable fixed point")
    return zeros


def confirm_coefficients(record: Record, zero: Zero, engine: str) -> None:
    """Every coefficient is enclosed or refused, every stability statement is there, and all are right.

    Raises:
        RejectedError: a claim is false or could not be confirmed.
        UncertifiedError: the coefficients could not be enclosed again.
    """
    told = {*record.enclosures, *record.refused}
    for name in COEFFICIENTS:
        require(name in told, f"the certificate says nothing about {name}")
    for name in sorted(told):
        require(name in COEFFICIENTS, f"there is no coefficient {name[:20]!r}")
        require(not (name in record.enclosures and name in record.refused), f"{name} is both enclosed and refused")
    if not record.enclosures and not record.stability:
        _confirm_refused(record, {})
        return
    found = _again(record, zero, engine)
    for name, claimed in record.enclosures.items():
        ball = found.balls.get(name)
        if ball is None:
            raise RejectedError(f"the enclosure of {name}: {found.refused.get(name, 'it has no meaning')}")
        shown = ball.mid().str(15, radius=False)
        require(bool(claimed.contains(ball)), f"the enclosure of {name} does not contain its value {shown}")
        # decimals widen a ball a little
        sharp = missing_bits(claimed, record.digits) <= 1
        require(sharp, f"the enclosure of {name} holds fewer than the {record.digits} digits of the certificate")
    _confirm_refused(record, found.refused)
    _confirm_stability(record, found)


def _confirm_refused(record: Record, refused: dict[str, str]) -> None:
    """The reasons are those found; what was not enclosed for want of digits or time is no claim about the network."""
    for name, reason in record.refused.items():
        if not reason.startswith(UNENCLOSED):
            require(name in refused, f"there is no reason to refuse {name}")
            require_sentence(f"refused: {name}", reason, refused[name])


def _confirm_stability(record: Record, found: Coefficients) -> None:
    require(set(record.stability) == set(STABILITY), f"the stability statements are {', '.join(STABILITY)}")
    for key, claim in record.stability.items():
        statement = found.stability[key]
        about = f"the stability statement {key}"
        require(
            claim.holds is None or statement.holds is claim.holds,
            f"{about}: {statement.name} < 1 is not {str(claim.holds).lower()}",
        )
        contained = claim.value is None or (statement.value is not None and claim.value.contains(statement.value))
        require(contained, f"the value of {statement.name} in {about} was not confirmed")
        require(claim.holds is None or claim.value is not None, f"{about} has a verdict and no value")
        require(claim.name == statement.name, f"{about} is about {statement.name}, not {claim.name[:40]}")
        require_sentence(about, claim.meaning, meaning_of(key, claim.holds, finite=claim.value is not None))


def _again(record: Record, zero: Zero, engine: str) -> Coefficients:
    radii = [_bits_of(ball) for ball in (*record.enclosures.values(), zero.q) if not ball.is_exact()]
    bits = max(radii, default=record.bits) + _MORE_BITS

    def compute(engine: str) -> Coefficients:
        q = zero.q if zero.q.is_exact() else sharpen(record.equation, zero, bits, engine)
        return coefficients_at(record.equation, q, bits, record.trained, engine)

    return _with_engine(compute, engine)


def _zero_that_is(record: Record, q: arb, stable: bool, engine: str) -> Zero:
    """A zero with F' on its ball from the engine or, where that does not prove what is claimed, from any."""
    compute = partial(record.equation.slope_over, q, _SLOPE_BITS)
    zero = Zero(q, _with_engine(compute, engine))
    return zero if zero.stable is stable else Zero(q, compute("auto"))


def _sign(record: Record, q: arb, bits: int, engine: str) -> int:
    """The sign of F, from the engine or, where that does not tell, from any."""
    for other in (engine, "auto"):
        try:
            value = record.equation.at(q, bits, other)[0]
        except UncertifiedError:
            continue
        if value > 0 or value < 0:
            return 1 if value > 0 else -1
    return 0


def _with_engine(compute: Callable[[str], _T], engine: str) -> _T:
    """By the other engine, or by any where that one has no proof."""
    try:
        return compute(engine)
    except UncertifiedError:
        return compute("auto")


def _bits_of(ball: arb) -> int:
    """Bits of relative accuracy of a ball; few of one around zero."""
    return min(max(int(ball.rel_accuracy_bits()), _FEW_BITS), _MOST_BITS)
