"""Every example runs and prints what its docstring says; the pages name files, tests and modules that exist."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "reference").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def promised_outputs(path: Path) -> list[str]:
    """What the docstring says it prints; more than one where that depends on the data that are there."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=True)
    assert docstring is not None
    parts = re.split(r"^.*\b[Pp]rints:\n\n", docstring, flags=re.MULTILINE)[1:]
    return [inspect.cleandoc(part).strip() for part in parts]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 13


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_prints_what_it_promises(path: Path, tmp_path: Path) -> None:
    environment = os.environ | dict.fromkeys(THREADS, "1")
    run = subprocess.run(  # noqa: S603 - our own scripts
        [sys.executable, "-W", "error", str(path)],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        encoding="utf-8",
        env=environment,
        timeout=120,
    )
    assert run.stderr == ""
    assert run.returncode == 0
    assert run.stdout.strip() in promised_outputs(path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_guarantees_name_tests_that_exist() -> None:
    claimed = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8"))
    assert len(claimed) > 40
    for file, name in claimed:
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{file}::{name}"


def test_every_module_is_in_the_reference_and_the_architecture() -> None:
    reference = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for layer in ("theory", "numerics", "validation"):
        for path in sorted((ROOT / "equikernel" / layer).rglob("*.py")):
            if path.stem != "__init__":
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                assert f".. automodule:: {module}\n" in reference
                assert f"`{path.stem}`" in architecture, module
