"""Learning rates, chosen by accuracy on training data that are held out: the test data are not looked at.

In the NTK parameterisation the rate at which training becomes unstable tends to a constant as the width grows, from
below: the narrower a network, the further it moves from where it began. Rates are therefore multiples of 1/steepness
(``Contender.steepness``). The narrowest network tries them all, each wider one goes up from the choice of the last
until training breaks down. It does not stop at the first that is no better: near the best, accuracy is flat, and the
noise of a few networks would decide where the climb ends.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from equikernel.errors import ConvergenceError
from equikernel.validation.experiments.study import Runner, derived_seed, limited_threads
from equikernel.validation.paper.training.contenders import Contender
from equikernel.validation.paper.training.splits import SplitSource
from equikernel.validation.paper.training.trainer import Labelled, Recipe, failures_of, train

__all__ = ["ChosenRate", "RateSearch", "RateUnit", "chosen_multiple", "learning_rate"]

_SAMPLES = 300  # of which the steepness is computed: its largest eigenvalue is known to a few per cent
_HELD_OUT = 10  # one in so many training samples
_BREAKDOWN = 0.05  # below the best accuracy by so much, no larger rate is tried


@lru_cache(maxsize=64)
def _steepness(contender: Contender, source: SplitSource) -> float:
    return contender.steepness(np.array(source.load().train.X[:_SAMPLES], float))


def learning_rate(contender: Contender, source: SplitSource, multiple: float) -> float:
    """multiple/steepness, the steepness on the first 300 training samples."""
    return multiple / _steepness(contender, source)


@dataclass(frozen=True)
class RateUnit:
    """One learning rate tried: a network trained on nine tenths of the training data; itself the unit of work."""

    source: SplitSource
    contender: Contender
    width: int
    multiple: float
    seed: int
    recipe: Recipe
    device: str
    threads: int

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "learning rate",
            "data": self.source.describe(),
            "network": self.contender.describe(),
            "width": self.width,
            "multiple": self.multiple,
            "seed": self.seed,
            "recipe": self.recipe.to_dict(),
            "device": self.device,
            "threads": self.threads,
        }

    def measure(self) -> dict[str, Any]:
        """Accuracy on the held-out samples after the last epoch.

        Raises:
            ConvergenceError: training diverged.
            EquikernelError: the network cannot be had.
        """
        source, part = self.source, self.source.load().train
        order = np.random.default_rng(derived_seed(source.seed, "held out")).permutation(len(part.labels))
        held_out = len(order) // _HELD_OUT
        data, rest = (
            Labelled.of(part.X[rows], part.labels[rows], self.device) for rows in (order[held_out:], order[:held_out])
        )
        seed = derived_seed(self.seed, "learning rate", self.contender.kind, self.width)
        rate = learning_rate(self.contender, source, self.multiple)
        subject = f"{self.contender.title} of width {self.width} on {source.name}, learning rate {rate:.3g}"
        with limited_threads(self.threads, torch_too=True), failures_of(subject):
            module = self.contender.module(self.width, source.features, source.classes, seed, self.device)
            run = train(module, rate, data, rest, self.recipe, derived_seed(seed, "order"))
        return {"accuracy": run["epochs"][-1]["accuracy"], "seconds": run["epochs"][-1]["seconds"]}


@dataclass(frozen=True)
class ChosenRate:
    """The multiple of 1/steepness for a network at a width, and what was tried.

    Attributes:
        source: the data. contender: the network. width: m.
        multiple: None if training diverged at all of them.
        tried: of every multiple its mean accuracy on the held-out samples, None where it diverged for a seed.
        at_edge: whether the best has no neighbour in the list of multiples, above or, where all were tried, below: a
            better one may lie beyond.
        failures: the sentences of those that diverged.
        seconds: of training, of all that were tried and did not diverge.
    """

    source: SplitSource
    contender: Contender
    width: int
    multiple: float | None
    tried: tuple[tuple[float, float | None], ...]
    at_edge: bool
    failures: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class RateSearch:
    """The search for one network.

    Attributes:
        widths: at which rates are chosen, in increasing order.
        multiples: of 1/steepness, in increasing order.
        seeds: of the networks; they have nothing to do with the seeds of the experiment.
    """

    source: SplitSource
    contender: Contender
    widths: tuple[int, ...]
    multiples: tuple[float, ...]
    seeds: tuple[int, ...]
    recipe: Recipe
    device: str
    threads: int

    def run(self, runner: Runner) -> Iterator[ChosenRate]:
        """Width by width the multiple of largest mean accuracy, the smallest of them if several have it.

        At the first width all are tried. At a wider one those from the last choice upwards, until one diverges or falls
        0.05 below the best; all of them again where the last choice diverges.
        """
        start: float | None = None
        for width in self.widths:
            tried = [] if start is None else list(self._climb(runner, width, start))
            climbed = bool(tried) and tried[0].accuracy is not None
            if not climbed:
                tried = [self._try(runner, width, multiple) for multiple in self.multiples]
            usable = [(trial.accuracy, -trial.multiple) for trial in tried if trial.accuracy is not None]
            start = -max(usable)[1] if usable else None
            yield ChosenRate(
                self.source,
                self.contender,
                width,
                start,
                tuple((trial.multiple, trial.accuracy) for trial in tried),
                start is not None and (start == self.multiples[-1] or (not climbed and start == self.multiples[0])),
                tuple(dict.fromkeys(failure for trial in tried for failure in trial.failures)),
                sum(trial.seconds for trial in tried),
            )

    def _climb(self, runner: Runner, width: int, start: float) -> Iterator[_Trial]:
        best = 0.0
        for multiple in (c for c in self.multiples if c >= start):
            trial = self._try(runner, width, multiple)
            yield trial
            if trial.accuracy is None or trial.accuracy < best - _BREAKDOWN:
                return
            best = max(best, trial.accuracy)

    def _try(self, runner: Runner, width: int, multiple: float) -> _Trial:
        outcomes = runner.run(
            RateUnit(self.source, self.contender, width, multiple, seed, self.recipe, self.device, self.threads)
            for seed in self.seeds
        )
        found = [outcome.numbers for outcome in outcomes if outcome.numbers is not None]
        return _Trial(
            multiple,
            statistics.fmean(n["accuracy"] for n in found) if len(found) == len(outcomes) else None,
            sum(n["seconds"] for n in found),
            tuple(outcome.failure for outcome in outcomes if outcome.failure is not None),
        )


class _Trial(NamedTuple):
    """A multiple with its mean held-out accuracy, None if it diverged for a seed."""

    multiple: float
    accuracy: float | None
    seconds: float
    failures: tuple[str, ...]


def chosen_multiple(rates: Sequence[ChosenRate], source: SplitSource, contender: Contender, width: int) -> float:
    """That of the widest searched width up to ``width``; of the narrowest where there is none below.

    Raises:
        ConvergenceError: training diverged at every rate tried there.
    """
    own = sorted((r for r in rates if (r.source, r.contender) == (source, contender)), key=lambda r: r.width)
    rate = next((r for r in reversed(own) if r.width <= width), own[0])
    if rate.multiple is None:
        raise ConvergenceError(
            f"no learning rate tried at width {rate.width} trains {contender.title}: {rate.failures[0]}"
        )
    return rate.multiple
