from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from equikernel.errors import DataError, InputError
from equikernel.validation.datasets import load_dataset

from .data_writers import isolate

EPS = np.finfo(float).eps


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    isolate(monkeypatch, tmp_path)


# --- choosing and scaling ---


def test_digits():
    data = load_dataset("digits")
    assert (data.n, data.p, data.name) == (1797, 64, "digits")
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert "scikit-learn" in data.source


def test_normalised_as_in_the_theory():
    data = load_dataset("digits", n=300, seed=4, require_labels=True)
    np.testing.assert_allclose(data.X.mean(axis=0), 0, atol=300 * EPS)
    assert np.mean(np.sum(data.X**2, axis=1)) == pytest.approx(1, rel=300 * EPS)
    assert "300 of 1797 samples, drawn at random with seed 4; centred" in data.preprocessing


def test_normalisation_is_of_the_chosen_samples():
    raw = load_dataset("digits", n=50, normalise=False)
    centred = raw.X - raw.X.mean(axis=0)
    expected = centred / np.sqrt(np.mean(np.sum(centred**2, axis=1)))
    np.testing.assert_allclose(load_dataset("digits", n=50).X, expected, rtol=0, atol=100 * EPS)
    assert "centred" not in raw.preprocessing


@pytest.mark.parametrize("stratified", [False, True])
def test_subsampling_is_deterministic_and_without_repeats(stratified):
    whole = load_dataset("digits", normalise=False)
    first, again, other = (
        load_dataset("digits", n=100, seed=seed, stratified=stratified, normalise=False) for seed in (1, 1, 2)
    )
    assert first.sha256 == again.sha256 != other.sha256
    rows = {row.tobytes(): k for k, row in enumerate(whole.X)}
    assert len(rows) == whole.n  # so that a row says which sample it is
    indices = [rows[row.tobytes()] for row in first.X]
    assert indices == sorted(set(indices))
    assert np.array_equal(first.labels, whole.labels[indices])


def test_stratified_counts():
    sizes = np.bincount(load_dataset("digits").labels)
    counts = np.bincount(load_dataset("digits", n=500, stratified=True).labels)
    assert np.all(np.abs(counts - 500 * sizes / 1797) < 1)
    assert np.array_equal(np.bincount(load_dataset("digits", n=1797, stratified=True).labels), sizes)


def test_digest_is_of_the_bytes_of_samples_and_labels():
    data = load_dataset("digits", n=20)
    assert data.sha256 == hashlib.sha256(data.X.tobytes() + data.labels.tobytes()).hexdigest()
    assert (data.X.dtype, data.labels.dtype) == (np.float64, np.int64)
    with pytest.raises(ValueError, match="read-only"):
        data.X[0, 0] = 1.0


# --- the user's files ---

MATRIX = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 4.0], [2.0, 2.0, 2.0], [1.0, 0.0, 0.0]])


def test_npy_and_npz(tmp_path):
    np.save(tmp_path / "a.npy", MATRIX.astype(np.float32))
    np.savez_compressed(tmp_path / "b.npz", X=MATRIX, y=[0, 1, 0, 1])
    np.savez(tmp_path / "c.npz", X=MATRIX, labels=[3.0, 1.0, 0.0, 1.0])
    a = load_dataset(tmp_path / "a.npy", normalise=False)
    assert np.array_equal(a.X, MATRIX)
    assert a.labels is None
    assert load_dataset(str(tmp_path / "b.npz"), require_labels=True).labels.tolist() == [0, 1, 0, 1]
    assert load_dataset(tmp_path / "c.npz").labels.tolist() == [3, 1, 0, 1]
    assert load_dataset(tmp_path / "a.npy", labels=[1, 1, 0, 0], require_labels=True).labels.tolist() == [1, 1, 0, 0]
    assert load_dataset(tmp_path / "b.npz", labels=[1, 1, 0, 0]).labels.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "options", "labels"),
    [
        ("1,2,0.5\n0,-1,4\n2,2,2\n1,0,0\n", {}, None),
        ("a,b,c\n1,2,0.5\n0,-1,4\n2,2,2\n1,0,0\n", {}, None),
        ("a,Label,b,c\n1,3,2,0.5\n0,0,-1,4\n2,3,2,2\n1,1,0,0\n", {}, [3, 0, 3, 1]),
        ("0,1,2,y\n1,2,0.5,0\n0,-1,4,1\n2,2,2,1\n1,0,0,0\n", {}, [0, 1, 1, 0]),
        ("1,2,0.5,cat\n0,-1,4,dog\n\n2,2,2,dog\n1,0,0,ant\n", {"labels": -1}, [1, 2, 2, 0]),
        ("kind, a, b, c\r\nx, 1, 2, 0.5\r\nx, 0, -1, 4\r\ny, 2, 2, 2\r\ny, 1, 0, 0\r\n", {"labels": 0}, [0, 0, 1, 1]),
        ("\ufeffkind,a,b,c\nx,1,2,0.5\nx,0,-1,4\ny,2,2,2\ny,1,0,0\n", {"labels": "Kind"}, [0, 0, 1, 1]),
        ("1,2,0.5\n0,-1,4\n2,2,2\n1,0,0\n", {"labels": [0, 0, 1, 1]}, [0, 0, 1, 1]),
    ],
)
def test_csv(tmp_path, text, options, labels):
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8", newline="")
    data = load_dataset(path, normalise=False, **options)
    assert np.array_equal(data.X, MATRIX)
    assert (data.labels is None) if labels is None else (data.labels.tolist() == labels)


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("", {}, "is empty"),
        ("a,b,label\n", {}, "no samples"),
        ("1,2\n3\n", {}, "got 1 of them in sample 2"),
        ("1,2\n3,x\n", {}, "got 'x' in sample 2"),
        ("1,2,cat\n3,4,dog\n", {}, "got 'cat' in sample 1: .* labels=COLUMN"),
        ("1,2\n3,1_000\n", {}, "got '1_000' in sample 2"),
        ("1,2\n3,\n", {}, "got '' in sample 2"),
        ("1,2\n3,nan\n", {}, "NaN or infinity in row 1"),
        ("1,2\n3,4\n", {"labels": 2}, "has 2 columns"),
        ("a,b\n3,4\n", {"labels": "c"}, "no column named 'c'"),
        ("a,label\n3,0.5\n4,1\n", {}, "must be integers"),
        ("a,label\n3,inf\n4,1\n", {}, "must be integers"),
        ('"1,2\n3,4\n', {}, "cannot be read as a .csv file"),
        ("label\n1\n2\n", {}, "at least one sample and one feature"),
    ],
)
def test_csv_files_that_are_refused(tmp_path, text, options, says):
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        load_dataset(path, **options)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros(3), "two dimensions"),
        (np.zeros((2, 2, 2)), "two dimensions"),
        (np.zeros((0, 3)), "at least one sample"),
        (np.array([[1.0, np.nan]]), "NaN or infinity in row 0"),
        (np.array([[1.0, -np.inf]]), "NaN or infinity in row 0"),
        (np.array([["a"]]), "real numbers"),
        (np.array([[1j]]), "real numbers"),
        (np.array([[1, None]], dtype=object), "never unpickled"),
    ],
)
def test_arrays_that_are_refused(tmp_path, array, says):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", X=array)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(DataError, match=says):
            load_dataset(tmp_path / name)


class Bomb:
    """An object whose unpickling is noticed."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_pickles_are_never_loaded(tmp_path):
    (tmp_path / "a.npy").write_bytes(pickle.dumps(Bomb()))
    np.savez(tmp_path / "b.npz", X=np.eye(2), y=np.array([Bomb(), 1], dtype=object))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(DataError, match="never unpickled"):
            load_dataset(tmp_path / name)


def test_damaged_numpy_files(tmp_path):
    np.save(tmp_path / "good.npy", MATRIX)
    np.savez_compressed(tmp_path / "good.npz", X=np.tile(MATRIX, (50, 1)))
    npy, npz = (tmp_path / "good.npy").read_bytes(), bytearray((tmp_path / "good.npz").read_bytes())
    flipped = npz.copy()
    flipped[len(npz) // 2] ^= 0xFF
    damaged = {
        "short.npy": npy[:-8],
        "header.npy": npy[:20],
        "tokens.npy": npy.replace(b"}", b" "),
        "types.npy": npy.replace(b"'descr'", b"b'desc'"),
        "text.npy": b"hello",
        "empty.npy": b"",
        "short.npz": npz[:-30],
        "flipped.npz": flipped,
        "text.npz": b"PK\x03\x04 hello",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(bytes(content))
        with pytest.raises(DataError, match=r"cannot be read as an array file|never unpickled"):
            load_dataset(tmp_path / name)


def test_npz_without_a_matrix(tmp_path):
    np.savez(tmp_path / "a.npz", data=MATRIX)
    with pytest.raises(DataError, match="must hold a matrix named X, got data"):
        load_dataset(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("X.npy", b"not an array")
    with pytest.raises(DataError, match=r"cannot be read|real numbers"):
        load_dataset(tmp_path / "b.npz")


@pytest.mark.parametrize("name", ["missing.npy", "missing.npz", "missing.csv"])
def test_missing_files(tmp_path, name):
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(tmp_path / name)


@pytest.mark.parametrize("name", ["imagenet", "data.pkl", "data", ""])
def test_unknown_names(name):
    with pytest.raises(DataError, match=r"expected a name \(digits, .*\) or a .npy, .npz or .csv file"):
        load_dataset(name)


def test_a_folder_is_not_a_file(tmp_path):
    Path(tmp_path / "a.npy").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(tmp_path / "a.npy")


@pytest.mark.parametrize("n", [0, -3, 5, 2.5, True])
def test_sizes_out_of_range(tmp_path, n):
    np.save(tmp_path / "a.npy", MATRIX)
    with pytest.raises(DataError, match="choose n from 1 to 4"):
        load_dataset(tmp_path / "a.npy", n=n)


def test_seeds_that_are_refused():
    with pytest.raises(InputError, match="a seed must be an integer of at least 0, got -1"):
        load_dataset("digits", n=10, seed=-1)


def test_labels_that_do_not_serve(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, MATRIX)
    for options, says in [
        ({"require_labels": True}, "has no labels"),
        ({"stratified": True, "n": 2}, "has no labels"),
        ({"labels": [1, 1, 1, 1], "require_labels": True}, "all of class 1"),
        ({"labels": [1, 2]}, "must have the shape"),
        ({"labels": [0.5, 1, 2, 3]}, "must be integers"),
        ({"labels": ["a", "b", "c", "d"]}, "must be integers"),
        ({"labels": "label"}, "only a .csv file has"),
    ]:
        with pytest.raises(DataError, match=says):
            load_dataset(path, **options)
    with pytest.raises(DataError, match="labels of its own"):
        load_dataset("digits", labels=[1])


@pytest.mark.parametrize("value", [0.1, 1e300, 0.0])
def test_equal_samples_cannot_be_scaled(tmp_path, value):
    """0.1 has a rounded mean, so that its centred samples are not exactly zero."""
    np.save(tmp_path / "a.npy", np.full((7, 5), value))
    with pytest.raises(DataError, match="are equal"):
        load_dataset(tmp_path / "a.npy")
    assert np.array_equal(load_dataset(tmp_path / "a.npy", normalise=False).X, np.full((7, 5), value))


@pytest.mark.parametrize("unit", [1e-200, 1e300])
def test_extreme_units_neither_overflow_nor_vanish(tmp_path, unit):
    np.save(tmp_path / "a.npy", MATRIX)
    np.save(tmp_path / "b.npy", MATRIX * unit)
    plain, scaled = (load_dataset(tmp_path / name).X for name in ("a.npy", "b.npy"))
    np.testing.assert_allclose(scaled, plain, rtol=0, atol=10 * EPS)
