"""The sweep: a unit of work for each (family, sigma, seed), whatever it is matched by, and processes to run them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from equikernel.errors import MemoryLimitError
from equikernel.numerics.files import require_folder
from equikernel.validation.deq.options import require_count
from equikernel.validation.experiments.study import Outcome, Runner, derived_seed, limited_threads
from equikernel.validation.paper.experiment import Findings, run_experiment
from equikernel.validation.paper.sweep.config import Cell, Recipe, SweepConfig
from equikernel.validation.paper.sweep.findings import sweep_findings
from equikernel.validation.paper.sweep.initial import input_variances, predicted
from equikernel.validation.paper.training.splits import SplitSource
from equikernel.validation.progress import progress_bar
from equikernel.validation.store import Store

__all__ = ["Run", "Sweep", "run_sweep", "train_at_once"]

_PROBES = 512  # training samples on which a network is looked at before training
_RADII = 8  # of these, samples at which the Jacobian's spectral radius is computed


@dataclass(frozen=True)
class Run:
    """One network, trained; itself the unit of work. It does not know what its sigma was matched by."""

    source: SplitSource
    cell: Cell
    seed: int
    recipe: Recipe
    device: str

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "init-sweep",
            "data": self.source.describe(),
            **asdict(self.cell),
            "seed": self.seed,
            "recipe": self.recipe.to_dict(),
            "device": self.device,
        }

    def measure(self) -> dict[str, Any]:
        """``train``'s numbers, ``start``: the network before training, ``end``: its weights afterwards.

        Raises:
            DataError: the data are not there any more.
            MemoryLimitError: the device is out of memory.
        """
        import torch

        from equikernel.validation.paper.sweep.network import SweepNetwork
        from equikernel.validation.paper.sweep.trainer import evaluate, train
        from equikernel.validation.paper.training.trainer import Labelled, failures_of

        split, recipe, family = self.source.load(), self.recipe, self.cell.family
        subject = f"the DEQ of width {recipe.width} with {family} weights of sigma = {self.cell.sigma:g}"
        with limited_threads(1, torch_too=True), failures_of(subject):
            scale = math.sqrt(split.p)  # entries of mean square 1
            data = Labelled.of(scale * split.train.X, split.train.labels, self.device)
            test = Labelled.of(scale * split.test.X, split.test.labels, self.device)
            network = SweepNetwork(
                recipe.activation, recipe.width, split.p, split.classes, recipe.solver, torch.float32
            )
            network.initialise(family, self.cell.sigma, recipe.input_scale, self.seed).to(self.device)
            before = network.hidden.detach().clone()
            start = _looked_at(network, data.X[:_PROBES])
            start["predicted"] = predicted(recipe.activation, self.cell, start.pop("variances"))
            trained = train(network, data, test, recipe, derived_seed(self.seed, "init-sweep order"))
            moved = float(torch.linalg.matrix_norm(network.hidden.detach() - before) / torch.linalg.matrix_norm(before))
            end = None
            if trained["diverged"] is None:
                report = evaluate(network, test).report
                end = {**_weights(network), "moved": moved, "test": _solved(report)}
        return {**trained, "start": start, "end": end}


def _weights(network: Any) -> dict[str, Any]:
    """Asymmetry and spectral radius of W."""
    import torch

    from equikernel.validation.paper.sweep.network import asymmetry

    weight = network.hidden.detach().double().cpu()
    return {"asymmetry": asymmetry(weight), "radius": float(torch.linalg.eigvals(weight).abs().max())}


def _solved(report: Any) -> dict[str, Any] | None:
    from equikernel.validation.paper.solves import Solves

    solves = Solves()
    solves.note(report)
    return solves.to_dict()


def _looked_at(network: Any, x: Any) -> dict[str, Any]:
    """Length of the states and radius of the Jacobian, means over samples; None where they are not finite."""
    import torch

    with torch.no_grad():
        z, injected = network.states(x), x @ network.injection.mT
    length = float(z.double().square().mean())
    radii = network.jacobian_radius(z[:_RADII])
    radius = sum(radii) / len(radii)
    return {
        **_weights(network),
        "length": length if math.isfinite(length) else None,
        "jacobian_radius": radius if math.isfinite(radius) else None,
        "solves": _solved(network.reports["forward"]),
        "variances": input_variances(injected.double().cpu().numpy()),
    }


@dataclass(frozen=True)
class Sweep:
    """The experiment (see ``paper.experiment``)."""

    config: SweepConfig

    @property
    def name(self) -> str:
        """For files."""
        return "init-sweep"

    @property
    def title(self) -> str:
        """For headings."""
        return "Initialisation: fully connected DEQs trained from iid, orthogonal and GOE weights"

    def to_dict(self) -> dict[str, Any]:
        """The size of the experiment."""
        return self.config.to_dict()

    def units(self) -> tuple[Run, ...]:
        """Seed by seed, so that a run that is stopped has whole seeds."""
        config, source = self.config, self.config.source()
        return tuple(
            Run(source, cell, seed, config.recipe, config.device)
            for seed, cell in itertools.product(config.seeds, config.cells())
        )

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Every matched quantity in its turn; a run serves all in which it occurs."""
        runs = {(unit.cell, unit.seed): outcome.numbers for unit, outcome in zip(self.units(), outcomes, strict=True)}
        return sweep_findings(self.config, self.config.source(), runs)


def run_sweep(config: SweepConfig, out: Path, *, processes: int = 1) -> Findings:
    """Train what is missing, and write everything into the folder ``out`` (see ``run_experiment``).

    Args:
        config: what to train.
        out: the folder.
        processes: how many networks are trained at once, each in a process of its own with one thread. With more than
            one, a script that calls this must do so under ``if __name__ == "__main__":``.

    Raises:
        InputError: a folder that cannot be written to; ``processes`` is not a positive whole number.
        DataError: the data are not on this machine or cannot be used.
        MemoryLimitError: the system ended a process.
    """
    experiment = Sweep(config)
    if require_count(processes, "processes", 1) > 1:
        train_at_once(experiment.units(), out / "work", processes)
    return run_experiment(experiment, out)


def train_at_once(units: Sequence[Run], folder: Path, processes: int) -> None:
    """Put the units that are missing into the store; those that fail are met again by the runner that reads it.

    Args:
        units: to be done.
        folder: of the store.
        processes: how many at once.

    Raises:
        MemoryLimitError: the system ended a process.
    """
    store = Store(require_folder(folder))
    missing = [unit for unit in units if store.get(unit.describe()) is None]
    if not missing:
        return
    with (
        progress_bar() as bar,
        ProcessPoolExecutor(min(processes, len(missing)), mp_context=get_context("spawn")) as pool,
    ):
        task = bar.add_task("training", total=len(missing))
        futures = [pool.submit(_complete, folder, unit) for unit in missing]
        try:
            for future in as_completed(futures):
                future.result()
                bar.advance(task)
        except BrokenProcessPool:
            raise MemoryLimitError(
                f"one of {processes} training processes was ended by the system, most often for want of memory: "
                "run the command again, it resumes, with fewer --threads"
            ) from None
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _complete(folder: Path, unit: Run) -> None:
    Runner(Store(folder)).run([unit])
