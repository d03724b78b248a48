"""``equikernel experiment dynamics``: loss curves of trained networks against the kernel regime."""

from __future__ import annotations

from typing import Annotated

import typer

from equikernel.cli.experiments.options import Data, Out, Seeds, Threads, all_threads, seeds_from, tell
from equikernel.cli.options import Act, Quick, Seed, SigmaA2, SigmaB2, Trained

__all__ = ["Test", "Train", "Widths", "dynamics"]

Widths = Annotated[
    list[int] | None, typer.Option("--width", metavar="M", min=2, help="A width of the networks; repeat it.")
]
Train = Annotated[int, typer.Option("--train", metavar="N", min=2, help="Training samples.")]
Test = Annotated[int, typer.Option("--test", metavar="N", min=1, help="Test samples.")]

_FULL = (64, 128, 256, 512, 1024)
_QUICK = (16, 32, 64)


def dynamics(
    out: Out,
    act: Act = "relu",
    data: Data = None,
    widths: Widths = None,
    train: Train = 128,
    test: Test = 128,
    steps: Annotated[int, typer.Option("--steps", metavar="T", min=1, help="Steps of gradient descent.")] = 40,
    fraction: Annotated[
        float, typer.Option("--step", metavar="C", help="Their size in units of 1/(largest eigenvalue of K).")
    ] = 0.5,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    trained: Trained = "aA",
    seeds: Seeds = 3,
    seed: Seed = 0,
    threads: Threads = 1,
    quick: Quick = False,
) -> None:
    """Training of a DEQ, its equivalent and a naive network against exp(-eta K t), K the exact kernel."""
    from equikernel.theory.models import DEQ
    from equikernel.validation.paper.experiment import run_experiment
    from equikernel.validation.paper.lazy.dynamics import Dynamics
    from equikernel.validation.paper.lazy.problem import two_class_source

    if quick:
        train, test = min(train, 32), min(test, 32)
    experiment = Dynamics(
        DEQ(act, sigma_a2, sigma_b2),
        tuple(two_class_source(name, train + test, seed) for name in data or ("gmm", "digits")),
        train,
        tuple(widths or (_QUICK if quick else _FULL)),
        seeds_from(seed, seeds),
        fraction,
        steps,
        trained,
        all_threads(threads),
    )
    tell(out, run_experiment(experiment, out, threads=experiment.threads).remarks)
