"""Where the samples of a study come from: synthetic mixtures, whose population is known, or data sets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import DataError
from equikernel.numerics.equivalents import EquivalentCoefficients, equivalent_kernel
from equikernel.numerics.kernels import explicit_kernels, implicit_kernels
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.datasets import DATASETS, Dataset, load_dataset
from equikernel.validation.mixtures import mixture_family

__all__ = ["DatasetSource", "MixtureSource", "Sample", "Source", "dataset_source"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Samples in rows and what is known of their distribution.

    Attributes:
        X: (n, p). labels: (n,) or None.
        tau0: scale of the data, a standard deviation.
        means: (K, p), the population's, or None. covariances: K of them, or None.
    """

    X: Array
    labels: NDArray[np.int64] | None
    tau0: float
    means: Array | None = None
    covariances: tuple[Array, ...] | None = None

    def exact(self, network: DEQ | ExplicitNetwork, kernel: str, trained: str) -> Array:
        """The exact "ck" or "ntk" of infinite width on the sample.

        Args:
            network: a DEQ, centred at tau0, or an explicit network, centred at its own.
            kernel: "ck" or "ntk".
            trained: which parameters the NTK of a DEQ trains; an explicit network trains all at its own rates.
        """
        ntk = kernel == "ntk"
        if isinstance(network, ExplicitNetwork):
            explicit: Array = getattr(explicit_kernels(self.X, network, ntk=ntk), kernel)
            return explicit
        implicit: Array = getattr(implicit_kernels(self.X, network, tau0=self.tau0, trained=trained, ntk=ntk), kernel)
        return implicit

    def equivalent(self, deq: DEQ, kernel: str, trained: str, *, labelled: bool) -> Array:
        """The high-dimensional equivalent of the "ck" or the "ntk" on the sample.

        Args:
            deq: the network.
            kernel: "ck" or "ntk".
            trained: which parameters the NTK trains.
            labelled: use labels, with population statistics where they are known; otherwise the label-free form.
        """
        known: dict[str, Any] = {"means": self.means, "covariances": self.covariances} if labelled else {}
        s = solve(deq, self.tau0, trained=trained)
        if kernel == "ck":
            coefficients = EquivalentCoefficients(s.alpha1, s.alpha2, s.alpha3, s.gamma2)
        else:
            coefficients = EquivalentCoefficients(s.beta1, s.beta2, s.beta3, s.kappa2)
        labels = self.labels if labelled else None
        return equivalent_kernel(self.X, coefficients, labels=labels, tau0=self.tau0, **known)


@dataclass(frozen=True)
class MixtureSource:
    """n samples of a family of Gaussian mixtures in dimension p."""

    family: str
    p: int
    n: int
    seed: int

    @property
    def title(self) -> str:
        """For headings."""
        return f"Gaussian mixture ({self.family})"

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"kind": "mixture", **asdict(self)}

    def load(self) -> Sample:
        """Draw the samples: the same bits every time on one machine."""
        mixture = mixture_family(self.family)(self.p)
        drawn = mixture.sample(self.n, self.seed)
        return Sample(drawn.X, drawn.labels, mixture.tau0, mixture.means, mixture.covariances)


@dataclass(frozen=True)
class DatasetSource:
    """n samples of a data set, centred and scaled to mean ||x||^2 = 1; made by ``dataset_source``.

    Attributes:
        name: a name or a path.
        n: how many samples. p: how many features.
        seed: of the draw.
        labelled: whether there are labels.
        sha256: of the samples, so that other contents of the same file are other data.
        source: where the bytes came from. preprocessing: what was done to them.
    """

    name: str
    n: int
    p: int
    seed: int
    labelled: bool
    sha256: str
    source: str
    preprocessing: str

    @property
    def title(self) -> str:
        """For headings."""
        return self.name

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"kind": "data set", **asdict(self)}

    def load(self) -> Sample:
        """The samples; their scale tau0 is 1 by construction."""
        data = _load(self.name, self.n, self.seed)
        # a copy: the data set's own array is read-only, which torch warns of
        return Sample(data.X.copy(), data.labels if self.labelled else None, 1.0)


Source = MixtureSource | DatasetSource


@lru_cache(maxsize=8)
def _load(name: str, n: int, seed: int) -> Dataset:
    """Data sets are read once: the studies of several activations share them."""
    return load_dataset(name, n=n, seed=seed, download=False)


def dataset_source(name: str, n: int, seed: int, *, download: bool = False) -> DatasetSource:
    """At most ``n`` samples of a named data set or of a file.

    Args:
        name: a name or a path.
        n: how many samples; a file that has fewer gives all of its own.
        seed: of the draw.
        download: whether a named set that is not on this machine may be downloaded.

    Raises:
        DataError: the data set is not on this machine, the file cannot be used, or its labels are all the same.
    """
    if name not in DATASETS:
        n = min(n, load_dataset(name, normalise=False).n)
    elif download:
        load_dataset(name, n=1, normalise=False)
    data = _load(name, n, seed)
    if data.labels is not None and len(np.unique(data.labels)) < 2:
        raise DataError(
            f"the {data.n} samples of {name} are all of one class, but labels are there to compare classes: give "
            "samples of two classes or more, or, where nothing is trained, leave the labels out"
        )
    return DatasetSource(
        name, data.n, data.p, seed, data.labels is not None, data.sha256, data.source, data.preprocessing
    )
