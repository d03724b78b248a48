"""What a sweep says about the talk's claim, matched quantity by matched quantity, in sentences with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equikernel.validation.paper.sweep.config import SweepConfig
from equikernel.validation.paper.sweep.tables import MATCH_NAMES, interval

__all__ = ["sweep_remarks"]

Row = dict[str, Any]


def sweep_remarks(record: dict[str, Any], config: SweepConfig, about: str) -> tuple[str, ...]:
    """Sentences for the summary.

    Args:
        record: of ``sweep_findings``.
        config: the size of the sweep.
        about: data, network and training.
    """
    asked, trained = len(record["cells"]), len(record["starts"])
    remarks = [
        (
            f"{about}. {trained} pairs (family, σ) serve {asked} combinations of match, value and family: where two "
            "matchings give the same σ, the same runs stand in both. Differences are taken seed by seed; [..] are "
            "95 % intervals; verdicts are by p-values adjusted by Holm's method within a matching."
        )
    ]
    for match in config.matches:
        pairs, pooled, sizes = (_own(record[key], match) for key in ("pairs", "pooled", "sizes"))
        remarks += _claim(match, pairs, pooled)
        remarks += [_others(match, pairs, first) for first in ("iid", "orthogonal") if _of(pairs, "goe", first)]
        if len(config.values) > 1:
            remarks.append(_larger(match, sizes))
    remarks.append(_failures(record))
    remarks += _starts(record["starts"])
    return tuple(remark for remark in remarks if remark)


def _own(rows: Sequence[Row], match: str) -> list[Row]:
    return [row for row in rows if row["match"] == match]


def _of(pairs: Sequence[Row], first: str, second: str) -> list[Row]:
    return [row for row in pairs if (row["first"], row["second"]) == (first, second)]


def _claim(match: str, pairs: Sequence[Row], pooled: Sequence[Row]) -> list[str]:
    """Orthogonal against iid."""
    own = _of(pairs, "orthogonal", "iid")
    if not own:
        return []
    better, worse = (
        {row["value"] for row in own if family in (row["loss_better"], row["accuracy_better"])}
        for family in ("orthogonal", "iid")
    )
    if better and worse:
        verdict = "in part, and the reverse elsewhere"
    elif better:
        verdict = "yes" if len(better) == len(own) else f"at {_list(better)} only"
    else:
        verdict = "no, iid does at " + _list(worse) if worse else "not shown at any value"
    return [
        f"At equal {MATCH_NAMES[match]}, do orthogonal weights outperform iid ones? {verdict[0].upper()}{verdict[1:]}. "
        + _verdicts(own)
        + " "
        + " ".join(
            _numbers(row) for row in (own if len(own) == 1 else (own[0], own[-1], *_of(pooled, "orthogonal", "iid")))
        )
    ]


def _others(match: str, pairs: Sequence[Row], second: str) -> str:
    own = _of(pairs, "goe", second)
    return f"At equal {MATCH_NAMES[match]}, GOE against {second}: {_verdicts(own)} {_numbers(own[-1])}".strip()


def _verdicts(own: Sequence[Row]) -> str:
    """Which family is better at which values, by loss and by accuracy."""
    parts = []
    for metric in ("loss", "accuracy"):
        found = {
            family: [row["value"] for row in own if row[f"{metric}_better"] == family]
            for family in (own[0]["first"], own[0]["second"])
        }
        words = [f"{family} at {_list(values)}" for family, values in found.items() if values]
        open_ = [row["value"] for row in own if row[f"{metric}_better"] is None]
        everywhere = "every value" if len(open_) == len(own) else _list(open_)
        words += [f"undecided at {everywhere}"] if open_ else []
        parts.append(f"by {metric} {', '.join(words)}")
    return f"Better {'; '.join(parts)}."


def _numbers(row: Row) -> str:
    if row["loss_difference"] is None:
        return ""
    accuracy = interval(row, "accuracy", 100.0, ".2f")
    where = "On average over the values" if row["value"] == "all" else f"At {row['value']:g}"
    return (
        f"{where} {row['first']} minus {row['second']} is {interval(row, 'loss')} in loss and "
        f"{accuracy} points in accuracy ({row['loss_pairs']} pairs)."
    )


def _larger(match: str, sizes: Sequence[Row]) -> str:
    """Are larger initial weights usable, and better?"""
    parts = []
    for row in sizes:
        if row["best"] is None:
            parts.append(f"{row['family']} diverged at every value")
            continue
        words = f"{row['family']} is best at {row['best']:g} and not clearly worse up to {row['usable']:g}"
        if row["loss_difference"] is not None:
            words += f", its loss at the largest value minus that at the smallest is {interval(row, 'loss')}"
        if row["family"] != "iid" and row.get("best_loss_difference") is not None:
            shown = interval({**row, "best_loss_mean": None}, "best_loss")
            words += f", its best loss minus that of iid {shown}"
        parts.append(words)
    question = f"At equal {MATCH_NAMES[match]}, do larger orthogonal weights serve better?"
    return f"{question} {_verdict_on_size(sizes)} {'; '.join(parts)}."


def _verdict_on_size(sizes: Sequence[Row]) -> str:
    own = {row["family"]: row for row in sizes if row["usable"] is not None}
    if "orthogonal" not in own or own["orthogonal"]["loss_half"] is None:
        return "Not measured:"
    difference, half = (own["orthogonal"][f"loss_{key}"] for key in ("difference", "half"))
    words = "Not shown" if abs(difference) <= half else "Yes" if difference < 0 else "No, the reverse"
    if "iid" in own:
        mine, other = own["orthogonal"]["usable"], own["iid"]["usable"]
        words += (
            f"; a loss above their best is not shown up to {mine:g}, for iid ones up to {other:g} (where seeds spread "
            "widely, little can be shown)"
        )
    return words + ":"


def _failures(record: dict[str, Any]) -> str:
    runs = record["runs"]
    diverged = [run for run in runs if run["diverged"] is not None]
    worst = max((r for r in record["cells"] if r["forward_unconverged_samples"] is not None), default=None,
                key=lambda row: row["forward_unconverged_samples"])  # fmt: skip
    words = f"{len(diverged)} of {len(runs)} runs diverged"
    if diverged:
        kinds = dict.fromkeys(f"{run['family']} σ = {run['sigma']:g}" for run in diverged)
        words += f" ({', '.join(kinds)}): they are left out of the means and shown apart"
    if worst is not None:
        words += (
            f"; most samples went unconverged for {worst['family']} at σ = {worst['sigma']:g}, "
            f"{100 * worst['forward_unconverged_samples']:.0f} % forward"
        )
    return words + ". States and adjoints that had not converged were used as they were."


def _starts(starts: Sequence[Row]) -> list[str]:
    remarks = []
    known = [row for row in starts if row["deviation_mean"] is not None and row["predicted_stable"]]
    solved = [row for row in known if row["start_unconverged"] == 0]
    if solved:
        worst = max(solved, key=lambda row: abs(row["deviation_mean"]))
        apart = sum(abs(row["deviation_mean"]) > row["deviation_half"] for row in solved)
        remarks.append(
            f"Before training |z|²/N is within {100 * abs(worst['deviation_mean']):.1f} % of mean-field theory in the "
            f"{len(solved)} of {len(starts)} cells that are predicted stable and whose solves all converged (worst: "
            f"{worst['family']}, σ = {worst['sigma']:g}, {worst['deviation_shown']} %); {apart} of them have "
            "a 95 % interval without 0: theory is of leading order in 1/N."
        )
    ends = [row for row in starts if row["family"] == "goe" and row["end_asymmetry_mean"] is not None]
    if ends:
        shown = ", ".join(f"{row['end_asymmetry_shown']} (σ = {row['sigma']:g})" for row in ends)
        remarks.append(
            f"GOE weights do not stay symmetric: the asymmetry |W − Wᵀ|/(2|W|), 0 at the start, ends at {shown}; that "
            "of iid weights is 0.71."
        )
    return remarks


def _list(values: Sequence[float] | set[float]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(values))
