"""``equikernel experiment statistics``: the formulas of the statistics at initialisation against matrices."""

from __future__ import annotations

from typing import Annotated

import typer

from equikernel.cli.experiments.options import Out, Threads, all_threads, tell
from equikernel.cli.options import Quick, Seed

__all__ = ["statistics"]

_FULL, _QUICK = (80, 160, 320), (40, 80, 160)


def statistics(
    out: Out,
    acts: Annotated[
        list[str] | None,
        typer.Option("--act", metavar="ACT", help="A nonlinear activation; repeat it. More is tried with the first."),
    ] = None,
    sizes: Annotated[
        list[int] | None,
        typer.Option("--size", metavar="N", help="A size of the matrices; repeat it, three times at least."),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", metavar="M", min=16, help="Matrices at the largest size; twice at the others.")
    ] = 480,
    share: Annotated[
        float, typer.Option("--share", metavar="C", help="Sigma of nonlinear networks over the critical sigma.")
    ] = 0.4,
    seed: Seed = 0,
    threads: Threads = 1,
    quick: Quick = False,
) -> None:
    """z-scores of every formula at several sizes, trends in 1/N, lengths over sigma, spectra, exponents."""
    from equikernel.validation.paper.experiment import run_experiment
    from equikernel.validation.paper.statistics.experiment import Statistics

    chosen = tuple(sizes or (_QUICK if quick else _FULL))
    if quick:
        experiment = Statistics(
            tuple(acts or ("tanh",)), chosen, min(count, 160), share, seed=seed, sweep_size=80, sweep_count=48
        )
    else:
        experiment = Statistics(tuple(acts or ("tanh", "relu", "gelu")), chosen, count, share, seed=seed)
    tell(out, run_experiment(experiment, out, threads=all_threads(threads)).remarks)
