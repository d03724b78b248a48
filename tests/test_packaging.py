"""What stands in more than one place says the same in each."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import equikernel

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normal_name(requirement: str) -> str:
    """The distribution a requirement names, in the registry's normal form."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def test_one_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {equikernel.__version__}\n" in citation
    assert equikernel.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_dependency_is_pinned(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", pin) for pin in pins)  # no local versions, no paths
    requirements = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    assert {normal_name(r) for r in requirements} - {normal_name(pin) for pin in pins} == {"equikernel"}


def test_all_is_every_extra(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(re.findall(r"[a-z]+", everything.split("[")[1]))
    reached = named | {"torch"} if "equikernel[torch]" in extras["validation"] else named
    assert reached | {"all"} == set(extras)
