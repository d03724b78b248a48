"""Peak memory of the exact kernels, seen from outside, and the latency of the first call with a cold and a warm cache.

    .venv/bin/python benchmarks/exact_memory.py --out exact_memory.json

Every measurement is a process of its own (exact_memory_child.py). Its peak resident memory is the VmHWM of
/proc/PID/status, which the kernel keeps and the parent reads when the child says that it is done; the interpreter, the
packages and the data are in it, and given beside it. A cold cache is an empty NUMBA_CACHE_DIR: everything that numba
compiles is compiled; a warm one is the same folder in the next process. GB are 1e9 bytes. Data: standard normal samples
over sqrt(p), p = 784.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exact_common import benchmark_parser, finish, plain_ticks, print_setting, spread

import equikernel

_CHILD = Path(__file__).resolve().with_name("exact_memory_child.py")
_TARGET, _STREAM_TARGET = 3e9, 2e9
_LATENCY_SIZE = 200
Events = dict[str, dict[str, float]]


def _peak(pid: int) -> int:
    """Peak resident bytes of a running process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/{pid}/status has no VmHWM: this benchmark needs Linux")


def measured(asked: Mapping[str, Any], threads: int, environment: Mapping[str, str] | None = None) -> Events:
    """Run a child; for every event its seconds, the seconds since the start, and the peak memory until then."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    start = time.perf_counter()
    child = subprocess.Popen(  # noqa: S603 - this script's own child
        [sys.executable, str(_CHILD), json.dumps(asked)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict.fromkeys(names, str(threads)), **(environment or {})},
    )
    if child.stdin is None or child.stdout is None:
        raise AssertionError("a process started with pipes has them")
    events = {}
    for line in child.stdout:
        event = json.loads(line)
        events[event["event"]] = {
            "seconds": event["seconds"],
            "since_start": time.perf_counter() - start,
            "peak": _peak(child.pid),
        }
        child.stdin.write("\n")
        child.stdin.flush()
    child.stdin.close()
    if child.wait():
        raise RuntimeError(f"the measured process ended with status {child.returncode}; its message is above")
    return events


def peak_row(n: int, activation: str, threads: int) -> dict[str, Any]:
    """Peak memory of CK and NTK of n samples in memory."""
    events = measured({"job": "kernel", "n": n, "activation": activation}, threads)
    return {
        "what": "in memory",
        "activation": activation,
        "n": n,
        "peak": events["first call"]["peak"],
        "after_import": events["imported"]["peak"],
        "with_data": events["data"]["peak"],
        "kernels_bytes": 16 * n * n,
        "seconds": events["second call"]["seconds"],
        "target": _TARGET if n == 10000 else None,
    }


def streamed_row(n: int, activation: str, threads: int) -> dict[str, Any] | None:
    """Peak memory of CK and NTK of n samples streamed to disk; None, with the reason printed, where it cannot be done.

    Pages of files that are mapped count as resident.
    """
    if not hasattr(equikernel, "stream_kernels"):
        print("streamed: skipped, this version of equikernel has no stream_kernels")
        return None
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be memory
        events = measured({"job": "stream", "n": n, "activation": activation, "folder": folder}, threads)
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {
        "what": "streamed to disk",
        "activation": activation,
        "n": n,
        "peak": events["first call"]["peak"],
        "after_import": events["imported"]["peak"],
        "with_data": events["data"]["peak"],
        "kernels_bytes": written,
        "seconds": events["first call"]["seconds"],
        "target": _STREAM_TARGET if n == 50000 else None,
    }


def latency_rows(activation: str, threads: int, repeats: int) -> list[dict[str, Any]]:
    """Import, first and second call with a cold and with a warm cache, in turns."""
    taken: dict[str, list[Events]] = {"cold": [], "warm": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for runs in taken.values():
                asked = {"job": "kernel", "n": _LATENCY_SIZE, "activation": activation}
                runs.append(measured(asked, threads, {"NUMBA_CACHE_DIR": folder}))
    return [
        {
            "what": f"{cache} cache",
            "activation": activation,
            "n": _LATENCY_SIZE,
            "import": spread([events["imported"]["since_start"] for events in runs]),
            "first_call": spread([events["first call"]["seconds"] for events in runs]),
            "second_call": spread([events["second call"]["seconds"] for events in runs]),
            "start_to_first_result": spread([events["first call"]["since_start"] for events in runs]),
        }
        for cache, runs in taken.items()
    ]


def _print_peak(row: dict[str, Any]) -> None:
    target = ""
    if row["target"] is not None:
        target = f", target < {row['target'] / 1e9:g} GB: {'reached' if row['peak'] < row['target'] else 'SHORT'}"
    print(
        f"{row['what']}, {row['activation']}, n = {row['n']}: peak {row['peak'] / 1e9:.2f} GB{target} "
        f"(after import {row['after_import'] / 1e9:.2f}, with the data {row['with_data'] / 1e9:.2f}; the kernels are "
        f"{row['kernels_bytes'] / 1e9:.2f}); {row['seconds']:.2f} s",
        flush=True,
    )


def _print_latency(row: dict[str, Any]) -> None:
    parts = ("first_call", "second_call", "import", "start_to_first_result")
    texts = [
        f"{part.replace('_', ' ')} {row[part]['median']:.3f} s ({row[part]['least']:.3f} to {row[part]['largest']:.3f})"
        for part in parts
    ]
    print(f"{row['what']}, {row['activation']}, n = {row['n']}: " + ", ".join(texts), flush=True)


def _draw(figure: Any, peaks: list[dict[str, Any]], latencies: list[dict[str, Any]]) -> None:
    """Peak memory against n with the bytes of the kernels and the targets; latency as stacked bars."""
    figure.set_size_inches(9.5, 3.8)
    left, right = figure.subplots(1, 2)
    for place, key in enumerate(dict.fromkeys((row["what"], row["activation"]) for row in peaks)):
        mine = [row for row in peaks if (row["what"], row["activation"]) == key]
        left.plot(
            [row["n"] for row in mine],
            [row["peak"] / 1e9 for row in mine],
            marker="osD^v"[place % 5],
            markersize=9 - 2 * place,  # equal peaks stay visible
            linewidth=3.5 - place,
            color=f"C{place}",
            label=f"{key[1]}, {key[0]}",
        )
    sizes = sorted({row["n"] for row in peaks})
    left.plot(sizes, [16e-9 * n * n for n in sizes], "k--", lw=1.2, label="the two kernels")
    for n, target in sorted({(row["n"], row["target"]) for row in peaks if row["target"] is not None}):
        left.plot(n, target / 1e9, "_", color="C3", ms=24, mew=2.5, label=f"target, n = {n}")
    left.set(xscale="log", yscale="log", xlabel="n, samples", ylabel="peak resident memory, GB")
    left.set_xticks(sizes, [str(n) for n in sizes])
    left.minorticks_off()
    plain_ticks(left.yaxis)
    left.grid(alpha=0.25)
    left.legend(frameon=False, fontsize=7.5)
    names = [f"{row['what']}\n{row['activation']}" for row in latencies]
    imports = [row["import"]["median"] for row in latencies]
    calls = [row["first_call"]["median"] for row in latencies]
    right.bar(names, imports, color="0.7", width=0.5, label="start and import")
    right.bar(names, calls, bottom=imports, color="C0", width=0.5, label=f"first call, n = {_LATENCY_SIZE}")
    right.set_ylabel("seconds (median)")
    right.grid(axis="y", alpha=0.25)
    right.legend(frameon=False, fontsize=7.5)


def _measure_peaks(given: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for activation in given.activations.split(","):
        for n in map(int, given.n.split(",")):
            rows.append(peak_row(n, activation, given.threads))
            _print_peak(rows[-1])
    if given.stream:
        streamed = streamed_row(given.stream, given.activations.split(",")[0], given.threads)
        if streamed:
            rows.append(streamed)
            _print_peak(streamed)
    return rows


def main() -> None:
    """Measure memory and latency, print them, and write the record and the figure."""
    parser = benchmark_parser("peak memory and first-call latency of the exact kernels", repeats=3)
    parser.add_argument("--n", default="2000,5000,10000", help="numbers of samples in memory")
    parser.add_argument("--activations", default="relu,tanh", help="activations; the first for the other measurements")
    parser.add_argument("--stream", type=int, default=50000, help="samples streamed to disk (40 GB for 50000); 0: none")
    given = parser.parse_args()
    if not Path("/proc/self/status").is_file():
        print("skipped: peak memory is read from /proc, which this system has not")
        return
    print_setting(given)
    peaks = _measure_peaks(given)
    latencies = latency_rows(given.activations.split(",")[0], given.threads, given.repeats)
    for row in latencies:
        _print_latency(row)
    finish(given, [*peaks, *latencies], lambda figure: _draw(figure, peaks, latencies))


if __name__ == "__main__":
    main()
