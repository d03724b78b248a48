"""All studies of one activation: which ones, at what sizes, and their results together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from equikernel.errors import DataError, InputError
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.rates import RateConfig, RateLadder, rate_ladder
from equikernel.validation.experiments.real import RealData, RealDataConfig, real_data
from equikernel.validation.experiments.sources import DatasetSource, MixtureSource, Source, dataset_source
from equikernel.validation.experiments.spectra import Spectra, SpectraConfig, spectra
from equikernel.validation.experiments.study import Runner, derived_seed
from equikernel.validation.experiments.theory import Theory, TheoryConfig, theory
from equikernel.validation.experiments.widths import FiniteWidth, FiniteWidthConfig, finite_width

__all__ = [
    "DEFAULT_DATA",
    "FULL",
    "GMM",
    "QUICK",
    "DataChoice",
    "Plan",
    "Settings",
    "ValidationResult",
    "choose_data",
    "plan_suite",
    "run_suite",
]

GMM = "gmm"
DEFAULT_DATA = (GMM, "digits", "fashion-mnist")
FAMILIES = ("isotropic", "structured")


@dataclass(frozen=True)
class Settings:
    """The sizes of the studies.

    Attributes:
        dimensions: p of the rate ladder. ratio: n/p. replicates: data sets for each p.
        widths: of the finite networks. width_draws: networks of each. width_samples: n.
        real_samples: n of the exact kernels on real data.
        spectrum_samples: n of the spectra. spectrum_width: of their networks. spectrum_draws: how many.
        phase_points: values of sigma, and of the size of x, in the phase diagrams of initialisation.
    """

    dimensions: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    ratio: float = 0.5
    replicates: int = 6
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    width_draws: int = 32
    width_samples: int = 16
    real_samples: int = 1000
    spectrum_samples: int = 256
    spectrum_width: int = 1024
    spectrum_draws: int = 4
    phase_points: int = 14

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


FULL = Settings()
QUICK = Settings(
    dimensions=(32, 64, 128),
    replicates=2,
    widths=(32, 64, 128),
    width_draws=8,
    width_samples=6,
    real_samples=120,
    spectrum_samples=40,
    spectrum_width=64,
    spectrum_draws=2,
    phase_points=5,
)

Config = RateConfig | FiniteWidthConfig | RealDataConfig | SpectraConfig


@dataclass(frozen=True)
class DataChoice:
    """What the studies run on.

    Attributes:
        mixtures: whether on synthetic mixtures.
        datasets: for each data set, the samples for the exact kernels, for the widths, and for the spectra.
        missing: why data asked for are not there, by name.
    """

    mixtures: bool
    datasets: tuple[tuple[DatasetSource, DatasetSource, DatasetSource], ...]
    missing: dict[str, str]


def choose_data(names: Sequence[str], settings: Settings, seed: int, *, optional: bool = False) -> DataChoice:
    """Load what is asked for, before any work is done on it.

    Args:
        names: "gmm", names of data sets, paths.
        settings: sizes.
        seed: of the draws.
        optional: whether a data set that is not on this machine is noted and left out, rather than downloaded or
            refused.

    Raises:
        DataError: data that are not there or cannot be used, unless ``optional``.
        InputError: no data asked for.
    """
    if not names:
        raise InputError('no data asked for: expected "gmm", the name of a data set, or a path')
    datasets = []
    missing: dict[str, str] = {}
    sizes = {"real": settings.real_samples, "width": settings.width_samples, "spectrum": settings.spectrum_samples}
    for name in dict.fromkeys(names):
        if name == GMM:
            continue
        try:
            real, few, many = (
                dataset_source(name, n, derived_seed(seed, purpose), download=not optional)
                for purpose, n in sizes.items()
            )
        except DataError as error:
            if not optional:
                raise
            missing[name] = str(error)
        else:
            datasets.append((real, few, many))
    return DataChoice(GMM in names, tuple(datasets), missing)


@dataclass(frozen=True)
class Plan:
    """The studies of one activation, after its theory: what exists decides what is studied.

    Attributes:
        theory: done already. configs: the rest. missing: why data asked for are not there, by name.
    """

    theory: Theory
    configs: tuple[Config, ...]
    missing: dict[str, str]

    @property
    def units(self) -> int:
        """How many units of work the studies have."""
        return sum(len(config.units()) for config in self.configs)


@dataclass(frozen=True)
class ValidationResult:
    """Everything about one activation.

    Attributes:
        theory, rates, widths, real, spectra: the studies' results.
        missing: why data asked for are not there, by name.
    """

    theory: Theory
    rates: tuple[RateLadder, ...]
    widths: tuple[FiniteWidth, ...]
    real: tuple[RealData, ...]
    spectra: tuple[Spectra, ...]
    missing: dict[str, str]

    @property
    def deq(self) -> DEQ:
        """The network studied."""
        return self.theory.config.deq

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "activation": self.deq.activation.name,
            "expression": str(self.deq.activation.expr),
            "sigma_a2": float(self.deq.sigma_a2),
            "sigma_b2": float(self.deq.sigma_b2),
            "theory": self.theory.to_dict(),
            "rates": [study.to_dict() for study in self.rates],
            "finite_width": [study.to_dict() for study in self.widths],
            "real_data": [study.to_dict() for study in self.real],
            "spectra": [study.to_dict() for study in self.spectra],
            "missing_data": self.missing,
        }


def plan_suite(deq: DEQ, data: DataChoice, settings: Settings, seed: int, runner: Runner) -> Plan:
    """Do the theory of ``deq`` and choose the studies that make sense for it.

    Args:
        deq: the network.
        data: from ``choose_data``.
        settings: sizes.
        seed: of everything random.
        runner: for the theory.
    """
    done = theory(TheoryConfig(deq), runner)
    configs: list[Config] = []
    if done.kernels and data.mixtures:
        configs += _mixture_studies(done, settings, seed)
    for real, few, many in data.datasets if done.kernels else ():
        configs.append(RealDataConfig(deq, real, done.kernels, done.trained))
        configs += _network_studies(done, few, many, settings, seed)
    return Plan(done, tuple(configs), data.missing)


def run_suite(plan: Plan, runner: Runner) -> ValidationResult:
    """Run the studies of a plan, or take them from the runner's store."""
    rates, widths, real, eigenvalues = [], [], [], []
    for config in plan.configs:
        match config:
            case RateConfig():
                rates.append(rate_ladder(config, runner))
            case FiniteWidthConfig():
                widths.append(finite_width(config, runner))
            case RealDataConfig():
                real.append(real_data(config, runner))
            case SpectraConfig():
                eigenvalues.append(spectra(config, runner))
    return ValidationResult(plan.theory, tuple(rates), tuple(widths), tuple(real), tuple(eigenvalues), plan.missing)


def _mixture_studies(done: Theory, settings: Settings, seed: int) -> list[Config]:
    configs: list[Config] = [
        RateConfig(
            done.config.deq,
            family,
            settings.dimensions,
            settings.replicates,
            seed,
            settings.ratio,
            done.kernels,
            done.trained,
        )
        for family in FAMILIES
    ]

    def mixture(n: int, purpose: str) -> MixtureSource:
        return MixtureSource("structured", max(2 * n, 64), n, derived_seed(seed, purpose))

    return configs + _network_studies(
        done, mixture(settings.width_samples, "width"), mixture(settings.spectrum_samples, "spectrum"), settings, seed
    )


def _network_studies(done: Theory, few: Source, many: Source, settings: Settings, seed: int) -> list[Config]:
    """The studies with finite networks: kernels over widths on few samples, spectra on more."""
    deq, trained = done.config.deq, done.trained
    return [
        *(
            FiniteWidthConfig(
                deq,
                few,
                kernel,
                settings.widths,
                settings.width_draws,
                derived_seed(seed, "networks", kernel),
                trained,
            )
            for kernel in done.kernels
        ),
        *(
            SpectraConfig(
                deq,
                many,
                kernel,
                settings.spectrum_width,
                settings.spectrum_draws,
                derived_seed(seed, "spectrum networks", kernel),
                trained,
            )
            for kernel in done.kernels
        ),
    ]
