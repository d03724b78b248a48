from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest

from equikernel.errors import DataError, InputError
from equikernel.validation.datasets import load_dataset, load_split

from .data_writers import idx, isolate, write_cifar, write_images

EPS = np.finfo(float).eps


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def mnist(tmp_path):
    """A training set of 40 and a test set of 15 images of 8 x 8 pixels, three classes."""
    folder = tmp_path / "data" / "mnist"
    return (
        write_images(folder, n=40, seed=1, shape=(8, 8)),
        write_images(folder, n=15, seed=2, shape=(8, 8), part="test"),
    )


def write_matrix(path, labels, seed=0, p=4):
    """A .npz file of Gaussian samples with these labels."""
    X = np.random.default_rng(seed).standard_normal((len(labels), p))
    np.savez(path, X=X, y=labels)
    return X


# --- named sets with a test set ---


@pytest.mark.usefixtures("mnist")
def test_training_samples_are_those_of_load_dataset():
    split = load_split("mnist", train=25, seed=3)
    data = load_dataset("mnist", n=25, seed=3)
    assert np.array_equal(split.train.X, data.X)
    assert np.array_equal(split.train.labels, data.labels)
    assert (split.train.n, split.test.n, split.p, split.classes) == (25, 15, 64, 3)


def test_the_test_samples_take_the_map_of_the_training_samples(mnist):
    (images, _), (tests, labels) = mnist
    split = load_split("mnist")
    mean = images.mean(axis=0)
    scale = np.sqrt(np.mean(np.sum((images - mean) ** 2, axis=1)))
    # Both are differences of numbers up to 255/scale, with sums over 40 samples and 64 features behind them.
    bound = 64 * EPS * 255 / scale
    np.testing.assert_allclose(split.train.X, (images - mean) / scale, rtol=0, atol=bound)
    np.testing.assert_allclose(split.test.X, (tests - mean) / scale, rtol=0, atol=bound)
    assert np.array_equal(split.test.labels, labels)
    assert np.mean(np.sum(split.train.X**2, axis=1)) == pytest.approx(1, rel=64 * EPS)


@pytest.mark.usefixtures("mnist")
def test_defaults_say_what_was_taken():
    split = load_split("mnist")
    assert split.preprocessing == (
        "training: 40 of 40 samples; test: 15 of 15 samples; centred by the mean of the training samples, scaled so "
        "that their mean of ||x||^2 is 1"
    )
    assert split.front_end == "raw pixels (p = 64)"
    assert "train-images" in split.source
    assert "t10k-labels" in split.source
    drawn = load_split("mnist", train=30, test=6, seed=2, stratified=True).preprocessing
    assert "30 of 40 samples, drawn class by class with seed 2; test: 6 of 15 samples, drawn class by class" in drawn


def test_stratified_draws(mnist):
    split = load_split("mnist", train=12, test=6, stratified=True)
    counts = 12 * np.bincount(mnist[0][1]) / 40
    assert np.all(np.abs(np.bincount(split.train.labels) - counts) < 1)
    assert np.bincount(split.test.labels).tolist() == [2, 2, 2]


@pytest.mark.usefixtures("mnist")
def test_the_same_seed_gives_the_same_bits():
    first, again, other = (load_split("mnist", train=20, test=9, seed=seed) for seed in (1, 1, 2))
    assert first.sha256 == again.sha256 != other.sha256
    assert np.array_equal(first.test.X, again.test.X)
    assert not np.array_equal(first.test.X, other.test.X)


def test_digest_is_of_the_samples_as_they_are_in_the_source(mnist):
    (images, labels), (tests, test_labels) = mnist
    content = b"".join(
        np.asarray(array, dtype).tobytes()
        for array, dtype in ((images, "<f8"), (labels, "<i8"), (tests, "<f8"), (test_labels, "<i8"))
    )
    assert load_split("mnist").sha256 == hashlib.sha256(content).hexdigest()
    assert load_split("mnist", front_end="pca-5").sha256 == load_split("mnist").sha256


@pytest.mark.usefixtures("mnist")
def test_arrays_are_read_only():
    split = load_split("mnist")
    for array in (split.train.X, split.train.labels, split.test.X, split.test.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_cifar10(tmp_path):
    records = write_cifar(tmp_path / "data" / "cifar10" / "cifar-10-binary.tar.gz", per_batch=12)
    split = load_split("cifar10", front_end="random-conv-8")
    assert (split.train.n, split.test.n, split.p, split.classes) == (60, 12, 8, 10)
    assert np.array_equal(split.test.labels, records[5, :, 0])
    assert split.front_end == "random convolutional features (D = 8, patches 6x6, seed 0)"


@pytest.mark.parametrize("front_end", ["pixels", "pca-6", "random-conv-16"])
@pytest.mark.usefixtures("mnist")
def test_nothing_is_fitted_on_test_samples(tmp_path, front_end):
    before = load_split("mnist", front_end=front_end)
    write_images(tmp_path / "data" / "mnist", n=21, seed=9, shape=(8, 8), part="test")
    after = load_split("mnist", front_end=front_end)
    assert after.test.n == 21
    assert np.array_equal(before.train.X, after.train.X)


# --- held out ---


def test_digits_are_split_class_by_class():
    split, raw = load_split("digits"), load_dataset("digits", normalise=False)
    assert (split.train.n, split.test.n, split.classes) == (1438, 359, 10)
    counts = np.bincount(split.test.labels)
    assert np.all(np.abs(counts - 359 * np.bincount(raw.labels) / 1797) < 1)
    assert np.array_equal(counts + np.bincount(split.train.labels), np.bincount(raw.labels))
    assert "training: 1438 of 1438 samples; test: 359 of 1797 samples, drawn class by class with seed 0" in (
        split.preprocessing
    )


def test_held_out_samples_are_none_of_the_training_samples(tmp_path):
    """The samples differ and lie on a line, so that their order says which is which whatever the scale."""
    np.savez(tmp_path / "a.npz", X=np.arange(50.0)[:, np.newaxis], y=np.arange(50) % 2)
    split = load_split(tmp_path / "a.npz", seed=4, test=13)
    line = np.concatenate([split.train.X, split.test.X])[:, 0]
    ranks = np.argsort(np.argsort(line))
    assert len(set(line)) == 50
    assert np.array_equal(np.concatenate([split.train.labels, split.test.labels]), ranks % 2)
    assert np.array_equal(ranks[:37], np.sort(ranks[:37]))


def test_what_is_held_out_does_not_depend_on_the_number_of_training_samples(tmp_path):
    write_matrix(tmp_path / "a.npz", np.arange(60) % 3)
    whole, few = (load_split(tmp_path / "a.npz", train=train, seed=1) for train in (None, 20))
    assert (whole.train.n, few.train.n) == (48, 20)
    assert np.array_equal(whole.test.labels, few.test.labels)
    # Both are images of the same samples under maps x -> (x - mean)/scale, so that differences are proportional.
    a, b = whole.test.X - whole.test.X[0], few.test.X - few.test.X[0]
    np.testing.assert_allclose(a * (b[1, 0] / a[1, 0]), b, rtol=0, atol=1e3 * EPS * np.abs(b).max() / abs(a[1, 0]))


def test_labels_are_numbered_and_their_names_kept(tmp_path):
    labels = np.tile([7, -1, 3], 10)
    write_matrix(tmp_path / "a.npz", labels)
    split = load_split(tmp_path / "a.npz", labels=labels + 100)
    assert split.class_labels == (99, 103, 107)
    assert set(split.train.labels) == {0, 1, 2}
    assert split.front_end == "raw features (p = 4)"


def test_a_csv_with_a_column_of_names(tmp_path):
    lines = [f"{k},{k * k % 7},{'cat' if k % 2 else 'dog'}" for k in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    split = load_split(tmp_path / "a.csv", labels=-1)
    assert (split.train.n, split.test.n, split.p, split.class_labels) == (16, 4, 2, (0, 1))
    assert np.bincount(split.test.labels).tolist() == [2, 2]


# --- what is refused ---


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"train": 41}, "the training set of mnist has 40 samples, asked for train = 41: choose train from 1 to 40"),
        ({"test": 16}, "the test set of mnist has 15 samples, asked for test = 16"),
        ({"train": 0}, "asked for train = 0"),
        ({"test": 2.5}, "asked for test = 2.5"),
        ({"train": 1}, "the 1 training samples of mnist are all of class"),
        ({"labels": [0, 1]}, "has labels of its own"),
        ({"front_end": "pca-41"}, "at most 40 principal components, got pca-41: take pca-40 or fewer"),
        ({"train": 30, "front_end": "pca-31"}, "30 training samples of 64 features"),
    ],
)
@pytest.mark.usefixtures("mnist")
def test_sizes_and_labels_that_are_refused(options, says):
    with pytest.raises(DataError, match=says):
        load_split("mnist", **options)


@pytest.mark.parametrize("front_end", ["hog", "pca-0", "pca", "pca-2.5", "random-conv--4", "pca-1_0", "PIXELS", ""])
def test_unknown_front_ends_are_refused_before_any_data_are_read(front_end):
    with pytest.raises(InputError, match=r"unknown front end .*expected one of pixels, pca-D, random-conv-D, vgg16"):
        load_split("not-a-data-set", front_end=front_end)


def test_bad_seeds():
    with pytest.raises(InputError, match="a seed must be an integer of at least 0, got -1"):
        load_split("digits", seed=-1)


def test_a_machine_with_training_files_only(tmp_path):
    write_images(tmp_path / "data" / "mnist")
    with pytest.raises(DataError, match=r"the test set of 'mnist' .* put t10k-images-idx3-ubyte.gz and t10k-labels"):
        load_split("mnist", download=False)
    with pytest.raises(DataError, match=r"the test set of 'mnist' .* could not be downloaded .*ConnectionError"):
        load_split("mnist")


@pytest.mark.usefixtures("mnist")
def test_images_of_another_size(tmp_path):
    write_images(tmp_path / "data" / "mnist", shape=(9, 8), part="test")
    with pytest.raises(
        DataError, match=r"of mnist have 64 features, but its test samples 72: .* do not belong together"
    ):
        load_split("mnist")


@pytest.mark.usefixtures("mnist")
def test_labels_of_another_length(tmp_path):
    path = tmp_path / "data" / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(14))))
    with pytest.raises(DataError, match=r"holds 15 images, but .* holds 14 labels"):
        load_split("mnist")
    write_matrix(tmp_path / "a.npz", np.arange(12) % 2)
    with pytest.raises(DataError, match=r"must have the shape \(12,\), one for each sample, got \(11,\)"):
        load_split(tmp_path / "a.npz", labels=np.zeros(11, int))


@pytest.mark.usefixtures("mnist")
def test_a_class_that_was_never_trained(tmp_path):
    path = tmp_path / "data" / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.array([0, 1, 2] * 4 + [0, 1, 7]))))
    with pytest.raises(DataError, match="class 7 of the test samples of mnist is not among its 40 training samples"):
        load_split("mnist")
    write_matrix(tmp_path / "a.npz", [0] * 12 + [1] * 12 + [2])
    with pytest.raises(DataError, match="class 2 of the test samples"):
        load_split(tmp_path / "a.npz", test=13)


@pytest.mark.parametrize("file", ["t10k-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content[:-9], "cannot be read as IDX"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-1]), "is truncated or damaged"),
        (lambda content: gzip.compress(b"\x00" + gzip.decompress(content)), "is not an IDX file"),
        (lambda content: b"", "is not an IDX file .* got an empty file"),
    ],
)
@pytest.mark.usefixtures("mnist")
def test_damaged_files(tmp_path, file, damage, says):
    path = tmp_path / "data" / "mnist" / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{file} {says}"):
        load_split("mnist")


def test_files_that_cannot_be_split(tmp_path):
    for labels, options, says in [
        ([0], {}, "has 1 sample, but a split needs one to train and one to test"),
        ([0, 1, 0, 1], {"test": 4}, "test = 4 leaves none of the 4 samples"),
        ([0, 1, 0, 1], {"test": 5}, "has 4 samples, asked for test = 5"),
        ([0, 1] * 10, {"train": 17}, "without its 4 test samples has 16 samples, asked for train = 17"),
        ([5] * 10, {}, "the 8 training samples of .* are all of class 5"),
        ([0.5, 1, 0, 1], {}, "must be integers"),
    ]:
        write_matrix(tmp_path / "a.npz", labels)
        with pytest.raises(DataError, match=says):
            load_split(tmp_path / "a.npz", **options)
    np.save(tmp_path / "b.npy", np.eye(6))
    with pytest.raises(DataError, match="has no labels, but they are needed"):
        load_split(tmp_path / "b.npy")
    write_matrix(tmp_path / "a.npz", [0, 1] * 10)
    with pytest.raises(DataError, match=r'"random-conv-8" is for images, and .*a\.npz is not known to hold any'):
        load_split(tmp_path / "a.npz", front_end="random-conv-8")


def test_equal_training_samples(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.ones((10, 3)), y=np.arange(10) % 2)
    with pytest.raises(DataError, match=r"the 8 samples chosen from .* are equal, so they cannot be scaled"):
        load_split(tmp_path / "a.npz")


def test_test_samples_that_overflow_in_the_scale_of_the_training_samples(tmp_path):
    X = write_matrix(tmp_path / "a.npz", np.arange(20) % 2)
    X *= 1e-200
    X[held_out(tmp_path, test=2)] = 1e200
    np.savez(tmp_path / "a.npz", X=X, y=np.arange(20) % 2)
    with pytest.raises(DataError, match=r"the test set of .*, in the scale of its training samples, must be finite"):
        load_split(tmp_path / "a.npz", test=2)


def held_out(folder, test):
    """Which of 20 samples of two classes are held out: the numbers of samples on a line tell."""
    np.savez(folder / "line.npz", X=np.arange(20.0)[:, np.newaxis], y=np.arange(20) % 2)
    split = load_split(folder / "line.npz", test=test)
    line = np.concatenate([split.train.X, split.test.X])[:, 0]
    return np.argsort(np.argsort(line))[-test:]
