"""``equikernel experiment non-gaussian``: the rates on data beyond the theory's hypotheses."""

from __future__ import annotations

from typing import Annotated

import typer

from equikernel.cli.experiments.options import Out, Seeds, Threads, all_threads, seeds_from, tell
from equikernel.cli.experiments.rates import Dimensions, Family, Ratio, ladder
from equikernel.cli.options import Acts, Quick, Seed, SigmaA2, SigmaB2, Trained

__all__ = ["non_gaussian"]

_ACTIVATIONS = ("relu", "tanh")


def non_gaussian(
    out: Out,
    acts: Acts = None,
    laws: Annotated[
        list[str] | None,
        typer.Option("--law", metavar="NAME", help="A law of the noise; may be repeated; all of them by default."),
    ] = None,
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
    """‖G − Ḡ‖ and ‖K − K̄‖ against the dimension on heavy-tailed, sparse, bounded, elliptical and concentrated data."""
    from equikernel.theory.models import DEQ
    from equikernel.validation.paper.experiment import run_experiment
    from equikernel.validation.paper.laws.non_gaussian import NonGaussianExperiment
    from equikernel.validation.paper.laws.samplers import LAWS

    experiment = NonGaussianExperiment(
        tuple(DEQ(act, sigma_a2, sigma_b2) for act in acts or _ACTIVATIONS),
        laws=tuple(dict.fromkeys(laws or LAWS)),
        dimensions=ladder(dimensions, quick=quick),
        seeds=seeds_from(seed, 3 if quick else seeds),
        family=family,
        ratio=ratio,
        trained=trained,
    )
    tell(out, run_experiment(experiment, out, threads=all_threads(threads)).remarks)
