from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equikernel.errors import DataError, InputError
from equikernel.numerics.norms import operator_norm
from equikernel.theory.models import DEQ
from equikernel.validation import validate as validate_module
from equikernel.validation.experiments import (
    FULL,
    QUICK,
    FiniteWidthConfig,
    MixtureSource,
    RateConfig,
    RealDataConfig,
    Runner,
    Settings,
    SpectraConfig,
    TheoryConfig,
    choose_data,
    dataset_source,
    finite_width,
    fit_power_law,
    plan_suite,
    rate_ladder,
    real_data,
    run_suite,
    spectra,
    theory,
)
from equikernel.validation.experiments.study import derived_seed
from equikernel.validation.store import Store
from equikernel.validation.validate import validate

TINY = Settings(
    dimensions=(16, 24, 32),
    replicates=2,
    widths=(16, 24, 32),
    width_draws=4,
    width_samples=4,
    real_samples=60,
    spectrum_samples=12,
    spectrum_width=32,
    spectrum_draws=2,
)
# For phi = x the kernels are linear in the data, and every equivalent is the exact kernel: errors are rounding alone.
LINEAR = DEQ("x")


def test_power_law_is_recovered() -> None:
    sizes = [10, 20, 40, 80]
    law = fit_power_law(sizes, [3 * p**-0.5 for p in sizes])
    assert law is not None
    assert (law.slope, law.factor) == pytest.approx((-0.5, 3.0), rel=1e-12)
    assert law.high - law.low < 1e-6
    assert law.low <= -0.5 + 1e-12
    assert law.high >= -0.5 - 1e-12


def test_power_law_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    sizes = np.repeat([100.0, 200.0, 400.0], 3)
    covered = 0
    trials = 400
    for _ in range(trials):
        law = fit_power_law(sizes.tolist(), np.exp(-0.5 * np.log(sizes) + 0.1 * generator.standard_normal(9)).tolist())
        assert law is not None
        covered += law.low <= -0.5 <= law.high
    # binomial with probability 0.95: five standard deviations
    assert abs(covered / trials - 0.95) < 5 * np.sqrt(0.95 * 0.05 / trials)


@pytest.mark.parametrize(("slope", "verdict"), [(-0.5, "contains"), (-0.8, "faster than"), (-0.2, "slower than")])
def test_verdict(slope: float, verdict: str) -> None:
    wiggle = [1.01, 0.99, 1.0, 1.01, 0.99]
    sizes = [10, 20, 40, 80, 160]
    law = fit_power_law(sizes, [w * p**slope for p, w in zip(sizes, wiggle, strict=True)])
    assert law is not None
    assert verdict in law.verdict


@pytest.mark.parametrize(
    ("sizes", "errors"), [([1, 2], [1.0, 2.0]), ([2, 2, 2], [1.0, 2.0, 3.0]), ([1, 2, 4], [1.0, 0.0, 1.0])]
)
def test_nothing_to_fit(sizes: list[float], errors: list[float]) -> None:
    assert fit_power_law(sizes, errors) is None


def test_operator_norm_is_the_largest_singular_value() -> None:
    matrix = np.random.default_rng(0).standard_normal((9, 9))
    matrix = matrix + matrix.T
    assert operator_norm(matrix) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-13)
    assert operator_norm(-matrix) == pytest.approx(operator_norm(matrix), rel=1e-13)


def test_derived_seeds_differ_by_purpose_and_stay() -> None:
    assert derived_seed(0, "rate", 1) == derived_seed(0, "rate", 1)
    assert len({derived_seed(s, *parts) for s in range(3) for parts in (("a",), ("b",), ("a", 1))}) == 9


def test_data_do_not_depend_on_the_network() -> None:
    one, other = (RateConfig(DEQ(name), "isotropic", (16, 32), 2, seed=5).units() for name in ("relu", "tanh"))
    assert [u.source for u in one] == [u.source for u in other]
    assert len({u.source.seed for u in one}) == len(one)


@pytest.mark.parametrize("family", ["isotropic", "structured"])
def test_linear_activation_has_no_error(family: str) -> None:
    ladder = rate_ladder(RateConfig(LINEAR, family, (16, 32), 2, seed=1))
    for point in ladder.points:
        for kernel in ("ck", "ntk"):
            # the equivalent's own rounding is below the bound stated for the exact kernel's
            assert point[kernel]["error"] <= 2 * point[kernel]["uncertainty"]
            assert point[kernel]["norm"] > 0.5


def test_rates_fall() -> None:
    ladder = rate_ladder(RateConfig(DEQ("tanh"), "isotropic", (32, 128, 512), 2, seed=0, kernels=("ck",)))
    law = ladder.rates["ck"]
    assert law is not None
    assert law.high < 0  # the theory's -1/2 within what six data sets can tell
    assert law.low < -0.5


def test_real_data_linear_activation() -> None:
    study = real_data(RealDataConfig(LINEAR, dataset_source("digits", 120, seed=2)))
    assert study.numbers is not None
    for numbers in study.numbers["kernels"].values():
        for variant in ("labelled", "label-free"):
            assert numbers[variant]["operator_error"] <= 2 * numbers["uncertainty"]
            assert numbers[variant]["frobenius_error"] <= 120 * numbers["uncertainty"]


def test_label_free_is_better_on_digits() -> None:
    # theory, section 7: class covariances do worse than squared inner products away from high dimension
    study = real_data(RealDataConfig(DEQ("relu"), dataset_source("digits", 150, seed=0), ("ck",)))
    assert study.numbers is not None
    errors = study.numbers["kernels"]["ck"]
    assert errors["label-free"]["operator_error"] < errors["labelled"]["operator_error"]


def test_data_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.random.default_rng(0).standard_normal((20, 8)))
    source = dataset_source(str(tmp_path / "X.npy"), 50, seed=0)
    assert (source.n, source.labelled) == (20, False)
    study = real_data(RealDataConfig(LINEAR, source, ("ck",)))
    assert study.numbers is not None
    assert "labels" in study.numbers["kernels"]["ck"]["labelled"]["failure"]
    assert study.numbers["kernels"]["ck"]["label-free"]["operator_error"] < 1e-11


def test_changed_file_is_other_work(tmp_path: Path) -> None:
    keys = []
    for seed in (0, 1):
        path = tmp_path / f"{seed}" / "X.npy"
        path.parent.mkdir()
        np.save(path, np.random.default_rng(seed).standard_normal((20, 8)))
        source = replace(dataset_source(str(path), 20, seed=0), name="X.npy", source="X.npy")
        keys.append(Store(tmp_path).key(RealDataConfig(LINEAR, source).describe()))
    assert keys[0] != keys[1]


def test_spectra_linear_activation() -> None:
    study = spectra(SpectraConfig(LINEAR, MixtureSource("isotropic3", 40, 12, 3), "ck", 64, 3, seed=1))
    assert study.numbers is not None
    exact = np.array(study.numbers["exact"])
    assert (np.diff(exact) <= 0).all()
    np.testing.assert_allclose(study.numbers["equivalent"], exact, atol=1e-12)
    assert len(study.numbers["empirical_error"]) == 12
    # trace: the mean over networks has that of the exact kernel up to finite width
    assert sum(study.numbers["empirical"]) == pytest.approx(exact.sum(), rel=0.5)


def test_finite_width_agrees() -> None:
    study = finite_width(
        FiniteWidthConfig(DEQ("tanh"), MixtureSource("isotropic", 30, 4, 3), "ck", (32, 64, 128), 16, seed=1)
    )
    assert study.numbers is not None
    assert study.numbers["z"]["consistent"]
    assert len(study.numbers["scores"]) == 10


def test_theory_numbers_carry_uncertainty() -> None:
    done = theory(TheoryConfig(DEQ("relu")))
    assert done.kernels == ("ck", "ntk")
    assert done.numbers is not None
    q = done.numbers["coefficients"]["q"]
    exact = 0.8 / (1 - 0.2 * (1 - 1 / np.pi) / 2)  # relu: V = q (1 - 1/pi)/2
    assert abs(q["value"] - exact) <= q["uncertainty"] + 4e-16
    assert q["uncertainty"] < 1e-14
    json.dumps(done.to_dict(), allow_nan=False)


def test_activation_with_jumps_has_a_conjugate_kernel_only() -> None:
    done = theory(TheoryConfig(DEQ("sign")))
    assert done.kernels == ("ck",)
    assert done.trained == "a"
    assert done.numbers is not None
    assert "jumps" in done.numbers["ntk_failure"]


def test_no_fixed_point_is_a_result() -> None:
    runner = Runner()
    data = choose_data(("gmm", "digits"), TINY, 0)
    plan = plan_suite(DEQ("2*x", "0.3"), data, TINY, 0, runner)
    result = run_suite(plan, runner)
    assert plan.units == 0
    assert "fixed point" in str(result.theory.failure)
    json.dumps(result.to_dict(), allow_nan=False)


def test_missing_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(name: str, **_: Any) -> None:
        raise DataError(f"the data set {name!r} is not on this machine")

    monkeypatch.setattr("equikernel.validation.experiments.sources.load_dataset", missing)
    data = choose_data(("gmm", "fashion-mnist"), replace(TINY, real_samples=61), 0, optional=True)
    assert data.mixtures
    assert "not on this machine" in data.missing["fashion-mnist"]
    with pytest.raises(DataError):
        choose_data((str(tmp_path / "none.npy"),), TINY, 0)
    with pytest.raises(InputError):
        choose_data((), TINY, 0)


def test_runner_takes_up_where_it_stopped(tmp_path: Path) -> None:
    config = RateConfig(DEQ("relu"), "isotropic", (16, 32), 2, seed=0)
    store = Store(tmp_path)
    first = config.units()[0]
    store.fetch(first.describe(), first.measure)
    before = store.path(first.describe()).stat().st_mtime_ns
    calls: list[None] = []
    ladder = rate_ladder(config, Runner(store, lambda: calls.append(None)))
    assert len(calls) == 4
    assert store.path(first.describe()).stat().st_mtime_ns == before
    assert ladder.to_dict() == rate_ladder(config).to_dict()


def test_validate_without_a_folder_is_reproducible() -> None:
    results = [validate(DEQ("tanh"), ["digits"], settings=TINY, seed=4).to_dict() for _ in range(2)]
    assert json.dumps(results[0], allow_nan=False) == json.dumps(results[1], allow_nan=False)
    assert [study["failure"] for study in results[0]["spectra"]] == [None] * 2


def test_validate_refuses_bad_arguments() -> None:
    with pytest.raises(InputError, match="seed"):
        validate(LINEAR, seed=-1)
    with pytest.raises(InputError, match="no data"):
        validate(LINEAR, [])


def test_validate_chooses_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def stop(_: tuple[str, ...], sizes: Settings, __: int) -> None:
        seen.append(sizes)
        raise KeyboardInterrupt

    monkeypatch.setattr(validate_module, "choose_data", stop)
    for quick in (True, False):
        with pytest.raises(KeyboardInterrupt):
            validate(LINEAR, quick=quick)
    assert seen == [QUICK, FULL]
