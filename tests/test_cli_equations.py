"""``equikernel equations``: what it prints, in three forms, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import sympy as sp
import typer
from typer.testing import CliRunner

from equikernel.cli.symbolic import equations
from equikernel.errors import EquikernelError, InputError, NoFixedPointError
from equikernel.numerics.solve import COEFFICIENTS, solve
from equikernel.numerics.symbolic import equations as derive
from equikernel.theory.derivation import symbol
from equikernel.theory.models import DEQ


@pytest.fixture
def run():
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(equations)
    app.callback()(lambda: None)

    def command(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["equations", *arguments])
        if isinstance(done.exception, EquikernelError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return command


def test_the_equations_of_any_activation(run) -> None:
    text = run()
    for line in (
        "tau**2 = sigma_b2*tau0**2 + V*sigma_a2",
        "lambda1 = sigma_b2/(1 - d1**2*sigma_a2)",
        "alpha2 = alpha4**2*d2**2/(4*(1 - d1**2*sigma_a2))",
        "kappa2 = V/(1 - sigma_a2*v)",
        "beta3_next = beta3_prev*d1**2 + alpha3_next + alpha1_prev*beta1_prev*d2**2",
    ):
        assert f"  {line}\n" in text
    assert "Step 1" not in text
    assert "kappa2 = (sigma_b2*tau0**2*v + V)/(1 - sigma_a2*v)" in run("--trained", "aAB")
    assert "Step 6" in run("--derivation")


def test_layers(run) -> None:
    text = run("--layers", "2")
    assert "alpha1_2 = d1_1**2*d1_2**2" in text
    assert "An explicit network of depth 2" in text


@pytest.mark.parametrize("name", ["relu", "gelu", "erf"])
def test_closed_forms_reproduce_the_solver(run, name: str) -> None:
    """The printed right sides, evaluated at the solver's tau, give the solver's coefficients."""
    record = json.loads(run("--activation", name, "--trained", "aAB", "--json"))
    assert set(record["moments"]) == {"V", "d1", "d2", "h", "v"}
    solution = solve(DEQ(name), 1, 15, "aAB")
    known = {symbol("sigma_a2"): sp.Rational(1, 5), symbol("sigma_b2"): sp.Rational(4, 5), symbol("tau0"): 1}
    known |= {symbol(n): getattr(solution, n) for n in COEFFICIENTS}
    for coefficient, equation in derive(name, "aAB").sympy.items():
        assert record["equations"][coefficient]["right"] == sp.sstr(equation.rhs, order="rev-lex")
        expected = solution.q if coefficient == "tau" else getattr(solution, coefficient)
        assert float(equation.rhs.subs(known)) == pytest.approx(expected, rel=1e-13), coefficient


def test_without_closed_forms_the_reason_is_given(run) -> None:
    text = run("--activation", "tanh")
    assert "No closed forms: tanh(x) is not a finite sum" in text
    assert "alpha1 = d1**2*lambda1" in text
    partly = run("--activation", "sign")
    assert "No closed form of v: E[phi'^2] is infinite" in partly
    assert "kappa2" in partly


def test_parameters_stay_symbols() -> None:
    a = sp.Symbol("a", positive=True)
    found = derive("leaky_relu(x, a)", parameters={"a": a})
    lambda1 = found.sympy["lambda1"].rhs
    expected = symbol("sigma_b2") / (1 - symbol("sigma_a2") * (1 + a) ** 2 / 4)
    assert sp.simplify(lambda1 - expected) == 0
    assert found.activation == "leaky_relu(x, a)"
    with pytest.raises(InputError, match="the parameter h has the name"):
        derive("leaky_relu(x, h)", parameters={"h": sp.Symbol("h", positive=True)})


def test_sensitivities(run) -> None:
    assert "D_q = V/(1 - h*sigma_a2)" in run("--sensitivities")
    text = run("--activation", "gelu", "--sensitivities")
    assert "  d1_q = 0\n" in text
    assert "0.221606648199446" in text  # d lambda1/d sigma_a2 = sigma_b2 d1^2/(1 - sigma_a2 d1^2)^2, d1 = 1/2
    record = json.loads(run("--activation", "gelu", "--sensitivities", "--digits", "30", "--json"))
    value = record["sensitivities"]["sensitivities"]["lambda1"]["sigma_a2"]["value"]
    assert isinstance(value, str)
    assert abs(sp.Rational(value) - sp.Rational(1, 5) / sp.Rational(19, 20) ** 2) < sp.Rational(1, 10**29)


@pytest.mark.parametrize("name", [None, "selu", "gelu", "x*tanh(log(1+exp(x)))"])
def test_latex_compiles(run, name: str | None, tmp_path: Path) -> None:
    given = [] if name is None else ["--activation", name, "--digits", "20"]
    text = run(*given, "--derivation", "--sensitivities", "--layers", "2", "--latex")
    assert text.startswith(r"\documentclass{article}")
    assert text.count("{") == text.count("}")
    engine = shutil.which("pdflatex")
    if engine is None:
        pytest.skip("no pdflatex here: only the structure was checked")
    (tmp_path / "e.tex").write_text(text, encoding="ascii")
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", "e.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - found on the path
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in (tmp_path / "e.log").read_text(encoding="latin-1")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--trained", "B"], InputError, "trained"),
        (["--layers", "99"], InputError, "layers"),
        (["--activation", "nonsense"], InputError, "nonsense"),
        (["--activation", "sign", "--sensitivities"], InputError, "neural tangent kernel"),
        (["--activation", "2*x", "--sensitivities", "--sigma-a2", "0.3"], NoFixedPointError, "fixed point"),
        (["--activation", "relu", "--sensitivities", "--digits", "0"], InputError, "digits"),
    ],
)
def test_errors(run, arguments: list[str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        run(*arguments)
