"""Time of the exact implicit CK and NTK against n, beside what any method must spend: the Gram matrix and the writing.

    .venv/bin/python benchmarks/exact_floor.py --out exact_floor.json

Floors, on the same threads and in the same turns: "dsyrk" is BLAS's X X^T, one triangle, into a matrix that exists;
"write" fills 2 n^2 numbers of newly allocated memory, the size of the two kernels (from n = 1500 on the allocator gives
fresh pages, as it does to the kernels). A method that did nothing else, and overlapped nothing, would take their sum.

Counted: n (n + 1) p operations of the Gram matrix, and those that the power series asks of the pairs (exact_numpy.py);
the time for the latter at dsyrk's rate; 16 n^2 bytes written and 8 n p read. The memory taken is how far the peak rose
above what was resident before; small sizes reuse what earlier runs gave back, and seem to take nothing. A size is left
out, and told, when the memory that the sizes before it took, scaled by n^2, is more than is available.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from exact_common import (
    FEATURES,
    FloatArray,
    benchmark_parser,
    data_of,
    finish,
    kernels_of,
    network,
    plain_ticks,
    print_setting,
    ratio,
    spread,
    take_paired_turns,
    use_threads,
    verdict,
)
from exact_numpy import series_operations
from exact_plain import Problem
from scipy.linalg.blas import dsyrk

_TARGETS = {("gmm", "tanh", 5000): 2.5, ("image", "relu", 5000): 3.5}
_LARGE = 10000  # from here on three rounds are enough
_SHARE = 0.9  # of the memory available


@numba.njit(parallel=True)
def _fill(target: FloatArray) -> None:
    for i in numba.prange(target.shape[0]):
        target[i] = 1.0


def _status(file: str, field: str) -> int | None:
    """Bytes of one line of a file of /proc, None where there is none."""
    path = Path("/proc") / file
    if not path.is_file():
        return None
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    return None


def _memory_taken(run: Callable[[], Any]) -> int | None:
    """How far the resident memory rose above what it was before, at most, while ``run`` ran."""
    before = _status("self/status", "VmRSS")
    if before is None:
        return None
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    run()
    peak = _status("self/status", "VmHWM")
    return None if peak is None else peak - before


def _fits(n: int, rows: list[dict[str, Any]]) -> bool:
    """Whether n samples will fit, by what the sizes before took."""
    available = _status("meminfo", "MemAvailable")
    taken = [row["memory_taken"] for row in rows]
    if not rows or None in taken or available is None:
        return True
    each = max(16.0, taken[-1] / rows[-1]["n"] ** 2)  # bytes a pair; at small n they are those of code and tables
    needed = (each + 8.0) * n * n + 8.0 * n * FEATURES  # with the matrix of dsyrk, and X
    if needed <= _SHARE * available:
        return True
    print(f"  n = {n} left out: it would take about {needed / 1e9:.1f} GB, and {available / 1e9:.1f} GB are available")
    return False


def run(source: str, name: str, n: int, threads: int, repeats: int) -> dict[str, Any]:
    """One data set, activation and size: times, ratios to the floors, memory, counts."""
    data = data_of(source, n)
    X, deq = data.X, network(name)
    n, p = X.shape
    gram = np.zeros((n, n), order="F")
    taken = _memory_taken(lambda: kernels_of(X, deq, threads))
    seconds = take_paired_turns(
        {
            "equikernel": lambda: kernels_of(X, deq, threads),
            "dsyrk": lambda: dsyrk(1.0, X.T, c=gram, trans=1, overwrite_c=1),
            "write": lambda: _fill(np.empty((2 * n, n))),
        },
        min(repeats, 3) if n >= _LARGE else repeats,
    )
    medians = {who: spread(values) for who, values in seconds.items()}
    rate = n * (n + 1.0) * p / medians["dsyrk"]["median"]
    pairs = series_operations(X, Problem(name)) * n * (n - 1.0) / 2.0
    floor = [a + b for a, b in zip(seconds["dsyrk"], seconds["write"], strict=True)]
    return {
        "data": source,
        "source": data.source,
        "activation": name,
        "n": n,
        "seconds": medians,
        "over_dsyrk": ratio(seconds["equikernel"], seconds["dsyrk"]),
        "over_floor": ratio(seconds["equikernel"], floor),
        "target": _TARGETS.get((source, name, n)),
        "memory_taken": taken,
        "operations": {"gram": n * (n + 1.0) * p, "pairs": pairs},
        "seconds_of_pairs_at_dsyrk_rate": pairs / rate,
        "dsyrk_operations_a_second": rate,
        "bytes": {"written": 16 * n * n, "read": 8 * n * p},
    }


def _print(row: dict[str, Any]) -> None:
    taken = {who: values["median"] for who, values in row["seconds"].items()}
    operations, rate = row["operations"], row["dsyrk_operations_a_second"] / 1e9
    memory = "" if row["memory_taken"] is None else f", memory taken {row['memory_taken'] / 1e9:.2f} GB"
    print(
        f"  n = {row['n']:5d}: equikernel {taken['equikernel']:.4f} s, dsyrk {taken['dsyrk']:.4f} s, "
        f"write {taken['write']:.4f} s; over dsyrk {verdict(row['over_dsyrk'], row['target'], at_least=False)}; "
        f"over dsyrk + write {row['over_floor']['median']:.3g}\n"
        f"             operations: Gram {operations['gram']:.2e}, pairs {operations['pairs']:.2e} "
        f"({row['seconds_of_pairs_at_dsyrk_rate']:.4f} s at dsyrk's {rate:.0f} GF/s); "
        f"bytes: written {row['bytes']['written']:.2e}, read {row['bytes']['read']:.1e}{memory}",
        flush=True,
    )


def _draw(figure: Any, rows: list[dict[str, Any]]) -> None:
    """Times with the floors, and the ratios to dsyrk with their spread and the targets, against n."""
    figure.set_size_inches(9.5, 4.2)
    times, ratios = figure.subplots(1, 2)
    cases = dict.fromkeys((row["data"], row["activation"]) for row in rows)
    for place, (source, name) in enumerate(cases):
        mine = [row for row in rows if (row["data"], row["activation"]) == (source, name)]
        sizes = [row["n"] for row in mine]
        style = {"color": f"C{place}", "marker": "os^Dv"[place % 5], "ms": 4, "lw": 1.3, "label": f"{name}, {source}"}
        times.plot(sizes, [row["seconds"]["equikernel"]["median"] for row in mine], **style)
        medians = np.array([row["over_dsyrk"]["median"] for row in mine])
        ends = [[row["over_dsyrk"][end] for row in mine] for end in ("least", "largest")]
        ratios.errorbar(sizes, medians, yerr=[medians - ends[0], ends[1] - medians], capsize=2, **style)
        for row in mine:
            if row["target"] is not None:
                ratios.plot(
                    row["n"], row["target"], "_", color=f"C{place}", ms=22, mew=2.5, label=f"target, {name}, {source}"
                )
    sizes = sorted({row["n"] for row in rows})
    for floor, line in (("dsyrk", "--"), ("write", ":")):
        least = [min(row["seconds"][floor]["median"] for row in rows if row["n"] == n) for n in sizes]
        label = {"dsyrk": "floor: dsyrk", "write": "floor: writing both kernels"}[floor]
        times.plot(sizes, least, line, color="k", lw=1.3, label=label)
    for axes, label in ((times, "seconds (median)"), (ratios, "seconds over dsyrk's")):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sizes, [str(n) for n in sizes], rotation=45)
        axes.minorticks_off()
        axes.set_xlabel("n, samples")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=7.5, ncols=3, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    plain_ticks(ratios.yaxis)
    ratios.axhline(1.0, color="0.6", lw=1)


def main() -> None:
    """Every case at every size that fits; print, and write the record and the figure."""
    parser = benchmark_parser("time of the exact kernels against n, with the floors", repeats=5)
    parser.add_argument("--n", default="500,1000,2000,5000,10000,20000", help="numbers of samples, rising")
    parser.add_argument("--cases", default="gmm:tanh,gmm:relu,image:relu,image:tanh", help="data:activation, ...")
    given = parser.parse_args()
    use_threads(given.threads)
    print_setting(given)
    rows: list[dict[str, Any]] = []
    for case in given.cases.split(","):
        source, _, name = case.partition(":")
        print(f"\n{name} on {data_of(source, 1000).source}")
        mine: list[dict[str, Any]] = []
        for n in map(int, given.n.split(",")):
            if not _fits(n, mine):
                break
            mine.append(run(source, name, n, given.threads, given.repeats))
            _print(mine[-1])
        rows += mine
    finish(given, rows, lambda figure: _draw(figure, rows))


if __name__ == "__main__":
    main()
