"""The tables of a report, made from the studies' results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from equikernel.validation.experiments.real import VARIANTS
from equikernel.validation.experiments.spectra import KINDS
from equikernel.validation.experiments.suite import ValidationResult
from equikernel.validation.tables import Column, Table, coefficient_table

__all__ = ["report_tables"]

_ACTIVATION = Column("activation", "activation")
_KERNEL = Column("kernel", "kernel")
_DATA = Column("data", "data")
_LEADING = 5


def report_tables(results: Sequence[ValidationResult]) -> tuple[Table, ...]:
    """Every table that has a row, in the order of the report."""
    tables = (
        _coefficients(results),
        _table(
            "moments",
            "Gaussian moments at the fixed point τ*, with bounds on their errors",
            results,
            _moment_rows,
            *(Column("moment", "moment"), Column("value", "value", form=".12g")),
            *(Column("uncertainty", "error bound", form=".0e"), Column("provenance", "provenance")),
        ),
        _table(
            "designs",
            "Explicit networks with the coefficients of the DEQ, or why there is none",
            results,
            _design_rows,
            *(
                _KERNEL,
                Column("family", "family"),
                Column("depth", "depth"),
                Column("parameters", "parameters", layout="p{5cm}"),
            ),
            *(
                Column("residual", "residual", form=".1e"),
                Column("distance", "third-order distance", form=".2g"),
                Column("remark", "remark", layout="p{9cm}"),
            ),
        ),
        _table(
            "rates",
            "Fitted slopes of log ‖exact − equivalent‖ over log p, with 95 % confidence intervals; theory: −1/2",
            results,
            _rate_rows,
            *(Column("family", "mixtures"), _KERNEL, Column("part", "part"), Column("slope", "slope", form=".3f")),
            *(Column("low", "from", form=".3f"), Column("high", "to", form=".3f"), Column("points", "data sets")),
            Column("verdict", "verdict"),
        ),
        _table(
            "finite_width",
            "Networks extrapolated to infinite width against the exact kernel: z-scores of all entries",
            results,
            _score_rows,
            *(_DATA, _KERNEL, Column("entries", "entries"), Column("mean", "mean z", form=".2f")),
            *(Column("mean_error", "its error", form=".2f"), Column("std", "rms z", form=".2f")),
            *(Column("largest", "max |z|", form=".2f"), Column("largest_bound", "bound", form=".2f")),
            *(Column("p_value", "p value", form=".2g"), Column("misfit", "misfit", form=".2f")),
            Column("consistent", "consistent"),
        ),
        _table(
            "width_errors",
            "Root mean square errors of finite networks by width: all, Monte Carlo, and the bias of finite width",
            results,
            _width_rows,
            *(_DATA, _KERNEL, Column("width", "width"), Column("draws", "networks")),
            *(Column("deviation", "mean − exact", form=".2e"), Column("monte_carlo", "Monte Carlo", form=".2e")),
            Column("fitted_bias", "bias", form=".2e"),
        ),
        _table(
            "real_data",
            "Relative errors of the equivalents on real data (operator and Frobenius norms)",
            results,
            real_rows,
            *(_DATA, Column("n", "n"), Column("p", "p"), _KERNEL),
            Column("labelled_operator", "labels, op", form=".2%"),
            Column("labelled_frobenius", "labels, F", form=".2%"),
            Column("free_operator", "label-free, op", form=".2%"),
            Column("free_frobenius", "label-free, F", form=".2%"),
            *(Column("norm_spread", "std of ‖x‖²", form=".2f"), Column("remark", "remark")),
        ),
        _table(
            "eigenvalues",
            f"The {_LEADING} leading eigenvalues, with the standard error of the empirical ones",
            results,
            _eigenvalue_rows,
            *(_DATA, _KERNEL, Column("rank", "rank")),
            *(Column(kind, kind, form=".5g") for kind in KINDS),
            Column("empirical_error", "its error", form=".1e"),
        ),
    )
    return tuple(table for table in tables if table.rows)


def _table(name: str, caption: str, results: Sequence[ValidationResult], rows: Any, *columns: Column) -> Table:
    made = [{"activation": result.deq.activation.name, **row} for result in results for row in rows(result)]
    # a column nobody has anything to say in is left out
    kept = tuple(c for c in columns if any(row.get(c.key) is not None for row in made))
    return Table(name, caption, (_ACTIVATION, *kept), tuple(made))


def _coefficients(results: Sequence[ValidationResult]) -> Table:
    solutions = []
    for result in results:
        if result.theory.numbers is None:
            continue
        solution = dict(result.theory.numbers["solution"])
        if "ntk" not in result.theory.kernels:
            solution |= dict.fromkeys(("beta1", "beta2", "beta3", "kappa2"))
        solutions.append(solution | {"trained": result.theory.config.trained})
    return coefficient_table(solutions)


def _moment_rows(result: ValidationResult) -> Iterator[dict[str, Any]]:
    for name, moment in (result.theory.numbers or {"moments": {}})["moments"].items():
        yield {"moment": name, **moment}


def _design_rows(result: ValidationResult) -> Iterator[dict[str, Any]]:
    for kernel, design in (result.theory.numbers or {"designs": {}})["designs"].items():
        if "failure" in design:
            yield {"kernel": kernel, "remark": design["failure"]}
            continue
        parameters = "; ".join(
            ", ".join(f"{name}{k} = {value:.10g}" for name, value in layer["params"].items())
            for k, layer in enumerate(design["layers"], start=1)
        )
        rates = ", ".join(f"eta{k} = {rate:.10g}" for k, rate in enumerate(design["rates"], start=1))
        yield {
            "kernel": kernel,
            "parameters": "; ".join(filter(None, (parameters, rates))),
            **{key: design[key] for key in ("family", "depth", "residual", "distance")},
        }


def _rate_rows(result: ValidationResult) -> Iterator[dict[str, Any]]:
    for ladder in result.rates:
        for part, rates in (("whole", ladder.rates), ("off the diagonal", ladder.off_diagonal_rates)):
            for kernel, law in rates.items():
                if law is not None:
                    yield {"family": ladder.config.family, "kernel": kernel, "part": part, **law.to_dict()}


def _score_rows(result: ValidationResult) -> Iterator[dict[str, Any]]:
    for study in result.widths:
        if study.numbers is not None:
            yield {
                "data": study.config.source.title,
                "kernel": study.config.kernel,
                "misfit": study.numbers["misfit"],
                **study.numbers["z"],
            }


def _width_rows(result: ValidationResult) -> Iterator[dict[str, Any]]:
    for study in result.widths:
        for row in (study.numbers or {"widths": []})["widths"]:
            yield {"data": study.config.source.title, "kernel": study.config.kernel, **row}


def real_rows(result: ValidationResult) -> Iterator[dict[str, Any]]:
    """A row for each data set and kernel, with both equivalents' errors; None where one has none."""
    labelled, free = VARIANTS
    for study in result.real:
        source = study.config.source
        for kernel, numbers in (study.numbers or {"kernels": {}})["kernels"].items():
            yield {
                "data": source.title,
                "n": source.n,
                "p": source.p,
                "kernel": kernel,
                "labelled_operator": numbers[labelled].get("operator_error"),
                "labelled_frobenius": numbers[labelled].get("frobenius_error"),
                "free_operator": numbers[free].get("operator_error"),
                "free_frobenius": numbers[free].get("frobenius_error"),
                "norm_spread": (study.numbers or {})["norm_spread"],
                "remark": numbers[labelled].get("failure") or numbers[free].get("failure"),
            }


def _eigenvalue_rows(result: ValidationResult) -> Iterator[dict[str, Any]]:
    for study in result.spectra:
        if study.numbers is None:
            continue
        for rank in range(min(_LEADING, len(study.numbers["exact"]))):
            yield {
                "data": study.config.source.title,
                "kernel": study.config.kernel,
                "rank": rank + 1,
                **{kind: study.numbers[kind][rank] for kind in (*KINDS, "empirical_error")},
            }
