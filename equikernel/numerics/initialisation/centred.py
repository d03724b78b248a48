"""The branch of fixed points of the kernel form with GOE weights whose activation is centred at every point of it.

At each w = sigma_a2 K the constant c solves E[phi(u)] = c together with the equation of the response; see ``critical``
for the branch of a given constant.
"""

from __future__ import annotations

import math

import numpy as np

from equikernel.errors import AccuracyError
from equikernel.numerics.initialisation.branch import Branch
from equikernel.numerics.initialisation.critical import GoePoint
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Precision, slope_range
from equikernel.numerics.initialisation.symmetric import symmetric
from equikernel.theory.activation import Activation

__all__ = ["CentredBranch"]

_PLAIN = Precision()
_STEPS = 40
_SETTLED = 1e-14


class CentredBranch(Branch):
    """w -> (a, K, s, R, kappa) and c; points are found from their neighbours, so ask in increasing order of w.

    Args:
        activation: of bounded slope.
        bias: variance of the Gaussian input inside phi, positive.
    """

    def __init__(self, activation: Activation, bias: float) -> None:
        super().__init__(activation, InputLaw.centring(0.0), bias)
        rest = symmetric(activation, bias, 0.0, self.law, _PLAIN)
        self.centre = float(rest.mean)
        self._rest = float(rest.square) - self.centre**2
        self._a = 0.0
        self._slopes = slope_range(activation)

    def at_rest(self) -> float:
        """K at w = 0: the variance of phi."""
        return self._rest

    def at(self, w: float, precision: Precision = _PLAIN) -> GoePoint:  # type: ignore[override]
        """One point of the curve, in float64; ``centre`` is then its c.

        Newton's iteration for a K = w chi and E psi = 0 in (a, c), from the last point. Derivatives in c: psi depends
        on g - a c, so that dpsi/dc = -(1 + a psi') and dpsi'/dc = -a psi'', with E psi psi' = d(E psi)/da and
        E psi'' = 2 d(E psi)/dv.

        Raises:
            AccuracyError: no a or no c was found, or the quadrature did not converge.
        """
        a, c = self._a, self.centre
        for _ in range(_STEPS):
            if not all(a * slope < 1 for slope in self._slopes):
                break
            i = symmetric(self.activation, w + self.bias, a, InputLaw.centring(c), _PLAIN)
            square_c, response_c, mean_c = -2 * (i.mean + a * i.mean_a), -2 * a * i.mean_v, -(1 + a * i.response)
            jacobian = np.array(
                [
                    [i.square + a * i.square_a - w * i.response_a, a * square_c - w * response_c],
                    [i.mean_a, mean_c],
                ]
            )
            defect = np.array([a * i.square - w * i.response, i.mean])
            try:
                da, dc = np.linalg.solve(jacobian, defect)
                # along the branch
                a_w, c_w = np.linalg.solve(jacobian, [i.response + w * i.response_v - a * i.square_v, -i.mean_v])
            except np.linalg.LinAlgError:
                break
            if abs(da) * math.sqrt(i.square) + abs(dc) <= _SETTLED * (abs(c) + math.sqrt(i.square)):
                self._a, self.centre = a, c
                s = w / i.square
                kappa = s * (i.square_v + i.square_a * a_w + square_c * c_w)
                return GoePoint(w, a, i, float(i.square), float(s), float(s * i.replicon), float(kappa))
            a, c = float(a - da), float(c - dc)
        raise AccuracyError(
            f"the branch of centred fixed points of {self.activation.name} with GOE weights was lost at sigma_a2 K = "
            f"{w:.6g}"
        )
