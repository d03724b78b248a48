"""``equikernel experiment scores``: every activation's finite networks against its exact kernels."""

from __future__ import annotations

from typing import Annotated

import typer

from equikernel.cli.experiments.options import Data, Out, Seeds, Threads, all_threads, seeds_from, tell
from equikernel.cli.options import Acts, Quick, Seed, SigmaA2, SigmaB2

__all__ = ["scores"]


def scores(
    out: Out,
    acts: Acts = None,
    data: Data = None,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    seeds: Seeds = 3,
    seed: Seed = 0,
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws",
            metavar="N",
            min=4,
            help="Networks at the largest width; more at smaller ones.",
            show_default="16",
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", metavar="N", min=2, help="Samples.", show_default="16")] = None,
    widths: Annotated[
        list[int] | None,
        typer.Option("--width", metavar="M", min=1, help="A width; four or more of them.", show_default="32 … 512"),
    ] = None,
    threads: Threads = 0,
    quick: Quick = False,
) -> None:
    """z-scores of the CK and the NTK for every activation without jumps, and the correction of finite width."""
    from equikernel.validation.paper.experiment import run_experiment
    from equikernel.validation.paper.scores.scores import Scores

    cores = all_threads(threads)
    defaults = Scores()
    experiment = Scores(
        activations=tuple(acts or ()),
        data=tuple(data or defaults.data),
        seeds=seeds_from(seed, seeds),
        n=n or (6 if quick else defaults.n),
        widths=tuple(widths or ((32, 64, 96, 128) if quick else defaults.widths)),
        draws=draws or (16 if quick else defaults.draws),
        sigma_a2=sigma_a2,
        sigma_b2=sigma_b2,
        threads=cores,
    )
    tell(out, run_experiment(experiment, out, threads=cores).remarks)
