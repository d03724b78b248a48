"""``equikernel experiment NAME``: the experiments of the papers, each one command into one folder."""

from __future__ import annotations

import typer

from equikernel.cli.experiments.dynamics import dynamics
from equikernel.cli.experiments.language import language
from equikernel.cli.experiments.non_gaussian import non_gaussian
from equikernel.cli.experiments.rates import rates
from equikernel.cli.experiments.ridge import ridge
from equikernel.cli.experiments.scores import scores
from equikernel.cli.experiments.spectra import spectra
from equikernel.cli.experiments.statistics import statistics
from equikernel.cli.experiments.training import training

__all__ = ["experiments"]

experiments = typer.Typer(
    name="experiment",
    help="The papers' experiments and open questions; each writes one folder and resumes when started again.",
    no_args_is_help=True,
)

for experiment in (spectra, rates, training, scores, non_gaussian, dynamics, ridge, statistics, language):
    experiments.command()(experiment)
