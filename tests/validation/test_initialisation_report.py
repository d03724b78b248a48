"""Tables and phase diagrams of DEQs at initialisation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equikernel.errors import InputError, UnstableError
from equikernel.numerics.initialisation import InputLaw
from equikernel.validation.experiments.study import Runner
from equikernel.validation.figures import save_figure
from equikernel.validation.initialisation import (
    PhaseDiagram,
    draw_phase_diagram,
    init_report_section,
    init_rows,
    init_table,
    input_law,
    require_answer,
)
from equikernel.validation.initialisation.inputs import scaled_law
from equikernel.validation.store import Store
from equikernel.validation.tables import LATEX_PREAMBLE

STANDARD = InputLaw.gaussian()


@pytest.fixture(scope="module")
def tanh() -> dict[str, Any]:
    return PhaseDiagram("tanh", STANDARD, points=4, inputs=3).measure()


def test_linear_diagram_is_known_in_closed_form() -> None:
    """Phi = 2x: s = 4 sigma^2, q = T = 1/(1 - s), N Var q = 2s(2 - s)/(1 - s)^4 (iid), 4s/(1 - s)^3 (orthogonal)."""
    data = PhaseDiagram("2*x", STANDARD, ("iid", "orthogonal"), points=4, inputs=3).measure()
    noise: dict[str, Callable[[float], float]] = {
        "iid": lambda s: 2 * s * (2 - s) / (1 - s) ** 4,
        "orthogonal": lambda s: 4 * s / (1 - s) ** 3,
    }
    for entry in data["families"]:
        assert entry["critical_sigma"] == pytest.approx(0.5, rel=1e-12)
        stable = [point for point in entry["points"] if point["status"] == "solved"]
        assert len(stable) == 4
        for point in stable:
            s = 4 * point["sigma"] ** 2
            assert point["mean_square"] == pytest.approx(1 / (1 - s), rel=1e-11)
            assert point["tangent_length"] == pytest.approx(1 / (1 - s), rel=1e-11)
            assert point["length_noise"] == pytest.approx(noise[entry["family"]](s), rel=1e-10)
        assert all(p["mean_square"] is None for p in entry["points"] if p["sigma"] > 0.5)
    assert data["linear"]["slope"] == 2
    # a linear DEQ is its own law of small x, whatever the size of x
    assert all(row["critical_sigma"] == pytest.approx(0.5, rel=1e-12) for row in data["boundary"])
    for entry in data["linear"]["families"]:
        assert entry["critical_scale"] == 0.5
        for point in entry["points"]:
            assert point["mean_square"] == pytest.approx(1 / (1 - 4 * point["scale"] ** 2), rel=1e-12)


def test_diagram_of_tanh(tanh: dict[str, Any]) -> None:
    limits = {entry["family"]: entry["critical_sigma"] for entry in tanh["families"]}
    assert limits["iid"] == limits["orthogonal"] == pytest.approx(2.537316, abs=5e-7)
    assert limits["goe"] == pytest.approx(1.337034, abs=5e-7)
    for entry in tanh["families"]:
        for point in entry["points"]:
            assert (point["status"] == "solved") == (point["sigma"] < entry["critical_sigma"])
            assert (point["stability"] < 1) == (point["sigma"] < entry["critical_sigma"])
    goe = [row["scale"] for row in tanh["boundary"] if row["family"] == "goe"]
    assert goe == sorted(goe)  # a larger x saturates tanh
    assert goe[0] == pytest.approx(0.5, rel=0.2)  # and a small one finds it linear
    assert [row["sigma"] / row["critical_sigma"] for row in tanh["compared"]] == pytest.approx([0.9] * 3)
    json.dumps(tanh, allow_nan=False)


def test_small_input_meets_the_linear_law() -> None:
    """Tanh, x -> 0: the critical sigma falls to 1/tanh'(0) = 1, as 1 + v with v = (3 E x^2/4)^(1/3).

    E tanh^2 = v - 2v^2 + 17v^3/3 and E tanh'^2 = 1 - 2v + 7v^2 in s E tanh'^2 = 1, v = s (E tanh^2 + E x^2): what is
    left is 4v^3/3 = E x^2. The next term of sigma is of order v^2.
    """
    for variance in ("1e-8", "1e-12"):
        tiny = PhaseDiagram("tanh", InputLaw.gaussian(variance), ("iid",), points=1, inputs=0).measure()
        v = (0.75 * float(variance)) ** (1 / 3)
        assert tiny["families"][0]["critical_sigma"] == pytest.approx(1 + v, abs=2 * v * v)
        assert tiny["linear"]["families"][0]["critical_scale"] == 1


def test_abscissa_may_be_the_radius_or_the_operator_norm() -> None:
    for match, factors in (("radius", (1, 1, 2)), ("operator_norm", (2, 1, 2))):
        data = PhaseDiagram("softplus", STANDARD, match=match, points=1, inputs=0).measure()
        for entry, factor in zip(data["families"], factors, strict=True):
            assert entry["critical_scale"] == factor * entry["critical_sigma"]
            assert all(point["scale"] == factor * point["sigma"] for point in entry["points"])
        assert data["linear"] is None  # softplus(0) is not 0


def test_figure_files(tanh: dict[str, Any], tmp_path: Path) -> None:
    for suffix, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        path = tmp_path / f"phase.{suffix}"
        save_figure(path, draw_phase_diagram, tanh)
        assert path.read_bytes().startswith(magic)
    alone = tanh | {"families": tanh["families"][:1], "linear": None, "boundary": []}
    save_figure(tmp_path / "one.png", draw_phase_diagram, alone)


def test_figure_of_what_was_drawn(tanh: dict[str, Any]) -> None:
    """Every stable point is on a curve, and what is beyond the critical sigma is shaded."""
    from matplotlib.figure import Figure

    figure = Figure()
    draw_phase_diagram(figure, tanh)
    length = figure.axes[0]
    drawn = {(float(x), float(y)) for line in length.lines for x, y in zip(*line.get_data(), strict=True)}
    for entry in tanh["families"]:
        for point in entry["points"]:
            assert (point["scale"], point["mean_square"]) in drawn
    left = {round(float(patch.get_x()), 9) for patch in length.patches}
    assert left == {round(entry["critical_scale"], 9) for entry in tanh["families"]}


def test_a_family_that_is_undefined_is_left_out() -> None:
    data = PhaseDiagram("x**2", STANDARD, points=1, inputs=0).measure()
    assert [entry["family"] for entry in data["families"]] == ["iid", "orthogonal"]
    assert "bounded slope" in data["refused"]
    with pytest.raises(UnstableError, match="is infinite"):
        PhaseDiagram("sign", STANDARD).measure()
    with pytest.raises(InputError, match="x = 0"):
        PhaseDiagram("tanh", InputLaw.constant(0)).measure()
    with pytest.raises(InputError, match="unknown match"):
        PhaseDiagram("tanh", STANDARD, match="norm").measure()
    with pytest.raises(InputError, match="unknown weight family"):
        PhaseDiagram("tanh", STANDARD, ("wigner",)).measure()


def test_table_for_papers(
    tmp_path: Path, check_latex: Callable[[str], None], compile_latex: Callable[[Path, str], str]
) -> None:
    table = init_table(["tanh", "x*tanh(log(1+exp(x)))"], ("iid", "goe"), ["0.8", "1.4"], STANDARD)
    assert [row["status"] for row in table.rows[:4]] == ["stable", "stable", "stable", "unstable"]
    assert table.rows[1]["mean_square"] == pytest.approx(2.0120588, abs=5e-8)
    assert "2.01206" in table.to_markdown()
    latex = table.to_latex()
    check_latex(latex)
    (tmp_path / "t.tex").write_text(
        LATEX_PREAMBLE + "\n\\begin{document}\n" + latex + "\\end{document}\n", encoding="utf-8"
    )
    assert "Warning: Reference" not in compile_latex(tmp_path, "t.tex")
    assert init_table(["tanh"], "iid", ["0.8"], STANDARD).rows[0]["family"] == "iid"


def test_section_of_a_report_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def section() -> Any:
        runner = Runner(Store(tmp_path))
        return init_report_section(["tanh", "sign"], families=("iid",), points=2, inputs=1, runner=runner)

    first = section()
    assert [name for name, _, _ in first.figures] == ["1_initialisation"]
    assert list(first.failures) == ["sign"]
    (row,) = first.table.rows
    assert row["sigma"] == pytest.approx(0.9 * row["critical_sigma"])
    assert row["critical_kind"] == "perturbations grow"
    monkeypatch.setattr("equikernel.validation.initialisation.diagram.init_rows", lambda *_: pytest.fail("computed"))
    again = section()
    assert again.table == first.table
    assert again.figures == first.figures


def test_all_rows_beyond_the_critical_sigma_are_an_error() -> None:
    require_answer([])
    require_answer(init_rows("tanh", ["iid", "goe"], ["1.4"], STANDARD))
    rows = init_rows("tanh", ["iid"], ["3"], STANDARD)
    with pytest.raises(UnstableError, match=r"critical sigma is 2\.537316"):
        require_answer(rows)


def test_scaled_laws() -> None:
    assert scaled_law(InputLaw.gaussian(4, 1), 0.5) == InputLaw.gaussian(1, "0.5")
    law = scaled_law(InputLaw.sample([1.0, -3.0]), 2)
    assert law.moment(2) == 20
    assert law.moment(1) == -2
    assert input_law("gaussian", "0.5", "-1").moment(2) == 1.25
    assert math.isclose(input_law("signs", "1/3").moment(2), 1 / 9)
