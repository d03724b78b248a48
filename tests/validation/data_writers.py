"""Small data sets in the formats of the real ones, for the tests of everything that reads data."""

from __future__ import annotations

import gzip
import io
import tarfile

import numpy as np
import pooch

from equikernel.validation.datasets import named

STEMS = {"train": "train", "test": "t10k"}


def isolate(monkeypatch, tmp_path):
    """No data on the machine but what a test writes, and no network."""
    monkeypatch.setenv("EQUIKERNEL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(pooch, "retrieve", offline)
    for files in named._SETS.values():
        if files.system_folder:
            monkeypatch.setitem(vars(files), "system_folder", tmp_path / "system")


def offline(*_args, **_kwargs):
    raise ConnectionError("no route to host")


def idx(array):
    array = np.asarray(array, dtype=np.uint8)
    return bytes([0, 0, 8, array.ndim]) + b"".join(k.to_bytes(4, "big") for k in array.shape) + array.tobytes()


def write_images(folder, n=12, seed=0, part="train", shape=(4, 3), zipped=True, classes=3):
    """A training or test set in the format of MNIST: pixels (n, height * width), labels (n,)."""
    images, labels = np.random.default_rng(seed).integers(0, 256, (n, *shape)), np.arange(n) % classes
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        content = idx(array)
        path = folder / f"{STEMS[part]}-{kind}-ubyte{'.gz' * zipped}"
        path.write_bytes(gzip.compress(content) if zipped else content)
    return images.reshape(n, shape[0] * shape[1]), labels


def write_cifar(path, per_batch=4, batches=6, spoil=lambda batch: batch):
    """The binary archive of CIFAR-10, the sixth batch being its test set: records (batches, per_batch, 3073)."""
    records = np.random.default_rng(1).integers(0, 256, (batches, per_batch, 3073), dtype=np.uint8)
    records[:, :, 0] %= 10
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for k, batch in enumerate(records, start=1):
            content = spoil(batch.tobytes())
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{f'data_batch_{k}' if k < 6 else 'test_batch'}.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return records
