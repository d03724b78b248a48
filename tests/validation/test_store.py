from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from equikernel.errors import InputError, NoFixedPointError, SolutionError
from equikernel.numerics.files import atomic_file, write_text
from equikernel.validation import store as store_module
from equikernel.validation.store import Store, digest

WORK = {"study": "test", "p": 3}
NUMBERS = {"value": 0.1 + 0.2, "tiny": 5e-324, "list": [1, math.pi]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "work")


def never() -> dict[str, object]:
    raise AssertionError("done already")


def test_second_fetch_gives_the_same_bits_without_work(store: Store) -> None:
    assert store.fetch(WORK, lambda: NUMBERS) == NUMBERS
    assert store.fetch(WORK, never) == NUMBERS
    assert store.seconds(WORK) >= 0
    assert len(list(store.folder.iterdir())) == 1


def test_other_work_other_place(store: Store) -> None:
    assert store.path(WORK) != store.path(WORK | {"p": 4})
    assert store.path({"a": 1, "b": 2}) == store.path({"b": 2, "a": 1})


def test_other_source_or_versions_are_other_work(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    key = store.key(WORK)
    monkeypatch.setattr(store_module, "package_versions", lambda: {"numpy": "0"})
    assert store.key(WORK) != key
    monkeypatch.undo()
    assert store.key(WORK) == key
    monkeypatch.setattr(store_module, "source_digest", lambda: "other")
    assert store.key(WORK) != key


@pytest.mark.parametrize("damage", ["empty", "cut", "altered", "not an object", "binary", "no record"])
def test_damaged_files_are_done_again(store: Store, damage: str) -> None:
    store.fetch(WORK, lambda: NUMBERS)
    path = store.path(WORK)
    text = path.read_text()
    altered = text.replace("0.30000000000000004", "0.30000000000000009")
    assert altered != text
    content = {
        "empty": b"",
        "cut": text[: len(text) // 2].encode(),
        "altered": altered.encode(),
        "not an object": b"[1]",
        "binary": b"\xff\xfe\x00",
        "no record": json.dumps({"sha256": digest([]), "record": []}).encode(),
    }
    path.write_bytes(content[damage])
    assert store.get(WORK) is None
    assert store.fetch(WORK, lambda: NUMBERS) == NUMBERS
    assert store.fetch(WORK, never) == NUMBERS


def test_a_problem_without_solution_is_remembered(store: Store) -> None:
    def fails() -> dict[str, object]:
        raise NoFixedPointError("no fixed point")

    for compute in (fails, never):
        with pytest.raises(SolutionError, match=r"^no fixed point$"):
            store.fetch(WORK, compute)


def test_bad_input_is_met_again(store: Store) -> None:
    def fails() -> dict[str, object]:
        raise InputError("not installed")

    with pytest.raises(InputError):
        store.fetch(WORK, fails)
    assert store.fetch(WORK, lambda: NUMBERS) == NUMBERS


def test_what_json_cannot_say_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.fetch(WORK, lambda: {"value": math.nan})
    assert not store.folder.exists()


def test_a_failing_writer_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.txt"
    write_text(path, "before")

    def cut_short() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_leftovers_of_a_killed_run_are_removed(store: Store) -> None:
    store.fetch(WORK, lambda: NUMBERS)
    (store.folder / ".abc.json.123.part").write_text("{")
    store.remove_leftovers()
    assert list(store.folder.iterdir()) == [store.path(WORK)]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="another one"):
        write_text(tmp_path / "file" / "below" / "x.txt", "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="another place"):
        write_text(tmp_path / "folder", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
