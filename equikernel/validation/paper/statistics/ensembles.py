"""Stacks of weights and inputs, their fixed points, and lengths of linear DEQs by reductions that keep the law."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import ConvergenceError
from equikernel.numerics.initialisation import InputLaw
from equikernel.validation.deq.weights import draw_hidden_weights

__all__ = [
    "fixed_points",
    "input_entries",
    "iterated",
    "linear_lengths",
    "reflection_stack",
    "resolvents",
    "squared_norms",
    "weight_stack",
]

Array = NDArray[np.float64]

_TOLERANCE = 1e-11
_ITERATIONS = 4000
_PATIENCE = 500  # iterations after which steps are halved
_BLOCK = 8  # matrices in memory at a time
_ENTRIES = 4_000_000  # numbers in memory at a time, of tridiagonal matrices


def weight_stack(stream: np.random.Generator, family: str, sigma: float, count: int, size: int) -> Array:
    """``count`` matrices W of scale sigma (a standard deviation), shape (count, N, N)."""
    scale = sigma / math.sqrt(size)
    return scale * np.stack([draw_hidden_weights(stream, size, family) for _ in range(count)])


def reflection_stack(stream: np.random.Generator, sigma: float, count: int, size: int) -> Array:
    """W = sigma O diag(+-1) O^T, O Haar, with as many eigenvalues sigma as -sigma (N even); shape (count, N, N)."""
    O = weight_stack(stream, "orthogonal", 1.0, count, size)  # noqa: E741 - the name of an orthogonal matrix
    signs = np.where(np.arange(size) % 2, -1.0, 1.0)
    return sigma * (O * signs) @ O.swapaxes(1, 2)


def input_entries(stream: np.random.Generator, law: InputLaw, size: int) -> Array:
    """The entries of one x, shape (N,): drawn (Gaussian), or the atoms in turn, so that their law is exact.

    What is drawn is shifted and scaled to the mean and variance of its law, which moves statistics by O(1/N) and takes
    away most of what they owe to x.
    """
    if law.variance is not None:
        normal = stream.standard_normal(size)
        return np.asarray(float(law.mean) + math.sqrt(float(law.variance)) * (normal - normal.mean()) / normal.std())
    return np.resize(np.array([float(a) for a in law.atoms]), size)


def fixed_points(f: Callable[[Array], Array], W: Array, x: Array, start: Array) -> Array:
    """Fixed points z = f(W z) + x by ``iterated``, relative residual 1e-11 for each matrix and column.

    Args:
        f: activation.
        W: (count, N, N).
        x: broadcasts to (count, N, columns).
        start: (count, N, columns).

    Raises:
        ConvergenceError: not all settled in 4000 iterations.
    """
    z, settled = iterated(f, W, x, start, _TOLERANCE, _ITERATIONS)
    if not np.all(settled):
        raise ConvergenceError(
            f"{np.sum(~settled)} of {len(W)} fixed points at N = {W.shape[1]} did not settle in {_ITERATIONS} "
            "iterations; reduce sigma"
        )
    return z


def iterated(
    f: Callable[[Array], Array], W: Array, x: Array, start: Array, tolerance: float, limit: int
) -> tuple[Array, NDArray[np.bool_]]:
    """The last z of z <- f(W z) + x, and which relative residuals are within the tolerance, shape (count,).

    Stops when all are. Steps are halved after every 500 iterations: at small N a rare matrix has a fixed point that
    plain iteration circles.
    """
    z = start
    settled = np.zeros(len(W), dtype=bool)
    for k in range(limit):
        move = f(W @ z) + x - z
        z = z + 0.5 ** (k // _PATIENCE) * move
        settled = np.all(np.linalg.norm(move, axis=1) <= tolerance * np.linalg.norm(z, axis=1), axis=-1)
        if np.all(settled):
            break
    return z, settled


def resolvents(W: Array) -> Array:
    """(I - W)^-1 of each matrix, shape (count, N, N)."""
    return np.asarray(np.linalg.inv(np.eye(W.shape[-1]) - W), dtype=float)


def squared_norms(matrices: Array) -> Array:
    """Squared Frobenius norms, shape (count,)."""
    return np.asarray(np.einsum("kij,kij->k", matrices, matrices))


def linear_lengths(
    stream: np.random.Generator, family: str, sigmas: Sequence[float], count: int, size: int
) -> NDArray[np.float64]:
    """Lengths r = |(I - sigma A)^-1 e_1|^2 of ``count`` matrices, each at every sigma: shape (sigmas, count).

    iid by solving. The others by reductions that keep e_1 and the joint law at all sigma, at a cost of N for each
    matrix: GOE as a symmetric tridiagonal matrix [Dumitriu & Edelman, J. Math. Phys. 43 (2002)]; orthogonal by the
    Schur algorithm [Killip & Nenciu, IMRN 2004], in which r = (1 + sigma f)/((1 - sigma f)(1 - sigma^2)) with
    f_k = (a_k + sigma f_(k+1))/(1 + a_k sigma f_(k+1)) and a_k a coordinate of a uniform unit vector in N - k
    dimensions.
    """
    if family == "goe":
        block = max(1, _ENTRIES // (size * len(sigmas)))
        blocks = [min(block, count - k) for k in range(0, count, block)]
        return np.hstack([_tridiagonal(stream, np.asarray(sigmas), some, size) for some in blocks])
    if family == "orthogonal":
        return _schur(stream, np.asarray(sigmas), count, size)
    return np.hstack([_solved(stream, sigmas, min(_BLOCK, count - k), size) for k in range(0, count, _BLOCK)])


def _solved(stream: np.random.Generator, sigmas: Sequence[float], count: int, size: int) -> Array:
    first = np.eye(size)[:, :1]
    A = weight_stack(stream, "iid", 1.0, count, size)
    solved = (np.asarray(np.linalg.solve(np.eye(size) - sigma * A, first), float) for sigma in sigmas)
    return np.stack([squared_norms(z) for z in solved])


def _schur(stream: np.random.Generator, sigmas: Array, count: int, size: int) -> Array:
    column = sigmas[:, None]
    f = np.broadcast_to(stream.choice([-1.0, 1.0], count), (len(sigmas), count))
    for dimension in range(2, size + 1):
        normal = stream.standard_normal(count)
        a = normal / np.sqrt(normal**2 + stream.chisquare(dimension - 1, count))
        f = (a + column * f) / (1.0 + a * column * f)
    return np.asarray((1.0 + column * f) / ((1.0 - column * f) * (1.0 - column**2)))


def _tridiagonal(stream: np.random.Generator, sigmas: Array, count: int, size: int) -> Array:
    """Elimination from the last row up, then z down from the first."""
    scale = sigmas[:, None] / math.sqrt(size)
    pivots = np.empty((size, len(sigmas), count))
    sides = np.empty((size, len(sigmas), count))
    correction = 0.0
    for k in range(size - 1, -1, -1):
        pivots[k] = 1.0 - scale * (math.sqrt(2.0) * stream.standard_normal(count)) - correction
        if k:
            sides[k] = scale * np.sqrt(stream.chisquare(size - k, count))
            correction = sides[k] ** 2 / pivots[k]
    z = 1.0 / pivots[0]
    total = z**2
    for k in range(1, size):
        z = sides[k] * z / pivots[k]
        total += z**2
    return np.asarray(total)
