"""Sums over points, in parts that are the same for any number of threads, and so are their bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from equikernel.numerics.montecarlo.integrands import Integrand, PointArray
from equikernel.numerics.montecarlo.machine import SUMS
from equikernel.numerics.montecarlo.nets import net_batches
from equikernel.numerics.montecarlo.normals import stream_keys
from equikernel.numerics.montecarlo.threads import in_threads

__all__ = ["net_sums", "stream_sums"]

FloatArray = npt.NDArray[np.float64]
_PARTS = 64  # of a stream of independent pairs: what as many threads can share
_PURPOSE = 0


def net_sums(integrand: Integrand, pairs: FloatArray, samples: int, replicates: int, seed: int) -> FloatArray:
    """The sums of every replicate and every pair, (R, P, 6), over the weighted points of ``nets``."""
    sums = np.zeros((replicates, len(pairs), SUMS))
    first = 0
    for batch in net_batches(samples, replicates, seed):
        part = sums[first : first + len(batch)]

        def add(k: int, batch: PointArray = batch, part: FloatArray = part) -> None:
            integrand.add(pairs, batch[k], part[k])

        in_threads(add, len(batch), batch.size // 3 * len(pairs) if integrand.parallel else 0)
        first += len(batch)
    return sums


def stream_sums(integrand: Integrand, pairs: FloatArray, samples: int, seed: int) -> FloatArray:
    """The sums over ``samples`` independent pairs of normals for every pair of variances, (P, 6)."""
    key = stream_keys(seed, _PURPOSE, 1)[0]
    parts = np.zeros((_PARTS, len(pairs), SUMS))
    ends = [k * samples // _PARTS for k in range(_PARTS + 1)]

    def add(k: int) -> None:
        integrand.add_stream(pairs, key, ends[k], ends[k + 1], parts[k])

    in_threads(add, _PARTS, samples * len(pairs) if integrand.parallel else 0)
    total: FloatArray = parts.sum(axis=0)
    return total
