"""The tables of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equikernel.validation.paper.sweep.statistics import METRICS
from equikernel.validation.tables import Column, Table

__all__ = ["MATCH_NAMES", "interval", "sweep_tables"]

MATCH_NAMES = {"variance": "standard deviation σ", "radius": "spectral radius", "operator_norm": "operator norm"}
_WHERE = (
    Column("match_shown", "matched by"),
    Column("value", "value", form="g"),
    Column("family", "family"),
    Column("sigma", "σ", form="g"),
)


def interval(row: dict[str, Any], name: str, scale: float = 1.0, form: str = ".3g") -> str | None:
    """A mean with its 95 % interval, from the keys name_difference or name_mean, and name_half; None if unknown."""
    middle = row.get(f"{name}_difference", row.get(f"{name}_mean"))
    half = row.get(f"{name}_half")
    if middle is None:
        return None
    if half is None:
        return format(scale * middle, form)
    low, high = scale * (middle - half), scale * (middle + half)
    return f"{scale * middle:{form}} [{low:{form}}, {high:{form}}]"


def sweep_tables(record: dict[str, Any], about: str) -> tuple[Table, ...]:
    """All tables.

    Args:
        record: of ``sweep_findings``.
        about: data, network and training, for the captions.
    """
    rows = [_shown(row) for row in record["cells"]]
    pairs = [_shown_pair(row) for row in [*record["pairs"], *record["pooled"]]]
    sizes = [_shown_size(row) for row in record["sizes"]]
    return (
        _score_table("loss", rows, about),
        _score_table("accuracy", rows, about),
        _solve_table(rows, about),
        _pair_table(pairs, about),
        _size_table(sizes, about),
        _start_table(record["starts"], about),
    )


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "match_shown": MATCH_NAMES[row["match"]]}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    shown = _named(row)
    shown["runs_shown"] = f"{row['runs']} of {row['asked']}"
    shown["loss_shown"] = interval(row, "loss")
    for name in ("accuracy", "accuracy_with_chance"):
        shown[f"{name}_shown"] = interval(row, name, 100.0, ".2f")
        for key in ("min", "sd", "max"):
            value = row[f"{name}_{key}"]
            shown[f"{name}_{key}_percent"] = None if value is None else 100 * value
    return shown


def _score_table(metric: str, rows: Sequence[dict[str, Any]], about: str) -> Table:
    unit, suffix, form = ("", "", ".3g") if metric == "loss" else (" (%)", "_percent", ".2f")
    columns = [
        *_WHERE,
        Column("runs_shown", "runs"),
        Column("diverged", "diverged"),
        Column(f"{metric}_min{suffix}", f"least{unit}", form=form),
        Column(f"{metric}_shown", f"mean{unit} [95 %]"),
        Column(f"{metric}_sd{suffix}", f"sd{unit}", form=form),
        Column(f"{metric}_max{suffix}", f"largest{unit}", form=form),
    ]
    words = "Runs that diverged are not in these numbers"
    if metric == "accuracy":
        columns.append(Column("accuracy_with_chance_shown", "mean (%), diverged at chance"))
        words += ", but for the last column, where they count with the accuracy of chance"
    return Table(f"init_sweep_{metric}", f"Test {metric} after training. {words}. {about}", tuple(columns), tuple(rows))


def _solve_table(rows: Sequence[dict[str, Any]], about: str) -> Table:
    columns = list(_WHERE)
    for direction in ("forward", "backward"):
        columns += [
            Column(f"{direction}_unconverged_samples", f"{direction}: samples unconverged", form=".3g"),
            Column(f"{direction}_unconverged_solves", f"{direction}: solves unconverged", form=".3g"),
            Column(f"{direction}_iterations", f"{direction}: iterations", form=".1f"),
        ]
    columns += [
        Column("start_unconverged", "before training: samples unconverged", form=".3g"),
        Column("test_unconverged", "after it, test: samples unconverged", form=".3g"),
    ]
    caption = (
        "Fractions that did not converge and mean evaluations of a sample, over all steps of training and all runs; a "
        f"solve is that of one batch, unconverged if one of its samples is. {about}"
    )
    return Table("init_sweep_solves", caption, tuple(columns), tuple(rows))


def _shown_pair(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **_named(row),
        "families": f"{row['first']} − {row['second']}",
        "loss_shown": interval(row, "loss"),
        "accuracy_shown": interval(row, "accuracy", 100.0, ".2f"),
        "accuracy_with_chance_shown": interval(row, "accuracy_with_chance", 100.0, ".2f"),
        **{f"{m}_seeds": f"{row[f'{m}_positive'] or 0} of {row[f'{m}_pairs']}" for m in METRICS},
        **{f"{m}_verdict": row[f"{m}_better"] and f"{row[f'{m}_better']} better" for m in METRICS},
    }


def _pair_table(rows: Sequence[dict[str, Any]], about: str) -> Table:
    columns = [Column("match_shown", "matched by"), Column("value", "value", form="g"), Column("families", "families")]
    for metric, unit in (("loss", ""), ("accuracy", " (%)")):
        columns += [
            Column(f"{metric}_shown", f"{metric}{unit} [95 %]"),
            Column(f"{metric}_seeds", "seeds above 0"),
            Column(f"{metric}_holm", "p (Holm)", form=".2g"),
            Column(f"{metric}_verdict", "verdict"),
        ]
    columns.append(Column("accuracy_with_chance_shown", "accuracy (%), diverged at chance"))
    caption = (
        "Differences between families of equal matched quantity, seed by seed: mean, Student's 95 % interval, p-value "
        "adjusted for all comparisons of one matched quantity. Value all: means over all values, adjusted among "
        f"themselves. {about}"
    )
    return Table("init_sweep_pairs", caption, tuple(columns), tuple(rows))


def _shown_size(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **_named(row),
        "loss_shown": interval(row, "loss"),
        "accuracy_shown": interval(row, "accuracy", 100.0, ".2f"),
        "against_iid": None if row["family"] == "iid" else interval({**row, "best_loss_mean": None}, "best_loss"),
    }


def _size_table(rows: Sequence[dict[str, Any]], about: str) -> Table:
    columns = (
        Column("match_shown", "matched by"),
        Column("family", "family"),
        Column("best", "best value", form="g"),
        Column("best_loss_mean", "loss there", form=".3g"),
        Column("usable", "largest value not clearly worse", form="g"),
        Column("loss_shown", "loss, largest − smallest value [95 %]"),
        Column("accuracy_shown", "accuracy (%), the same"),
        Column("against_iid", "loss − that of iid, each at its best [95 %]"),
    )
    caption = (
        "What larger initial weights do. The best value is that of least mean test loss, chosen on the test samples "
        f"themselves; intervals are not adjusted. {about}"
    )
    return Table("init_sweep_sizes", caption, columns, tuple(rows))


def _start_table(rows: Sequence[dict[str, Any]], about: str) -> Table:
    columns = (
        Column("family", "family"),
        Column("sigma", "σ", form="g"),
        Column("start_unconverged", "unconverged", form=".3g"),
        Column("start_length_shown", "|z|²/N"),
        Column("predicted_length_mean", "mean field", form=".4g"),
        Column("predicted_length_mixed_mean", "over |Ux|²", form=".4g"),
        Column("deviation_shown", "deviation (%) [95 %]"),
        Column("start_jacobian_radius_shown", "radius of J"),
        Column("predicted_radius_mean", "mean field", form=".4g"),
        Column("stable_shown", "predicted"),
        Column("start_asymmetry_shown", "asymmetry, start"),
        Column("end_asymmetry_shown", "asymmetry, end"),
        Column("end_radius_shown", "radius of W, end"),
        Column("end_moved_shown", "change of W, relative"),
    )
    caption = (
        "Before training: mean |z|²/N and spectral radius of J, mean ± sd over seeds, beside mean-field theory for the "
        "mean of |Ux|², and for |z|²/N averaged over |Ux|²; the deviation from the latter is network by network. After "
        f"it: asymmetry (norm of the antisymmetric part of W over that of W), and how far W moved. {about}"
    )
    return Table("init_sweep_start", caption, columns, tuple(rows))
