"""What the experiments on trained networks share: two classes split in two, the networks, and their exact kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import DataError, InputError, NoDesignError
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.deq.options import require_count
from equikernel.validation.experiments.sources import MixtureSource, Sample, Source, dataset_source
from equikernel.validation.experiments.study import derived_seed, describe_deq
from equikernel.validation.paper.lazy.linearised import KernelModel
from equikernel.validation.paper.networks import equivalent_of, naive_network

__all__ = [
    "Contestant",
    "LazyData",
    "TwoClasses",
    "contestants",
    "described_run",
    "limit_model",
    "missing_equivalent",
    "require_widths",
    "two_class_source",
]

Array = NDArray[np.float64]


_DIMENSION = 256  # of mixtures


def two_class_source(name: str, n: int, seed: int) -> Source:
    """Samples of "gmm", two Gaussian classes in dimension 256, of a named data set, or of a file.

    Raises:
        DataError: as ``dataset_source``.
    """
    return MixtureSource("isotropic", _DIMENSION, n, seed) if name == "gmm" else dataset_source(name, n, seed)


def require_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """One width or more, in increasing order.

    Raises:
        InputError: none, or something else than whole numbers of at least 2.
    """
    checked = tuple(sorted({require_count(width, "a width", 2) for width in widths}))
    if not checked:
        raise InputError("an experiment on trained networks needs a width or more; got none")
    return checked


@dataclass(frozen=True, eq=False)
class TwoClasses:
    """Samples with labels +-1.

    Attributes:
        X: (N, p), the n training samples first.
        y: (N,), +1 or -1.
        n: the number of training samples.
        tau0: standard deviation of the data.
    """

    X: Array
    y: Array
    n: int
    tau0: float

    @property
    def train_labels(self) -> Array:
        """Labels of the training samples, (n,)."""
        return self.y[: self.n]

    @property
    def test_labels(self) -> Array:
        """Labels of the others, (N - n,)."""
        return self.y[self.n :]


@dataclass(frozen=True)
class LazyData:
    """A source split in two at random, its classes put together into two.

    Attributes:
        source: of all samples.
        train: how many of them are trained on.
        seed: of the split.
    """

    source: Source
    train: int
    seed: int

    @property
    def title(self) -> str:
        """The source and the sizes, for headings."""
        return f"{self.source.title}, {self.train} training and {self.source.n - self.train} test samples"

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"source": self.source.describe(), "train": self.train, "seed": self.seed}

    def load(self) -> TwoClasses:
        """The lower half of the classes (in the order of their numbers) is +1, the rest -1; of 10 digits 0-4 and 5-9.

        Raises:
            DataError: no labels, one class, or no samples left to test on.
        """
        return _split(self)


@lru_cache(maxsize=4)
def _split(data: LazyData) -> TwoClasses:
    sample = data.source.load()
    if sample.labels is None or len(np.unique(sample.labels)) < 2:
        raise DataError(f"{data.source.title} has no labels of two classes or more, which training needs")
    if not 2 <= data.train < len(sample.X):
        raise DataError(
            f"of the {len(sample.X)} samples of {data.source.title} from 2 to {len(sample.X) - 1} can be trained on, "
            f"the rest is for testing; got {data.train}"
        )
    classes, index = np.unique(sample.labels, return_inverse=True)
    y = np.where(index < len(classes) / 2, 1.0, -1.0)
    order = np.random.default_rng(derived_seed(data.seed, "split")).permutation(len(y))
    return TwoClasses(sample.X[order], y[order], data.train, sample.tau0)


@dataclass(frozen=True)
class Contestant:
    """A network that is trained.

    Attributes:
        name: "deq", "equivalent" or "naive".
        network: of infinite width.
        trained: "a", "aA" or "aAB" for a DEQ; explicit networks train the readout for "a", otherwise all layers.
    """

    name: str
    network: DEQ | ExplicitNetwork
    trained: str

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        network = self.network
        record = describe_deq(network) if isinstance(network, DEQ) else network.to_dict()
        return {"name": self.name, "network": record, "trained": self.trained}


def contestants(deq: DEQ, tau0: float, trained: str) -> tuple[Contestant, ...]:
    """The DEQ, its equivalent if there is one (see ``missing_equivalent``), and a naive network of two layers.

    With the readout alone trained the equivalent matches the CK, otherwise the NTK of the DEQ trained "aA", with
    learning rates of its own for the layers.

    Args:
        deq: the network.
        tau0: standard deviation of the data.
        trained: "a", "aA" or "aAB"; for "aAB" no equivalent is designed, and that for "aA" stands in.

    Raises:
        EquikernelError: the DEQ has no solution.
    """
    equivalent = _equivalent(deq, tau0, trained)
    found = {"deq": deq, "equivalent": equivalent, "naive": naive_network(deq, tau0)}
    return tuple(Contestant(name, net, trained) for name, net in found.items() if not isinstance(net, str))


def missing_equivalent(deq: DEQ, tau0: float, trained: str) -> tuple[str, ...]:
    """The sentence why there is no equivalent, if there is none."""
    equivalent = _equivalent(deq, tau0, trained)
    return (f"There is no equivalent to train: {equivalent}",) if isinstance(equivalent, str) else ()


@lru_cache(maxsize=8)  # refusals are remembered too
def _equivalent(deq: DEQ, tau0: float, trained: str) -> ExplicitNetwork | str:
    try:
        return equivalent_of(deq, "ck" if trained == "a" else "ntk", tau0)
    except NoDesignError as error:
        return str(error)


def described_run(
    contestant: Contestant, reference: Contestant, data: LazyData, width: int, seed: int
) -> dict[str, Any]:
    """What the numbers of every unit depend on: a network of finite width, and the DEQ that is to predict it."""
    return {
        "contestant": contestant.describe(),
        "reference": reference.describe(),
        "data": data.describe(),
        "width": width,
        "seed": seed,
    }


@lru_cache(maxsize=16)
def limit_model(contestant: Contestant, data: LazyData) -> KernelModel:
    """The linearised network of infinite width: columns of its exact CK (trained "a") or NTK.

    Raises:
        EquikernelError: the kernel does not exist, or the data cannot be used.
    """
    samples, trained = data.load(), contestant.trained
    kernel = Sample(samples.X, None, samples.tau0).exact(contestant.network, "ck" if trained == "a" else "ntk", trained)
    return KernelModel(np.ascontiguousarray(kernel[:, : samples.n]))
