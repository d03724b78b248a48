from __future__ import annotations

import csv
import inspect
import io
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import mpmath
import numpy as np
import pytest

from equikernel.cli import main
from equikernel.cli.kernel import kernel as kernel_command
from equikernel.numerics.kernels import implicit_ck
from equikernel.numerics.kernels.plan import BLOCK
from equikernel.theory.models import DEQ

SOLVE_KEYS = {
    *("activation", "sigma_a2", "sigma_b2", "tau0", "digits", "tau", "q", "gamma2", "lambda1"),
    *("alpha1", "alpha2", "alpha3", "alpha4", "beta1", "beta2", "beta3", "kappa2", "residual", "status"),
}


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    record = json.loads(captured.out, parse_constant=pytest.fail)
    assert isinstance(record, dict)
    return record


def run_failing(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """The sentence on stderr: one line, nothing on stdout, no traceback."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("equikernel: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from equikernel.cli import main; main(['--help'])\n"
        "heavy = {'numpy', 'sympy', 'mpmath', 'scipy', 'numba', 'torch', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr
    for command in ("solve", "moments", "design", "kernel", "validate", "table", "verify", "report"):
        assert command in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("equikernel 0.")


def test_solve_linear_activation_has_closed_form(capsys: pytest.CaptureFixture[str]) -> None:
    # phi = x: V = q, d1 = h = v = 1, d2 = 0, so q = sigma_b2/(1 - sigma_a2) = 1, beta1 = kappa2 = 1/(1 - sigma_a2)
    record = run_json(capsys, "solve", "x", "--json")
    assert set(record) >= SOLVE_KEYS
    expected = {"q": 1, "gamma2": 1, "lambda1": 1, "alpha1": 1, "alpha2": 0, "alpha3": 0, "beta1": 1.25, "kappa2": 1.25}
    assert {name: record[name] for name in expected} == pytest.approx(expected, abs=1e-13)
    assert record["status"] == "solved"


def test_options_reach_the_library_as_exact_decimals(capsys: pytest.CaptureFixture[str]) -> None:
    # relu: d1 = 1/2 at any scale, so lambda1 = (4/5)/(1 - (1/5)/4) = 16/19; the float 0.2 would differ in digit 17
    record = run_json(capsys, "solve", "relu", "--sigma-a2", "0.2", "--sigma-b2", "0.8", "--digits", "40", "--json")
    with mpmath.workdps(50):
        assert abs(mpmath.mpf(str(record["lambda1"])) - mpmath.mpf(16) / 19) < mpmath.mpf(10) ** -39


def test_solve_trained_all(capsys: pytest.CaptureFixture[str]) -> None:
    # phi = x with B trained too: kappa2 += sigma_b2 v/(1 - sigma_a2 v) = 0.8/0.8
    assert run_json(capsys, "solve", "x", "--trained", "aAB", "--json")["kappa2"] == pytest.approx(2.25, abs=1e-13)


def test_solve_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--digits", "30", "--", "-x + abs(x)"]) == 0
    out = capsys.readouterr().out
    assert "alpha3" in out
    assert "solved, residual" in out


def test_moments(capsys: pytest.CaptureFixture[str]) -> None:
    record = run_json(capsys, "moments", "relu", "--tau", "1/2", "--json")
    moments = record["moments"]
    assert isinstance(moments, dict)
    assert moments["d2"]["value"] == pytest.approx(2 / np.sqrt(2 * np.pi), rel=1e-13)  # density of N(0, 1/4) at 0
    assert all(set(m) == {"value", "error", "provenance"} for m in moments.values())
    assert main(["moments", "relu", "--latex"]) == 0
    assert r"\toprule" in capsys.readouterr().out
    assert main(["moments", "relu", "--digits", "30"]) == 0
    assert "0.398942280401432677939946059934" in capsys.readouterr().out


@pytest.mark.parametrize("style", ["csv", "json", "markdown", "latex"])
def test_table(style: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "table.txt"
    assert main(["table", "x", "abs", "--format", style, "--out", str(out)]) == 0
    assert main(["table", "x", "abs", "--format", style]) == 0
    text = capsys.readouterr().out
    assert text.rstrip("\n") == out.read_text(encoding="utf-8").rstrip("\n")
    if style == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["activation"] for row in rows] == ["x", "abs"]
        assert float(rows[0]["kappa2"]) == pytest.approx(1.25, abs=1e-13)
    elif style == "json":
        assert [row["activation"] for row in json.loads(text)["rows"]] == ["x", "abs"]


def test_kernel(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    X = np.random.default_rng(1).standard_normal((7, 5)) / np.sqrt(5)
    np.save(tmp_path / "X.npy", X)
    out = tmp_path / "kernels.npz"
    arguments = ("kernel", "relu", "--data", str(tmp_path / "X.npy"), "--n", "6", "--out", str(out), "--json")
    record = run_json(capsys, *arguments)
    assert (record["n"], record["p"]) == (6, 5)
    with np.load(out, allow_pickle=False) as archive:
        content = {name: archive[name] for name in archive.files}
    chosen = np.sort(np.random.default_rng(0).choice(7, 6, replace=False))
    np.testing.assert_array_equal(content["ck"], implicit_ck(X[chosen], DEQ("relu")))  # a file is taken as it is
    assert content["ntk"].shape == (6, 6)
    assert str(content["activation"]) == "relu"
    assert float(content["sigma_a2"]) == 0.2
    assert list(tmp_path.glob(".*")) == []
    assert main([*arguments[:-1], "--which", "ck", "--normalise"]) == 0
    assert "centred by their mean" in capsys.readouterr().out
    with np.load(out, allow_pickle=False) as archive:
        assert "ntk" not in archive.files


def test_kernel_streamed_to_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "folder"
    common = ("kernel", "elu", "--data", "digits", "--n", "30", "--seed", "3")
    streamed = (*common, "--out", str(out), "--stream", "--block", "16", "--json")
    record = run_json(capsys, *streamed)
    assert (record["n"], record["blocks"], record["resumed"]) == (30, 3, 0)
    assert run_json(capsys, *streamed)["resumed"] == 3
    run_json(capsys, *common, "--out", str(tmp_path / "k.npz"), "--threads", "1", "--json")
    with np.load(tmp_path / "k.npz", allow_pickle=False) as archive:
        for name in ("ck", "ntk"):
            kernel = np.load(out / f"{name}.npy", allow_pickle=False)
            assert np.abs(kernel - archive[name]).max() <= 4e-15 * kernel.max()
        np.testing.assert_array_equal(np.load(out / "labels.npy", allow_pickle=False), archive["labels"])
        assert float(archive["error_bound"]) <= 1e-14
    assert json.loads((out / "kernels.json").read_text())["sha256"] == record["sha256"]


def test_kernel_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("kernel", "tanh", "--data", "digits", "--n", "60", "--estimate", "--block", "16", "--which", "ck")
    record = run_json(capsys, *arguments, "--json")
    assert (record["n"], record["kernels"], record["blocks"]) == (60, ["ck"], 10)
    assert record["disk_bytes"] >= 60 * 60 * 8
    assert main(list(arguments)) == 0
    assert "CK of 60 x 60 samples" in capsys.readouterr().out


def test_kernel_blocks_are_those_of_the_library() -> None:
    assert inspect.signature(kernel_command).parameters["block"].default == BLOCK


def test_kernel_of_an_activation_with_jumps_has_no_ntk(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "k.npz"
    arguments = ("kernel", "sign", "--data", "digits", "--n", "5", "--out", str(out))
    run_failing(capsys, 2, *arguments)
    assert list(tmp_path.iterdir()) == []
    record = run_json(capsys, *arguments, "--which", "ck", "--json")
    assert record["contraction"] is None  # infinite, which JSON cannot say


@pytest.mark.parametrize(
    ("code", "arguments", "names"),
    [
        (2, ["solve", "nonsense"], "nonsense"),
        (2, ["solve", "x.real"], ""),
        (2, ["solve", "__import__('os')"], ""),
        (2, ["solve", "9**9**9*x"], ""),
        (2, ["solve", "x*y"], "y"),
        (2, ["solve", "log(x)"], "log(x)"),
        (2, ["solve", "exp(x**2)"], ""),
        (2, ["solve", "3"], "constant"),
        (2, ["solve", "x" + "+x" * 1500], "2000"),
        (2, ["solve", "sign"], "neural tangent kernel"),
        (2, ["solve", "relu", "--sigma-a2", "-1"], "sigma_a2"),
        (2, ["solve", "relu", "--sigma-a2", "nan"], "sigma_a2"),
        (2, ["solve", "relu", "--sigma-b2", "inf"], "sigma_b2"),
        (2, ["solve", "relu", "--tau0", "0"], "tau0"),
        (2, ["solve", "relu", "--tau0", "one"], "tau0"),
        (2, ["solve", "relu", "--digits", "0"], "digits"),
        (2, ["solve", "relu", "--digits", "many"], "digits"),
        (2, ["solve", "relu", "--trained", "B"], "trained"),
        (2, ["solve", "relu", "--unknown"], "--unknown"),
        (2, ["moments", "relu", "--certify", "--derive"], "--certify"),
        (2, ["moments", "a*x", "--parameters", "a,,b"], "parameters"),
        (2, ["moments", "a*x", "--parameters", "x"], "x"),
        (2, ["moments", "relu", "--certify", "--tau", "nan"], "tau"),
        (2, ["check", "missing.json"], "missing.json"),
        (2, ["series", "relu", "--order", "0"], "order"),
        (2, ["series", "relu", "--kernel", "both"], "kernel"),
        (2, ["series", "sign", "--kernel", "ntk"], "jumps"),
        (2, ["phase", "nonsense"], "nonsense"),
        (2, ["dual", "log(x)"], "log(x)"),
        (2, ["equations", "--layers", "-1"], "layers"),
        (2, ["solve", "-x"], "after --"),
        (2, ["solve"], "ACT"),
        (2, ["frobnicate"], "frobnicate"),
        (2, ["moments", "relu", "--tau", "-1"], "tau"),
        (2, ["moments", "relu", "--digits", "5000"], "digits"),
        (2, ["design", "relu", "--match", "neither"], "match"),
        (2, ["design", "relu", "--family", "cubic"], "family"),
        (2, ["table", "relu", "--format", "word"], "word"),
        (2, ["kernel", "relu", "--data", "missing.npy", "--out", "k.npz"], "missing.npy"),
        (2, ["kernel", "relu", "--data", "nowhere", "--out", "k.npz"], "nowhere"),
        (2, ["kernel", "relu", "--data", "digits", "--n", "0", "--out", "k.npz"], "n = 0"),
        (2, ["kernel", "relu", "--data", "digits", "--out", "k.npy"], ".npz"),
        (2, ["kernel", "relu", "--data", "digits", "--which", "gram", "--out", "k.npz"], "gram"),
        (2, ["kernel", "relu", "--data", "digits"], "--out is missing"),
        (2, ["kernel", "relu", "--data", "digits", "--out", "k.npz", "--threads", "0"], "threads"),
        (2, ["kernel", "relu", "--data", "digits", "--out", "k", "--stream", "--format", "hdf5"], "hdf5"),
        (2, ["validate", "relu", "--data", "nowhere", "--out", "v"], "nowhere"),
        (2, ["report", "nonsense", "--out", "r"], "nonsense"),
        (2, ["report", "relu", "--seed", "-1", "--out", "r"], "seed"),
        (3, ["solve", "2*x", "--sigma-a2", "0.3"], "fixed point"),
        (3, ["moments", "silu", "--closed-form"], "quotient"),
        (3, ["moments", "max(x, 0.001*sin(1000*x))", "--certify"], "cannot be proved complete"),
        (3, ["solve", "max(x, 0.001*sin(1000*x))", "--certify"], "cannot be proved complete"),
        (3, ["dual", "elu"], "no closed form"),
        (3, ["series", "2*x", "--sigma-a2", "0.3"], "fixed point"),
        (3, ["solve", "5*sin(3*x)", "--sigma-a2", "0.9"], ""),
        (3, ["design", "gelu", "--family", "leaky-relu"], "no network of 2 layers of the family leaky-relu"),
        (3, ["table", "relu", "2*x", "--sigma-a2", "0.3"], "fixed point"),
    ],
)
def test_errors_are_one_sentence(
    code: int,
    arguments: list[str],
    names: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert names in run_failing(capsys, code, *arguments)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_damaged_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 nothing more")
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}, []], dtype=object), allow_pickle=True)
    for path in (broken, objects):
        out = tmp_path / "k.npz"
        assert str(path) in run_failing(capsys, 2, "kernel", "relu", "--data", str(path), "--out", str(out))
        assert not out.exists()


def test_output_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments in (["table", "x", "--out"], ["report", "x", "--quick", "--out"]):
        assert "file" in run_failing(capsys, 2, *arguments, str(tmp_path / "file" / "below"))


def test_interrupt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("equikernel.numerics.solve.solve", interrupted)
    assert main(["solve", "relu"]) == 130
    assert capsys.readouterr().err.count("\n") <= 1


@pytest.mark.parametrize("passed", [True, False])
def test_verify_exit_code(passed: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # the identities have tests of their own: here only what the command makes of their report
    check = types.SimpleNamespace(
        name="stein", passed=passed, detail="gap 1e-15", counterexample=None if passed else "tau = 3"
    )
    module = types.ModuleType("equikernel.validation.verify")
    monkeypatch.setattr(module, "verify", lambda *_, **__: types.SimpleNamespace(checks=(check,)), raising=False)
    monkeypatch.setitem(sys.modules, "equikernel.validation.verify", module)
    assert main(["verify", "relu"]) == (0 if passed else 1)
    out = capsys.readouterr().out
    assert "stein" in out
    assert ("tau = 3" in out) is not passed
    assert main(["verify", "relu", "--json"]) == (0 if passed else 1)
    assert json.loads(capsys.readouterr().out)["passed"] is passed


def test_reader_that_leaves_early() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        command = [sys.executable, "-m", "equikernel", "solve", "x", "--json"]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 1
    assert done.stderr == ""


def test_closed_forms_and_their_derivation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["moments", "gelu", "--closed-form"]) == 0
    assert "sqrt(2)*(tau**2 + 2)/(2*sqrt(pi)*(tau**2 + 1)**(3/2))" in capsys.readouterr().out
    record = run_json(capsys, "moments", "a*hard_tanh(x, -c, c)", "--parameters", "a, c>0", "--json")
    assert record["parameters"] == ["a", "c"]
    assert record["moments"]["d1"]["expression"] == "a*erf(sqrt(2)*c/(2*tau))"
    assert record["provenance"].startswith("closed form (verified against balls")
    assert main(["moments", "relu", "--derive"]) == 0
    document = capsys.readouterr().out
    assert document.startswith("\\documentclass")
    assert document.rstrip().endswith("\\end{document}")


def test_proved_digits_of_moments(capsys: pytest.CaptureFixture[str]) -> None:
    record = run_json(capsys, "moments", "erf", "--certify", "--digits", "30", "--json")
    truth = mpmath.asin(mpmath.mpf(2) / 3) * 2 / mpmath.pi
    assert abs(mpmath.mpf(record["moments"]["V"]["value"]) - truth) < 1e-14
    assert "ball enclosure" in record["moments"]["V"]["provenance"]


def test_dual(capsys: pytest.CaptureFixture[str]) -> None:
    record = run_json(capsys, "dual", "sign", "--json")
    assert record["expression"] == "2*asin(rho)/pi"
    assert main(["dual", "leaky_relu(x, a)", "--parameters", "a", "--latex"]) == 0
    assert r"\mathbb{E}[\varphi(u)\varphi(v)] &=" in capsys.readouterr().out


def test_series(capsys: pytest.CaptureFixture[str]) -> None:
    record = run_json(capsys, "series", "erf", "--order", "4", "--sigma-a2", "0", "--sigma-b2", "1", "--json")
    # without feedback the kernel is the dual activation itself, (2/pi) asin(2 s/3)
    series = [mpmath.mpf(c["mid"]) for c in record["coefficients"]]
    assert abs(series[0] - 4 / (3 * mpmath.pi)) < 1e-14
    assert abs(series[2] - 8 / (81 * mpmath.pi)) < 1e-14
    assert [c["verdict"] for c in record["coefficients"]] == ["positive", "zero (by symmetry)"] * 2


def test_certified_solution(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    record = run_json(capsys, "solve", "tanh", "--certify", "--json")
    assert record["certificate"]["count"]["number"] == 1
    inside = record["certificate"]["enclosures"]["kappa2"]
    assert abs(record["kappa2"] - float(inside["mid"])) < 1e-14
    path = tmp_path / "tanh.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    assert main(["check", str(path)]) == 0
    assert "every claim is confirmed" in capsys.readouterr().out


def test_a_proof_that_there_is_no_solution_is_printed_before_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "2*x", "--sigma-a2", "0.3", "--certify"]) == 3
    printed = capsys.readouterr()
    assert printed.out.startswith("existence: none on (0, oo)")
    assert printed.err.startswith("equikernel: no fixed point")


def test_phase(capsys: pytest.CaptureFixture[str]) -> None:
    record = run_json(capsys, "phase", "relu", "--json")
    # V = (1 - 1/pi) q/2 and v = 1/2: chaos at sigma_a2 = 2, existence ends at 2/(1 - 1/pi)
    assert record["first"] == "chaos"
    assert abs(float(record["transitions"]["chaos"]["sigma_a2"]["mid"]) - 2) < 1e-5
