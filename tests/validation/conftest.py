from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def compile_latex() -> Callable[[Path, str], str]:
    """Compile NAME in a folder and return the log; says why not where there is no LaTeX, and returns nothing."""

    def compiled(folder: Path, name: str) -> str:
        pdflatex = shutil.which("pdflatex")
        if pdflatex is None:
            print("pdflatex is not installed: the structure of the tables is checked, not their compilation")  # noqa: T201
            return ""
        command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
        assert done.returncode == 0, done.stdout[-2000:]
        return done.stdout

    return compiled


@pytest.fixture(scope="session")
def check_latex() -> Callable[[str], None]:
    """Environments and braces balance, and every row has as many cells as there are columns."""

    def check(text: str) -> None:
        begun, ended = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
        assert sorted(begun) == sorted(ended)
        braces = re.sub(r"\\[{}]", "", text)
        assert braces.count("{") == braces.count("}")
        assert text.isascii()
        rows = [
            line for line in text.splitlines() if line.endswith(r"\\") and not line.startswith((r"\caption", r"\multi"))
        ]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows}) == 1

    return check


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread, so that its sums are the same on every machine and processes do not crowd each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
