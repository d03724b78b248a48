from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from equikernel.cli.certify import check, phase, write_certificate
from equikernel.errors import InputError
from equikernel.numerics.certificates.certificate import certify
from equikernel.theory.models import DEQ

app = typer.Typer()
app.command()(check)
app.command()(phase)
runner = CliRunner()


@pytest.fixture(scope="module")
def record() -> dict[str, object]:
    return certify(DEQ("tanh")).to_dict()


def saved(record: dict[str, object], tmp_path: Path) -> str:
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(record, allow_nan=False))
    return str(file)


def test_a_true_certificate_is_confirmed(record: dict[str, object], tmp_path: Path) -> None:
    result = runner.invoke(app, ["check", saved(record, tmp_path)])
    assert result.exit_code == 0
    assert "every claim is confirmed" in result.stdout


def test_json_is_one_object(record: dict[str, object], tmp_path: Path) -> None:
    result = runner.invoke(app, ["check", saved(record, tmp_path), "--json"])
    assert json.loads(result.stdout)["passed"] is True


def test_a_false_claim_has_exit_code_1_and_one_sentence(record: dict[str, object], tmp_path: Path) -> None:
    false = json.loads(json.dumps(record))
    false["enclosures"]["alpha1"]["mid"] = "0.5"
    result = runner.invoke(app, ["check", saved(false, tmp_path)])
    assert result.exit_code == 1
    assert result.stdout.count("\n") == 1
    assert "alpha1" in result.stdout


def test_what_is_no_certificate_is_bad_input(tmp_path: Path) -> None:
    file = tmp_path / "text.json"
    file.write_text("not json")
    result = runner.invoke(app, ["check", str(file)])
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 2


def test_phase_prints_a_table_and_json() -> None:
    shown = runner.invoke(app, ["phase", "relu", "--digits", "3"])
    assert shown.exit_code == 0
    assert "first: chaos" in shown.stdout
    record = json.loads(runner.invoke(app, ["phase", "sign", "--json"]).stdout)
    assert set(record["transitions"]) == {"norm", "chaos", "existence"}


def test_a_certificate_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    write_certificate(certify(DEQ("sin(3*x)+x")).to_dict())
    text = capsys.readouterr().out
    assert "unique: exactly one fixed point on (0, oo)" in text
    assert "sigma_a2*h = 0.1" in text
    assert "sigma_a2*v = 1.11 >= 1, proved: the chaotic phase" in text
    assert "no kappa2: sigma_a2*v = 1.107" in text


def test_numbers_next_to_one_show_on_which_side_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    # relu: sigma_a2 v = sigma_a2/2
    write_certificate(certify(DEQ("relu", "1.99999999999", "1/2")).to_dict())
    assert "sigma_a2*v = 0.999999999995 < 1, proved: identical" in capsys.readouterr().out
    write_certificate(certify(DEQ("sign")).to_dict())
    assert "sigma_a2*v < 1, undecided: E[phi'^2] is not proved to be finite" in capsys.readouterr().out


def test_what_was_not_checked_is_said(tmp_path: Path) -> None:
    file = tmp_path / "solution.json"
    file.write_text(json.dumps({"certificate": certify(DEQ("tanh")).to_dict(), "residual": 0.0, "remark": "fine"}))
    result = runner.invoke(app, ["check", str(file)])
    assert result.exit_code == 0
    assert "not checked: beside the certificate: remark, residual" in result.stdout


def test_a_check_without_time_confirms_nothing(record: dict[str, object], tmp_path: Path) -> None:
    result = runner.invoke(app, ["check", saved(record, tmp_path), "--seconds", "1e-6"])
    assert result.exit_code == 1
    assert "ran out" in result.stdout
