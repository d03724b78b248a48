"""Designs for the whole registry: which DEQs have an equivalent network, of which depth and family, how exact.

    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/designs.py --match ck --out designs_ck.json
    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/designs.py --match ntk --out designs_ntk.json
    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/designs.py --match ntk --rates free --out designs_free.json
    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/designs.py --families all --sigma-a2 0.2 --out families.json

sigma_b2 = 1 - sigma_a2, tau0 = 1, depth auto. A cell of the table reads residual, depth, family; the residual is
computed anew, both sides with 30 digits. What has no design is one of

- proved: no network of the depth (and family) has the coefficients, and the sentence says why;
- none found: the search ended without a solution;
- refused: a solution was found, but not to the accuracy promised;
- no DEQ: the DEQ itself has no stable fixed point, or no NTK.

With --families the table has a line for each family: how many DEQs it serves, and the median and largest seconds of a
call. Times here are of one call each, what a first call prepares included; see design_times.py for warm ones.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from design_common import SIGMAS, deq_of, largest_residual, markdown
from timing import arguments, write_record

from equikernel.errors import AccuracyError, NoDesignError, SolutionError
from equikernel.numerics.designs.equivalent import family_design
from equikernel.theory.activation import activation, registry_names
from equikernel.theory.families import FAMILIES

__all__ = ["OUTCOMES", "design_row", "verdict"]

OUTCOMES = ("solved", "proved", "none found", "refused", "no DEQ")
_TARGET = 1e-13
_Row = dict[str, Any]


def verdict(error: SolutionError) -> str:
    """Which of ``OUTCOMES`` a refusal is."""
    if isinstance(error, NoDesignError):
        return "none found" if "none found" in str(error) else "proved"
    return "refused" if isinstance(error, AccuracyError) else "no DEQ"


def design_row(name: str, sigma_a2: str, match: str, rates: str, family: str) -> _Row:
    """One call of ``equivalent_network``, and the residual of what it returned."""
    row: _Row = {"activation": name, "sigma_a2": sigma_a2, "match": match, "rates": rates, "asked": family}
    deq = deq_of(name, sigma_a2)
    start = time.perf_counter()
    try:
        design = family_design(deq, 1, match, "auto", family, rates=rates)
    except SolutionError as error:
        seconds = time.perf_counter() - start
        return row | {"outcome": verdict(error), "seconds": seconds, "sentence": str(error)}
    row |= {"outcome": "solved", "seconds": time.perf_counter() - start, "depth": design.depth}
    row |= {"family": design.family, "claimed": design.residual, "distance": design.distance}
    row |= {"lipschitz": design.lipschitz, "starts": design.starts}
    return row | {"residual": largest_residual(design.network, deq, match)}


def _cell(row: Mapping[str, Any]) -> str:
    return f"{row['residual']:.0e}, {row['depth']}, {row['family']}" if row["outcome"] == "solved" else row["outcome"]


def registry_table(names: Sequence[str], sigmas: Sequence[str], match: str, rates: str) -> list[_Row]:
    """Print residual, depth and family of every activation, what has no design, and the counts."""
    print(markdown(["activation", *(f"sigma_a2 = {s}" for s in sigmas)]) + f"\n|{'---|' * (len(sigmas) + 1)}")
    rows = []
    for name in names:
        line = [design_row(name, s, match, rates, "auto") for s in sigmas]
        print(markdown([name, *map(_cell, line)]), flush=True)
        rows += line
    smooth = [row for row in rows if activation(row["activation"]).has_square_integrable_derivative]
    print(f"\nwithout jumps: {_counts(smooth)}\nall: {_counts(rows)}")
    solved = [row for row in rows if row["outcome"] == "solved"]
    if solved:
        worst = max(solved, key=lambda row: row["residual"])
        print(f"largest residual: {worst['residual']:.2g} ({worst['activation']}, {worst['sigma_a2']})")
        assert worst["residual"] <= _TARGET, worst
        print("families:", dict(Counter(f"{row['family']} {row['depth']}" for row in solved).most_common()))
        print(f"seconds: {_times(solved)}")
    for row in rows:
        if row["outcome"] != "solved":
            print(f"- {row['activation']}, {row['sigma_a2']} ({row['seconds']:.2f} s): {row['sentence']}")
    return rows


def _counts(rows: Sequence[_Row]) -> str:
    found = Counter(row["outcome"] for row in rows)
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in OUTCOMES) + f", of {len(rows)}"


def _times(rows: Sequence[_Row]) -> str:
    seconds = [row["seconds"] for row in rows]
    return f"{statistics.median(seconds):.2f} (at most {max(seconds):.2f})" if seconds else ""


def family_table(families: Sequence[str], names: Sequence[str], sigmas: Sequence[str], match: str) -> list[_Row]:
    """Print, for each family, how many DEQs of the registry have a design in it."""
    shown = ("solved", "proved", "none found", "refused")
    columns = ["family", *shown, "largest residual", *(f"seconds, {outcome}" for outcome in shown[:3])]
    print(markdown(columns) + f"\n|{'---|' * len(columns)}")
    rows = []
    for family in families:
        found = [design_row(name, s, match, "equal", family) for name in names for s in sigmas]
        by_outcome = {outcome: [row for row in found if row["outcome"] == outcome] for outcome in OUTCOMES}
        residuals = [row["residual"] for row in by_outcome["solved"]]
        worst = f"{max(residuals):.1e}" if residuals else ""
        counts = [len(by_outcome[outcome]) for outcome in shown]
        print(markdown([family, *counts, worst, *(_times(by_outcome[o]) for o in shown[:3])]), flush=True)
        assert not residuals or max(residuals) <= _TARGET
        rows += found
    for row in rows:
        if row["outcome"] in ("none found", "refused"):
            print(f"- {row['activation']}, {row['sigma_a2']}, {row['asked']}: {row['sentence']}")
    return rows


def main() -> None:
    """Print the tables, and write the record."""
    parser = arguments("Designs for the registry", repeats=1)
    parser.add_argument("--names", nargs="+", default=list(registry_names()), help="activations")
    parser.add_argument("--sigma-a2", nargs="+", default=list(SIGMAS))
    parser.add_argument("--match", choices=("ck", "ntk"), default="ck")
    parser.add_argument("--rates", choices=("equal", "free"), default="equal")
    parser.add_argument("--families", nargs="+", default=[], help="names, or all: one line each instead of the table")
    given = parser.parse_args()
    names = given.names
    if given.match == "ntk":
        names = [name for name in names if activation(name).has_square_integrable_derivative]
    start = time.perf_counter()
    if given.families:
        families = list(FAMILIES) if given.families == ["all"] else given.families
        rows = family_table(families, names, given.sigma_a2, given.match)
    else:
        rows = registry_table(names, given.sigma_a2, given.match, given.rates)
    print(f"{time.perf_counter() - start:.0f} s in all")
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
