"""The exact implicit kernels with every pair solved on a torch device; see ``device_kernels``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equikernel.numerics.blas import serial_blas
from equikernel.numerics.data import data_matrix, mean_scale
from equikernel.numerics.kernels.block import thread_count
from equikernel.numerics.kernels.engine import Engine
from equikernel.numerics.kernels.problem import Problem
from equikernel.theory.models import DEQ
from equikernel.validation.deq.options import require_choice
from equikernel.validation.devices import torch_device
from equikernel.validation.torch_kernels.left import ON_DEVICE
from equikernel.validation.torch_kernels.plan import Budget
from equikernel.validation.torch_kernels.run import DeviceTile, Run

__all__ = ["DeviceKernels", "device_kernels"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DeviceKernels:
    """Exact kernels of a DEQ, and how they were come by.

    Attributes:
        ck: conjugate kernel G, (n, n) or (n, m): a tensor on the device, or an array if ``result="numpy"``.
        ntk: neural tangent kernel K, or None when it was not asked for.
        variances: q_i of the n samples, (n,).
        column_variances: those of the m others; the same as ``variances`` when there are none.
        tau: the standard deviation tau* at which the network is centred.
        contraction: max_i sigma_a2 E[phi'(sqrt(q_i) xi)^2] over all samples.
        device: where the pairs were solved.
        side: rows and columns of the tiles, of the last ones if they were halved.
        halvings: how often the device ran out of memory, whereupon tiles were halved.
        copies: rows and columns that equal earlier ones (or are opposite, for odd phi): copied, not solved.
        tiles: what was done in every tile.
        methods: number of the pairs that tiles left, by method: "long series on the device", and on the CPU
            "long series" and "quadrature".
        error_bound: of the error that the methods make in any G_ij, relative to sqrt(G_ii G_jj); rounding comes on top.
    """

    ck: Any
    ntk: Any
    variances: FloatArray
    column_variances: FloatArray
    tau: float
    contraction: float
    device: str
    side: int
    halvings: int
    copies: int
    tiles: tuple[DeviceTile, ...]
    methods: dict[str, int]
    error_bound: float

    @property
    def pairs_on_device(self) -> int:
        """Pairs of distinct samples that were solved on the device."""
        return sum(tile.pairs for tile in self.tiles) - self.pairs_on_cpu

    @property
    def pairs_on_cpu(self) -> int:
        """Pairs that were solved by the careful methods of the CPU."""
        return sum(count for method, count in self.methods.items() if method != ON_DEVICE)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: everything but the matrices and the tiles, which are counted."""
        return {
            "tau": self.tau,
            "contraction": self.contraction,
            "device": self.device,
            "side": self.side,
            "halvings": self.halvings,
            "copies": self.copies,
            "tiles": len(self.tiles),
            "most_terms": max(tile.terms for tile in self.tiles),
            "most_passes": max(tile.passes for tile in self.tiles),
            "pairs_on_device": self.pairs_on_device,
            "pairs_on_cpu": self.pairs_on_cpu,
            "methods": dict(self.methods),
            "error_bound": self.error_bound,
        }


def device_kernels(
    X: Any,
    deq: DEQ,
    Y: Any = None,
    *,
    device: str | torch.device = "cuda",
    tau0: Any = None,
    trained: str = "aA",
    ntk: bool = True,
    result: str = "torch",
    memory: float | None = None,
    threads: int | None = None,
) -> DeviceKernels:
    """Exact implicit CK and NTK, the n m pairs solved on a torch device (theory, sections 3 and 4).

    G_ij = E[phi_c(u) phi_c(v)], (u, v) ~ N(0, [[q_i, L_ij], [L_ij, q_j]]), L_ij = sigma_a2 G_ij + sigma_b2 <x_i, y_j>;
    K_ij = G_ij/(1 - sigma_a2 G'_ij) for trained "aA": what ``implicit_kernels`` computes, with its accuracy. What is
    linear in n is done by NumPy on the CPU; of the pairs, those that the short series do not reach (nearly equal
    samples of kinked activations, the edge of stability) go to the CPU too and are counted in the result. Equal samples
    have equal rows. All of it is float64: the settings of TensorFloat-32 and autocast touch float64 nowhere.

    Args:
        X: data, (n, p), samples in rows.
        deq: the network.
        Y: other samples, (m, p): the kernels of X against Y. None: of X with itself, every pair solved once.
        device: "cuda", "cuda:1" or "cpu".
        tau0: standard deviation that fixes the centring; None means sqrt(mean ||x_i||^2) of X.
        trained: "a", "aA" or "aAB".
        ntk: False computes the conjugate kernel alone.
        result: "torch": tensors on the device; "numpy": arrays in the host's memory, to which every tile is copied, so
            that the device need not hold the kernels.
        memory: bytes to use on the device; None: what is free there. A CUDA device that runs out of memory all the same
            gets tiles of half the size (``DeviceKernels.halvings``).
        threads: number of CPU threads for the pairs that the device leaves, by default all cores.

    Raises:
        DataError: unusable data.
        InputError: bad arguments; a CUDA device that is not there; an activation with jumps when the NTK needs
            E[phi'^2].
        MemoryLimitError: not even the smallest tiles fit beside samples and results.
        NoFixedPointError: a sample (named) for which no variance solves the diagonal equation.
        UnstableError: a pair or sample (named) at which sigma_a2 E[phi' phi'] >= 1.
        ConvergenceError: a pair (named) that did not settle.
    """
    where = torch_device(device)
    require_choice(result, "result", ("torch", "numpy"))
    workers = thread_count(threads)
    X, Y = data_matrix(X), None if Y is None else data_matrix(Y, "Y")
    engine = Engine.of_deq(deq, mean_scale(X) if tau0 is None else tau0, trained=trained, ntk=ntk)
    shape = (len(X), len(X if Y is None else Y))
    budget = Budget(*shape, Y is None, X.shape[1], 2 if ntk else 1, kept=result == "torch")
    side = budget.side(where, memory)
    rows = engine.prepare(X)
    columns = rows if Y is None else engine.prepare(Y)
    with serial_blas():
        problem = Problem.of(engine, rows, None if Y is None else columns)
    with torch.no_grad():
        run = Run(problem, where, torch.device("cpu") if result == "numpy" else where, side, workers)
        run.work()
    ck, K = (found if found is None or result == "torch" else found.numpy() for found in run.targets)
    energies = np.concatenate([samples.layers[0].slope_energy for samples in (rows, columns)])
    return DeviceKernels(
        ck=ck,
        ntk=K,
        variances=rows.layers[0].variances,
        column_variances=columns.layers[0].variances,
        tau=engine.tau,
        contraction=float(deq.sigma_a2) * float(energies.max()),
        device=str(where),
        side=run.side,
        halvings=run.halvings,
        copies=run.copies,
        tiles=tuple(sorted(run.tiles, key=lambda tile: (tile.row, tile.column))),
        methods={method: count for method, count in run.left.methods.items() if count},
        error_bound=max(problem.layers[0].reach.bound, run.left.error_bound),
    )
