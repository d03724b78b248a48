"""What every study is made of: units of work, a runner that resumes them, and numbers that say where they come from."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import EquikernelError, SolutionError
from equikernel.theory.models import DEQ
from equikernel.validation.store import Store, canonical_json

__all__ = [
    "Outcome",
    "Quantity",
    "Runner",
    "Unit",
    "derived_seed",
    "describe_deq",
    "kernel_uncertainty",
    "limited_threads",
]

Array = NDArray[np.float64]

# What numerics.kernels promises for an entry, relative to the kernel's scale (the worse of the two, the NTK's).
_KERNEL_ACCURACY = 1e-13


@dataclass(frozen=True)
class Quantity:
    """A number with its uncertainty and its provenance.

    Attributes:
        value: the number.
        uncertainty: a bound on its error, or a standard error, as ``provenance`` says; None where there is none to
            state.
        provenance: how it was obtained.
    """

    value: float
    uncertainty: float | None
    provenance: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"value": self.value, "uncertainty": self.uncertainty, "provenance": self.provenance}


class Unit(Protocol):
    """A piece of work done at one go: what its numbers depend on, and how they are made."""

    def describe(self) -> dict[str, Any]:
        """Everything that the numbers depend on, as plain JSON types."""

    def measure(self) -> dict[str, Any]:
        """The numbers, as plain JSON types.

        Raises:
            EquikernelError: there are none.
        """


@dataclass(frozen=True)
class Outcome:
    """The numbers of a unit, or the sentence that says why there are none.

    Attributes:
        numbers: as plain JSON types, or None.
        failure: the sentence, or None.
        unsolvable: whether the failure is a ``SolutionError``: the question has no answer, whatever the data.
    """

    numbers: dict[str, Any] | None
    failure: str | None = None
    unsolvable: bool = False


@dataclass(frozen=True)
class Runner:
    """Runs units one after the other, taking from the store what is there.

    Attributes:
        store: where finished units are kept; None keeps nothing.
        done: called after each unit (a progress bar).
        threads: of the linear algebra; with one thread the bits do not depend on the machine's other work.
    """

    store: Store | None = None
    done: Callable[[], None] | None = None
    threads: int = 1

    def run(self, units: Iterable[Unit]) -> list[Outcome]:
        """The outcomes of the units, in order. A unit that fails on purpose does not stop the others."""
        outcomes = []
        for unit in units:
            try:
                outcomes.append(Outcome(self._numbers(unit)))
            except EquikernelError as error:
                outcomes.append(Outcome(None, str(error), isinstance(error, SolutionError)))
            if self.done is not None:
                self.done()
        return outcomes

    def _numbers(self, unit: Unit) -> dict[str, Any]:
        with limited_threads(self.threads):
            return unit.measure() if self.store is None else self.store.fetch(unit.describe(), unit.measure)


@contextmanager
def limited_threads(count: int = 1, *, torch_too: bool = False) -> Iterator[None]:
    """Linear algebra on one thread, or so many: the bits do not depend on how many cores are free.

    At small sizes one is hardly slower, and on a busy machine much faster than threads that wait for each other.

    Args:
        count: threads.
        torch_too: torch as well, which is imported for it.

    Raises:
        InputError: torch is not installed.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=count):
        if not torch_too:
            yield
            return
        importlib.import_module(
            "equikernel.validation.torch_arithmetic"
        )  # says so in a sentence where torch is missing
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def describe_deq(deq: DEQ) -> dict[str, Any]:
    """A DEQ as plain JSON types, exactly."""
    return {
        "activation": deq.activation.name,
        "expression": str(deq.activation.expr),
        "sigma_a2": str(deq.sigma_a2),
        "sigma_b2": str(deq.sigma_b2),
        "weights": deq.weights,
    }


def derived_seed(seed: int, *parts: str | int) -> int:
    """A seed for each purpose, below 2^32: a hash of the run's seed and the purpose, the same on every machine."""
    return int.from_bytes(hashlib.sha256(canonical_json([seed, *parts]).encode()).digest()[:4], "little")


def kernel_uncertainty(kernel: Array) -> float:
    """A bound on the operator norm of the numerical error of an exact kernel: n times that of an entry."""
    return len(kernel) * _KERNEL_ACCURACY * float(np.abs(kernel).max())
