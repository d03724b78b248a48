"""Exact kernels of any size, block by block, straight to disk: resumable, on this machine or on a cluster."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equikernel.errors import InputError
from equikernel.numerics.data import require_same_features
from equikernel.numerics.kernels.block import thread_count
from equikernel.numerics.kernels.cluster import require_worker_memory, run_on_cluster, worker_threads
from equikernel.numerics.kernels.job import KERNELS, Job, Model, description, engine_of, wanted_kernels
from equikernel.numerics.kernels.local import run_here, streaming_bytes
from equikernel.numerics.kernels.manifest import BlockRecord, Manifest
from equikernel.numerics.kernels.plan import BLOCK, BlockPlan, positive_integer
from equikernel.numerics.kernels.sources import Samples, array_samples, is_dask, spooled, survey
from equikernel.numerics.kernels.storage import KernelFile, kernel_file, open_kernel
from equikernel.numerics.memory import require_memory

__all__ = ["StreamedKernels", "stream_kernels"]

_LOCAL_BLOCKS = 2  # one is solved while the other is written
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StreamedKernels:
    """Kernels on disk.

    Attributes:
        folder: where they are, with the manifest.
        ck_path: ``ck.npy`` or ``ck.zarr``; None if it was not wanted.
        ntk_path: ``ntk.npy`` or ``ntk.zarr``; None if it was not wanted.
        shape: (n, n) or (n, m).
        tau: the standard deviation at which the (first) layer is centred.
        blocks: number of blocks.
        resumed: how many of them earlier calls had done.
        most_blocks: the most blocks that this call held in memory (a cluster: had in hand) at once.
        methods: number of pairs by method.
        error_bound: the largest error that the methods make in any G_ij, relative to sqrt(G_ii G_jj).
        seconds: wall time of this call.
        solving_seconds: time it took to solve all blocks, summed over them, whoever did and whenever.
    """

    folder: Path
    ck_path: Path | None
    ntk_path: Path | None
    shape: tuple[int, int]
    tau: float
    blocks: int
    resumed: int
    most_blocks: int
    methods: dict[str, int]
    error_bound: float
    seconds: float
    solving_seconds: float

    @property
    def ck(self) -> Any:
        """The conjugate kernel, read-only, opened now: a memory map or a zarr array; None if it was not wanted."""
        return _opened(self.ck_path)

    @property
    def ntk(self) -> Any:
        """The neural tangent kernel, likewise."""
        return _opened(self.ntk_path)

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain JSON types."""
        paths = {name: value if value is None else str(value) for name, value in vars(self).items() if "path" in name}
        return {**vars(self), **paths, "folder": str(self.folder), "shape": list(self.shape)}


def _opened(path: Path | None) -> Any:
    return None if path is None else open_kernel(path)


def stream_kernels(
    X: Any,
    deq: Model,
    out_folder: str | Path,
    *,
    Y: Any = None,
    tau0: Any = None,
    trained: str = "aA",
    which: str | Iterable[str] = ("ck", "ntk"),
    block: int = BLOCK,
    format: str = "npy",  # noqa: A002 - the word that users of NumPy and zarr know
    max_blocks: int | None = None,
    client: Any = None,
    threads: int | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> StreamedKernels:
    """Exact kernels (see ``implicit_kernels``) written to disk block by block; neither they nor X need fit into memory.

    Every block and its mirror image are written by who solved it, and count as done once they are flushed to the disk.
    However a call ends, ``kill -9`` included, the same call goes on with what is missing. The numbers are those of
    ``implicit_kernels`` up to rounding (about 1e-15 of the kernel's scale), and the same to the last bit for every
    number of threads, workers and interruptions with the same ``block``.

    Args:
        X: data, (n, p): an array, a memory map (``np.load(..., mmap_mode="r")``), or a dask array. With a client, and
            from dask, X is written to the folder for the time of the call, 8 n p bytes.
        deq: the network, or an ``ExplicitNetwork``, which has a tau0 of its own and is trained as a whole.
        out_folder: a folder for ``ck.npy``, ``ntk.npy`` (or ``.zarr``) and ``manifest.jsonl``; made if need be. One
            call at a time. With a client, all workers must see it under the same path.
        Y: other samples, (m, p): the kernels of X against Y.
        tau0: as of ``implicit_kernels``.
        trained: "a", "aA" or "aAB".
        which: "ck", "ntk", or both.
        block: rows and columns of a block. A block takes 8 block^2 bytes a kernel.
        format: "npy", or "zarr", whose chunks are the blocks: for file systems on which several machines cannot write
            to one file.
        max_blocks: the most blocks held in memory at once; with a client, the most that its workers have in hand.
            Default: 2, or twice the workers' threads.
        client: a ``dask.distributed.Client``: its workers solve and write the blocks.
        threads: number of threads a block: by default all cores, with a client 1.
        resume: False: overwrite what the folder holds.
        progress: called with (blocks done, blocks) after every block.

    Raises:
        DataError: unusable data.
        InputError: bad arguments; a folder with another problem's blocks, or on a disk without the space.
        MemoryLimitError: the blocks do not fit into memory.
        SolutionError: as of ``implicit_kernels``.
    """
    start = time.perf_counter()
    wanted = wanted_kernels(which)
    block = positive_integer(block, "block")
    held = worker_threads(client) * 2 if client else _LOCAL_BLOCKS
    held = held if max_blocks is None else positive_integer(max_blocks, "max_blocks")
    threads = 1 if client and threads is None else thread_count(threads)
    folder = _folder(out_folder)
    with _opened_samples(X, Y, folder, shared=client is not None) as (rows, columns):
        plan = BlockPlan.of(rows.shape[0], None if columns is None else columns.shape[0], block)
        files = _files(folder, plan, wanted, format)
        seen = survey(rows)
        problem = {
            "data": [seen.digest, None if columns is None else survey(columns).digest],
            **description(deq, tau0, trained),
            "which": [name for name, asked in zip(KERNELS, wanted, strict=True) if asked],
            "block": plan.block,
            "format": format,
        }
        engine = engine_of(deq, tau0, trained, wanted, seen.norms)
        job = Job(engine, plan, rows, columns, files, threads)
        manifest = _manifest(folder, [file for file in files if file is not None], problem, resume=resume)
        resumed = len(manifest.done)
        places = [place for place in plan.places() if place not in manifest.done]
        _require_disk(folder, sum(wanted) * sum(plan.bytes_on_disk(place, padded=format == "zarr") for place in places))

        def record(done: BlockRecord) -> None:
            manifest.add(done)
            if progress is not None:
                progress(len(manifest.done), plan.count)

        if client:
            require_worker_memory(client, streaming_bytes(job, 1), plan.block_bytes * sum(wanted))
            most = run_on_cluster(client, job, iter(places), held, record)
        else:
            require_memory(streaming_bytes(job, held), f"{held} blocks of {block}", "use a smaller block or max_blocks")
            most = run_here(job, places, held, record)
    return _summary(folder, job, manifest, resumed, most, time.perf_counter() - start)


def _folder(path: str | Path) -> Path:
    folder = Path(path).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"out_folder must be a folder that can be written to; got {path} ({error.strerror})"
        ) from error
    return folder


@contextmanager
def _opened_samples(X: Any, Y: Any, folder: Path, *, shared: bool) -> Iterator[tuple[Samples, Samples | None]]:
    """X and Y to be read in parts; what had to be written for that is removed in the end."""
    written: list[Path] = []

    def opened(given: Any, what: str) -> Samples:
        if not (shared or is_dask(given)):
            return array_samples(given, what)
        samples = spooled(given, what, folder)
        written.append(samples.path)
        return samples

    try:
        rows = opened(X, "X")
        columns = None if Y is None else opened(Y, "Y")
        if columns is not None:
            require_same_features(rows.shape[1], columns.shape[1])
        yield rows, columns
    finally:
        for path in written:
            path.unlink(missing_ok=True)


def _files(
    folder: Path, plan: BlockPlan, wanted: tuple[bool, bool], storage: str
) -> tuple[KernelFile | None, KernelFile | None]:
    ck, ntk = (
        kernel_file(folder, name, plan.shape, plan.block, storage) if asked else None
        for name, asked in zip(KERNELS, wanted, strict=True)
    )
    return ck, ntk


def _manifest(folder: Path, files: list[KernelFile], problem: dict[str, Any], *, resume: bool) -> Manifest:
    """The manifest to go on with, and the files that it tells of."""
    manifest = Manifest.resume(folder, problem) if resume else None
    if manifest is None:
        for file in files:
            if resume and file.path.exists():
                raise InputError(
                    f"{file.path} is there already, and no manifest: choose another folder, or pass resume=False to "
                    "overwrite it"
                )
        manifest = Manifest.start(folder, problem)
    for file in files:
        if not manifest.done:
            file.create()
        elif not file.usable():
            raise InputError(
                f"{file.path} is missing or damaged, although {len(manifest.done)} of its blocks were done: pass "
                "resume=False to begin again"
            )
    return manifest


def _require_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the kernels need {needed / 1e9:.3g} GB ({needed} bytes) on the disk of {folder}, {free / 1e9:.3g} GB are "
            "free: make room, or choose a folder on another disk"
        )


def _summary(folder: Path, job: Job, manifest: Manifest, resumed: int, most: int, seconds: float) -> StreamedKernels:
    methods: Counter[str] = Counter()
    for done in manifest.done.values():
        methods.update(done.pairs)
    ck, ntk = (None if file is None else file.path for file in job.files)
    return StreamedKernels(
        folder=folder,
        ck_path=ck,
        ntk_path=ntk,
        shape=job.plan.shape,
        tau=job.engine.tau,
        blocks=job.plan.count,
        resumed=resumed,
        most_blocks=most,
        methods=dict(methods),
        error_bound=max(done.error_bound for done in manifest.done.values()),
        seconds=seconds,
        solving_seconds=sum(done.seconds for done in manifest.done.values()),
    )
