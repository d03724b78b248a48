"""``equikernel experiment language``: a DEQ-Transformer's perplexity with weights of three families."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from equikernel.cli.experiments.options import Device, Out, Seeds, Threads, all_threads, seeds_from, tell
from equikernel.cli.options import Quick, Seed

__all__ = ["language"]

_QUICK_SCALES = (0.1, 1.0)


def language(
    out: Out,
    data: Annotated[
        str, typer.Option("--data", metavar="NAME|PATH", help="python-topics, markov, wikitext-103, or a text.")
    ] = "python-topics",
    families: Annotated[
        list[str] | None,
        typer.Option(
            "--family", metavar="iid|orthogonal|goe", help="Of the hidden weights; repeat it.", show_default="all"
        ),
    ] = None,
    scales: Annotated[
        list[float] | None,
        typer.Option(
            "--scale", metavar="S", help="sqrt(V) of the hidden weights; repeat it.", show_default="0.1, 0.3, 1"
        ),
    ] = None,
    d_model: Annotated[
        int | None, typer.Option("--d-model", metavar="D", min=2, help="Features of a token.", show_default="64")
    ] = None,
    heads: Annotated[int, typer.Option("--heads", metavar="H", min=1, help="Of the attention; they divide D.")] = 4,
    segment: Annotated[
        int | None, typer.Option("--segment", metavar="T", min=2, help="Tokens of a sequence.", show_default="32")
    ] = None,
    norm: Annotated[
        str, typer.Option("--norm", metavar="pre|post", help="Where the layer normalisations are.")
    ] = "pre",
    output: Annotated[
        str, typer.Option("--output", metavar="softmax|tied|adaptive", help="What predicts the next word.")
    ] = "softmax",
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="Steps of Adam.", show_default="500")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Segments of a step.")] = 16,
    rate: Annotated[float, typer.Option("--lr", metavar="R", help="Learning rate after warming up.")] = 0.01,
    solver: Annotated[
        str, typer.Option("--solver", metavar="plain|anderson|broyden", help="Of equilibria and adjoints.")
    ] = "anderson",
    max_iter: Annotated[int, typer.Option("--max-iter", metavar="N", min=1, help="Iterations of a solve.")] = 30,
    tol: Annotated[float, typer.Option("--tol", metavar="T", help="Relative residual of a solve.")] = 1e-3,
    min_count: Annotated[
        int | None,
        typer.Option(
            "--min-count", metavar="N", min=1, help="Rarer words are <unk>; 3, for WikiText 1.", show_default=False
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download WikiText-103 (190 MB) if it is not on this machine.")
    ] = False,
    seeds: Seeds = 5,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 0,
    quick: Quick = False,
) -> None:
    """DEQ-Transformers with random, orthogonal and GOE weights: least and mean perplexity over seeds."""
    from equikernel.validation.deq.options import SolverOptions
    from equikernel.validation.paper.experiment import run_experiment
    from equikernel.validation.paper.language.language import Language
    from equikernel.validation.paper.language.model import Shape
    from equikernel.validation.paper.language.training import Recipe

    defaults = Language()
    shape = Shape(d_model or (32 if quick else 64), heads, segment or (16 if quick else 32), norm, output)
    usual = Recipe(steps=30, looks=1) if quick else defaults.recipe
    experiment = replace(
        defaults,
        data=data,
        families=tuple(families or defaults.families),
        scales=tuple(scales or (_QUICK_SCALES if quick else defaults.scales)),
        seeds=seeds_from(seed, 3 if quick and seeds == len(defaults.seeds) else seeds),
        shape=shape,
        recipe=replace(usual, steps=steps or usual.steps, batch=batch, rate=rate),
        solver=SolverOptions(solver, tol, max_iter),
        min_count=min_count,
        download=download,
        device=device,
        threads=all_threads(threads),
    )
    tell(out, run_experiment(experiment, out, threads=experiment.threads).remarks)
