"""Seconds of a certified solve, beside the plain solve and beside mpmath.quad on one of its moments.

    .venv/bin/python benchmarks/certify.py --repeats 3 --out certify.json

Every measurement is a fresh process with nothing cached: its imports are not counted, everything after them is
(parsing the activation, proving its pieces, the first evaluation of every table). The network is that of the reference
values: sigma_a2 = 1/5, sigma_b2 = 4/5, tau0 = 1. mpmath.quad gets phi written by hand, the fixed point from the
certificate, the kink as a point of subdivision, and computes E[phi^2] alone: one of six moments, at one iterate (up to
50 digits: at 300 it takes more than a minute).
Targets are for a quiet machine; on a busy one, look at the processor's time in parentheses.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
from timing import arguments, write_record

from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ

NAMES = ("tanh", "swish", "gelu", "mish", "relu")
TARGETS = {15: 0.3, 50: 1.0, 300: None, 1000: 30.0}
_SIGMA_A2, _SIGMA_B2 = "1/5", "4/5"
_MPMATH_DIGITS = 50  # at 300 digits mpmath.quad takes more than a minute for the one moment
_LONGEST = 900
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_PLAIN: dict[str, Callable[[Any], Any]] = {
    "tanh": mpmath.tanh,
    "swish": lambda x: x / (1 + mpmath.exp(-x)),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "relu": lambda x: max(x, mpmath.mpf(0)),
}


class _Stopwatch:
    """Wall and processor time from its making on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"seconds": time.perf_counter() - self._wall, "cpu_seconds": time.process_time() - self._cpu}


def _certified(name: str, digits: int) -> dict[str, Any]:
    watch = _Stopwatch()
    found = certify(DEQ(name, _SIGMA_A2, _SIGMA_B2), 1, digits)
    times = watch.read()
    reached = min(int(ball.rel_accuracy_bits()) for ball in found.enclosures.values() if not ball.is_exact())
    return {**times, "digits_reached": int(reached * 0.30103), "uniqueness": found.count.uniqueness}


def _plain(name: str, digits: int) -> dict[str, Any]:
    watch = _Stopwatch()
    solve(DEQ(name, _SIGMA_A2, _SIGMA_B2), 1, digits)
    return watch.read()


def _one_moment(name: str, digits: int) -> dict[str, Any]:
    q = certify(DEQ(name, _SIGMA_A2, _SIGMA_B2), 1, min(digits, 50)).enclosures["q"]
    phi = _PLAIN[name]
    with mpmath.workdps(digits + 5):
        tau = mpmath.sqrt(mpmath.mpf(q.mid().str(60, radius=False)))
        watch = _Stopwatch()
        mpmath.quad(lambda x: phi(tau * x) ** 2 * mpmath.npdf(x), [-mpmath.inf, 0, mpmath.inf])
        return watch.read()


_ONE_MOMENT = "mpmath.quad, one moment"
_CONTENDERS = {"certified": _certified, "plain": _plain, _ONE_MOMENT: _one_moment}


def _fresh(contender: str, name: str, digits: int) -> dict[str, Any]:
    """One contender in a process of its own; nothing when it took longer than ``_LONGEST``."""
    command = [sys.executable, str(Path(__file__)), "--one", contender, name, str(digits)]
    environment = os.environ | dict.fromkeys(_THREADS, "1")
    try:
        run = subprocess.run(  # noqa: S603 - this script
            command, capture_output=True, check=True, encoding="utf-8", env=environment, timeout=_LONGEST
        )
    except subprocess.TimeoutExpired:
        return {}
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def _measured(name: str, digits: int, repeats: int) -> dict[str, Any]:
    """Medians over fresh processes, contenders in turns."""
    runs: dict[str, list[dict[str, Any]]] = {contender: [] for contender in _CONTENDERS}
    for _ in range(repeats):
        for contender, found in runs.items():
            if contender != _ONE_MOMENT or digits <= _MPMATH_DIGITS:
                found.append(_fresh(contender, name, digits))
    certified = runs["certified"][-1]
    return {
        "activation": name,
        "digits": digits,
        "seconds": {contender: _median(found, "seconds") for contender, found in runs.items()},
        "cpu_seconds": {contender: _median(found, "cpu_seconds") for contender, found in runs.items()},
        "target": TARGETS[digits],
        "digits_reached": certified.get("digits_reached"),
        "uniqueness": certified.get("uniqueness"),
    }


def _median(runs: list[dict[str, Any]], key: str) -> float | None:
    """None when there was no run, or one did not finish."""
    return statistics.median(run[key] for run in runs) if runs and all(runs) else None


def _ratio(a: float | None, b: float | None) -> str:
    return "-" if a is None or not b else f"{a / b:.3g}"


def _row(row: dict[str, Any]) -> str:
    wall, cpu = row["seconds"], row["cpu_seconds"]
    cells = [row["activation"], str(row["digits"]), str(row["digits_reached"])]
    cells += ["-" if wall[c] is None else f"{wall[c]:.3g} ({cpu[c]:.3g})" for c in _CONTENDERS]
    certified, plain, one = (cpu[c] for c in _CONTENDERS)
    cells += [_ratio(certified, plain), _ratio(one, certified), _verdict(row["target"], wall["certified"], certified)]
    return f"| {' | '.join(cells)} |"


def _verdict(target: float | None, wall: float | None, cpu: float | None) -> str:
    if target is None:
        return "-"
    if wall is None or cpu is None or cpu >= target:
        return f"{target:g} s: missed"
    return f"{target:g} s: met" + ("" if wall < target else " by the processor's time")


def _arguments() -> argparse.Namespace:
    parser = arguments("Certified solves in fresh processes", repeats=3)
    parser.add_argument("--digits", type=int, nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--one", nargs=3, metavar=("CONTENDER", "NAME", "DIGITS"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print the table as it is measured, and write the record."""
    given = _arguments()
    if given.one is not None:
        contender, name, digits = given.one
        print(json.dumps(_CONTENDERS[contender](name, int(digits))))
        return
    header = ("activation", "digits", "reached", *(f"{c}, s (CPU)" for c in _CONTENDERS), "certified/plain")
    header = (*header, "mpmath/certified", "target")
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    rows = []
    for digits in given.digits:
        for name in NAMES:
            rows.append(_measured(name, digits, 1 if digits == max(TARGETS) else given.repeats))
            print(_row(rows[-1]), flush=True)
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
