"""Closed forms of Gaussian moments: equikernel beside SymPy's integrate and mpmath.quad.

    .venv/bin/python benchmarks/closed_forms.py --limit 20 --out closed_forms.json

For every name of the registry: the time for all six moments (and the derived ones) in a new process after import, then
SymPy's ``integrate`` on E[phi^2] alone, in a process that is stopped after ``--limit`` seconds, and mpmath.quad at 50
digits for the same single moment at tau = 1. "unevaluated" is an answer that still contains an integral.
"""

from __future__ import annotations

import math
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
    closed_form_moments("identity")  # what SymPy imports when it is first used is no time of ours
    start = time.perf_counter()
    try:
        forms = closed_form_moments(phi)
    except NoClosedFormError as error:
        answers.put(
            (time.perf_counter() - start, str(error).split(" is not ", maxsplit=1)[0] + " is outside the class")
        )
        return
    answers.put((time.perf_counter() - start, f"{sum(m in forms.expressions for m in RAW)} of {len(RAW)} raw moments"))


def _integrate(name: str, answers: Any) -> None:
    phi = activation(name).expr
    density = sp.exp(-(X**2) / (2 * TAU**2)) / (sp.sqrt(2 * sp.pi) * TAU)
    start = time.perf_counter()
    try:
        value = sp.integrate(phi.rewrite(sp.Piecewise) ** 2 * density, (X, -sp.oo, sp.oo))
    except (NotImplementedError, ValueError, TypeError, AttributeError, RecursionError) as error:
        answers.put((time.perf_counter() - start, type(error).__name__))
        return
    unevaluated = value.has(sp.Integral) or value.has(sp.meijerg)
    answers.put((time.perf_counter() - start, "unevaluated" if unevaluated else "closed"))


def in_a_process(work: Callable[[str, Any], None], name: str, limit: float) -> tuple[float, str]:
    """Seconds of ``work`` in a new process, and what came out; stopped after ``limit`` seconds."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=work, args=(name, answers))
    process.start()
    process.join(limit + 3)  # the interpreter and SymPy take a while to start
    if process.is_alive():
        process.terminate()
        process.join()
        return limit, "no answer"
    return answers.get(timeout=5) if process.exitcode == 0 else (limit, f"exit code {process.exitcode}")


def quads(name: str) -> float:
    """Seconds of mpmath.quad on E[phi^2] at tau = 1, split at the breakpoints."""
    phi = activation(name)
    function = phi.function("mpmath", digits=_DIGITS)
    points = [-mpmath.inf, *(mpmath.mpf(float(b)) for b in phi.breakpoints), mpmath.inf]
    with mpmath.workdps(_DIGITS):
        start = time.perf_counter()
        try:
            mpmath.quad(lambda x: function(x) ** 2 * mpmath.npdf(x), points)
        except OverflowError:  # it samples the integrand very far out
            return math.nan
    return time.perf_counter() - start


def main() -> None:
    """Print the table, and write it where asked."""
    parser = arguments("Closed forms beside SymPy's integrate and mpmath.quad.", repeats=1)
    parser.add_argument("names", nargs="*", default=registry_names())
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for SymPy, each")
    chosen = parser.parse_args()
    rows = []
    print(f"{'activation':14}{'ours, s':>9}  {'result':42}{'integrate, s':>13}  {'result':14}{'quad 50, s':>11}")
    for name in chosen.names:
        runs = [in_a_process(_derive, name, chosen.limit) for _ in range(chosen.repeats)]
        seconds, result = statistics.median(run[0] for run in runs), runs[0][1]
        theirs, answer = in_a_process(_integrate, name, chosen.limit)
        quad = quads(name)
        print(f"{name:14}{seconds:9.3f}  {result[:40]:42}{theirs:13.2f}  {answer:14}{quad:11.3f}", flush=True)
        rows.append(
            {"name": name, "ours": seconds, "result": result, "integrate": theirs, "answer": answer, "quad": quad}
        )
    write_record(chosen.out, {"limit": chosen.limit, "repeats": chosen.repeats}, rows)


if __name__ == "__main__":
    main()
