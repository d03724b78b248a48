"""Training of one network on one split, and what it costs: accuracy epoch by epoch, seconds, bytes, iterations."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from equikernel.validation.torch_arithmetic import is_tracing as _  # noqa: F401 - says what to install without torch

# isort: split
import torch
from torch import Tensor

from equikernel.errors import ConvergenceError, InputError, MemoryLimitError
from equikernel.validation.deq.module import DEQModule
from equikernel.validation.deq.options import require_choice, require_count
from equikernel.validation.modules import ExplicitModule

__all__ = ["Labelled", "Recipe", "accuracy", "failures_of", "inference_seconds", "kept_bytes", "train"]

Network = DEQModule | ExplicitModule

SCHEDULES = ("cosine", "constant")
_INFERENCE_BATCH = 1000
_TIMINGS = 5
_TIMED_SECONDS = 0.5


@dataclass(frozen=True)
class Recipe:
    """How every network is trained: stochastic gradient descent on the cross-entropy.

    Attributes:
        epochs: passes over the training data.
        batch: samples of a step.
        momentum: Polyak's, 0 <= momentum < 1.
        schedule: "cosine", the rate falls to zero as (1 + cos(pi t))/2, or "constant".

    Raises:
        InputError: an argument outside its domain.
    """

    epochs: int = 10
    batch: int = 128
    momentum: float = 0.9
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        require_count(self.epochs, "epochs", 1)
        require_count(self.batch, "batch", 1)
        require_choice(self.schedule, "schedule", SCHEDULES)
        if not 0.0 <= self.momentum < 1.0:
            raise InputError(f"momentum must be 0 or more and less than 1; got {self.momentum!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


class Labelled(NamedTuple):
    """Samples in rows, (n, p) float32, and their classes, (n,) int64, on one device."""

    X: Tensor
    y: Tensor

    @classmethod
    def of(cls, X: NDArray[Any], y: NDArray[Any], device: str | torch.device) -> Labelled:
        """Copies of arrays (a data set's own are read-only)."""
        return cls(
            torch.from_numpy(np.array(X, np.float32)).to(device), torch.from_numpy(np.array(y, np.int64)).to(device)
        )


@contextmanager
def failures_of(subject: str) -> Iterator[None]:
    """Errors that name the network they are of.

    Raises:
        ConvergenceError: what is done inside raises one.
        MemoryLimitError: the device is out of memory.
    """
    try:
        yield
    except ConvergenceError as error:
        raise ConvergenceError(f"{subject}: {error}") from error
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryLimitError(
            f"{subject}: the device is out of memory, take smaller widths or a smaller batch"
        ) from error


def train(
    module: Network, rate: float, data: Labelled, held_out: Labelled, recipe: Recipe, seed: int
) -> dict[str, Any]:
    """Train a network and look at its accuracy on the held-out samples after every epoch.

    The clocks run in the steps only: not while accuracy is computed.

    Args:
        module: trained in place, all its parameters, by ``parameter_groups(rate)``.
        rate: the learning rate that the schedule begins with.
        data: what it is trained on.
        held_out: what its accuracy is for; nothing else is done with it.
        recipe: the rest.
        seed: of the order of the samples.

    Returns:
        Plain JSON types: ``epochs``, a list of {accuracy, loss, seconds, cpu_seconds}, the seconds being cumulative and
        the loss the mean over the epoch; ``iterations``, of a DEQ, {forward, backward}, each {mean, largest} over all
        samples and steps, None of an explicit network; ``optimiser_bytes``.

    Raises:
        ConvergenceError: the loss is not finite, or a state or an adjoint of a DEQ did not converge; it says when.
    """
    optimiser = torch.optim.SGD(module.parameter_groups(rate), lr=rate, momentum=recipe.momentum)
    steps = recipe.epochs * math.ceil(len(data.y) / recipe.batch)
    factor: Callable[[int], float] = {
        "cosine": lambda step: (1.0 + math.cos(math.pi * step / steps)) / 2.0,
        "constant": lambda step: 1.0,
    }[recipe.schedule]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    order = torch.Generator().manual_seed(seed)
    clock, iterations, epochs = _Clock(data.X.device), _Iterations(), []
    for epoch in range(1, recipe.epochs + 1):
        try:
            with clock:
                loss = _epoch(
                    module, optimiser, scheduler, data, _batches(len(data.y), recipe.batch, order), iterations
                )
            reached = accuracy(module, held_out)
        except ConvergenceError as error:
            raise ConvergenceError(f"diverged in epoch {epoch} of {recipe.epochs}: {error}") from error
        epochs.append({"accuracy": reached, "loss": loss, "seconds": clock.wall, "cpu_seconds": clock.cpu})
    state = (x for group in optimiser.state.values() for x in group.values() if isinstance(x, Tensor))
    return {
        "epochs": epochs,
        "iterations": iterations.to_dict(),
        "optimiser_bytes": sum(x.numel() * x.element_size() for x in state),
    }


def _batches(n: int, size: int, order: torch.Generator) -> Iterator[Tensor]:
    yield from torch.split(torch.randperm(n, generator=order), size)


def _epoch(
    module: Network,
    optimiser: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    data: Labelled,
    batches: Iterator[Tensor],
    iterations: _Iterations,
) -> float:
    """The mean loss; kept on the device until the end, so that no step waits for it.

    Raises:
        ConvergenceError: it is not finite, or a solve did not converge.
    """
    total = torch.zeros((), device=data.X.device)
    for batch in batches:
        rows = batch.to(data.X.device)
        optimiser.zero_grad(set_to_none=True)
        loss = _loss(module, data.X[rows], data.y[rows])
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        scheduler.step()
        total += loss.detach() * len(batch)
        iterations.note(module)
    loss_sum = float(total)
    if not math.isfinite(loss_sum):
        raise ConvergenceError(f"the loss is {loss_sum}")
    return loss_sum / len(data.y)


def _loss(module: Network, X: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(module(X), y)


@torch.no_grad()
def accuracy(module: Network, data: Labelled) -> float:
    """The part of the samples whose largest output is that of their class.

    Raises:
        ConvergenceError: the state of a DEQ did not converge.
    """
    hits = sum(
        int(torch.count_nonzero(module(X).argmax(1) == y))
        for X, y in zip(torch.split(data.X, _INFERENCE_BATCH), torch.split(data.y, _INFERENCE_BATCH), strict=True)
    )
    return hits / len(data.y)


@torch.no_grad()
def inference_seconds(module: Network, X: Tensor) -> float:
    """Seconds of the outputs of all samples, in batches of 1000: the least of 5 passes or more, after one unkept.

    Passes go on for half a second: the least of many is what the machine's other work disturbs least.

    Raises:
        ConvergenceError: the state of a DEQ did not converge.
    """
    timings: list[float] = []
    while len(timings) <= _TIMINGS or sum(timings[1:]) < _TIMED_SECONDS:
        with _Clock(X.device) as clock:
            for rows in torch.split(X, _INFERENCE_BATCH):
                module(rows)
        timings.append(clock.wall)
    return min(timings[1:])


def kept_bytes(module: Network, X: Tensor, y: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass of one batch, beyond parameters and data, each storage once.

    What a solver works with and gives back before the forward pass ends is not among them.

    Raises:
        ConvergenceError: the state of a DEQ did not converge.
    """
    known = {x.untyped_storage().data_ptr() for x in (*module.parameters(), *module.buffers(), X, y)}
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x  # held, so that no later tensor gets the same address
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        _loss(module, X, y)
    return sum(x.untyped_storage().nbytes() for pointer, x in kept.items() if pointer not in known)


@dataclass
class _Clock:
    """Adds up wall and processor time; waits for the device."""

    device: torch.device
    wall: float = 0.0
    cpu: float = 0.0
    _start: tuple[float, float] = (0.0, 0.0)

    def __enter__(self) -> Self:
        self._start = self._now()
        return self

    def __exit__(self, *_error: object) -> None:
        wall, cpu = self._now()
        self.wall += wall - self._start[0]
        self.cpu += cpu - self._start[1]

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()


@dataclass
class _Iterations:
    """Iterations of a DEQ's solves, over all samples and steps."""

    means: dict[str, list[float]] = field(default_factory=lambda: {"forward": [], "backward": []})
    largest: dict[str, int] = field(default_factory=lambda: {"forward": 0, "backward": 0})

    def note(self, module: Network) -> None:
        """Those of the last step, if it is a DEQ."""
        if not isinstance(module, DEQModule):
            return
        for name, report in (("forward", module.last_report), ("backward", module.last_adjoint_report)):
            if report is not None:
                self.means[name].append(float(report.iterations.mean()))
                self.largest[name] = max(self.largest[name], report.most_iterations)

    def to_dict(self) -> dict[str, Any] | None:
        """Plain JSON types; None where there were none."""
        if not self.means["forward"]:
            return None
        return {
            name: {"mean": statistics.fmean(self.means[name]), "largest": self.largest[name]} for name in self.means
        }
