"""Fixed points (q, chi) for symmetric weights: q = E z^2, chi = E dz/dg with u = g + R(chi) z, Var g = R'(chi) q.

R is the R-transform of W's spectrum: R(c) = s c for GOE. ``bias`` adds to Var g what an independent Gaussian input
inside phi contributes (the kernel form).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from equikernel.errors import AccuracyError, ConvergenceError, InputError, UnstableError
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Precision, require_lipschitz, slope_range
from equikernel.numerics.initialisation.symmetric import Symmetric, symmetric
from equikernel.theory.activation import Activation

__all__ = [
    "Response",
    "ResponseProblem",
    "Transform",
    "evaluate",
    "goe_transform",
    "newton",
    "reflection_transform",
    "solve_response",
]

_NEWTON, _DAMPED = 40, 200
_CLOSE = 1e-2  # relative residual at which Newton's iteration takes over


@dataclass(frozen=True)
class Transform:
    """The R-transform of a symmetric rotation-invariant W, as functions of the response chi.

    Attributes:
        value: R(c) = sum_k kappa_(k+1) c^k, free cumulants of W's spectrum; kappa_1 = 0 is not required.
        slope: R'(c), a variance; R'(0) is that of the spectrum.
        curvature: R''(c), which only speeds up Newton's iteration; by differences of R' if None.
        name: how it is called in messages.
    """

    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    curvature: Callable[[Any], Any] | None = None
    name: str = "W"

    def bend(self, chi: Any) -> Any:
        """R''(chi)."""
        if self.curvature is not None:
            return self.curvature(chi)
        step = 1e-5 * (1 + abs(chi))
        return (self.slope(chi + step) - self.slope(chi - step)) / (2 * step)


def goe_transform(s: Any) -> Transform:
    """R(c) = s c, the semicircle's."""
    return Transform(lambda c: s * c, lambda c: s + 0 * c, lambda c: 0 * c, "GOE")


@dataclass(frozen=True)
class ResponseProblem:
    """z = phi(u) + x with symmetric weights; Var g = R'(chi) q + bias (a variance)."""

    activation: Activation
    transform: Transform
    law: InputLaw
    bias: Any = 0

    def parameters(self, q: Any, chi: Any, precision: Precision) -> tuple[Any, Any]:
        """(v, a) = (R'(chi) q + bias, R(chi))."""
        return self.transform.slope(chi) * q + precision.number(self.bias), self.transform.value(chi)

    def admits(self, q: Any, v: Any, a: Any) -> bool:
        """Whether q, v > 0 and 1 - a phi' > 0 everywhere."""
        low, high = slope_range(self.activation)
        return bool(q > 0 and v > 0 and a * high < 1 and a * low < 1)


@dataclass(frozen=True)
class Response:
    """A fixed point: q = E z^2, chi = E dz/dg, v = Var g, a = R(chi), and the integrals there."""

    q: Any
    chi: Any
    v: Any
    a: Any
    integrals: Symmetric
    transform: Transform

    @property
    def replicon(self) -> Any:
        """R'(chi) E y^2: perturbations decay below 1."""
        return self.transform.slope(self.chi) * self.integrals.replicon

    @property
    def derivatives(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Jacobian of (q - E z^2, chi - E y) in (q, chi)."""
        i, slope, bend = self.integrals, self.transform.slope(self.chi), self.transform.bend(self.chi) * self.q
        return (
            (1 - i.square_v * slope, -i.square_v * bend - i.square_a * slope),
            (-i.response_v * slope, 1 - i.response_v * bend - i.response_a * slope),
        )

    @property
    def defect(self) -> tuple[Any, Any]:
        """(q - E z^2, chi - E y)."""
        return self.q - self.integrals.square, self.chi - self.integrals.response

    @property
    def size(self) -> float:
        """The relative defect."""
        first, second = self.defect
        return max(float(abs(first) / self.q), float(abs(second) / (1 + abs(self.chi))))


def evaluate(problem: ResponseProblem, q: Any, chi: Any, precision: Precision) -> Response | None:
    """The equations at (q, chi); None where they have no meaning."""
    v, a = problem.parameters(q, chi, precision)
    if not problem.admits(q, v, a):
        return None
    try:
        found = symmetric(problem.activation, v, a, problem.law, precision)
    except (AccuracyError, UnstableError):
        return None
    return Response(q, chi, v, a, found, problem.transform)


def _step(problem: ResponseProblem, here: Response, precision: Precision) -> tuple[Response | None, float]:
    """One safeguarded step of Newton's iteration: the new point (None if there is none) and the relative step."""
    (a, b), (c, d) = here.derivatives
    first, second = here.defect
    determinant = a * d - b * c
    if determinant == 0:
        return None, math.inf
    dq, dchi = (d * first - b * second) / determinant, (a * second - c * first) / determinant
    length = max(float(abs(dq) / here.q), float(abs(dchi) / (1 + abs(here.chi))))
    for halving in range(20):
        share = precision.number(2.0**-halving)
        there = evaluate(problem, here.q - share * dq, here.chi - share * dchi, precision)
        if there is not None and (there.size < here.size or length < 1e-9):
            return there, length
    return None, length


def newton(problem: ResponseProblem, q: Any, chi: Any, precision: Precision) -> Response | None:
    """Newton's iteration from (q, chi), inside the domain of the equations; None if it does not converge."""
    here = evaluate(problem, precision.number(q), precision.number(chi), precision)
    settled = 64 * precision.unit
    for _ in range(_NEWTON):
        if here is None:
            return None
        there, length = _step(problem, here, precision)
        if length <= settled:
            return here
        if there is None:
            return here if here.size <= settled else None
        if length <= precision.unit**0.5 and there.size >= here.size:
            return here if here.size <= 16 * settled else None
        here = there
    return None


def solve_response(problem: ResponseProblem, precision: Precision, patience: int = _DAMPED) -> Response:
    """The fixed point reached from chi = 0 by damped iteration and Newton's method, first in float64.

    Args:
        problem: the equations.
        precision: of the result.
        patience: number of damped iterations.

    Raises:
        ConvergenceError: none was reached.
        InputError: phi' is unbounded, or z = 0.
        UnstableError: phi' is not square integrable.
    """
    require_lipschitz(problem.activation)
    plain = Precision()
    rest = float(problem.activation.function("numpy")(0.0))
    m1, m2 = problem.law.moment(1), problem.law.moment(2)
    q, chi = rest * rest + 2 * rest * m1 + m2, 0.0
    if q <= 0 and problem.bias == 0:
        raise InputError(
            f"the input x = 0 of {problem.activation.name} has the fixed point z = 0, whose length relative to x has "
            "no meaning; give an x that is not zero"
        )
    q = max(q, 1e-3 * float(problem.bias))
    best: Response | None = None
    for _ in range(patience):
        here = evaluate(problem, q, chi, plain)
        if here is None:
            break
        if here.size <= _CLOSE:
            best = newton(problem, q, chi, plain)
            if best is not None:
                break
        q, chi = _damped(problem, here, plain)
    if best is None:
        raise ConvergenceError(
            f"no fixed point of {problem.activation.name} with {problem.transform.name} weights was reached; "
            "reduce sigma"
        )
    if precision.digits is None:
        return best
    exact = newton(problem, best.q, best.chi, precision)
    if exact is None:
        raise ConvergenceError(
            f"Newton's iteration for {problem.activation.name} with {problem.transform.name} weights did not settle to "
            f"{precision.digits} digits: the fixed point is nearly double; change sigma slightly"
        )
    return exact


def _damped(problem: ResponseProblem, here: Response, precision: Precision) -> tuple[float, float]:
    """Half a step of the plain iteration, shortened until the equations keep their meaning."""
    first, second = here.defect
    share = 0.5
    for _ in range(20):
        q, chi = here.q - share * first, here.chi - share * second
        if problem.admits(q, *problem.parameters(q, chi, precision)):
            return q, chi
        share /= 2
    return here.q, here.chi


def reflection_transform(s: Any, sqrt: Callable[[Any], Any]) -> Transform:
    """R(c) = (sqrt(1 + 4 s c^2) - 1)/(2c), of W = sigma O diag(+-1) O^T with as many eigenvalues sigma as -sigma."""

    def root(c: Any) -> Any:
        return sqrt(1 + 4 * s * c * c)

    return Transform(
        lambda c: 2 * s * c / (1 + root(c)), lambda c: 2 * s / (root(c) * (1 + root(c))), None, "reflection"
    )
