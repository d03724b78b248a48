"""Language: perplexities of DEQ-Transformers whose weights are of three families, over seeds, as in the talk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from equikernel.errors import InputError, MemoryLimitError
from equikernel.theory.initialisation import FAMILIES
from equikernel.validation.datasets.text import TextCorpus, load_text
from equikernel.validation.deq.options import SolverOptions, require_choice
from equikernel.validation.devices import torch_device
from equikernel.validation.experiments.study import Outcome, derived_seed, limited_threads
from equikernel.validation.paper.experiment import Findings, require_seeds
from equikernel.validation.paper.language.findings import Run, language_findings
from equikernel.validation.paper.language.model import DEQTransformer, Shape
from equikernel.validation.paper.language.references import reference_perplexities
from equikernel.validation.paper.language.training import Recipe, require_length, train

# isort: split
import torch

__all__ = ["Language", "LanguageUnit"]


@lru_cache(maxsize=2)
def _corpus(data: str, min_count: int | None, download: bool) -> TextCorpus:
    """Texts are read once for all units."""
    return load_text(data, min_count=min_count, download=download)


@dataclass(frozen=True)
class Language:
    """The size of the experiment.

    Attributes:
        data: a name or a path (see ``load_text``). min_count: of its vocabulary. download: whether WikiText may be.
        families: of the hidden weights. scales: sigma, the talk's sqrt(V). seeds: of weights and batches, which are the
            same for all families and scales: their differences are taken seed by seed.
        shape: of the models. recipe: of their training.
        solver: of the equilibria and their adjoints, in training and in evaluation.
        device: "cpu", "cuda" or "cuda:N". threads: of the linear algebra.

    Raises:
        InputError: an argument outside its domain.
    """

    data: str = "python-topics"
    families: tuple[str, ...] = ("goe", "orthogonal", "iid")
    scales: tuple[float, ...] = (0.1, 0.3, 1.0)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    shape: Shape = field(default_factory=Shape)
    recipe: Recipe = field(default_factory=Recipe)
    solver: SolverOptions = field(default_factory=lambda: SolverOptions("anderson", 1e-3, 30))
    min_count: int | None = None
    download: bool = False
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        require_seeds(self.seeds)
        for name in ("families", "scales"):
            if not getattr(self, name):
                raise InputError(f"{name} must not be empty")
        for family in self.families:
            require_choice(family, "a family of weights", FAMILIES)
        for scale in self.scales:
            if not 0.0 < scale < math.inf:
                raise InputError(f"a scale of the weights must be a positive number; got {scale!r}")
        if self.solver.mixed:
            raise InputError("the models are computed in float32: mixed precision has no meaning here")
        self.solver.tolerance("float32")
        torch_device(self.device)

    @property
    def name(self) -> str:
        """For files."""
        return "language"

    @property
    def title(self) -> str:
        """For headings."""
        return "Language: DEQ-Transformers with i.i.d., orthogonal and symmetric weights"

    def corpus(self) -> TextCorpus:
        """The text.

        Raises:
            DataError: it is not on this machine, cannot be read, or is too short.
        """
        corpus = _corpus(self.data, self.min_count, self.download)
        require_length(corpus, self.shape.segment)
        return corpus

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "data": self.data,
            "families": list(self.families),
            "scales": list(self.scales),
            "seeds": list(self.seeds),
            "shape": self.shape.to_dict(),
            "recipe": self.recipe.to_dict(),
            "solver": asdict(self.solver),
            "min_count": self.min_count,
            "device": self.device,
            "threads": self.threads,
        }

    def units(self) -> tuple[LanguageUnit, ...]:
        """Models of one seed one after the other, so that a run that is stopped has whole seeds."""
        sha256 = self.corpus().sha256
        return tuple(
            LanguageUnit(self, sha256, family, scale, seed)
            for seed, scale, family in itertools.product(
                dict.fromkeys(self.seeds), dict.fromkeys(self.scales), dict.fromkeys(self.families)
            )
        )

    def findings(self, outcomes: Sequence[Outcome]) -> Findings:
        """Least and mean perplexities as in the talk's table, and what they say of its claims."""
        runs = [
            Run(unit.family, unit.scale, unit.seed, outcome.numbers)
            for unit, outcome in zip(self.units(), outcomes, strict=True)
            if outcome.numbers is not None
        ]
        corpus = self.corpus()
        return language_findings(runs, corpus, reference_perplexities(corpus), self.to_dict())


@dataclass(frozen=True)
class LanguageUnit:
    """One model, trained with one seed; itself the unit of work.

    Attributes:
        language: whose sizes it has. sha256: of its text.
    """

    language: Language
    sha256: str
    family: str
    scale: float
    seed: int

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        language = self.language
        return {
            "study": "language",
            "data": {"name": language.data, "sha256": self.sha256},
            "family": self.family,
            "scale": self.scale,
            "seed": self.seed,
            "shape": language.shape.to_dict(),
            "recipe": language.recipe.to_dict(),
            "solver": asdict(language.solver),
            "device": language.device,
            "threads": language.threads,
        }

    def measure(self) -> dict[str, Any]:
        """The record of ``train``, and how many parameters there are.

        Raises:
            MemoryLimitError: the device is out of memory.
            InputError: the vocabulary is too small for an adaptive softmax.
        """
        language = self.language
        corpus = language.corpus()
        with limited_threads(language.threads, torch_too=True):
            try:
                model = DEQTransformer(
                    len(corpus.vocabulary),
                    language.shape,
                    self.family,
                    self.scale,
                    derived_seed(self.seed, "language weights"),
                    language.solver,
                    device=language.device,
                )
                numbers = train(model, corpus, language.recipe, derived_seed(self.seed, "language batches"))
            except torch.cuda.OutOfMemoryError as error:
                raise MemoryLimitError(
                    "a DEQ-Transformer does not fit on the device: take a smaller batch, segment or d_model"
                ) from error
        return numbers | {"parameters": sum(parameter.numel() for parameter in model.parameters())}
