"""``validate``: the theory of one network held against data and finite networks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from equikernel.errors import InputError
from equikernel.theory.models import DEQ
from equikernel.validation.experiments.study import Runner
from equikernel.validation.experiments.suite import (
    FULL,
    QUICK,
    Settings,
    ValidationResult,
    choose_data,
    plan_suite,
    run_suite,
)
from equikernel.validation.mixtures import is_integer
from equikernel.validation.report import ReportConfig, build_report

__all__ = ["ValidationResult", "validate"]


def validate(
    deq: DEQ,
    data: str | os.PathLike[str] | Sequence[str] = "gmm",
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    quick: bool = False,
    settings: Settings | None = None,
) -> ValidationResult:
    """Predicted against empirical kernels of one network.

    On mixtures ("gmm"): how fast ‖G − Ḡ‖ and ‖K − K̄‖ fall with the dimension, networks of finite width against the
    exact kernels, spectra. On a data set: the relative errors of both equivalents, networks of finite width, spectra.

    Args:
        deq: the network.
        data: "gmm", the name of a data set, the path of a .npy, .npz or .csv file, or several of these. A named data
            set that is not on this machine is downloaded.
        out: a folder for a report (html, figures, tables, json); a run that was stopped is taken up there. None
            computes without writing.
        seed: of everything random, non-negative.
        quick: small sizes, seconds instead of a minute or two.
        settings: the sizes themselves, instead of ``quick``.

    Returns:
        The studies' results; what does not exist for this network is there as a sentence (``failure``).

    Raises:
        DataError: data that are not there or cannot be used.
        InputError: arguments out of range; a folder that cannot be written to.
    """
    if not is_integer(seed, 0):
        raise InputError(f"seed must be a non-negative integer; got {seed!r}")
    names = (os.fspath(data),) if isinstance(data, str | os.PathLike) else tuple(data)
    default = QUICK if quick else FULL
    sizes = default if settings is None else settings
    if out is None:
        runner = Runner()
        return run_suite(plan_suite(deq, choose_data(names, sizes, seed), sizes, seed, runner), runner)
    config = ReportConfig((deq,), names, optional=False, settings=sizes, seed=seed)
    return build_report(config, Path(out))[0]
