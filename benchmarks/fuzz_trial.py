"""One trial of the fuzz campaign: one activation at one scale, through every way to its Gaussian moments.

Every method gives intervals (value and claimed error, or a ball); all pairs must overlap. A refusal is an error of
``equikernel.errors`` with a sentence; any other exception escapes on purpose: the campaign records it as a crash.
"""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import combinations
from types import TracebackType
from typing import Any, Protocol

from flint import arb
from fuzz_certificate import certificate_faults
from fuzz_texts import random_tau, random_text

from equikernel.errors import EquikernelError
from equikernel.numerics.balls.context import precision
from equikernel.numerics.balls.functions import mpf_ball
from equikernel.numerics.balls.moments import BallMoments, ball_moments
from equikernel.numerics.closed_form_balls import enclosure
from equikernel.numerics.moments import Moments, gaussian_moments, multiprecision_moments
from equikernel.theory.activation import Activation, activation
from equikernel.theory.closed_forms import closed_form_moments

__all__ = ["STAGES", "Reporter", "Trial", "compared", "run_trial"]

MOMENTS = ("mean", "V", "d1", "d2", "h", "v")
COMPARED_BITS = 256
ENGINE_BITS = (50, 64, 100)
MULTIPRECISION_DIGITS = 35
STAGES = ("parse", "float64", "mpmath", "integral", "trapezoid", "closed form", "certificate")
_LONGEST_SENTENCE = 700
_CERTIFIED = 0.15  # share of trials with a certificate

Values = dict[str, arb | None]
"""The moments of one method as balls; None where it says infinite, left out where it claims nothing."""


class Reporter(Protocol):
    """Hears of every stage before it begins, so that a hang has a name."""

    def __call__(self, stage: str) -> None: ...


class Trial:
    """What is run, from (seed, kind, index) alone."""

    def __init__(self, seed: int, kind: str, index: int) -> None:
        self.text = random_text(seed, kind, index)
        self.tau = random_tau(seed, kind, index)
        rng = random.Random(f"{seed}/{kind}/{index}/certificate")  # noqa: S311 - trials, not secrets
        self.bits = rng.choice(ENGINE_BITS)
        self.certified = rng.random() < _CERTIFIED
        self.generator = rng


class _Refusals(AbstractContextManager["_Refusals"]):
    """Turns an honest refusal into a record; whatever else is raised goes on."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record
        self.start = time.process_time()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.record["seconds"] = round(time.process_time() - self.start, 3)
        if error is None:
            self.record["status"] = "ok"
            return False
        if not isinstance(error, EquikernelError):
            return False
        sentence = str(error)
        if "\n" in sentence or len(sentence) > _LONGEST_SENTENCE or not sentence:
            return False
        self.record.update(status="refused", error=type(error).__name__, sentence=sentence)
        return True


def run_trial(trial: Trial, skip: frozenset[str], report: Reporter) -> dict[str, Any]:
    """Run all stages but those of ``skip``, and compare.

    Returns:
        stages: a record for every stage run, with status "ok" or "refused".
        disagreements: sentences; empty when all pairs agree.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return _run(trial, skip, report)


def _run(trial: Trial, skip: frozenset[str], report: Reporter) -> dict[str, Any]:
    stages: dict[str, dict[str, Any]] = {}
    found: dict[str, Values] = {}
    disagreements: list[str] = []

    def stage(name: str, run: Callable[[], Any]) -> Any:
        if name in skip:
            return None
        report(name)
        stages[name] = {}
        with _Refusals(stages[name]):
            return run()
        return None  # refused

    act = stage("parse", lambda: activation(trial.text))
    if act is None:
        return {"stages": stages, "disagreements": []}
    _check_values(act, disagreements)
    for name, run in _methods(act, trial).items():
        values = stage(name, run)
        if values is not None:
            found[name] = values
            stages[name]["digits"] = _digits(values)
    disagreements += compared(found)
    if trial.certified:
        disagreements += stage("certificate", lambda: certificate_faults(act, trial.generator)) or []
    return {"stages": stages, "disagreements": disagreements}


def _methods(act: Activation, trial: Trial) -> dict[str, Callable[[], Values]]:
    def balls(engine: str) -> Values:
        with precision(trial.bits):
            return _from_balls(ball_moments(act, arb(trial.tau), trial.bits, engine))

    return {
        "float64": lambda: _from_moments(gaussian_moments(act, trial.tau)),
        "mpmath": lambda: _from_moments(multiprecision_moments(act, trial.tau, MULTIPRECISION_DIGITS)),
        "integral": lambda: balls("integral"),
        "trapezoid": lambda: balls("trapezoid"),
        "closed form": lambda: _from_closed_forms(act, trial),
    }


def _from_moments(moments: Moments) -> Values:
    values: Values = dict.fromkeys(MOMENTS)
    with precision(COMPARED_BITS):
        for name, moment in moments.items():
            middle = mpf_ball(moment.value) if hasattr(moment.value, "_mpf_") else arb(float(moment.value))
            values[name] = arb(middle, moment.error) if math.isfinite(moment.error) else arb.nan()
    return values


def _from_balls(moments: BallMoments) -> Values:
    """Without v, the engines have not proved it to be finite: no claim."""
    return {"mean": moments.mean, **dict(moments.items())}


def _from_closed_forms(act: Activation, trial: Trial) -> Values:
    forms = closed_form_moments(act)
    with precision(COMPARED_BITS + trial.bits):
        tau = arb(trial.tau)
        values: Values = {name: enclosure(forms[name], tau) for name in MOMENTS if forms.get(name) is not None}
    if not act.has_square_integrable_derivative:
        values["v"] = None
    return values


def _digits(values: Values) -> float:
    """Significant digits of the worst moment that is not zero."""
    with precision(COMPARED_BITS):
        widths = [b.rad() / abs(b.mid()) for b in values.values() if b is not None and b.rad() != 0 and b.mid() != 0]
        return round(min((-float(w.log().mid()) / math.log(10) for w in widths if w > 0), default=999.0), 1)


def compared(found: dict[str, Values]) -> Iterator[str]:
    """Every pair of methods that do not overlap, or differ on what is infinite."""
    with precision(COMPARED_BITS):
        for (one, first), (other, second) in combinations(found.items(), 2):
            for name in sorted(first.keys() & second.keys()):
                a, b = first[name], second[name]
                if a is None and b is None:
                    continue
                if a is None or b is None:
                    yield f"{name}: {one} says {_shown(a)}, {other} says {_shown(b)}"
                elif not a.overlaps(b):
                    gap = abs(a.mid() - b.mid()).str(3, radius=False)
                    yield f"{name}: {one} {_shown(a)} and {other} {_shown(b)} are {gap} apart"


def _shown(ball: arb | None) -> str:
    return "infinite" if ball is None else f"{ball.mid().str(25, radius=False)} +- {ball.rad().str(3, radius=False)}"


def _check_values(act: Activation, disagreements: list[str]) -> None:
    """A parity that is claimed must hold wherever phi is evaluated."""
    if act.parity is None:
        return
    sign = 1 if act.parity == "even" else -1
    phi = act.function("mpmath", digits=30)
    ends = [abs(float(b)) for b in act.breakpoints]
    for x in [0.1, 0.7, 2.3, 11.0, *(1.01 * e + 0.01 for e in ends)]:
        left, right = phi(-x), phi(x)
        if abs(left - sign * right) > 1e-20 * (abs(left) + abs(right)):
            disagreements.append(f"parity: claimed {act.parity}, but phi({-x}) = {left} and phi({x}) = {right}")
