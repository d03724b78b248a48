"""Sentences on the talk's two claims, with the measured numbers: random weights are best at best, GOE most stable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equikernel.validation.datasets.text import TextCorpus
from equikernel.validation.paper.language.tables import NAMES

__all__ = ["language_remarks"]

Cells = Sequence[dict[str, Any]]


def language_remarks(
    cells: Cells,
    pairs: Sequence[dict[str, Any]],
    references: dict[str, float | None],
    corpus: TextCorpus,
    config: dict[str, Any],
) -> tuple[str, ...]:
    """Scale of the experiment, the two claims, the differences that can be told from chance, failures."""
    scales = sorted({cell["scale"] for cell in cells})
    by_scale = {scale: [cell for cell in cells if cell["scale"] == scale] for scale in scales}
    usable = {scale: [c for c in group if c["values"]] for scale, group in by_scale.items()}
    usable = {scale: group for scale, group in usable.items() if len(group) > 1}
    remarks = [_scale_of_it(references, corpus, config, len(config["seeds"])), *_failures(cells)]
    unigram = references.get("unigram")
    best = min((float(cell["least"]) for group in usable.values() for cell in group), default=None)
    if best is not None and unigram is not None and best >= unigram:
        remarks.append(
            f"no model is better than the frequencies of words ({best:.4g} against {unigram:.4g}): orderings of models "
            "that have learned so little say nothing"
        )
    if usable and "iid" in config["families"]:
        remarks.append(_least(usable))
    if usable and "goe" in config["families"]:
        remarks.append(_stability(usable))
    if pairs:
        remarks.append(_differences(pairs))
    return tuple(remarks)


def _scale_of_it(references: dict[str, float | None], corpus: TextCorpus, config: dict[str, Any], seeds: int) -> str:
    shape, recipe = config["shape"], config["recipe"]
    known = ", ".join(f"{name} {value:.4g}" for name, value in references.items() if value is not None)
    tokens = recipe["steps"] * recipe["batch"] * shape["segment"]
    return (
        f"scale: {corpus.title}, {corpus.source}; d_model {shape['d_model']}, segments of {shape['segment']}, "
        f"{tokens:,} tokens of training, {seeds} seeds; perplexities without a network: {known}. The talk's numbers "
        "are for WikiText-103 and models of another size: only orderings can be compared"
    )


def _failures(cells: Cells) -> list[str]:
    runs, diverged = (sum(cell[key] for cell in cells) for key in ("runs", "diverged"))
    where = ", ".join(
        f"{NAMES[c['family']]} at √V = {c['scale']:g} {c['diverged']} of {c['runs']}" for c in cells if c["diverged"]
    )
    worst = {
        name: max(cells, key=lambda cell: cell[f"{name}_unconverged"] or 0.0)
        for name in ("forward", "backward", "test")
    }
    failing = "; ".join(
        f"{name} {100.0 * (cell[f'{name}_unconverged'] or 0.0):.2g} % ({NAMES[cell['family']]}, √V = {cell['scale']:g})"
        for name, cell in worst.items()
    )
    return [
        f"{diverged} of {runs} runs diverged" + (f": {where}" if where else ""),
        f"solves that did not converge, where they are most frequent: {failing}; what they gave was used all the same",
    ]


def _least(groups: dict[float, list[dict[str, Any]]]) -> str:
    """The talk: random weights have the lowest perplexity at best."""
    parts, hits = [], 0
    for scale, group in groups.items():
        first, second = sorted(group, key=lambda cell: float(cell["least"]))[:2]
        hits += first["family"] == "iid"
        scatter = "" if first["sd"] is None else f", sd {first['sd']:.2g}"
        parts.append(
            f"√V = {scale:g}: {NAMES[first['family']]} {first['least']:.4g}, then {NAMES[second['family']]} "
            f"{second['least']:.4g} (mean of the first {first['mean']:.4g}{scatter})"
        )
    verdict = f"random weights have the least perplexity at {hits} of {len(groups)} scales"
    return f"the talk's first claim, random lowest at best: {verdict} ({'; '.join(parts)})"


def _stability(groups: dict[float, list[dict[str, Any]]]) -> str:
    """The talk: GOE is the most stable; told by divergences first, then by the standard deviation over seeds."""
    parts, hits, clear = [], 0, 0
    for scale, group in groups.items():
        told = [cell for cell in group if cell["sd"] is not None]
        if not told:
            continue
        steadiest = min(told, key=lambda cell: (cell["diverged"], float(cell["sd"])))
        others = [cell for cell in told if cell is not steadiest]
        if steadiest["family"] == "goe":
            hits += 1
            clear += all(
                steadiest["sd_high"] < cell["sd_low"] or cell["diverged"] > steadiest["diverged"] for cell in others
            )
        parts.append(
            f"√V = {scale:g}: "
            + ", ".join(
                f"{NAMES[cell['family']]} {cell['sd']:.3g} [{cell['sd_low']:.3g}, {cell['sd_high']:.3g}]"
                for cell in told
            )
        )
    return (
        f"the talk's second claim, GOE most stable: fewest divergences and then the least sd at {hits} of {len(parts)} "
        f"scales, with a 95 % interval below the others', or with fewer divergences, at {clear} (sd over seeds; "
        f"{'; '.join(parts)})"
    )


def _differences(pairs: Sequence[dict[str, Any]]) -> str:
    told = [pair for pair in pairs if pair["low"] > 1.0 or pair["high"] < 1.0]
    if not told:
        return f"none of {len(pairs)} ratios of two families' perplexities, seed by seed, has a 95 % interval without 1"
    listed = "; ".join(
        f"{NAMES[pair['first']]} / {NAMES[pair['second']]} at √V = {pair['scale']:g}: {pair['ratio']:.3f} "
        f"[{pair['low']:.3f}, {pair['high']:.3f}]"
        for pair in told
    )
    return (
        f"ratios of perplexities whose 95 % interval is without 1, {len(told)} of {len(pairs)}, seed by seed: {listed}"
    )
