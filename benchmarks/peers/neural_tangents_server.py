"""neural-tangents' kernels for benchmarks/exact_neural_tangents.py: requests and answers are JSON, one object a line.

    benchmarks/peers/.venv/bin/python benchmarks/peers/neural_tangents_server.py THREADS

Runs in the environment of requirements-neural-tangents.txt. A request {"net", "arguments", "X", "save"} asks for the
network of that name with these arguments and for its CK and NTK on the matrix in the file X (.npy); they are written to
``save`` (.npz) unless it is null. The answer {"seconds"} is the time of the compiled function alone, in float64, until
its results are there: neither the compilation (it is run once before), nor the copy of X, nor that of the results.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np


def _limit_threads(count: int) -> None:
    """XLA takes as many threads as the process has processors: to be called before jax is imported."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def injected(stax: Any, features: int, depth: int, sigma_a2: float, sigma_b2: float) -> Any:
    """``depth`` ReLU layers into each of which the input is fed again, and a linear readout.

    h <- sigma_a W relu(h) + sigma_b V x with its own W, V in every layer, which is the kernel equation iterated:
    the CK is that of the uncentred DEQ up to the contraction rate to the power ``depth``, and so is the NTK with all
    weights trained: tying the weights does not change it.
    """

    def feed() -> Any:  # stax divides by the number of features; the kernels of theory do not
        return stax.Dense(1, W_std=(sigma_b2 * features) ** 0.5, b_std=None)

    net = feed()
    for _ in range(depth):
        layer = stax.serial(net, stax.Relu(), stax.Dense(1, W_std=sigma_a2**0.5, b_std=None))
        net = stax.serial(stax.FanOut(2), stax.parallel(layer, feed()), stax.FanInSum())
    return stax.serial(net, stax.Relu(), stax.Dense(1, W_std=1.0, b_std=None))


def numerical(stax: Any, features: int, degree: int) -> Any:
    """One hidden layer of tanh, whose dual activation is integrated by Gauss-Hermite quadrature of that degree."""
    import jax.numpy as jnp

    return stax.serial(
        stax.Dense(1, W_std=features**0.5, b_std=None),
        stax.ElementwiseNumerical(jnp.tanh, deg=degree),
        stax.Dense(1, W_std=1.0, b_std=None),
    )


_NETS: dict[str, Callable[..., Any]] = {"injected": injected, "numerical": numerical}


class _Server:
    """Compiled kernel functions by network, and the data that was read last."""

    def __init__(self) -> None:
        import jax
        from neural_tangents import stax

        jax.config.update("jax_enable_x64", True)
        self._jax, self._stax = jax, stax
        self._functions: dict[str, Any] = {}
        self._data: tuple[str, Any] = ("", None)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        key = json.dumps([request["net"], request["arguments"], request["X"]], sort_keys=True)
        if request["X"] != self._data[0]:
            self._data = (request["X"], self._jax.numpy.asarray(np.load(request["X"])))
        X = self._data[1]
        if key not in self._functions:
            kernel = _NETS[request["net"]](self._stax, X.shape[1], **request["arguments"])[2]
            function = self._jax.jit(lambda x: tuple(kernel(x, None, ("nngp", "ntk"))))
            self._jax.block_until_ready(function(X))
            self._functions = {key: function}
        start = time.perf_counter()
        found = self._jax.block_until_ready(self._functions[key](X))
        seconds = time.perf_counter() - start
        if request["save"]:
            np.savez(request["save"], ck=np.asarray(found[0]), ntk=np.asarray(found[1]))
        return {"seconds": seconds}


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr  # whatever the packages print is no answer
    warnings.simplefilter("ignore")  # FanInSum warns at every layer that its branches must be independent: they are
    _limit_threads(int(sys.argv[1]))
    server = _Server()
    versions = {name: metadata.version(name) for name in ("jax", "jaxlib", "neural-tangents", "numpy")}
    print(json.dumps({"versions": versions, "python": sys.version.split()[0]}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(server.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
