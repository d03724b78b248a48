"""Deep equilibrium networks as torch modules, trained by implicit gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np

from equikernel.validation.torch_arithmetic import is_tracing  # first: it says what to install without torch

# isort: split
import torch
from torch import Tensor

from equikernel.errors import InputError, MemoryLimitError
from equikernel.numerics.memory import require_memory
from equikernel.theory.models import DEQ, exact_number, require_trained
from equikernel.validation.deq.ensembles import centring, divergence_remedy, network_bytes
from equikernel.validation.deq.fixed_point import FixedPointReport
from equikernel.validation.deq.implicit import ImplicitSystem, implicit_state
from equikernel.validation.deq.options import SolverOptions, require_count
from equikernel.validation.deq.weights import draw_hidden_weights
from equikernel.validation.devices import require_input, torch_device, torch_dtype

__all__ = ["DEQModule", "deq_module"]


class DEQModule(torch.nn.Module):
    """A DEQ of finite width, x -> a z(x); ``deq_module`` makes it.

    Formula: z = (phi(sigma_a A z + sigma_b B x) - mean)/sqrt(m), mean = E[phi(tau* xi)] (theory, section 1). Gradients
    are those of the fixed point (``implicit_state``), of any order; their memory does not grow with the iterations.

    Attributes:
        deq: the network of infinite width that it was made of.
        in_features: p. width: m.
        A: (m, m). B: (m, p). readout: a, (outputs, m), or None for the states alone.
        mean: a buffer.
        expected_contraction: sigma_a^2 v at initialisation, the squared factor of contraction as m grows (for GOE
            weights sigma_a^2 E psi'^2, below 1 where the fixed point is stable).
        options, adjoint_options: of the forward and the backward solves; may be replaced.
        throw: whether a sample that does not converge is an error; otherwise ask the reports. May be replaced.
        memory: bytes within which samples are solved where no gradients are wanted, or None. May be replaced.
    """

    mean: Tensor
    readout: torch.nn.Parameter | None

    def __init__(
        self,
        deq: DEQ,
        width: int,
        in_features: int,
        outputs: int | None,
        tau0: float,
        options: SolverOptions,
        adjoint_options: SolverOptions,
        *,
        throw: bool,
        memory: float | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.deq, self.width, self.in_features = deq, width, in_features
        self.options, self.adjoint_options, self.throw, self.memory = options, adjoint_options, throw, memory
        mean, self.expected_contraction = centring(deq, tau0)
        place: dict[str, Any] = {"dtype": dtype, "device": device}
        self.A = torch.nn.Parameter(torch.empty(width, width, **place))
        self.B = torch.nn.Parameter(torch.empty(width, in_features, **place))
        readout = None if outputs is None else torch.nn.Parameter(torch.empty(outputs, width, **place))
        self.register_parameter("readout", readout)
        self.register_buffer("mean", torch.tensor(mean, **place))
        self._last: ImplicitSystem | None = None

    def forward(self, x: Tensor) -> Tensor:
        """f(x), (..., outputs), of samples in rows, (..., p); the states (..., m) where there is no readout.

        Raises:
            InputError: x has another last dimension, or another type or device than the weights.
            ConvergenceError: a sample's state did not converge; in the backward pass, its adjoint.
            MemoryLimitError: not even one sample fits into ``memory``, or on the device.
        """
        readout = self.readout
        return self._solved(x, None if readout is None else lambda z: torch.nn.functional.linear(z, readout))

    def features(self, x: Tensor) -> Tensor:
        """The states z, (..., m), whose inner products are the network's CK.

        Raises:
            InputError, ConvergenceError, MemoryLimitError: as ``forward``.
        """
        return self._solved(x, None)

    @property
    def last_report(self) -> FixedPointReport | None:
        """Of the last forward solve; its ``chunks`` say in how many parts the samples were solved."""
        return None if self._last is None else self._last.report

    @property
    def last_adjoint_report(self) -> FixedPointReport | None:
        """Of the last backward solve that belongs to the last forward solve."""
        return None if self._last is None else self._last.adjoint_report

    def parameter_groups(self, lr: float, trained: str = "aAB") -> list[dict[str, Any]]:
        """Groups of parameters for the optimisers of torch, all at the rate ``lr``; the others are left out.

        Plain gradient descent on them starts with the kernel lr K, K the NTK of ``empirical_ntk`` with the same
        ``trained``.

        Args:
            lr: a positive number.
            trained: "a", "aA" or "aAB".

        Raises:
            InputError: another lr or trained.
        """
        rate = float(exact_number(lr, "lr", positive=True))
        groups = {"a": self.readout, "A": self.A, "B": self.B}
        return [
            {"params": [parameter], "lr": rate}
            for name in require_trained(trained)
            if (parameter := groups[name]) is not None
        ]

    @torch.no_grad()
    def initialise(self, seed: int | np.random.SeedSequence) -> DEQModule:
        """Draw A, B, a anew from ``numpy.random.default_rng(seed)``, in float64 and in this order, row by row.

        With ``SeedSequence(seed, spawn_key=(width, k))`` it is network k of ``network_draws``.

        Args:
            seed: a non-negative integer or a SeedSequence.

        Raises:
            InputError: another seed.
        """
        if not isinstance(seed, np.random.SeedSequence):
            seed = np.random.SeedSequence(require_count(seed, "seed", 0))
        stream = np.random.default_rng(seed)
        self.A.copy_(torch.from_numpy(draw_hidden_weights(stream, self.width, self.deq.weights)))
        for parameter in (self.B, self.readout):
            if parameter is not None:
                parameter.copy_(torch.from_numpy(stream.standard_normal(tuple(parameter.shape))))
        return self

    def extra_repr(self) -> str:
        return (
            f"{self.in_features} -> {self.width}, {self.deq.activation.name}, sigma_a2={self.deq.sigma_a2}, "
            f"sigma_b2={self.deq.sigma_b2}, {self.deq.weights}, {self.options.method}"
        )

    def _solved(self, x: Tensor, then: Callable[[Tensor], Tensor] | None) -> Tensor:
        """The states, or what ``then`` makes of them; without gradients, in chunks that fit into the memory."""
        self._check(x)
        rows = x.reshape(-1, self.in_features)
        weight = math.sqrt(self.deq.sigma_a2) * self.A
        self._last = system = ImplicitSystem(
            activation=self.deq.activation,
            mean=float(self.mean),
            options=self.options,
            adjoint_options=self.adjoint_options,
            throw=self.throw,
            subject=f"a DEQ module with {self.deq.activation.name} of width {self.width}",
            remedy="at initialisation " + divergence_remedy(self.expected_contraction, self.deq.weights),
        )

        def solve(part: Tensor) -> Tensor:
            shift = math.sqrt(self.deq.sigma_b2) * torch.nn.functional.linear(part, self.B)
            z = implicit_state(weight, shift, system)
            return z if then is None else then(z)

        tensors = (rows, *self.parameters())
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            found = solve(rows)
        else:
            found = self._in_chunks(rows, solve, system)
        return found.reshape(*x.shape[:-1], found.shape[-1])

    def _in_chunks(self, rows: Tensor, solve: Callable[[Tensor], Tensor], system: ImplicitSystem) -> Tensor:
        size, done = self._chunk(len(rows)), 0
        found: list[Tensor] = []
        reports: list[FixedPointReport] = []
        while done < len(rows) or not found:
            try:
                found.append(solve(rows[done : done + size]))
            except torch.cuda.OutOfMemoryError as error:
                if size == 1:
                    raise MemoryLimitError(
                        f"one sample at width {self.width} does not fit on {rows.device}: take a smaller width, "
                        "float32, or the CPU"
                    ) from error
                size = (min(size, len(rows) - done) + 1) // 2
                continue
            reports.append(cast("FixedPointReport", system.report))
            done += size
        system.report = FixedPointReport.joined(reports)
        return found[0] if len(found) == 1 else torch.cat(found)

    def _chunk(self, samples: int) -> int:
        """How many samples to solve at once: all that ``memory`` has room for beside a copy of A."""
        if self.memory is None:
            return max(samples, 1)
        fixed, one = (network_bytes(self.width, n, 0, self.A.element_size(), self.options) for n in (0, 1))
        size = int((self.memory - fixed) // (one - fixed))
        if size < 1:
            raise MemoryLimitError(
                f"one sample at width {self.width} takes {one} bytes, memory is {self.memory:.0f}: raise memory, or "
                "take a smaller width"
            )
        return min(size, max(samples, 1))

    def _check(self, x: Tensor) -> None:
        if is_tracing() or torch.compiler.is_compiling():
            raise InputError("a DEQ module cannot be traced: how often it iterates depends on the data")
        require_input(x, self.in_features, self.A)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}  # functions of torch and reports are no part of a copy


def deq_module(
    deq: DEQ,
    width: int,
    in_features: int,
    *,
    tau0: float = 1.0,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    seed: int | np.random.SeedSequence = 0,
    readout: int | None = 1,
    solver: str | SolverOptions = "plain",
    adjoint_solver: str | SolverOptions | None = None,
    throw: bool = True,
    memory: float | None = None,
) -> DEQModule:
    """A DEQ as a module of torch, with random weights: formulas at ``DEQModule``.

    Args:
        deq: the network; its sigmas are variances, its weights the family of the initial A.
        width: m.
        in_features: p.
        tau0: standard deviation of the data, root of the mean ||x||^2, for the centring.
        dtype: "float32", "float64", or "mixed": weights in float64, iterations in float32 finished in float64.
        device: "cpu", "cuda" or "cuda:N".
        seed: see ``DEQModule.initialise``.
        readout: the number of outputs, or None for a module that gives the states.
        solver: a method, "plain", "anderson" or "broyden", or options.
        adjoint_solver: the same for the backward pass; None: as ``solver``.
        throw: see ``DEQModule``.
        memory: bytes that a solve without gradients (``torch.no_grad``) may take beside the module, its input and its
            output: the samples are then solved in chunks. Solves with gradients keep what they need. On CUDA, chunks
            that do not fit are halved, whether it is given or not. None: all samples at once.

    Raises:
        InputError: bad arguments; an activation without a torch form.
        NoFixedPointError, UnstableError: tau* does not exist.
        MemoryLimitError: the weights do not fit into memory; later, not even one sample fits into ``memory``.
    """
    if not isinstance(deq, DEQ):
        raise InputError(f"deq must be a DEQ; got {type(deq).__name__}")
    width, in_features = require_count(width, "width", 1), require_count(in_features, "in_features", 1)
    outputs = None if readout is None else require_count(readout, "readout, the number of outputs,", 1)
    mixed = dtype == "mixed"
    tensor_type, place = torch_dtype("float64" if mixed else dtype), torch_device(device)
    options = _options(solver, mixed=mixed)
    adjoint_options = options if adjoint_solver is None else _options(adjoint_solver, mixed=mixed)
    for checked in (options, adjoint_options):
        checked.tolerance(str(tensor_type).removeprefix("torch."))
    if memory is not None and not memory > 0:
        raise InputError(f"memory must be a positive number of bytes, or None; got {memory!r}")
    scale = float(exact_number(tau0, "tau0", positive=True))
    deq.activation.function("torch")  # says why there is none
    if place.type == "cpu":
        size = width * (width + in_features + (outputs or 0)) * tensor_type.itemsize + 16 * width**2
        require_memory(size, "the weights", "take a smaller width, or float32")
    module = DEQModule(
        deq,
        width,
        in_features,
        outputs,
        scale,
        options,
        adjoint_options,
        throw=throw,
        memory=memory,
        dtype=tensor_type,
        device=place,
    )
    return module.initialise(seed)


def _options(solver: str | SolverOptions, *, mixed: bool) -> SolverOptions:
    options = solver if isinstance(solver, SolverOptions) else SolverOptions(solver)
    return replace(options, mixed=True) if mixed else options
