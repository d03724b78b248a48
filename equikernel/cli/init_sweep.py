"""``equikernel init-sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from equikernel.cli.experiments.options import Device, Out, all_threads, seeds_from, tell
from equikernel.cli.options import Quick, Seed
from equikernel.errors import InputError

__all__ = ["init_sweep"]

_QUICK: dict[str, Any] = {"values": (0.6, 1.2), "train": 400, "test": 200, "seeds": 3, "width": 32, "epochs": 5}


def init_sweep(
    out: Out = Path("init-sweep"),
    data: Annotated[str, typer.Option("--data", metavar="NAME|FILE", help="A data set or a file.")] = "digits",
    match: Annotated[
        list[str] | None,
        typer.Option(
            "--match",
            metavar="variance|radius|operator_norm|all",
            help="What is held equal between families; may be repeated. All three by default.",
            show_default=False,
        ),
    ] = None,
    value: Annotated[
        list[float] | None,
        typer.Option(
            "--value",
            metavar="V",
            help="Of the matched quantity (a standard deviation for variance); may be repeated. 0.3 0.6 0.9 1.2 1.5.",
            show_default=False,
        ),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(
            "--family",
            metavar="iid|orthogonal|goe",
            help="Of the initial weights; may be repeated. All three by default.",
            show_default=False,
        ),
    ] = None,
    act: Annotated[str, typer.Option("--act", metavar="ACT", help="The activation.")] = "tanh",
    width: Annotated[int | None, typer.Option("--width", metavar="N", min=1, help="128.", show_default=False)] = None,
    train: Annotated[
        int | None,
        typer.Option("--train", metavar="N", min=2, help="Training samples; up to 10000.", show_default=False),
    ] = None,
    test: Annotated[
        int | None, typer.Option("--test", metavar="N", min=1, help="Test samples; all.", show_default=False)
    ] = None,
    seed: Seed = 0,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", metavar="N", min=3, help="How many, 3 or more: --seed and up; 8.", show_default=False),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", min=1, help="Passes over the data; 20.", show_default=False)
    ] = None,
    lr: Annotated[float, typer.Option("--lr", metavar="R", help="Learning rate of Adam.")] = 3e-3,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Samples of a step.")] = 128,
    input_scale: Annotated[
        float, typer.Option("--input-scale", metavar="S", help="Standard deviation of the entries of Ux at the start.")
    ] = 0.3,
    tol: Annotated[float, typer.Option("--tol", metavar="T", help="Relative residual of the solves.")] = 1e-4,
    max_iter: Annotated[
        int, typer.Option("--max-iter", metavar="N", min=1, help="Evaluations after which a solve is given up.")
    ] = 40,
    device: Device = "cpu",
    threads: Annotated[
        int,
        typer.Option(
            "--threads", metavar="N", min=0, help="Networks trained at once, one thread each; 0: all cores, 1 on cuda."
        ),
    ] = 0,
    quick: Quick = False,
) -> None:
    """Fully connected DEQs trained from iid, orthogonal and GOE weights: final loss, accuracy, solver failures."""
    from equikernel.validation.paper.sweep.config import Recipe, SweepConfig
    from equikernel.validation.paper.sweep.sweep import run_sweep

    size = _QUICK if quick else {}
    recipe = Recipe(
        act, width or size.get("width", 128), input_scale, epochs or size.get("epochs", 20), batch, lr, tol, max_iter
    )
    given: dict[str, Any] = {
        "families": tuple(family) if family else None,
        "matches": _matches(match),
        "values": tuple(value) if value else size.get("values"),
        "train": train or size.get("train"),
        "test": test or size.get("test"),
    }
    config = SweepConfig(
        data,
        **{name: chosen for name, chosen in given.items() if chosen is not None},
        seeds=seeds_from(seed, seeds or size.get("seeds", 8)),
        recipe=recipe,
        device=device,
    )
    processes = 1 if device != "cpu" and not threads else all_threads(threads)
    tell(out, run_sweep(config, out, processes=processes).remarks)


def _matches(chosen: list[str] | None) -> tuple[str, ...] | None:
    """None for all three.

    Raises:
        InputError: "all" among others.
    """
    if not chosen or chosen == ["all"]:
        return None
    if "all" in chosen:
        raise InputError(f"--match all stands alone; got {', '.join(chosen)}")
    return tuple(chosen)
