"""Exact implicit CK and NTK against a vectorised NumPy fixed point (exact_plain.py), one process, in turns.

    .venv/bin/python benchmarks/exact_numpy.py --n 2000 --out exact_numpy.json

"equikernel first" is an activation that was not met before in the process, "equikernel" one that was. The plain
implementation gets 32 Hermite terms on the mixture, enough for full accuracy, and on images the fewest with which its
G and K are right to 1e-10 of the largest entry (kinked activations need too many there, and are left out). "plain,
spared" knows more than it could: the fewest terms everywhere, and on images it stops once r moves less than 1e-11.
NumPy's passes over (n, n) arrays use one thread whatever is asked for; its matrix product uses all of them.

Errors are relative to the largest entry, on pairs drawn at random and the pairs with the largest cosines, against
Newton's iteration on two-dimensional quadrature.

Operations on pairs are counted, multiplications and additions alike. Gram matrix: n (n + 1) p for one triangle. Plain:
3 a term, entry and sweep, n^2 entries. Series: what the series itself asks of n (n - 1)/2 pairs, a start by a
polynomial of degree 5 (10), a Newton step with half of the terms (5 a term: product, value, slope), one step of third
order (7 a term: product, value, two derivatives) and 20 for the rest; the terms of a pair end where the rest is below
1e-16. It is a count from the coefficients of the plain implementation, not an observation of equikernel.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from exact_common import (
    Data,
    FloatArray,
    benchmark_parser,
    data_of,
    draw_ratios,
    finish,
    kernels_of,
    network,
    print_setting,
    ratio,
    spread,
    take_paired_turns,
    use_threads,
    verdict,
)
from exact_plain import (
    PlainResult,
    Problem,
    closest_pairs,
    least_terms,
    needed_per_pair,
    plain_kernels,
    reference_pair,
    reference_variance,
)

_TARGETS = {("gmm", "relu"): 12.0, ("image", "tanh"): 45.0}
_ACCURACY = {"gmm": 1e-15, "image": 1e-10}
_STOP = {"gmm": 4e-16, "image": 1e-11}
_USUAL_TERMS = 32
_RANDOM, _CLOSE = 16, 8  # pairs compared with references


def _compared_pairs(X: FloatArray) -> list[tuple[int, int]]:
    generator = np.random.default_rng(0)
    drawn = [tuple(generator.choice(len(X), 2, replace=False)) for _ in range(_RANDOM)]
    return [(int(i), int(j)) for i, j in (*drawn, *zip(*closest_pairs(X, _CLOSE), strict=True))]


def errors(X: FloatArray, problem: Problem, kernels: dict[str, tuple[FloatArray, FloatArray]]) -> dict[str, Any]:
    """The largest errors of G and K on the compared pairs, relative to the largest entries, by contender."""
    centre = problem.centre()
    pairs, truth = _compared_pairs(X), []
    for i, j in pairs:
        q_i, q_j = (reference_variance(problem, centre, problem.sigma_b2 * float(x @ x)) for x in (X[i], X[j]))
        value, slope = reference_pair(problem, centre, q_i, q_j, problem.sigma_b2 * float(X[i] @ X[j]))
        truth.append((value, value / (1.0 - problem.sigma_a2 * slope)))
    return {
        who: {
            name: float(
                max(abs(M[i, j] - true[place]) for (i, j), true in zip(pairs, truth, strict=True)) / np.abs(M).max()
            )
            for place, (name, M) in enumerate(zip(("ck", "ntk"), found, strict=True))
        }
        for who, found in kernels.items()
    }


def series_operations(X: FloatArray, problem: Problem) -> float:
    """Operations that the series asks of one pair, the mean over 2000 pairs drawn at random."""
    generator = np.random.default_rng(1)
    i = generator.integers(0, len(X), 2000)
    j = (i + generator.integers(1, len(X), 2000)) % len(X)
    return float(np.mean(30.0 + (5.0 / 2.0 + 7.0) * needed_per_pair(X, problem, (i, j))))


def _counts(X: FloatArray, problem: Problem, plain: PlainResult, terms: int) -> dict[str, float]:
    n, p = X.shape
    return {
        "gram": float(n * (n + 1) * p),
        "series": series_operations(X, problem) * n * (n - 1) / 2.0,
        "plain": 3.0 * n * n * terms * (plain.sweeps + 2),
        "bytes_written": 16.0 * n * n,
        # a sweep reads and writes three matrices for every term (r, total, product), value and slope once more
        "plain_bytes": 8.0 * 5.0 * n * n * terms * (plain.sweeps + 2),
    }


def run(source: str, name: str, data: Data, threads: int, repeats: int) -> dict[str, Any] | None:
    """One activation on one data set: times, ratios, errors and counted operations; None if plain cannot do it."""
    X, problem, deq = data.X, Problem(name), network(name)
    fewest = least_terms(X, problem, _ACCURACY[source], closest_pairs(X, 64))
    if fewest is None:
        return None
    terms = max(fewest, _USUAL_TERMS)
    ours, plain = kernels_of(X, deq, threads), plain_kernels(X, problem, terms)
    spared = plain_kernels(X, problem, fewest, _STOP[source])
    fresh = itertools.count(1)
    seconds = take_paired_turns(
        {
            # another constant makes another activation with the same kernels, so that nothing is found tabulated
            "equikernel first": lambda: kernels_of(X, network(f"{name}(x) + {next(fresh)}/1000"), threads),
            "equikernel": lambda: kernels_of(X, deq, threads),
            "plain": lambda: plain_kernels(X, problem, terms),
            "plain, spared": lambda: plain_kernels(X, problem, fewest, _STOP[source]),
            "gram": lambda: X @ X.T,
        },
        repeats,
    )
    rivals = {"equikernel": ours, "plain": plain, "plain, spared": spared}
    return {
        "data": source,
        "source": data.source,
        "activation": name,
        "n": len(X),
        "terms": {"plain": terms, "plain, spared": fewest},
        "sweeps": {"plain": plain.sweeps, "plain, spared": spared.sweeps},
        "seconds": {who: spread(taken) for who, taken in seconds.items()},
        "ratios": {
            "plain / equikernel": ratio(seconds["plain"], seconds["equikernel"]),
            "plain / equikernel first": ratio(seconds["plain"], seconds["equikernel first"]),
            "plain, spared / equikernel": ratio(seconds["plain, spared"], seconds["equikernel"]),
            "equikernel / gram": ratio(seconds["equikernel"], seconds["gram"]),
        },
        "target": _TARGETS.get((source, name)),
        "errors": errors(X, problem, {who: (found.ck, found.ntk) for who, found in rivals.items()}),
        "largest_difference": float(np.abs(ours.ck - plain.ck).max() / np.abs(ours.ck).max()),
        "counts": _counts(X, problem, plain, terms),
    }


def _print(row: dict[str, Any]) -> None:
    print(f"\n{row['activation']} on {row['data']}, n = {row['n']} ({row['source']})")
    for who, taken in row["seconds"].items():
        kind = f", {row['terms'][who]} terms, {row['sweeps'][who]} sweeps" if who in row["terms"] else ""
        print(f"  {who:17s} {taken['median']:.3f} s ({taken['least']:.3f} to {taken['largest']:.3f}){kind}")
    for name, found in row["ratios"].items():
        target = row["target"] if name == "plain / equikernel" else None
        print(f"  {name}: {verdict(found, target, at_least=True)}")
    print("  errors of CK/NTK: " + ", ".join(f"{who} {e['ck']:.0e}/{e['ntk']:.0e}" for who, e in row["errors"].items()))
    counts, pairs = row["counts"], row["n"] * (row["n"] - 1) / 2
    print(
        f"  operations: Gram {counts['gram']:.2e}, series {counts['series']:.2e} "
        f"({counts['series'] / pairs:.0f} a pair), plain {counts['plain']:.2e}; "
        f"bytes: kernels written {counts['bytes_written']:.2e}, plain {counts['plain_bytes']:.1e}"
    )


def main() -> None:
    """Run every case, print it, and write the record and the figure."""
    parser = benchmark_parser("exact implicit kernels against a vectorised NumPy fixed point", repeats=5)
    parser.add_argument("--n", type=int, default=2000, help="samples")
    parser.add_argument("--cases", default="gmm:relu,gmm:tanh,gmm:gelu,image:tanh", help="data:activation, ...")
    given = parser.parse_args()
    use_threads(given.threads)
    print_setting(given)
    rows = []
    for case in given.cases.split(","):
        source, _, name = case.partition(":")
        row = run(source, name, data_of(source, given.n), given.threads, given.repeats)
        if row is None:
            print(
                f"\n{name} on {source}: left out, more than 400 Hermite terms for an error of {_ACCURACY[source]:.0e}"
            )
            continue
        _print(row)
        rows.append(row)
    lines = [
        (
            f"{row['activation']}, {row['data']}: {name.partition(' / ')[0]}",
            row["ratios"][name],
            row["target"] if name == "plain / equikernel" else None,
        )
        for row in rows
        for name in ("plain / equikernel", "plain, spared / equikernel")
    ]
    finish(given, rows, lambda figure: draw_ratios(figure, lines, f"seconds over equikernel's, n = {given.n}"))


if __name__ == "__main__":
    main()
