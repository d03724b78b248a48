"""What the scores of many activations say: a row for each, and all together, with care for how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equikernel.validation.experiments.sources import Source
from equikernel.validation.experiments.study import Outcome
from equikernel.validation.paper.experiment import Drawing, Findings
from equikernel.validation.paper.scores.figures import draw_corrections, draw_scores
from equikernel.validation.paper.scores.statistics import (
    KERNEL_TEXTS,
    KERNELS,
    REFERENCE_WIDTH,
    SIGNIFICANCE,
    judge,
    kernel_row,
    kernel_summary,
)
from equikernel.validation.tables import Column, Table

__all__ = ["score_findings"]

Unit = tuple[str, Source, Outcome]

_COLUMNS = (
    Column("activation", "activation"),
    Column("sigma_a2", "σ_a²", r"$\sigma_a^2$"),
    Column("widths", "widths"),
    Column("kernel", "kernel"),
    Column("entries", "entries"),
    Column("mean_shown", "mean z ± its error"),
    Column("rms_shown", "rms z ± sd"),
    Column("largest", "max |z|", form=".2f"),
    Column("largest_bound", "bound", form=".2f"),
    Column("p_value", "p", form=".2g"),
    Column("misfit_shown", "misfit of 1/m"),
    Column("curvature_p", "p (no 1/m²)", form=".2g"),
    Column("correction_shown", f"correction at m = {REFERENCE_WIDTH} (%)"),
    Column("power_shown", "power of 1/m"),
    Column("verdict", "verdict"),
)


def score_findings(units: Sequence[Unit], config: dict[str, Any], left_out: Sequence[str] = ()) -> Findings:
    """Tables, figures and remarks.

    Args:
        units: activation, source of the first seed, outcome.
        config: parameters of the experiment.
        left_out: names of activations that jump.
    """
    done = [(name, source, o.numbers) for name, source, o in units if o.numbers is not None]
    rows = [kernel_row(name, source, numbers, kernel) for name, source, numbers in done for kernel in KERNELS]
    judge(rows, "decisive_p", "holm", "verdict", ("agrees", "FAILS"))
    judge(rows, "curvature_p", "curvature_holm", "curved", (False, True))
    sums = [kernel_summary(done, rows, kernel) for kernel in KERNELS]
    sources = list(dict.fromkeys(row["data"] for row in rows))
    tables = [_summary_table(sums, config)]
    tables += [_row_table(rows, source, k, config) for k, source in enumerate(sources)]
    variances = [
        {"activation": name, "data": source.title, "sigma_a2": numbers["sigma_a2"], **refusal}
        for name, source, numbers in done
        for refusal in [_last_refusal(numbers)]
        if refusal
    ]
    if variances:
        tables.append(_variance_table(variances))
    plain = [{k: v for k, v in row.items() if k != "seeds"} for row in rows]
    return Findings(
        record={"rows": plain, "summary": sums, "variances": variances, "left_out": list(left_out)},
        tables=tuple(tables),
        figures={
            "scores": Drawing(draw_scores, [{**s, "title": KERNEL_TEXTS[s["kernel"]]} for s in sums]),
            "corrections": Drawing(draw_corrections, _correction_data(rows, sums)),
        },
        remarks=_remarks(rows, sums, variances, left_out),
    )


def _summary_table(sums: Sequence[dict[str, Any]], config: dict[str, Any]) -> Table:
    return Table(
        name="summary",
        caption=f"All scores, kernel by kernel; seeds {', '.join(map(str, config['seeds']))}; a row of the other "
        f"tables fails when its p-value, adjusted by Holm's method for all rows, is below {SIGNIFICANCE:g}",
        columns=(
            Column("kernel_text", "kernel"),
            Column("activations", "activations"),
            Column("entries", "scores"),
            Column("mean", "mean z", form=".3f"),
            Column("mean_error", "its error", form=".3f"),
            Column("rms", "rms z", form=".3f"),
            Column("beyond3", "beyond 3 (%)", form=".2f"),
            Column("largest", "max |z|", form=".2f"),
            Column("largest_bound", "bound", form=".2f"),
            Column("smallest_holm", "smallest p (Holm)", form=".2g"),
            Column("ks_p_value", "p-values uniform: p (KS)", form=".2g"),
            Column("failures", "fail"),
            Column("correction_median", f"median correction at m = {REFERENCE_WIDTH} (%)", form=".2g"),
            Column("correction_largest", "largest", form=".2g"),
            Column("power_shown", "power of 1/m"),
            Column("curved", "curved"),
        ),
        rows=tuple(sums),
    )


def _row_table(rows: Sequence[dict[str, Any]], data: str, number: int, config: dict[str, Any]) -> Table:
    return Table(
        name=f"scores-{number + 1}",
        caption=f"z-scores of finite networks, extrapolated to infinite width, against exact kernels. Data: {data}; "
        f"{config['n']} samples, {len(config['seeds'])} seeds; σ_b² = {config['sigma_b2']}; {len(config['widths'])} "
        f"widths up to m = {config['widths'][-1]} or as shown, {config['draws']} networks there and as many times "
        "(m/width)^(3/2) at the others",
        columns=_COLUMNS,
        rows=tuple({**row, "kernel": KERNEL_TEXTS[row["kernel"]]} for row in rows if row["data"] == data),
    )


def _last_refusal(numbers: dict[str, Any]) -> dict[str, Any]:
    """The last choice that did not work, and why; nothing where the first one did."""
    if not numbers["refusals"]:
        return {}
    last = numbers["refusals"][-1]
    widths = "" if last["widths"] is None else f", widths {last['widths'][0]}–{last['widths'][-1]}"
    used = f"{numbers['widths'][0]}–{numbers['widths'][-1]}"
    return {"widths": used, "refused": f"{last['sigma_a2']:g}{widths}", "reason": last["reason"]}


def _variance_table(variances: Sequence[dict[str, Any]]) -> Table:
    return Table(
        name="variances",
        caption="Activations at a smaller σ_a² or larger widths: widths are doubled, then σ_a² is halved, until "
        "the exact kernels exist on the samples and plain iteration finds the fixed point of every network",
        columns=(
            Column("activation", "activation"),
            Column("data", "data"),
            Column("sigma_a2", "σ_a²", r"$\sigma_a^2$"),
            Column("widths", "widths"),
            Column("refused", "not at"),
            Column("reason", "why"),
        ),
        rows=tuple(variances),
    )


def _correction_data(rows: Sequence[dict[str, Any]], sums: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Corrections of every activation, powers of those that are seen clearly, and the powers of all together."""
    names = list(dict.fromkeys(row["activation"] for row in rows))
    keys = ("activation", "data", "kernel", "correction", "correction_sd", "power", "power_low", "power_high")
    return {
        "activations": names,
        "width": REFERENCE_WIDTH,
        "kernels": KERNEL_TEXTS,
        "rows": [{key: row[key] for key in keys} | {"determined": row["power_shown"] is not None} for row in rows],
        "together": {s["kernel"]: {key: s[key] for key in ("power", "power_error")} for s in sums if s["power_shown"]},
    }


def _remarks(
    rows: Sequence[dict[str, Any]],
    sums: Sequence[dict[str, Any]],
    variances: Sequence[dict[str, Any]],
    left_out: Sequence[str],
) -> tuple[str, ...]:
    failing = [row for row in rows if row["verdict"] != "agrees"]
    smallest = min(row["holm"] for row in rows)
    remarks = [
        f"{s['kernel_text']}: {s['entries']} scores of {s['activations']} activations, mean {s['mean']:.3f} ± "
        f"{s['mean_error']:.3f}, rms {s['rms']:.3f}, max |z| = {s['largest']:.2f} (at most {s['largest_bound']:.2f} "
        f"with probability 0.999); p-values of activations, data and seeds are uniform with p = {s['ks_p_value']:.2g} "
        "(Kolmogorov-Smirnov)."
        for s in sums
    ]
    if failing:
        each = "; ".join(
            f"{row['activation']} {row['kernel']} ({row['data'].split(',')[0]}), adjusted p = {row['holm']:.2g}, "
            f"rms z = {row['rms']:.2f}"
            for row in failing
        )
        remarks.append(f"FAILED, {len(failing)} of {len(rows)} kernels: {each}.")
    else:
        remarks.append(
            f"No kernel fails: the smallest of {len(rows)} p-values, adjusted by Holm's method, is {smallest:.2g}."
        )
    corrections = "; ".join(
        f"{s['kernel_text']} median {s['correction_median']:.2g} %, largest {s['correction_largest']:.2g} %, "
        + (f"falling as m^-a with a = {s['power_shown']} (95 %)" if s["power_shown"] else "its power not determined")
        for s in sums
    )
    remarks.append(f"Correction of finite width relative to the kernel at m = {REFERENCE_WIDTH}: {corrections}.")
    curved = list(dict.fromkeys(row["activation"] for row in rows if row["curved"]))
    remarks.append(
        f"A term in 1/m^2 is needed (adjusted p < {SIGNIFICANCE:g}) for {', '.join(curved)}."
        if curved
        else "No activation needs a term in 1/m^2 at these widths and this precision."
    )
    if variances:
        reduced = ", ".join(
            f"{v['activation']} ({v['data']}) sigma_a^2 = {v['sigma_a2']:g}, widths {v['widths']}" for v in variances
        )
        remarks.append(f"Not at the variance and the widths asked for, at which kernels or networks fail: {reduced}.")
    if left_out:
        remarks.append(f"Left out, since they jump and their NTK is infinite: {', '.join(left_out)}.")
    return tuple(remarks)
