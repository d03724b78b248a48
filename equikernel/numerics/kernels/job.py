"""One kernel's blocks as work: what it takes to solve any block and write it, in this process or in another."""

from __future__ import annotations

import hashlib
import os
import platform
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from equikernel.errors import InputError
from equikernel.numerics.data import scale_of_norms
from equikernel.numerics.kernels.block import Block, compute_block
from equikernel.numerics.kernels.engine import Engine, Prepared
from equikernel.numerics.kernels.manifest import BlockRecord
from equikernel.numerics.kernels.plan import BlockPlan, Place
from equikernel.numerics.kernels.sources import Samples
from equikernel.numerics.kernels.storage import KernelFile
from equikernel.numerics.kernels.tile import pair_counts
from equikernel.theory.activation import Activation
from equikernel.theory.models import DEQ, ExplicitNetwork, exact_number

__all__ = ["KERNELS", "Buffers", "Job", "Model", "description", "engine_of", "itself", "wanted_kernels"]

FloatArray = npt.NDArray[np.float64]
Model = DEQ | ExplicitNetwork
T = TypeVar("T")
Buffers = tuple[FloatArray | None, FloatArray | None]

KERNELS = ("ck", "ntk")
_PREPARED_BYTES = 2**28  # of prepared samples that a process keeps for its next blocks
_ROW_NUMBERS = 160  # float64 numbers a sample and layer in ``Prepared``, besides the sample
_PROBES = np.linspace(-6.0, 6.0, 49) + 0.0123


def wanted_kernels(which: str | Iterable[str]) -> tuple[bool, bool]:
    """Whether the CK and the NTK are wanted.

    Raises:
        InputError: none, or other names.
    """
    names = (which,) if isinstance(which, str) else tuple(which)
    if not names or not set(names) <= set(KERNELS):
        raise InputError(f'which must name the kernels wanted, "ck" or "ntk" or both; got {which!r}')
    return "ck" in names, "ntk" in names


def engine_of(
    model: Model, tau0: Any, trained: str, wanted: tuple[bool, bool], norms: FloatArray | None = None
) -> Engine:
    """The engine of a DEQ, for tau0 or (None) for that of samples with these squared norms, or of an explicit network.

    Raises:
        InputError: bad arguments; a tau0 for an explicit network, which has one of its own.
        DataError: all norms are zero.
    """
    ck, ntk = wanted
    if isinstance(model, ExplicitNetwork):
        if tau0 is not None:
            raise InputError(f"an explicit network has a tau0 of its own ({model.tau0}): leave tau0 out; got {tau0!r}")
        return Engine.of_explicit(model, ck=ck, ntk=ntk)
    if tau0 is None and norms is not None:
        tau0 = scale_of_norms(norms)
    return Engine.of_deq(model, tau0, trained=trained, ck=ck, ntk=ntk)


def description(model: Model, tau0: Any, trained: str) -> dict[str, Any]:
    """What tells a network from others, as JSON: of the activations their names and their values at 49 points."""
    if isinstance(model, ExplicitNetwork):
        activations = [_fingerprint(layer.activation) for layer in model.layers]
        return {"activations": activations, "tau0": repr(model.tau0), "rates": repr(model.learning_rates)}
    return {
        "activations": [_fingerprint(model.activation)],
        "sigma_a2": str(model.sigma_a2),
        "sigma_b2": str(model.sigma_b2),
        "weights": model.weights,
        "tau0": "that of the data" if tau0 is None else str(exact_number(tau0, "tau0", positive=True)),
        "trained": trained,
    }


def _fingerprint(activation: Activation) -> str:
    # nine digits: other machines round the last ones differently
    with np.errstate(all="ignore"):
        values = " ".join(f"{value:.9e}" for value in activation(_PROBES))
    return f"{activation.name} ({hashlib.sha256(values.encode()).hexdigest()[:12]})"


def itself(value: T) -> T:
    """The value: a task that others can share, where the value alone would be sent along with every one of them."""
    return value


@dataclass(frozen=True)
class Job:
    """A kernel that is solved block by block and written to files.

    Attributes:
        engine: the network and what is wanted.
        plan: the blocks.
        rows: the samples.
        columns: the other samples; None: the same.
        files: of the CK and the NTK, None where not wanted.
        threads: number of threads a block; None: all cores.
    """

    engine: Engine
    plan: BlockPlan
    rows: Samples
    columns: Samples | None
    files: tuple[KernelFile | None, KernelFile | None]
    threads: int | None
    _prepared: _Recent[Prepared] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_prepared", _Recent())

    def __reduce__(self) -> tuple[Any, ...]:
        # without the prepared samples, which every process makes for itself
        return Job, (self.engine, self.plan, self.rows, self.columns, self.files, self.threads)

    @property
    def sample_bytes(self) -> int:
        """Bytes of the prepared samples of one block row."""
        return 8 * self.plan.block * (self.rows.shape[1] + _ROW_NUMBERS * len(self.engine.layers))

    @property
    def prepared_bytes(self) -> int:
        """Bytes of prepared samples that are kept at once, at most."""
        parts = self.plan.chunks[0] if self.columns is None else sum(self.plan.chunks)
        return self.sample_bytes * min(parts, max(2, _PREPARED_BYTES // self.sample_bytes))

    @property
    def _kept(self) -> int:
        """How many prepared parts are kept."""
        return self.prepared_bytes // self.sample_bytes

    def _part(self, side: int, k: int) -> tuple[Samples, slice, Place]:
        """Which samples are block row (side 0) or block column (side 1) k, and under which key they are kept."""
        if side == 0 or self.columns is None:
            return self.rows, self.plan.rows(k), (0, k)
        return self.columns, self.plan.columns(k), (1, k)

    def prepared(self, side: int, k: int) -> Prepared:
        """The samples of block row (side 0) or block column (side 1) k."""
        samples, part, key = self._part(side, k)
        return self._prepared.get(key, self._kept, lambda: self.engine.prepare(samples.part(part), part.start))

    def preparations(self) -> int:
        """How many parts one process prepares that solves all blocks in their order."""
        parts: _Recent[None] = _Recent()
        made = Counter[None]()
        for i, j in self.plan.places():
            for side, k in ((1, j), (0, i)):
                parts.get(self._part(side, k)[2], self._kept, lambda: made.update([None]))
        return made.total()

    def arrays(self) -> Buffers:
        """Room for the largest block."""
        room = self.plan.block_bytes // 8
        return (np.empty(room) if self.engine.ck else None, np.empty(room) if self.engine.ntk else None)

    def views(self, arrays: Buffers, place: Place) -> Buffers:
        """As much of such arrays as a block takes."""
        rows, columns = self.plan.size(place)
        ck, ntk = (None if array is None else array[: rows * columns].reshape(rows, columns) for array in arrays)
        return ck, ntk

    def solve(self, place: Place, out: Buffers = (None, None)) -> tuple[Block, BlockRecord]:
        """A block, in new arrays or in those given, and what to record of it."""
        i, j = place
        start = time.perf_counter()
        columns = None if self.plan.on_diagonal(place) else self.prepared(1, j)
        block = compute_block(self.engine, self.prepared(0, i), columns, out=out, threads=self.threads)
        record = BlockRecord(
            place,
            pair_counts(block.tiles),
            max(tile.error_bound for tile in block.tiles),
            time.perf_counter() - start,
            f"{platform.node()}:{os.getpid()}",
        )
        return block, record

    def write(self, place: Place, block: Block) -> None:
        """Write a block and its mirror image to the files; they are on the disk when this returns.

        Raises:
            InputError: the files cannot be written to.
        """
        mirrored = self.plan.symmetric and not self.plan.on_diagonal(place)
        rows, columns = self.plan.rows(place[0]), self.plan.columns(place[1])
        for file, kernel in zip(self.files, (block.ck, block.ntk), strict=True):
            if file is None or kernel is None:
                continue
            try:
                file.write(rows, columns, kernel, mirrored=mirrored)
            except OSError as error:
                raise InputError(
                    f"block {place} could not be written to {file.path} ({error.strerror or error}): put that right "
                    "and call again, blocks that are done are kept"
                ) from error

    def solve_and_write(self, place: Place) -> BlockRecord:
        """Solve a block in new arrays, write it, and forget it."""
        block, record = self.solve(place)
        self.write(place, block)
        return record


class _Recent(Generic[T]):
    """What was used last, by key. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Place, T] = OrderedDict()

    def get(self, key: Place, keep: int, make: Callable[[], T]) -> T:
        """What has that key, made if need be; ``keep`` of them remain."""
        with self._lock:
            if key not in self._kept:
                while len(self._kept) >= keep:
                    self._kept.popitem(last=False)
                self._kept[key] = make()
            self._kept.move_to_end(key)
            return self._kept[key]
