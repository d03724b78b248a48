"""What the runs show: the talk's table, spreads and intervals, paired differences, and the talk's two claims."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from equikernel.validation.datasets.text import TextCorpus
from equikernel.validation.paper.experiment import Drawing, Findings, spread
from equikernel.validation.paper.language.figures import draw_perplexities
from equikernel.validation.paper.language.remarks import language_remarks
from equikernel.validation.paper.language.tables import detail_table, pair_table, reference_table, talk_table

__all__ = ["Run", "cells_of", "language_findings", "pairs_of"]

_TAIL = 0.025


@dataclass(frozen=True)
class Run:
    """One trained model: the numbers are those of its unit."""

    family: str
    scale: float
    seed: int
    numbers: dict[str, Any]

    @property
    def perplexity(self) -> float | None:
        """On the test part at the end of training; None if training diverged."""
        test = self.numbers["test"]
        found: float | None = None if self.numbers["diverged"] is not None or test is None else test["perplexity"]
        return found


def language_findings(
    runs: Sequence[Run], corpus: TextCorpus, references: dict[str, float | None], config: dict[str, Any]
) -> Findings:
    """Tables, figure and remarks.

    Args:
        runs: of all families, scales and seeds that gave numbers.
        corpus: what they were trained on.
        references: perplexities of models without a network.
        config: the experiment's ``to_dict``.
    """
    families = [family for family in config["families"] if any(run.family == family for run in runs)]
    scales = sorted({run.scale for run in runs})
    guess = float(len(corpus.vocabulary))
    cells = [cells_of(runs, family, scale, guess) for scale in scales for family in families]
    pairs = pairs_of(runs, families, scales)
    caption = f"{corpus.title}, d = {config['shape']['d_model']}, {config['recipe']['steps']} steps"
    record = {
        "data": {
            "title": corpus.title,
            "source": corpus.source,
            "preprocessing": corpus.preprocessing,
            "sha256": corpus.sha256,
            "words": len(corpus.vocabulary),
        },
        "references": references,
        "cells": cells,
        "pairs": pairs,
        "runs": [
            {"family": run.family, "scale": run.scale, "seed": run.seed, "perplexity": run.perplexity, **run.numbers}
            for run in runs
        ],
    }
    tables = (
        talk_table(cells, families, scales, caption),
        detail_table(cells, caption),
        pair_table(pairs, caption),
        reference_table(references, corpus),
    )
    figure = {
        "families": families,
        "scales": scales,
        "points": [
            {
                "family": run.family,
                "scale": run.scale,
                "perplexity": run.perplexity,
                "iterations": run.numbers["forward"]["iterations"],
                "unconverged": run.numbers["forward"]["unconverged_samples"],
            }
            for run in runs
        ],
        "references": references,
        "title": corpus.title,
    }
    return Findings(
        record,
        tuple(table for table in tables if table.rows),
        {"perplexities": Drawing(draw_perplexities, figure)},
        language_remarks(cells, pairs, references, corpus, config),
    )


def cells_of(runs: Sequence[Run], family: str, scale: float, guess: float) -> dict[str, Any]:
    """What the seeds of one family and scale show.

    The mean is over the runs that did not diverge; "mean_all" counts those that did with the perplexity of guessing.
    The standard deviation is over those that did not, with the 95 % interval of normal samples, sd
    sqrt((n - 1)/chi^2_(n-1)).

    Args:
        runs: all of them.
        family: of the cell.
        scale: of the cell.
        guess: the size of the vocabulary, which is the perplexity of guessing.
    """
    from scipy.special import chdtri

    mine = [run for run in runs if (run.family, run.scale) == (family, scale)]
    values = [run.perplexity for run in mine if run.perplexity is not None]
    of_all = [guess if run.perplexity is None else run.perplexity for run in mine]
    cell: dict[str, Any] = {
        "family": family,
        "scale": scale,
        "runs": len(mine),
        "diverged": len(mine) - len(values),
        "values": values,
        "mean_all": statistics.fmean(of_all) if of_all else None,
        **dict.fromkeys(("least", "largest", "mean", "sd", "sd_low", "sd_high")),
        **{f"{name}_{key}": None for name in ("forward", "backward", "test") for key in ("iterations", "unconverged")},
    }
    if values:
        found, freedom = spread(values), len(values) - 1
        cell |= {"least": min(values), "largest": max(values), "mean": found.mean, "sd": found.sd}
        if found.sd is not None:
            low, high = (math.sqrt(freedom / float(chdtri(freedom, tail))) for tail in (_TAIL, 1.0 - _TAIL))
            cell |= {"sd_low": low * found.sd, "sd_high": high * found.sd}
    for name in ("forward", "backward", "test"):
        solves = [
            run.numbers["test"]["solves"] if name == "test" else run.numbers[name] for run in mine if _has(run, name)
        ]
        if solves:
            cell[f"{name}_iterations"] = statistics.fmean(solve["iterations"] for solve in solves)
            cell[f"{name}_unconverged"] = statistics.fmean(solve["unconverged_samples"] for solve in solves)
    return cell


def _has(run: Run, name: str) -> bool:
    return run.numbers[name] is not None


def pairs_of(runs: Sequence[Run], families: Sequence[str], scales: Sequence[float]) -> list[dict[str, Any]]:
    """Ratios of perplexities of two families, seed by seed, with Student's 95 % interval of the mean logarithm.

    Seeds of which one of the two diverged are left out; fewer than two pairs give no interval.
    """
    from scipy.special import stdtrit

    known = {(run.family, run.scale, run.seed): run.perplexity for run in runs}
    seeds = sorted({run.seed for run in runs})
    rows = []
    for scale in scales:
        for first, second in ((a, b) for k, a in enumerate(families) for b in families[k + 1 :]):
            both = [(known.get((first, scale, seed)), known.get((second, scale, seed))) for seed in seeds]
            logs = [math.log(a / b) for a, b in both if a is not None and b is not None]
            if len(logs) < 2:
                continue
            found = spread(logs)
            half = float(stdtrit(len(logs) - 1, 1.0 - _TAIL)) * (found.sd or 0.0) / math.sqrt(len(logs))
            rows.append(
                {
                    "scale": scale,
                    "first": first,
                    "second": second,
                    "pairs": len(logs),
                    "ratio": math.exp(found.mean),
                    "low": math.exp(found.mean - half),
                    "high": math.exp(found.mean + half),
                }
            )
    return rows
