"""``equikernel experiment rates``: how fast the equivalents approach the exact kernels, for several activations."""

from __future__ import annotations

from typing import Annotated

import typer

from equikernel.cli.experiments.options import Out, Seeds, Threads, all_threads, seeds_from, tell
from equikernel.cli.options import Acts, Quick, Seed, SigmaA2, SigmaB2, Trained

__all__ = ["Dimensions", "Family", "Ratio", "ladder", "rates"]

Dimensions = Annotated[
    list[int] | None,
    typer.Option("--dimension", metavar="P", min=9, help="A dimension p of the ladder; repeat it, two or more."),
]
Family = Annotated[
    str, typer.Option("--family", metavar="isotropic|isotropic3|structured", help="Classes of the mixture.")
]
Ratio = Annotated[float, typer.Option("--ratio", metavar="N/P", min=0.01, max=10.0, help="Samples per dimension.")]

_ACTIVATIONS = ("relu", "tanh", "silu", "gelu", "elu")
_FULL = (100, 200, 400, 800, 1600)
_QUICK = (50, 100, 200)


def ladder(dimensions: list[int] | None, *, quick: bool) -> tuple[int, ...]:
    """The dimensions asked for, or those of a look or of a serious run."""
    return tuple(dimensions or (_QUICK if quick else _FULL))


def rates(
    out: Out,
    acts: Acts = None,
    dimensions: Dimensions = None,
    family: Family = "isotropic",
    ratio: Ratio = 0.5,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    trained: Trained = "aA",
    seeds: Seeds = 5,
    seed: Seed = 0,
    threads: Threads = 1,
    quick: Quick = False,
) -> None:
    """‖G − Ḡ‖ and ‖K − K̄‖ against the dimension, with slopes, for relu, tanh, silu, gelu and elu, or others."""
    from equikernel.theory.models import DEQ
    from equikernel.validation.paper.experiment import run_experiment
    from equikernel.validation.paper.kernels.rates import RatesExperiment

    experiment = RatesExperiment(
        tuple(DEQ(act, sigma_a2, sigma_b2) for act in acts or _ACTIVATIONS),
        dimensions=ladder(dimensions, quick=quick),
        seeds=seeds_from(seed, 3 if quick else seeds),
        family=family,
        ratio=ratio,
        trained=trained,
    )
    tell(out, run_experiment(experiment, out, threads=all_threads(threads)).remarks)
