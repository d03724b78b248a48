"""Kernels on a dask.distributed cluster of processes: the same bits, bounded; a worker killed midway costs little."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading

import numpy as np
import pytest

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")

import dask  # noqa: E402 - after the check that it is there
import dask.array as da  # noqa: E402

from equikernel.errors import DataError, EquikernelError, InputError, MemoryLimitError, UnstableError  # noqa: E402
from equikernel.numerics.kernels import cluster as cluster_module  # noqa: E402
from equikernel.numerics.kernels.lazy import lazy_kernels  # noqa: E402
from equikernel.numerics.kernels.stream import stream_kernels  # noqa: E402
from equikernel.theory.models import DEQ  # noqa: E402

BLOCK = 60
X = np.random.default_rng(3).normal(size=(400, 8)) / math.sqrt(8)
X[390], X[100:110] = X[7], X[:10] + 1e-6  # in other blocks
SMOOTH = DEQ("gelu", "0.3", "0.7")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),  # to a worker that was killed
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
            local_directory=str(tmp_path_factory.mktemp("workers")),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The files of a run in this process."""
    folder = tmp_path_factory.mktemp("alone")
    stream_kernels(X, SMOOTH, folder, block=BLOCK)
    return _bytes(folder)


def _bytes(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


def test_workers_write_the_same_bits(client, alone, tmp_path):
    for max_blocks in (None, 1, 3):
        folder = tmp_path / str(max_blocks)
        seen = []
        streamed = stream_kernels(
            X, SMOOTH, folder, block=BLOCK, client=client, max_blocks=max_blocks,
            progress=lambda done, total, seen=seen: seen.append((done, total)),
        )  # fmt: skip
        assert _bytes(folder) == alone
        assert streamed.most_blocks == (max_blocks or 4)  # twice the threads
        assert seen == [(k + 1, 28) for k in range(28)]
        assert sorted(path.name for path in folder.iterdir()) == ["ck.npy", "manifest.jsonl", "ntk.npy"]


def test_workers_write_zarr(client, alone, tmp_path):
    pytest.importorskip("zarr", reason="zarr is not installed")
    lazy = da.from_array(X, chunks=(150, 3))
    streamed = stream_kernels(lazy, SMOOTH, tmp_path, block=BLOCK, client=client, format="zarr")
    assert alone["ck.npy"].endswith(streamed.ck[:].tobytes())
    assert alone["ntk.npy"].endswith(streamed.ntk[:].tobytes())


def test_lazy_kernels_have_the_bits_of_the_threaded_scheduler(client):
    lazy = lazy_kernels(da.from_array(X, chunks=(90, 5)), SMOOTH)
    here = dask.compute(lazy.ck, lazy.ntk, scheduler="threads")
    there = client.compute([lazy.ck, lazy.ntk], sync=True)
    assert all((a == b).all() for a, b in zip(here, there, strict=True))


def test_errors_of_workers_are_the_same_sentence(client, tmp_path):
    steep = DEQ("tanh(3*x)", "0.9", "0.1")
    given = 0.1 * X
    given[205], given[310] = 3.0 * X[0], 3.0 * X[0]
    with pytest.raises(UnstableError) as here:
        stream_kernels(given, steep, tmp_path / "here", tau0=1, block=BLOCK)
    with pytest.raises(UnstableError) as there:
        stream_kernels(given, steep, tmp_path / "there", tau0=1, block=BLOCK, client=client, max_blocks=1)
    assert str(there.value) == str(here.value)
    bad = X.copy()
    bad[333, 2] = math.inf
    with pytest.raises(DataError, match="got NaN or infinity in row 333:"):
        lazy_kernels(da.from_array(bad, chunks=(90, 5)), SMOOTH, tau0=1).ck.compute()


def test_workers_with_too_little_memory_are_seen_beforehand(client, monkeypatch, tmp_path):
    info = client.scheduler_info(n_workers=-1)
    for worker in info["workers"].values():
        worker["memory_limit"] = 10**6
    monkeypatch.setattr(client, "scheduler_info", lambda **_: info)
    with pytest.raises(MemoryLimitError, match=r"the blocks of worker .* its limit is 0\.001 GB: use a smaller block"):
        stream_kernels(X, SMOOTH, tmp_path, block=BLOCK, client=client)


def test_a_cluster_without_workers(client, monkeypatch, tmp_path):
    monkeypatch.setattr(client, "nthreads", dict)
    with pytest.raises(InputError, match="the cluster has no workers yet"):
        stream_kernels(X, SMOOTH, tmp_path, client=client)


class _Submissions:
    """Counts what is submitted to the cluster."""

    def __init__(self, monkeypatch, client):
        self.blocks = 0
        submit = client.submit

        def counted(function, *arguments, **options):
            self.blocks += function is cluster_module.Job.solve_and_write
            return submit(function, *arguments, **options)

        monkeypatch.setattr(client, "submit", counted)


def test_a_killed_worker_costs_only_its_blocks(client, alone, monkeypatch, tmp_path):
    submissions = _Submissions(monkeypatch, client)
    victims = []

    def kill(done, _):
        if done == 5:
            victims.append(next(iter(client.run(os.getpid).values())))
            os.kill(victims[0], signal.SIGKILL)

    streamed = stream_kernels(X, SMOOTH, tmp_path, block=BLOCK, client=client, progress=kill)
    assert _bytes(tmp_path) == alone
    assert streamed.blocks == 28
    assert submissions.blocks == 28  # none was asked for twice
    assert streamed.most_blocks <= 4
    client.wait_for_workers(2)
    assert victims[0] not in client.run(os.getpid).values()


def test_lazy_kernels_survive_a_killed_worker(client):
    lazy = lazy_kernels(da.from_array(X, chunks=(50, 8)), SMOOTH)
    here = lazy.ntk.compute(scheduler="threads")
    there = client.compute(lazy.ntk)
    victim = next(iter(client.run(os.getpid).values()))
    killer = threading.Thread(target=os.kill, args=(victim, signal.SIGKILL))
    killer.start()
    killer.join()
    assert (there.result() == here).all()
    client.wait_for_workers(2)


def test_a_lost_cluster_keeps_what_is_done(alone, tmp_path):
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0",
            silence_logs=logging.CRITICAL, local_directory=str(tmp_path / "workers"),
        ) as cluster,
        distributed.Client(cluster, timeout="5s") as client,
    ):  # fmt: skip

        def lose(done, _):
            if done == 3:
                cluster.close()

        with pytest.raises(EquikernelError, match="the cluster was lost: call again, blocks that are done are kept"):
            stream_kernels(X, SMOOTH, tmp_path / "out", block=BLOCK, client=client, progress=lose)
    streamed = stream_kernels(X, SMOOTH, tmp_path / "out", block=BLOCK)
    assert streamed.resumed >= 3
    assert _bytes(tmp_path / "out") == alone
