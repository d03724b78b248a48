"""What the runs of the experiment ``dynamics`` show together: tables, figures, sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from equikernel.validation.paper.experiment import Drawing, Findings
from equikernel.validation.paper.lazy.figures import draw_deviations, draw_losses
from equikernel.validation.paper.lazy.tables import (
    NAMES,
    Law,
    Pick,
    data_of,
    distinct,
    grouped,
    laws,
    quoted,
    record_of,
    slope_table,
    spread_of,
)
from equikernel.validation.tables import Column, Table

__all__ = ["dynamics_findings"]

Run = dict[str, Any]


def _deviation(prediction: str, part: str) -> Pick:
    return lambda run: float(run["deviations"][prediction][part])


def _plain(key: str) -> Pick:
    return lambda run: float(run[key])


_QUANTITIES: dict[str, Pick] = {
    "limit_train": _deviation("limit", "train"),
    "limit_test": _deviation("limit", "test"),
    "initial_train": _deviation("initial", "train"),
    "initial_test": _deviation("initial", "test"),
    "deq_train": _deviation("deq", "train"),
    "flow_train": _deviation("flow", "train"),
    "kernel_effect": _plain("kernel_effect"),
    "fluctuation": _plain("fluctuation"),
    "movement": _plain("movement"),
    "smallest": lambda run: float(run["smallest"]["initial"]) / float(run["smallest"]["limit"]),
    "accuracy": lambda run: float(run["accuracy"]["network"]),
    "accuracy_limit": lambda run: float(run["accuracy"]["limit"]),
}
_HEADINGS = {
    "limit_train": "exact kernel",
    "limit_test": "exact kernel, test",
    "initial_train": "own kernel",
    "initial_test": "own kernel, test",
    "deq_train": "the DEQ's exact kernel",
    "flow_train": "exact kernel, exp(-eta K t)",
    "kernel_effect": "between the first two predictions",
    "fluctuation": "‖K_0 − K‖/‖K‖",
    "movement": "‖K_T − K_0‖/‖K_0‖",
    "smallest": "λ_min(K_0)/λ_min(K)",
    "accuracy": "test accuracy",
    "accuracy_limit": "predicted",
}
# The quantity, in words, and the exponent of the width that theory gives it.
_LAWS: dict[str, tuple[str, float]] = {
    "limit_train": ("deviation from the exact kernel's prediction", -0.5),
    "limit_test": ("the same on test samples", -0.5),
    "initial_train": ("deviation from the own kernel's prediction", -1.0),
    "initial_test": ("the same on test samples, own kernel", -1.0),
    "fluctuation": ("‖K_0 − K‖/‖K‖ of the kernel at initialisation", -0.5),
    "movement": ("movement of the kernel in training, ‖K_T − K_0‖/‖K_0‖,", -1.0),
}


def dynamics_findings(runs: Sequence[Run], trained: str, missing: tuple[str, ...] = ()) -> Findings:
    """Tables of deviations and of their powers of the width, figures, and sentences.

    Args:
        runs: numbers of ``DynamicsUnit`` with data, preparation, train, network, width and seed.
        trained: which parameters of the DEQ.
        missing: sentences on networks that there are not.
    """
    found = [law for key, (words, theory) in _LAWS.items() for law in _both_ranges(runs, key, words, theory)]
    rows = tuple(
        {**keys, "name": NAMES[keys["network"]], **record_of(members, _QUANTITIES)}
        for keys, members in grouped(runs, "data", "network", "width")
    )
    return Findings(
        {"runs": list(runs), "rows": list(rows), "slopes": [law.to_dict() for law in found]},
        (_deviation_table(runs, rows, trained), slope_table(found, {"data": "data", "network": "network"}, "")),
        {
            "losses": Drawing(draw_losses, _loss_data(runs)),
            "deviations": Drawing(draw_deviations, _deviation_data(runs, found)),
        },
        (*missing, *_remarks(runs, found, trained)),
    )


def _both_ranges(runs: Sequence[Run], key: str, words: str, theory: float) -> Iterator[Law]:
    """Over all widths, and over those of twice the training samples and more, where the asymptotics may have begun."""
    yield from laws(runs, ("data", "network"), words, _QUANTITIES[key], theory)
    for data, members in grouped(runs, "data", "train"):
        wide = laws(members, ("data", "network"), words, _QUANTITIES[key], theory, 2 * data["train"])
        narrowest = min(run["width"] for run in members)
        yield from (law for law in wide if law.widths[0] > narrowest)


def _deviation_table(runs: Sequence[Run], rows: tuple[Run, ...], trained: str) -> Table:
    return Table(
        "deviations",
        "Largest deviation over time of the outputs of trained networks from predictions, relative to the first "
        f"residual; mean ± sd over seeds of the weights; DEQ trained {trained}. Data: {data_of(runs)}",
        (
            Column("data", "data"),
            Column("name", "network"),
            Column("width", "width"),
            *(Column(key, heading) for key, heading in _HEADINGS.items()),
        ),
        rows,
    )


# -- figures -----------------------------------------------------------------------------------------------------------


def _loss_data(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Curves of the narrowest and the widest networks, means over seeds."""
    ends = {min(distinct(runs, "width")), max(distinct(runs, "width"))}
    return [
        {
            **keys,
            "measured": _mean([run["loss"] for run in members]),
            "limit": _mean([run["predicted"]["limit"] for run in members]),
            "initial": _mean([run["predicted"]["initial"] for run in members]),
        }
        for keys, members in grouped([run for run in runs if run["width"] in ends], "data", "width", "network")
    ]


def _mean(curves: Sequence[Sequence[float]]) -> list[float]:
    return [float(x) for x in np.mean(curves, axis=0)]


def _deviation_data(runs: Sequence[Run], found: Sequence[Law]) -> list[dict[str, Any]]:
    shown = {_LAWS[key][0]: key for key in ("limit_train", "initial_train")}
    return [
        {
            **keys,
            "kind": key,
            "widths": [run["width"] for run in members],
            "values": [_QUANTITIES[key](run) for run in members],
            "law": next(
                (law.to_dict() for law in found if law.keys == keys and law.quantity == words),
                None,
            ),
        }
        for words, key in shown.items()
        for keys, members in grouped(runs, "data", "network")
    ]


# -- sentences ---------------------------------------------------------------------------------------------------------


def _remarks(runs: Sequence[Run], found: Sequence[Law], trained: str) -> Iterator[str]:
    least = min(distinct(runs, "width"))
    for data in distinct(runs, "data"):
        source = data.partition(",")[0]
        for key in ("limit_train", "initial_train", "movement"):
            words, theory = _LAWS[key]
            mine = [law for law in found if law.keys["data"] == data and law.quantity == words]
            listed = "; ".join(f"{NAMES[law.keys['network']]} {quoted(law)}" for law in mine if law.widths[0] == least)
            missed = [law for law in mine if law.theory is not None and not law.fit.low <= law.theory <= law.fit.high]
            outside = "; ".join(
                f"{NAMES[law.keys['network']]}, widths {law.widths[0]} to {law.widths[-1]}: {law.verdict}"
                for law in missed
            )
            if mine:
                yield f"{source}: the {words} should fall as width^{theory:g}; exponents: {listed}." + (
                    f" Where the intervals leave it out: {outside}." if outside else ""
                )
        yield from _too_steep([run for run in runs if run["data"] == data], source)
        yield from _ends([run for run in runs if run["data"] == data], source)
    if trained == "aAB":
        yield "No equivalent of the NTK with B trained is designed: the equivalent is that of the DEQ trained aA."


def _too_steep(runs: Sequence[Run], source: str) -> Iterator[str]:
    """Networks whose own kernel makes the step unstable: their own kernel's prediction grows without end."""
    found = [run for run in runs if run["rate"] * run["largest"]["initial"] > 2.0]
    if found:
        places = ", ".join(f"{NAMES[run['network']]} of width {run['width']} with seed {run['seed']}" for run in found)
        yield (
            f"{source}: the step exceeds 2/(largest eigenvalue) of the network's own kernel for {places}, so that the "
            "prediction by it diverges; the exponents of the deviation from it contain that."
        )


def _ends(runs: Sequence[Run], source: str) -> Iterator[str]:
    """The widest networks, and how the smallest eigenvalue approaches its limit from the narrowest on."""
    ends = [min(distinct(runs, "width")), max(distinct(runs, "width"))]
    narrow, wide = ([run for run in runs if run["width"] == width] for width in ends)
    for keys, members in grouped(wide, "network"):
        own, by_deq, flow, effect, test = (
            spread_of(members, _QUANTITIES[key]).shown()
            for key in ("limit_train", "deq_train", "flow_train", "kernel_effect", "limit_test")
        )
        yield (
            f"{source}, {NAMES[keys['network']]}, width {ends[1]}: deviation {own} from its exact kernel's prediction "
            f"({test} on test samples), to which the fluctuation of the initial kernel alone contributes {effect}; "
            f"{flow} from exp(-eta K t)"
            + ("." if keys["network"] == "deq" else f"; {by_deq} from the prediction by the DEQ's exact kernel.")
        )
    ratios = ", ".join(
        f"{NAMES[keys['network']]} {spread_of(members, _QUANTITIES['smallest']).mean:.2g}"
        for part in (narrow, wide)
        for keys, members in grouped(part, "network")
    )
    yield (
        f"{source}: smallest eigenvalue of the networks' own kernels relative to that of the exact one, at width "
        f"{ends[0]} and then at {ends[1]}: {ratios}. Where it is far from 1 the exponents are not yet those of wide "
        "networks."
    )
