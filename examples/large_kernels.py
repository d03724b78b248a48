"""Kernels that need not fit into memory: estimated, streamed to disk, stopped, resumed, and used without being loaded.

Prints:

    estimate: 36 blocks of up to 256 x 256 pairs, 6 of them solved, 51.7 MB on disk
    stopped after 10 of 36 blocks
    resumed with 10 blocks done; at most 2 in memory at once
    equal to the kernel in memory to 1e-14: CK True, NTK True
    largest eigenvalue of the NTK, read 256 rows at a time: 62.1
    the same from a lazy dask array of 64 blocks: 62.1
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

import equikernel as ek

BLOCK = 256


class StoppedError(Exception):
    """As if somebody had pulled the plug."""


def stop_after(count: int) -> Callable[[int, int], None]:
    """A progress report that ends the run."""

    def report(done: int, total: int) -> None:
        if done == count:
            print(f"stopped after {done} of {total} blocks")
            raise StoppedError

    return report


def largest_eigenvalue(kernel: Any, n: int) -> float:
    """Power iteration: the kernel is only ever read some rows at a time."""
    vector = np.ones(n)
    for _ in range(50):
        vector /= np.linalg.norm(vector)
        vector = np.concatenate([kernel[start : start + BLOCK] @ vector for start in range(0, n, BLOCK)])
    return float(np.linalg.norm(vector))


def main() -> None:
    """ReLU on scikit-learn's digits, all of them."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "digits.npy", ek.load_dataset("digits").X)
        X = np.load(Path(folder) / "digits.npy", mmap_mode="r")
        deq = ek.DEQ("relu", sigma_a2="0.2", sigma_b2="0.8")

        estimate = ek.estimate_kernels(X, deq, block=BLOCK, blocks=6)
        print(
            f"estimate: {estimate.blocks} blocks of up to {BLOCK} x {BLOCK} pairs, {estimate.sampled} of them solved, "
            f"{estimate.disk_bytes / 1e6:.1f} MB on disk"
        )

        out = Path(folder) / "kernels"
        try:
            ek.stream_kernels(X, deq, out, block=BLOCK, max_blocks=1, progress=stop_after(10))
        except StoppedError:
            streamed = ek.stream_kernels(X, deq, out, block=BLOCK)
        print(f"resumed with {streamed.resumed} blocks done; at most {streamed.most_blocks} in memory at once")

        exact = ek.implicit_kernels(X, deq)
        if exact.ntk is None:
            raise AssertionError("implicit_kernels computes the NTK unless told otherwise")
        errors = [
            np.abs(kernel - wanted).max() / wanted.max()
            for kernel, wanted in ((streamed.ck, exact.ck), (streamed.ntk, exact.ntk))
        ]
        print(f"equal to the kernel in memory to 1e-14: CK {errors[0] < 1e-14}, NTK {errors[1] < 1e-14}")
        largest = largest_eigenvalue(streamed.ntk, len(X))
        print(f"largest eigenvalue of the NTK, read {BLOCK} rows at a time: {largest:.1f}")

        lazy = ek.lazy_kernels(da.from_array(np.asarray(X), chunks=(BLOCK, -1)), deq, which="ntk")
        largest = largest_eigenvalue(lazy.ntk.compute(), len(X))
        print(f"the same from a lazy dask array of {lazy.ntk.npartitions} blocks: {largest:.1f}")


if __name__ == "__main__":
    main()
