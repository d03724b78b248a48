"""What a kernel would take, from a random sample of its blocks: time with an interval, memory, disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equikernel.numerics.data import require_same_features
from equikernel.numerics.kernels.block import thread_count
from equikernel.numerics.kernels.job import KERNELS, Job, Model, engine_of, wanted_kernels
from equikernel.numerics.kernels.local import streaming_bytes
from equikernel.numerics.kernels.plan import BLOCK, BlockPlan, positive_integer
from equikernel.numerics.kernels.sampling import BlockSample, resident_bytes
from equikernel.numerics.kernels.sources import ArraySamples, array_samples, survey
from equikernel.numerics.memory import available_memory, require_memory

__all__ = ["Estimate", "estimate_kernels"]

_SAMPLE_BYTES = 8 * 1000  # of tables a sample and layer when all are prepared at once


@dataclass(frozen=True)
class Estimate:
    """What the kernels of n samples (against m) would take.

    Attributes:
        n: number of rows.
        m: number of columns.
        features: p.
        kernels: "ck", "ntk".
        block: rows and columns of a block.
        blocks: number of blocks to solve.
        sampled: how many of them were solved for this estimate.
        threads: number of threads that solved them.
        solving_seconds: estimated time to solve all blocks, on this machine as loaded as it was.
        solving_interval: 95 % confidence interval of it, from the scatter among blocks; None when the sample is too
            small to tell.
        writing_seconds: estimated time to write the kernels to the folder's disk; None without a folder. Streaming
            solves and writes at the same time.
        disk_bytes: of the kernels on disk.
        disk_free: bytes that are free in the folder; None without a folder.
        memory_bytes: peak of the whole process for the kernels in memory.
        streaming_bytes: peak for ``stream_kernels`` with max_blocks blocks.
        max_blocks: the most blocks that streaming holds.
        memory_available: bytes that this machine has left.
        methods: estimated number of pairs by method.
        error_bound: the largest bound of the methods' error met, relative to sqrt(G_ii G_jj).
    """

    n: int
    m: int
    features: int
    kernels: tuple[str, ...]
    block: int
    blocks: int
    sampled: int
    threads: int
    solving_seconds: float
    solving_interval: tuple[float, float] | None
    writing_seconds: float | None
    disk_bytes: int
    disk_free: int | None
    memory_bytes: int
    streaming_bytes: int
    max_blocks: int
    memory_available: int
    methods: dict[str, int]
    error_bound: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        names = " and ".join(name.upper() for name in self.kernels)
        solving = f"{_duration(self.solving_seconds)} with {self.threads} threads"
        if self.solving_interval is not None and self.sampled < self.blocks:
            low, high = map(_duration, self.solving_interval)
            solving += f" (95 % interval: {low} to {high})"
        writing = "" if self.writing_seconds is None else f"writing:    {_duration(self.writing_seconds)}, meanwhile\n"
        free = "" if self.disk_free is None else f" ({_size(self.disk_free)} free)"
        total = sum(self.methods.values())
        methods = ", ".join(f"{name} {count / total:.3%}" for name, count in self.methods.items())
        return (
            f"{names} of {self.n} x {self.m} samples with {self.features} features\n"
            f"blocks:     {self.blocks} of up to {self.block} x {self.block} pairs, "
            f"{self.sampled} solved for this estimate\n"
            f"solving:    {solving}\n{writing}"
            f"in memory:  {_size(self.memory_bytes)} ({_size(self.memory_available)} available)\n"
            f"streamed:   {_size(self.streaming_bytes)} of memory with {self.max_blocks} blocks at a time, "
            f"{_size(self.disk_bytes)} on disk{free}\n"
            f"pairs by:   {methods}; error bound {self.error_bound:.1e}"
        )


def estimate_kernels(
    X: Any,
    deq: Model,
    *,
    Y: Any = None,
    tau0: Any = None,
    trained: str = "aA",
    which: str | Iterable[str] = KERNELS,
    block: int = BLOCK,
    max_blocks: int = 2,
    blocks: int = 8,
    seed: int = 0,
    threads: int | None = None,
    folder: str | Path | None = None,
) -> Estimate:
    """What exact kernels would take, from a random sample of blocks; the kernels themselves are never made.

    The blocks on the diagonal and those above it are sampled apart, in proportion and at least two of each. In every
    stratum the time is taken to be proportional to the number of pairs: T = sum_h X_h (sum t/sum x), x the pairs of a
    sampled block and t its seconds (ratio estimator). Its variance is sum_h N_h^2 (1 - n_h/N_h) s_h^2/n_h, s_h^2 that
    of the residuals t - x (sum t/sum x) [Cochran, Sampling Techniques, 1977, chapter 6].

    Args:
        X: data, (n, p): an array, or a memory map that need not fit into memory. All of it is read once.
        deq: the network.
        Y: other samples, (m, p).
        tau0: as of ``implicit_kernels``.
        trained: "a", "aA" or "aAB".
        which: "ck", "ntk", or both.
        block: as of ``stream_kernels``.
        max_blocks: likewise.
        blocks: number of blocks to solve.
        seed: of the sample.
        threads: number of threads, by default all cores.
        folder: where the kernels would be written, which need not exist yet: the estimate then has the free space
            there, and the time that writing takes, from one block that is written there and removed.

    Raises:
        DataError: unusable data.
        InputError: bad arguments.
        MemoryLimitError: not even a block fits into memory.
        SolutionError: as of ``implicit_kernels``, of a pair in the sample.
    """
    wanted = wanted_kernels(which)
    place = None if folder is None else _existing(Path(folder))
    held, sampled = positive_integer(max_blocks, "max_blocks"), positive_integer(blocks, "blocks")
    base = resident_bytes()
    rows = array_samples(X, "X")
    columns = None if Y is None else array_samples(Y, "Y")
    require_same_features(rows.shape[1], (columns or rows).shape[1])
    plan = BlockPlan.of(rows.shape[0], None if columns is None else columns.shape[0], block)
    seen = survey(rows)
    engine = engine_of(deq, tau0, trained, wanted, seen.norms)
    job = Job(engine, plan, rows, columns, (None, None), thread_count(threads))
    require_memory(streaming_bytes(job, 1), f"a block of {plan.block} samples", "use a smaller block")
    sample = BlockSample.drawn(job, sampled, seed)
    base += sample.warm_bytes
    sides = (rows,) if columns is None else (rows, columns)
    seconds, interval = sample.solving_time()
    return Estimate(
        n=plan.n,
        m=plan.m,
        features=rows.shape[1],
        kernels=tuple(name for name, asked in zip(KERNELS, wanted, strict=True) if asked),
        block=plan.block,
        blocks=plan.count,
        sampled=len(sample.records),
        threads=thread_count(threads),
        solving_seconds=seconds,
        solving_interval=interval,
        writing_seconds=None if place is None else sample.writing_time(place),
        disk_bytes=8 * plan.n * plan.m * sum(wanted),
        disk_free=None if place is None else shutil.disk_usage(place).free,
        memory_bytes=base + 8 * plan.n * plan.m * sum(wanted) + sum(_bytes(job, side) for side in sides),
        streaming_bytes=base + streaming_bytes(job, held),
        max_blocks=held,
        memory_available=available_memory(),
        methods=sample.methods(),
        error_bound=max(record.error_bound for record in sample.records),
    )


def _existing(folder: Path) -> Path:
    """The folder, or the one that it would be made in."""
    absolute = folder.resolve()
    return next(place for place in (absolute, *absolute.parents) if place.is_dir())


def _bytes(job: Job, samples: ArraySamples) -> int:
    """What samples that are all in memory take: their tables, and a copy unless they can be used as they are."""
    X = samples.X
    ready = X.dtype == np.float64 and X.flags.c_contiguous and not isinstance(X, np.memmap)
    return len(X) * _SAMPLE_BYTES * len(job.engine.layers) + (0 if ready else 8 * X.size)


def _duration(seconds: float) -> str:
    """Seconds in units that people use."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _size(count: int) -> str:
    """Bytes in units that people use."""
    return f"{count / 1e9:.3g} GB" if count >= 1e8 else f"{count / 1e6:.3g} MB"
