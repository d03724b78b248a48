"""What an experiment is, and how it is run into a folder: units of work that resume, then tables, figures, numbers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from equikernel.errors import InputError, SolutionError
from equikernel.numerics.files import require_folder, write_text
from equikernel.validation.deq.options import require_count
from equikernel.validation.experiments.study import Outcome, Runner, Unit
from equikernel.validation.figures import FigureBook
from equikernel.validation.folder import run_manifest, write_json, write_tables
from equikernel.validation.progress import progress_bar
from equikernel.validation.store import Store
from equikernel.validation.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawing", "Experiment", "Findings", "Spread", "require_seeds", "run_experiment", "spread"]

_FEWEST_SEEDS = 3


class Drawing(NamedTuple):
    """A figure: the function that draws it, and the plain JSON data that it draws."""

    draw: Callable[[Figure, Any], None]
    data: Any


@dataclass(frozen=True)
class Findings:
    """What an experiment found.

    Attributes:
        record: the numbers, as plain JSON types.
        tables: and ``figures``, by name, made of them.
        remarks: sentences for the summary: what was predicted and did not come true, what could not be measured.
    """

    record: dict[str, Any]
    tables: tuple[Table, ...]
    figures: dict[str, Drawing] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


class Experiment(Protocol):
    """An experiment of fixed size: a frozen description that knows its units of work and what they show together."""

    @property
    def name(self) -> str:
        """One word, for files."""

    @property
    def title(self) -> str:
        """A line, for headings."""

    def to_dict(self) -> dict[str, Any]:
        """Its parameters, as plain JSON types."""

    def units(self) -> Sequence[Unit]:
        """The work, in the order in which it is done.

        Raises:
            EquikernelError: data that are not there, arguments that cannot be used.
        """

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """What the outcomes of the units, in their order, show; some of them may be failures."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; the latter is None for one value."""

    mean: float
    sd: float | None
    values: int

    def shown(self, form: str = ".3g") -> str:
        """As "mean ± sd"."""
        return f"{self.mean:{form}}" if self.sd is None else f"{self.mean:{form}} ± {self.sd:{form}}"

    def entries(self, key: str) -> dict[str, Any]:
        """Of a row: the text under the key, and mean and sd under key_mean and key_sd."""
        return {key: self.shown(), f"{key}_mean": self.mean, f"{key}_sd": self.sd}


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (n - 1) of one value or more."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def require_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Three or more different non-negative integers.

    Raises:
        InputError: fewer, or something else.
    """
    chosen = tuple(dict.fromkeys(require_count(seed, "a seed", 0) for seed in seeds))
    if len(chosen) < _FEWEST_SEEDS:
        raise InputError(
            f"an experiment needs {_FEWEST_SEEDS} or more different seeds to tell its "
            f"spread; got {', '.join(map(str, seeds)) or 'none'}"
        )
    return chosen


def run_experiment(experiment: Experiment, out: Path, *, threads: int = 1) -> Findings:
    """Run what is missing of an experiment into the folder ``out``, and write everything there.

    Files: results.json (numbers), summary.md (remarks and tables), tables/ (LaTeX, Markdown, CSV), figures/ (PDF, PNG),
    manifest.json (versions, seeds, times), work/ (finished units, from which a stopped run resumes).

    Args:
        experiment: what to run.
        out: the folder; experiments of different kinds or sizes may share it only one after the other.
        threads: of the linear algebra (see ``Runner``).

    Raises:
        InputError: a folder that cannot be written to; an experiment none of whose units gave numbers.
        SolutionError: none gave any, and each because its problem has no solution.
        EquikernelError: as ``Experiment.units``.
    """
    start = time.perf_counter()
    units = experiment.units()
    store = Store(require_folder(out / "work"))
    with progress_bar() as bar:
        task = bar.add_task(experiment.name, total=len(units))
        outcomes = Runner(store, lambda: bar.advance(task), threads).run(units)
    failures = tuple(dict.fromkeys(o.failure for o in outcomes if o.failure is not None))
    if units and all(o.numbers is None for o in outcomes):
        raise _nothing(outcomes, failures)
    findings = experiment.findings(outcomes)
    record = {"experiment": experiment.name, "config": experiment.to_dict(), **findings.record, "failures": failures}
    write_json(out / "results.json", record)
    write_tables(findings.tables, require_folder(out / "tables"))
    book = FigureBook(require_folder(out / "figures"), store)
    for name, drawing in findings.figures.items():
        book.add(name, drawing.draw, drawing.data)
    write_text(out / "summary.md", _summary(experiment, findings, failures))
    store.remove_leftovers()
    write_json(out / "manifest.json", run_manifest(experiment.to_dict(), len(units), time.perf_counter() - start))
    return findings


def _nothing(outcomes: Sequence[Outcome], failures: Sequence[str]) -> InputError | SolutionError:
    """The error of an experiment without numbers: one sentence, however many units failed and in how many ways."""
    others = f" (and {len(failures) - 1} more reasons like it)" if len(failures) > 1 else ""
    sentence = f"no part of the experiment gave numbers{others}: {failures[0]}"
    return SolutionError(sentence) if all(o.unsolvable for o in outcomes) else InputError(sentence)


def _summary(experiment: Experiment, findings: Findings, failures: Sequence[str]) -> str:
    parts = [f"# {experiment.title}"]
    if findings.remarks:
        parts.append("\n".join(f"- {remark}" for remark in findings.remarks))
    parts += [f"## {table.caption}\n\n{table.render('markdown').strip()}" for table in findings.tables]
    parts += [f"![{name}](figures/{name}.png)" for name in findings.figures]
    if failures:
        parts.append("## Without numbers\n\n" + "\n".join(f"- {failure}" for failure in failures))
    return "\n\n".join(parts) + "\n"
