"""Training and test samples of an experiment: which they are, and where they are kept while its units run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from equikernel.validation.datasets import Split, load_split

__all__ = ["SplitSource", "split_source"]


@dataclass(frozen=True)
class SplitSource:
    """Training and test samples of a data set behind a front end; made by ``split_source``.

    Attributes:
        name: a name or a path.
        asked: the front end asked for. front_end: what it is, in words. preprocessing: the rest that was done.
        train: how many samples are trained on. test: how many the accuracy is for.
        sizes: the same as they were asked for.
        seed: of the draw.
        features: p. classes: K.
        sha256: of the samples, so that other contents of the same file are other data.
        source: where the bytes came from.
    """

    name: str
    asked: str
    train: int
    test: int
    sizes: tuple[int | None, int | None]
    seed: int
    features: int
    classes: int
    front_end: str
    preprocessing: str
    sha256: str
    source: str

    @property
    def title(self) -> str:
        """For tables: the data set and its front end."""
        return f"{self.name}: {self.front_end}"

    @property
    def short_title(self) -> str:
        """For figures and sentences."""
        return f"{self.name} ({self.asked})"

    def describe(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"kind": "split", **asdict(self)}

    def load(self) -> Split:
        """The samples, read once."""
        return _load(self.name, *self.sizes, self.seed, self.asked)


@lru_cache(maxsize=32)
def split_source(name: str, train: int | None, test: int | None, seed: int, front_end: str) -> SplitSource:
    """So many samples of a named data set or of a file.

    Args:
        name: a name or a path.
        train: how many to train on; None: as many as ``load_split`` takes.
        test: likewise.
        seed: of the draw.
        front_end: what they go through.

    Raises:
        DataError: the data are not to be had or cannot be used.
        InputError: an unknown front end.
    """
    data = _load(name, train, test, seed, front_end)
    return SplitSource(
        name=name,
        asked=front_end,
        train=data.train.n,
        test=data.test.n,
        sizes=(train, test),
        seed=seed,
        features=data.p,
        classes=data.classes,
        front_end=data.front_end,
        preprocessing=data.preprocessing,
        sha256=data.sha256,
        source=data.source,
    )


@lru_cache(maxsize=2)
def _load(name: str, train: int | None, test: int | None, seed: int, front_end: str) -> Split:
    return load_split(name, train=train, test=test, seed=seed, front_end=front_end)
