"""Real data: named sets and the user's own files, as matrices with samples in rows, and where they came from.

``load_dataset`` gives one matrix, ``load_split`` training and test samples in one scale. Nothing is ever unpickled:
.npy and .npz files are read with ``allow_pickle=False``, CIFAR-10 in its binary version.

- ``formats``: IDX files and the archive of CIFAR-10.
- ``named``: the named sets: on this machine, or downloaded and checked.
- ``user_files``: .npy, .npz and .csv.
- ``samples``: how samples are chosen and scaled.
- ``load``, ``split``: the two functions.
"""

from __future__ import annotations

from equikernel.validation.datasets.formats import read_cifar10, read_idx
from equikernel.validation.datasets.load import Dataset, load_dataset
from equikernel.validation.datasets.named import DATASETS, available
from equikernel.validation.datasets.split import LabelledSamples, Split, load_split

__all__ = [
    "DATASETS",
    "Dataset",
    "LabelledSamples",
    "Split",
    "available",
    "load_dataset",
    "load_split",
    "read_cifar10",
    "read_idx",
]
