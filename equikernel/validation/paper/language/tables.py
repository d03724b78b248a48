"""Tables of the experiment ``language``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equikernel.validation.datasets.text import TextCorpus
from equikernel.validation.tables import Column, Table

__all__ = ["NAMES", "detail_table", "pair_table", "reference_table", "talk_table"]

NAMES = {"goe": "GOE", "orthogonal": "orthogonal", "iid": "random"}


def talk_table(cells: Sequence[dict[str, Any]], families: Sequence[str], scales: Sequence[float], data: str) -> Table:
    """As the talk has it: a row for each scale, least and mean test perplexity of each family.

    The mean is over the runs that did not diverge; beside it stands that over all of them, if any did.
    """
    known = {(cell["family"], cell["scale"]): cell for cell in cells}
    diverged = any(cell["diverged"] for cell in cells)
    columns = [Column("scale", "√V", r"$\sqrt{V}$", form="g")]
    for family in families:
        keys = [("least", "min"), ("mean", "ave")] + ([("mean_all", "ave with diverged")] if diverged else [])
        columns += [Column(f"{family}_{key}", f"{NAMES[family]} {text}", form=".4g") for key, text in keys]
    rows = tuple(
        {"scale": scale}
        | {f"{f}_{key}": known[f, scale][key] for f in families for key in ("least", "mean", "mean_all")}
        for scale in scales
    )
    note = "; a run that diverged counts as guessing in 'ave with diverged', not in 'ave'" if diverged else ""
    return Table("talk", f"Test perplexity over seeds, least and mean: {data}{note}", tuple(columns), rows)


def detail_table(cells: Sequence[dict[str, Any]], data: str) -> Table:
    """Every family and scale: spread with its interval, divergences, iterations and solves that failed."""
    rows = tuple(
        cell
        | {
            "name": NAMES[cell["family"]],
            "interval": None if cell["sd"] is None else f"{cell['sd_low']:.3g} to {cell['sd_high']:.3g}",
            **{
                f"{name}_percent": None if cell[f"{name}_unconverged"] is None else 100.0 * cell[f"{name}_unconverged"]
                for name in ("forward", "backward", "test")
            },
        }
        for cell in cells
    )
    columns = (
        Column("scale", "√V", r"$\sqrt{V}$", form="g"),
        Column("name", "weights"),
        Column("runs", "runs"),
        Column("diverged", "diverged"),
        Column("least", "least", form=".4g"),
        Column("mean", "mean", form=".4g"),
        Column("largest", "largest", form=".4g"),
        Column("sd", "sd", form=".3g"),
        Column("interval", "95 % interval of sd"),
        Column("forward_iterations", "iterations, forward", form=".3g"),
        Column("backward_iterations", "backward", form=".3g"),
        Column("forward_percent", "unconverged (%), forward", form=".2g"),
        Column("backward_percent", "backward", form=".2g"),
        Column("test_percent", "test", form=".2g"),
    )
    return Table("details", f"Test perplexity and solves: {data}", columns, rows)


def pair_table(pairs: Sequence[dict[str, Any]], data: str) -> Table:
    """Families against each other, seed by seed."""
    rows = tuple(
        pair
        | {
            "compared": f"{NAMES[pair['first']]} / {NAMES[pair['second']]}",
            "interval": f"{pair['low']:.4g} to {pair['high']:.4g}",
        }
        for pair in pairs
    )
    columns = (
        Column("scale", "√V", r"$\sqrt{V}$", form="g"),
        Column("compared", "weights"),
        Column("pairs", "seeds"),
        Column("ratio", "ratio of perplexities", form=".4g"),
        Column("interval", "95 % interval"),
    )
    return Table("pairs", f"Perplexities of two families, seed by seed (geometric mean): {data}", columns, rows)


def reference_table(references: dict[str, float | None], corpus: TextCorpus) -> Table:
    """Perplexities of models without a network."""
    rows = tuple({"model": name, "perplexity": value} for name, value in references.items() if value is not None)
    columns = (Column("model", "model"), Column("perplexity", "test perplexity", form=".4g"))
    return Table("references", f"What to read perplexities against: {corpus.title}", columns, rows)
