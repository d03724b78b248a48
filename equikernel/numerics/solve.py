"""``solve``: the fixed point and the coefficients of the high-dimensional CK and NTK of a DEQ."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath

from equikernel.errors import (
    AccuracyError,
    InputError,
    SolutionError,
    UncertifiedError,
    UnstableError,
)
from equikernel.numerics.balls.context import bits_of_digits, precision
from equikernel.numerics.balls.functions import mpf_ball
from equikernel.numerics.certificates.certificate import Certificate, certify
from equikernel.numerics.certificates.coefficients import COEFFICIENTS
from equikernel.numerics.certificates.decimals import agrees, digits_answered_for
from equikernel.numerics.fixed_points import (
    FixedPoint,
    FixedPointScan,
    defect,
    polish,
    rounded_root,
    scan_fixed_points,
    selected_fixed_point,
)
from equikernel.numerics.initialisation.coefficients import goe_coefficients, goe_residual
from equikernel.numerics.moment_values import FLOAT64_DIGITS, Moments, format_number, require_derivative, small_number
from equikernel.numerics.moments import gaussian_moments
from equikernel.theory.equations import (
    ImplicitNTK,
    gain_linear,
    implicit_ck_coefficients,
    implicit_ntk_coefficients,
)
from equikernel.theory.models import DEQ, exact_number, require_trained
from equikernel.theory.multiprecision import mp_arithmetic

__all__ = ["COEFFICIENTS", "Solution", "solve"]

MAX_DIGITS = 1000
_CONTRADICTED = 1e-9  # relative defect of a float64 fixed point that rounding does not explain
CHECK_DIGITS = 32  # working digits of the residual of a float64 solution
_LATEX = {
    "tau": r"\tau_*",
    "q": r"\tau_*^2",
    "gamma2": r"\gamma^2",
    "lambda1": r"\lambda_1",
    "kappa2": r"\kappa^2",
    **{f"alpha{k}": rf"\alpha_{k}" for k in range(1, 5)},
    **{f"beta{k}": rf"\beta_{k}" for k in range(1, 4)},
}


@dataclass(frozen=True)
class Solution:
    """The solution of the four equations and everything that follows from it (theory, sections 2-4).

    Numbers are floats up to 15 digits and mpmath numbers above. tau is a standard deviation; q, gamma2 and kappa2 are
    variances. ``None`` stands for a coefficient that was not computed (a failed solve, returned with ``throw=False``).

    Attributes:
        residual: |q - T(q)|/q, recomputed with at least 15 more digits (see ``fixed_points.defect``).
        status: "solved", or the sentence of the error.
        other_fixed_points: the remaining solutions of T(q) = q found, as variances, with their stability.
        moments: the Gaussian moments at tau, with error bounds and provenance.
        certificate: what is proved about the fixed points and the coefficients, when it was asked for.
    """

    deq: DEQ
    tau0: Fraction
    digits: int
    trained: str
    status: str
    tau: Any = None
    q: Any = None
    gamma2: Any = None
    lambda1: Any = None
    alpha1: Any = None
    alpha2: Any = None
    alpha3: Any = None
    alpha4: Any = None
    beta1: Any = None
    beta2: Any = None
    beta3: Any = None
    kappa2: Any = None
    residual: Any = None
    other_fixed_points: tuple[FixedPoint, ...] = ()
    moments: Moments | None = None
    certificate: Certificate | None = None

    @property
    def solved(self) -> bool:
        """Whether every coefficient is there."""
        return self.status == "solved"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; numbers with more than 17 digits are strings."""
        result: dict[str, Any] = {
            "activation": self.deq.activation.name,
            "sigma_a2": float(self.deq.sigma_a2),
            "sigma_b2": float(self.deq.sigma_b2),
            "weights": self.deq.weights,
            "tau0": float(self.tau0),
            "digits": self.digits,
            "trained": self.trained,
        }
        result |= {name: format_number(getattr(self, name), self.digits) for name in COEFFICIENTS}
        result["residual"] = None if self.residual is None else small_number(self.residual)
        result["status"] = self.status
        others = [{"q": p.q, "slope": p.slope, "stable": p.stable} for p in self.other_fixed_points]
        result["other_fixed_points"] = None if self.deq.weights == "goe" else others  # None: not looked for
        if self.moments is not None:
            result["moments"] = {name: m.to_dict(self.digits) for name, m in self.moments.items()}
        if self.certificate is not None:
            result["certificate"] = self.certificate.to_dict()
        return result

    def to_latex(self) -> str:
        """A booktabs table of the coefficients."""
        rows = [
            rf"${_LATEX[name]}$ & {format_number(getattr(self, name), self.digits)} \\"
            for name in COEFFICIENTS
            if getattr(self, name) is not None
        ]
        return "\n".join([r"\begin{tabular}{ll}", r"\toprule", *rows, r"\bottomrule", r"\end{tabular}"])


def solve(
    deq: DEQ, tau0: Any = 1, digits: int = 15, trained: str = "aA", *, certified: bool = False, throw: bool = True
) -> Solution:
    """Solve the four equations of a DEQ and its NTK coefficients.

    For GOE weights the equations are those of docs/initialisation.md, tau^2 is the variance of what the sample's own
    response leaves of its preactivation, and accuracy is about 1e-12; no moments, no other fixed points.

    The fixed point is located by a scan in float64, of several the smallest stable one is taken (the others are
    named), and it is refined by Newton's iteration. Accuracy: ``digits`` significant digits (15: about 1e-14 relative).

    Args:
        deq: the network; its sigmas are variances.
        tau0: standard deviation of the data; a float is the decimal it prints as.
        digits: 1 to 1000. Up to 15 the arithmetic is float64, above mpmath.
        trained: which parameters the NTK trains: "a", "aA" or "aAB".
        certified: whether to prove, besides, how many fixed points there are and enclose the one taken and all
            coefficients (``Solution.certificate``, see ``certificates.certify``); the solution must lie inside.
        throw: with False, a problem without solution is returned with its sentence in ``status``.

    Raises:
        InputError: arguments out of range; an activation with jumps and trained other than "a"; GOE weights with more
            than 15 digits, a certificate, or an activation of unbounded slope.
        NoFixedPointError: T(q) = q has no stable solution.
        UnstableError: sigma_a2 v >= 1 (the NTK diverges) or sigma_a2 d1^2 >= 1.
        AccuracyError, ConvergenceError: the digits asked for were not reached, or solution and certificate disagree.
        UncertifiedError: a certificate was asked for, and not even the breakpoints or moments could be proved.
    """
    require_trained(trained)
    tau0 = exact_number(tau0, "tau0", positive=True)
    if digits not in range(1, MAX_DIGITS + 1):
        raise InputError(f"digits must be a whole number from 1 to {MAX_DIGITS}; got {digits!r}")
    if trained != "a":
        require_derivative(deq.activation)
    if certified or digits > FLOAT64_DIGITS:
        deq.require_independent("certificates and more than 15 digits are")
    # equal networks may call their activation by different names
    solution, error = _solved(deq, tau0, int(digits), trained, deq.activation.name)
    if certified:
        solution = replace(solution, certificate=certify(deq, tau0, int(digits), trained))
        _require_agreement(solution)
    if error is not None and throw:
        raise error
    return solution


def _require_agreement(solution: Solution) -> None:
    """Refuse a solution outside its certificate: another fixed point than the one proved, or wrong digits.

    Raises:
        AccuracyError: names the coefficient.
    """
    certificate = solution.certificate
    if certificate is None:
        return
    if solution.q is None and certificate.selected is not None:
        raise AccuracyError(
            f"the search for fixed points of {solution.deq.activation.name} missed the stable one that the certificate "
            f"proves, q = {certificate.points[certificate.selected].q.str(15, radius=False)}; trust the certificate "
            "(certify), and report this"
        )
    digits = digits_answered_for(solution.digits)
    with precision(bits_of_digits(solution.digits) + 64):
        for name, ball in certificate.enclosures.items():
            value = getattr(solution, name)
            if value is None:
                continue
            if not agrees(mpf_ball(mpmath.mpf(value) if isinstance(value, float) else value), ball, digits):
                raise AccuracyError(
                    f"the solver found {name} = {float(value):.15g} for {solution.deq.activation.name}, the "
                    f"certificate proves {ball.str(15, radius=False)} at the smallest stable fixed point; "
                    "trust the certificate, and report this"
                )


@lru_cache(maxsize=256)
def _solved(deq: DEQ, tau0: Fraction, digits: int, trained: str, _name: str) -> tuple[Solution, SolutionError | None]:
    """The solution, or a partial one with its error."""
    partial: dict[str, Any] = {}
    try:
        if deq.weights == "goe" and deq.sigma_a2:
            _compute_symmetric(deq, tau0, trained, partial)
            return Solution(deq, tau0, digits, trained, "solved", **partial), None
        scan = scan_fixed_points(deq, float(tau0))
        selected = selected_fixed_point(deq, scan)
        value, _ = defect(deq, tau0, selected.q, CHECK_DIGITS)
        if abs(value) > _CONTRADICTED * selected.q:
            scan = _certified_scan(deq, tau0)
            selected = selected_fixed_point(deq, scan)
        partial["other_fixed_points"] = tuple(p for p in scan.points if p is not selected)
        _compute(deq, tau0, digits, trained, selected, partial)
    except SolutionError as error:
        return Solution(deq, tau0, digits, trained, str(error), **partial), error
    return Solution(deq, tau0, digits, trained, "solved", **partial), None


def _certified_scan(deq: DEQ, tau0: Fraction) -> FixedPointScan:
    """The fixed points of a certificate, where the float64 quadrature does not see all of the activation.

    Raises:
        AccuracyError: they could not be proved.
    """
    try:
        certificate = certify(deq, tau0, FLOAT64_DIGITS, "a")
    except UncertifiedError as error:
        raise AccuracyError(
            f"the search for fixed points of {deq.activation.name} in float64 is contradicted by many digits (it has "
            f"features narrower than the quadrature's nodes), and nothing could be proved: {error}"
        ) from None
    points = [float(point.q.mid()) for point in certificate.points]
    slopes = [1.0 - float(defect(deq, tau0, q, CHECK_DIGITS)[1]) for q in points]
    lower = float(deq.sigma_b2 * tau0**2)
    upper = certificate.bound.upper or max(points, default=lower)
    return FixedPointScan(tuple(map(FixedPoint, points, slopes)), (), lower, upper, certificate.bound.sign)


def _compute_symmetric(deq: DEQ, tau0: Fraction, trained: str, result: dict[str, Any]) -> None:
    """Fill ``result`` for GOE weights."""
    scales = float(deq.sigma_a2), float(deq.sigma_b2), float(tau0)
    found = goe_coefficients(deq.activation, *scales, trained)
    result |= {"q": found.q, "tau": found.q**0.5, "residual": goe_residual(found, *scales)}
    for coefficients in (found.ck, found.ntk):
        result |= {f.name: float(getattr(coefficients, f.name)) for f in fields(coefficients)}


def _compute(deq: DEQ, tau0: Fraction, digits: int, trained: str, point: FixedPoint, result: dict[str, Any]) -> None:
    """Fill ``result`` with the fields of the Solution, in the order they become known."""
    q: Any
    number: Any
    if digits <= FLOAT64_DIGITS:
        number = float
        q, value = rounded_root(deq.activation.name, point.q, lambda q: defect(deq, tau0, q, CHECK_DIGITS))
        tau = q**0.5
    else:
        q = polish(deq, tau0, point.q, digits)
        number = mp_arithmetic(digits + 10).number
        tau = mp_arithmetic(digits + 10).context.sqrt(q)
        value, _ = defect(deq, tau0, q, digits + 17)
    moments = gaussian_moments(deq.activation, tau, digits if digits <= FLOAT64_DIGITS else digits + 5)
    sigma_a2, sigma_b2, tau02 = number(deq.sigma_a2), number(deq.sigma_b2), number(tau0) ** 2
    V, d1, d2, h = (m.value for m in (moments.V, moments.d1, moments.d2, moments.h))
    result |= {"q": q, "tau": tau, "moments": moments, "residual": number(abs(value) / q)}
    if gain_linear(d1, sigma_a2) <= 0:
        raise UnstableError(
            f"sigma_a2*d1^2 = {float(sigma_a2 * d1 * d1):.6g} >= 1 at the fixed point of {deq.activation.name}: "
            "inner products are amplified without bound and lambda1 has no meaning; reduce sigma_a2"
        )
    ck = implicit_ck_coefficients(V, d1, d2, h, sigma_a2, sigma_b2)
    result |= {f.name: getattr(ck, f.name) for f in fields(ck)}
    if trained == "a":
        ntk = ImplicitNTK(ck.alpha1, ck.alpha2, ck.alpha3, ck.gamma2)
    else:
        v = moments.v.value
        if sigma_a2 * v >= 1:
            raise UnstableError(
                f"sigma_a2*v = {float(sigma_a2 * v):.6g} >= 1 at the fixed point of {deq.activation.name} "
                "(the chaotic phase: identical inputs separate and the neural tangent kernel diverges); "
                'reduce sigma_a2, or ask for the conjugate kernel alone (trained="a")'
            )
        ntk = implicit_ntk_coefficients(ck, d1, d2, v, sigma_a2, sigma_b2, tau02, train_input=trained == "aAB")
    result |= {f.name: getattr(ntk, f.name) for f in fields(ntk)}
