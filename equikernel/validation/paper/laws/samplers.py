"""Laws of the noise w in x = (mu_a + C_a^{1/2} w)/sqrt(p): mean 0 and covariance I exactly, Gaussian or far from it.

Two numbers of a law decide how fast the equivalents, which know only means and covariances, approach the exact
kernels. The first is p Var(||w||^2/p), the ``norm_variance``: E[w^4] - 1 for independent entries, since the norms
deviate by chi = ||x||^2 - tau0^2. The second is the ``tail``, the number of moments, since the largest of n norms
matters in operator norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import InputError
from equikernel.validation.experiments.sources import Sample
from equikernel.validation.mixtures import class_counts, mixture_family, seeded_generator

__all__ = ["LAWS", "Law", "LawSource", "noise_law"]

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Array]

_SPARSE_COUNT = 10  # nonzero entries of a sample, on average, of the law whose density falls as 1/p
_RADII = (0.5, 1.5)  # squares of the radii of the elliptical law, equally likely: their mean is 1


@dataclass(frozen=True)
class Law:
    """A law of w in R^p with E[w] = 0 and E[w w^T] = I.

    Attributes:
        name: for the command line.
        title: for headings.
        draw: (generator, n, p) -> (n, p), samples in rows.
        kurtosis: p -> E[w_k^4], infinity where there is none.
        norm_variance: p -> p Var(||w||^2/p), infinity where there is none. It is bounded in p if and only if the norms
            concentrate.
        tail: E|w_k|^s is finite for s < tail; infinity where all moments are.
        concentrates: whether ||w||^2/p -> 1.
        independent: whether the entries are.
    """

    name: str
    title: str
    draw: Draw
    kurtosis: Callable[[int], float]
    norm_variance: Callable[[int], float]
    tail: float = math.inf
    concentrates: bool = True
    independent: bool = True


def noise_law(name: str) -> Law:
    """A law by its name.

    Raises:
        InputError: an unknown name.
    """
    if name not in _LAWS:
        raise InputError(f"unknown law of the noise {name!r}: choose one of {', '.join(LAWS)}")
    return _LAWS[name]


@dataclass(frozen=True)
class LawSource:
    """n samples x = (mu_a + C_a^{1/2} w)/sqrt(p), w of a law, the classes those of a family of mixtures.

    C_a^{1/2} is the symmetric root: the law of C_a^{1/2} w depends on which root is taken unless w is Gaussian.
    """

    law: str
    family: str
    p: int
    n: int
    seed: int

    @property
    def title(self) -> str:
        """For headings."""
        return noise_law(self.law).title

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"kind": "mixture with noise of a law", **asdict(self)}

    def load(self) -> Sample:
        """Draw the samples: the same bits every time on one machine."""
        mixture = mixture_family(self.family)(self.p)
        counts = class_counts(self.n, mixture.proportions)
        noise = noise_law(self.law).draw(seeded_generator(self.seed), self.n, self.p)
        labels = np.repeat(np.arange(mixture.K, dtype=np.int64), counts)
        X = np.empty_like(noise)
        for a, (mean, root) in enumerate(zip(mixture.means, _roots(self.family, self.p), strict=True)):
            members = labels == a
            coloured = noise[members] @ root if root.ndim == 2 else noise[members] * root
            X[members] = (mean + coloured) / math.sqrt(self.p)
        return Sample(X, labels, mixture.tau0, mixture.means, mixture.covariances)


@lru_cache(maxsize=2)
def _roots(family: str, p: int) -> tuple[Array, ...]:
    return tuple(_symmetric_root(form) for form in mixture_family(family)(p).covariances)


def _symmetric_root(covariance: Array) -> Array:
    if covariance.ndim < 2:
        return np.sqrt(covariance)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    root: Array = (vectors * np.sqrt(np.clip(eigenvalues, 0.0, None))) @ vectors.T
    return root


def _independent(
    name: str,
    title: str,
    draw: Draw,
    kurtosis: float | Callable[[int], float],
    *,
    tail: float = math.inf,
    concentrates: bool = True,
) -> Law:
    fourth = kurtosis if callable(kurtosis) else lambda _, value=kurtosis: value
    return Law(name, title, draw, fourth, lambda p: fourth(p) - 1.0, tail, concentrates)


def _student(freedom: int) -> Law:
    """t/sqrt(nu/(nu - 2)): E[w^4] = 3 + 6/(nu - 4) for nu > 4."""
    scale = math.sqrt((freedom - 2) / freedom)
    return _independent(
        f"student{freedom}",
        f"Student t, {freedom} degrees of freedom",
        lambda generator, n, p: scale * generator.standard_t(freedom, (n, p)),
        3.0 + 6.0 / (freedom - 4) if freedom > 4 else math.inf,
        tail=float(freedom),
    )


def _sparse_draw(density: float, generator: np.random.Generator, n: int, p: int) -> Array:
    """A normal variable with probability d, otherwise 0, over sqrt(d)."""
    kept = generator.random((n, p)) < density
    return np.where(kept, generator.standard_normal((n, p)) / math.sqrt(density), 0.0)


def _bernoulli_gaussian(density: float) -> Law:
    """E[w^4] = 3/density."""
    return _independent(
        f"sparse-{density:g}",
        f"Bernoulli-Gaussian, density {density:g}",
        lambda generator, n, p: _sparse_draw(density, generator, n, p),
        3.0 / density,
    )


def _falling_density(p: int) -> float:
    return min(1.0, _SPARSE_COUNT / p)


def _elliptical(generator: np.random.Generator, n: int, p: int) -> Array:
    """A radius, the same for all entries of a sample, times a normal vector."""
    radius = np.sqrt(generator.choice(_RADII, (n, 1)))
    drawn: Array = radius * generator.standard_normal((n, p))
    return drawn


def _radius_moment(power: int) -> float:
    """E[R^(2 power)]."""
    return sum(square**power for square in _RADII) / len(_RADII)


def _lipschitz(generator: np.random.Generator, n: int, p: int) -> Array:
    """w_k = (3/sqrt(7)) u_k (1 + |u_(k+1)|), u_k uniform on (-1, 1), k modulo p.

    With u = 2 Phi(g) - 1 a map of a normal vector g whose Lipschitz constant does not depend on p: a concentrated
    vector. Entries are uncorrelated, since w_k is odd in u_k, but neighbours are dependent.
    """
    u = generator.uniform(-1.0, 1.0, (n, p))
    drawn: Array = 3.0 / math.sqrt(7.0) * u * (1.0 + np.abs(np.roll(u, -1, axis=1)))
    return drawn


# E[u^2] = 1/3, E[u^4] = 1/5, E(1+|u|)^2 = 7/3, E(1+|u|)^4 = 31/5, E[u^2 (1+|u|)^2] = 31/30 and (3/sqrt(7))^4 = 81/49:
# E[w^4] = 81/49 * 1/5 * 31/5, and neighbouring squares have the covariance 81/49 * 1/3 * 31/30 * 7/3 - 1 = 23/70.
_LIPSCHITZ_KURTOSIS = 81 / 49 * 31 / 25
_LIPSCHITZ_NORM_VARIANCE = _LIPSCHITZ_KURTOSIS - 1 + 2 * 23 / 70

_LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        _independent("gaussian", "Gaussian", lambda generator, n, p: generator.standard_normal((n, p)), 3.0),
        _independent(
            "uniform", "uniform", lambda generator, n, p: generator.uniform(-math.sqrt(3), math.sqrt(3), (n, p)), 1.8
        ),
        _independent("rademacher", "Rademacher", lambda generator, n, p: generator.choice((-1.0, 1.0), (n, p)), 1.0),
        _independent("laplace", "Laplace", lambda generator, n, p: generator.laplace(0.0, math.sqrt(0.5), (n, p)), 6.0),
        _student(8),
        _student(5),
        _student(3),
        _bernoulli_gaussian(0.1),
        _bernoulli_gaussian(0.01),
        _independent(
            f"sparse-{_SPARSE_COUNT}/p",
            f"Bernoulli-Gaussian, density {_SPARSE_COUNT}/p",
            lambda generator, n, p: _sparse_draw(_falling_density(p), generator, n, p),
            lambda p: 3.0 / _falling_density(p),
            concentrates=False,
        ),
        Law(
            "elliptical",
            "elliptical, R² = 1/2 or 3/2",
            _elliptical,
            lambda _: 3.0 * _radius_moment(2),
            lambda p: p * (_radius_moment(2) - 1.0) + 2.0 * _radius_moment(2),
            concentrates=False,
            independent=False,
        ),
        Law(
            "lipschitz",
            "Lipschitz map of a Gaussian",
            _lipschitz,
            lambda _: _LIPSCHITZ_KURTOSIS,
            lambda _: _LIPSCHITZ_NORM_VARIANCE,
            independent=False,
        ),
    )
}

LAWS: tuple[str, ...] = tuple(_LAWS)
