"""Every example runs, and prints what its docstring says."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def promised_output(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=True)
    assert docstring is not None
    _, _, printed = docstring.partition("Prints:\n\n")
    return inspect.cleandoc(printed)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 5


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
    assert run.stdout.strip() == promised_output(path)
