"""Which networks a sweep trains: families, matched quantities and their values, as distinct (family, sigma)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from equikernel.errors import InputError
from equikernel.theory.activation import activation
from equikernel.theory.initialisation import FAMILIES, require_family
from equikernel.theory.initialisation_scales import MATCHES, matched_sigma
from equikernel.validation.deq.options import SolverOptions, require_count
from equikernel.validation.devices import torch_device
from equikernel.validation.paper.experiment import require_seeds
from equikernel.validation.paper.training.splits import SplitSource, split_source

__all__ = ["Cell", "Recipe", "SweepConfig"]


@dataclass(frozen=True)
class Cell:
    """Networks that differ by their seed alone.

    Attributes:
        family: of the initial W. sigma: its scale, a standard deviation: the entries have variance sigma^2/N.
    """

    family: str
    sigma: float


@dataclass(frozen=True)
class Recipe:
    """What a network is, and how it is trained.

    Attributes:
        activation: phi.
        width: N.
        input_scale: standard deviation of an entry of Ux at the start, for x with entries of mean square 1.
        epochs: passes over the training data. batch: samples of a step.
        lr: learning rate of Adam.
        tol: relative residual of every solve. max_iter: evaluations after which a solve is given up.

    Raises:
        InputError: an argument outside its domain, or an activation that jumps.
    """

    activation: str = "tanh"
    width: int = 128
    input_scale: float = 0.3
    epochs: int = 20
    batch: int = 128
    lr: float = 3e-3
    tol: float = 1e-4
    max_iter: int = 40

    def __post_init__(self) -> None:
        phi = activation(self.activation)
        if phi.jumps:
            raise InputError(f"{phi.name} jumps, so that its networks have no gradient: take a continuous activation")
        for name in ("width", "epochs", "batch"):
            require_count(getattr(self, name), name, 1)
        for name in ("input_scale", "lr"):
            _require_positive(getattr(self, name), name)
        self.solver.tolerance("float32")

    @property
    def solver(self) -> SolverOptions:
        """Of forward and backward solves."""
        return SolverOptions("plain", self.tol, self.max_iter)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "expression": str(activation(self.activation).expr)}


@dataclass(frozen=True)
class SweepConfig:
    """The size of the sweep.

    Attributes:
        data: a named data set or a file.
        families: of the initial weights. matches: what is held equal between them. values: of that quantity.
        seeds: of weights and order of samples; the samples are the same for all seeds.
        recipe: what every network is, and how it is trained.
        train: how many samples are trained on; None: 10000, or all if there are fewer. test: how many are tested on;
            None: all. data_seed: of their draw.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        InputError: an argument outside its domain; a quantity that cannot be matched at this width.
    """

    data: str = "digits"
    families: tuple[str, ...] = FAMILIES
    matches: tuple[str, ...] = MATCHES
    values: tuple[float, ...] = (0.3, 0.6, 0.9, 1.2, 1.5)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    recipe: Recipe = field(default_factory=Recipe)
    train: int | None = None
    test: int | None = None
    data_seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_seeds(self.seeds)
        for name in ("families", "matches", "values", "seeds"):
            chosen = tuple(dict.fromkeys(getattr(self, name)))
            if not chosen:
                raise InputError(f"{name} must not be empty")
            object.__setattr__(self, name, chosen)
        for family in self.families:
            require_family(family)
        for value in self.values:
            _require_positive(value, "a matched value")
        object.__setattr__(self, "values", tuple(sorted(float(value) for value in self.values)))
        self.cells()
        torch_device(self.device)

    def cell(self, family: str, match: str, value: float) -> Cell:
        """The networks of a family whose matched quantity has this value.

        Raises:
            InputError: the quantity means nothing at this width.
        """
        return Cell(family, float(matched_sigma(family, match, value, self.recipe.width)))

    def cells(self) -> tuple[Cell, ...]:
        """All networks but for their seeds, each once: one may stand for several matched quantities."""
        return tuple(
            dict.fromkeys(
                self.cell(family, match, value)
                for match in self.matches
                for value in self.values
                for family in self.families
            )
        )

    def source(self) -> SplitSource:
        """The data.

        Raises:
            DataError: they are not on this machine or cannot be used.
        """
        return split_source(self.data, self.train, self.test, self.data_seed, "pixels")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "data": self.data,
            "families": list(self.families),
            "matches": list(self.matches),
            "values": list(self.values),
            "seeds": list(self.seeds),
            "recipe": self.recipe.to_dict(),
            "train": self.train,
            "test": self.test,
            "data_seed": self.data_seed,
            "device": self.device,
        }


def _require_positive(value: Any, name: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise InputError(f"{name} must be a positive finite number; got {value!r}")
