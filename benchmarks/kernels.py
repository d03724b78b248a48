"""Exact implicit CK and NTK of a Gaussian mixture: equikernel against a plain NumPy fixed point of equal accuracy.

    .venv/bin/python benchmarks/kernels.py --n 1000 --out kernels.json

"equikernel first" is a new activation; "equikernel" one that was solved before, whose values are tabulated.

The plain implementation is what one writes after reading the equations: Hermite coefficients of phi at every q_i by one
kink-split Gauss-Legendre rule, then the iteration L <- sigma_a2 sum_k A_ik A_jk r^k + sigma_b2 s on whole matrices
until nothing moves, then the derivative's series. Both are compared with reference pairs, solved by Newton's iteration
on a tensor product of Gauss-Legendre panels split at the kinks of both factors (ReLU: with the arc-cosine formulas).

The operations on pairs are counted, multiplications and additions alike, to see how far a method is from the Gram
matrix that any kernel needs: X X^T takes 2 n^2 p of them; the plain iteration 3 for each of K terms, n^2 entries and
every sweep; equikernel 5 (value and slope) for each of the k terms and every Newton step of n^2/2 pairs, k and the
steps being counted on a sample of pairs with the same stopping rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special
from timing import arguments, take_turns, write_record

from equikernel.numerics.hermite import hermite_rows
from equikernel.numerics.kernels import ImplicitKernels, implicit_kernels
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.pairs import cut_table, solve_pairs
from equikernel.numerics.solve import solve
from equikernel.theory.activation import Activation
from equikernel.theory.models import DEQ
from equikernel.validation.mixtures import mixture_family

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

_SIGMA_A2, _SIGMA_B2 = 0.2, 0.8
_REFERENCES = 24  # pairs, and as many samples


def _phi(x: FloatArray) -> FloatArray:
    return np.asarray(0.5 * scipy.special.erfc(-x / math.sqrt(2.0)))


def _density(x: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi))


# What a plain implementation has instead of equikernel's activations: phi and phi', written by hand.
_FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: np.asarray(x > 0.0, dtype=np.float64)),
    "tanh": (np.tanh, lambda x: 1.0 - np.tanh(x) ** 2),
    "gelu": (lambda x: x * _phi(x), lambda x: _phi(x) + x * _density(x)),
}


def gauss_panels(edges: FloatArray, order: int) -> tuple[FloatArray, FloatArray]:
    """Composite Gauss-Legendre nodes and weights between consecutive edges."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    half, middle = np.diff(edges) / 2.0, (edges[1:] + edges[:-1]) / 2.0
    return (middle[:, None] + half[:, None] * nodes).ravel(), (half[:, None] * weights).ravel()


@dataclass(frozen=True)
class PlainResult:
    """Kernels (n, n) of the plain implementation, and its number of sweeps over all pairs."""

    ck: FloatArray
    ntk: FloatArray
    sweeps: int


def plain_kernels(X: FloatArray, name: str, tau0: float, terms: int) -> PlainResult:
    """Implicit CK and NTK ("aA") by plain iteration on (n, n) arrays and Hermite series of so many terms."""
    phi, _ = _FUNCTIONS[name]
    xi, weight = gauss_panels(np.linspace(-20.0, 20.0, 41), 24)
    weight = weight * _density(xi)

    def variance_of(q: FloatArray, centre: float) -> FloatArray:
        values = phi(np.sqrt(q)[:, None] * xi) - centre
        return np.asarray((values * values) @ weight)

    q_star = _SIGMA_B2 * tau0**2
    for _ in range(200):
        values = phi(math.sqrt(q_star) * xi)
        centre = float(values @ weight)
        previous, q_star = q_star, _SIGMA_A2 * float((values - centre) ** 2 @ weight) + _SIGMA_B2 * tau0**2
        if abs(q_star - previous) <= 2e-16 * q_star:
            break
    s = X @ X.T
    bias = _SIGMA_B2 * np.diag(s)
    q = bias.copy()
    for _ in range(200):
        previous_q, q = q, _SIGMA_A2 * variance_of(q, centre) + bias
        if np.abs(q - previous_q).max() <= 4e-16 * q.max():
            break
    basis = np.empty((terms, xi.size))
    basis[0], basis[1] = 1.0, xi
    for k in range(1, terms - 1):
        basis[k + 1] = (xi * basis[k] - math.sqrt(k) * basis[k - 1]) / math.sqrt(k + 1)
    values = phi(np.sqrt(q)[:, None] * xi) - centre
    A = (values * weight) @ basis.T
    scale = np.sqrt(np.outer(q, q))

    product = np.empty_like(scale)

    def series(r: FloatArray) -> FloatArray:
        total = np.zeros_like(r)
        for k in range(terms - 1, -1, -1):
            total *= r
            total += np.multiply(A[:, k, None], A[:, k], out=product)
        return total

    r = _SIGMA_B2 * s / scale
    np.fill_diagonal(r, 0.0)  # the diagonal is known already, and its series would converge slowly
    sweeps, moved = 0, math.inf
    while moved > 4e-16 and sweeps < 200:
        sweeps += 1
        updated = (_SIGMA_A2 * series(r) + _SIGMA_B2 * s) / scale
        np.fill_diagonal(updated, 0.0)
        moved = float(np.abs(updated - r).max())
        r = updated
    G = series(r)
    slope = np.zeros_like(r)
    for k in range(terms - 1, 0, -1):
        slope *= r
        slope += np.multiply(k * A[:, k, None], A[:, k], out=product)
    slope /= scale
    np.fill_diagonal(G, (values * values) @ weight)
    derivative = _FUNCTIONS[name][1](np.sqrt(q)[:, None] * xi)
    np.fill_diagonal(slope, (derivative * derivative) @ weight)
    return PlainResult(G, G / (1.0 - _SIGMA_A2 * slope), sweeps)


def _relu_duals(q_i: float, q_j: float, rho: float) -> tuple[float, float]:
    """E[relu(u) relu(v)] and E[relu'(u) relu'(v)] (Cho & Saul 2009)."""
    angle = math.acos(rho)
    value = math.sqrt(q_i * q_j) * (math.sin(angle) + (math.pi - angle) * rho) / (2.0 * math.pi)
    return value, (math.pi - angle) / (2.0 * math.pi)


def reference_pair(name: str, centre: float, q_i: float, q_j: float, bias: float) -> tuple[float, float]:
    """G and K of one pair, by Newton's iteration on the dual activations."""
    a, w = gauss_panels(np.linspace(-9.0, 9.0, 13), 24)
    w = w * _density(a)
    phi, derivative = _FUNCTIONS[name]

    def duals(lam: float) -> tuple[float, float]:
        rho = lam / math.sqrt(q_i * q_j)
        if name == "relu":
            value, slope = _relu_duals(q_i, q_j, rho)
            means = (math.sqrt(q_i) + math.sqrt(q_j)) / math.sqrt(2.0 * math.pi)
            return value - centre * means + centre * centre, slope
        u = math.sqrt(q_i) * a
        v = math.sqrt(q_j) * (rho * a[:, None] + math.sqrt(1.0 - rho * rho) * a[None, :])
        value = float(w @ ((phi(u) - centre)[:, None] * (phi(v) - centre)) @ w)
        return value, float(w @ (derivative(u)[:, None] * derivative(v)) @ w)

    lam = bias
    for _ in range(12):
        value, slope = duals(lam)
        lam -= (lam - _SIGMA_A2 * value - bias) / (1.0 - _SIGMA_A2 * slope)
    value, slope = duals(lam)
    return value, value / (1.0 - _SIGMA_A2 * slope)


def reference_variance(name: str, centre: float, bias: float) -> float:
    """The variance q_i of one sample, by plain iteration on a finer rule than the plain implementation's."""
    xi, weight = gauss_panels(np.linspace(-12.0, 12.0, 97), 24)
    weight = weight * _density(xi)
    q = bias
    for _ in range(100):
        q = _SIGMA_A2 * float((_FUNCTIONS[name][0](math.sqrt(q) * xi) - centre) ** 2 @ weight) + bias
    return q


def errors(name: str, X: FloatArray, tau0: float, kernels: dict[str, tuple[FloatArray, FloatArray]]) -> dict[str, Any]:
    """The largest errors of G and K on the reference pairs, relative to the largest entries, by contender."""
    solution = solve(DEQ(name, "0.2", "0.8"), tau0, digits=30)
    if solution.moments is None:
        raise AssertionError("a solved Solution carries its moments")
    centre = float(solution.moments.mean.value)
    generator = np.random.default_rng(0)
    pairs = [generator.choice(len(X), 2, replace=False) for _ in range(_REFERENCES)]
    truth = []
    for i, j in pairs:
        q_i, q_j = (reference_variance(name, centre, _SIGMA_B2 * float(x @ x)) for x in (X[i], X[j]))
        truth.append(reference_pair(name, centre, q_i, q_j, _SIGMA_B2 * float(X[i] @ X[j])))
    found = {}
    for contender, (G, K) in kernels.items():
        found[contender] = {
            "ck": float(max(abs(G[i, j] - t[0]) for (i, j), t in zip(pairs, truth, strict=True)) / np.abs(G).max()),
            "ntk": float(max(abs(K[i, j] - t[1]) for (i, j), t in zip(pairs, truth, strict=True)) / np.abs(K).max()),
        }
    return found


def newton_operations(activation: Activation, centre: float, variances: FloatArray, s: FloatArray) -> float:
    """Operations of equikernel on one pair, the mean over a sample of pairs: 5 a term and evaluation."""
    rows = hermite_rows(activation, centre, variances, 64)
    used = solve_pairs(rows, s, _SIGMA_A2, _SIGMA_B2, cut_table(rows))[3]
    generator = np.random.default_rng(1)
    total, count = 0.0, 200
    for _ in range(count):
        i, j = sorted(generator.choice(len(s), 2, replace=False))
        products = rows.coefficients[i, : used[i, j]] * rows.coefficients[j, : used[i, j]]
        scale = math.sqrt(variances[i] * variances[j])
        value = np.polynomial.Polynomial(products)
        slope = value.deriv()
        r = bias = _SIGMA_B2 * s[i, j] / scale
        evaluations = 1
        for _ in range(60):
            evaluations += 1
            step = (r - _SIGMA_A2 * value(r) / scale - bias) / (1.0 - _SIGMA_A2 * slope(r) / scale)
            r -= step
            if abs(step) <= 2e-16 * max(abs(r), 1e-3):
                break
        total += 5.0 * used[i, j] * evaluations
    return total / count


def run(name: str, n: int, p: int, terms: int, repeats: int) -> dict[str, Any]:
    """One activation: times, ratios, errors and counted operations."""
    mixture = mixture_family("isotropic")(p)
    X = mixture.sample(n, seed=0).X
    deq = DEQ(name, "0.2", "0.8")
    ours, plain = implicit_kernels(X, deq, tau0=1), plain_kernels(X, name, 1.0, terms)
    fresh = itertools.count(1)

    def first() -> ImplicitKernels:
        # another constant makes another activation with the same kernels, so that nothing is found tabulated
        return implicit_kernels(X, DEQ(f"{name}(x) + {next(fresh)}/1000", "0.2", "0.8"), tau0=1)

    seconds = take_turns(
        {
            "equikernel first": first,
            "equikernel": lambda: implicit_kernels(X, deq, tau0=1),
            "plain": lambda: plain_kernels(X, name, 1.0, terms),
            "gram": lambda: X @ X.T,
        },
        repeats,
    )
    centre = float(gaussian_moments(deq.activation, ours.tau).mean.value)
    gram, plain_count = 2.0 * n * n * p, 3.0 * n * n * terms * (plain.sweeps + 2)
    our_count = newton_operations(deq.activation, centre, ours.variances, X @ X.T) * n * (n - 1) / 2.0
    return {
        "activation": name,
        "seconds": seconds,
        "plain_over_equikernel": seconds["plain"]["median"] / seconds["equikernel"]["median"],
        "equikernel_over_gram": seconds["equikernel"]["median"] / seconds["gram"]["median"],
        "errors": errors(name, X, 1.0, {"equikernel": (ours.ck, ours.ntk), "plain": (plain.ck, plain.ntk)}),
        "largest_difference": float(np.abs(ours.ck - plain.ck).max() / np.abs(ours.ck).max()),
        "plain_sweeps": plain.sweeps,
        "operations_over_gram": {"equikernel": our_count / gram, "plain": plain_count / gram},
        "pairs": ours.methods,
    }


def main() -> None:
    """Run, print a line for each activation, and write the record."""
    parser = arguments("exact implicit kernels against a plain NumPy fixed point", repeats=5)
    parser.add_argument("--n", type=int, default=1000, help="samples")
    parser.add_argument("--p", type=int, default=1000, help="features")
    parser.add_argument("--terms", type=int, default=32, help="Hermite terms of the plain implementation")
    given = parser.parse_args()
    rows = []
    for name in _FUNCTIONS:
        row = run(name, given.n, given.p, given.terms, given.repeats)
        rows.append(row)
        times = ", ".join(
            f"{who} {t['median']:.3f} s ({t['least']:.3f} to {t['largest']:.3f})" for who, t in row["seconds"].items()
        )
        accuracy = ", ".join(f"{who} {e['ck']:.0e}/{e['ntk']:.0e}" for who, e in row["errors"].items())
        print(
            f"{name}: {times}; plain/equikernel {row['plain_over_equikernel']:.1f}, "
            f"equikernel/gram {row['equikernel_over_gram']:.1f}; errors of CK/NTK: {accuracy}; "
            f"operations on pairs over the Gram matrix's: equikernel {row['operations_over_gram']['equikernel']:.2f}, "
            f"plain {row['operations_over_gram']['plain']:.2f} ({row['plain_sweeps']} sweeps)"
        )
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
