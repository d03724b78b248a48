"""What a linearised network does when it is trained: gradient descent, gradient flow and ridge, in closed form.

The network f(x; theta) is replaced by f0(x) + J(x)(theta - theta0), J the Jacobian at theta0, trained on the squared
loss L = 1/2 sum_i (f(x_i) - y_i)^2; K = J J^T is its tangent kernel, every group of parameters weighed with its
learning rate. Sources: [Jacot18] for the flow, [Feng23] for the kernel of equilibrium models; the
rest is derived where it stands.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import InputError

__all__ = ["KernelModel"]

Array = NDArray[np.float64]


class KernelModel:
    """A linearised network by its kernel's columns K(x, x_i): x all samples, the n training samples first.

    Formulas, K = sum_k l_k v_k v_k^T on the training samples, r0 = f0 - y there, d = -r0: every prediction is

        f(x) = f0(x) + sum_k K(x, .) v_k g(l_k) v_k^T d,

    where g(l) = (1 - (1 - eta l)^t)/l after t steps of gradient descent of size eta, g(l) = (1 - exp(-eta l t))/l for
    the flow, and g(l) = 1/(l + lambda) for the minimum of L + lambda/2 ||theta - theta0||^2. The rounding error is of
    order eps cond for directions that are almost not learned, damped by K(x, .) v_k of order sqrt(l_k).

    Args:
        columns: (N, n), the first n rows symmetric.

    Raises:
        InputError: another shape.
    """

    def __init__(self, columns: Array) -> None:
        if columns.ndim != 2 or columns.shape[0] < columns.shape[1] or columns.shape[1] < 1:
            raise InputError(
                "the kernel of a linearised network must have a column for every training sample and a row for every "
                f"sample, the training samples first; got shape {columns.shape}"
            )
        self.columns = columns

    @property
    def training_kernel(self) -> Array:
        """K on the training samples, (n, n)."""
        return self.columns[: self.columns.shape[1]]

    @cached_property
    def _spectrum(self) -> tuple[Array, Array]:
        values, vectors = np.linalg.eigh((self.training_kernel + self.training_kernel.T) / 2.0)
        return values, vectors

    @property
    def largest(self) -> float:
        """The largest eigenvalue on the training samples."""
        return float(self._spectrum[0][-1])

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue there."""
        return float(self._spectrum[0][0])

    def descent(self, f0: Array, y: Array, rate: float, times: Array) -> Array:
        """The values after each number of steps of gradient descent of size ``rate``, (times, N).

        Formula: on the training samples f - y = (I - rate K)^t (f0 - y).

        Args:
            f0: (N,), the network before training.
            y: (n,), labels.
            rate: eta, below 2/largest if it is to converge.
            times: numbers of steps.
        """
        values = self._spectrum[0]
        learned = _one_minus_power(rate * values[None, :], times[:, None])
        return self._predicted(f0, y, _quotient(learned, values, rate * times[:, None]))

    def flow(self, f0: Array, y: Array, rate: float, times: Array) -> Array:
        """The same for steps that are infinitely small: f - y = exp(-rate K t)(f0 - y) on the training samples."""
        values = self._spectrum[0]
        learned = -np.expm1(-rate * values[None, :] * times[:, None])
        return self._predicted(f0, y, _quotient(learned, values, rate * times[:, None]))

    def ridge(self, f0: Array, y: Array, penalty: float) -> Array:
        """The values at the minimum of L + penalty/2 ||theta - theta0||^2, (N,): f0 + K (K + penalty)^-1 (y - f0).

        With f0 = 0 it is kernel ridge regression, and with a readout a alone trained, whose model is linear and
        J theta0 = f0, the minimum of L + penalty/2 ||a||^2.

        Args:
            f0: (N,).
            y: (n,).
            penalty: lambda, positive.
        """
        factors: Array = 1.0 / (self._spectrum[0] + penalty)
        prediction: Array = self._predicted(f0, y, factors[None, :])[0]
        return prediction

    def decay(self, f0: Array, drift: Array, y: Array, penalty: float) -> Array:
        """The values at the minimum of L + penalty/2 ||theta||^2, weight decay towards zero, (N,).

        Formula: with f0 + J (theta - theta0) = (f0 - J theta0) + J theta the problem is ridge regression of theta from
        zero, with offset f0 - J theta0:  f = f0 - J theta0 + K (K + penalty)^-1 (y - f0 + J theta0).

        It is the linearisation at theta0, from which decay carries the weights away: by all of ||theta0||, of order
        m, however wide the network. So it need not describe the network that is trained.

        Args:
            f0: (N,).
            drift: J theta0, (N,), the derivative of the network along its own initial weights.
            y: (n,).
            penalty: lambda, positive.
        """
        return self.ridge(f0 - drift, y, penalty)

    def _predicted(self, f0: Array, y: Array, factors: Array) -> Array:
        vectors = self._spectrum[1]
        weights = factors * (vectors.T @ (y - f0[: len(y)]))
        predicted: Array = f0 + weights @ (self.columns @ vectors).T
        return predicted


def _one_minus_power(x: Array, t: Array) -> Array:
    """1 - (1 - x)^t, accurate for small x too."""
    small: Array = -np.expm1(t * np.log1p(-np.minimum(x, 0.5)))
    return np.where(x < 0.5, small, 1.0 - (1.0 - x) ** t)


def _quotient(learned: Array, values: Array, limit: Array) -> Array:
    """learned/values, and its limit where an eigenvalue is zero."""
    shape = learned.shape
    return np.divide(learned, values[None, :], out=np.broadcast_to(limit, shape).copy(), where=values[None, :] != 0.0)
