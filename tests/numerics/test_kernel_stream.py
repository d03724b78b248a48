"""Kernels streamed to disk: the in-memory kernel's numbers, resumed after any end, bounded, refused if need be."""

from __future__ import annotations

import json
import math
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from equikernel.errors import InputError
from equikernel.numerics.kernels import explicit_kernels, implicit_kernels
from equikernel.numerics.kernels.job import Job, engine_of
from equikernel.numerics.kernels.local import streaming_bytes
from equikernel.numerics.kernels.plan import BlockPlan
from equikernel.numerics.kernels.samples import SLOPE_TAIL, TAIL
from equikernel.numerics.kernels.sources import array_samples, survey
from equikernel.numerics.kernels.stream import stream_kernels
from equikernel.theory.models import DEQ, ExplicitNetwork

N, P, BLOCK = 330, 6, 100  # ten blocks, the last ones small
BLOCKS = 10


def _samples(n=N, p=P):
    """Duplicates, opposites and near-duplicates in different blocks, a zero row; norms from 0.9 to 1.1."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, p))
    X *= rng.uniform(0.9, 1.1, size=(n, 1)) / np.linalg.norm(X, axis=1, keepdims=True)
    X[250], X[251], X[252] = X[3], -X[3], 0.0
    X[120:140] = X[:20] + 1e-5 * rng.normal(size=(20, p))
    return X


X = _samples()
HARD_TANH, GELU = DEQ("hard_tanh", "0.3", "0.7"), DEQ("gelu", "0.3", "0.7")


def file_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    """The files of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("at-once")
    stream_kernels(X, HARD_TANH, folder, block=BLOCK)
    return file_bytes(folder)


def tolerance(exact, rate=0.0):
    """Rounding of <x_i, x_j> and what the methods may cut off, which depend on the block, through 1/(1 - rate)^2.

    ``rate`` is sigma_a2 E[phi' phi'], the share that E[phi' phi'] has in the NTK.
    """
    share = 4.0 * math.sqrt(P) * 2.0**-52 + 2.0 * TAIL + 2.0 * SLOPE_TAIL * rate
    return share * np.abs(exact).max() / (1.0 - rate) ** 2


# -- the numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["npy", "zarr"])
@pytest.mark.parametrize("deq", [HARD_TANH, GELU], ids=["hard_tanh", "gelu"])
def test_is_the_kernel_in_memory(deq, storage, tmp_path):
    exact = implicit_kernels(X, deq)
    streamed = stream_kernels(X, deq, tmp_path / "new" / "folder", block=BLOCK, format=storage)
    assert streamed.shape == (N, N)
    assert streamed.tau == exact.tau
    for found, wanted in ((streamed.ck, exact.ck), (streamed.ntk, exact.ntk)):
        kernel = np.asarray(found[:])
        # kinks: the slope of nearly equal samples moves like the square root of the rounding of their correlation
        off = np.abs(kernel - wanted)
        close = np.abs(wanted) > 0.999 * np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
        assert off[~close].max() <= tolerance(wanted, exact.contraction)
        assert off.max() <= 1e-13 * np.abs(wanted).max()
        assert (kernel == kernel.T).all()
        assert kernel[250, 3] == kernel[3, 3]
        assert (np.abs(kernel[251, 3]) == kernel[3, 3]) == (deq is HARD_TANH)
    assert sum(streamed.methods.values()) == N * (N - 1) // 2
    assert 0.0 < streamed.error_bound < 1e-12
    assert streamed.blocks == BLOCKS
    assert json.loads(json.dumps(streamed.to_dict()))["shape"] == [N, N]


def test_opened_kernels_are_read_only_and_not_loaded(tmp_path):
    streamed = stream_kernels(X, GELU, tmp_path / "npy", which="ntk")
    assert streamed.ck is None
    assert isinstance(streamed.ntk, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        streamed.ntk[0, 0] = 1.0
    zarred = stream_kernels(X, GELU, tmp_path / "zarr", which="ck", format="zarr", block=BLOCK)
    assert zarred.ntk is None
    assert zarred.ck.chunks == (BLOCK, BLOCK)  # so that writers never share one
    assert zarred.ck.read_only


@pytest.mark.parametrize(("threads", "max_blocks"), [(1, 1), (2, 1), (3, 4)])
def test_same_bits_for_any_threads_and_numbers_of_blocks(threads, max_blocks, at_once, tmp_path):
    stream_kernels(X, HARD_TANH, tmp_path, block=BLOCK, threads=threads, max_blocks=max_blocks)
    assert file_bytes(tmp_path) == at_once


def test_formats_hold_the_same_bits(at_once, tmp_path):
    zarred = stream_kernels(X, HARD_TANH, tmp_path, block=BLOCK, format="zarr")
    for name, kernel in (("ck.npy", zarred.ck), ("ntk.npy", zarred.ntk)):
        assert at_once[name].endswith(kernel[:].tobytes())


def test_rows_against_other_columns(tmp_path):
    Y = X[40:75, :]
    for storage in ("npy", "zarr"):
        streamed = stream_kernels(X, GELU, tmp_path / storage, Y=Y, block=128, trained="aAB", format=storage)
        exact = implicit_kernels(X, GELU, Y, trained="aAB")
        assert streamed.shape == (N, 35)
        assert np.abs(streamed.ck[:] - exact.ck).max() <= tolerance(exact.ck)
        assert np.abs(streamed.ntk[:] - exact.ntk).max() <= tolerance(exact.ntk, exact.contraction)
        assert streamed.ntk[50, 10] == exact.ntk[50, 10] == implicit_kernels(X, GELU, trained="aAB").ntk[50, 50]


def test_explicit_networks(tmp_path):
    net = ExplicitNetwork.of("relu", "tanh", tau0=0.9)
    streamed, exact = stream_kernels(X, net, tmp_path, block=BLOCK), explicit_kernels(X, net)
    assert np.abs(streamed.ck - exact.ck).max() <= tolerance(exact.ck)
    assert np.abs(streamed.ntk - exact.ntk).max() <= 1e-13 * np.abs(exact.ntk).max()  # kinks, as above
    nothing = np.zeros((5, P))  # from which no tau0 could be had, and need not
    assert (stream_kernels(nothing, net, tmp_path / "zero").ck == explicit_kernels(nothing, net).ck).all()
    with pytest.raises(InputError, match=r"an explicit network has a tau0 of its own \(0\.9\): leave tau0 out; got 1"):
        stream_kernels(X, net, tmp_path, tau0=1)


def test_takes_any_matrix(tmp_path):
    single = X.astype(np.float32)
    np.save(tmp_path / "X.npy", single)
    dask_array = pytest.importorskip("dask.array", reason="dask is not installed")
    wide = np.zeros((N, 2 * P))
    wide[:, ::2] = single
    frozen = single.astype(np.float64)
    frozen.setflags(write=False)
    given = {
        "float32": single,
        "memory map": np.load(tmp_path / "X.npy", mmap_mode="r"),
        "not contiguous": wide[:, ::2],
        "read-only": frozen,
        "lists": single.tolist(),
        "dask": dask_array.from_array(single, chunks=(77, 4)),
    }
    results = []
    for name, matrix in given.items():
        folder = tmp_path / name
        stream_kernels(matrix, GELU, folder, block=BLOCK)
        assert sorted(path.name for path in folder.iterdir()) == ["ck.npy", "manifest.jsonl", "ntk.npy"]
        results.append(file_bytes(folder))
    assert all(result == results[0] for result in results)


# -- how many blocks are held ------------------------------------------------------------------------------------------


class BlockGauge:
    """Counts blocks from before they are solved until they are written."""

    def __init__(self, monkeypatch):
        self.now = self.most = self.solved = 0
        self._lock = threading.Lock()
        solve, write = Job.solve, Job.write

        def counted_solve(job, place, out=(None, None)):
            with self._lock:
                self.now, self.solved = self.now + 1, self.solved + 1
                self.most = max(self.most, self.now)
            return solve(job, place, out)

        def counted_write(job, place, block):
            write(job, place, block)
            with self._lock:
                self.now -= 1

        monkeypatch.setattr(Job, "solve", counted_solve)
        monkeypatch.setattr(Job, "write", counted_write)


@pytest.mark.parametrize("max_blocks", [1, 2, 3])
def test_never_holds_more_blocks_than_stated(max_blocks, monkeypatch, tmp_path):
    gauge = BlockGauge(monkeypatch)
    streamed = stream_kernels(X, GELU, tmp_path, block=50, max_blocks=max_blocks)
    assert gauge.most <= streamed.most_blocks <= max_blocks
    assert gauge.now == 0
    assert gauge.solved == streamed.blocks == 28


def test_arrays_are_made_once_and_reused(monkeypatch, tmp_path):
    made = []
    arrays = Job.arrays
    monkeypatch.setattr(Job, "arrays", lambda job: made.append(1) or arrays(job))
    stream_kernels(X, GELU, tmp_path, block=40, max_blocks=2)
    assert 1 <= len(made) <= 2


def test_resident_memory_stays_below_the_kernels(tmp_path):
    given = np.random.default_rng(0).normal(size=(4000, 30)) / math.sqrt(30)
    stream_kernels(given[:600], GELU, tmp_path / "warm", block=300)  # modules and compiled code
    process, seen = psutil.Process(), []
    before = process.memory_info().rss
    job = Job(engine_of(GELU, 1, "aA", (True, True)), BlockPlan.of(4000, None, 300), array_samples(given, "X"), None,
              (None, None), 2)  # fmt: skip
    stream_kernels(given, GELU, tmp_path / "out", block=300, progress=lambda *_: seen.append(process.memory_info().rss))
    assert max(seen) - before <= streaming_bytes(job, 2) < 16 * 4000**2


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_pages_of_mapped_samples_are_given_back_but_for_private_ones(mode, tmp_path):
    n, p = 6000, 2000  # 96 MB, read in parts of 34
    file = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float64, (n, p))
    file[:] = 1.0
    del file
    mapped = np.load(tmp_path / "X.npy", mmap_mode=mode)
    if mode != "r":
        mapped[17] = 2.0
    before = psutil.Process().memory_info().rss
    found = survey(array_samples(mapped[1:], "X"))
    grown = psutil.Process().memory_info().rss - before
    wanted = np.full(n - 1, float(p))
    wanted[16] = p if mode == "r" else 4.0 * p
    assert (found.norms == wanted).all()
    assert mapped[17, 0] == (1.0 if mode == "r" else 2.0)  # what was written to is still there
    assert survey(array_samples(np.array(mapped[1:]), "X")).digest == found.digest
    if sys.platform == "linux" and mode != "c":
        assert grown < 8 * n * p / 2


# -- plans -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "block"), [(1, None, 5), (7, None, 7), (20, None, 6), (9, 4, 3), (2, 30, 7)])
def test_plans_cover_every_entry_once(n, m, block):
    plan = BlockPlan.of(n, m, block)
    covered = np.zeros(plan.shape, dtype=int)
    for i, j in plan.places():
        part = np.zeros(plan.shape, dtype=int)
        part[plan.rows(i), plan.columns(j)] = 1
        if plan.symmetric and i != j:
            part[plan.columns(j), plan.rows(i)] = 1
        assert part.sum() == plan.entries((i, j))
        assert 8 * np.prod(plan.size((i, j))) <= plan.block_bytes
        covered += part
    assert (covered == 1).all()
    assert len(list(plan.places())) == plan.count
    pairs = sum(map(plan.pairs, plan.places()))
    assert pairs == (n * (n + 1) // 2 if m is None else n * m)


def test_folder_may_be_relative(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert stream_kernels(X[:9], GELU, "here").folder == Path(tmp_path / "here").resolve()
