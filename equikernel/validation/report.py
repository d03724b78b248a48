"""The one-folder report: every study of some activations, resumable, with figures, tables, numbers and provenance."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from equikernel.errors import InputError
from equikernel.numerics.files import require_folder, write_text
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.study import Runner
from equikernel.validation.experiments.suite import (
    DEFAULT_DATA,
    FULL,
    QUICK,
    DataChoice,
    Settings,
    ValidationResult,
    choose_data,
    plan_suite,
    run_suite,
)
from equikernel.validation.figures import (
    FigureBook,
    draw_curves,
    draw_rates,
    draw_real,
    draw_spectra,
    draw_widths,
)
from equikernel.validation.folder import run_manifest, write_json, write_tables
from equikernel.validation.initialisation import InitSection, init_report_section
from equikernel.validation.progress import progress_bar
from equikernel.validation.store import Store, package_versions
from equikernel.validation.study_tables import real_rows, report_tables
from equikernel.validation.tables import Table

__all__ = ["ReportConfig", "build_report", "write_report"]


@dataclass(frozen=True)
class ReportConfig:
    """What a report is of.

    Attributes:
        deqs: the networks. data: "gmm", names of data sets, paths.
        optional: whether data that are not there are noted and left out.
        settings: sizes. seed: of everything random.
    """

    deqs: tuple[DEQ, ...]
    data: tuple[str, ...] = DEFAULT_DATA
    optional: bool = True
    settings: Settings = FULL
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "activations": [deq.activation.name for deq in self.deqs],
            "sigma_a2": [str(deq.sigma_a2) for deq in self.deqs],
            "sigma_b2": [str(deq.sigma_b2) for deq in self.deqs],
            "data": list(self.data),
            "seed": self.seed,
            "settings": self.settings.to_dict(),
        }


def write_report(
    activations: Sequence[str],
    out: Path,
    *,
    data: Sequence[str] | None = None,
    sigma_a2: Any = "0.2",
    sigma_b2: Any = "0.8",
    seed: int = 0,
    quick: bool = False,
) -> Path:
    """Write the report of some activations to the folder ``out``, taking up what an earlier run has finished there.

    An activation without a fixed point, or without a neural tangent kernel, is reported as such; one that cannot be
    read stops everything before anything is written.

    Args:
        activations: names or expressions.
        out: the folder.
        data: "gmm", names of data sets or paths; None for the mixtures, digits, and Fashion-MNIST if it is there.
        sigma_a2: hidden variance.
        sigma_b2: input variance.
        seed: of everything random.
        quick: small sizes, for a first look.

    Returns:
        The path of report.html.

    Raises:
        InputError: an activation, a variance or data that cannot be used; a folder that cannot be written to.
    """
    deqs = tuple(DEQ(activation, sigma_a2, sigma_b2) for activation in dict.fromkeys(activations))
    if not deqs:
        raise InputError("a report needs at least one activation; got none")
    config = ReportConfig(
        deqs, DEFAULT_DATA if data is None else tuple(data), data is None, QUICK if quick else FULL, seed
    )
    build_report(config, out)
    return out / "report.html"


def build_report(config: ReportConfig, out: Path) -> tuple[ValidationResult, ...]:
    """Run what is missing, and write everything; see ``write_report``.

    The numbers in results.json depend on the config, the source and the versions of packages alone, not on when or in
    how many runs they were computed; times are in manifest.json.
    """
    start = time.perf_counter()
    data = choose_data(config.data, config.settings, config.seed, optional=config.optional)
    store = Store(require_folder(out / "work"))
    results, section, units = _run(config, data, store)
    record = {
        "config": config.to_dict(),
        "activations": [result.to_dict() for result in results],
        "initialisation": section.to_dict(),
    }
    write_json(out / "results.json", record)
    tables = (*report_tables(results), *((section.table,) if section.table.rows else ()))
    write_tables(tables, require_folder(out / "tables"))
    book = FigureBook(require_folder(out / "figures"), store)
    figures = _figures(results, book) | {name: book.add(name, draw, shown) for name, draw, shown in section.figures}
    write_text(out / "report.html", _html(config, results, section, tables, figures))
    store.remove_leftovers()
    manifest = run_manifest(config.to_dict(), units, time.perf_counter() - start)
    write_json(out / "manifest.json", manifest)
    return results


def _run(config: ReportConfig, data: DataChoice, store: Store) -> tuple[tuple[ValidationResult, ...], InitSection, int]:
    """The results, the statistics at initialisation, and the number of units of work that they took."""
    with progress_bar() as bar:
        task = bar.add_task("theory", total=len(config.deqs))
        runner = Runner(store, lambda: bar.advance(task))
        plans = [plan_suite(deq, data, config.settings, config.seed, runner) for deq in config.deqs]
        units = 2 * len(plans) + sum(plan.units for plan in plans)
        bar.update(task, total=units)
        results = []
        for plan in plans:
            bar.update(task, description=plan.theory.config.deq.activation.name)
            results.append(run_suite(plan, runner))
        bar.update(task, description="initialisation")
        points = config.settings.phase_points
        section = init_report_section(
            [deq.activation for deq in config.deqs], points=points, inputs=points, runner=runner
        )
        bar.update(task, description="figures and tables")
    return tuple(results), section, units


def _figures(results: Sequence[ValidationResult], book: FigureBook) -> dict[str, str]:
    """Every figure that has something to show: its name -> a data URI."""
    figures = {}
    for k, result in enumerate(results, start=1):
        rates = [study.to_dict() for study in result.rates if study.points]
        widths = [{"title": s.config.source.title, **s.to_dict()} for s in result.widths if s.numbers is not None]
        spectra = [{"title": s.config.source.title, **s.to_dict()} for s in result.spectra if s.numbers is not None]
        curves = None if result.theory.numbers is None else result.theory.numbers["curves"]
        for what, draw, data in (
            ("activation", draw_curves, curves),
            ("rates", draw_rates, rates),
            ("finite_width", draw_widths, widths),
            ("spectra", draw_spectra, spectra),
        ):
            if data:
                figures[f"{k}_{what}"] = book.add(f"{k}_{what}", draw, data)
    real = [{"activation": r.deq.activation.name, **row} for r in results for row in real_rows(r)]
    if real:
        figures["real_data"] = book.add("real_data", draw_real, real)
    return figures


def _html(
    config: ReportConfig,
    results: Sequence[ValidationResult],
    section: InitSection,
    tables: Sequence[Table],
    figures: dict[str, str],
) -> str:
    import jinja2
    from sympy.printing.mathml import mathml

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("equikernel.validation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        config=config,
        results=results,
        section=section,
        formulas=[mathml(r.deq.activation.expr, printer="presentation") for r in results],
        tables={table.name: table for table in tables},
        figures=figures,
        versions=package_versions(),
        version=metadata.version("equikernel"),
    )
