"""Single networks of finite width drawn at random, and their kernels, one network at a time or many together.

Draw k of a network of width m has its own stream, seeded from (seed, m, k), so that a study may compute its draws in
any order, stop, and go on, and comes to the same bits on one machine. The weights are drawn by NumPy in float64 on
every device: the CPU and CUDA see the same networks, float32 sees them rounded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import InputError, MemoryLimitError
from equikernel.numerics.data import data_matrix, mean_scale
from equikernel.numerics.moments import require_derivative
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.deq.options import SolverOptions, require_count
from equikernel.validation.devices import torch_device, torch_dtype
from equikernel.validation.explicit_networks import explicit_sampler, gram

if TYPE_CHECKING:
    from torch import Tensor

    from equikernel.validation.deq.ensembles import Ensemble

__all__ = ["Draw", "NetworkOptions", "NetworkParts", "network_draws", "network_parts", "parameter_groups"]

Array = NDArray[np.float64]


class NetworkOptions(TypedDict, total=False):
    """Options shared by the functions of this module.

    ``tau0``: standard deviation of the data for the centring of a DEQ; None: sqrt(mean ||x||^2). ``device``: "cpu"
    (default), "cuda", "cuda:1". ``dtype``: "float64" (default), "float32", or "mixed", iterations in float32 finished
    in float64 (explicit networks: float64). The rest is for DEQs. ``tol``: largest relative residual of a sample, by
    default 1e-12 (float64, mixed) or 1e-5 (float32). ``max_iter``: by default 1000. ``solver``: "plain" (default),
    "anderson", "broyden". ``memory``: bytes within which as many networks as fit are solved at once (halved where a
    CUDA device has no room for them); None: one at a time, whose bits then do not depend on the others.
    """

    tau0: float | None
    device: str
    dtype: str
    tol: float | None
    max_iter: int
    solver: str
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
    memory: float | None = None

    def __post_init__(self) -> None:
        # torch first: it says what to install where torch is missing
        import_module("equikernel.validation.torch_arithmetic")
        torch_device(self.device)
        self.options.tolerance(self.type_name)
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
class NetworkParts:
    """What all tangent kernels of one DEQ are made of, from one solve of its states and one of its adjoints.

    Attributes:
        ck: (n, n), G_ij = z_i . z_j.
        adjoints: (n, n), delta_i . delta_j, delta_i the gradient of a^T z_i in the pre-activations; None where it was
            not asked for.
        hidden: sigma_a^2.
        inputs: (n, n), sigma_b^2 x_i . x_j.
        iterations: the most that a fixed point took. residual: the largest relative one.
    """

    ck: Array
    adjoints: Array | None
    hidden: float
    inputs: Array
    iterations: int
    residual: float

    def kernel(self, trained: str | None = None) -> Draw:
        """The kernel of gradients in the trained parameters.

        Formula: K = [a] G + (delta_i . delta_j) ([A] sigma_a^2 G + [B] sigma_b^2 x_i . x_j), exact at every width: the
        gradient of a^T z in A is sigma_a delta z^T, that in B sigma_b delta x^T, that in a is z (theory, section 4).

        Args:
            trained: None for the CK G, or a group of parameters (see ``parameter_groups``).

        Raises:
            InputError: no such group; A or B of parts without adjoints.
        """
        groups = frozenset("a") if trained is None else parameter_groups(trained)
        kernel = self.ck if "a" in groups else np.zeros_like(self.ck)
        if groups != {"a"}:
            if self.adjoints is None:
                raise InputError(f"trained {trained!r} needs the adjoints of the network: ask for its parts with them")
            if "A" in groups:
                kernel = kernel + self.adjoints * (self.hidden * self.ck)
            if "B" in groups:
                kernel = kernel + self.adjoints * self.inputs
        return Draw(kernel, self.iterations, self.residual)


def parameter_groups(trained: str) -> frozenset[str]:
    """The groups that "a" (readout), "A" (hidden weights), "B" (input weights), "aA", "aB", "AB", "aAB" name.

    Raises:
        InputError: anything else.
    """
    groups = frozenset(str(trained))
    if not groups or not groups <= frozenset("aAB") or len(groups) != len(str(trained)):
        raise InputError(
            "trained must name one or more of the groups a (readout), A (hidden weights) and B (input weights), each "
            f'once, such as "aA"; got {trained!r}'
        )
    return groups


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
        trained: None for the CK; for the NTK of a DEQ any of the groups a, A, B together (see ``NetworkParts``), "all"
            for that of an explicit network.
        options: see ``NetworkOptions``.

    Raises:
        InputError, DataError, SolutionError: as ``empirical_ck`` and ``empirical_ntk``.
    """
    if isinstance(network, ExplicitNetwork):
        settings, data = _Settings(**options), data_matrix(X)
        width, seed = require_count(width, "width", 1), require_count(seed, "seed", 0)
        sample = _explicit_sample(settings, data, network, width, trained)
        return (sample(_stream(seed, width, draw)) for draw in draws)
    tangent = trained is not None and parameter_groups(trained) != {"a"}
    parts = network_parts(X, network, width=width, draws=draws, seed=seed, adjoints=tangent, **options)
    return (one.kernel(trained) for one in parts)


def network_parts(
    X: ArrayLike,
    deq: DEQ,
    *,
    width: int,
    draws: Iterable[int],
    seed: int,
    adjoints: bool = True,
    **options: Unpack[NetworkOptions],
) -> Iterator[NetworkParts]:
    """The networks of ``network_draws``, with the parts of all their tangent kernels from one solve.

    Args:
        X: (n, p), samples in rows.
        deq: the network.
        width: m.
        draws: indices of networks, non-negative.
        seed: a non-negative integer.
        adjoints: False solves the states alone, for the CK.
        options: see ``NetworkOptions``.

    Raises:
        InputError, DataError, SolutionError: as ``empirical_ck``, and with adjoints as ``empirical_ntk``.
    """
    settings, data = _Settings(**options), data_matrix(X)
    width, seed = require_count(width, "width", 1), require_count(seed, "seed", 0)
    if adjoints:
        require_derivative(deq.activation)
    return _deq_parts(_ensemble(settings, data, deq, width), settings, draws, seed, adjoints)


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
    return Ensemble(deq, settings.tensor(data), width, mean, contraction, settings.options)


def _deq_parts(
    ensemble: Ensemble, settings: _Settings, draws: Iterable[int], seed: int, adjoints: bool
) -> Iterator[NetworkParts]:
    size = ensemble.batch_size(settings.memory)
    remaining = iter(draws)
    while batch := list(itertools.islice(remaining, size)):
        yield from _fitting_parts(ensemble, batch, seed, adjoints)


def _fitting_parts(ensemble: Ensemble, draws: list[int], seed: int, adjoints: bool) -> list[NetworkParts]:
    """The parts of these draws, in halves where they do not fit on the CUDA device together."""
    import torch

    try:
        return _solved_parts(ensemble, [_stream(seed, ensemble.width, draw) for draw in draws], adjoints)
    except torch.cuda.OutOfMemoryError as error:
        if len(draws) == 1:
            raise MemoryLimitError(
                f"one network of width {ensemble.width} on {len(ensemble.X)} samples does not fit on "
                f"{ensemble.X.device}: take fewer samples, a smaller width, float32, or the CPU"
            ) from error
    middle = len(draws) // 2
    return [
        parts for half in (draws[:middle], draws[middle:]) for parts in _fitting_parts(ensemble, half, seed, adjoints)
    ]


def _solved_parts(ensemble: Ensemble, streams: list[np.random.Generator], adjoints: bool) -> list[NetworkParts]:
    networks = ensemble.draw(streams, readout=adjoints)
    z, report = ensemble.states(networks)
    products: list[Array | None] = [None] * len(streams)
    reports = [report]
    if adjoints:
        delta, report = ensemble.adjoints(networks, z)
        products, reports = [gram(one.T) for one in delta], [*reports, report]
    inputs = float(ensemble.deq.sigma_b2) * gram(ensemble.X.T)
    return [
        NetworkParts(
            ck=gram(state.T),
            adjoints=product,
            hidden=float(ensemble.deq.sigma_a2),
            inputs=inputs,
            iterations=max(int(r.iterations[k].max(initial=0)) for r in reports),
            residual=max(float(r.residual[k].max(initial=0.0)) for r in reports),
        )
        for k, (state, product) in enumerate(zip(z, products, strict=True))
    ]
