"""The studies that hold the theory against data and networks: each a function of a frozen config, with a frozen result.

A config knows its units of work; a ``Runner`` runs them and, given a ``Store``, finishes what an earlier run began.
"""

from __future__ import annotations

from equikernel.validation.experiments.rates import PowerLaw, RateConfig, RateLadder, fit_power_law, rate_ladder
from equikernel.validation.experiments.real import RealData, RealDataConfig, real_data
from equikernel.validation.experiments.sources import (
    DatasetSource,
    MixtureSource,
    Sample,
    Source,
    dataset_source,
)
from equikernel.validation.experiments.spectra import Spectra, SpectraConfig, spectra
from equikernel.validation.experiments.study import Quantity, Runner
from equikernel.validation.experiments.suite import (
    DEFAULT_DATA,
    FULL,
    QUICK,
    DataChoice,
    Settings,
    ValidationResult,
    choose_data,
    plan_suite,
    run_suite,
)
from equikernel.validation.experiments.theory import Theory, TheoryConfig, theory
from equikernel.validation.experiments.widths import FiniteWidth, FiniteWidthConfig, finite_width

__all__ = [
    "DEFAULT_DATA",
    "FULL",
    "QUICK",
    "DataChoice",
    "DatasetSource",
    "FiniteWidth",
    "FiniteWidthConfig",
    "MixtureSource",
    "PowerLaw",
    "Quantity",
    "RateConfig",
    "RateLadder",
    "RealData",
    "RealDataConfig",
    "Runner",
    "Sample",
    "Settings",
    "Source",
    "Spectra",
    "SpectraConfig",
    "Theory",
    "TheoryConfig",
    "ValidationResult",
    "choose_data",
    "dataset_source",
    "finite_width",
    "fit_power_law",
    "plan_suite",
    "rate_ladder",
    "real_data",
    "run_suite",
    "spectra",
    "theory",
]
