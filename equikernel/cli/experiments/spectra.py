"""``equikernel experiment spectra``: eigenvalues of a DEQ's kernels, of its equivalents' and of a naive network's."""

from __future__ import annotations

from typing import Annotated

import typer

from equikernel.cli.experiments.options import Data, Out, Seeds, Threads, all_threads, seeds_from, tell
from equikernel.cli.options import Acts, Quick, Seed, SigmaA2, SigmaB2, Trained

__all__ = ["spectra"]

_ACTIVATIONS = ("relu", "tanh")


def spectra(
    out: Out,
    acts: Acts = None,
    data: Data = None,
    n: Annotated[int | None, typer.Option("--n", metavar="N", min=10, help="Samples.", show_default="400")] = None,
    width: Annotated[
        int | None, typer.Option("--width", metavar="M", min=2, help="Of the finite DEQs.", show_default="1024")
    ] = None,
    draws: Annotated[
        int | None, typer.Option("--draws", metavar="N", min=2, help="Finite DEQs averaged.", show_default="8")
    ] = None,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    trained: Trained = "aA",
    seeds: Seeds = 3,
    seed: Seed = 0,
    threads: Threads = 1,
    quick: Quick = False,
) -> None:
    """Spectra of G and K: a DEQ against its equivalents and a naive network, on mixtures and real data."""
    from equikernel.theory.models import DEQ
    from equikernel.validation.experiments.suite import DEFAULT_DATA
    from equikernel.validation.paper.experiment import run_experiment
    from equikernel.validation.paper.kernels.spectra import SpectraExperiment, sources_for

    chosen = seeds_from(seed, seeds)
    sources, missing = sources_for(data or DEFAULT_DATA, n or (100 if quick else 400), chosen, optional=not data)
    experiment = SpectraExperiment(
        tuple(DEQ(act, sigma_a2, sigma_b2) for act in acts or _ACTIVATIONS),
        sources,
        chosen,
        width or (128 if quick else 1024),
        draws or (3 if quick else 8),
        trained,
        missing,
    )
    tell(out, run_experiment(experiment, out, threads=all_threads(threads)).remarks)
