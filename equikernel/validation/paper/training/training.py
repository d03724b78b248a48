"""Training: a DEQ against its equivalent explicit network and a naive one, accuracy against time and memory.

Two stages, which resume: learning rates are chosen on held-out training data (``learning_rates``), then every network
is trained at every width with every seed, and its accuracy on the test data measured once an epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from equikernel.errors import ConvergenceError, InputError
from equikernel.numerics.files import require_folder
from equikernel.numerics.solve import solve
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ
from equikernel.validation.deq.options import require_count
from equikernel.validation.devices import torch_device
from equikernel.validation.experiments.study import Outcome, Runner, derived_seed, limited_threads
from equikernel.validation.paper.experiment import Findings, require_seeds, run_experiment
from equikernel.validation.paper.training.contenders import KINDS, Contender
from equikernel.validation.paper.training.findings import training_findings
from equikernel.validation.paper.training.learning_rates import ChosenRate, RateSearch, chosen_multiple, learning_rate
from equikernel.validation.paper.training.rows import Run
from equikernel.validation.paper.training.splits import SplitSource, split_source
from equikernel.validation.paper.training.trainer import (
    Labelled,
    Recipe,
    failures_of,
    inference_seconds,
    kept_bytes,
    train,
)
from equikernel.validation.progress import progress_bar
from equikernel.validation.store import Store

__all__ = ["Training", "TrainingConfig", "TrainingUnit", "run_training"]


@dataclass(frozen=True)
class TrainingConfig:
    """The size of the experiment.

    Attributes:
        data: named data sets or files. front_end: what the samples go through (see ``load_split``).
        activations: of the DEQs. sigma_a2, sigma_b2: their variances.
        widths: of all networks. seeds: of weights and order of samples; the samples are the same for all seeds.
        train: how many samples are trained on; None: 10000, or all if there are fewer. test: how many the accuracy is
            for; None: all. data_seed: of their draw.
        recipe: how every network is trained.
        wider: whether the explicit networks are trained at twice the largest width too: where a DEQ of the same width
            is a little better, only a wider network can tell what equal accuracy costs.
        multiples: learning rates tried, in units of 1/steepness (``Contender.steepness``). rate_seeds: how many
            networks are trained for each. search_up_to: the largest width at which rates are chosen.
        tol: relative residual of a DEQ's solves.
        device: "cpu", "cuda" or "cuda:N". threads: of the linear algebra; part of the description of a unit, since its
            times depend on it.

    Raises:
        InputError: an argument outside its domain.
    """

    data: tuple[str, ...] = ("fashion-mnist",)
    front_end: str = "pixels"
    activations: tuple[str, ...] = ("relu", "tanh")
    sigma_a2: Fraction | str = "0.2"
    sigma_b2: Fraction | str = "0.8"
    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    seeds: tuple[int, ...] = (0, 1, 2)
    train: int | None = None
    test: int | None = None
    data_seed: int = 0
    recipe: Recipe = field(default_factory=Recipe)
    wider: bool = True
    multiples: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    rate_seeds: int = 2
    search_up_to: int = 1024
    tol: float = 1e-3
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        require_seeds(self.seeds)
        for name in ("rate_seeds", "threads"):
            require_count(getattr(self, name), name, 1)
        for name in ("data", "activations", "widths", "multiples"):
            if not getattr(self, name):
                raise InputError(f"{name} must not be empty")
        for width in self.widths:
            require_count(width, "a width", 1)
        if any(not 0.0 < multiple < float("inf") for multiple in self.multiples):
            raise InputError(f"multiples of the learning rate must be positive; got {self.multiples}")
        torch_device(self.device)

    def sources(self) -> tuple[SplitSource, ...]:
        """The data.

        Raises:
            DataError: they are not on this machine or cannot be used.
        """
        return tuple(
            split_source(name, self.train, self.test, self.data_seed, self.front_end)
            for name in dict.fromkeys(self.data)
        )

    def contenders(self) -> tuple[Contender, ...]:
        """The networks, the three of an activation together.

        Raises:
            InputError: a bad activation.
        """
        return tuple(Contender(kind, deq, self.tol) for deq in self._deqs() for kind in KINDS)

    def require_trainable(self) -> None:
        """Refuse, before anything is trained, DEQs that theory says cannot be: without them nothing is compared.

        Raises:
            InputError: a bad activation, or one that jumps and has no NTK.
            SolutionError: no fixed point, or sigma_a^2 v >= 1, where the solves of the DEQ do not converge.
        """
        for deq in self._deqs():
            solve(deq, 1.0, trained="aAB")

    def _deqs(self) -> list[DEQ]:
        return [DEQ(activation(name), self.sigma_a2, self.sigma_b2) for name in dict.fromkeys(self.activations)]

    def searches(self) -> tuple[RateSearch, ...]:
        """The searches for learning rates."""
        widths = sorted(set(self.widths))
        searched = tuple(width for width in widths if width <= self.search_up_to) or (widths[0],)
        multiples = tuple(sorted(set(self.multiples)))
        seeds = tuple(derived_seed(self.data_seed, "rate seed", k) for k in range(self.rate_seeds))
        return tuple(
            RateSearch(source, contender, searched, multiples, seeds, self.recipe, self.device, self.threads)
            for source, contender in itertools.product(self.sources(), self.contenders())
        )

    def widths_of(self, kind: str) -> tuple[int, ...]:
        """In increasing order; of explicit networks one more, so that they can overtake the widest DEQ."""
        widths = sorted(set(self.widths))
        return (*widths, 2 * widths[-1]) if self.wider and kind != "deq" else tuple(widths)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "data": list(self.data),
            "front_end": self.front_end,
            "activations": list(self.activations),
            "sigma_a2": str(self.sigma_a2),
            "sigma_b2": str(self.sigma_b2),
            "widths": list(self.widths),
            "seeds": list(self.seeds),
            "train": self.train,
            "test": self.test,
            "data_seed": self.data_seed,
            "recipe": self.recipe.to_dict(),
            "wider": self.wider,
            "multiples": list(self.multiples),
            "rate_seeds": self.rate_seeds,
            "search_up_to": self.search_up_to,
            "tol": self.tol,
            "device": self.device,
            "threads": self.threads,
        }


@dataclass(frozen=True)
class TrainingUnit:
    """One network of one width, trained with one seed; itself the unit of work.

    Attributes:
        multiple: the learning rate in units of 1/steepness, None if none trains. why: the sentence that says so.
    """

    source: SplitSource
    contender: Contender
    width: int
    seed: int
    multiple: float | None
    recipe: Recipe
    device: str
    threads: int
    why: str = ""

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on; times depend on the machine and its other work besides."""
        return {
            "study": "training",
            "data": self.source.describe(),
            "network": self.contender.describe(),
            "width": self.width,
            "seed": self.seed,
            "multiple": self.multiple,
            **({"why": self.why} if self.multiple is None else {}),
            "recipe": self.recipe.to_dict(),
            "device": self.device,
            "threads": self.threads,
        }

    def measure(self) -> dict[str, Any]:
        """Accuracy and loss after every epoch, seconds, bytes, iterations.

        Raises:
            ConvergenceError: training diverged; it says in which epoch.
            EquikernelError: the network cannot be had.
        """
        if self.multiple is None:
            raise ConvergenceError(self.why)
        import torch

        source, split = self.source, self.source.load()
        data = Labelled.of(split.train.X, split.train.labels, self.device)
        test = Labelled.of(split.test.X, split.test.labels, self.device)
        rate = learning_rate(self.contender, source, self.multiple)
        seed = derived_seed(self.seed, "training", self.contender.kind, self.width)
        on_cuda = data.X.is_cuda
        subject = (
            f"{self.contender.title} of width {self.width} on {source.name}, seed {self.seed}, learning rate {rate:.3g}"
        )
        with limited_threads(self.threads, torch_too=True), failures_of(subject):
            module = self.contender.module(self.width, source.features, source.classes, seed, self.device)
            if on_cuda:
                torch.cuda.reset_peak_memory_stats(data.X.device)
            kept = kept_bytes(module, *(part[: self.recipe.batch] for part in data))
            run = train(module, rate, data, test, self.recipe, derived_seed(self.seed, "order"))
            peak = torch.cuda.max_memory_allocated(data.X.device) if on_cuda else None
            inference = inference_seconds(module, test.X)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        last = run["epochs"][-1]
        return {
            "accuracy": last["accuracy"],
            "training_seconds": last["seconds"],
            "training_cpu_seconds": last["cpu_seconds"],
            "inference_seconds": inference,
            "learning_rate": rate,
            "multiple": self.multiple,
            "parameters": sum(parameter.numel() for parameter in parameters),
            "parameter_bytes": sum(parameter.numel() * parameter.element_size() for parameter in parameters),
            "kept_bytes": kept,
            "peak_device_bytes": peak,
            **run,
        }


@dataclass(frozen=True)
class Training:
    """The second stage, with the learning rates of the first."""

    config: TrainingConfig
    rates: tuple[ChosenRate, ...]

    @property
    def name(self) -> str:
        """For files."""
        return "training"

    @property
    def title(self) -> str:
        """For headings."""
        return "Training: deep equilibrium networks, their equivalent explicit networks, and naive ones"

    def to_dict(self) -> dict[str, Any]:
        """The size of the experiment."""
        return self.config.to_dict()

    def units(self) -> tuple[TrainingUnit, ...]:
        """Networks of one width and seed one after the other, so that a change in the machine's load meets them all."""
        config = self.config
        contenders = config.contenders()
        base = [
            TrainingUnit(source, contender, width, seed, None, config.recipe, config.device, config.threads)
            for source, seed, width in itertools.product(config.sources(), config.seeds, config.widths_of("naive"))
            for contender in contenders
            if width in config.widths_of(contender.kind)
        ]
        return tuple(map(self._with_rate, base))

    def _with_rate(self, unit: TrainingUnit) -> TrainingUnit:
        try:
            return replace(unit, multiple=chosen_multiple(self.rates, unit.source, unit.contender, unit.width))
        except ConvergenceError as error:
            return replace(unit, why=str(error))

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Accuracies, costs, and how much faster the explicit networks are at equal accuracy."""
        runs = [
            Run(
                unit.source.title,
                unit.contender.deq.activation.name,
                unit.contender.kind,
                unit.width,
                unit.seed,
                outcome,
            )
            for unit, outcome in zip(self.units(), outcomes, strict=True)
        ]
        return training_findings(runs, self.rates, self.config.sources(), self.config.to_dict())


def run_training(config: TrainingConfig, out: Path) -> Findings:
    """Choose the learning rates, train, and write everything into the folder ``out`` (see ``run_experiment``).

    Raises:
        InputError: a folder that cannot be written to; an activation that cannot be used or has no NTK.
        SolutionError: a DEQ without a stable fixed point.
        DataError: the data are not on this machine or cannot be used.
    """
    config.require_trainable()
    searches = config.searches()
    store = Store(require_folder(out / "work"))
    with progress_bar() as bar:
        task = bar.add_task("learning rates", total=sum(len(search.widths) for search in searches))
        runner, rates = Runner(store, threads=config.threads), []
        for rate in itertools.chain.from_iterable(search.run(runner) for search in searches):
            rates.append(rate)
            bar.advance(task)
    return run_experiment(Training(config, tuple(rates)), out, threads=config.threads)
