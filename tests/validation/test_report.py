from __future__ import annotations

import dataclasses
import html.parser
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equikernel.errors import InputError
from equikernel.theory.models import DEQ
from equikernel.validation.experiments import Runner, Settings, choose_data, plan_suite, run_suite
from equikernel.validation.report import ReportConfig, build_report, write_report
from equikernel.validation.store import Store
from equikernel.validation.validate import validate

TINY = Settings(
    dimensions=(16, 32),
    replicates=2,
    widths=(16, 32),
    width_draws=4,
    width_samples=4,
    real_samples=60,
    spectrum_samples=10,
    spectrum_width=32,
    spectrum_draws=2,
    phase_points=2,
)
# one with everything, one without a neural tangent kernel and without stable networks of finite width
CONFIG = ReportConfig((DEQ("tanh"), DEQ("sign")), ("gmm", "digits"), settings=TINY, seed=7)
UNITS = (1 + 8 + 2 + 2 + 1 + 2 + 2) + (1 + 8 + 1 + 1 + 1 + 1 + 1) + 2  # at last the phase diagrams
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and gathers what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.identifiers: set[str] = set()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in values:
            self.identifiers.add(str(values["id"]))
        if tag == "img":
            self.images.append(str(values["src"]))
        if "href" in values:
            self.links.append(str(values["href"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class KilledError(BaseException):
    """Stands for a signal: nothing may catch it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose first run was killed half-way and whose second run finished it."""
    out = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        original, count = Store.put, 0

        def put(self: Store, *arguments: Any) -> None:
            nonlocal count
            count += 1
            if count > UNITS // 2:
                raise KilledError
            original(self, *arguments)

        patch.setattr(Store, "put", put)
        with pytest.raises(KilledError):
            build_report(CONFIG, out)
    assert not (out / "results.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "work").iterdir()}
    assert len(before) == UNITS // 2
    (out / "work" / ".left.json.1.part").write_text("{")
    build_report(CONFIG, out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    return out


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_resumed_numbers_are_those_of_one_uninterrupted_run(folder: Path) -> None:
    data = choose_data(CONFIG.data, TINY, CONFIG.seed)
    runner = Runner()  # without a store: nothing is taken from the first run
    fresh = [run_suite(plan_suite(deq, data, TINY, CONFIG.seed, runner), runner).to_dict() for deq in CONFIG.deqs]
    assert json.dumps(fresh) == json.dumps(read(folder / "results.json")["activations"])


def test_again_is_quick_and_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("there is nothing left to do")

    monkeypatch.setattr(Store, "put", refuse)
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"}
    build_report(CONFIG, folder)
    assert {p: p.read_bytes() for p in files} == files


def test_files(folder: Path) -> None:
    assert {"report.html", "results.json", "manifest.json", "figures", "tables", "work"} == {
        path.name for path in folder.iterdir()
    }
    figures = {path.name for path in (folder / "figures").iterdir()}
    expected = {"1_activation", "1_rates", "1_finite_width", "1_spectra", "2_activation", "2_rates", "real_data"}
    expected.add("1_initialisation")
    assert figures == {f"{name}.{kind}" for name in expected for kind in ("pdf", "png")}
    for path in (folder / "figures").iterdir():
        assert path.read_bytes()[:4] == (b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")
    assert list((folder / "work").glob(".*")) == []


def test_figures_that_are_lost_are_drawn_again(folder: Path) -> None:
    path = folder / "figures" / "1_rates.pdf"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    build_report(CONFIG, folder)
    assert path.read_bytes() == content


def test_numbers_have_uncertainty_and_provenance(folder: Path) -> None:
    results = read(folder / "results.json")
    odd, sign = results["activations"]
    for name, quantity in odd["theory"]["numbers"]["coefficients"].items():
        assert quantity.keys() == {"value", "uncertainty", "provenance"}, name
        assert quantity["uncertainty"] <= 1e-13
    for study in ("rates", "finite_width", "real_data", "spectra"):
        assert all(item["provenance"] for item in odd[study])
    assert "jumps" in sign["theory"]["numbers"]["ntk_failure"]
    # the critical sigma of tanh is that of the specification; a jump has no response
    rows = {row["family"]: row for row in results["initialisation"]["rows"]}
    assert rows["iid"]["critical_sigma"] == pytest.approx(2.537316, abs=1e-6)
    assert rows["goe"]["critical_sigma"] == pytest.approx(1.337034, abs=1e-6)
    assert "jumps" in results["initialisation"]["failures"]["sign"]
    assert all("did not converge" in item["failure"] for item in sign["spectra"])


def test_manifest(folder: Path) -> None:
    manifest = read(folder / "manifest.json")
    assert manifest["parameters"]["seed"] == 7
    assert manifest["units_of_work"] == UNITS
    assert manifest["versions"].keys() >= {"python", "numpy", "torch", "matplotlib"}
    assert manifest["wall_time_seconds"] > 0


def test_page_is_whole_and_loads_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.images) == 8
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.images)
    assert {link.removeprefix("#") for link in page.links} <= page.identifiers
    assert not {"script", "link", "iframe"} & page.seen
    assert not re.search(r"https?://|@import|url\(", text)
    assert "sign jumps at x = 0" in text
    assert not re.search(r"\bNone\b|\bnan\b|\{\{|Undefined", re.sub(r"base64,[^\"]*", "", text))


def test_tables(
    folder: Path,
    tmp_path: Path,
    check_latex: Callable[[str], None],
    compile_latex: Callable[[Path, str], str],
) -> None:
    names = {path.stem for path in (folder / "tables").glob("*.csv")}
    assert {"coefficients", "moments", "designs", "rates", "finite_width", "real_data", "eigenvalues"} <= names
    for name in names:
        check_latex((folder / "tables" / f"{name}.tex").read_text())
        assert (folder / "tables" / f"{name}.md").read_text(encoding="utf-8").startswith("| activation")
    for path in (folder / "tables").glob("*.tex"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert "Overfull \\hbox" not in compile_latex(tmp_path, "all_tables.tex")


def test_activation_without_fixed_point_does_not_stop_the_rest(tmp_path: Path) -> None:
    config = ReportConfig((DEQ("2*x", "0.3"), DEQ("x", "0.3")), ("digits",), settings=TINY)
    build_report(config, tmp_path)
    first, second = read(tmp_path / "results.json")["activations"]
    assert "no fixed point" in first["theory"]["failure"]
    assert second["real_data"][0]["numbers"] is not None
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no fixed point: no solution of T(q) = q was found for 2*x" in page


def test_missing_optional_data_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equikernel.validation.datasets.named._find", lambda *_: [])
    config = ReportConfig(
        (DEQ("2*x", "0.3"),), ("gmm", "fashion-mnist"), settings=dataclasses.replace(TINY, real_samples=59)
    )
    build_report(config, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "fashion-mnist is left out" in page
    assert "apt-get install" in page


def test_validate_writes_a_report(tmp_path: Path) -> None:
    result = validate(DEQ("x"), "digits", out=tmp_path / "v", settings=TINY)
    assert result.to_dict() == read(tmp_path / "v" / "results.json")["activations"][0]
    assert (tmp_path / "v" / "report.html").is_file()


def test_bad_input_writes_nothing(tmp_path: Path) -> None:
    for activations, data in ((["relu", "nonsense"], None), ([], None), (["relu"], ["nowhere"])):
        with pytest.raises(InputError):
            write_report(activations, tmp_path / "out", data=data, quick=True)
    assert list(tmp_path.iterdir()) == []
