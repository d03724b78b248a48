"""Exact implicit kernels as one writes them in NumPy after reading the equations, and references for single pairs.

Nothing here comes from equikernel. The plain kernels are Hermite coefficients of phi at every q_i by one kink-split
Gauss-Legendre rule, then the iteration r <- (sigma_a2 sum_k A_ik A_jk r^k + sigma_b2 s)/sqrt(q_i q_j) on whole matrices
until nothing moves, then the derivative's series. References are Newton's iteration for one pair on a tensor product of
Gauss-Legendre panels (ReLU: with the arc-cosine formulas of Cho & Saul 2009).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special

__all__ = [
    "FUNCTIONS",
    "PlainResult",
    "Problem",
    "closest_pairs",
    "gauss_panels",
    "least_terms",
    "needed_per_pair",
    "plain_kernels",
    "reference_pair",
    "reference_square",
    "reference_variance",
]

FloatArray = npt.NDArray[np.float64]
Pairs = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
Function = Callable[[FloatArray], FloatArray]

_MOST_TERMS = 512
_ROUNDING = 4e-16


def _phi(x: FloatArray) -> FloatArray:
    return np.asarray(0.5 * scipy.special.erfc(-x / math.sqrt(2.0)))


def _density(x: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi))


# phi and phi', written by hand
FUNCTIONS: dict[str, tuple[Function, Function]] = {
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
class Problem:
    """The equations of one activation: its name in FUNCTIONS, sigma_a2, sigma_b2 and tau0."""

    name: str
    sigma_a2: float = 0.2
    sigma_b2: float = 0.8
    tau0: float = 1.0

    @property
    def phi(self) -> Function:
        return FUNCTIONS[self.name][0]

    @property
    def slope(self) -> Function:
        return FUNCTIONS[self.name][1]

    def rule(self) -> tuple[FloatArray, FloatArray]:
        """Nodes and weights for a standard normal variable."""
        xi, weight = gauss_panels(np.linspace(-20.0, 20.0, 41), 24)
        return xi, weight * _density(xi)

    def centre(self) -> float:
        """E[phi(tau* xi)] at the fixed point q* = sigma_a2 Var phi(sqrt(q*) xi) + sigma_b2 tau0^2."""
        xi, weight = self.rule()
        q, mean = self.sigma_b2 * self.tau0**2, 0.0
        for _ in range(200):
            values = self.phi(math.sqrt(q) * xi)
            mean = float(values @ weight)
            previous, q = q, self.sigma_a2 * float((values - mean) ** 2 @ weight) + self.sigma_b2 * self.tau0**2
            if abs(q - previous) <= 2e-16 * q:
                break
        return mean

    def variances(self, bias: FloatArray, centre: float) -> FloatArray:
        """q_i = sigma_a2 E[phi_c(sqrt(q_i) xi)^2] + bias_i, (n,)."""
        xi, weight = self.rule()
        q = bias.copy()
        for _ in range(200):
            values = self.phi(np.sqrt(q)[:, None] * xi) - centre
            previous, q = q, self.sigma_a2 * ((values * values) @ weight) + bias
            if np.abs(q - previous).max() <= _ROUNDING * q.max():
                break
        return q

    def hermite(self, q: FloatArray, centre: float, terms: int) -> FloatArray:
        """A_ik = E[phi_c(sqrt(q_i) xi) he_k(xi)] for the orthonormal he_k, (n, terms)."""
        xi, weight = self.rule()
        basis = np.empty((terms, xi.size))
        basis[0], basis[1] = 1.0, xi
        for k in range(1, terms - 1):
            basis[k + 1] = (xi * basis[k] - math.sqrt(k) * basis[k - 1]) / math.sqrt(k + 1)
        return np.asarray(((self.phi(np.sqrt(q)[:, None] * xi) - centre) * weight) @ basis.T)


@dataclass(frozen=True)
class PlainResult:
    """Kernels (n, n) of the plain implementation, and its number of sweeps over all pairs."""

    ck: FloatArray
    ntk: FloatArray
    sweeps: int


def plain_kernels(X: FloatArray, problem: Problem, terms: int, stop: float = _ROUNDING) -> PlainResult:
    """Implicit CK and NTK ("aA") on (n, n) arrays by Hermite series of so many terms, until r moves less than stop."""
    centre = problem.centre()
    s = X @ X.T
    q = problem.variances(problem.sigma_b2 * np.diag(s), centre)
    A = problem.hermite(q, centre, terms)
    scale = np.sqrt(np.outer(q, q))
    product = np.empty_like(scale)

    def series(r: FloatArray) -> FloatArray:
        total = np.zeros_like(r)
        for k in range(terms - 1, -1, -1):
            total *= r
            total += np.multiply(A[:, k, None], A[:, k], out=product)
        return total

    r = problem.sigma_b2 * s / scale
    np.fill_diagonal(r, 0.0)  # the diagonal is known already, and its series would converge slowly
    sweeps, moved = 0, math.inf
    while moved > stop and sweeps < 200:
        sweeps += 1
        updated = (problem.sigma_a2 * series(r) + problem.sigma_b2 * s) / scale
        np.fill_diagonal(updated, 0.0)
        moved = float(np.abs(updated - r).max())
        r = updated
    G = series(r)
    slope = np.zeros_like(r)
    for k in range(terms - 1, 0, -1):
        slope *= r
        slope += np.multiply(k * A[:, k, None], A[:, k], out=product)
    slope /= scale
    xi, weight = problem.rule()
    values, derivative = problem.phi(np.sqrt(q)[:, None] * xi) - centre, problem.slope(np.sqrt(q)[:, None] * xi)
    np.fill_diagonal(G, (values * values) @ weight)
    np.fill_diagonal(slope, (derivative * derivative) @ weight)
    return PlainResult(G, G / (1.0 - problem.sigma_a2 * slope), sweeps)


def closest_pairs(X: FloatArray, count: int) -> Pairs:
    """The pairs of samples with the largest |cosine| (all of them if there are fewer), where a series is longest."""
    norms = np.linalg.norm(X, axis=1)
    cosines = np.abs(X @ X.T / np.outer(norms, norms))
    i, j = np.triu_indices(len(X), 1)
    first = np.argsort(cosines[i, j])[::-1][:count]
    return i[first], j[first]


class _PairSeries:
    """The power series of chosen pairs: products A_ik A_jk (pairs, 512), solved with any number of terms."""

    def __init__(self, X: FloatArray, problem: Problem, pairs: Pairs) -> None:
        i, j = pairs
        centre = problem.centre()
        which, back = np.unique(np.concatenate([i, j]), return_inverse=True)
        q = problem.variances(problem.sigma_b2 * (X[which] ** 2).sum(axis=1), centre)
        A = problem.hermite(q, centre, _MOST_TERMS)
        first, second = back[: len(i)], back[len(i) :]
        self.problem = problem
        self.largest = float((A * A).sum(axis=1).max())
        self.scale = np.sqrt(q[first] * q[second])
        self.products = A[first] * A[second]
        self.bias = problem.sigma_b2 * (X[i] * X[j]).sum(axis=1)

    def solve(self, terms: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The kernels G and K (pairs,) of the series cut after so many terms, and r."""
        k = np.arange(terms)
        c, r = self.products[:, :terms], self.bias / self.scale
        value = np.zeros_like(r)
        for _ in range(60):
            value = (c * r[:, None] ** k).sum(axis=1)
            r = (self.problem.sigma_a2 * value + self.bias) / self.scale
        slope = (k[1:] * c[:, 1:] * r[:, None] ** k[:-1]).sum(axis=1) / self.scale
        return value, value / (1.0 - self.problem.sigma_a2 * slope), r


def least_terms(X: FloatArray, problem: Problem, accuracy: float, pairs: Pairs) -> int | None:
    """Fewest terms (a multiple of 4) with G and K of the pairs right to accuracy x the largest entry; None: over 400.

    The truth is the series of 512 terms.
    """
    series = _PairSeries(X, problem, pairs)
    truth = series.solve(_MOST_TERMS)
    for terms in range(8, 401, 4):
        cut = series.solve(terms)
        if all(np.abs(a - b).max() <= accuracy * series.largest for a, b in zip(truth[:2], cut[:2], strict=True)):
            return terms
    return None


def needed_per_pair(X: FloatArray, problem: Problem, pairs: Pairs, accuracy: float = 1e-16) -> FloatArray:
    """Terms after which what is left of the series of value and slope, |c_k r^k| and k |c_k r^(k-1)|, is negligible."""
    series = _PairSeries(X, problem, pairs)
    r = np.abs(series.solve(_MOST_TERMS)[2])
    k = np.arange(_MOST_TERMS)
    sizes = np.abs(series.products) * np.maximum(k, 1) * r[:, None] ** np.maximum(k - 1, 0)
    left = np.cumsum(sizes[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((left > accuracy * series.largest).sum(axis=1), dtype=np.float64)


def _relu_duals(q_i: float, q_j: float, rho: float) -> tuple[float, float]:
    """E[relu(u) relu(v)] and E[relu'(u) relu'(v)] (Cho & Saul 2009)."""
    angle = math.acos(rho)
    value = math.sqrt(q_i * q_j) * (math.sin(angle) + (math.pi - angle) * rho) / (2.0 * math.pi)
    return value, (math.pi - angle) / (2.0 * math.pi)


def reference_pair(problem: Problem, centre: float, q_i: float, q_j: float, bias: float) -> tuple[float, float]:
    """G and E[phi'(u) phi'(v)] of one pair of different samples, by Newton's iteration on the dual activations."""
    a, w = gauss_panels(np.linspace(-9.0, 9.0, 13), 24)
    w = w * _density(a)

    def duals(lam: float) -> tuple[float, float]:
        rho = lam / math.sqrt(q_i * q_j)
        if problem.name == "relu":
            value, slope = _relu_duals(q_i, q_j, rho)
            means = (math.sqrt(q_i) + math.sqrt(q_j)) / math.sqrt(2.0 * math.pi)
            return value - centre * means + centre * centre, slope
        u = math.sqrt(q_i) * a
        v = math.sqrt(q_j) * (rho * a[:, None] + math.sqrt(1.0 - rho * rho) * a[None, :])
        value = float(w @ ((problem.phi(u) - centre)[:, None] * (problem.phi(v) - centre)) @ w)
        return value, float(w @ (problem.slope(u)[:, None] * problem.slope(v)) @ w)

    lam = bias
    for _ in range(12):
        value, slope = duals(lam)
        lam -= (lam - problem.sigma_a2 * value - bias) / (1.0 - problem.sigma_a2 * slope)
    return duals(lam)


def reference_square(function: Function, q: float) -> float:
    """E[f(sqrt(q) xi)^2] on a finer rule than the plain implementation's."""
    xi, weight = gauss_panels(np.linspace(-12.0, 12.0, 97), 24)
    return float(function(math.sqrt(q) * xi) ** 2 @ (weight * _density(xi)))


def reference_variance(problem: Problem, centre: float, bias: float) -> float:
    """The variance q_i of one sample, by plain iteration."""
    q = bias
    for _ in range(100):
        q = problem.sigma_a2 * reference_square(lambda x: problem.phi(x) - centre, q) + bias
    return q
