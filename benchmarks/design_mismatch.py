"""How equivalent the equivalent networks are at finite n and p: distances of exact kernels from the DEQ's.

    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/design_mismatch.py images --out images.json
    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/design_mismatch.py mixture --out mixture.json
    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/design_mismatch.py width --out width.json

sigma_a2 = 0.2, sigma_b2 = 0.8, tau0 = 1. Distances are relative: of images and of the mixture in operator norm.

"images": Fashion-MNIST as the loader gives it (centred, mean of ||x||^2 one) and normalised to the sphere. "Promised"
is what the high-dimensional equivalent misses there: what designs may miss asymptotically. "Fitted" is ``fit_design``
in a family with freedom, on 150 samples, measured on all; "NTK" the design of the NTK with learning rates of its own;
"sphere" the exact network on the sphere, whose largest error relative to the diagonal is proved beforehand.

"mixture": three isotropic classes, mixture_family("isotropic3"), n = p/2. For every solution of every family, and for
arbitrary points of the continua of solutions, the distance of the CK and the distance of the terms of third order by
which the solutions are ranked: Spearman's correlation of the two, and the table.

"width": one torch network of width 8192, its CK and NTK against the limit and the DEQ's, in the Frobenius norm. "Noise"
is the standard deviation of one such network, from eight of width 1024 by 1/sqrt(width).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats
from design_common import deq_of, markdown
from timing import arguments, write_record

from equikernel.errors import SolutionError
from equikernel.numerics.designs.compare import compare_families, kernel_mismatch
from equikernel.numerics.designs.equivalent import attempt_design, equivalent_network, network_of
from equikernel.numerics.designs.on_data import fit_design
from equikernel.numerics.designs.problem import DesignProblem
from equikernel.numerics.designs.search import SOLVED, levenberg, ranked
from equikernel.numerics.designs.sphere import sphere_design
from equikernel.numerics.kernels import explicit_kernels, implicit_kernels
from equikernel.numerics.norms import operator_norm
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.datasets import load_dataset
from equikernel.validation.empirical import empirical_explicit_ck, empirical_explicit_ntk, network_draws
from equikernel.validation.mixtures import mixture_family

__all__ = ["image_rows", "mixture_rows", "width_rows"]

FloatArray = npt.NDArray[np.float64]
_Row = dict[str, Any]
_NAMES = ("relu", "tanh", "gelu", "silu", "elu")
_SIGMA_A2 = "0.2"
_SAMPLES = 1000
_FAMILIES = ("hard-tanh", "leaky-relu", "piecewise-linear", "smooth", "erf", "hermite-cubic")  # what auto chooses from
_FITTED = {"tanh": "erf"}  # whose smooth design leaves nothing free
_SIZES = (480, 960, 1920)
_ARBITRARY = 12  # points of each continuum
_WIDTH, _NARROW, _DRAWS, _IMAGES = 8192, 1024, 8, 100


# -- images ------------------------------------------------------------------------------------------------------------


def image_rows(name: str, data: str, X: FloatArray) -> Iterator[_Row]:
    """One line for each network: what it is, and how far its CK and NTK are from the DEQ's."""
    deq = deq_of(name, _SIGMA_A2)
    common = {"activation": name, "data": data}

    def row(which: str, network: Any, **more: Any) -> _Row:
        start = time.perf_counter()
        found = kernel_mismatch(deq, network, X)
        return common | {"which": which, **found.to_dict(), "seconds": time.perf_counter() - start, **more}

    auto = equivalent_network(deq, 1)
    yield row(f"auto ({auto.family})", auto)  # type: ignore[union-attr]
    for entry in compare_families(deq, X, tau0=1, families=_FAMILIES):
        if entry.mismatch is not None and entry.design is not None:
            yield common | {"which": f"{entry.family} ({entry.design.depth})", **entry.mismatch.to_dict()}
    family = _FITTED.get(name, "smooth")
    try:
        fitted = fit_design(deq, X, family, tau0=1)
        yield row(f"fitted ({family})", fitted.design, before=fitted.before, after=fitted.after, freedom=fitted.freedom)
    except SolutionError as error:
        print(f"{name}, {data}, fitted: {error}")
    free = equivalent_network(deq, 1, "ntk", rates="free")
    yield row(f"NTK ({free.family})", free)  # type: ignore[union-attr]
    if data == "sphere":
        for match in ("ck", "ntk"):
            exact = sphere_design(deq, 1, match)
            yield row(f"sphere, {match.upper()} ({exact.terms} terms)", exact, proved=float(exact.relative_error))


def images(names: list[str]) -> list[_Row]:
    """Print the table of both data sets."""
    raw = load_dataset("fashion-mnist", n=_SAMPLES).X
    on_sphere = raw / np.linalg.norm(raw, axis=1)[:, None]
    print(f"n = {len(raw)}, ||x||^2 has standard deviation {np.einsum('ij,ij->i', raw, raw).std():.2f}")
    columns = ["activation", "data", "network", "CK", "promised", "NTK", "promised", "remarks"]
    print(markdown(columns) + f"\n|{'---|' * len(columns)}")
    rows = []
    for name in names:
        for data, X in (("raw", raw), ("sphere", on_sphere)):
            for row in image_rows(name, data, X):
                remark = f"proved {row['proved']:.1e}" if "proved" in row else ""
                if "freedom" in row:
                    remark = f"{row['before']:.2g} to {row['after']:.2g} on 150 samples, {row['freedom']} free"
                keys = ("ck", "promised_ck", "ntk", "promised_ntk")
                numbers = ["" if row[key] is None else f"{row[key]:.2g}" for key in keys]
                print(markdown([name, data, row["which"], *numbers, remark]), flush=True)
                rows.append(row)
    return rows


# -- mixture -----------------------------------------------------------------------------------------------------------


def _arbitrary(problem: DesignProblem) -> list[tuple[float, FloatArray]]:
    """Solutions as they are met from arbitrary starts, with the distance of their third-order terms."""
    x, r = levenberg(problem.residuals, problem.starts(200, 1), 60)
    solved = x[np.abs(r).max(axis=1) <= SOLVED]
    found = ranked(problem, solved)
    chosen = np.random.default_rng(0).permutation(len(found))[:_ARBITRARY]
    return [(found[k].distance, found[k].unknowns) for k in chosen]


def networks(deq: DEQ) -> list[tuple[str, bool, float, ExplicitNetwork]]:
    """Family, whether the search took it, distance of the third-order terms, and the network."""
    made = []
    for name in _FAMILIES:
        try:
            attempt = next(iter(attempt_design(deq, 1, "ck", "auto", name)[0]))
        except SolutionError:
            continue
        problem, solutions = attempt.problem, attempt.solutions
        made += [(name, True, f.distance, network_of(problem, f.unknowns)) for f in solutions.found]
        if problem.unknowns > problem.equations:
            made += [(name, False, d, network_of(problem, u)) for d, u in _arbitrary(problem)]
    return made


def mixture_rows(name: str, sizes: tuple[int, ...]) -> list[_Row]:
    """One line for each network, with its distances at every size."""
    deq = deq_of(name, _SIGMA_A2)
    rows: list[_Row] = [
        {"activation": name, "family": family, "picked": picked, "third_order": distance, "network": network}
        for family, picked, distance, network in networks(deq)
    ]
    for p in sizes:
        X = mixture_family("isotropic3")(p).sample(p // 2, seed=0).X
        G = implicit_kernels(X, deq, tau0=1, ntk=False).ck
        size = operator_norm(G)
        for row in rows:
            row[str(p)] = operator_norm(explicit_kernels(X, row["network"], ntk=False).ck - G) / size
    for row in rows:
        row["network"] = [layer.activation.name for layer in row["network"].layers]
    return sorted(rows, key=lambda row: row["third_order"])


def mixture(names: list[str]) -> list[_Row]:
    """Print the correlations, and the best, the median and the worst networks."""
    columns = ["activation", "p", "networks", "Spearman", "Spearman, picked", "best by third order", "least", "median"]
    columns += ["largest", "auto"]
    print(markdown(columns) + f"\n|{'---|' * len(columns)}")
    rows, lines = [], []
    for name in names:
        found = mixture_rows(name, _SIZES)
        auto = equivalent_network(deq_of(name, _SIGMA_A2), 1)
        for p in map(str, _SIZES):
            mismatch = np.array([row[p] for row in found])
            picked = [row for row in found if row["picked"]]
            both = [_spearman(group, p) for group in (found, picked)]
            of_auto = next(row[p] for row in picked if row["family"] == auto.family)  # type: ignore[union-attr]
            numbers = [mismatch[0], mismatch.min(), np.median(mismatch), mismatch.max(), of_auto]
            cells = [f"{len(found)} ({len(picked)} picked)", *both, *(f"{value:.2g}" for value in numbers)]
            print(markdown([name, p, *cells]), flush=True)
        lines += [_mixture_line(row) for row in found if row["picked"]]
        rows += found
    print("\n" + markdown(["activation", "family", "third order", *(f"p = {p}" for p in _SIZES)]) + f"\n|{'---|' * 6}")
    print("\n".join(lines))
    return rows


def _spearman(rows: list[_Row], p: str) -> str:
    if len(rows) < 4:  # fewer ranks say nothing
        return ""
    found = scipy.stats.spearmanr([row["third_order"] for row in rows], [row[p] for row in rows]).statistic
    return f"{found:.2f} of {len(rows)}"


def _mixture_line(row: _Row) -> str:
    numbers = [f"{row[str(p)]:.2g}" for p in _SIZES]
    return markdown([row["activation"], row["family"], f"{row['third_order']:.2g}", *numbers])


# -- width -------------------------------------------------------------------------------------------------------------


def _distance(kernel: FloatArray, other: FloatArray) -> float:
    return float(np.linalg.norm(kernel - other) / np.linalg.norm(other))


def width_rows(name: str, X: FloatArray) -> Iterator[_Row]:
    """CK of the CK's design and NTK of the NTK's, each of one network of width 8192."""
    deq = deq_of(name, _SIGMA_A2)
    of_deq = implicit_kernels(X, deq, tau0=1)
    for match in ("ck", "ntk"):
        design = equivalent_network(deq, 1, match, rates="equal" if match == "ck" else "free")
        network = design.network
        limit, trained, average, exact = (
            (explicit_kernels(X, network, ntk=False).ck, None, empirical_explicit_ck, of_deq.ck)
            if match == "ck"
            else (explicit_kernels(X, network).ntk, "all", empirical_explicit_ntk, of_deq.ntk)
        )
        assert limit is not None
        assert exact is not None
        start = time.perf_counter()
        (draw,) = network_draws(X, network, width=_WIDTH, draws=[0], seed=0, trained=trained)
        seconds = time.perf_counter() - start
        narrow = average(X, network, width=_NARROW, draws=_DRAWS, seed=1)
        one = float(np.linalg.norm(narrow.standard_error)) * math.sqrt(_DRAWS) / float(np.linalg.norm(limit))
        yield {
            "activation": name,
            "kernel": match.upper(),
            "family": f"{design.family}, {network.depth}",  # type: ignore[union-attr]
            "network_to_limit": _distance(draw.kernel, limit),
            "noise": one * math.sqrt(_NARROW / _WIDTH),
            "network_to_deq": _distance(draw.kernel, exact),
            "limit_to_deq": _distance(limit, exact),
            "seconds": seconds,
        }


def width(names: list[str]) -> list[_Row]:
    """Print the table. Needs torch."""
    X = load_dataset("fashion-mnist", n=_IMAGES).X
    columns = [
        "activation",
        "kernel",
        "design, depth",
        "network to limit",
        "noise",
        "network to DEQ",
        "limit to DEQ",
        "s",
    ]
    print(markdown(columns) + f"\n|{'---|' * len(columns)}")
    rows = []
    for name in names:
        for row in width_rows(name, X):
            keys = ("network_to_limit", "noise", "network_to_deq", "limit_to_deq")
            numbers = [f"{row[key]:.4f}" for key in keys]
            print(markdown([name, row["kernel"], row["family"], *numbers, f"{row['seconds']:.1f}"]), flush=True)
            # within chance: the relative error of a norm of many entries is small, though they are correlated
            assert row["network_to_limit"] < 3 * row["noise"], row
            rows.append(row)
    return rows


_PARTS = {"images": images, "mixture": mixture, "width": width}


def main() -> None:
    """Print one of the tables, and write the record."""
    parser = arguments("Exact kernels of designs against the DEQ's", repeats=1)
    parser.add_argument("part", choices=list(_PARTS))
    parser.add_argument("--names", nargs="+", default=list(_NAMES))
    given = parser.parse_args()
    start = time.perf_counter()
    rows = _PARTS[given.part](given.names)
    print(f"{time.perf_counter() - start:.0f} s in all")
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
