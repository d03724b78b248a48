"""Finite-depth iterates z_(t+1) = phi(W z_t) + x with tied weights, from z_0 = x: dynamical mean-field theory.

iid and orthogonal W: u_t = W z_t is Gaussian with covariance s C, C(t, r) = E z_t z_r, by quadrature. GOE:
u_t = g_t + s sum_(r < t) R(t, r) z_r with responses R(t, r) = E dz_t/dh_r, Cov g = s C: the law of (z_0, ..., z_t) is
no longer that of a few numbers, and is sampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from equikernel.errors import AccuracyError, InputError
from equikernel.numerics.dual import pair_duals
from equikernel.numerics.initialisation.branch import Branch
from equikernel.numerics.initialisation.independent import independent
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Array, Precision, require_slope
from equikernel.theory.activation import Activation, activation
from equikernel.theory.initialisation import require_family
from equikernel.theory.initialisation_depth import require_depth
from equikernel.theory.models import exact_number

__all__ = ["Iterates", "iterates"]

_BATCHES = 16
_RIDGE = 1e-12


@dataclass(frozen=True)
class Iterates:
    """Second moments of the iterates.

    Attributes:
        covariance: C(t, r) = E z_t z_r, shape (L+1, L+1).
        mean_square: its diagonal, q_t.
        standard_error: of ``mean_square``; zero where it comes from quadrature (then to about 1e-13).
    """

    covariance: Array
    mean_square: Array
    standard_error: Array

    @property
    def increments(self) -> Array:
        """E (z_(t+1) - z_t)^2, t = 0 ... L-1: what a solver sees as its residual, squared."""
        C = self.covariance
        return np.array([C[t + 1, t + 1] - 2 * C[t, t + 1] + C[t, t] for t in range(len(C) - 1)])


def iterates(
    act: str | Activation,
    family: str,
    sigma: Any,
    law: InputLaw,
    depth: int,
    *,
    samples: int = 200_000,
    seed: int = 0,
) -> Iterates:
    """C(t, r) up to t = L = ``depth``, at leading order in 1/N.

    Args:
        act: activation.
        family: "iid", "orthogonal" (the same at leading order) or "goe".
        sigma: standard deviation (scale) of W.
        law: of the entries of x.
        depth: number of iterations L.
        samples: sampled entries (goe), in 16 independent batches that tell the standard error. Time grows as L^2,
            memory as L^2 samples/16.
        seed: of the sampling.

    Raises:
        InputError: unknown family, bad depth or number of samples, or x = 0 where z = 0 then.
        UnstableError: phi' is not square integrable.
    """
    phi = activation(act)
    require_slope(phi)
    s = float(exact_number(sigma, "sigma") ** 2)
    require_depth(depth)
    Branch(phi, law).at_rest()
    if require_family(family) != "goe":
        return _gaussian(phi, s, law, depth)
    if samples < _BATCHES * 2:
        raise InputError(f"expected at least {2 * _BATCHES} samples; got {samples}")
    streams = np.random.SeedSequence(seed).spawn(_BATCHES)
    found = [_sampled(phi, s, law, depth, samples // _BATCHES, np.random.default_rng(k)) for k in streams]
    stack = np.stack(found)
    diagonals = np.diagonal(stack, axis1=1, axis2=2)
    mean = stack.mean(axis=0)
    return Iterates(mean, np.diag(mean).copy(), diagonals.std(axis=0, ddof=1) / math.sqrt(_BATCHES))


def _gaussian(phi: Activation, s: float, law: InputLaw, depth: int) -> Iterates:
    """C(t+1, r+1) = E phi(u_t) phi(u_r) + E x (E phi(u_t) + E phi(u_r)) + E x^2, and C(t+1, 0) without the product."""
    m1, m2 = law.moment(1), law.moment(2)
    C = np.zeros((depth + 1, depth + 1))
    C[0, 0] = m2
    rest = float(phi.function("numpy")(0.0))
    plain = Precision()
    means = []
    for t in range(depth):
        v = s * C[t, t]
        one, two = (rest, rest * rest)
        if v > 0:
            moments = independent(phi, v, plain)
            one, two = moments.p1, moments.p2
        means.append(one)
        C[t + 1, t + 1] = two + 2 * m1 * one + m2
        C[t + 1, 0] = C[0, t + 1] = m1 * one + m2
        for r in range(t):
            product = _product(phi, C[t, t], C[r, r], C[t, r], s, (means[t], means[r]))
            C[t + 1, r + 1] = C[r + 1, t + 1] = product + m1 * (means[t] + means[r]) + m2
    return Iterates(C, np.diag(C).copy(), np.zeros(depth + 1))


def _product(phi: Activation, q_t: float, q_r: float, c: float, s: float, means: tuple[float, float]) -> float:
    """E phi(u_t) phi(u_r)."""
    if s * q_t == 0 or s * q_r == 0:
        return means[0] * means[1]
    rho = min(max(c / math.sqrt(q_t * q_r), -1.0), 1.0)
    return pair_duals(phi, 0.0, s * q_t, s * q_r, rho)[0]


def _entries(law: InputLaw, count: int, rng: np.random.Generator) -> Array:
    if law.variance is not None:
        return float(law.mean) + math.sqrt(float(law.variance)) * rng.standard_normal(count)
    atoms = np.array([float(a) for a in law.atoms])
    return atoms[rng.integers(len(atoms), size=count)]


def _sampled(phi: Activation, s: float, law: InputLaw, depth: int, count: int, rng: np.random.Generator) -> Array:
    """One batch: C by averages over ``count`` entries, whose responses are carried along."""
    f, slope = phi.function("numpy"), phi.derivative("numpy")
    x = _entries(law, count, rng)
    z = [x]
    C = np.zeros((depth + 1, depth + 1))
    C[0, 0] = float(np.mean(x * x))  # the sample's: C must be the Gram matrix of what was sampled
    normals = rng.standard_normal((depth, count))
    responses: list[Array] = [np.zeros((0, count))]  # dz_t/dh_r, r < t
    for t in range(depth):
        memory = responses[t].mean(axis=1)
        u = _row(s * C[: t + 1, : t + 1]) @ normals[: t + 1]
        for r in range(t):
            u = u + s * memory[r] * z[r]
        lean = np.zeros((t + 1, count))
        lean[t] = 1.0
        for r in range(t):
            for k in range(r + 1, t):
                lean[r] += s * memory[k] * responses[k][r]
        responses.append(slope(u) * lean)
        z.append(f(u) + x)
        for r in range(t + 2):
            C[t + 1, r] = C[r, t + 1] = float(np.mean(z[t + 1] * z[r]))
    if not np.all(np.isfinite(C)):
        raise AccuracyError(f"the iterates of {phi.name} overflow; reduce sigma or the depth")
    return C


def _row(covariance: Array) -> Array:
    """The last row of a Cholesky factor; the ridge allows for covariances that have become singular."""
    ridge = _RIDGE * float(np.trace(covariance)) + 1e-300
    return np.asarray(np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))[-1])
