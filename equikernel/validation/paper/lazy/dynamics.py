"""Loss curves of trained networks against the kernel regime: r(t) = (I - eta K)^t r(0), for small steps exp(-eta K t).

What is expected, for width m and parameters of the NTK's scale: the kernel at initialisation differs from its limit by
O(m^(-1/2)), so the residuals differ by as much from the prediction by the exact kernel. In training the kernel moves by
O(1/m) only: its derivative in time is an odd function of the readout, which cancels from order m^(-1/2) to 1/m, and its
second derivative is of order 1/m. So the prediction by the network's own kernel at initialisation fails by O(1/m).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import InputError
from equikernel.theory.models import DEQ, require_trained
from equikernel.validation.deq.options import require_count
from equikernel.validation.experiments.sources import DatasetSource, Source
from equikernel.validation.experiments.study import Outcome, Unit, describe_deq, limited_threads
from equikernel.validation.paper.experiment import Findings, require_seeds
from equikernel.validation.paper.lazy.dynamics_findings import dynamics_findings
from equikernel.validation.paper.lazy.linearised import KernelModel
from equikernel.validation.paper.lazy.problem import (
    Contestant,
    LazyData,
    contestants,
    described_run,
    limit_model,
    missing_equivalent,
    require_widths,
)

__all__ = ["Dynamics", "DynamicsUnit"]

Array = NDArray[np.float64]
_SNAPSHOTS = 8  # times at which the test samples are looked at


@dataclass(frozen=True)
class DynamicsUnit:
    """One network, trained once.

    Attributes:
        contestant: which. reference: the DEQ, whose kernel is to predict the others too.
        data: split in two. width: m. seed: of the weights.
        fraction: the step eta as a part of 1/(largest eigenvalue of the exact kernel on the training samples).
        steps: of gradient descent.
        threads: of the linear algebra.
    """

    contestant: Contestant
    reference: Contestant
    data: LazyData
    width: int
    seed: int
    fraction: float
    steps: int
    threads: int = 1

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "dynamics",
            **described_run(self.contestant, self.reference, self.data, self.width, self.seed),
            "fraction": self.fraction,
            "steps": self.steps,
        }

    def measure(self) -> dict[str, Any]:
        """Loss curves, measured and predicted, and the largest deviations.

        A deviation is max_t ||f(t) - prediction(t)||/||f(0) - y|| on the training samples, and the same of root mean
        squares on the test samples, with ||f(0) - y|| of the training samples, at a few times.

        Raises:
            EquikernelError: the kernel or the network does not exist, or a state does not converge.
        """
        with limited_threads(self.threads, torch_too=True):
            return self._measure()

    def _measure(self) -> dict[str, Any]:
        from equikernel.validation.paper.lazy.descent import Trainee

        samples = self.data.load()
        limit, reference = (limit_model(c, self.data) for c in (self.contestant, self.reference))
        network = Trainee(self.contestant, self.width, samples.X, samples.n, samples.tau0, self.seed)
        start = network.tangent_kernel()
        initial, f0, y = KernelModel(start[:, : samples.n]), network.outputs(), samples.train_labels
        rate, times = self.fraction / limit.largest, np.arange(self.steps + 1, dtype=np.float64)
        path = _Path(samples.n, f0, y, snapshots(self.steps))
        for t, f in enumerate(network.descent(y, rate)):
            path.note(t, f, network.outputs)
            if t == self.steps:
                break
        end = network.tangent_kernel(all_samples=False)
        predictions = {
            "limit": limit.descent(f0, y, rate, times),
            "initial": initial.descent(f0, y, rate, times),
            "flow": limit.flow(f0, y, rate, times),
            "deq": reference.descent(f0, y, self.fraction / reference.largest, times),
        }
        return {
            "rate": rate,
            "largest": {"limit": limit.largest, "initial": initial.largest},
            "smallest": {"limit": limit.smallest, "initial": initial.smallest},
            "fluctuation": _relative(initial.training_kernel, limit.training_kernel),
            "movement": _relative(end, initial.training_kernel),
            "deviations": {name: path.deviation(f) for name, f in predictions.items()},
            "kernel_effect": path.distance(predictions["initial"], predictions["limit"]),
            "loss": path.losses(np.array(path.train)),
            "predicted": {name: path.losses(f[:, : samples.n]) for name, f in predictions.items()},
            "accuracy": {
                "network": _accuracy(path.test[self.steps], samples.test_labels),
                "limit": _accuracy(predictions["limit"][-1, samples.n :], samples.test_labels),
            },
        }


class _Path:
    """What a network gave at every step."""

    def __init__(self, n: int, f0: Array, y: Array, snapshots: tuple[int, ...]) -> None:
        self.n, self.y, self.snapshots = n, y, snapshots
        self.scale = float(np.linalg.norm(f0[:n] - y))
        self.train: list[Array] = []
        self.test: dict[int, Array] = {}

    def note(self, t: int, f: Array, outputs: Any) -> None:
        self.train.append(f)
        if t in self.snapshots:
            self.test[t] = outputs()[self.n :]

    def deviation(self, predicted: Array) -> dict[str, float]:
        train = self.distance(np.array(self.train), predicted[:, : self.n])
        rows = np.array(self.snapshots)
        difference = np.array([self.test[t] for t in self.snapshots]) - predicted[rows, self.n :]
        test = np.sqrt(np.mean(difference**2, axis=1)).max() * math.sqrt(self.n) / self.scale
        return {"train": train, "test": float(test)}

    def distance(self, f: Array, g: Array) -> float:
        """Largest over time, on the training samples, relative to the first residual."""
        return float(np.linalg.norm(f[:, : self.n] - g[:, : self.n], axis=1).max() / self.scale)

    def losses(self, f: Array) -> list[float]:
        """||f(t) - y||^2/||f(0) - y||^2."""
        return [float(x) for x in np.sum((f - self.y) ** 2, axis=1) / self.scale**2]


def snapshots(steps: int) -> tuple[int, ...]:
    """Times from the first step to the last, their ratios about equal."""
    return tuple(sorted({round(t) for t in np.geomspace(1, steps, _SNAPSHOTS)}))


def _relative(kernel: Array, other: Array) -> float:
    return float(np.linalg.norm(kernel - other) / np.linalg.norm(other))


def _accuracy(f: Array, y: Array) -> float:
    return float(np.mean(np.where(f >= 0, 1.0, -1.0) == y))


@dataclass(frozen=True)
class Dynamics:
    """Training by full-batch gradient descent: a DEQ, its equivalent and a naive network, over widths and seeds.

    Attributes:
        deq: the network.
        sources: of the samples, each of which is split in two.
        train: training samples of each.
        widths: of all networks. seeds: three or more, of their weights; the first one splits the samples.
        fraction: eta times the largest eigenvalue of the exact kernel.
        steps: of gradient descent.
        trained: "a", "aA" or "aAB"; explicit networks train all layers, or for "a" the readout alone.
        threads: of the linear algebra.

    Raises:
        InputError: fewer than three seeds, or other numbers that cannot be used.
    """

    deq: DEQ
    sources: tuple[Source, ...]
    train: int
    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    fraction: float = 0.5
    steps: int = 60
    trained: str = "aA"
    threads: int = 1

    name = "dynamics"

    def __post_init__(self) -> None:
        require_trained(self.trained)
        require_seeds(self.seeds)
        require_count(self.steps, "steps", 1)
        if not 0.0 < self.fraction <= 1.0:
            raise InputError(
                "the step of gradient descent, in units of 1/(largest eigenvalue of the kernel), must lie between 0 "
                f"and 1: from 2 on it diverges; got {self.fraction!r}"
            )
        object.__setattr__(self, "widths", require_widths(self.widths))

    @property
    def title(self) -> str:
        """A line."""
        return f"Training dynamics in the kernel regime: {self.deq.activation.name}"

    @property
    def data(self) -> tuple[LazyData, ...]:
        """The sources, split."""
        return tuple(LazyData(source, self.train, self.seeds[0]) for source in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "deq": describe_deq(self.deq),
            "data": [data.describe() for data in self.data],
            "widths": list(self.widths),
            "seeds": list(self.seeds),
            **{name: getattr(self, name) for name in ("fraction", "steps", "trained", "threads")},
        }

    def units(self) -> Sequence[Unit]:
        """A unit for every data set, width, network and seed, small widths first.

        Raises:
            EquikernelError: bad data, a DEQ without a solution.
        """
        return self._units()

    def _units(self) -> tuple[DynamicsUnit, ...]:
        made = []
        for data in self.data:
            known = contestants(self.deq, data.load().tau0, self.trained)
            made += [
                DynamicsUnit(c, known[0], data, width, seed, self.fraction, self.steps, self.threads)
                for width in self.widths
                for c in known
                for seed in self.seeds
            ]
        return tuple(made)

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Tables of deviations and of their slopes over the width, loss curves, and sentences."""
        runs = [
            {
                "data": unit.data.title,
                "preparation": preparation(unit.data.source),
                "train": unit.data.train,
                "network": unit.contestant.name,
                "width": unit.width,
                "seed": unit.seed,
                **outcome.numbers,
            }
            for unit, outcome in zip(self._units(), outcomes, strict=True)
            if outcome.numbers is not None
        ]
        missing = [m for data in self.data for m in missing_equivalent(self.deq, data.load().tau0, self.trained)]
        return dynamics_findings(runs, self.trained, tuple(dict.fromkeys(missing)))


def preparation(source: Source) -> str:
    """What was done to the data before the networks saw them."""
    return source.preprocessing if isinstance(source, DatasetSource) else "drawn from the population, no preparation"
