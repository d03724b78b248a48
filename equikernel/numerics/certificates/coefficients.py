"""Every coefficient as a ball, from a ball that contains the fixed point; and the stability statements."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from flint import arb

from equikernel.numerics.balls.context import exact, precision
from equikernel.numerics.balls.functions import ball_function
from equikernel.numerics.balls.joins import is_continuous
from equikernel.numerics.balls.moments import BallMoments, ball_moments
from equikernel.numerics.certificates.decimals import is_recordable, to_record
from equikernel.numerics.certificates.equation import Equation
from equikernel.theory.equations import (
    fixed_point_slope,
    implicit_ck_coefficients,
    implicit_ntk_coefficients,
)

__all__ = [
    "COEFFICIENTS",
    "STABILITY",
    "UNENCLOSED",
    "Coefficients",
    "Statement",
    "coefficients_at",
    "meaning_of",
    "unenclosed",
]

COEFFICIENTS = (
    *("tau", "q", "gamma2", "lambda1", "alpha1", "alpha2", "alpha3", "alpha4"),
    *("beta1", "beta2", "beta3", "kappa2"),
)
UNENCLOSED = "no enclosure: "  # begins the sentence about a coefficient that may have a meaning, but was not enclosed
_GUARD = 16


@dataclass(frozen=True)
class Statement:
    """value < 1, proved, refuted or undecided.

    Attributes:
        name: what the value is, such as "sigma_a2*h".
        value: its ball; None when it is infinite or not proved to be finite.
        holds: True, False, or None for undecided.
        meaning: what follows from it.
    """

    name: str
    value: arb | None
    holds: bool | None
    meaning: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        value = None if self.value is None else to_record(self.value)
        return {"name": self.name, "value": value, "holds": self.holds, "meaning": self.meaning}


# key of the certificate: (the value's name, what value < 1 means, what value >= 1 means)
STABILITY = {
    "norm": ("sigma_a2*h", "the fixed point is attracting", "the fixed point repels: alpha4 has no meaning"),
    "chaos": (
        "sigma_a2*v",
        "identical inputs stay together and the NTK is finite",
        "the chaotic phase: identical inputs separate, the NTK diverges and kappa2 is not a kernel entry",
    ),
    "linear": ("sigma_a2*d1^2", "inner products are amplified finitely", "lambda1 has no meaning"),
}


@dataclass(frozen=True)
class Coefficients:
    """Balls of the coefficients at one fixed point.

    Attributes:
        balls: those that have a meaning, by their names in ``Solution``.
        refused: the others, with the sentence why.
        stability: statements by the keys of ``STABILITY``.
        engine: the engine of ``ball_moments`` that they come from; None when nothing was enclosed.
    """

    balls: dict[str, arb]
    refused: dict[str, str]
    stability: dict[str, Statement]
    engine: str | None


def unenclosed(reason: str) -> Coefficients:
    """No coefficient at all, for want of digits or time."""
    return Coefficients({}, dict.fromkeys(COEFFICIENTS, f"{UNENCLOSED}{reason}"), {}, None)


def coefficients_at(equation: Equation, q: arb, bits: int, trained: str, engine: str = "auto") -> Coefficients:
    """The coefficients at every q of a ball that contains a fixed point.

    Args:
        equation: the network.
        q: a ball around a fixed point.
        bits: accuracy of the moments.
        trained: "a", "aA" or "aAB".
        engine: of ``ball_moments``.

    Raises:
        UncertifiedError: the moments could not be enclosed.
    """
    with precision(bits + 2 * _GUARD):
        tau = q.sqrt()
        moments = ball_moments(equation.activation, tau, bits + _GUARD, engine)
        a2, b2, tau02 = exact(equation.sigma_a2), exact(equation.sigma_b2), exact(equation.tau0**2)
        stability = _stability(equation, moments, a2)
        balls: dict[str, arb] = {"tau": tau, "q": q, "gamma2": moments.V}
        refused: dict[str, str] = {}
        ck = implicit_ck_coefficients(moments.V, moments.d1, moments.d2, moments.h, a2, b2)
        ck_balls = {f.name: getattr(ck, f.name) for f in fields(ck)}
        needs = {"lambda1": "linear", "alpha1": "linear", "alpha2": "linear norm", "alpha3": "linear", "alpha4": "norm"}
        for name, needed in needs.items():
            _admit(name, ck_balls[name], needed, stability, balls, refused)
        if trained == "a":
            ntk_balls = {"beta1": ck.alpha1, "beta2": ck.alpha2, "beta3": ck.alpha3, "kappa2": ck.gamma2}
            chaos = ""
        else:
            v = stability["chaos"].value
            v = arb.nan() if v is None or moments.v_or_none is None else moments.v_or_none
            ntk = implicit_ntk_coefficients(ck, moments.d1, moments.d2, v, a2, b2, tau02, train_input=trained == "aAB")
            ntk_balls = {f.name: getattr(ntk, f.name) for f in fields(ntk)}
            chaos = " chaos"
        for name, needed in {"beta1": "linear", "beta2": "linear norm", "beta3": "linear", "kappa2": ""}.items():
            _admit(name, ntk_balls[name], needed + chaos, stability, balls, refused)
        return Coefficients(balls, refused, stability, moments.engine)


def _stability(equation: Equation, moments: BallMoments, a2: arb) -> dict[str, Statement]:
    v = moments.v_or_none if is_continuous(ball_function(equation.activation)) else None
    values = {
        "norm": fixed_point_slope(moments.h, a2),
        "chaos": None if v is None else a2 * v,
        "linear": a2 * moments.d1 * moments.d1,
    }
    found = {}
    for key, (name, _, _) in STABILITY.items():
        value = values[key]
        value = None if value is None or not is_recordable(value) else value
        holds = None if value is None else True if value < 1 else False if value >= 1 else None
        found[key] = Statement(name, value, holds, meaning_of(key, holds, finite=value is not None))
    return found


def meaning_of(key: str, holds: bool | None, *, finite: bool) -> str:
    """The sentence of a stability statement: what follows from the verdict on a value that is finite or not."""
    name, good, bad = STABILITY[key]
    if not finite:
        return (
            "E[phi'^2] is not proved to be finite: phi jumps, or phi' is unbounded at a breakpoint"
            if key == "chaos"
            else f"{name} could not be enclosed"
        )
    return good if holds else bad if holds is False else f"{name} is not distinguishable from 1"


def _admit(
    name: str, ball: arb, needed: str, stability: dict[str, Statement], balls: dict[str, arb], refused: dict[str, str]
) -> None:
    """Keep a coefficient if every statement it needs holds and it is finite; else say why not."""
    for key in needed.split():
        statement = stability[key]
        if statement.holds is not True:
            value = "" if statement.value is None else f" = {float(statement.value.mid()):.6g}"
            verdict = "is not below 1" if statement.holds is False else "is not proved to be below 1"
            refused[name] = f"{statement.name}{value} {verdict}: {statement.meaning}"
            return
    if not is_recordable(ball):
        refused[name] = f"{UNENCLOSED}the ball is of no use; ask for more digits"
        return
    balls[name] = ball
