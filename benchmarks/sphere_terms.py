"""Error of the sphere design against its number of terms: the proved bound, what is seen on data, and the time.

    python benchmarks/sphere_terms.py [--match ntk] [--names relu,tanh,gelu] [--out FILE.json]

The error is relative to the diagonal, sigma_a2 = 1/5, sigma_b2 = 4/5, r = 1. "Seen" is the largest difference between
the exact kernels of the DEQ and of the network on 200 samples, which the diagonal attains.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from timing import arguments, write_record

from equikernel.numerics.designs.sphere import sphere_design
from equikernel.numerics.kernels import explicit_kernels, implicit_kernels
from equikernel.theory.models import DEQ

_TERMS = (5, 10, 20, 50, 100, 200, 500, 1000)
_ENOUGH = 1e-15  # proved: more terms would only take time


def measure(name: str, match: str, X: Any) -> list[dict[str, Any]]:
    """The rows of one activation."""
    deq = DEQ(name)
    kernels = implicit_kernels(X, deq, tau0=1, trained="aA")
    rows: list[dict[str, Any]] = []
    for terms in _TERMS:
        start = time.perf_counter()
        design = sphere_design(deq, 1, match, terms=terms)
        seconds = time.perf_counter() - start
        found = explicit_kernels(X, design.network)
        ours, theirs = (found.ck, kernels.ck) if match == "ck" else (found.ntk, kernels.ntk)
        proved, seen = float(design.relative_error), float(np.abs(ours - theirs).max() / theirs.max())
        rows.append({"activation": name, "terms": terms, "proved": proved, "seen": seen, "seconds": seconds})
        rows[-1]["steepness"] = design.steepness
        if proved < _ENOUGH:
            break
    return rows


def main() -> None:
    """Print the table row by row, and write the record."""
    parser = arguments("Error of the sphere design against its number of terms", repeats=1)
    parser.add_argument("--match", default="ck", choices=("ck", "ntk"))
    parser.add_argument("--names", default="relu,tanh,silu,gelu,elu,cos")
    given = parser.parse_args()
    X = np.random.default_rng(0).normal(size=(200, 10))
    X /= np.linalg.norm(X, axis=1)[:, None]
    sphere_design(DEQ("tanh"), terms=3)  # compiled functions are made here
    print(f"| activation | terms | proved | seen | max slope | seconds |\n|{'---|' * 6}")
    rows = []
    for name in given.names.split(","):
        for row in measure(name, given.match, X):
            numbers = f"{row['proved']:.2g} | {row['seen']:.2g} | {row['steepness']:.3g} | {row['seconds']:.2g}"
            print(f"| {name} | {row['terms']} | {numbers} |", flush=True)
            rows.append(row)
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
