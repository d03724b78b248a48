"""Which family of weights fluctuates most: it depends on what is held equal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import scipy.optimize

from equikernel.theory.initialisation import noise_at_length
from equikernel.theory.initialisation_scales import MATCHES

__all__ = ["contradictions", "crossing_length", "order", "ranking_rows"]

Row = dict[str, Any]

_SURE = 3.0


def crossing_length() -> float:
    """The mean length q at which GOE weights begin to fluctuate more than iid weights of the same mean length."""

    def excess(q: float) -> float:
        return float(noise_at_length("goe", q, math.sqrt)) - float(noise_at_length("iid", q, math.sqrt))

    return float(scipy.optimize.brentq(excess, 2.0, 100.0))


def order(rows: Sequence[Row], key: str) -> str:
    """The families by one number, the largest first."""
    return " > ".join(row["family"] for row in sorted(rows, key=lambda row: float(row[key]), reverse=True))


def contradictions(rows: Sequence[Row]) -> list[str]:
    """Pairs whose relative fluctuations are simulated in the order that is not predicted, by 3 standard errors."""
    found = []
    for one, two in itertools.permutations((row for row in rows if row["noise"] is not None), 2):
        error = math.hypot(one["noise_error"], two["noise_error"])
        if one["noise_prediction"] > two["noise_prediction"] and two["noise"] - one["noise"] > _SURE * error:
            found.append(f"{two['family']} > {one['family']} at N = {one['size']}")
    return found


def ranking_rows(points: Sequence[Row]) -> list[Row]:
    """A row for each network, match and family; ``points`` come match by match, all families in each."""
    found = []
    for act in dict.fromkeys(point["act"] for point in points):
        own = [point for point in points if point["act"] == act]
        for match in MATCHES:
            values = [point[match] for point in own]
            # the value that most points share is the one at which they were matched
            value = max(values, key=values.count)
            if values.count(value) < 2:
                continue
            chosen = {p["family"]: p for p in own if math.isclose(p[match], value, rel_tol=1e-12)}.values()
            found += [{"match": match, "value": value, **point} for point in chosen]
    return found
