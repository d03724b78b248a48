"""Writes kernel_truth.json, the exact kernels that equikernel's are tested against. It shares no code with equikernel.

    .venv/bin/python tests/data/make_kernel_truth.py            # everything, on one core
    .venv/bin/python tests/data/make_kernel_truth.py --only gelu --out some.json

How. The data are float64 arrays, taken for the binary fractions they are: inner products are rational and exact.
tau*^2 and the centre c = E phi(tau* xi) come from q = sigma_a2 Var phi(sqrt(q) xi) + sigma_b2 tau0^2, the variances
q_i from q = sigma_a2 E[(phi(sqrt(q) xi) - c)^2] + sigma_b2 ||x_i||^2, each the smallest root, found by a scan from
below and Newton's iteration (kernel_truth_fixed_points.py). A pair is Newton's iteration on
rho - (sigma_a2 G(rho) + sigma_b2 <x_i, x_j>)/sqrt(q_i q_j), with G and its derivative G' by nested quadrature
(kernel_truth_quadrature.py) of activations written by hand (kernel_truth_functions.py), and then

    K = (G [+ sigma_b2 <x_i, x_j> G'])/(1 - sigma_a2 G').

Errors. The last evaluation of every pair is made for 31 and for 36 digits; the difference of the two and what is left
of Newton's residual make the errors stored with each case, relative to max|G| and max|K|. The script fails where one
is above 1e-17. Before anything is written the quadrature is compared with closed forms and with a plain integration
that shares neither its variables nor its formulas (kernel_truth_checks.py).

The file: lists "implicit" and "explicit" of cases, each with its activation(s), its parameters as decimal strings, X as
the shortest decimals that give the floats back, and full matrices of decimal strings of 22 digits.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb
from kernel_truth_checks import check_quadrature
from kernel_truth_fixed_points import FINE, FINER, Network, Pair, Sample, implicit_pair
from kernel_truth_functions import FUNCTIONS, Function, exact
from kernel_truth_quadrature import moments

__all__ = ["main"]

FloatArray = npt.NDArray[np.float64]
Rationals = list[list[Fraction]]
Matrix = list[list[arb]]

_WORST = 1e-17
_CONTRACTING = 0.9
_LOG = logging.getLogger("kernel_truth")


def products(X: FloatArray) -> Rationals:
    """<x_i, x_j> of the floats as they are."""
    rows = [[Fraction(float(x)) for x in row] for row in X]
    return [[sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0)) for y in rows] for x in rows]


def decimals(matrix: Matrix) -> list[list[str]]:
    """The numbers with 22 digits."""
    return [[x.mid().str(22, radius=False) for x in row] for row in matrix]


def symmetric(n: int, entry: Callable[[int, int], tuple[arb, ...]], count: int) -> list[Matrix]:
    """``count`` symmetric matrices from the entries i <= j."""
    matrices = [[[arb(0)] * n for _ in range(n)] for _ in range(count)]
    for i, j in itertools.combinations_with_replacement(range(n), 2):
        for matrix, value in zip(matrices, entry(i, j), strict=True):
            matrix[i][j] = matrix[j][i] = value
    return matrices


def largest(matrix: Matrix) -> float:
    """max|entry|."""
    return max(abs(float(x)) for row in matrix for x in row)


def implicit_truth(X: FloatArray, net: Network) -> dict[str, Any]:
    """The kernels of a DEQ, and their errors relative to the largest entries."""
    s = products(X)
    centre = net.centre(FINER + 4)
    q = net.variances([s[i][i] for i in range(len(X))], centre, FINER + 4)
    samples = [Sample.at(net.function, value, centre) for value in q]
    sigma_a2 = exact(net.sigma_a2)
    error = [0.0, 0.0]

    def entry(i: int, j: int) -> tuple[arb, ...]:
        bias = exact(net.sigma_b2 * s[i][j])
        if (X[i] == X[j]).all():
            pair = Pair(*samples[i].itself())
        elif net.function.odd and (X[i] == -X[j]).all():
            G, slope = samples[i].itself()
            pair = Pair(-G, slope)
        else:
            pair = implicit_pair(samples[i], samples[j], sigma_a2, bias)
        gap = 1 - sigma_a2 * pair.slope
        if not gap > 0:
            raise ArithmeticError(f"sigma_a2 G' = {sigma_a2 * pair.slope} for {net.function.text}")
        K, full = pair.G / gap, (pair.G + bias * pair.slope) / gap
        error[0] = max(error[0], pair.error)
        by_slope = pair.slope_error * float(sigma_a2 * (abs(K) + abs(full)) + abs(bias))
        error[1] = max(error[1], (pair.error + by_slope) / float(gap))
        return pair.G, K, full

    G, K, full = symmetric(len(X), entry, 3)
    return {
        "ck": decimals(G),
        "ntk_aA": decimals(K),
        "ntk_aAB": decimals(full),
        "error_ck": f"{error[0] / largest(G):.1e}",
        "error_ntk": f"{error[1] / largest(K):.1e}",
    }


def _alignment(X: FloatArray, s: Rationals, i: int, j: int, layers: tuple[Function, ...]) -> int:
    """1 or -1 where the correlation of two samples is that exactly after ``layers``, 0 elsewhere."""
    if (X[i] == X[j]).all():
        return 1
    if (X[i] == -X[j]).all() and all(layer.odd for layer in layers):
        return -1
    if not layers and s[i][j] ** 2 == s[i][i] * s[j][j]:
        return 1 if s[i][j] > 0 else -1
    return 0


def explicit_truth(X: FloatArray, layers: tuple[Function, ...], tau0: Fraction) -> dict[str, Any]:
    """The kernels of an explicit network, and their errors relative to the largest entries."""
    s = products(X)
    sigma = [[exact(x) for x in row] for row in s]
    theta = sigma
    tau2 = exact(tau0**2)
    error = 0.0
    for depth, function in enumerate(layers):
        m = moments(function, tau2, FINER + 4)
        centre = arb(0) if function.odd else m.mean
        samples = [Sample.at(function, sigma[i][i], centre) for i in range(len(X))]

        def entry(
            i: int,
            j: int,
            samples: list[Sample] = samples,
            before: tuple[Function, ...] = layers[:depth],
            covariance: Matrix = sigma,
        ) -> tuple[arb, ...]:
            nonlocal error
            if (X[i] == X[j]).all():
                return samples[i].itself()
            root = (samples[i].q * samples[j].q).sqrt()
            rho = arb(_alignment(X, s, i, j, before))
            if rho == 0 and root > 0:
                rho = (covariance[i][j] / root).mid()
            coarse, found = (samples[i].with_other(samples[j], rho, digits) for digits in (FINE, FINER))
            error = max(error, float(abs(coarse[0] - found[0])), float(abs(coarse[1] - found[1])))
            return found

        sigma, slopes = symmetric(len(X), entry, 2)
        theta = [
            [value + old * slope for value, old, slope in zip(*rows, strict=True)]
            for rows in zip(sigma, theta, slopes, strict=True)
        ]
        tau2 = m.about(centre)
    return {
        "ck": decimals(sigma),
        "ntk": decimals(theta),
        "error_ck": f"{error / largest(sigma):.1e}",
        "error_ntk": f"{error * len(layers) / largest(theta):.1e}",
    }


def _unit(rng: np.random.Generator, n: int, p: int) -> FloatArray:
    rows = rng.normal(size=(n, p))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _beside(rng: np.random.Generator, x: FloatArray, gap: float) -> FloatArray:
    """A vector of the norm of x whose cosine with it is 1 - gap, or -1 + |gap| for a negative one."""
    other = rng.normal(size=x.size)
    other -= (other @ x) / (x @ x) * x
    other *= np.linalg.norm(x) / np.linalg.norm(other)
    size = abs(gap)
    near = (1.0 - size) * x + math.sqrt(size * (2.0 - size)) * other
    return near if gap > 0 else -near


def data_sets() -> dict[str, FloatArray]:
    """What is hard about the data, named."""
    rng = np.random.default_rng(20240131)
    spread = _unit(rng, 6, 4) * np.geomspace(0.3, 3.0, 6)[:, None]
    axes = np.eye(3)
    sphere = np.vstack(
        [axes[0], axes[1], _unit(rng, 1, 3)[0], _beside(rng, axes[0], 0.01), _beside(rng, axes[0], -0.1)]
    )
    base = _unit(rng, 1, 5)[0]
    odd = np.vstack([base, *(_beside(rng, base, 10.0**-k) for k in (1, 3, 5, 7, 9))])
    even = np.vstack([base, *((1.0 + 10.0 ** (-k / 2)) * _beside(rng, base, 10.0**-k) for k in (2, 4, 6, 8, 10))])
    x, y = _unit(rng, 2, 5)
    awkward = np.vstack([x, x, -x, np.zeros(5), 2.0 * x, _beside(rng, x, -1e-8), 1e-6 * y, _beside(rng, x, 1e-6)])
    edge = np.vstack([x, x, -x, _beside(rng, x, 1e-9), _beside(rng, x, -1e-8), y])
    return {"spread": spread, "sphere": sphere, "ladder": odd, "uneven ladder": even, "awkward": awkward, "edge": edge}


def _contracting(function: Function, X: FloatArray, tau0: Fraction) -> Fraction:
    """sigma_a2 = 1/2 where that contracts well, else 1/5."""
    half = Fraction(1, 2)
    norms = [row[i] for i, row in enumerate(products(X))]
    return half if Network(function, half, half, tau0).edge(norms) < _CONTRACTING else Fraction(1, 5)


def _at_edge(function: Function, X: FloatArray, sigma_b2: Fraction, tau0: Fraction, target: float) -> Fraction:
    """sigma_a2 with seven decimals for which ``Network.edge`` is ``target`` or little less."""
    norms = [row[i] for i, row in enumerate(products(X))]
    low, high = 0.0, 8.0
    while high - low > 1e-8:
        middle = (low + high) / 2
        trial = Network(function, Fraction(f"{middle:.10f}"), sigma_b2, tau0).edge(norms)
        low, high = (middle, high) if trial <= target else (low, middle)
    return Fraction(math.floor(low * 10**7), 10**7)


def implicit_cases(function: Function) -> list[tuple[str, FloatArray, Network]]:
    """Every case of one activation: its name, the data and the network."""
    sets = {name: X * function.scale for name, X in data_sets().items()}
    one, low, fifth, half = Fraction(function.scale), Fraction(4, 5), Fraction(1, 5), Fraction(1, 2)
    found = [
        ("spread", sets["spread"], Network(function, fifth, low, one)),
        ("awkward", sets["awkward"], Network(function, fifth, low, one * low)),
    ]
    for name in ("sphere", "ladder", "uneven ladder"):
        sigma_a2 = _contracting(function, sets[name], one)
        found.append((name, sets[name], Network(function, sigma_a2, 1 - sigma_a2, one)))
    for name, target in (("spread", 0.9), ("edge", 0.99), ("edge", 0.999)):
        sigma_a2 = _at_edge(function, sets[name], half, one, target)
        found.append((f"{name} at {target}", sets[name], Network(function, sigma_a2, half, one)))
    return found


def explicit_cases() -> list[tuple[str, FloatArray, tuple[str, ...], Fraction]]:
    """Name, data, layers and tau0 of the explicit networks."""
    sets = data_sets()
    return [
        ("awkward", sets["awkward"], ("relu", "gelu"), Fraction(1)),
        ("awkward", sets["awkward"], ("hard_tanh", "tanh", "elu"), Fraction(1)),
        ("uneven ladder", sets["uneven ladder"], ("abs", "silu", "relu"), Fraction(1)),
        ("spread", sets["spread"], ("softsign", "cos"), Fraction(3, 2)),
    ]


def _decimal(number: Fraction) -> str:
    text = str(Decimal(number.numerator) / number.denominator)
    if Fraction(text) != number:
        raise ArithmeticError(f"{number} is no finite decimal")
    return text


def _floats(X: FloatArray) -> list[list[str]]:
    return [[repr(float(x)) for x in row] for row in X]


def implicit_record(function: Function, name: str, X: FloatArray, net: Network) -> dict[str, Any]:
    """One case, solved, as it stands in the file."""
    start = time.perf_counter()
    record = {
        "case": name,
        "activation": function.text,
        "sigma_a2": _decimal(net.sigma_a2),
        "sigma_b2": _decimal(net.sigma_b2),
        "tau0": _decimal(net.tau0),
        "edge": f"{net.edge([row[i] for i, row in enumerate(products(X))]):.6f}",
        "X": _floats(X),
        **implicit_truth(X, net),
    }
    _LOG.info(
        "%s, %s: sigma_a2 %s, edge %s, errors %s and %s, %.0f s",
        *(record[key] for key in ("activation", "case", "sigma_a2", "edge", "error_ck", "error_ntk")),
        time.perf_counter() - start,
    )
    return record


def explicit_record(name: str, X: FloatArray, layers: tuple[str, ...], tau0: Fraction) -> dict[str, Any]:
    """One explicit network, as it stands in the file."""
    record = {
        "case": name,
        "layers": list(layers),
        "tau0": _decimal(tau0),
        "X": _floats(X),
        **explicit_truth(X, tuple(FUNCTIONS[layer] for layer in layers), tau0),
    }
    _LOG.info("%s, %s: errors %s and %s", ", ".join(layers), name, record["error_ck"], record["error_ntk"])
    return record


def main() -> None:
    """Check the quadrature, solve every case, refuse inaccurate ones, write the file."""
    parser = argparse.ArgumentParser(description="high-precision kernels for the tests")
    parser.add_argument("--only", choices=list(FUNCTIONS), nargs="*", help="these activations alone, nothing explicit")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("kernel_truth.json"))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    checks = check_quadrature()
    _LOG.info("checks: %s", checks)
    chosen = [FUNCTIONS[name] for name in given.only or FUNCTIONS]
    implicit = [implicit_record(f, *case) for f in chosen for case in implicit_cases(f)]
    explicit = [] if given.only else [explicit_record(*case) for case in explicit_cases()]
    bad = [r for r in (*implicit, *explicit) if max(float(r["error_ck"]), float(r["error_ntk"])) > _WORST]
    if bad:
        raise ArithmeticError(
            f"not accurate enough: {[(r['case'], r.get('activation', r.get('layers'))) for r in bad]}"
        )
    content = {"about": "written by make_kernel_truth.py", "checks": checks, "implicit": implicit, "explicit": explicit}
    given.out.write_text(json.dumps(content, indent=None, separators=(",", ":")).replace('{"case"', '\n{"case"') + "\n")


if __name__ == "__main__":
    main()
