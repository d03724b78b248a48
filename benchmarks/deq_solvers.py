"""Fixed points of DEQs: against their matrix products alone, and against the published algorithm.

    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/deq_solvers.py --out deq_solvers.json

First part. A solve with m = 2000, n = 1000, p = 784, sigma_a2 = 0.2 to the default tolerance of each type, in turns
with "products": the same matrix products, of the same shapes, in the same types and by the same function, and nothing
else (the samples at work in every iteration are replayed), and with "matmul", the same by torch.matmul. "share" and
"of matmul" are their least times over the least time of the solve; times are of the processor with one thread
(--threads 1, the default), which the work of others on the machine disturbs less, and of the wall clock otherwise.

Second part. One realisation of the experiment of [Ling24] on Gaussian mixtures: p = 500, n = 400, m = 1000, two
networks' weights drawn, the fixed point, the Gram matrix. "published" is a re-implementation of their algorithm: NumPy,
weights from numpy.random.randn, at most 25 plain steps from zero until the spectral norm of the change is at most 5e-6,
found by a singular value decomposition every step, both products B X and A Z formed anew every step, a change of 5e-6
or less not taken. The others are an ``Ensemble`` of --networks networks at once, a network's time, every sample to
a relative residual of 4e-6, no more than what the published rule leaves (printed), and in the rows "to 1e-12" (float32:
1e-5) to the default tolerance. "parts" is what no implementation is spared that draws the same numbers: drawing 1.5
million normals, X B^T, the products of the iterations and the Gram matrix, by the same functions. Ratios are of least
times.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from timing import arguments, write_record

from equikernel.theory.models import DEQ
from equikernel.validation.deq import maps
from equikernel.validation.deq.ensembles import Ensemble, Networks, centring
from equikernel.validation.deq.options import METHODS, SolverOptions
from equikernel.validation.deq.products import multiply
from equikernel.validation.explicit_networks import gram

_WIDTH, _SAMPLES, _FEATURES, _A2 = 2000, 1000, 784, 0.2
_REALISATION_TOL = 4e-6
_TYPES = {"float64": (torch.float64, False), "float32": (torch.float32, False), "mixed": (torch.float64, True)}


def _turns(contenders: Mapping[str, Callable[[], Any]], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    least = dict.fromkeys(contenders, math.inf)
    for count in range(repeats + 1):
        for name, run in contenders.items():
            gc.collect()
            start = clock()
            run()
            if count:
                least[name] = min(least[name], clock() - start)
    return least


def _samples(n: int, p: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, p)) / math.sqrt(p)


def _ensemble(name: str, dtype: torch.dtype, options: SolverOptions, shape: tuple[int, int, int]) -> Ensemble:
    m, n, p = shape
    deq = DEQ(name, _A2, 1.0 - _A2)
    return Ensemble(deq, torch.tensor(_samples(n, p), dtype=dtype), m, *centring(deq, 1.0), options)


def _products(
    networks: Networks, at_work: list[tuple[int, torch.dtype]], product: Callable[..., torch.Tensor] = multiply
) -> Callable[[], None]:
    weights = {dtype: networks.weight.to(dtype) for dtype in {dtype for _, dtype in at_work}}
    states = {dtype: networks.shift.to(dtype) for dtype in weights}
    outputs = {dtype: torch.empty_like(state) for dtype, state in states.items()}

    def run() -> None:
        for count, dtype in at_work:
            product(states[dtype][:, :count], weights[dtype], outputs[dtype][:, :count])

    return run


def _matmul(z: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    return torch.matmul(z, weight.mT, out=out)


def _parts(ensemble: Ensemble, count: int) -> Callable[[], None]:
    """Drawing, X B^T, the products of the iterations and the Gram matrices of ``count`` networks, and nothing else."""
    m, p = ensemble.width, ensemble.X.shape[1]
    streams = [np.random.default_rng(k) for k in range(count)]
    networks = ensemble.draw(streams)
    products = _products(networks, _work(ensemble, networks))
    inputs, normals = ensemble.X.new_ones(count * m, p), [np.empty((m, m + p)) for _ in streams]

    def run() -> None:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(lambda stream, out: stream.standard_normal(out=out), streams, normals))
        multiply(ensemble.X, inputs)
        products()
        for state in networks.shift:
            gram(state.T)

    return run


def _work(ensemble: Ensemble, networks: Networks) -> list[tuple[int, torch.dtype]]:
    """Samples and type of every matrix product of a solve."""
    seen: list[tuple[int, torch.dtype]] = []

    def noted(z: torch.Tensor, weight: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        seen.append((z.shape[-2], z.dtype))
        return multiply(z, weight, out)

    maps.multiply = noted
    try:
        ensemble.states(networks)
    finally:
        maps.multiply = multiply
    return seen


def _solves(repeats: int, clock: Callable[[], float], names: list[str], methods: list[str]) -> list[dict[str, Any]]:
    rows = []
    print(f"{'':28}{'iterations':>11}{'in float32':>11}{'solve s':>9}{'products s':>11}{'share':>7}{'of matmul':>11}")
    for name in names:
        for label, (dtype, mixed) in _TYPES.items():
            for method in methods:
                options = SolverOptions(method, mixed=mixed)
                ensemble = _ensemble(name, dtype, options, (_WIDTH, _SAMPLES, _FEATURES))
                networks = ensemble.draw([np.random.default_rng(1)])
                _, report = ensemble.states(networks)
                work = _work(ensemble, networks)
                contenders = {
                    "solve": lambda e=ensemble, w=networks: e.states(w),
                    "products": _products(networks, work),
                    "matmul": _products(networks, work, _matmul),
                }
                taken = _turns(contenders, repeats, clock)
                share, of_matmul = (taken[key] / taken["solve"] for key in ("products", "matmul"))
                rows.append(
                    {"activation": name, "type": label, **report.to_dict(), **taken, "share": share}
                    | {"share of matmul": of_matmul}
                )
                print(
                    f"{name + ' ' + label + ' ' + method:28}{report.most_iterations:11}{int(report.single.max()):11}"
                    f"{taken['solve']:9.3f}{taken['products']:11.3f}{share:7.2f}{of_matmul:11.2f}",
                    flush=True,
                )
    return rows


def _published(phi: Callable[[np.ndarray], np.ndarray], X: np.ndarray, m: int) -> tuple[np.ndarray, int, float]:
    """Gram matrix, steps, and the largest relative change of a sample in the last step; X has samples in columns."""
    p, n = X.shape
    B, A = np.random.randn(m, p), np.random.randn(m, m)  # noqa: NPY002 - theirs
    Z = np.zeros((m, n))
    steps = 0
    for steps in range(1, 26):  # noqa: B007 - counted for the report
        new = phi(math.sqrt(_A2) * A @ Z + math.sqrt(1 - _A2) * B @ X) / math.sqrt(m)
        if np.linalg.norm(Z - new, 2) <= 5e-6:
            break
        Z = new
    change = np.linalg.norm(new - Z, axis=0) / np.linalg.norm(new, axis=0)
    return Z.T @ Z, steps, float(change.max())


def _kernels(ensemble: Ensemble, count: int) -> list[np.ndarray]:
    states, _ = ensemble.states(ensemble.draw([np.random.default_rng(k) for k in range(count)]))
    return [gram(one.T) for one in states]


def _realisations(repeats: int, clock: Callable[[], float], names: list[str], count: int) -> list[dict[str, Any]]:
    p, n, m = 500, 400, 1000
    functions = {"relu": lambda x: np.maximum(0, x), "tanh": np.tanh}
    rows = []
    for name in names:
        function = functions[name]
        mean = centring(DEQ(name, _A2, 1.0 - _A2), 1.0)[0]
        X = _samples(n, p).T
        _, steps, change = _published(lambda x, f=function, c=mean: f(x) - c, X, m)
        contenders: dict[str, Callable[[], Any]] = {
            "published": lambda f=function, c=mean, data=X: _published(lambda x: f(x) - c, data, m)
        }
        for label, (dtype, mixed) in _TYPES.items():
            close, default = (
                _ensemble(name, dtype, SolverOptions(tol=tol, mixed=mixed), (m, n, p))
                for tol in (_REALISATION_TOL, None)
            )
            finest = "to 1e-5" if dtype == torch.float32 else "to 1e-12"
            contenders[label] = lambda e=close: _kernels(e, count)
            contenders[f"{label}, {finest}"] = lambda e=default: _kernels(e, count)
            contenders[f"{label}, parts"] = _parts(close, count)
            contenders[f"{label}, drawing"] = lambda e=close: e.draw([np.random.default_rng(k) for k in range(count)])
        taken = _turns(contenders, repeats, clock)
        print(f"\n{name}: published algorithm {steps} steps, last relative change of a sample {change:.1e}")
        for label, total in taken.items():
            seconds = total if label == "published" else total / count
            ratio = taken["published"] / seconds
            rows.append({"activation": name, "contender": label, "seconds": seconds, "ratio": ratio})
            print(f"  {label:24}{1e3 * seconds:9.1f} ms{ratio:8.1f} x", flush=True)
    return rows


def main() -> None:
    """Print the tables, and write them where asked."""
    parser = arguments(__doc__ or "", repeats=3)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--threads", type=int, default=1, help="of torch; times are of the processor for 1")
    parser.add_argument("--networks", type=int, default=1, help="solved at once in the second part")
    parser.add_argument("--methods", default=",".join(METHODS), help="for the first part; an empty list skips it")
    parser.add_argument("--activations", default="relu,tanh", help="of these two")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.threads == 1 else time.perf_counter
    names, methods = given.activations.split(","), [method for method in given.methods.split(",") if method]
    rows = _solves(given.repeats, clock, names, methods) + _realisations(given.repeats, clock, names, given.networks)
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
