"""Kernels of networks of finite width, averaged over draws: what the infinite-width theory is held against.

The networks themselves are drawn and solved in ``draws``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import InputError
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.deq.options import require_count
from equikernel.validation.draws import Draw, NetworkOptions, network_draws

__all__ = [
    "Draw",
    "EmpiricalKernel",
    "NetworkOptions",
    "average_draws",
    "empirical_ck",
    "empirical_explicit_ck",
    "empirical_explicit_ntk",
    "empirical_ntk",
    "kept_entries",
    "network_draws",
    "require_count",
    "root_mean_square",
]

Array = NDArray[np.float64]

_ENTRIES_KEPT = 2048  # entries of every draw kept for the correlation between entries


@dataclass(frozen=True, eq=False)
class EmpiricalKernel:
    """A kernel averaged over independent networks of one width.

    Attributes:
        mean: (n, n).
        standard_error: (n, n), of the mean, from the sample variance over the draws.
        width: m.
        draws: the number of networks.
        iterations: the most iterations that a fixed point took.
        residual: the largest relative change of a sample in the last iteration.
        entries: (draws, k), at most 2048 entries (i <= j) of every draw, for the correlation between entries.
    """

    mean: Array
    standard_error: Array
    width: int
    draws: int
    iterations: int
    residual: float
    entries: Array

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: everything but the matrices, of whose standard error the root mean square is given."""
        return {
            "width": self.width,
            "draws": self.draws,
            "iterations": self.iterations,
            "residual": self.residual,
            "standard_error": root_mean_square(self.standard_error),
        }


def root_mean_square(array: Array) -> float:
    """The root of the mean of squares of all entries."""
    return float(np.sqrt(np.mean(np.square(array))))


def average_draws(draws: Iterable[Draw], width: int) -> EmpiricalKernel:
    """Mean and standard error over draws, in the order given (the same order gives the same bits).

    Raises:
        InputError: fewer than two draws.
    """
    count, iterations, residual = 0, 0, 0.0
    mean = squares = np.zeros(())
    entries = []
    for draw in draws:
        count += 1
        # Welford's recursion: no cancellation, and one kernel in memory at a time
        step = draw.kernel - mean
        mean = mean + step / count
        squares = squares + step * (draw.kernel - mean)
        entries.append(draw.kernel[kept_entries(len(draw.kernel))])
        iterations, residual = max(iterations, draw.iterations), max(residual, draw.residual)
    if count < 2:
        raise InputError(f"a standard error needs at least 2 draws; got {count}")
    error = np.sqrt(squares / (count * (count - 1)))
    return EmpiricalKernel(mean, error, width, count, iterations, residual, np.array(entries))


@lru_cache(maxsize=4)
def kept_entries(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column indices of at most ``_ENTRIES_KEPT`` entries with i <= j, evenly spread."""
    rows, columns = np.triu_indices(n)
    picked = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _ENTRIES_KEPT)).astype(np.intp))
    return rows[picked], columns[picked]


def empirical_ck(
    X: ArrayLike, deq: DEQ, *, width: int, draws: int, seed: int, **options: Unpack[NetworkOptions]
) -> EmpiricalKernel:
    """The conjugate kernel of DEQs of finite width, averaged over independent networks.

    Formula: G = Z^T Z with columns z = phi_c(sigma_a A z + sigma_b B x)/sqrt(m), A (m, m) and B (m, p) i.i.d. N(0, 1),
    phi_c = phi - E[phi(tau* xi)] (theory, section 1; [Ling24], eq. (2)). The expectation of G differs from the
    infinite-width kernel by a bias of order 1/m. Each network is solved from z = 0, every sample to its own relative
    residual (``deq.fixed_point``). Its stream yields A row by row, then B.

    Args:
        X: (n, p), samples in rows.
        deq: the network; its sigmas are variances.
        width: m.
        draws: the number of networks, at least 2.
        seed: a non-negative integer.
        options: see ``NetworkOptions``.

    Raises:
        InputError, DataError: bad arguments or data; a CUDA device that is not there.
        NoFixedPointError, UnstableError: tau* does not exist.
        ConvergenceError: a network's iteration does not converge; names the residual and sigma_a^2 v.
    """
    indices = range(require_count(draws, "draws", 2))
    return average_draws(network_draws(X, deq, width=width, draws=indices, seed=seed, **options), width)


def empirical_explicit_ck(
    X: ArrayLike,
    network: ExplicitNetwork,
    *,
    width: int,
    draws: int,
    seed: int,
    **options: Unpack[NetworkOptions],
) -> EmpiricalKernel:
    """The conjugate kernel of explicit networks with all hidden layers of one finite width, averaged.

    Formula: x_l = sigma_l(W_l x_(l-1))/sqrt(m) with E[sigma_l(tau_(l-1) xi)] subtracted, tau_l^2 the variance that is
    left (theory, section 1). The stream yields W_1, W_2, ... row by row. The centring is at ``network.tau0``.

    Raises:
        InputError, DataError: as ``empirical_ck``.
    """
    indices = range(require_count(draws, "draws", 2))
    return average_draws(network_draws(X, network, width=width, draws=indices, seed=seed, **options), width)


def empirical_explicit_ntk(
    X: ArrayLike,
    network: ExplicitNetwork,
    *,
    width: int,
    draws: int,
    seed: int,
    **options: Unpack[NetworkOptions],
) -> EmpiricalKernel:
    """The neural tangent kernel of explicit networks with readout f = a^T x_L and all layers trained, averaged.

    Formula: K_ij = x_L,i . x_L,j + sum_l eta_l (x_(l-1),i . x_(l-1),j) (delta_l,i . delta_l,j), delta_l the gradient of
    f in W_l x_(l-1) and eta_l = ``network.rates`` (theory, section 5); see ``explicit_networks.explicit_sampler``. The
    networks are those of ``empirical_explicit_ck``: the stream yields W_1, W_2, ... and then a.

    Raises:
        InputError: also for an activation whose derivative is not square integrable.
        DataError: as ``empirical_ck``.
    """
    indices = range(require_count(draws, "draws", 2))
    kernels = network_draws(X, network, width=width, draws=indices, seed=seed, trained="all", **options)
    return average_draws(kernels, width)


def empirical_ntk(
    X: ArrayLike,
    deq: DEQ,
    *,
    width: int,
    draws: int,
    seed: int,
    trained: str = "aA",
    **options: Unpack[NetworkOptions],
) -> EmpiricalKernel:
    """The neural tangent kernel of DEQs of finite width with readout f = a^T z, averaged over networks.

    Formula, by implicit differentiation, D_i = diag(phi'(u_i)):

        (I - sigma_a A^T D_i/sqrt(m)) w_i = a,    delta_i = D_i w_i/sqrt(m),
        K_ij = [a] z_i.z_j + (delta_i.delta_j) ([A] sigma_a^2 z_i.z_j + [B] sigma_b^2 x_i.x_j),

    [.] = 1 for the groups of parameters that are trained and 0 for the others, which is exact at every width; as m
    grows delta_i.delta_j tends to G'/(1 - sigma_a^2 G'), G' the dual of phi' (theory, section 4; [Feng23]). The stream
    yields A, B, a. The adjoints are found by the same solver as z.

    Args:
        X: (n, p), samples in rows.
        deq: the network; its sigmas are variances.
        width: m.
        draws: the number of networks, at least 2.
        seed: a non-negative integer.
        trained: one or more of a (readout), A (hidden weights), B (input weights): "aA", "B", "aAB", ...
        options: see ``NetworkOptions``.

    Raises:
        InputError: also for an activation whose derivative is not square integrable, with A or B trained.
        ConvergenceError: as ``empirical_ck``, for the states or the adjoints.
    """
    indices = range(require_count(draws, "draws", 2))
    kernels = network_draws(X, deq, width=width, draws=indices, seed=seed, trained=trained, **options)
    return average_draws(kernels, width)
