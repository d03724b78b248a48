"""``equikernel experiment ridge``: networks trained with penalties against kernel ridge regression."""

from __future__ import annotations

from typing import Annotated

import typer

from equikernel.cli.experiments.dynamics import Test, Train, Widths
from equikernel.cli.experiments.options import Data, Out, Seeds, Threads, all_threads, seeds_from, tell
from equikernel.cli.options import Act, Quick, Seed, SigmaA2, SigmaB2, Trained

__all__ = ["ridge"]

_FULL, _READOUT = (64, 128, 256, 512), (64, 128, 256, 512, 1024, 2048)
_QUICK, _QUICK_READOUT = (16, 32, 64), (32, 64, 128)


def ridge(
    out: Out,
    act: Act = "relu",
    data: Data = None,
    widths: Widths = None,
    readout_widths: Annotated[
        list[int] | None,
        typer.Option("--readout-width", metavar="M", min=2, help="A width where the readout alone is trained."),
    ] = None,
    train: Train = 128,
    test: Test = 400,
    penalties: Annotated[
        list[float] | None,
        typer.Option("--penalty", metavar="L", help="A penalty in units of the largest eigenvalue of K; repeat it."),
    ] = None,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    trained: Trained = "aA",
    seeds: Seeds = 3,
    seed: Seed = 0,
    threads: Threads = 1,
    quick: Quick = False,
) -> None:
    """Weight decay, on the readout, towards the initial weights, and plain, against kernel ridge regression."""
    from equikernel.theory.models import DEQ
    from equikernel.validation.paper.experiment import run_experiment
    from equikernel.validation.paper.lazy.problem import two_class_source
    from equikernel.validation.paper.lazy.ridge import Ridge

    if quick:
        train, test = min(train, 32), min(test, 64)
    experiment = Ridge(
        DEQ(act, sigma_a2, sigma_b2),
        tuple(two_class_source(name, train + test, seed) for name in data or ("digits",)),
        train,
        tuple(readout_widths or (_QUICK_READOUT if quick else _READOUT)),
        tuple(widths or (_QUICK if quick else _FULL)),
        seeds_from(seed, seeds),
        fractions=tuple(penalties or ((0.1, 1.0) if quick else (0.01, 0.1, 1.0))),
        trained=trained,
        threads=all_threads(threads),
    )
    tell(out, run_experiment(experiment, out, threads=experiment.threads).remarks)
