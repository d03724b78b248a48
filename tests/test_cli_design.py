"""The commands about equivalent networks, as their users type them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equikernel.cli import main
from equikernel.numerics.designs.design import load_design


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    record: dict[str, Any] = json.loads(out)
    return record


def test_design(capsys: pytest.CaptureFixture[str]) -> None:
    record = run_json(capsys, "design", "tanh", "--family", "hard-tanh")
    assert (record["depth"], record["family"], record["status"]) == (1, "hard-tanh", "solved")
    assert record["residual"] <= 1e-13
    assert record["layers"][0].keys() >= {"expression", "params"}
    assert main(["design", "relu", "--certify"]) == 0
    out = capsys.readouterr().out
    assert "a = 1.2256" in out
    assert "proved: an exact solution within" in out


def test_design_goes_to_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, plot = tmp_path / "deep" / "gelu.json", tmp_path / "gelu.png"
    assert main(["design", "gelu", "--out", str(out), "--plot", str(plot), "--latex"]) == 0
    assert r"\begin{align*}" in capsys.readouterr().out
    assert load_design(out).depth == 2
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main(["design", "gelu", "--plot", str(tmp_path / "gelu.jpg")]) == 2
    assert "a .png, .pdf or .svg file" in capsys.readouterr().err


def test_sphere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    record = run_json(capsys, "design", "gelu", "--data", "sphere", "--tolerance", "1e-8")
    assert record["relative_error"] <= 1e-8
    assert main(["design", "gelu", "--data", "sphere", "--out", str(tmp_path / "s.json")]) == 0
    assert "proved: the kernel differs by at most" in capsys.readouterr().out
    assert json.loads((tmp_path / "s.json").read_text())["network"]["layers"]
    assert main(["design", "tanh", "--data", "sphere", "--latex"]) == 0
    assert r"\mathrm{he}" in capsys.readouterr().out


def test_learning_rates(capsys: pytest.CaptureFixture[str]) -> None:
    record = run_json(capsys, "design", "gelu", "--match", "ntk", "--rates", "free")
    assert len(record["rates"]) == record["depth"] == 1
    assert main(["design", "gelu", "--match", "ntk"]) == 3
    assert 'set rates="free"' in capsys.readouterr().err


def test_both_directions(capsys: pytest.CaptureFixture[str]) -> None:
    record = run_json(capsys, "compress", "relu", "relu", "relu")
    assert record["depth"] == 2
    assert record["residual"] <= 1e-13
    record = run_json(capsys, "nearest-deq", "relu", "relu", "--family", "leaky-relu")
    assert record["exact"] is True
    assert main(["nearest-deq", "tanh", "--family", "erf"]) == 0
    assert "exact: largest relative residual" in capsys.readouterr().out


def test_compare(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(30, 40))
    np.save(tmp_path / "x.npy", X / np.linalg.norm(X, axis=1)[:, None])
    options = ("compare", "relu", "--data", str(tmp_path / "x.npy"), "--family", "leaky-relu", "--family", "hard-tanh")
    record = run_json(capsys, *options)
    assert [row["family"] for row in record["rows"]] == ["leaky-relu", "hard-tanh"]
    assert record["rows"][0]["mismatch"]["ck"] < 0.01
    assert main([*options, "--sphere"]) == 0
    assert "relative mismatch" in capsys.readouterr().out


def test_depth(capsys: pytest.CaptureFixture[str]) -> None:
    record = run_json(capsys, "depth", "tanh", "gelu", "--sigma-a2", "0.2")
    assert [row["verdict"]["depth"] for row in record["rows"]] == [1, 2]
    assert main(["depth", "sign", "--match", "ntk", "--sigma-a2", "0.2"]) == 0
    assert "jumps" in capsys.readouterr().out
