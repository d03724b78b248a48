"""phi = a x + b |x| + c (ReLU, leaky ReLU, |x|, linear up to scale): its dual activations in closed form.

The arc-cosine kernels of [Cho & Saul 2009], in the angle omega of ``numerics.dual``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import sympy as sp

from equikernel.theory.activation import Activation
from equikernel.theory.program import X

__all__ = ["AbsoluteForm", "absolute_form"]

FloatArray = npt.NDArray[np.float64]
_SERIES_TERMS = 8  # the next is 1e-19 of the first at 1/2
_MEAN = math.sqrt(2.0 / math.pi)  # E|xi|


@dataclass(frozen=True)
class AbsoluteForm:
    """The numbers of phi = a x + b |x| + c."""

    a: float
    b: float
    c: float

    def duals(
        self, centre: float, roots: tuple[FloatArray, FloatArray], omega: FloatArray, sign: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """E[phi_c(u) phi_c(v)], E[phi'(u) phi'(v)] and E[(phi_c(u) - s phi_c(v))^2] for correlations s cos(omega).

        With w, w' the standard deviations, E|u||v| = w w' (cos omega + (2/pi)(sin omega - omega cos omega)).
        """
        w, other = roots
        product, c = w * other, self.c - centre
        cosine = np.cos(omega)
        chord = 2.0 * np.sin(0.5 * omega) ** 2  # 1 - cos omega, without cancellation
        lune = (2.0 / math.pi) * _sine_less_chord(omega)
        means = self.b * _MEAN * (w + other)
        value = product * (self.a**2 * sign * cosine + self.b**2 * (cosine + lune)) + c * means + c * c
        slope = self.a**2 + self.b**2 * sign * (1.0 - omega * (2.0 / math.pi))
        linear = (w - other) ** 2 + 2.0 * product * chord
        near = (w - other) ** 2 + 2.0 * product * (chord - lune)
        far = (w + other) ** 2 - 2.0 * product * (chord - lune)
        opposite = self.b**2 * far + 4.0 * c * (c + means)
        distance = self.a**2 * linear + np.where(sign > 0.0, self.b**2 * near, opposite)
        return value, slope, distance


def _sine_less_chord(omega: FloatArray) -> FloatArray:
    """The sine less omega times the cosine, below 1/2 by its series sum_k (-1)^(k+1) 2k/(2k+1)! omega^(2k+1)."""
    square = omega * omega
    tail = np.zeros_like(omega)
    for k in range(_SERIES_TERMS, 0, -1):
        tail = 2.0 * k / math.factorial(2 * k + 1) - square * tail
    return np.where(omega < 0.5, omega * square * tail, np.sin(omega) - omega * np.cos(omega))


@lru_cache(maxsize=256)
def absolute_form(activation: Activation) -> AbsoluteForm | None:
    """The numbers of an activation a x + b |x| + c with b != 0, or None for any other."""
    at_zero = [float(b) for b in activation.breakpoints] == [0.0]
    if not at_zero or activation.jumps or not activation.has_expression:
        return None
    below, above = (sp.diff(piece.expr, X) for piece in activation.pieces)
    if below.has(X) or above.has(X):
        return None
    return AbsoluteForm(float((above + below) / 2), float((above - below) / 2), float(activation(0.0)))
