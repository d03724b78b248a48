"""Kernels of dask arrays: lazy, every block solved once, the numbers of the kernel in memory."""

from __future__ import annotations

import math
import sys
import threading

import numpy as np
import pytest

from equikernel.errors import DataError, InputError
from equikernel.numerics.kernels import explicit_kernels, implicit_ck, implicit_kernels, implicit_ntk
from equikernel.numerics.kernels import lazy as lazy_module
from equikernel.numerics.kernels.engine import Engine
from equikernel.numerics.kernels.lazy import lazy_kernels
from equikernel.numerics.kernels.samples import SLOPE_TAIL, TAIL
from equikernel.numerics.kernels.sources import is_dask
from equikernel.theory.models import DEQ, ExplicitNetwork

dask = pytest.importorskip("dask", reason="dask is not installed")
da = pytest.importorskip("dask.array", reason="dask is not installed")

P = 6
CHUNKS = ((70, 100, 1, 59), (4, 2))
X = np.random.default_rng(2).normal(size=(230, P)) / math.sqrt(P)
X[200], X[201], X[3] = X[5], -X[5], 0.0  # in other chunks
LAZY = da.from_array(X, chunks=CHUNKS)
GELU = DEQ("gelu", "0.3", "0.7")


def _tolerance(exact, rate=0.0):
    """Rounding of <x_i, x_j> and what the methods may cut off, which depend on the block, through 1/(1 - rate)^2.

    ``rate`` is sigma_a2 E[phi' phi'], the share that E[phi' phi'] has in the NTK.
    """
    share = 4.0 * math.sqrt(P) * 2.0**-52 + 2.0 * TAIL + 2.0 * SLOPE_TAIL * rate
    return share * np.abs(exact).max() / (1.0 - rate) ** 2


class _Counter:
    """Counts the calls of a function of the lazy module, or of a method."""

    def __init__(self, monkeypatch, name, owner=lazy_module):
        self.count = 0
        lock, function = threading.Lock(), getattr(owner, name)

        def counted(*arguments, **options):
            with lock:
                self.count += 1
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("name", ["gelu", "tanh", "relu"])
def test_is_the_kernel_in_memory(name, scheduler):
    deq = DEQ(name, "0.3", "0.7")
    exact, lazy = implicit_kernels(X, deq), lazy_kernels(LAZY, deq)
    assert lazy.ck.chunks == lazy.ntk.chunks == (CHUNKS[0], CHUNKS[0])
    assert lazy.ck.dtype == np.float64
    ck, ntk, summary = dask.compute(lazy.ck, lazy.ntk, lazy.summary, scheduler=scheduler)
    assert np.abs(ck - exact.ck).max() <= _tolerance(exact.ck)
    assert np.abs(ntk - exact.ntk).max() <= _tolerance(exact.ntk, exact.contraction)
    for kernel in (ck, ntk):
        assert (kernel == kernel.T).all()
        assert kernel[5, 200] == kernel[5, 5]
    assert sum(summary["methods"].values()) == 230 * 229 // 2
    assert summary["error_bound"] == exact.error_bound


def test_every_block_is_solved_once_for_both_kernels(monkeypatch):
    blocks = _Counter(monkeypatch, "compute_block")
    parts = _Counter(monkeypatch, "prepare", Engine)
    lazy = lazy_kernels(LAZY, GELU)
    assert (blocks.count, parts.count) == (0, 0)  # nothing is computed before it is asked for
    dask.compute(lazy.ck, lazy.ntk, lazy.summary, scheduler="threads")
    assert (blocks.count, parts.count) == (10, 4)


def test_only_what_is_asked_for_is_solved(monkeypatch):
    blocks = _Counter(monkeypatch, "compute_block")
    lazy = lazy_kernels(LAZY, GELU)
    below = lazy.ck[175:, :70].compute(scheduler="synchronous")  # the mirror image of one block
    assert blocks.count == 1
    assert (below == lazy.ck.compute(scheduler="synchronous")[175:, :70]).all()


def test_nothing_is_read_before_it_is_asked_for():
    def unreadable(_):
        raise AssertionError("read")

    lazy = lazy_kernels(LAZY.map_blocks(unreadable, dtype=float, meta=np.empty((0, 0))), GELU)
    with pytest.raises(AssertionError, match="read"):
        lazy.ck.compute(scheduler="synchronous")


def test_same_bits_for_every_scheduler_and_number_of_threads():
    first = lazy_kernels(LAZY, GELU)
    second = lazy_kernels(LAZY, GELU, threads=3)
    results = [
        dask.compute(first.ck, first.ntk, scheduler="synchronous"),
        dask.compute(first.ck, first.ntk, scheduler="threads", num_workers=3),
        dask.compute(second.ck, second.ntk, scheduler="threads"),
    ]
    assert all((a == b).all() for result in results for a, b in zip(result, results[0], strict=True))


def test_given_tau0_needs_no_pass_over_the_data(monkeypatch):
    norms = _Counter(monkeypatch, "row_norms")
    ck = lazy_kernels(LAZY, GELU, tau0="1.2", which="ck").ck.compute()
    exact = implicit_ck(X, GELU, tau0="1.2")
    assert norms.count == 0
    assert np.abs(ck - exact).max() <= _tolerance(exact)


@pytest.mark.parametrize("sides", ["both", "rows", "columns"])
def test_rows_against_other_columns(sides):
    Y = X[40:75]
    rows = X if sides == "columns" else LAZY
    columns = Y if sides == "rows" else da.from_array(Y, chunks=(20, 3))
    lazy = lazy_kernels(rows, GELU, columns, trained="aAB")
    exact = implicit_kernels(X, GELU, Y, trained="aAB")
    ck, ntk, summary = dask.compute(lazy.ck, lazy.ntk, lazy.summary)
    assert np.abs(ck - exact.ck).max() <= _tolerance(exact.ck)
    assert np.abs(ntk - exact.ntk).max() <= _tolerance(exact.ntk, exact.contraction)
    assert sum(summary["methods"].values()) == 230 * 35


def test_explicit_networks_and_engines():
    net = ExplicitNetwork.of("erf", "tanh", tau0=0.9)
    exact = explicit_kernels(X, net)
    for model in (net, Engine.of_explicit(net)):
        lazy = lazy_kernels(LAZY, model)
        ck, ntk = dask.compute(lazy.ck, lazy.ntk)
        assert np.abs(ck - exact.ck).max() <= _tolerance(exact.ck)
        cut = 2 * 2.0 * SLOPE_TAIL * exact.ntk.max()  # of two slopes, each times no more than the NTK
        assert np.abs(ntk - exact.ntk).max() <= _tolerance(exact.ntk) + cut
    alone = lazy_kernels(LAZY, Engine.of_explicit(net, ck=False))
    assert alone.ck is None
    assert (alone.ntk.compute() == ntk).all()


def test_the_calls_in_memory_go_here():
    ck, ntk = implicit_ck(LAZY, GELU), implicit_ntk(LAZY, GELU, trained="aAB")
    assert is_dask(ck)
    exact = implicit_kernels(X, GELU, trained="aAB")
    assert np.abs(ck.compute() - exact.ck).max() <= _tolerance(exact.ck)
    assert np.abs(ntk.compute() - exact.ntk).max() <= _tolerance(exact.ntk, exact.contraction)


def test_spills_to_zarr_and_to_memory_maps(tmp_path):
    pytest.importorskip("zarr", reason="zarr is not installed")
    lazy = lazy_kernels(da.from_array(X, chunks=(80, -1)), GELU)
    ck, ntk = dask.compute(lazy.ck, lazy.ntk)
    maps = [np.lib.format.open_memmap(tmp_path / f"{k}.npy", "w+", np.float64, (230, 230)) for k in range(2)]
    da.store([lazy.ck, lazy.ntk], maps, lock=False)
    assert (maps[0] == ck).all()
    assert (maps[1] == ntk).all()
    da.to_zarr(lazy.ck, tmp_path / "ck.zarr")
    assert (da.from_zarr(tmp_path / "ck.zarr").compute() == ck).all()


def test_kernels_join_further_dask_computations():
    lazy = lazy_kernels(LAZY, GELU)
    weights = np.arange(230.0)
    product = (lazy.ntk @ weights + lazy.ck.sum(axis=0)).compute()
    exact = implicit_kernels(X, GELU)
    wanted = exact.ntk @ weights + exact.ck.sum(axis=0)
    bound = 230 * (_tolerance(exact.ntk, exact.contraction) * 230 + 2.0**-52 * np.abs(wanted).max())
    assert np.abs(product - wanted).max() <= bound


@pytest.mark.parametrize("tau0", [None, 1])
def test_nan_names_the_sample(tau0):
    bad = X.astype(np.float32)
    bad[171, 5] = np.nan
    lazy = lazy_kernels(da.from_array(bad, chunks=CHUNKS), GELU, tau0=tau0)
    with pytest.raises(DataError, match="X must be finite, got NaN or infinity in row 171:"):
        lazy.ck.compute()
    beside = lazy_kernels(LAZY, GELU, da.from_array(bad, chunks=CHUNKS), tau0=tau0)
    with pytest.raises(DataError, match="Y must be finite, got NaN or infinity in row 171:"):
        beside.ck.compute()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": LAZY[0]}, DataError, r"shape \(6,\)"),
        ({"X": LAZY.astype(complex)}, DataError, "X must hold real numbers"),
        ({"X": LAZY[:0]}, DataError, "at least one sample"),
        ({"X": LAZY[LAZY[:, 0] > 0]}, DataError, r"call X\.compute_chunk_sizes\(\) first"),
        ({"Y": LAZY[:, :3]}, DataError, "as many features, got 6 and 3"),
        ({"Y": X[0]}, DataError, "Y must have two dimensions"),
        ({"deq": DEQ("sign")}, InputError, "jump"),
        ({"trained": "b"}, InputError, "trained must be one of"),
        ({"tau0": 0}, InputError, "tau0 must be a positive finite number"),
        ({"which": "both"}, InputError, "which must name the kernels"),
        ({"threads": -1}, InputError, "threads must be a positive integer"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        lazy_kernels(**{"X": LAZY, "deq": GELU, **arguments})


def test_zero_samples_have_no_scale():
    with pytest.raises(DataError, match="every sample is zero"):
        lazy_kernels(0 * LAZY, GELU).ck.compute()


def test_arrays_are_told_apart_without_dask(monkeypatch):
    assert is_dask(LAZY)
    assert not is_dask(X)
    monkeypatch.delitem(sys.modules, "dask.array")
    assert not is_dask(X)
