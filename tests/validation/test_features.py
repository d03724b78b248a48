from __future__ import annotations

import hashlib
import importlib
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from equikernel.errors import DataError, InputError
from equikernel.validation import features
from equikernel.validation.datasets import load_split
from equikernel.validation.features import FilterBank, ImageFormat, extract, network_features, require_front_end

from .data_writers import isolate, write_cifar, write_images

torch = pytest.importorskip("torch")

EPS = np.finfo(float).eps
EPS32 = float(np.finfo(np.float32).eps)


def smooth_images(n, channels, side, seed=0):
    """Random images with neighbouring pixels alike, from 0 to 1."""
    noise = np.random.default_rng(seed).random((n, channels, side + 4, side + 4))
    windows = np.lib.stride_tricks.sliding_window_view(noise, (5, 5), axis=(2, 3)).mean(axis=(4, 5))
    return windows.astype(np.float32)


# --- names ---


@pytest.mark.parametrize(
    ("front_end", "parsed"),
    [("pixels", ("pixels", 0)), ("vgg16", ("vgg16", 0)), ("pca-3", ("pca", 3)), ("random-conv-8", ("random-conv", 8))],
)
def test_names(front_end, parsed):
    assert require_front_end(front_end) == parsed


def test_a_number_of_features_that_four_quadrants_do_not_share():
    with pytest.raises(InputError, match="D must be a multiple of 4, got 2047: take random-conv-2048"):
        require_front_end("random-conv-2047")


def test_pixels_are_left_alone():
    X = np.random.default_rng(0).random((5, 12))
    made = extract("pixels", X, X[:2], image=ImageFormat(1, 4, 3, 1.0))
    assert np.array_equal(made.train, X)
    assert np.array_equal(made.test, X[:2])
    assert made.description == "raw pixels (p = 12)"


# --- principal components ---


@pytest.mark.parametrize(("n", "p"), [(40, 9), (9, 40)])
@pytest.mark.parametrize("unit", [1.0, 1e200])
def test_principal_components(n, p, unit):
    """X - mean = U S V^T with known factors: the components are U S, and those of a sample x are V^T (x - mean)."""
    rng = np.random.default_rng(3)
    centred = rng.standard_normal((n, 6))
    U = np.linalg.qr(centred - centred.mean(axis=0))[0]
    V = np.linalg.qr(rng.standard_normal((p, 6)))[0]
    S = 2.0 ** -np.arange(6)
    mean = rng.standard_normal(p)
    train, test = (U * S) @ V.T + mean, rng.standard_normal((4, p))
    made = extract("pca-4", train * unit, test * unit, name="X")
    # The covariance has eigenvalues 4^-k with gaps above 4^-3/2 among the leading five, so that an error eps of it
    # turns its eigenvectors by eps * 2 * 4^4; n * p roundings of entries of size |mean| stand behind eps.
    bound = n * p * EPS * 2 * 4**4 * (1 + np.abs(mean).max()) ** 2 * np.linalg.norm(test - mean, axis=1).max()
    signs = np.sign(np.sum(made.train * (U * S)[:, :4], axis=0))
    scale = np.linalg.norm(made.train[:, 0])  # S[0] = 1 in the unit of the front end
    np.testing.assert_allclose(made.train / scale * signs, (U * S)[:, :4], rtol=0, atol=bound)
    np.testing.assert_allclose(made.test / scale * signs, (test - mean) @ V[:, :4], rtol=0, atol=bound)
    assert made.description == f"principal components (D = 4, fitted on {n} training samples)"


@pytest.mark.parametrize(("n", "p"), [(5, 9), (9, 5)])
def test_more_components_than_there_are(n, p):
    X = np.random.default_rng(0).random((n, p))
    assert extract("pca-5", X, X).train.shape == (n, 5)
    with pytest.raises(
        DataError, match=f"N has {n} training samples of {p} features, .* got pca-6: take pca-5 or fewer"
    ):
        extract("pca-6", X, X, name="N")


# --- random convolutions ---


def by_the_formula(bank, image):
    """The features of one image, position by position in float64."""
    height, width = image.shape[1:]
    rows, columns = height - bank.side + 1, width - bank.side + 1
    sums = {(a, b): [] for a in (False, True) for b in (False, True)}
    for i in range(rows):
        for j in range(columns):
            x = image[:, i : i + bank.side, j : j + bank.side].astype(float).ravel()
            u = (x - x.mean()) / np.sqrt(x.var() + 10 / 255**2)
            response = np.maximum(0, u @ bank.weights - bank.offset)
            sums[2 * i >= rows, 2 * j >= columns].append(response)
    return np.concatenate([np.mean(sums[a, b], axis=0) for a in (False, True) for b in (False, True)])


@pytest.mark.parametrize(("channels", "side"), [(1, 7), (1, 8), (3, 9), (1, 16), (3, 17)])
def test_filters_against_the_formula(channels, side):
    images = smooth_images(6, channels, side)
    bank = FilterBank.fit(images, 5, np.random.default_rng(1))
    assert bank.side == (6 if side >= 16 else 3)
    made = bank(images)
    assert made.shape == (6, 20)
    k = channels * bank.side**2
    # |u| <= sqrt(k); the mean of a patch is rounded by k eps, which division by the spread of the patch enlarges to
    # at most k eps / sqrt(10/255^2); then a product of k terms.
    largest = np.linalg.norm(bank.weights, axis=0).max() * np.sqrt(k)
    bound = (k + 255 / np.sqrt(10) * k + side**2) * EPS32 * largest
    expected = np.array([by_the_formula(bank, image) for image in images])
    np.testing.assert_allclose(made, expected, rtol=0, atol=bound)
    assert bound < 0.1 * expected.mean()


def test_filters_are_whitened():
    """Over training patches the responses before rectification have mean 0 and variance f^T S (S + I/10)^-1 f."""
    images = smooth_images(30, 1, 10)
    filters = 400
    bank = FilterBank.fit(images, filters, np.random.default_rng(2))
    windows = np.lib.stride_tricks.sliding_window_view(images.astype(float), (3, 3), axis=(2, 3)).reshape(-1, 9)
    centred = windows - windows.mean(axis=1, keepdims=True)
    u = centred / np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 10 / 255**2)
    S = np.cov(u.T, bias=True)
    shrunk = np.trace(S @ np.linalg.inv(S + 0.1 * np.eye(9))) / 9
    responses = u @ bank.weights - bank.offset
    # The 50000 patches of the fit are a draw of these: five standard errors, the variances being below 1.
    assert np.abs(responses.mean(axis=0)).max() < 5 / np.sqrt(50_000)
    # f^T M f has a standard deviation below sqrt(2/(9 + 2)) * 1/2 for eigenvalues of M in [0, 1]; five standard errors
    # over the filters, and as many of the sample covariance (fourth moments of u are below 9).
    margin = 5 * np.sqrt(2 / 11) / 2 / np.sqrt(filters) + 5 * 3 / np.sqrt(50_000)
    assert abs(responses.var(axis=0).mean() - shrunk) < margin
    assert shrunk + margin < np.trace(S) / 9  # which unwhitened filters would have


def test_bright_and_dark_halves_are_told_apart_by_their_quadrants():
    """An image that is flat but in one quadrant has responses to texture in that one only."""
    texture = smooth_images(1, 1, 8)[0]
    flat = np.full_like(texture, 0.5)
    image = flat.copy()
    image[:, :3, :3] = texture[:, :3, :3]
    bank = FilterBank.fit(smooth_images(20, 1, 8, seed=5), 7, np.random.default_rng(0))
    difference = np.abs(bank(image[np.newaxis]) - bank(flat[np.newaxis])).reshape(4, 7)
    assert difference[0].max() > 0
    assert np.all(difference[1:] == 0)


def test_blocks_of_images_do_not_matter(monkeypatch):
    images = smooth_images(9, 1, 8)
    bank = FilterBank.fit(images, 4, np.random.default_rng(0))
    whole = bank(images)
    monkeypatch.setattr(features, "_BLOCK", 1)
    k = bank.side**2
    bound = (k + 36) * EPS32 * np.linalg.norm(bank.weights, axis=0).max() * np.sqrt(k)
    np.testing.assert_allclose(bank(images), whole, rtol=0, atol=bound)


def test_the_seed_gives_the_filters():
    X = smooth_images(8, 1, 8).reshape(8, 64).astype(float)
    image = ImageFormat(1, 8, 8, 1.0)
    first, again, other = (extract("random-conv-12", X, X[:3], image=image, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.train, again.train)
    assert not np.array_equal(first.train, other.train)
    assert first.description == "random convolutional features (D = 12, patches 3x3, seed 1)"
    assert (first.train.dtype, first.train.shape, first.test.shape) == (np.float64, (8, 12), (3, 12))


def test_a_flat_image_has_finite_features():
    X = np.zeros((5, 64))
    made = extract("random-conv-8", X, X, image=ImageFormat(1, 8, 8, 255.0))
    assert np.all(made.train == 0)


def test_the_scale_of_the_pixels_does_not_matter():
    X = np.random.default_rng(0).integers(0, 17, (6, 64)).astype(float)
    images = [ImageFormat(1, 8, 8, peak) for peak in (16.0, 256.0)]
    first, second = (extract("random-conv-8", X * image.peak, X, image=image).train for image in images)
    assert np.array_equal(first, second)  # powers of two: no rounding


def test_images_that_are_too_small():
    X = np.random.default_rng(0).random((5, 12))
    with pytest.raises(DataError, match="X holds images of 3 x 4 pixels, but random-conv-8 needs 4 x 4 or more"):
        extract("random-conv-8", X, X, image=ImageFormat(1, 3, 4, 1.0))


@pytest.mark.parametrize("front_end", ["random-conv-8", "vgg16"])
def test_front_ends_for_images_only(front_end):
    X = np.random.default_rng(0).random((5, 12))
    with pytest.raises(DataError, match=f'"{front_end}" is for images, and X is not known to hold any: take "pixels"'):
        extract(front_end, X, X)


# --- a trained network: the pass is tested on small ones, and loading on a stand-in of torchvision ---

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("batch", [2, 256])
def test_the_pass_scales_and_averages(batch):
    """Of the identity, the features are the normalised means of the channels."""
    X = np.random.default_rng(0).integers(0, 256, (5, 3 * 33 * 32)).astype(float)
    made = network_features(lambda x: x, X, ImageFormat(3, 33, 32, 255.0), batch)
    expected = (X.reshape(5, 3, -1).mean(axis=2) / 255 - MEAN) / STD
    # Entries below 3 in size, averaged over 33 * 32 positions in float32.
    np.testing.assert_allclose(made, expected, rtol=0, atol=33 * 32 * EPS32 * 3)


@pytest.mark.usefixtures("one_thread")
def test_grey_images_are_repeated_and_small_ones_enlarged():
    shapes = []

    def network(x):
        shapes.append(tuple(x.shape))
        return x

    X = np.repeat(np.arange(1.0, 5.0)[:, np.newaxis], 64, axis=1)
    made = network_features(network, X, ImageFormat(1, 8, 8, 16.0))
    assert shapes == [(4, 3, 32, 32)]
    np.testing.assert_allclose(made, (X[:, :3] / 16 - MEAN) / STD, rtol=0, atol=32 * 32 * EPS32 * 3)


class Tiny(torch.nn.Module):
    """What the front end uses of VGG-16: features, and weights of a classifier beside them."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 7, 4, stride=4), torch.nn.ReLU(), torch.nn.Dropout())
        self.classifier = torch.nn.Linear(7, 2)


@pytest.fixture
def data(monkeypatch, tmp_path):
    """CIFAR-10 in small, and no weights anywhere."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    write_cifar(tmp_path / "data" / "cifar10" / "cifar-10-binary.tar.gz")
    return tmp_path


@pytest.fixture
def stand_in(monkeypatch, data):
    """A torchvision with a small network in the place of VGG-16, and its weights: (bytes of the file, network)."""
    torch.manual_seed(0)
    trained = Tiny()
    models = SimpleNamespace(vgg16=lambda weights, init_weights: Tiny())
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=models))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    torch.save(trained.state_dict(), data / "saved")
    content = (data / "saved").read_bytes()
    monkeypatch.setattr(features, "_VGG16_SHA256", hashlib.sha256(content).hexdigest())
    return content, trained


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("place", ["data/vgg16/mine.pth", "torch/hub/checkpoints/vgg16-397923af.pth"])
def test_frozen_features_of_a_trained_network(data, stand_in, place):
    content, trained = stand_in
    (data / place).parent.mkdir(parents=True)
    (data / place).write_bytes(content)
    split = load_split("cifar10", front_end="vgg16")
    assert (split.train.n, split.test.n, split.p) == (20, 4, 7)
    assert split.front_end.startswith("VGG-16 features (torchvision, ImageNet weights ")
    raw = load_split("cifar10")
    assert split.sha256 == raw.sha256
    # The same differences of samples, up to the common scale.
    pixels = np.concatenate([load_raw_part("train"), load_raw_part("test")])
    expected = network_features(trained.features.eval(), pixels, ImageFormat(3, 32, 32, 255.0))
    expected -= expected[:20].mean(axis=0)
    expected /= np.sqrt(np.mean(np.sum(expected[:20] ** 2, axis=1)))
    # The same float32 features, possibly summed in another order in batches of another size.
    np.testing.assert_allclose(np.concatenate([split.train.X, split.test.X]), expected, rtol=0, atol=1e3 * EPS32)


def load_raw_part(part):
    from equikernel.validation.datasets import load_dataset

    return load_dataset("cifar10", part=part, normalise=False).X


@pytest.mark.usefixtures("stand_in", "data")
def test_without_weights():
    with pytest.raises(
        DataError, match=r"not on this machine: put torchvision's vgg16-397923af.pth .* or take the front"
    ):
        load_split("cifar10", front_end="vgg16")


def test_weights_with_another_digest_are_not_read(data, stand_in):
    path = data / "data" / "vgg16" / "vgg16.pth"
    path.parent.mkdir()
    for content in (stand_in[0][:-1], b"", pickle.dumps(Bomb())):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"are not those expected in .*vgg16.pth: put torchvision's"):
            load_split("cifar10", front_end="vgg16")


class Bomb:
    """An object whose unpickling is noticed."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.usefixtures("stand_in")
def test_weights_are_read_as_weights_only(data, monkeypatch):
    """Even were the digest right, objects in the file would not be made."""
    path = data / "data" / "vgg16" / "vgg16.pth"
    path.parent.mkdir()
    torch.save({"weights": Bomb()}, path)
    monkeypatch.setattr(features, "_VGG16_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load_split("cifar10", front_end="vgg16")


@pytest.mark.usefixtures("data")
def test_without_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(
        DataError, match=r'needs torchvision.*pip install torchvision, or .* "random-conv-4000" or "pca'
    ):
        load_split("cifar10", front_end="vgg16")


@pytest.mark.usefixtures("data")
def test_with_a_torchvision_for_another_torch(monkeypatch):
    """Its import then fails with RuntimeError: operator torchvision::nms does not exist."""
    found = importlib.import_module

    def refuse(name):
        if name == "torchvision.models":
            raise RuntimeError("operator torchvision::nms does not exist")
        return found(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(DataError, match=r"needs torchvision, as built for torch .* \(RuntimeError\)"):
        load_split("cifar10", front_end="vgg16")


def test_without_scikit_learn(monkeypatch, tmp_path):
    isolate(monkeypatch, tmp_path)
    for part in ("train", "test"):
        write_images(tmp_path / "data" / "mnist", part=part)
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(DataError, match=r"needs scikit-learn: pip install 'equikernel\[validation\]'"):
        load_split("mnist", front_end="pca-2")
