from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import equikernel.validation.paper
from equikernel.errors import InputError
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ
from equikernel.validation.tables import LATEX_PREAMBLE, Column, Table, coefficient_table, latex_text

AWKWARD = r"50% of $x_1^2$ & {a}\b ~ #1 | <0> ± ‖q‖² — Ω"
ROWS = (
    {"name": AWKWARD, "value": 0.1 + 0.2, "flag": True, "many": "0." + "1234567890" * 5},
    {"name": "second", "value": 1.5e-7, "flag": False},
    {"name": "third", "value": None, "flag": None},
)
TABLE = Table(
    "awkward",
    "Caption with 100 % of_everything",
    (Column("name", "name"), Column("value", "value", r"$v$", ".3g"), Column("flag", "flag"), Column("many", "digits")),
    ROWS,
)


def test_latex(tmp_path: Path, check_latex: Callable[[str], None], compile_latex: Callable[[Path, str], str]) -> None:
    long = Table("long", "Many rows", TABLE.columns, ROWS * 30)
    for table in (TABLE, long):
        check_latex(table.to_latex())
        (tmp_path / f"{table.name}.tex").write_text(table.to_latex())
    document = LATEX_PREAMBLE + r"\begin{document}\input{awkward.tex}\input{long.tex}\end{document}"
    (tmp_path / "all.tex").write_text(document)
    log = compile_latex(tmp_path, "all.tex")
    assert "Overfull" not in log
    assert r"$1.5\times 10^{-7}$" in TABLE.to_latex()
    assert r"\toprule" in TABLE.to_latex()
    assert "longtable" in long.to_latex()


@pytest.mark.parametrize("text", ["plain", AWKWARD, "x**2 - |x|"])
def test_latex_text_is_ascii(text: str) -> None:
    escaped = latex_text(text)
    assert escaped.isascii()
    assert not re.search(r"(?<!\\)[&%$#_]", escaped)


def test_csv_keeps_every_digit() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.to_csv())))
    assert [row["name"] for row in rows] == [row["name"] for row in ROWS]
    assert float(rows[0]["value"]) == 0.1 + 0.2
    assert rows[0]["many"] == ROWS[0]["many"]
    assert rows[2]["value"] == ""


def test_markdown_has_as_many_cells_in_every_row() -> None:
    lines = TABLE.to_markdown().splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(TABLE.columns) + 1}


def test_json_round_trips() -> None:
    record = json.loads(TABLE.render("json"), parse_constant=pytest.fail)
    assert record["rows"][0]["value"] == 0.1 + 0.2
    assert record["columns"] == ["name", "value", "flag", "many"]


def test_unknown_format() -> None:
    with pytest.raises(InputError, match="latex, markdown, csv, json"):
        TABLE.render("word")


def test_coefficient_table_of_many_digits() -> None:
    solutions = [solve(DEQ(name), digits=30).to_dict() for name in ("relu", "x")]
    table = coefficient_table(solutions)
    assert table.cells()[0][4] == solutions[0]["lambda1"]  # a decimal string stays whole
    assert "σ_a² = 0.2" in table.caption
    mixed = [solve(DEQ("relu", a2)).to_dict() for a2 in ("0.2", "0.3")]
    assert "σ_a²" not in coefficient_table(mixed).caption


def test_coefficient_table_shows_the_sentence_of_a_failed_solve() -> None:
    solutions = [solve(DEQ(name, "0.3"), throw=False).to_dict() for name in ("relu", "2*x")]
    table = coefficient_table(solutions)
    assert table.columns[-1].key == "status"
    assert "fixed point" in table.cells()[1][-1]
    assert table.cells()[1][1] == "—"


def test_every_character_of_the_tables_of_experiments_has_a_macro() -> None:
    """Captions and cells such as "p = 50 … 200", "0.9 → 1.1", "≥ 2", "32–512", "E w⁴", "λ/2 ‖θ − θ_0‖²"."""
    written = "±−—–…→≤≥×√·½∞ᵀ²⁴‖εηθκλστφχ"
    assert "?" not in latex_text(written)
    assert latex_text("E w⁴, λ ≥ 2") == r"E w\ensuremath{^4}, \ensuremath{\lambda} \ensuremath{\ge} 2"
    source = Path(equikernel.validation.paper.__file__).parent
    # string literals of the modules that make tables: whatever is not ASCII there must be legible in LaTeX
    for path in (*source.rglob("*findings.py"), *source.rglob("*tables.py"), *source.rglob("rows.py")):
        literals = [
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [text for text in literals if latex_text(text).count("?") > text.count("?")], path
