"""Training of one DEQ-Transformer on one corpus: its perplexities, its solves, and, if it diverged, when and how."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import ConvergenceError, DataError, InputError
from equikernel.validation.datasets.text import TextCorpus
from equikernel.validation.deq.options import require_count
from equikernel.validation.paper.language.model import DEQTransformer
from equikernel.validation.paper.solves import Solves

# isort: split
import torch
from torch import Tensor

__all__ = ["Recipe", "evaluate", "require_length", "train"]

_BETAS = (0.9, 0.98)  # of Adam, as is usual for transformers
_EVALUATED = 64  # segments at a time
_LARGEST = 1e30  # what Adam divides by 1 - 0.9 and float32 can still hold


@dataclass(frozen=True)
class Recipe:
    """How every model is trained: Adam on the mean cross-entropy of segments that begin anywhere in the training part.

    Attributes:
        steps: of the optimiser. batch: segments of a step.
        rate: the learning rate after warming up; it then falls to zero as (1 + cos(pi t/steps))/2.
        warm_up: steps in which it rises linearly, as a part of all steps.
        clip: the largest norm of the gradient of all parameters; longer ones are shortened to it.
        looks: how often the perplexity on the validation part is measured, the last time at the end.

    Raises:
        InputError: an argument outside its domain.
    """

    steps: int = 500
    batch: int = 16
    rate: float = 0.01
    warm_up: float = 0.1
    clip: float = 1.0
    looks: int = 5

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "looks"):
            require_count(getattr(self, name), name, 1)
        for name in ("rate", "clip"):
            if not 0.0 < getattr(self, name) <= _LARGEST:
                raise InputError(f"{name} must be a positive number, {_LARGEST:g} at most; got {getattr(self, name)!r}")
        if not 0.0 <= self.warm_up < 1.0:
            raise InputError(f"warm_up must be 0 or more and less than 1; got {self.warm_up!r}")

    def factor(self, step: int) -> float:
        """By which the rate is multiplied at a step, counted from 0."""
        falling = (1.0 + math.cos(math.pi * step / self.steps)) / 2.0
        return falling * min(1.0, (step + 1) / max(self.warm_up * self.steps, 1.0))

    def looked_at(self, step: int) -> bool:
        """Whether the validation part is looked at after so many steps."""
        return step * self.looks // self.steps > (step - 1) * self.looks // self.steps

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def require_length(corpus: TextCorpus, segment: int) -> None:
    """Refuse parts that are shorter than a segment and the token after it.

    Raises:
        DataError: names the part.
    """
    for name in ("train", "valid", "test"):
        tokens = len(getattr(corpus, name))
        if tokens <= segment:
            raise DataError(
                f"the {name} part of {corpus.name} has {tokens} tokens, a segment needs {segment + 1}: "
                "give more text or shorter segments"
            )


@torch.no_grad()
def evaluate(model: DEQTransformer, tokens: NDArray[np.int32]) -> dict[str, Any]:
    """The mean loss over all of a text, cut into segments one after the other; what is left over at the end is unused.

    Every token but the first is predicted once, from those before it in its segment alone.

    Returns:
        ``loss`` (nats a token) and ``perplexity``, its exponential, both None unless finite; ``solves``.
    """
    total, count, solves = 0.0, 0, Solves()
    for rows in _segments(tokens, model.shape.segment):
        found = model.loss(_on_device(rows, model))
        total, count = total + float(found.double().sum()), count + found.numel()
        solves.note(model.equilibrium.report)
    loss = total / count
    finite = math.isfinite(loss) and loss < math.log(np.finfo(np.float64).max)
    return {
        "loss": loss if finite else None,
        "perplexity": math.exp(loss) if finite else None,
        "solves": solves.to_dict(),
    }


def train(model: DEQTransformer, corpus: TextCorpus, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train a model in place, then measure its perplexity on the test part. Divergence ends it and is recorded.

    Solves that do not converge are counted, and what they gave is used: so does whoever trains such models.

    Args:
        model: on its device.
        corpus: tokens of its vocabulary.
        recipe: the rest.
        seed: of where segments begin.

    Returns:
        Plain JSON types: ``test``, as of ``evaluate`` (None if training diverged); ``diverged``, the sentence that says
        when and how, or None; ``looks``, a list of {step, loss, valid} with the mean training loss since the last one;
        ``forward`` and ``backward``, the solves of training; ``seconds``, of the steps alone.

    Raises:
        DataError: a part is too short.
    """
    require_length(corpus, model.shape.segment)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.rate, betas=_BETAS)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, recipe.factor)
    run = _Training(model, optimiser, recipe.clip)
    looks: list[dict[str, Any]] = []
    losses: list[float] = []
    test, diverged = None, None
    try:
        for step, rows in enumerate(_batches(corpus.train, model.shape.segment, recipe, seed), start=1):
            losses.append(run.step(_on_device(rows, model)))
            scheduler.step()
            if recipe.looked_at(step):
                looks.append({"step": step, "loss": float(np.mean(losses)), "valid": evaluate(model, corpus.valid)})
                losses = []
        test = evaluate(model, corpus.test)
        if test["perplexity"] is None:
            diverged = f"the test loss is not finite after {recipe.steps} steps"
    except ConvergenceError as error:
        diverged = f"at step {run.steps} of {recipe.steps}: {error}"
    return {
        "test": test,
        "diverged": diverged,
        "looks": looks,
        "forward": run.forward.to_dict(),
        "backward": run.backward.to_dict(),
        "seconds": run.seconds,
    }


@dataclass
class _Training:
    model: DEQTransformer
    optimiser: torch.optim.Optimizer
    clip: float
    steps: int = 0
    seconds: float = 0.0
    forward: Solves = field(default_factory=Solves)
    backward: Solves = field(default_factory=Solves)

    def step(self, tokens: Tensor) -> float:
        """One step; the loss before it.

        Raises:
            ConvergenceError: the loss or the gradient is not finite.
        """
        self.steps += 1
        start = time.perf_counter()
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.model.loss(tokens).mean()
        value = float(loss.detach())
        self.forward.note(self.model.equilibrium.report)
        if not math.isfinite(value):
            raise ConvergenceError(f"the loss is {value}")
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.backward.note(self.model.equilibrium.adjoint_report)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip))
        if not math.isfinite(norm):
            raise ConvergenceError(f"the norm of the gradient is {norm}")
        self.optimiser.step()
        self.seconds += time.perf_counter() - start
        return value


def _batches(tokens: NDArray[np.int32], segment: int, recipe: Recipe, seed: int) -> Iterator[NDArray[np.int32]]:
    stream, places = np.random.default_rng(seed), np.arange(segment + 1)
    for _ in range(recipe.steps):
        starts = stream.integers(len(tokens) - segment, size=recipe.batch)
        yield tokens[starts[:, None] + places]


def _segments(tokens: NDArray[np.int32], segment: int) -> Iterator[NDArray[np.int32]]:
    """Segments with the token after each, 64 at a time."""
    starts, places = np.arange(0, len(tokens) - segment, segment), np.arange(segment + 1)
    for first in range(0, len(starts), _EVALUATED):
        yield tokens[starts[first : first + _EVALUATED, None] + places]


def _on_device(rows: NDArray[np.int32], model: DEQTransformer) -> Tensor:
    return torch.from_numpy(rows.astype(np.int64)).to(model.embedding.device)
