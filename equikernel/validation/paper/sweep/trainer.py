"""Training of one network by Adam, with an account of every solve that did not converge."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equikernel.validation.deq.fixed_point import FixedPointReport
from equikernel.validation.paper.solves import Solves
from equikernel.validation.paper.sweep.config import Recipe
from equikernel.validation.paper.sweep.network import SweepNetwork
from equikernel.validation.paper.training.trainer import Labelled

__all__ = ["evaluate", "train"]


class _Score(NamedTuple):
    loss: float
    accuracy: float
    report: FixedPointReport | None


@torch.no_grad()
def evaluate(network: SweepNetwork, data: Labelled) -> _Score:
    """Mean cross-entropy and accuracy, and how the states were solved."""
    outputs = network(data.X)
    loss = float(torch.nn.functional.cross_entropy(outputs, data.y))
    return _Score(loss, float((outputs.argmax(1) == data.y).double().mean()), network.reports["forward"])


@dataclass
class _Training:
    """One network on its way.

    Attributes:
        diverged: epoch and step of the first loss that was not finite, or None.
    """

    network: SweepNetwork
    data: Labelled
    test: Labelled
    recipe: Recipe
    optimiser: torch.optim.Optimizer
    order: torch.Generator
    solves: dict[str, Solves] = field(default_factory=lambda: {"forward": Solves(), "backward": Solves()})
    epochs: list[dict[str, float]] = field(default_factory=list)
    diverged: dict[str, int] | None = None

    def batches(self) -> Iterator[Tensor]:
        """The indices of every batch of an epoch; the last one may be smaller."""
        order = torch.randperm(len(self.data.y), generator=self.order).to(self.data.y.device)
        yield from torch.split(order, self.recipe.batch)

    def run_epoch(self) -> None:
        """All steps of an epoch, then the test loss; ends early where a loss is not finite."""
        losses, count, epoch = 0.0, 0, len(self.epochs) + 1
        for number, chosen in enumerate(self.batches(), 1):
            loss = self._step(chosen)
            if not math.isfinite(loss):
                self.diverged = {"epoch": epoch, "step": number}
                return
            losses += loss * len(chosen)
            count += len(chosen)
        score = evaluate(self.network, self.test)
        if not math.isfinite(score.loss):
            self.diverged = {"epoch": epoch, "step": number}
            return
        self.epochs.append({"train_loss": losses / count, "loss": score.loss, "accuracy": score.accuracy})

    def _step(self, chosen: Tensor) -> float:
        loss = torch.nn.functional.cross_entropy(self.network(self.data.X[chosen]), self.data.y[chosen])
        self.solves["forward"].note(self.network.reports["forward"])
        value = float(loss.detach())
        if math.isfinite(value):
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self.solves["backward"].note(self.network.reports["backward"])
            self.optimiser.step()
        return value


def train(network: SweepNetwork, data: Labelled, test: Labelled, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train a network; a loss that is not finite ends it and is no error.

    Args:
        network: trained in place, all its parameters.
        data: what it is trained on.
        test: what it is tested on after every epoch.
        recipe: the rest.
        seed: of the order of the samples.

    Returns:
        Plain JSON types: ``diverged``, None or {epoch, step}; ``loss`` and ``accuracy`` on the test samples in the end,
        None where it diverged; ``epochs``, [{train_loss, loss, accuracy}] of the epochs that were finished;
        ``forward`` and ``backward``, see ``Solves``, over all steps.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.lr)
    run = _Training(network, data, test, recipe, optimiser, torch.Generator().manual_seed(seed))
    while run.diverged is None and len(run.epochs) < recipe.epochs:
        run.run_epoch()
    final = run.epochs[-1] if run.diverged is None else {"loss": None, "accuracy": None}
    return {
        "diverged": run.diverged,
        "loss": final["loss"],
        "accuracy": final["accuracy"],
        "epochs": run.epochs,
        **{direction: solves.to_dict() for direction, solves in run.solves.items()},
    }
