"""The branch of fixed points for GOE weights, with the variance w = s q as its parameter, and the critical sigma.

Var g = v = w + bias, and a = s chi gives a q(v, a) = w chi(v, a), one equation for a; then s = w/q. As w runs from 0
this follows the fixed point that exists at small sigma, through the folds where s turns and to infinity, where Newton's
iteration at fixed s loses its footing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import scipy.optimize

from equikernel.errors import AccuracyError, ConvergenceError
from equikernel.numerics.initialisation.branch import Branch, Critical, critical_point, smallest
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Precision, require_lipschitz, slope_range
from equikernel.numerics.initialisation.response import (
    Response,
    ResponseProblem,
    goe_transform,
    newton,
    solve_response,
)
from equikernel.numerics.initialisation.symmetric import Symmetric, symmetric
from equikernel.theory.activation import Activation

__all__ = ["GoeBranch", "GoePoint", "critical_goe", "goe_response"]

_PLAIN = Precision()
_PATIENCE = 40  # damped iterations before the branch is followed instead
_NEWTON = 12
_NEAR_END = 1e-9
_SETTLED = 4e-16


@dataclass(frozen=True)
class GoePoint:
    """One w: a, the integrals, q, s = w/q, chi = R = s E y^2 (what must stay below 1), kappa = 1 - dlog s/dlog w."""

    w: float
    a: float
    integrals: Symmetric
    q: float
    s: float
    chi: float
    kappa: float


class GoeBranch(Branch):
    """w -> (a, q, s, R, kappa); points are found from their neighbours, so ask in increasing order of w."""

    def __init__(self, activation: Activation, law: InputLaw, bias: float = 0.0) -> None:
        super().__init__(activation, law, bias)
        require_lipschitz(activation)
        self.range = slope_range(activation)
        self.last: GoePoint | None = None

    def at(self, w: float, precision: Precision = _PLAIN) -> GoePoint:  # type: ignore[override]
        """One point of the curve, in float64.

        Raises:
            AccuracyError: no a was found, or the quadrature did not converge.
        """
        start = 0.0 if self.last is None else self.last.a * min(1.0, w / self.last.w)
        a, found = self._response(w, start)
        s = w / found.square
        # a q = w chi along the branch, and so da/dw
        lean = found.square + a * found.square_a - w * found.response_a
        a_w = (found.response + w * found.response_v - a * found.square_v) / lean
        kappa = s * (found.square_v + found.square_a * a_w)
        self.last = GoePoint(w, a, found, float(found.square), float(s), float(s * found.replicon), float(kappa))
        return self.last

    def _response(self, w: float, a: float) -> tuple[float, Symmetric]:
        """The a with a q = w chi, by Newton's iteration, else by a bracket from 0."""
        for _ in range(_NEWTON):
            if not self._admits(a):
                break
            found = symmetric(self.activation, w + self.bias, a, self.law, _PLAIN)
            lean = found.square + a * found.square_a - w * found.response_a
            if lean == 0:
                break
            step = (a * found.square - w * found.response) / lean
            if abs(step) <= _SETTLED * (abs(a) + w / found.square * abs(found.response)) or step == 0:
                return a, found
            a = float(a - step)
        return self._bracketed(w)

    def _admits(self, a: float) -> bool:
        low, high = self.range
        return a * low < 1 and a * high < 1

    def _bracketed(self, w: float) -> tuple[float, Symmetric]:
        def excess(a: float) -> float:
            found = symmetric(self.activation, w + self.bias, a, self.law, _PLAIN)
            return float(a * found.square - w * found.response)

        low, high = self.range
        steepest = high if excess(0.0) < 0 else low
        end = (1 - _NEAR_END) / steepest
        near, far = 0.0, 0.5 * end
        while excess(far) * excess(0.0) > 0:
            near, far = far, 0.5 * (far + end)
            if abs(end - far) <= _NEAR_END * abs(end):
                raise AccuracyError(
                    f"the response of {self.activation.name} with GOE weights has no solution at s q = {w:.6g}"
                )
        a = scipy.optimize.brentq(excess, near, far, xtol=1e-300, rtol=1e-15)
        return a, symmetric(self.activation, w + self.bias, a, self.law, _PLAIN)


def critical_goe(activation: Activation, law: InputLaw, bias: float = 0.0) -> Critical:
    """The first sigma, going up from 0, at which R = 1 or beyond which there is no fixed point; see ``Critical``.

    Raises:
        InputError: phi' is unbounded, or z = 0.
        UnstableError: phi' is not square integrable.
    """
    return critical_point(GoeBranch(activation, law, bias))


def goe_response(activation: Activation, s: Any, law: InputLaw, precision: Precision, bias: float = 0.0) -> Response:
    """The fixed point of GOE weights: by damped iteration, or, where that is slow or fails, along the branch.

    Raises:
        NoFixedPointError, ConvergenceError: none was reached.
        InputError, UnstableError: see ``critical_goe``.
    """
    problem = ResponseProblem(activation, goe_transform(precision.number(s)), law, bias)
    try:
        return solve_response(problem, precision, _PATIENCE)
    except ConvergenceError:
        branch = GoeBranch(activation, law, bias)
        w = smallest(branch, float(s))
        found = newton(problem, w / float(s), branch.at(w).a / float(s), precision)
        if found is None:
            raise
        return found
