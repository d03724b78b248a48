"""The experiment ``language``: gradients against unrolling, causality, families, oracles of perplexity, the tables."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

pytest.importorskip("torch")

import torch
from torch import Tensor

from equikernel.cli.experiments.language import language
from equikernel.errors import DataError, InputError
from equikernel.validation.datasets.text import TextCorpus, load_text, markov_corpus
from equikernel.validation.deq.options import SolverOptions
from equikernel.validation.figures import save_figure
from equikernel.validation.paper.experiment import run_experiment
from equikernel.validation.paper.language import language as experiments
from equikernel.validation.paper.language.findings import Run, cells_of, language_findings, pairs_of
from equikernel.validation.paper.language.language import Language, LanguageUnit
from equikernel.validation.paper.language.model import DEQTransformer, Shape, hidden_matrix
from equikernel.validation.paper.language.references import reference_perplexities
from equikernel.validation.paper.language.training import Recipe, evaluate, train

pytestmark = pytest.mark.usefixtures("one_thread")

EPS32 = float(np.finfo(np.float32).eps)
TOL = 1e-13  # of solves in float64: 450 eps
SMALL = Shape(d_model=8, heads=2, segment=6)
FAMILIES = ("iid", "orthogonal", "goe")


def exact(method: str = "plain", max_iter: int = 400) -> SolverOptions:
    return SolverOptions(method, TOL, max_iter)


def small_model(
    family: str = "iid", shape: Shape = SMALL, scale: float = 0.3, words: int = 11, method: str = "plain"
) -> DEQTransformer:
    """In float64, with every parameter away from its special initial value, as after some training."""
    model = DEQTransformer(words, shape, family, scale, 5, exact(method), dtype="float64")
    stream = np.random.default_rng(8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.from_numpy(0.05 * stream.standard_normal(tuple(parameter.shape))))
    return model


def some_tokens(words: int = 11, segments: int = 3, length: int = 7) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(words, size=(segments, length)))


def corpus_of(words: int = 8, tokens: int = 4000) -> TextCorpus:
    return markov_corpus(words, tokens, seed=2)


# -- gradients ---------------------------------------------------------------------------------------------------------


def unrolled_loss(model: DEQTransformer, tokens: Tensor, iterations: int) -> Tensor:
    """The block applied again and again, with the graph of all of it; nothing of the implicit solve is used."""
    x = model.embedding[tokens[:, :-1]]
    f, z = model.block(x), x
    for _ in range(iterations):
        z = f(z)
    states = model.norms[2](z)
    logits = states @ model.embedding.T / math.sqrt(8) if model.output is None else model.output(states)
    return -torch.log_softmax(logits, -1).gather(-1, tokens[:, 1:, None]).mean()


@pytest.mark.parametrize(
    ("family", "norm", "output", "method"),
    [
        ("iid", "pre", "softmax", "plain"),
        ("orthogonal", "pre", "tied", "anderson"),
        ("goe", "pre", "softmax", "broyden"),
        ("iid", "post", "softmax", "anderson"),
    ],
)
def test_a_step_has_the_gradient_of_unrolling(family: str, norm: str, output: str, method: str) -> None:
    shape = Shape(8, 2, 6, norm, output)
    # "post" contracts slowly where weights are small, and not at all where they are large
    model, tokens = small_model(family, shape, 0.3 if norm == "pre" else 0.5, method=method), some_tokens()
    loss = model.loss(tokens).mean()
    found = torch.autograd.grad(loss, list(model.parameters()))
    solved, adjoint = model.equilibrium.report, model.equilibrium.adjoint_report
    assert solved is not None
    assert adjoint is not None
    assert solved.succeeded
    assert adjoint.succeeded
    # the rate of plain iteration, from how long it takes; unrolling ends at the same accuracy
    model.equilibrium.options = exact(max_iter=4000)
    with torch.no_grad():
        model(tokens[:, :-1])
    plain = model.equilibrium.report
    assert plain is not None
    assert plain.succeeded
    steps = plain.most_iterations
    rate = TOL ** (1.0 / steps)
    expected_loss = unrolled_loss(model, tokens, steps + 5)
    expected = torch.autograd.grad(expected_loss, list(model.parameters()))
    # states are wrong by TOL/(1 - rate), adjoints by that and what states do to J, amplified once more; gradients are
    # sums over places of products of both with activations and derivatives of order 1 to 10
    tolerance = 100 * TOL / (1.0 - rate) ** 2
    assert tolerance < 1e-8
    assert loss.item() == pytest.approx(expected_loss.item(), rel=tolerance)
    largest = max(float(g.abs().max()) for g in expected)
    for (name, _), mine, theirs in zip(model.named_parameters(), found, expected, strict=True):
        assert float((mine - theirs).abs().max()) <= tolerance * largest, name
        assert float(theirs.abs().max()) > 0, name


def test_the_gradient_against_finite_differences() -> None:
    model, tokens = small_model("goe"), some_tokens()
    model.loss(tokens).mean().backward()
    stream = np.random.default_rng(4)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        place = tuple(int(stream.integers(size)) for size in parameter.shape)
        if name in {"embedding", "output.weight"}:
            place = (int(tokens[0, 1]), place[1])  # a word that comes
        slopes = []
        for h in (1e-4, 2e-4):
            sides = []
            for sign in (1.0, -1.0):
                moved = copy.deepcopy(model)
                with torch.no_grad():
                    moved.get_parameter(name)[place] += sign * h
                    sides.append(float(moved.loss(tokens).mean()))
            slopes.append((sides[0] - sides[1]) / (2 * h))
        # the error of a central difference is c h^2: that of the smaller step is a third of their difference; losses
        # of order 3 are wrong by TOL/(1 - rate) of their size, a few times 1e-13
        tolerance = abs(slopes[0] - slopes[1]) + 10 * 3e-13 / 1e-4
        assert float(parameter.grad[place]) == pytest.approx(slopes[0], abs=tolerance), name
        assert tolerance < 1e-6


def test_memory_of_the_graph_does_not_grow_with_the_iterations() -> None:
    kept = []
    for iterations in (2, 20):
        model = small_model()
        model.equilibrium.options = SolverOptions("plain", TOL, iterations)
        packed: list[Tensor] = []

        def keep(x: Tensor, packed: list[Tensor] = packed) -> Tensor:
            packed.append(x)
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            model.loss(some_tokens())
        kept.append(sum(x.nbytes for x in packed))
    assert kept[0] == kept[1]


def test_solves_that_fail_are_reported_and_used() -> None:
    model = small_model(scale=1.0)
    model.equilibrium.options = SolverOptions("plain", TOL, 2)
    model.equilibrium.adjoint_options = SolverOptions("plain", TOL, 3)
    model.loss(some_tokens()).mean().backward()
    reports = model.equilibrium.report, model.equilibrium.adjoint_report
    assert [report.to_dict()["unconverged"] for report in reports if report is not None] == [3, 3]
    assert all(parameter.grad is not None for parameter in model.parameters())


# -- the model ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_later_tokens_change_nothing_before_them(norm: str) -> None:
    shape = Shape(8, 2, 6, norm)
    model, tokens = small_model(shape=shape), some_tokens(length=6)
    model.equilibrium.options = SolverOptions("plain", TOL, 5)  # as many iterations whatever comes later
    changed, place = tokens.clone(), 3
    changed[:, place:] = (tokens[:, place:] + 1) % model.words
    with torch.no_grad():
        before, after = model.log_probabilities(tokens), model.log_probabilities(changed)
        assert torch.equal(before[:, :place], after[:, :place])
        assert not torch.equal(before[:, place], after[:, place])
        x, y = (model.embedding[rows] for rows in (tokens, changed))
        z = torch.from_numpy(np.random.default_rng(3).standard_normal(tuple(x.shape)))
        w = torch.cat([z[:, :place], 1.0 + 2.0 * z[:, place:]], dim=1)
        assert torch.equal(model.block(x)(z)[:, :place], model.block(y)(w)[:, :place])


@pytest.mark.parametrize("method", ["plain", "anderson", "broyden"])
def test_equilibria_are_causal_to_their_accuracy(method: str) -> None:
    model, tokens = small_model(method=method), some_tokens(length=6)
    changed = tokens.clone()
    changed[:, 4:] = (tokens[:, 4:] + 1) % model.words
    with torch.no_grad():
        before, after = model.log_probabilities(tokens), model.log_probabilities(changed)
    # two solves to TOL, relative to the norm of a segment, about 7; contraction takes 30 iterations: 1/(1 - rate) < 2
    assert float((before - after)[:, :4].abs().max()) < 100 * TOL


def test_attention_and_feed_forward_by_hand() -> None:
    """One segment, written out place by place and head by head in NumPy."""
    model = small_model("orthogonal", Shape(4, 2, 3), words=5)
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    stream = np.random.default_rng(6)
    x, z = stream.standard_normal((3, 4)), stream.standard_normal((3, 4))

    def norm(v: np.ndarray, k: int) -> np.ndarray:
        return (v - v.mean()) / np.sqrt(v.var() + 1e-5) * p[f"norms.{k}.weight"] + p[f"norms.{k}.bias"]

    def gelu(u: np.ndarray) -> np.ndarray:
        return u * scipy.stats.norm.cdf(u)

    qkv = [p["qkv"] @ norm(z[i], 0) + p["injection"] @ x[i] for i in range(3)]
    expected = []
    for i in range(3):
        heads = []
        for h in range(2):
            q, keys, values = (
                qkv[i][2 * h : 2 * h + 2],
                *([row[4 * k + 2 * h : 4 * k + 2 * h + 2] for row in qkv] for k in (1, 2)),
            )
            odds = [np.exp(q @ keys[j] / math.sqrt(2) + p["distance_bias"][h, i - j]) for j in range(i + 1)]
            heads.append(sum(o * values[j] for j, o in enumerate(odds)) / sum(odds))
        h1 = x[i] + p["attended"] @ np.concatenate(heads)
        inside = gelu(p["widen"] @ norm(h1, 1) + p["widen_bias"])
        expected.append(h1 + p["narrow"] @ inside + p["narrow_bias"])
    with torch.no_grad():
        found = model.block(torch.from_numpy(x)[None])(torch.from_numpy(z)[None])[0]
    # sums of at most 16 terms of order 1
    np.testing.assert_allclose(found.numpy(), np.array(expected), atol=200 * np.finfo(float).eps, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("rows", "columns"), [(48, 16), (16, 16), (16, 64)])
def test_blocks_are_of_the_family(family: str, rows: int, columns: int) -> None:
    scale, d = 0.3, 16
    W = hidden_matrix(np.random.default_rng(0), rows, columns, family, scale)
    blocks = [W[i : i + d, j : j + d] for i in range(0, rows, d) for j in range(0, columns, d)]
    variance = scale**2 / columns
    apart = ~np.eye(d, dtype=bool)
    for block in blocks:
        assert np.array_equal(block, block.T) == (family == "goe")
        if family == "orthogonal":
            np.testing.assert_allclose(block @ block.T, d * variance * np.eye(d), atol=1e-14)
        else:
            # d(d - 1) squares of normal numbers, every one twice if symmetric
            numbers = d * (d - 1) / (2 if family == "goe" else 1)
            assert np.mean(block[apart] ** 2) / variance == pytest.approx(1, abs=5 * math.sqrt(2 / numbers))
    assert len({block.tobytes() for block in blocks}) == len(blocks)


def test_families_differ_in_the_hidden_weights_alone() -> None:
    models = [DEQTransformer(9, SMALL, family, 0.1, 3, exact()) for family in FAMILIES]
    hidden = {"qkv", "attended", "widen", "narrow"}
    for name, parameter in models[0].named_parameters():
        same = [torch.equal(parameter, model.get_parameter(name)) for model in models[1:]]
        assert same == [name not in hidden] * 2, name
    goe = models[2]
    assert torch.equal(goe.qkv[8:16], goe.qkv[8:16].T)
    assert torch.equal(goe.narrow[:, 24:], goe.narrow[:, 24:].T)


@pytest.mark.parametrize("output", ["softmax", "tied", "adaptive"])
def test_probabilities_add_up_and_the_loss_is_theirs(output: str) -> None:
    model = DEQTransformer(50, Shape(16, 2, 6, output=output), "iid", 0.3, 0, exact(), dtype="float64")
    tokens = some_tokens(50)
    with torch.no_grad():
        logs = model.log_probabilities(tokens[:, :-1])
        losses = model.loss(tokens)
    np.testing.assert_allclose(logs.exp().sum(-1).numpy(), 1.0, rtol=50 * 1e-15)
    chosen = -logs.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    np.testing.assert_allclose(losses.numpy(), chosen.numpy(), rtol=0, atol=50 * 1e-15)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_cuda_agrees() -> None:
    tokens, found = some_tokens(), []
    for device in ("cpu", "cuda"):
        model = DEQTransformer(11, SMALL, "goe", 0.3, 5, exact(), dtype="float64", device=device)
        model.loss(tokens.to(device)).mean().backward()
        found.append([parameter.grad.cpu() for parameter in model.parameters() if parameter.grad is not None])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)
    numbers = train(
        DEQTransformer(8, SMALL, "iid", 0.3, 0, SolverOptions(tol=1e-3), device="cuda"), corpus_of(), Recipe(3), 0
    )
    assert numbers["diverged"] is None


# -- training and perplexity -------------------------------------------------------------------------------------------


def test_a_model_that_knows_nothing_has_the_perplexity_of_guessing() -> None:
    corpus = corpus_of()
    model = DEQTransformer(8, SMALL, "iid", 0.3, 0, SolverOptions(tol=1e-3))
    with torch.no_grad():
        for parameter in model.output.parameters():
            parameter.zero_()
    # a mean of 400 logarithms of 1/8 in float32
    assert evaluate(model, corpus.test)["perplexity"] == pytest.approx(8.0, rel=4 * EPS32)


def test_evaluation_predicts_every_token_once_from_its_segment() -> None:
    corpus = corpus_of()
    model = DEQTransformer(8, SMALL, "iid", 0.5, 0, exact(), dtype="float64")
    tokens = corpus.test[:32]  # five segments of 6 and the token after the last; one is left over
    losses = []
    with torch.no_grad():
        for start in range(0, 30, 6):
            logs = model.log_probabilities(torch.from_numpy(tokens[None, start : start + 6].astype(np.int64)))[0]
            losses += [-float(logs[k, tokens[start + k + 1]]) for k in range(6)]
    found = evaluate(model, tokens)
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-12)
    assert found["perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-12)
    assert found["solves"]["samples"] == 5


def test_training_comes_near_the_entropy_rate_and_not_below() -> None:
    corpus = corpus_of(tokens=20_000)
    model = DEQTransformer(8, Shape(16, 2, 8), "iid", 0.3, 0, SolverOptions("anderson", 1e-3, 30))
    numbers = train(model, corpus, Recipe(81, batch=16, rate=0.03, looks=3), 0)
    references = reference_perplexities(corpus)
    bound, unigram, reached = (
        math.log(references["entropy bound"]),
        math.log(references["unigram"]),
        numbers["test"]["loss"],
    )
    assert bound == corpus.entropy_rate
    # a token's loss varies by about 1 under the true law, and the test part has 2000: four standard errors
    assert bound - 4 / math.sqrt(2000) < reached
    assert reached - bound < 0.2 * (unigram - bound)
    assert [look["step"] for look in numbers["looks"]] == [27, 54, 81]
    assert numbers["forward"]["samples"] == 81 * 16
    assert numbers["diverged"] is None
    assert numbers["looks"][0]["loss"] > numbers["looks"][-1]["loss"]


def test_divergence_is_recorded_with_its_step() -> None:
    model = DEQTransformer(8, SMALL, "iid", 0.3, 0, SolverOptions("plain", 1e-3, 5))
    numbers = train(model, corpus_of(), Recipe(10, batch=2, rate=1e30, warm_up=0.0, looks=10), 0)
    assert numbers["diverged"].startswith("at step 2 of 10: the loss is ")
    assert numbers["test"] is None
    assert numbers["forward"]["samples"] == 4
    run = Run("iid", 0.3, 0, numbers)
    assert run.perplexity is None
    cell = cells_of([run], "iid", 0.3, 8.0)
    assert (cell["diverged"], cell["mean"], cell["mean_all"]) == (1, None, 8.0)
    json.dumps(numbers, allow_nan=False)


def test_training_is_the_same_for_the_same_seed() -> None:
    losses = []
    for seed in (0, 0, 1):
        model = DEQTransformer(8, SMALL, "iid", 0.3, 0, SolverOptions(tol=1e-3))
        losses.append(train(model, corpus_of(), Recipe(3, batch=4), seed)["test"]["loss"])
    assert losses[0] == losses[1] != losses[2]


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = Recipe(20, warm_up=0.2, looks=5)
    factors = [recipe.factor(step) for step in range(20)]
    falling = [(1 + math.cos(math.pi * t / 20)) / 2 for t in range(20)]
    assert factors == pytest.approx([f * min(1, (t + 1) / 4) for t, f in enumerate(falling)])
    assert [step for step in range(1, 21) if recipe.looked_at(step)] == [4, 8, 12, 16, 20]


def test_references_against_counting() -> None:
    corpus = corpus_of(words=4, tokens=600)
    text, v = corpus.train.tolist(), 4
    unigram = {w: (text.count(w) + 1) / (len(text) + v) for w in range(v)}
    pairs = list(itertools.pairwise(text))

    def loss(part: np.ndarray, a: float) -> float:
        found = []
        for u, w in itertools.pairwise(part.tolist()):
            found.append((pairs.count((u, w)) + a * unigram[w]) / (text[:-1].count(u) + a))
        return -float(np.mean(np.log(found)))

    best = min((1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0), key=lambda a: loss(corpus.valid, a))
    found = reference_perplexities(corpus)
    assert found["uniform"] == 4
    assert found["bigram"] == pytest.approx(math.exp(loss(corpus.test, best)), rel=1e-12)
    expected = math.exp(-np.mean([math.log(unigram[w]) for w in corpus.test.tolist()]))
    assert found["unigram"] == pytest.approx(expected, rel=1e-12)


# -- the experiment ----------------------------------------------------------------------------------------------------


def scripted(family: str, scale: float, seed: int, perplexity: float | None) -> Run:
    solves = {"samples": 10, "unconverged_samples": 0.25, "iterations": 6.0 + seed}
    test = None if perplexity is None else {"loss": math.log(perplexity), "perplexity": perplexity, "solves": solves}
    diverged = "at step 3 of 9: the loss is nan" if perplexity is None else None
    return Run(family, scale, seed, {"test": test, "diverged": diverged, "forward": solves, "backward": solves})


def test_cells_and_pairs_against_their_definitions() -> None:
    values = {"goe": [60.0, 61.0, 62.0, 60.5], "iid": [50.0, None, 70.0, 64.0]}
    runs = [scripted(family, 1.0, seed, value) for family, given in values.items() for seed, value in enumerate(given)]
    cell = cells_of(runs, "iid", 1.0, 100.0)
    kept = [50.0, 70.0, 64.0]
    assert (cell["least"], cell["largest"], cell["diverged"], cell["runs"]) == (50.0, 70.0, 1, 4)
    assert cell["mean"] == pytest.approx(np.mean(kept))
    assert cell["mean_all"] == pytest.approx(np.mean([*kept, 100.0]))
    assert cell["sd"] == pytest.approx(np.std(kept, ddof=1))
    interval = np.std(kept, ddof=1) * np.sqrt(2 / scipy.stats.chi2.ppf([0.975, 0.025], 2))
    assert [cell["sd_low"], cell["sd_high"]] == pytest.approx(interval)
    assert cell["forward_iterations"] == pytest.approx(7.5)
    assert cell["test_iterations"] == pytest.approx(np.mean([6, 8, 9]))
    (pair,) = pairs_of(runs, ["goe", "iid"], [1.0])
    first, second = np.log([60.0, 62.0, 60.5]), np.log(kept)
    student = scipy.stats.ttest_rel(first, second).confidence_interval(0.95)
    assert pair["pairs"] == 3
    assert pair["ratio"] == pytest.approx(np.exp(np.mean(first - second)))
    assert [pair["low"], pair["high"]] == pytest.approx(np.exp([student.low, student.high]))


def test_the_claims_are_told_with_their_numbers(tmp_path: Path) -> None:
    corpus, config = corpus_of(), Language(families=FAMILIES, scales=(0.1, 1.0), seeds=(0, 1, 2)).to_dict()
    base = {"goe": (66.0, 0.01), "orthogonal": (61.0, 1.0), "iid": (55.0, 2.0)}
    runs = [
        scripted(family, scale, seed, least + seed * gap)
        for scale in (0.1, 1.0)
        for family, (least, gap) in base.items()
        for seed in range(3)
    ]
    found = language_findings(runs, corpus, reference_perplexities(corpus), config)
    first, second = (next(r for r in found.remarks if f"{word} claim" in r) for word in ("first", "second"))
    assert "random weights have the least perplexity at 2 of 2 scales" in first
    assert "at 2 of 2 scales, with a 95 % interval below the others', or with fewer divergences, at 2" in second
    table = found.tables[0]
    assert [column.text for column in table.columns] == [
        "√V", "random min", "random ave", "orthogonal min", "orthogonal ave", "GOE min", "GOE ave"
    ]  # fmt: skip
    assert table.cells()[1] == ["1", "55", "57", "61", "62", "66", "66.01"]
    reversed_runs = [
        Run({"goe": "iid", "iid": "goe"}.get(r.family, r.family), r.scale, r.seed, r.numbers) for r in runs
    ]
    changed = language_findings(reversed_runs[:-1], corpus, reference_perplexities(corpus), config).remarks
    assert any("random weights have the least perplexity at 0 of 2" in remark for remark in changed)
    without = [run for run in runs if run.family == "orthogonal"]
    few = language_findings(without, corpus, reference_perplexities(corpus), config | {"families": ["orthogonal"]})
    assert not any("claim" in remark or "ratio" in remark for remark in few.remarks)
    assert "pairs" not in [table.name for table in few.tables]
    lost = [*runs[:-1], scripted("iid", 1.0, 2, None)]
    with_loss = language_findings(lost, corpus, reference_perplexities(corpus), config)
    assert any(r.startswith("1 of 18 runs diverged: random at √V = 1 1 of 3") for r in with_loss.remarks)
    assert "random ave with diverged" in [column.text for column in with_loss.tables[0].columns]
    drawing = with_loss.figures["perplexities"]
    save_figure(tmp_path / "f.svg", drawing.draw, json.loads(json.dumps(drawing.data, allow_nan=False)))
    assert (tmp_path / "f.svg").stat().st_size > 1000


def tiny(**options: Any) -> Language:
    given: dict[str, Any] = {
        "data": "markov",
        "families": ("goe", "iid"),
        "scales": (0.3,),
        "seeds": (0, 1, 2),
        "shape": Shape(8, 2, 8),
        "recipe": Recipe(2, batch=4, looks=1),
        "solver": SolverOptions("anderson", 1e-2, 10),
    }
    return Language(**given | options)


@pytest.fixture
def short_text(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = markov_corpus(16, 1000, seed=0)
    monkeypatch.setattr(experiments, "_corpus", lambda *_: corpus)


@pytest.mark.usefixtures("short_text")
def test_a_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_experiment(tiny(), tmp_path)
    assert len(first.record["runs"]) == 6
    for name in ("figures/perplexities.png", "tables/talk.tex", "tables/details.csv", "tables/pairs.md", "summary.md"):
        assert (tmp_path / name).stat().st_size > 0

    def refuse(self: LanguageUnit) -> dict[str, Any]:
        raise InputError(f"seed {self.seed} was to be measured again")

    monkeypatch.setattr(LanguageUnit, "measure", refuse)
    assert run_experiment(tiny(), tmp_path).record == first.record
    with pytest.raises(InputError, match="was to be measured again"):
        run_experiment(tiny(scales=(0.4,)), tmp_path)


@pytest.mark.usefixtures("short_text")
def test_failing_units_are_reported_and_diverged_ones_are_numbers(tmp_path: Path, monkeypatch: Any) -> None:
    measure = LanguageUnit.measure

    def sometimes(self: LanguageUnit) -> dict[str, Any]:
        if self.family == "iid" and self.seed == 1:
            raise InputError("this one fails")
        return measure(self)

    monkeypatch.setattr(LanguageUnit, "measure", sometimes)
    found = run_experiment(tiny(recipe=Recipe(2, batch=2, rate=1e30, warm_up=0.0)), tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["failures"] == ["this one fails"]
    assert [cell["runs"] for cell in record["cells"]] == [3, 2]
    assert [cell["diverged"] for cell in record["cells"]] == [3, 2]
    assert found.tables[0].rows[0]["iid_mean_all"] == 16.0  # words of the text: the perplexity of guessing


def test_seeds_are_shared_by_families_and_nothing_else() -> None:
    units = tiny(scales=(0.1, 0.3)).units()
    assert len(units) == 12
    assert len({json.dumps(unit.describe(), sort_keys=True) for unit in units}) == 12
    assert [unit.seed for unit in units] == sorted(unit.seed for unit in units)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": (0, 1)}, "3 or more different seeds"),
        ({"families": ("gaussian",)}, "a family of weights must be one of"),
        ({"families": ()}, "families must not be empty"),
        ({"scales": (0.1, 0.0)}, "a scale of the weights must be a positive number; got 0.0"),
        ({"device": "tpu"}, 'device must be "cpu", "cuda"'),
        ({"solver": SolverOptions(tol=1e-9)}, "below which float32 cannot go"),
        ({"solver": SolverOptions(mixed=True)}, "mixed precision has no meaning"),
    ],
)
def test_bad_sizes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny(**options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Shape(d_model=10, heads=4), "d_model must be a multiple of heads; got 10 and 4"),
        (lambda: Shape(norm="none"), "norm must be one of pre, post"),
        (lambda: Recipe(steps=0), "steps must be a whole number, 1 or more"),
        (lambda: Recipe(rate=math.nan), "rate must be a positive number, .*; got nan"),
        (lambda: Recipe(warm_up=1.0), "warm_up must be 0 or more and less than 1"),
        (lambda: DEQTransformer(8, Shape(16, output="adaptive"), "iid", 1.0, 0, exact()), "needs 16 or more words"),
        (lambda: DEQTransformer(8, SMALL, "iid", math.inf, 0, exact()), "scale of the weights must be a positive"),
    ],
)
def test_bad_models_and_recipes(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()


def test_a_text_shorter_than_a_segment_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("one two three\n" * 30, encoding="utf-8")
    assert len(load_text(path).test) == 12
    with pytest.raises(DataError, match=r"the valid part of .* has 12 tokens, a segment needs 33: give more text or"):
        tiny(data=str(path), shape=Shape(8, 2, 32)).units()


@pytest.mark.usefixtures("short_text")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    language(
        tmp_path, families=["goe"], scales=[0.3], d_model=16, heads=2, output="adaptive", steps=2, threads=1, quick=True
    )
    said = capsys.readouterr().out
    assert "0 of 3 runs diverged" in said
    assert str(tmp_path / "summary.md") in said
