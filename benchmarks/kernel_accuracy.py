"""Errors of the exact kernels on awkward data: equikernel against the high-precision truth of tests/data.

    .venv/bin/python benchmarks/kernel_accuracy.py --out kernel_accuracy.json

A line for each case and activation: the largest errors of the conjugate kernel G and of the neural tangent kernel K
("aA" and "aAB"; one K for an explicit network), relative to the largest entry of G and of K. "edge" is the largest
sigma_a2 E[phi'^2] or slope of a variance's equation, whichever is larger: at 1 there is no kernel. What the cases are
is said in tests/data/make_kernel_truth.py. Last come the worst figure of each kernel and what is above its target.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timing import write_record

from equikernel.errors import EquikernelError
from equikernel.numerics.kernels import explicit_kernels, implicit_kernels
from equikernel.theory.models import DEQ, ExplicitNetwork

__all__ = ["TARGETS", "label", "measured", "relative_error", "truth"]

FloatArray = npt.NDArray[np.float64]
Case = Mapping[str, Any]
TRUTH = Path(__file__).resolve().parents[1] / "tests" / "data" / "kernel_truth.json"
TARGETS = {"ck": 1e-12, "ntk": 1e-11, "ntk_aA": 1e-11, "ntk_aAB": 1e-11}


def truth() -> list[dict[str, Any]]:
    """Every case, implicit ones first."""
    content = json.loads(TRUTH.read_text())
    return [*content["implicit"], *content["explicit"]]


def label(case: Case) -> str:
    """The activations and the name of the data."""
    return f"{case.get('activation') or ', '.join(case['layers'])}: {case['case']}"


def relative_error(found: FloatArray | None, expected: list[list[str]]) -> float:
    """max|found - expected|/max|expected|, the decimals being rounded to float64; inf for what is missing or NaN."""
    true = np.array(expected, dtype=np.float64)
    error = math.inf if found is None else float(np.abs(found - true).max() / np.abs(true).max())
    return math.inf if math.isnan(error) else error


def measured(case: Case) -> dict[str, float]:
    """Relative errors of equikernel's kernels, by their names in the file.

    Raises:
        EquikernelError: equikernel refuses a case, all of which have kernels.
    """
    X = np.array(case["X"], dtype=np.float64)
    if "layers" in case:
        explicit = explicit_kernels(X, ExplicitNetwork.of(*case["layers"], tau0=float(case["tau0"])))
        return {"ck": relative_error(explicit.ck, case["ck"]), "ntk": relative_error(explicit.ntk, case["ntk"])}
    deq = DEQ(case["activation"], case["sigma_a2"], case["sigma_b2"])
    errors: dict[str, float] = {}
    for trained in ("aA", "aAB"):
        kernels = implicit_kernels(X, deq, tau0=case["tau0"], trained=trained)
        errors["ck"] = max(errors.get("ck", 0.0), relative_error(kernels.ck, case["ck"]))
        errors[f"ntk_{trained}"] = relative_error(kernels.ntk, case[f"ntk_{trained}"])
    return errors


def _row(case: Case) -> dict[str, Any]:
    """One line of the table; a refusal stands in place of the errors."""
    row: dict[str, Any] = {
        key: case[key] for key in ("case", "activation", "layers", "sigma_a2", "edge") if key in case
    }
    try:
        return {**row, "errors": measured(case)}
    except EquikernelError as refusal:
        return {**row, "errors": {}, "refusal": str(refusal)}


def _line(row: Mapping[str, Any]) -> str:
    start = f"{label(row):65} {row.get('sigma_a2', ''):>10} {row.get('edge', ''):>9} "
    if "refusal" in row:
        return f"{start} REFUSED: {row['refusal']}"
    cells = [
        f"{kernel} {error:8.1e}{'!' if error > TARGETS[kernel] else ' '}" for kernel, error in row["errors"].items()
    ]
    return start + "  ".join(cells)


def main() -> None:
    """Print the table, its worst line, and write the record."""
    parser = argparse.ArgumentParser(description="errors of the exact kernels on awkward data")
    parser.add_argument("--only", default="", help="cases whose name (activation: data) has this in it")
    parser.add_argument("--out", type=Path, help="a .json file for the numbers")
    given = parser.parse_args()
    print(f"{'activation: data':65} {'sigma_a2':>10} {'edge':>9}  relative errors, ! above the target")
    rows = []
    for case in truth():
        if given.only in label(case):
            rows.append(_row(case))
            print(_line(rows[-1]), flush=True)
    for kernel, target in TARGETS.items():
        errors = {label(row): row["errors"][kernel] for row in rows if kernel in row["errors"]}
        if errors:
            worst = max(errors, key=lambda name: errors[name])
            above = sum(error > target for error in errors.values())
            print(f"{kernel}: worst {errors[worst]:.1e} ({worst}); {above} of {len(errors)} above {target:.0e}")
    print(f"refused: {sum('refusal' in row for row in rows)} of {len(rows)}")
    for row in rows:
        # JSON has no infinity: a kernel that is missing or NaN is written as null
        row["errors"] = {kernel: e if math.isfinite(e) else None for kernel, e in row["errors"].items()}
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
