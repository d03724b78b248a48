"""Exact implicit CK and NTK against neural-tangents 0.6.5, which runs in an environment of its own (peers/README.md).

    .venv/bin/python benchmarks/exact_neural_tangents.py --out exact_neural_tangents.json

Two processes take turns: this one, and a server that times itself (peers/neural_tangents_server.py). Without the
environment the comparison is skipped, and the reason printed.

*Injected.* A ReLU network of 20 layers into each of which the input is fed again is the kernel equation iterated 20
times, without centring: its CK converges to the G of L = sigma_a2 G + sigma_b2 s with phi = ReLU instead of phi - c, at
the rate sigma_a2/2 = 0.1 a layer or better. Its NTK with all weights trained, readout included, converges to
(G + sigma_b2 s G')/(1 - sigma_a2 G'), the DEQ's for trained "aAB". equikernel centres at c = E[ReLU(tau* xi)], and tau*
is proportional to tau0 (ReLU is homogeneous): tau0 = 1e-20 moves c below rounding, and both compute the same matrices.
The centred kernel (tau0 = 1), which neural-tangents has not, is timed as well. The diagonals are known,
q_i = sigma_b2 ||x_i||^2/(1 - sigma_a2/2), G_ii = q_i/2, K_ii = (G_ii + sigma_b2 ||x_i||^2/2)/(1 - sigma_a2/2), and both
are compared with them: neural-tangents computes them as correlations of 1 up to rounding, where the derivative
(pi - acos rho)/(2 pi) keeps half of the digits.

*Numerical.* One hidden layer of tanh by ElementwiseNumerical (Gauss-Hermite, degree 25): E[tanh(u) tanh(v)], its
derivative, and the NTK of layer and readout. equikernel computes the same with sigma_a2 = 0, sigma_b2 = 1, trained
"aAB"; its time for a whole fixed point (sigma_a2 = 1/5) is given too. Errors are against two-dimensional quadrature.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from exact_common import (
    SIGMA_A2,
    SIGMA_B2,
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
from exact_plain import Problem, reference_pair, reference_square

_HERE = Path(__file__).resolve().parent
_TARGETS = {2000: 7.0, 5000: 15.0}
_DEPTH, _DEGREE = 20, 25
_NUMERICAL_SIZE, _NUMERICAL_TARGET, _ACCURACY_TARGET = 500, 40.0, 1e5
_UNCENTRED = 1e-20
_REFERENCES = 24  # pairs, and as many samples
_DUAL = Problem("tanh", sigma_a2=0.0, sigma_b2=1.0)  # no iteration: the dual activation itself


class Peer:
    """The server of neural-tangents: one process for all comparisons, closed by ``with``."""

    def __init__(self, python: Path, threads: int, folder: Path) -> None:
        self._folder = folder
        self._errors = (folder / "stderr.txt").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603 - our own server in an environment the user names
            [str(python), str(_HERE / "peers" / "neural_tangents_server.py"), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        )
        self.about = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        self._errors.close()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"the server of neural-tangents ended:\n{self._errors.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def put(self, X: FloatArray) -> str:
        """Leave the data where the server reads them."""
        path = self._folder / f"X{len(X)}.npy"
        np.save(path, X)
        return str(path)

    def seconds(self, net: str, arguments: dict[str, Any], X: str, save: Path | None = None) -> float:
        """Seconds that the server took for both kernels."""
        request = {"net": net, "arguments": arguments, "X": X, "save": str(save) if save else None}
        if self._process.stdin:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return float(self._read()["seconds"])

    def kernels(self, net: str, arguments: dict[str, Any], X: str) -> tuple[FloatArray, FloatArray]:
        """CK and NTK as the server computes them."""
        path = self._folder / "kernels.npz"
        self.seconds(net, arguments, X, path)
        with np.load(path) as found:
            kernels = (found["ck"], found["ntk"])
        path.unlink()
        return kernels


def _relu_diagonals(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    bias = SIGMA_B2 * (X * X).sum(axis=1)
    G = bias / (1.0 - SIGMA_A2 / 2.0) / 2.0
    return G, (G + bias / 2.0) / (1.0 - SIGMA_A2 / 2.0)


def _agreement(
    X: FloatArray, ours: tuple[FloatArray, FloatArray], theirs: tuple[FloatArray, FloatArray]
) -> dict[str, dict[str, float]]:
    """Largest differences off the diagonal, and errors of both diagonals, relative to the largest entry."""
    found = {}
    for name, mine, other, exact in zip(("ck", "ntk"), ours, theirs, _relu_diagonals(X), strict=True):
        largest = float(np.abs(mine).max())
        difference = np.abs(mine - other)
        np.fill_diagonal(difference, 0.0)
        found[name] = {
            "off_diagonal": float(difference.max()) / largest,
            "diagonal_equikernel": float(np.abs(np.diag(mine) - exact).max()) / largest,
            "diagonal_peer": float(np.abs(np.diag(other) - exact).max()) / largest,
        }
    return found


def injected(peer: Peer, source: str, n: int, given: argparse.Namespace) -> dict[str, Any]:
    """The 20-layer injected ReLU network against the DEQ."""
    data = data_of(source, n)
    X, deq = data.X, network("relu")
    arguments = {"depth": _DEPTH, "sigma_a2": SIGMA_A2, "sigma_b2": SIGMA_B2}
    path = peer.put(X)
    theirs = peer.kernels("injected", arguments, path)
    ours = kernels_of(X, deq, given.threads, tau0=_UNCENTRED, trained="aAB")
    agreement = _agreement(X, (ours.ck, ours.ntk), theirs)
    del theirs, ours
    seconds = take_paired_turns(
        {
            "equikernel": lambda: kernels_of(X, deq, given.threads, tau0=_UNCENTRED, trained="aAB"),
            "centred DEQ": lambda: kernels_of(X, deq, given.threads, trained="aAB"),
            "neural-tangents": lambda: peer.seconds("injected", arguments, path),
        },
        given.repeats,
    )
    return {
        "comparison": f"{_DEPTH} injected ReLU layers, {source}, n = {n}",
        "label": f"{_DEPTH} ReLU layers, n = {n}",
        "source": data.source,
        "n": n,
        "seconds": {who: spread(taken) for who, taken in seconds.items()},
        "ratios": {who: ratio(seconds["neural-tangents"], seconds[who]) for who in seconds if who != "neural-tangents"},
        "target": _TARGETS.get(n) if source == "gmm" else None,
        "agreement": agreement,
    }


def _references(X: FloatArray) -> dict[tuple[int, int], tuple[float, float]]:
    """E[tanh(u) tanh(v)] and the NTK of layer and readout, for pairs drawn at random and their samples."""
    generator = np.random.default_rng(0)
    truth = {}
    for _ in range(_REFERENCES):
        i, j = (int(k) for k in generator.choice(len(X), 2, replace=False))
        q_i, q_j, s = float(X[i] @ X[i]), float(X[j] @ X[j]), float(X[i] @ X[j])
        value, slope = reference_pair(_DUAL, 0.0, q_i, q_j, s)
        truth[i, j] = value, value + s * slope
        value = reference_square(_DUAL.phi, q_i)
        truth[i, i] = value, value + q_i * reference_square(_DUAL.slope, q_i)
    return truth


def _errors(
    kernels: tuple[FloatArray, FloatArray], truth: dict[tuple[int, int], tuple[float, float]]
) -> dict[str, float]:
    """Largest errors of CK and NTK off and on the diagonal, relative to the largest entry."""
    found: dict[str, float] = {}
    for (i, j), values in truth.items():
        for name, matrix, value in zip(("ck", "ntk"), kernels, values, strict=True):
            key = f"{name}, {'diagonal' if i == j else 'off the diagonal'}"
            found[key] = max(found.get(key, 0.0), float(abs(matrix[i, j] - value) / np.abs(matrix).max()))
    return found


def numerical(peer: Peer, given: argparse.Namespace) -> dict[str, Any]:
    """One hidden tanh layer by ElementwiseNumerical against the same kernels of equikernel."""
    data = data_of("gmm", _NUMERICAL_SIZE)
    X, layer, deq = data.X, network("tanh", 0.0, 1.0), network("tanh")
    path, arguments = peer.put(X), {"degree": _DEGREE}
    ours = kernels_of(X, layer, given.threads, trained="aAB")
    found = {"equikernel": (ours.ck, ours.ntk), "neural-tangents": peer.kernels("numerical", arguments, path)}
    seconds = take_paired_turns(
        {
            "equikernel": lambda: kernels_of(X, layer, given.threads, trained="aAB"),
            "whole fixed point": lambda: kernels_of(X, deq, given.threads, trained="aAB"),
            "neural-tangents": lambda: peer.seconds("numerical", arguments, path),
        },
        given.repeats,
    )
    return {
        "comparison": f"ElementwiseNumerical tanh, degree {_DEGREE}, n = {len(X)}",
        "label": f"numerical tanh, n = {len(X)}",
        "source": data.source,
        "n": len(X),
        "seconds": {who: spread(taken) for who, taken in seconds.items()},
        "ratios": {who: ratio(seconds["neural-tangents"], seconds[who]) for who in seconds if who != "neural-tangents"},
        "target": _NUMERICAL_TARGET,
        "errors": {who: _errors(kernels, _references(X)) for who, kernels in found.items()},
    }


def _print(row: dict[str, Any]) -> None:
    print(f"\n{row['comparison']} ({row['source']})")
    for who, taken in row["seconds"].items():
        print(f"  {who:23s} {taken['median']:.3f} s ({taken['least']:.3f} to {taken['largest']:.3f})")
    for who, found in row["ratios"].items():
        target = row["target"] if who == "equikernel" else None
        print(f"  neural-tangents / {who}: {verdict(found, target, at_least=True)}")
    for name, found in row.get("agreement", {}).items():
        print(
            f"  {name}: largest difference off the diagonal {found['off_diagonal']:.0e}; error of the diagonal: "
            f"equikernel {found['diagonal_equikernel']:.0e}, neural-tangents {found['diagonal_peer']:.0e}"
        )
    if "errors" in row:
        _print_errors(row["errors"])


def _print_errors(errors: dict[str, dict[str, float]]) -> None:
    for name, mine in errors["equikernel"].items():
        theirs = errors["neural-tangents"][name]
        gain = theirs / max(mine, 1e-17)
        print(
            f"  error of {name}: equikernel {mine:.0e}, neural-tangents {theirs:.0e}, {gain:.0e} times as large, "
            f"target >= {_ACCURACY_TARGET:.0e}: {'reached' if gain >= _ACCURACY_TARGET else 'SHORT'}"
        )


def main() -> None:
    """Run both comparisons, print them, and write the record and the figure; or say why not."""
    parser = benchmark_parser("exact implicit kernels against neural-tangents", repeats=5)
    parser.add_argument("--n", default="2000,5000", help="samples for the injected network")
    parser.add_argument("--data", default="gmm", choices=("gmm", "image"), help="data for the injected network")
    usual = os.environ.get("EQUIKERNEL_PEER_PYTHON", str(_HERE / "peers" / ".venv" / "bin" / "python"))
    parser.add_argument("--peer-python", type=Path, default=Path(usual), help="the Python of neural-tangents")
    given = parser.parse_args()
    if not given.peer_python.is_file():
        print(
            f"skipped: {given.peer_python} does not exist, so neural-tangents cannot run; "
            "benchmarks/peers/README.md says how to make its environment"
        )
        return
    use_threads(given.threads)
    print_setting(given)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        peer = stack.enter_context(Peer(given.peer_python, given.threads, Path(folder)))
        print(", ".join(f"{name} {version}" for name, version in peer.about["versions"].items()))
        rows = []
        for n in map(int, given.n.split(",")):
            rows.append(injected(peer, given.data, n, given))
            _print(rows[-1])
        rows.append(numerical(peer, given))
        _print(rows[-1])
    lines = [
        (f"{row['label']}: {who}", found, row["target"] if who == "equikernel" else None)
        for row in rows
        for who, found in row["ratios"].items()
    ]
    rows = [{**row, "peer": peer.about} for row in rows]
    finish(given, rows, lambda figure: draw_ratios(figure, lines, "seconds of neural-tangents over equikernel's"))


if __name__ == "__main__":
    main()
