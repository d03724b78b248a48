"""What the runs of the experiment ``ridge`` show together: tables, figures, sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from equikernel.validation.paper.experiment import Drawing, Findings
from equikernel.validation.paper.lazy.figures import draw_errors
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

__all__ = ["WAYS", "ridge_findings"]

Run = dict[str, Any]

WAYS = {"readout": "readout alone", "initial": "towards initial weights", "zero": "plain decay"}
_CAPTIONS = {
    "readout": "Readout alone trained with λ/2 ‖a‖²: networks against ridge regression with the exact CK",
    "initial": "All trained with λ/2 ‖θ − θ_0‖²: networks against f_0 + K (K + λ)^-1 (y − f_0)",
    "zero": "All trained with plain weight decay, λ/2 ‖θ‖²: networks against three predictions",
}
_PREDICTIONS = {
    "readout": ("limit", "deq"),
    "initial": ("limit", "own", "deq"),
    "zero": ("limit", "linearised", "forgotten"),
}
_PREDICTION_NAMES = {
    "limit": "exact kernel",
    "deq": "DEQ's exact kernel",
    "own": "own kernel",
    "linearised": "linearised at θ_0",
    "forgotten": "CK without hidden weights",
}
_UNFINISHED = 0.01  # of labels ±1
# Exponent of the width that theory gives the difference; for plain decay towards the others there is none.
_LAWS = {("readout", "limit"): -0.5, ("initial", "limit"): -0.5, ("initial", "own"): -1.0, ("zero", "forgotten"): -1.0}
# Of the figure's lines: which prediction, its style, its place among the colours.
_LINES = {
    "readout": (("limit", "-", 6),),
    "initial": (("limit", "-", 6), ("own", "--", 2)),
    "zero": (("limit", "-", 6), ("linearised", ":", 3), ("forgotten", "-.", 5)),
}


def ridge_findings(runs: Sequence[Run], trained: str, missing: tuple[str, ...] = ()) -> Findings:
    """Tables of test errors and differences and of their powers of the width, a figure for each data set, sentences.

    Args:
        runs: of ``ReadoutUnit`` and ``PenaltyUnit``, with data, preparation, network, width and seed.
        trained: which parameters of the DEQ.
        missing: sentences on networks that there are not.
    """
    found = [
        law
        for (way, prediction), theory in _LAWS.items()
        for law in _laws([run for run in runs if run["way"] == way], way, prediction, theory)
    ]
    tables = [_way_table([run for run in runs if run["way"] == way], way, trained) for way in distinct(runs, "way")]
    figures = {
        f"errors_{k}": Drawing(draw_errors, _error_data([run for run in runs if run["data"] == data]))
        for k, data in enumerate(distinct(runs, "data"), start=1)
    }
    record = {
        "runs": list(runs),
        "rows": {table.name: list(table.rows) for table in tables},
        "slopes": [law.to_dict() for law in found],
    }
    return Findings(
        record,
        (*tables, slope_table(found, {"data": "data", "network": "network", "fraction": "λ"}, " of the differences")),
        figures,
        (*missing, *_remarks(runs, found)),
    )


def _difference(prediction: str) -> Pick:
    return lambda run: float(run["predictions"][prediction]["difference"])


def _score(key: str, prediction: str | None = None) -> Pick:
    return lambda run: float(run[key] if prediction is None else run["predictions"][prediction][key])


def _laws(runs: Sequence[Run], way: str, prediction: str, theory: float) -> Iterator[Law]:
    quantity = f"{WAYS[way]}: difference from the {_PREDICTION_NAMES[prediction]}"
    if (way, prediction) == ("zero", "forgotten"):  # explicit networks have nothing left to compare
        runs = [run for run in runs if run["network"] == "deq"]
    yield from laws(runs, ("data", "network", "way", "fraction"), quantity, _difference(prediction), theory)


# -- tables ------------------------------------------------------------------------------------------------------------


def _way_table(runs: Sequence[Run], way: str, trained: str) -> Table:
    predictions = _PREDICTIONS[way]
    picks: dict[str, Pick] = {"mse": _score("mse"), "accuracy": _score("accuracy")}
    headings = {"mse": "test mse", "accuracy": "test accuracy"}
    for prediction in predictions:
        if prediction != "deq":
            picks[f"mse_{prediction}"] = _score("mse", prediction)
            headings[f"mse_{prediction}"] = f"mse by {_PREDICTION_NAMES[prediction]}"
        picks[f"difference_{prediction}"] = _difference(prediction)
        headings[f"difference_{prediction}"] = f"difference from {_PREDICTION_NAMES[prediction]}"
    if way == "zero":
        picks["kept"] = lambda run: float(run["kept"])
        headings["kept"] = "‖hidden weights‖, after/before"
    if way != "readout":
        picks["change"] = lambda run: float(run["change"])
        headings["change"] = "last step's change"
    rows = tuple(
        {**keys, "name": NAMES[keys["network"]], **record_of(members, picks)}
        for keys, members in grouped(runs, "data", "network", "fraction", "width")
    )
    return Table(
        f"ridge_{way}",
        f"{_CAPTIONS[way]}. Differences are root mean squares over the test samples (labels ±1); mean ± sd over "
        f"seeds of the weights; λ in units of the largest eigenvalue of the exact kernel; DEQ trained "
        f"{'a' if way == 'readout' else trained}. Data: {data_of(runs)}",
        (
            Column("data", "data"),
            Column("name", "network"),
            Column("fraction", "λ"),
            Column("width", "width"),
            *(Column(key, heading) for key, heading in headings.items()),
        ),
        rows,
    )


# -- figures -----------------------------------------------------------------------------------------------------------


def _error_data(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Test errors over the penalty: the narrowest and the widest networks, and predictions for the widest."""
    curves = []
    for keys, members in grouped(runs, "way", "network"):
        ends = sorted({min(distinct(members, "width")), max(distinct(members, "width"))})
        for place, width in enumerate(ends):
            mine = [run for run in members if run["width"] == width]
            label = "narrowest networks" if place == 0 and len(ends) > 1 else "widest networks"
            curves.append(_curve(keys, mine, _score("mse"), label, place, ""))
        for prediction, style, place in _LINES[keys["way"]]:
            label = _PREDICTION_NAMES[prediction]
            curves.append(_curve(keys, mine, _score("mse", prediction), label, place, style))
    return curves


def _curve(keys: dict[str, Any], runs: Sequence[Run], pick: Pick, label: str, place: int, style: str) -> dict[str, Any]:
    points = [(fraction["fraction"], spread_of(members, pick)) for fraction, members in grouped(runs, "fraction")]
    return {
        **keys,
        "way": WAYS[keys["way"]],
        "label": label,
        "place": place,
        "style": style,
        "measured": not style,
        "penalty": [fraction for fraction, _ in points],
        "mean": [found.mean for _, found in points],
        "sd": [found.sd or 0.0 for _, found in points],
    }


# -- sentences ---------------------------------------------------------------------------------------------------------


def _remarks(runs: Sequence[Run], found: Sequence[Law]) -> Iterator[str]:
    for data in distinct(runs, "data"):
        source = data.partition(",")[0]
        for way, prediction in (("readout", "limit"), ("initial", "limit"), ("initial", "own"), ("zero", "forgotten")):
            quantity = f"{WAYS[way]}: difference from the {_PREDICTION_NAMES[prediction]}"
            mine = [law for law in found if law.keys["data"] == data and law.quantity == quantity]
            if mine:
                inside = sum(law.fit.low <= law.theory <= law.fit.high for law in mine if law.theory is not None)
                deq = [law for law in mine if law.keys["network"] == "deq"]
                listed = ", ".join(f"λ = {law.keys['fraction']:g}: {quoted(law)}" for law in deq)
                yield (
                    f"{source}, {quantity} should fall as width^{mine[0].theory:g}: {inside} of {len(mine)} intervals "
                    f"contain it; DEQ, {listed}."
                )
        unfinished = [run for run in runs if run["data"] == data and run.get("change", 0.0) > _UNFINISHED]
        if unfinished:
            yield (
                f"{source}: in {len(unfinished)} trained networks an output moved by more than {_UNFINISHED:g} in "
                f"the last step ({', '.join(_places(unfinished))}): they are not at a minimum."
            )
        for way in distinct([run for run in runs if run["data"] == data], "way"):
            yield from _widest([run for run in runs if run["data"] == data and run["way"] == way], way, source)


def _places(runs: Sequence[Run]) -> list[str]:
    return [
        f"{NAMES[keys['network']]}, {WAYS[keys['way']]}, width {keys['width']}, λ = {keys['fraction']:g}"
        for keys, _ in grouped(runs, "network", "way", "width", "fraction")
    ]


def _widest(runs: Sequence[Run], way: str, source: str) -> Iterator[str]:
    """The widest networks with the middle penalty, against every prediction."""
    width, fractions = max(distinct(runs, "width")), sorted(distinct(runs, "fraction"))
    middle = fractions[len(fractions) // 2]
    chosen = [run for run in runs if run["width"] == width and run["fraction"] == middle]
    parts = []
    for keys, members in grouped(chosen, "network"):
        differences = ", ".join(
            f"{spread_of(members, _difference(p)).shown()} from the {_PREDICTION_NAMES[p]}" for p in _PREDICTIONS[way]
        )
        text = f"{NAMES[keys['network']]}: test mse {spread_of(members, _score('mse')).shown()}, outputs differ by "
        text += differences
        if way == "zero":
            text += f", hidden weights kept {spread_of(members, lambda run: float(run['kept'])).shown('.2g')}"
        parts.append(text)
    yield f"{source}, {WAYS[way]}, width {width}, λ = {middle:g} of the largest eigenvalue. {'; '.join(parts)}."
