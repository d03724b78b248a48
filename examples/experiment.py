"""An experiment of one's own: is the kernel regression of a DEQ that of its equivalent network, and of a naive one?

It is a description with units of work; what resumes them and writes tables, figures and numbers is the package's.

Prints:

    first run: 3 units computed, second run: 0
    manifest.json, results.json, summary.md; the table as .csv, .md, .tex
    the equivalent network predicts the digits as the DEQ does: True
    the naive network: False
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import equikernel as ek
from equikernel.validation.experiments.study import Outcome
from equikernel.validation.paper.experiment import Findings, run_experiment, spread
from equikernel.validation.paper.networks import naive_network
from equikernel.validation.tables import Column, Table

DEQ = ek.DEQ("relu")
computed = []


def ridge(kernel: np.ndarray, labels: np.ndarray, train: int) -> np.ndarray:
    """Predictions for the samples after the first ``train``."""
    return kernel[train:, :train] @ np.linalg.solve(kernel[:train, :train] + 1e-2 * np.eye(train), labels[:train])


@dataclass(frozen=True)
class Unit:
    """One seed: 300 digits, 200 of them to learn from whether they are even."""

    seed: int

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {"study": "ridge regression of digits", "seed": self.seed}

    def measure(self) -> dict[str, Any]:
        """Relative distances of predictions."""
        computed.append(self.seed)
        data = ek.load_dataset("digits", n=300, seed=self.seed)
        labels = 1.0 - 2.0 * (data.labels % 2)
        truth = ridge(ek.implicit_ck(data.X, DEQ, tau0=1), labels, 200)
        networks = {"equivalent": ek.equivalent_network(DEQ).network, "naive": naive_network(DEQ)}
        distances = {k: ridge(ek.explicit_ck(data.X, network), labels, 200) - truth for k, network in networks.items()}
        return {k: float(np.linalg.norm(d) / np.linalg.norm(truth)) for k, d in distances.items()}


@dataclass(frozen=True)
class Experiment:
    """Three seeds."""

    name: str = "ridge"
    title: str = "Ridge regression with the kernels of three networks"

    def to_dict(self) -> dict[str, Any]:
        """The parameters."""
        return {"seeds": [0, 1, 2]}

    def units(self) -> Sequence[Unit]:
        """One a seed."""
        return [Unit(seed) for seed in (0, 1, 2)]

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Mean and spread over the seeds."""
        numbers = [outcome.numbers for outcome in outcomes if outcome.numbers is not None]
        spreads = {kind: spread([one[kind] for one in numbers]) for kind in ("equivalent", "naive")}
        rows = tuple({"network": kind, "distance": s.shown()} for kind, s in spreads.items())
        columns = (Column("network", "network"), Column("distance", "distance to the DEQ's predictions"))
        record = {kind: asdict(s) for kind, s in spreads.items()}
        return Findings(record, (Table("distances", "Digits, raw pixels: 200 to learn from", columns, rows),))


def main() -> None:
    """Run it twice."""
    out = Path("results")
    findings = run_experiment(Experiment(), out)
    first = len(computed)
    run_experiment(Experiment(), out)
    print(f"first run: {first} units computed, second run: {len(computed) - first}")
    tables = sorted(path.suffix for path in (out / "tables").glob("distances.*"))
    files = sorted(path.name for path in out.iterdir() if path.is_file())
    print(f"{', '.join(files)}; the table as {', '.join(tables)}")
    near = {kind: numbers["mean"] < 0.01 for kind, numbers in findings.record.items()}
    print(f"the equivalent network predicts the digits as the DEQ does: {near['equivalent']}")
    print(f"the naive network: {near['naive']}")


if __name__ == "__main__":
    main()
