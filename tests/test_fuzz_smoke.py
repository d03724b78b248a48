"""A slice of the fuzz campaign (benchmarks/fuzz.py) with a fixed seed: every way to the moments agrees or refuses."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flint import arb

from equikernel.errors import EquikernelError
from equikernel.theory.activation import activation

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SEED = 3
GRAMMAR = (4, 6, 11, 21, 26, 44, 50, 73, 89, 93, 94, 98)  # 4, 50, 89 and 94 with a certificate
BREAKPOINTS = (5, 7, 16, 17, 33)
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Imports a script of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_a_text_is_that_of_its_seed_and_is_accepted_or_refused_in_one_sentence(load: Load) -> None:
    texts = load("fuzz_texts")
    refusals = []
    for kind in texts.KINDS:
        for index in range(15):
            text = texts.random_text(SEED, kind, index)
            assert text == texts.random_text(SEED, kind, index)
            try:
                activation(text)
            except EquikernelError as error:
                refusals.append(str(error))
    assert 0 < len(refusals) < 15
    assert not any("\n" in sentence for sentence in refusals)


def test_texts_use_the_whole_grammar(load: Load) -> None:
    texts = load("fuzz_texts")
    everything = " ".join(texts.random_text(SEED, "grammar", index) for index in range(3000))
    assert [name for name in texts.functions() if f"{name}(" not in everything] == []


@pytest.mark.parametrize(
    ("kind", "index"), [*(("grammar", i) for i in GRAMMAR), *(("breakpoints", i) for i in BREAKPOINTS)]
)
def test_all_ways_to_the_moments_agree(load: Load, kind: str, index: int) -> None:
    trial = load("fuzz_trial")
    stages: list[str] = []
    result = trial.run_trial(trial.Trial(SEED, kind, index), frozenset(), stages.append)
    assert result["disagreements"] == []
    assert stages == list(result["stages"])
    compared = [name for name, stage in result["stages"].items() if "digits" in stage]
    assert {"float64", "mpmath"} < set(compared)


def test_a_disagreement_is_seen(load: Load) -> None:
    compared = load("fuzz_trial").compared
    a = {"V": arb(1, 1e-10), "v": None}
    assert list(compared({"one": a, "other": {"V": arb(1 + 1e-10, 1e-11), "v": None}})) == []
    (sentence,) = compared({"one": a, "other": {"V": arb(1.1, 1e-3), "v": None}})
    assert sentence.startswith("V: one 1.0")
    (sentence,) = compared({"one": a, "other": {"V": arb(1), "v": arb(2)}})
    assert sentence == "v: one says infinite, other says 2.000000000000000000000000 +- 0"


def test_outcomes_are_tallied(load: Load) -> None:
    fuzz = load("fuzz")

    def record(stages: dict[str, Any], *disagreements: str) -> dict[str, Any]:
        result = {"stages": stages, "disagreements": list(disagreements)}
        return {"kind": "grammar", "outcome": fuzz.outcome(result), **result}

    ok, refused = {"status": "ok", "digits": 20.0}, {"status": "refused", "error": "UncertifiedError"}
    records = [
        record({"parse": refused}),
        record({"parse": {"status": "ok"}, "float64": ok, "mpmath": ok, "integral": refused}),
        record({"parse": {"status": "ok"}, "float64": ok, "mpmath": ok}, "V: they differ"),
        record({"parse": {"status": "ok"}, "float64": ok, "mpmath": {"status": "hung", "detail": "over"}}),
        record({"parse": {"status": "crashed", "detail": "ValueError"}}),
    ]
    assert [r["outcome"] for r in records] == ["refused", "agreed", "disagreed", "hung", "crashed"]
    table = fuzz.tally(records)
    assert table["trials: grammar"] == {"agreed": 1, "refused": 1, "disagreed": 1, "crashed": 1, "hung": 1}
    assert table["stage: integral"] == {"refused (UncertifiedError)": 1}


def test_a_worker_serves_trials_and_survives(load: Load) -> None:
    fuzz = load("fuzz")
    tasks = [("grammar", 6), ("grammar", 1)]
    records = list(fuzz.run_trials(tasks, SEED, 60.0, 1))
    assert [(r["kind"], r["index"]) for r in records] == tasks
    assert [r["outcome"] for r in records] == ["agreed", "refused"]
