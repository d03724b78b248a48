"""Identities between what is computed and what is derived or proved: closed forms, certificates."""

from __future__ import annotations

import math

from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.certificates.check import check_certificate
from equikernel.numerics.closed_forms import verified_closed_forms
from equikernel.numerics.solve import COEFFICIENTS, solve
from equikernel.validation.identities import EPS, Identity, Measured, Point, Subject, worst

__all__ = ["PROOF_IDENTITIES"]

_ROUNDING = 64.0  # ulps: a coefficient is a quotient of a few moments, and gains 1 - sigma_a2 h magnify their rounding


def _closed_forms(subject: Subject, point: Point) -> Measured:
    closed = dict(verified_closed_forms(subject.activation).moments(point["tau"]).items())
    found = []
    for name, moment in subject.moments(point["tau"]).items():
        value = float(closed[name].value)
        tolerance = float(moment.error) + float(closed[name].error) + EPS * abs(value)
        found.append(
            Measured(abs(float(moment.value) - value), tolerance, f"{name} {moment.value!r}, closed {value!r}")
        )
    return worst(found)


def _certificate(subject: Subject, point: Point) -> Measured:
    certificate = certify(subject.deq, str(point["tau0"]), trained="a")
    report = check_certificate(certificate.to_dict())
    if not report.passed:
        return Measured(math.inf, 0.0, f"the certificate is rejected: {report.failure}")
    solution = solve(subject.deq, str(point["tau0"]), trained="a")
    found = []
    for name in COEFFICIENTS:
        ball = certificate.enclosures.get(name)
        if ball is not None:
            value, middle = float(getattr(solution, name)), float(ball.mid())
            tolerance = float(ball.rad()) + _ROUNDING * EPS * abs(middle)
            found.append(Measured(abs(value - middle), tolerance, f"{name} {value!r}, proved {middle!r}"))
    return worst(found)


def _scales(subject: Subject) -> list[Point]:
    return [{"tau": tau} for tau in subject.scales("closed forms", subject.few(0.1))]


PROOF_IDENTITIES = (
    Identity("closed forms", "float64 moments equal the closed forms, where there are some", _scales, _closed_forms),
    Identity(
        "certificate",
        "the solution lies in its certificate, which can be proved again from its JSON",
        lambda subject: [{"tau0": subject.tau0}],
        _certificate,
    ),
)
