"""``equikernel experiment training``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from equikernel.cli.experiments.options import Device, Out, Seeds, Threads, all_threads, seeds_from, tell
from equikernel.cli.options import Acts, Quick, Seed, SigmaA2, SigmaB2
from equikernel.errors import InputError

__all__ = ["training"]

_QUICK: dict[str, Any] = {"widths": (16, 32, 64), "train": 1000, "test": 500, "epochs": 3, "rate_seeds": 1}


def training(
    acts: Acts = None,
    out: Out = Path("training"),
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME|FILE", help="A data set or a file; may be repeated.", show_default=False),
    ] = None,
    front_end: Annotated[
        str, typer.Option("--front-end", metavar="NAME", help="What images go through: pixels, pca-256, ...")
    ] = "pixels",
    widths: Annotated[
        str | None, typer.Option("--widths", metavar="M,M,...", help="Widths of all networks; 32,64,...,1024.")
    ] = None,
    train: Annotated[
        int | None, typer.Option("--train", metavar="N", min=20, help="Training samples; 10000.", show_default=False)
    ] = None,
    test: Annotated[
        int | None, typer.Option("--test", metavar="N", min=1, help="Test samples; 10000.", show_default=False)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", min=1, help="Passes over the data; 10.", show_default=False)
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Samples of a step.")] = 128,
    rates: Annotated[
        str, typer.Option("--rates", metavar="C,C,...", help="Learning rates tried, in units of 1/steepness.")
    ] = "0.5,1,2,4,8,16,32",
    rate_seeds: Annotated[
        int | None,
        typer.Option("--rate-seeds", metavar="N", min=1, help="Networks for each rate tried; 2.", show_default=False),
    ] = None,
    search_up_to: Annotated[
        int, typer.Option("--search-up-to", metavar="M", min=1, help="Wider networks take the rate of this width.")
    ] = 1024,
    wider: Annotated[bool, typer.Option(help="Train the explicit networks at twice the largest width too.")] = True,
    tol: Annotated[float, typer.Option("--tol", metavar="T", help="Relative residual of a DEQ's solves.")] = 1e-3,
    sigma_a2: SigmaA2 = "0.2",
    sigma_b2: SigmaB2 = "0.8",
    seed: Seed = 0,
    seeds: Seeds = 3,
    device: Device = "cpu",
    threads: Threads = 0,
    quick: Quick = False,
) -> None:
    """DEQs, their equivalent explicit networks and naive ones, trained: accuracy against time and memory."""
    from equikernel.validation.paper.training.trainer import Recipe
    from equikernel.validation.paper.training.training import TrainingConfig, run_training

    size = _QUICK if quick else {}
    given = {
        "activations": tuple(acts) if acts else None,
        "data": tuple(data) if data else None,
        "widths": None if widths is None else tuple(_whole(widths, "--widths")),
        "train": train,
        "test": test,
        "rate_seeds": rate_seeds,
    }
    config = TrainingConfig(
        **{name: value for name, value in size.items() if name != "epochs"}
        | {name: value for name, value in given.items() if value is not None},
        front_end=front_end,
        sigma_a2=sigma_a2,
        sigma_b2=sigma_b2,
        seeds=seeds_from(seed, seeds),
        recipe=Recipe(epochs or size.get("epochs", 10), batch),
        multiples=tuple(_numbers(rates, "--rates")),
        search_up_to=search_up_to,
        wider=wider,
        tol=tol,
        device=device,
        threads=all_threads(threads),
    )
    tell(out, run_training(config, out).remarks)


def _numbers(text: str, name: str, expected: str = "numbers") -> list[float]:
    """Numbers between commas.

    Raises:
        InputError: something else.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    whole = all(value.is_integer() for value in values)
    if not all(map(math.isfinite, values)) or (expected == "whole numbers" and not whole):
        raise InputError(f"{name} must be {expected} separated by commas; got {text!r}")
    return values


def _whole(text: str, name: str) -> list[int]:
    return [int(value) for value in _numbers(text, name, "whole numbers")]
