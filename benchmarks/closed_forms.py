"""Closed forms of Gaussian moments: equikernel beside SymPy's integrate and mpmath.quad.

    .venv/bin/python benchmarks/closed_forms.py --limit 20 --out closed_forms.json

For every name of the registry: wall and CPU time for all six moments (and the derived ones) in a new process after
import, then SymPy's ``integrate`` on E[phi^2] alone, in a process that is stopped after ``--limit`` seconds, and
mpmath.quad at 50 digits for the same single moment at tau = 1. "unevaluated" is an answer that still contains an
integral; mpmath.quad fails where it samples the integrand so far out that it overflows.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import mpmath
import sympy as sp
from timing import arguments, write_record

from equikernel.errors import NoClosedFormError
from equikernel.theory.activation import activation, registry_names
from equikernel.theory.closed_forms import RAW, TAU, closed_form_moments
from equikernel.theory.program import X

_DIGITS = 50


def _derive(name: str, answers: Any) -> None:
    phi = activation(name)
    closed_form_moments("x - 3")  # what SymPy imports when it is first used is no time of ours
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        forms = closed_form_moments(phi)
    except NoClosedFormError as error:
        result = str(error).split(" is not ", maxsplit=1)[0] + " is outside the class"
    else:
        result = f"{sum(m in forms.expressions for m in RAW)} of {len(RAW)} raw moments"
    answers.put((time.perf_counter() - wall, time.process_time() - cpu, result))


def _integrate(name: str, answers: Any) -> None:
    phi = activation(name).expr
    density = sp.exp(-(X**2) / (2 * TAU**2)) / (sp.sqrt(2 * sp.pi) * TAU)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        value = sp.integrate(phi.rewrite(sp.Piecewise) ** 2 * density, (X, -sp.oo, sp.oo))
    except (NotImplementedError, ValueError, TypeError, AttributeError, RecursionError) as error:
        answer = type(error).__name__
    else:
        answer = "unevaluated" if value.has(sp.Integral) or value.has(sp.meijerg) else "closed"
    answers.put((time.perf_counter() - wall, time.process_time() - cpu, answer))


def in_a_process(work: Callable[[str, Any], None], name: str, limit: float) -> tuple[float, float, str]:
    """Wall and CPU seconds of ``work`` in a new process, and what came out; stopped after ``limit`` seconds."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=work, args=(name, answers))
    process.start()
    process.join(limit + 3)  # the interpreter and SymPy take a while to start
    if process.is_alive():
        process.terminate()
        process.join()
        return limit, limit, "no answer"
    return answers.get(timeout=5) if process.exitcode == 0 else (limit, limit, f"exit code {process.exitcode}")


def quads(name: str) -> float | None:
    """Seconds of mpmath.quad on E[phi^2] at tau = 1, split at the breakpoints; None where it fails."""
    phi = activation(name)
    function = phi.function("mpmath", digits=_DIGITS)
    points = [-mpmath.inf, *(mpmath.mpf(float(b)) for b in phi.breakpoints), mpmath.inf]
    with mpmath.workdps(_DIGITS):
        start = time.perf_counter()
        try:
            mpmath.quad(lambda x: function(x) ** 2 * mpmath.npdf(x), points)
        except OverflowError:
            return None
    return time.perf_counter() - start


def main() -> None:
    """Print the table, and write it where asked."""
    parser = arguments("Closed forms beside SymPy's integrate and mpmath.quad.", repeats=1)
    parser.add_argument("names", nargs="*", default=registry_names())
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for SymPy, each")
    chosen = parser.parse_args()
    rows = []
    print(f"{'':14}{'ours: wall, s':>15}{'CPU, s':>8}  {'':34}{'integrate, s':>13}  {'':20}{'quad 50, s':>11}")
    for name in chosen.names:
        runs = [in_a_process(_derive, name, chosen.limit) for _ in range(chosen.repeats)]
        wall, cpu = statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs)
        result = runs[0][2]
        theirs, _, answer = in_a_process(_integrate, name, chosen.limit)
        quad = quads(name)
        shown = "fails" if quad is None else f"{quad:.3f}"
        print(f"{name:14}{wall:15.3f}{cpu:8.3f}  {result[:32]:34}{theirs:13.2f}  {answer:20}{shown:>11}", flush=True)
        rows.append(
            {
                "name": name,
                "wall": wall,
                "cpu": cpu,
                "result": result,
                "integrate": theirs,
                "answer": answer,
                "quad": quad,
            }
        )
    write_record(chosen.out, {"limit": chosen.limit, "repeats": chosen.repeats}, rows)


if __name__ == "__main__":
    main()
