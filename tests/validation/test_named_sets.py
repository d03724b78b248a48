from __future__ import annotations

import gzip
import hashlib
import re
import sys
import tarfile

import numpy as np
import pooch
import pytest

from equikernel.errors import DataError, InputError
from equikernel.validation.datasets import DATASETS, available, load_dataset, named, read_cifar10, read_idx
from equikernel.validation.datasets.formats import PARTS

from .data_writers import idx, isolate, write_cifar, write_images


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    isolate(monkeypatch, tmp_path)


# --- where they are ---


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_images_from_the_users_folder(name, tmp_path):
    images, labels = write_images(tmp_path / "data" / name)
    data = load_dataset(name, normalise=False)
    assert np.array_equal(data.X, images)
    assert np.array_equal(data.labels, labels)
    assert str(tmp_path / "data") in data.source


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_parts_gzipped_or_not(tmp_path, part, zipped):
    images, labels = write_images(tmp_path / "data" / "mnist", part=part, zipped=zipped, seed=5)
    data = load_dataset("mnist", part=part, normalise=False)
    assert np.array_equal(data.X, images)
    assert np.array_equal(data.labels, labels)
    assert ("t10k" in data.source, ".gz" in data.source) == (part == "test", zipped)


def test_training_files_alone_are_enough_for_training(tmp_path):
    write_images(tmp_path / "data" / "fashion-mnist")
    assert load_dataset("fashion-mnist").n == 12
    with pytest.raises(DataError, match=r"the test set of 'fashion-mnist' is not on .* put t10k-images-idx3-ubyte.gz"):
        load_dataset("fashion-mnist", part="test", download=False)
    said = available()["fashion-mnist"]
    assert said.startswith(
        f"in {tmp_path / 'data' / 'fashion-mnist'}, without the test set: downloaded on first use (4"
    )


def test_parts_may_lie_in_different_folders(tmp_path):
    write_images(tmp_path / "data" / "fashion-mnist", part="train")
    write_images(tmp_path / "system", part="test", n=6)
    assert "data" in load_dataset("fashion-mnist", part="train").source
    assert "system" in load_dataset("fashion-mnist", part="test").source


def test_folders_in_their_order(tmp_path):
    """The system's package, then, once it is there, the user's folder before it."""
    assert "apt-get install dataset-fashion-mnist" in available()["fashion-mnist"]
    for part in PARTS:
        write_images(tmp_path / "system", seed=1, part=part)
    assert available()["fashion-mnist"] == f"in {tmp_path / 'system'}"
    packaged = load_dataset("fashion-mnist")
    for part in PARTS:
        write_images(tmp_path / "data" / "fashion-mnist", seed=2, part=part)
    assert available()["fashion-mnist"] == f"in {tmp_path / 'data' / 'fashion-mnist'}"
    assert load_dataset("fashion-mnist").sha256 != packaged.sha256


@pytest.mark.parametrize("part", PARTS)
def test_the_cache_counts_only_with_the_right_digests(tmp_path, monkeypatch, part):
    folder = tmp_path / "cache" / "equikernel" / "mnist"
    images, _ = write_images(folder, part=part)
    with pytest.raises(DataError, match="not on this machine"):
        load_dataset("mnist", part=part, download=False)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    monkeypatch.setitem(vars(named._SETS["mnist"].parts[part]), "sha256", digests)
    assert np.array_equal(load_dataset("mnist", part=part, normalise=False, download=False).X, images)


@pytest.mark.parametrize(("part", "stem"), [("train", "train"), ("test", "t10k")])
def test_download_asks_for_every_file_of_the_part_with_its_digest(monkeypatch, part, stem):
    asked = {}

    def retrieve(url, known_hash, fname, path):
        asked[url] = known_hash
        write_images(path, part=part)
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert load_dataset("mnist", part=part).n == 12
    assert list(asked) == [
        f"https://ossci-datasets.s3.amazonaws.com/mnist/{stem}-{kind}-ubyte.gz"
        for kind in ("images-idx3", "labels-idx1")
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in asked.values())


def test_all_digests_differ_but_those_of_the_one_archive():
    parts = {
        (name, part): tuple(files.parts[part].sha256.values()) for name, files in named._SETS.items() for part in PARTS
    }
    assert parts["cifar10", "train"] == parts["cifar10", "test"]
    digests = {digest for values in parts.values() for digest in values}
    assert len(digests) == 9
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_offline_is_one_sentence(name):
    with pytest.raises(DataError, match=rf"{name}.*could not be downloaded from .*ConnectionError.*EQUIKERNEL_DATA"):
        load_dataset(name)
    with pytest.raises(DataError, match="not on this machine: allow the download"):
        load_dataset(name, download=False)


def test_without_the_optional_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"need scikit-learn: pip install 'equikernel\[validation\]'"):
        load_dataset("digits")


def test_available_names_every_set():
    assert tuple(available()) == DATASETS
    assert available()["cifar10"] == "not on this machine: downloaded on first use (170 MB)"


@pytest.mark.parametrize("file", ["cifar-10-binary.tar.gz", "cifar-10-binary.tar"])
def test_cifar10(tmp_path, file):
    path = tmp_path / "data" / "cifar10" / file
    records = write_cifar(path)
    data = load_dataset("cifar10", n=15, normalise=False)
    assert (data.n, data.p) == (15, 3072)
    for part, expected in (("train", records[:5].reshape(-1, 3073)), ("test", records[5])):
        pixels, labels = read_cifar10(path, part)
        assert np.array_equal(pixels, expected[:, 1:])
        assert np.array_equal(labels, expected[:, 0])
        assert np.array_equal(load_dataset("cifar10", part=part, normalise=False).X, expected[:, 1:])


def test_cifar10_without_its_test_batch(tmp_path):
    write_cifar(tmp_path / "data" / "cifar10" / "cifar-10-binary.tar.gz", batches=5)
    assert load_dataset("cifar10").n == 20
    with pytest.raises(DataError, match=r"test_batch\.bin"):
        load_dataset("cifar10", part="test")


def test_parts_that_are_not_there(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3))
    with pytest.raises(DataError, match="digits has no test set of its own: load_split holds"):
        load_dataset("digits", part="test")
    with pytest.raises(DataError, match=r"a\.npy is no named set with a test set"):
        load_dataset(tmp_path / "a.npy", part="test")
    with pytest.raises(InputError, match="part must be one of train, test, got 'valid'"):
        load_dataset("mnist", part="valid")
    with pytest.raises(InputError, match="part must be one of"):
        read_cifar10(tmp_path / "cifar.tar.gz", "valid")


# --- formats ---


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_round_trip(tmp_path, suffix):
    array = np.arange(24).reshape(2, 3, 4)
    path = tmp_path / f"array{suffix}"
    path.write_bytes(gzip.compress(idx(array)) if suffix else idx(array))
    assert np.array_equal(read_idx(path, 3), array)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b"\x00\x00", "got 0000"),
        (b"\x00\x00\x0d\x01" + bytes(4), "got 00000d01"),
        (idx(np.zeros((2, 2, 2))), "in 1 dimension"),
        (b"\x00\x00\x08\x01\x00", "truncated"),
        (idx(np.zeros(9))[:-1], "announces 9 values, it holds 8"),
        (idx(np.zeros(9)) + b"\x00", "announces 9 values, it holds 10"),
    ],
)
def test_idx_files_that_are_refused(tmp_path, content, says):
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_idx(path, 1)


@pytest.mark.parametrize(
    "content", [gzip.compress(idx(np.zeros(99)), mtime=0)[:-9], b"no gzip", b"\x1f\x8b\x08" + bytes(20)]
)
def test_damaged_gzip(tmp_path, content):
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as IDX"):
        read_idx(path, 1)


def test_images_and_labels_of_different_number(tmp_path):
    write_images(tmp_path / "data" / "mnist")
    (tmp_path / "data" / "mnist" / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(7))))
    with pytest.raises(DataError, match=r"holds 12 images, but .* holds 7 labels"):
        load_dataset("mnist")


def test_no_images(tmp_path):
    write_images(tmp_path / "data" / "mnist", n=0)
    with pytest.raises(DataError, match="at least one sample"):
        load_dataset("mnist")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batches": 4}, "data_batch_5.bin"),
        ({"spoil": lambda batch: batch[:-1]}, "expected a multiple of 3073"),
        ({"per_batch": 0}, "has 0 bytes"),
        ({"spoil": lambda batch: b"\x0b" + batch[1:]}, "a label of 11"),
    ],
)
def test_cifar_archives_that_are_refused(tmp_path, options, says):
    path = tmp_path / "cifar.tar.gz"
    write_cifar(path, **options)
    with pytest.raises(DataError, match=says):
        read_cifar10(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda batch: batch[:-1], "test_batch.bin has 12291 bytes"),
        (lambda batch: b"\x0b" + batch[1:], "a label of 11"),
    ],
)
def test_cifar_test_batches_that_are_refused(tmp_path, spoil, says):
    path = tmp_path / "cifar.tar.gz"
    write_cifar(path, spoil=spoil)
    with pytest.raises(DataError, match=says):
        read_cifar10(path, "test")


def test_damaged_or_odd_cifar_archives(tmp_path):
    path = tmp_path / "cifar.tar.gz"
    write_cifar(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="cannot be read as CIFAR-10"):
        read_cifar10(path)
    with tarfile.open(path, "w:gz") as archive:
        folder = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    with pytest.raises(DataError, match="is not a file"):
        read_cifar10(path)
