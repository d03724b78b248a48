"""The experiments of the papers and their open questions: each a frozen description, run into one folder."""

from __future__ import annotations

from equikernel.validation.paper.experiment import Experiment, Findings, run_experiment
from equikernel.validation.paper.networks import naive_network

__all__ = ["Experiment", "Findings", "naive_network", "run_experiment"]
