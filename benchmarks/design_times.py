"""Seconds of a warm design: every family, where it has a solution and where it has none.

    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/design_times.py --out design_times.json

A call is ``equivalent_network(deq, family=...)`` for the CK, near sigma_a2 = 0.2. Each call has a sigma_a2 of its own,
so that no result is in a cache; imports, compiled functions, the tables of the family and of the activation are warm.
"Whole" solves the DEQ too; for "design" that was done before. The targets are medians of whole, solved calls: 20 ms for
the families in closed form (hard-tanh, leaky-relu), 200 ms for the others. Without a solution the call ends with a
proof, or after all its starts.

``--profile N`` prints the N functions in which the slowest solved case and the slowest unsolved one spend their time.
"""

from __future__ import annotations

import cProfile
import io
import pstats
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from design_common import deq_of, markdown, nearby
from designs import verdict
from timing import arguments, take_turns, write_record

from equikernel.errors import SolutionError
from equikernel.numerics.designs.equivalent import equivalent_network
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ

_SIGMA_A2 = "0.2"
_TARGETS = {"hard-tanh": 0.02, "leaky-relu": 0.02}
_OTHERS = 0.2
_CASES: Mapping[str, tuple[str, ...]] = {
    "hard-tanh": ("tanh", "arctan", "relu", "gelu"),
    "leaky-relu": ("relu", "leaky_relu", "gelu", "silu"),
    "piecewise-linear": ("relu", "elu", "tanh", "cos", "gelu", "silu"),
    "smooth": ("relu", "elu", "tanh", "gelu", "silu", "softplus", "hard_swish"),
    "hermite-cubic": ("relu", "tanh", "gelu", "silu", "softplus"),
    "erf": ("tanh", "sin", "gelu"),
    "auto": ("relu", "tanh", "elu", "gelu", "silu", "softplus", "cos"),
}
_Row = dict[str, Any]


def outcome(deq: DEQ, family: str) -> str:
    """What one call ends with, as in designs.py."""
    try:
        equivalent_network(deq, 1, family=family)
    except SolutionError as error:
        return verdict(error)
    return "solved"


def _contender(deqs: list[DEQ], family: str, seen: set[str]) -> Callable[[], None]:
    """A call with the next DEQ."""
    following: Iterator[DEQ] = iter(deqs)
    return lambda: seen.add(outcome(next(following), family))


def measure(family: str, name: str, repeats: int) -> _Row:
    """One family and activation; the first round of both contenders is not counted."""
    deqs = nearby(name, _SIGMA_A2, 2 * (repeats + 1))
    whole, solved_before = deqs[::2], deqs[1::2]
    for deq in solved_before:
        solve(deq, 1, trained="a")
    seen: set[str] = set()
    contenders = {"whole": _contender(whole, family, seen), "design": _contender(solved_before, family, seen)}
    seconds = take_turns(contenders, repeats)
    return {"family": family, "activation": name, "outcome": ", ".join(sorted(seen)), "seconds": seconds}


def _milliseconds(taken: Mapping[str, float]) -> str:
    return f"{1e3 * taken['median']:.0f} ({1e3 * taken['least']:.0f}-{1e3 * taken['largest']:.0f})"


def _line(row: _Row) -> str:
    target = _TARGETS.get(row["family"], _OTHERS)
    missed = row["outcome"] == "solved" and row["seconds"]["whole"]["median"] > target
    cells = [row["family"], row["activation"], row["outcome"]]
    cells += [_milliseconds(row["seconds"][kind]) for kind in ("whole", "design")]
    return markdown([*cells, f"{1e3 * target:.0f}{', missed' if missed else ''}"])


def profile(row: _Row, count: int) -> None:
    """Where the time of a case goes: one call with a DEQ that was not met before."""
    deq = deq_of(row["activation"], "0.21")
    profiler = cProfile.Profile()
    profiler.enable()
    found = outcome(deq, row["family"])
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("cumulative").print_stats(count)
    print(f"\n{row['family']}, {row['activation']}, {found}\n{text.getvalue()}")


def main() -> None:
    """Print the table, the profiles if they are asked for, and write the record."""
    parser = arguments("Seconds of warm designs", repeats=9)
    parser.add_argument("--families", nargs="+", default=list(_CASES), choices=list(_CASES))
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="functions to show of the slowest cases")
    given = parser.parse_args()
    columns = ["family", "activation", "outcome", "whole, ms", "design, ms", "target, ms"]
    print(markdown(columns) + f"\n|{'---|' * len(columns)}")
    rows: list[_Row] = []
    for family in given.families:
        outcome(deq_of("tanh", _SIGMA_A2), family)  # imports, and the tables of the family
        for name in _CASES[family]:
            rows.append(measure(family, name, given.repeats))
            print(_line(rows[-1]), flush=True)
    if given.profile:
        for solved in (True, False):
            group = [row for row in rows if (row["outcome"] == "solved") == solved]
            if group:
                profile(max(group, key=lambda row: row["seconds"]["whole"]["median"]), given.profile)
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
