"""Explicit networks of finite width in torch: how they are centred, and their kernels from states and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from equikernel.numerics.moments import gaussian_moments, require_derivative
from equikernel.theory.models import ExplicitNetwork

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Normal", "explicit_sampler", "gram", "layer_means"]

Array = NDArray[np.float64]
Normal = Callable[[int, int], "Tensor"]  # a matrix of a network's stream, row by row


def layer_means(network: ExplicitNetwork) -> tuple[float, ...]:
    """E[sigma_l(tau_(l-1) xi)], first layer first, tau_l^2 the variance that is left (theory, section 1).

    Raises:
        AccuracyError: the moments of a layer did not converge.
    """
    means, tau = [], network.tau0
    for layer in network.layers:
        moments = gaussian_moments(layer.activation, tau)
        means.append(float(moments.mean.value))
        tau = math.sqrt(float(moments.V.value))
    return tuple(means)


def gram(Z: Tensor) -> Array:
    """Z^T Z in float64, symmetric to the bit."""
    G = (Z.T @ Z).double().cpu().numpy()
    return np.asarray((G + G.T) / 2.0)


def explicit_sampler(X: Tensor, network: ExplicitNetwork, width: int, *, ntk: bool) -> Callable[[Normal], Array]:
    """A function from a stream of normal numbers to the kernel (n, n) of the network that it makes.

    Formulas, u_l = W_l x_(l-1), x_l = (sigma_l(u_l) - mean_l)/sqrt(m), x_0 = x, and for f = a^T x_L the gradients
    delta_l = df/du_l: delta_L = a * sigma_L'(u_L)/sqrt(m), delta_(l-1) = W_l^T delta_l * sigma_(l-1)'(u_(l-1))/sqrt(m):

        G_ij = x_L,i . x_L,j,    K_ij = G_ij + sum_l eta_l (x_(l-1),i . x_(l-1),j) (delta_l,i . delta_l,j),

    as df/dW_l = delta_l x_(l-1)^T: exact at every width, without a Jacobian of the parameters. The stream yields
    W_1, W_2, ... and for the NTK then a.

    Args:
        X: (n, p), samples in rows.
        network: its centring and learning rates are honoured.
        width: m, of all hidden layers.
        ntk: K instead of G.

    Raises:
        InputError: an activation without a torch form; one whose derivative is not square integrable, for the NTK.
    """
    functions = [layer.activation.function("torch") for layer in network.layers]
    slopes = []
    if ntk:
        for layer in network.layers:
            require_derivative(layer.activation)
        slopes = [layer.activation.derivative("torch") for layer in network.layers]
    means, root = layer_means(network), math.sqrt(width)

    def conjugate(normal: Normal) -> Array:
        x = X.T
        for sigma, mean in zip(functions, means, strict=True):
            x = (sigma(normal(width, x.shape[0]) @ x) - mean) / root
        return gram(x)

    def tangent(normal: Normal) -> Array:
        x, passed = X.T, []
        for sigma, slope, mean, rate in zip(functions, slopes, means, network.learning_rates[:-1], strict=True):
            W = normal(width, x.shape[0])
            u = W @ x
            passed.append((rate, W, x, slope(u) / root))
            x = (sigma(u) - mean) / root
        kernel, back = gram(x), normal(width, 1)
        for rate, W, before, factor in reversed(passed):
            delta = factor * back
            kernel = kernel + rate * gram(before) * gram(delta)
            back = W.T @ delta
        return kernel

    return tangent if ntk else conjugate
