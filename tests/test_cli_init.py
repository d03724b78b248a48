"""``equikernel init-stats``: every oracle of the specification to its printed digits, and every refusal."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad

from equikernel.cli import main

TWO = ("--family", "iid", "--family", "goe")


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["init-stats", *arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    record = json.loads(captured.out, parse_constant=pytest.fail)
    assert isinstance(record, dict)
    return record


def run_failing(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert main(["init-stats", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("equikernel: ")
    assert captured.err.count("\n") == 1
    return captured.err


def run_text(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["init-stats", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def printed(value: float, text: str) -> None:
    """The value rounds to the printed decimal."""
    places = len(text.partition(".")[2])
    assert abs(mpmath.mpf(value) - mpmath.mpf(text)) <= mpmath.mpf("0.5000001") * mpmath.mpf(10) ** -places, text


def chosen(record: Any, path: str) -> float:
    for key in path.split("."):
        record = record[key]
    return float(record)


# ("ACT options", {path in the row: printed value}): "Test oracles" of the specification, one by one
ORACLES: list[tuple[str, dict[str, str]]] = [
    ("x --family iid --sigma .8", {"linear.leading.length": "2.777778", "linear.leading.length_noise": "103.642737"}),
    (
        "x --family orthogonal --sigma .8",
        {"mean_square": "2.777778", "length_noise": "54.869684", "linear.leading.length_noise": "54.869684"},
    ),
    ("x --family goe --sigma .4", {"linear.leading.length": "2.083333", "linear.leading.length_noise": "17.039609"}),
    ("x --family goe --sigma .49", {"linear.leading.length": "8.382318", "length_noise": "6268.499454"}),
    (
        "x --family orthogonal --sigma .8 --size 1",
        {"linear.exact.mean": "12.654321", "linear.exact.variance": "152.415790"},
    ),
    (
        "x --family orthogonal --sigma .8 --size 2",
        {"linear.exact.mean": "7.716049", "linear.exact.variance": "76.207895"},
    ),
    (
        "x --family orthogonal --sigma .8 --size 5",
        {"linear.exact.mean": "4.753086", "linear.exact.variance": "23.794282"},
    ),
    (
        "x --family orthogonal --sigma .8 --size 40",
        {"linear.exact.mean": "3.024691", "linear.exact.variance": "1.659155"},
    ),
    (
        "x --family iid --sigma .7 --depth 3",
        {
            "linear.depth.length": "1.847749",
            "linear.depth.length_noise": "11.578903",
            "linear.depth.untied_noise": "5.926182",
        },
    ),
    (
        "x --family orthogonal --sigma .8 --depth 3",
        {
            "linear.depth.length": "2.311744",
            "linear.depth.length_noise": "16.209419",
            "linear.depth.untied_noise": "7.396137",
        },
    ),
    (
        "x --family goe --sigma .4 --depth 3",
        {
            "linear.depth.length": "1.654080",
            "linear.depth.length_noise": "5.366041",
            "linear.depth.untied_noise": "1.508779",
            "linear.depth.untied_length": "1.189696",
        },
    ),
    (
        "tanh --family iid --sigma .8",
        {
            "mean_square": "1.3705793",
            "chi": ".3123216",
            "kappa": ".1313065",
            "tangent_length": "1.4541682",
            "length_noise": "2.0859931",
            "critical_sigma": "2.537316",
        },
    ),
    ("tanh --family orthogonal --sigma .8", {"length_noise": "2.0001555"}),
    ("tanh --family iid --sigma 1.5", {"mean_square": "1.6209047", "chi": ".6009907", "tangent_length": "2.506207"}),
    (
        "tanh --family goe --sigma .5",
        {
            "mean_square": "1.6499649",
            "chi": ".8148417",
            "stability": ".1976311",
            "tangent_length": "1.7009490",
            "radius": ".7529751",
            "length_noise": "2.0671701",
        },
    ),
    (
        "tanh --family goe --sigma .8",
        {
            "mean_square": "2.0120588",
            "chi": ".5860598",
            "stability": ".3939269",
            "tangent_length": "2.5182256",
            "radius": ".9124403",
            "length_noise": "2.2330149",
            "critical_sigma": "1.337034",
        },
    ),
    ("relu --family goe --sigma .55", {"mean_square": "1.6248275", "chi": ".6140657", "length_noise": "10.831567"}),
    ("relu --family iid --sigma .8", {"length_noise": "5.169654"}),
    # V_z = 5 v^2/4 + 4 v (1/2 - 1/(2 pi)), v = s q, q = 1/(1 - s/2), kappa = s/2
    ("relu --family orthogonal --sigma .8", {"length_noise": "4.21181066674862"}),
    ("relu --kernel --family iid --sigma 1", {"xx": "1", "xy": ".6654203"}),
    ("tanh --kernel --family iid --sigma 1.2", {"xx": ".4918120", "xy": ".2120926"}),
    ("tanh --kernel --family goe --sigma .8", {"xx": ".5673814", "xy": ".2395315", "chi_x": ".5978901"}),
]


@pytest.mark.parametrize(("command", "values"), ORACLES)
def test_oracles(capsys: pytest.CaptureFixture[str], command: str, values: dict[str, str]) -> None:
    (row,) = run_json(capsys, *command.split())["rows"]
    assert (row["status"], row["message"]) == ("solved", None)
    for path, text in values.items():
        printed(chosen(row, path), text)


def test_the_kernel_of_an_odd_function_is_odd_in_the_cosine(capsys: pytest.CaptureFixture[str]) -> None:
    for family in ("iid", "goe"):
        rows = [
            run_json(capsys, "tanh", "--kernel", "--family", family, "--sigma", ".8", "--cosine", c)["rows"][0]
            for c in (".5", "-.5")
        ]
        # to the accuracy that kernel_pair states
        assert rows[1]["xy"] == pytest.approx(-rows[0]["xy"], abs=1e-13 * rows[0]["xx"])


def test_asymmetric_activation_and_input_are_no_obstacle(capsys: pytest.CaptureFixture[str]) -> None:
    """No formula assumes an odd phi: softplus with x = 1, against SciPy's quadrature of the equation for q."""
    for family in ("iid", "goe"):
        (row,) = run_json(capsys, "softplus", "--family", family, "--sigma", ".4", "--input", "constant")["rows"]
        s, q = 0.16, row["mean_square"]
        a = s * row["chi"] if family == "goe" else 0.0
        v = s * q

        def integrand(u: float, power: int, a: float = a, v: float = v) -> float:
            # u = g + a (phi(u) + 1) rises in u, and g ~ N(0, v)
            phi = math.log1p(math.exp(u))
            slope = 1 / (1 + math.exp(-u))
            g = u - a * (phi + 1)
            weight = math.exp(-g * g / (2 * v)) / math.sqrt(2 * math.pi * v) * (1 - a * slope)
            return weight * ((phi + 1) ** 2 if power else slope / (1 - a * slope))

        assert quad(integrand, -9, 9, args=(1,), epsabs=1e-12)[0] == pytest.approx(q, rel=1e-10)
        if family == "goe":
            assert quad(integrand, -9, 9, args=(0,), epsabs=1e-12)[0] == pytest.approx(row["chi"], rel=1e-10)


def test_families_at_equal_radius(capsys: pytest.CaptureFixture[str]) -> None:
    """A linear DEQ: the radius is what was asked for, 2 sigma with GOE weights; the operator norm of iid is 2 sigma."""
    rows = run_json(capsys, "x", "--match", "radius", "--value", ".8")["rows"]
    assert {row["family"]: row["sigma"] for row in rows} == {"iid": 0.8, "orthogonal": 0.8, "goe": 0.4}
    for row in rows:
        assert row["radius"] == pytest.approx(0.8, rel=1e-12)
    (row,) = run_json(capsys, "x", "--match", "operator_norm", "--value", ".8", "--family", "iid")["rows"]
    assert row["sigma"] == 0.4
    assert row["radius_bounds"] is None


def test_the_edge_is_bracketed(capsys: pytest.CaptureFixture[str]) -> None:
    iid, goe = run_json(capsys, *["tanh", "--family", "iid", "--family", "goe", "--sigma", ".5", "--digits", "20"])[
        "rows"
    ]
    assert iid["radius_bounds"] is None
    with mpmath.workdps(30):
        lower, upper = (mpmath.mpf(bound) for bound in goe["radius_bounds"])
        assert abs(upper - lower) <= mpmath.mpf(10) ** -17
        assert lower - mpmath.mpf(10) ** -18 <= mpmath.mpf(goe["radius"]) <= upper + mpmath.mpf(10) ** -18
    assert goe["real_spectrum"] is True
    (sine,) = run_json(capsys, "sin(2*x)", "--sigma", ".3", "--family", "goe")["rows"]
    assert sine["real_spectrum"] is False


def test_laws_of_the_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The identity: q = E x^2/(1 - s), whatever the law. A file of +-2 is the law of signs."""
    np.save(tmp_path / "x.npy", np.array([[2.0], [-2.0]]))
    (tmp_path / "x.txt").write_text("1, -1\n", encoding="utf-8")
    sources: Sequence[tuple[str, ...]] = (
        ("--input", "signs", "--input-scale", "2"),
        ("--input", "constant", "--input-scale", "-2"),
        ("--input", "gaussian", "--input-scale", "2"),
        ("--input", "gaussian", "--input-scale", "0", "--input-mean", "2"),
        ("--input", str(tmp_path / "x.npy")),
        ("--input", str(tmp_path / "x.txt"), "--input-scale", "2"),
    )
    for source in sources:
        (row,) = run_json(capsys, "x", "--family", "iid", "--sigma", ".6", *source)["rows"]
        assert row["mean_square"] == pytest.approx(4 / 0.64, rel=1e-12)


def test_some_rows_may_be_beyond_the_critical_sigma(capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json(capsys, "tanh", *TWO, "--sigma", "1.4", "--sigma", "2.6")["rows"]
    verdicts = {(row["family"], row["sigma"]): row["status"] for row in rows}
    assert verdicts["iid", 1.4] == "solved"
    assert verdicts["goe", 1.4] == verdicts["iid", 2.6] == "unstable"
    beyond = next(row for row in rows if row["family"] == "goe" and row["sigma"] == 1.4)
    assert beyond["stability"] > 1
    assert (beyond["tangent_length"], beyond["radius"], beyond["length_noise"]) == (None, None, None)
    assert "1.337034" in beyond["message"]
    (lost,) = [r for r in run_json(capsys, "relu", *TWO, "--sigma", "1")["rows"] if r["status"] != "solved"]
    assert (lost["family"], lost["status"], lost["mean_square"]) == ("goe", "no fixed point", None)
    assert lost["critical_sigma"] == pytest.approx(math.sqrt(0.5), rel=1e-12)


def test_a_family_without_an_answer_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json(capsys, "x**2", "--sigma", ".1")["rows"]
    assert [row["status"] for row in rows] == ["solved", "solved", "refused"]
    rows = run_json(capsys, "x", "--sigma", ".4", "--size", "1")["rows"]
    assert [row["status"] for row in rows] == ["refused", "solved", "refused"]


def test_critical_sigma_of_the_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """Relu: K = (s K + 1)/2, so sqrt 2; the identity: K = s K + 1, so 1 (GOE: 1/2). Tanh: s E phi'^2 = 1 by SciPy."""
    for act, family, truth in (("relu", "iid", math.sqrt(2)), ("x", "orthogonal", 1), ("x", "goe", 0.5)):
        (row,) = run_json(capsys, act, "--kernel", "--family", family, "--sigma", ".3")["rows"]
        assert row["critical_sigma"] == pytest.approx(truth, rel=1e-12)
    (row,) = run_json(capsys, "tanh", "--kernel", "--family", "iid", "--sigma", ".3")["rows"]
    s = row["critical_sigma"] ** 2

    def average(power: int, v: float) -> float:
        def integrand(u: float) -> float:
            value = math.tanh(u) ** 2 if power else math.cosh(u) ** -4
            return value * math.exp(-u * u / (2 * v)) / math.sqrt(2 * math.pi * v)

        return float(quad(integrand, -12 * math.sqrt(v), 12 * math.sqrt(v), epsabs=1e-13, limit=200)[0])

    v = 1.0
    for _ in range(200):  # the iteration of K converges by its own stability
        v = s * average(1, v) + 1
    assert s * average(0, v) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("tanh --sigma 3 --family iid", 3, "critical sigma is 2.537316"),
        ("tanh --sigma 1.4 --family goe", 3, "critical sigma is 1.337034"),
        ("tanh --sigma 3", 3, "2.537316 (iid), 2.537316 (orthogonal), 1.337034 (goe)"),
        ("tanh --sigma 3 --sigma 4 --family iid", 3, "sigma = 3, 4; the critical sigma is 2.537316"),
        ("x --sigma 1 --family iid", 3, "critical sigma is 1:"),
        ("x --sigma .5 --family goe", 3, "critical sigma is 0.5:"),
        ("relu --sigma 1.41421357 --family orthogonal", 3, "critical sigma is 1.414214"),
        ("relu --kernel --sigma 2 --family iid", 3, "critical sigma_a is 1.414214"),
        ("tanh --kernel --sigma 2 --family goe", 3, "critical sigma_a is 1.079023"),
        ("sign --sigma .5", 3, "is infinite"),
        ("x**2 --sigma .1 --family goe", 2, "bounded slope"),
        ("tanh --sigma .5 --family wigner", 2, "unknown weight family 'wigner'"),
        ("tanh --sigma nan", 2, "sigma must be"),
        ("tanh --sigma -1", 2, "sigma must be"),
        ("tanh --value inf --match radius", 2, "the radius must be"),
        ("tanh --value 1 --match norm", 2, "unknown match 'norm'"),
        ("tanh --sigma 1 --match radius", 2, "says what --value is"),
        ("tanh --sigma 1 --value 1", 2, "use one of them"),
        ("tanh", 2, "no scale of W"),
        ("x --match operator_norm --value .9 --size 1 --family iid", 2, "1 x 1 matrix of the iid family is random"),
        ("x --match radius --value .9 --size 1 --family goe", 2, "1 x 1 matrix of the goe family is random"),
        ("x --sigma .4 --size 1 --family goe", 2, "mean nothing at N = 1"),
        ("tanh --sigma .5 --size 10", 2, "tanh is not the identity"),
        ("tanh --sigma .5 --depth 3", 2, "tanh is not the identity"),
        ("x --sigma .5 --size 0", 2, "--size"),
        ("tanh --sigma .5 --input constant --input-scale 0", 2, "x = 0"),
        ("tanh --sigma .5 --input-scale 0", 2, "x = 0"),
        ("tanh --sigma .5 --input signs --input-scale 0", 2, "positive"),
        ("tanh --sigma .5 --input nowhere", 2, "unknown law of x 'nowhere'"),
        ("tanh --sigma .5 --input signs --input-mean 1", 2, "for the law gaussian"),
        ("tanh --sigma .5 --digits 0", 2, "digits"),
        ("tanh --kernel --sigma .5 --norm2 0", 2, "|x|^2 must be"),
        ("tanh --kernel --sigma .5 --norm2 1,2,3", 2, "as in 1,2"),
        ("tanh --kernel --sigma .5 --cosine 2", 2, "|x.y| <= |x| |y|"),
        ("tanh --kernel --sigma .5 --digits 20", 2, "float64"),
        ("tanh --kernel --sigma .5 --size 3", 2, "--kernel has no"),
        ("tanh --figure diagram.txt", 2, "a .png, .pdf or .svg file"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], command: str, code: int, message: str) -> None:
    assert message in run_failing(capsys, code, *command.split())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "", "at least one value"),
        ("x.txt", "1 two", "cannot be read"),
        ("x.txt", "1 nan", "not finite"),
        ("x.txt", "0 0", "x = 0"),
        ("x.npy", "1 2", "save an array of numbers"),
    ],
)
def test_files_that_are_no_law(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert message in run_failing(capsys, 2, "tanh", "--sigma", ".5", "--input", str(path))


def test_files_of_other_types_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, array in (("c.npy", np.zeros(3) + 1j), ("o.npy", np.array([None, 1])), ("big.npy", np.ones(100_001))):
        np.save(tmp_path / name, array)
        run_failing(capsys, 2, "tanh", "--sigma", ".5", "--input", str(tmp_path / name))


def test_text_and_latex(capsys: pytest.CaptureFixture[str]) -> None:
    text = run_text(capsys, "tanh", "--sigma", ".8", "--digits", "7")
    for shown in ("iid", "goe", "2.012059", "0.9124403", "critical sigma", "verdict", "stable"):
        assert shown in text
    assert text.count("┏") == 1
    assert "1.337034" in run_text(capsys, "tanh", *TWO, "--sigma", "1.4")
    latex = run_text(capsys, "tanh", "--family", "iid", "--sigma", ".8", "--latex")
    assert r"\toprule" in latex
    assert latex.isascii()
    assert r"$K(x,y)$" in run_text(capsys, "tanh", "--kernel", "--sigma", ".8", "--latex")
    assert "N = 40: Var r" in run_text(
        capsys, *["x", "--family", "orthogonal", "--sigma", ".4", "--size", "40", "--depth", "2"]
    )
