"""Finite-width networks in torch and their kernels: what the infinite-width theory is held against.

Draw k of a network of width m has its own stream, seeded from (seed, m, k), so that a study may compute its draws in
any order, stop, and go on, and comes to the same bits on one machine. The weights are drawn by NumPy in float64 on
every device: the CPU and CUDA see the same networks, float32 sees them rounded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import InputError, MemoryLimitError
from equikernel.numerics.data import data_matrix, mean_scale
from equikernel.numerics.moments import require_derivative
from equikernel.theory.models import DEQ, ExplicitNetwork, require_trained
from equikernel.validation.deq.options import SolverOptions, require_choice, require_count
from equikernel.validation.devices import torch_device, torch_dtype
from equikernel.validation.explicit_networks import explicit_sampler

if TYPE_CHECKING:
    from torch import Tensor

    from equikernel.validation.deq.ensembles import Ensemble, KernelDraw

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


class NetworkOptions(TypedDict, total=False):
    """Options shared by the functions of this module.

    ``tau0``: standard deviation of the data for the centring of a DEQ; None: sqrt(mean ||x||^2). ``device``: "cpu"
    (default), "cuda", "cuda:1". ``dtype``: "float64" (default), "float32", or "mixed", iterations in float32 finished
    in float64 (explicit networks: float64). The rest is for DEQs. ``tol``: largest relative residual of a sample, by
    default 1e-12 (float64, mixed) or 1e-5 (float32). ``max_iter``: by default 1000. ``solver``: "plain" (default),
    "anderson", "broyden". ``weights``: family of A, "iid" (default), "orthogonal", which has the same limit, or "goe",
    which has another: the kernels of the theory do not apply to it (see ``deq.weights``). ``memory``: bytes within
    which as many networks as fit are solved at once (halved where a CUDA device has no room for them); None: one at a
    time, whose bits then do not depend on the others.
    """

    tau0: float | None
    device: str
    dtype: str
    tol: float | None
    max_iter: int
    solver: str
    weights: str
    memory: float | None


@dataclass(frozen=True)
class _Settings:
    """Checked ``NetworkOptions``."""

    tau0: float | None = None
    device: str = "cpu"
    dtype: str = "float64"
    tol: float | None = None
    max_iter: int = 1000
    solver: str = "plain"
    weights: str = "iid"
    memory: float | None = None

    def __post_init__(self) -> None:
        # torch first: it says what to install where torch is missing
        families: tuple[str, ...] = import_module("equikernel.validation.deq.weights").FAMILIES
        import_module("equikernel.validation.torch_arithmetic")
        torch_device(self.device)
        self.options.tolerance(self.type_name)
        require_choice(self.weights, "weights", families)
        if self.memory is not None and not self.memory > 0:
            raise InputError(f"memory must be a positive number of bytes, or None; got {self.memory!r}")

    @property
    def type_name(self) -> str:
        return str(torch_dtype("float64" if self.dtype == "mixed" else self.dtype)).removeprefix("torch.")

    @property
    def options(self) -> SolverOptions:
        return SolverOptions(self.solver, self.tol, self.max_iter, mixed=self.dtype == "mixed")

    def tensor(self, array: Array) -> Tensor:
        import torch

        writable = array if array.flags.writeable else array.copy()  # torch warns of what it might not write to
        return torch.from_numpy(writable).to(device=self.device, dtype=torch_dtype(self.type_name))


@dataclass(frozen=True, eq=False)
class Draw:
    """One network's kernel (n, n), and how its fixed points were reached (0 and 0.0 for explicit networks)."""

    kernel: Array
    iterations: int = 0
    residual: float = 0.0


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


# -- draws -------------------------------------------------------------------------------------------------------------


def network_draws(
    X: ArrayLike,
    network: DEQ | ExplicitNetwork,
    *,
    width: int,
    draws: Iterable[int],
    seed: int,
    trained: str | None = None,
    **options: Unpack[NetworkOptions],
) -> Iterator[Draw]:
    """The kernel of every network whose index is in ``draws``, one at a time, for studies that stop and resume.

    ``average_draws`` over indices 0 ... N-1, whenever and in whatever order they were computed, is what
    ``empirical_ck``, ``empirical_ntk``, ``empirical_explicit_ck`` and ``empirical_explicit_ntk`` return for N draws.

    Args:
        X: (n, p), samples in rows.
        network: a DEQ or an explicit network.
        width: m.
        draws: indices of networks, non-negative.
        seed: a non-negative integer.
        trained: None for the CK; "a", "aA" or "aAB" for the NTK of a DEQ, "all" for that of an explicit network.
        options: see ``NetworkOptions``.

    Raises:
        InputError, DataError, SolutionError: as ``empirical_ck`` and ``empirical_ntk``.
    """
    settings = _Settings(**options)
    data = data_matrix(X)
    width, seed = require_count(width, "width", 1), require_count(seed, "seed", 0)
    if isinstance(network, ExplicitNetwork):
        sample = _explicit_sample(settings, data, network, width, trained)
        return (sample(_stream(seed, width, draw)) for draw in draws)
    if trained is not None and require_trained(trained) != "a":
        require_derivative(network.activation)
    return _deq_draws(_ensemble(settings, data, network, width), settings, draws, seed, trained)


def _stream(seed: int, width: int, draw: int) -> np.random.Generator:
    key = (width, require_count(draw, "the index of a draw", 0))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _explicit_sample(
    settings: _Settings, data: Array, network: ExplicitNetwork, width: int, trained: str | None
) -> Callable[[np.random.Generator], Draw]:
    if trained not in (None, "a", "all"):
        raise InputError(
            'trained must be "all" for the NTK of an explicit network (every layer, at the network\'s own learning '
            f'rates), None or "a" for its CK; got {trained!r}'
        )
    kernel = explicit_sampler(settings.tensor(data), network, width, ntk=trained == "all")
    return lambda stream: Draw(kernel(lambda *shape: settings.tensor(stream.standard_normal(shape))))


def _ensemble(settings: _Settings, data: Array, deq: DEQ, width: int) -> Ensemble:
    from equikernel.validation.deq.ensembles import Ensemble, centring

    mean, contraction = centring(deq, mean_scale(data) if settings.tau0 is None else settings.tau0)
    return Ensemble(deq, settings.tensor(data), width, mean, contraction, settings.options, settings.weights)


def _deq_draws(
    ensemble: Ensemble, settings: _Settings, draws: Iterable[int], seed: int, trained: str | None
) -> Iterator[Draw]:
    size = ensemble.batch_size(settings.memory)
    remaining = iter(draws)
    while batch := list(itertools.islice(remaining, size)):
        for kernel in _kernels_of(ensemble, batch, seed, trained):
            yield Draw(*kernel)


def _kernels_of(ensemble: Ensemble, draws: list[int], seed: int, trained: str | None) -> list[KernelDraw]:
    """The kernels of these draws, in halves where they do not fit on the CUDA device together."""
    import torch

    try:
        return ensemble.kernels([_stream(seed, ensemble.width, draw) for draw in draws], trained)
    except torch.cuda.OutOfMemoryError as error:
        if len(draws) == 1:
            raise MemoryLimitError(
                f"one network of width {ensemble.width} on {len(ensemble.X)} samples does not fit on "
                f"{ensemble.X.device}: take fewer samples, a smaller width, float32, or the CPU"
            ) from error
    middle = len(draws) // 2
    return [
        kernel for part in (draws[:middle], draws[middle:]) for kernel in _kernels_of(ensemble, part, seed, trained)
    ]


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
        K_ij = z_i.z_j + (delta_i.delta_j) (sigma_a^2 z_i.z_j [A trained] + sigma_b^2 x_i.x_j [B trained]),

    which is exact at every width; as m grows delta_i.delta_j tends to G'/(1 - sigma_a^2 G'), G' the dual of phi'
    (theory, section 4; [Feng23]). The stream yields A, B, a. The adjoints are found by the same solver as z.

    Args:
        X: (n, p), samples in rows.
        deq: the network; its sigmas are variances.
        width: m.
        draws: the number of networks, at least 2.
        seed: a non-negative integer.
        trained: "a", "aA" or "aAB".
        options: see ``NetworkOptions``.

    Raises:
        InputError: also for an activation whose derivative is not square integrable, with A trained.
        ConvergenceError: as ``empirical_ck``, for the states or the adjoints.
    """
    indices = range(require_count(draws, "draws", 2))
    kernels = network_draws(X, deq, width=width, draws=indices, seed=seed, trained=trained, **options)
    return average_draws(kernels, width)
