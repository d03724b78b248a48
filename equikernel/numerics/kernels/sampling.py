"""A random sample of a kernel's blocks, and what follows from it for all of them."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from equikernel.errors import InputError
from equikernel.numerics.kernels.block import compute_block
from equikernel.numerics.kernels.job import Job
from equikernel.numerics.kernels.manifest import BlockRecord
from equikernel.numerics.kernels.plan import Place
from equikernel.numerics.kernels.storage import NpyFile

__all__ = ["BlockSample", "ratio_estimate", "resident_bytes"]

_WARM_UP = 512  # samples of the block that is solved first, untimed: it pays for compilation and tables
_TAIL = 0.975  # of Student's t


@dataclass(frozen=True)
class BlockSample:
    """Blocks that were solved.

    Attributes:
        job: all blocks.
        records: those that were solved.
        preparing: mean seconds that it takes to prepare the samples of a block row.
        warm_bytes: what compiled code and tables take.
    """

    job: Job
    records: tuple[BlockRecord, ...]
    preparing: float
    warm_bytes: int

    @classmethod
    def drawn(cls, job: Job, count: int, seed: int) -> BlockSample:
        """Solve ``count`` blocks (two at least of each stratum), drawn without replacement; their kernels are dropped.

        Raises:
            SolutionError: of a pair in them.
        """
        rng = np.random.default_rng(seed)
        strata = [places for places in _strata(job) if places]
        total = sum(map(len, strata))
        chosen: list[Place] = []
        for places in strata:  # the last one gets what is left
            share = count - len(chosen) if places is strata[-1] else round(count * len(places) / total)
            taken = rng.choice(len(places), min(len(places), max(2, share)), replace=False)
            chosen += [places[k] for k in taken]
        cold = resident_bytes()
        _warm_up(job, chosen[0])
        warm_bytes = max(resident_bytes() - cold, 0)
        arrays = job.arrays()
        records, preparing = [], []
        for place in chosen:
            start = time.perf_counter()
            parts = {id(job.prepared(side, k)) for side, k in enumerate(place)}
            preparing.append((time.perf_counter() - start) / len(parts))
            records.append(job.solve(place, job.views(arrays, place))[1])
        return cls(job, tuple(records), float(np.mean(preparing)), warm_bytes)

    def solving_time(self) -> tuple[float, tuple[float, float] | None]:
        """Seconds to solve all blocks, and a 95 % confidence interval if there is scatter to go by."""
        strata = [(places, self._among(places)) for places in _strata(self.job) if places]
        parts = [
            ratio_estimate(
                [record.seconds for record in taken],
                [self.job.plan.pairs(record.place) for record in taken],
                len(places),
                sum(map(self.job.plan.pairs, places)),
            )
            for places, taken in strata
        ]
        preparing = self.preparing * self.job.preparations()
        seconds = sum(total for total, _ in parts) + preparing
        freedom = sum(len(taken) - 1 for places, taken in strata if len(taken) < len(places))
        if freedom == 0:
            complete = all(len(taken) == len(places) for places, taken in strata)
            return seconds, (seconds, seconds) if complete else None
        from scipy.special import stdtrit

        half = float(stdtrit(freedom, _TAIL)) * math.sqrt(sum(variance for _, variance in parts))
        return seconds, (max(seconds - half, preparing), seconds + half)

    def methods(self) -> dict[str, int]:
        """Estimated number of pairs by method, over all blocks."""
        found: Counter[str] = Counter()
        for places in _strata(self.job):
            taken = self._among(places)
            solved = sum(self.job.plan.pairs(record.place) for record in taken)
            share = sum(map(self.job.plan.pairs, places)) / solved if solved else 0.0
            for record in taken:
                found.update({name: round(count * share) for name, count in record.pairs.items()})
        return dict(found)

    def writing_time(self, folder: Path) -> float:
        """Seconds to write all kernels to the folder, from one block (and its mirror image) that is written there.

        Raises:
            InputError: the folder cannot be written to.
        """
        plan = self.job.plan
        place = self.records[-1].place
        block = np.zeros(plan.size(place))
        try:
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                file = NpyFile(Path(scratch) / "block.npy", plan.shape)
                file.create()
                start = time.perf_counter()
                file.write(
                    plan.rows(place[0]), plan.columns(place[1]), block, mirrored=plan.entries(place) > block.size
                )
                seconds = time.perf_counter() - start
        except OSError as error:
            raise InputError(f"folder must be one that can be written to; got {folder} ({error.strerror})") from error
        kernels = self.job.engine.ck + self.job.engine.ntk
        return seconds * kernels * plan.n * plan.m / plan.entries(place)

    def _among(self, places: Sequence[Place]) -> list[BlockRecord]:
        members = set(places)
        return [record for record in self.records if record.place in members]


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def ratio_estimate(values: Sequence[float], sizes: Sequence[int], population: int, total: int) -> tuple[float, float]:
    """The total of a quantity that goes with size, and the variance of that estimate.

    total * R, R = sum(values)/sum(sizes); variance N^2 (1 - n/N) s^2/n, s^2 = sum (value - R size)^2/(n - 1)
    [Cochran, Sampling Techniques, 1977, chapter 6].

    Args:
        values: of the quantity, of n members of a population drawn at random.
        sizes: their sizes.
        population: N, the number of members.
        total: the sum of their sizes.
    """
    y, x = np.array(values), np.array(sizes, dtype=np.float64)
    ratio = float(y.sum() / x.sum())
    n = len(y)
    if n in {1, population}:
        return total * ratio, 0.0
    scatter = float(((y - ratio * x) ** 2).sum()) / (n - 1)
    return total * ratio, population**2 * (1.0 - n / population) * scatter / n


def _strata(job: Job) -> tuple[list[Place], list[Place]]:
    """The blocks on the diagonal of a symmetric kernel, and the others."""
    places = list(job.plan.places())
    on = [place for place in places if job.plan.on_diagonal(place)]
    return on, [place for place in places if not job.plan.on_diagonal(place)]


def _warm_up(job: Job, place: Place) -> None:
    rows, columns = job.rows, job.columns or job.rows
    sides = zip((rows, columns), (job.plan.rows(place[0]), job.plan.columns(place[1])), strict=True)
    parts = [
        job.engine.prepare(samples.part(slice(part.start, min(part.stop, part.start + _WARM_UP))), part.start)
        for samples, part in sides
    ]
    for other in (None, parts[1]):
        compute_block(job.engine, parts[0], other, threads=job.threads)
