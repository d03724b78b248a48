"""Estimates from sampled blocks: unbiased with honest intervals, the bytes that are counted, no kernel ever made."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import tempfile
import tracemalloc

import numpy as np
import pytest

from equikernel.errors import DataError, InputError, MemoryLimitError
from equikernel.numerics.kernels import implicit_kernels
from equikernel.numerics.kernels.estimate import estimate_kernels
from equikernel.numerics.kernels.job import Job, engine_of
from equikernel.numerics.kernels.manifest import BlockRecord
from equikernel.numerics.kernels.plan import BlockPlan
from equikernel.numerics.kernels.sampling import BlockSample, ratio_estimate, resident_bytes
from equikernel.numerics.kernels.sources import array_samples
from equikernel.numerics.kernels.stream import stream_kernels
from equikernel.theory.models import DEQ, ExplicitNetwork

GELU = DEQ("gelu", "0.3", "0.7")
X = np.random.default_rng(4).normal(size=(310, 5)) / math.sqrt(5)


def _job(n=310, block=50, columns=None):
    samples = array_samples(np.ones((n, 2)), "X")
    others = None if columns is None else array_samples(np.ones((columns, 2)), "Y")
    plan = BlockPlan.of(n, columns, block)
    return Job(engine_of(GELU, 1, "aA", (True, True)), plan, samples, others, (None, None), 1)


def _record(place, seconds):
    return BlockRecord(place, {"series": 1}, 1e-15, seconds, "here:1")


def test_ratio_estimates_are_those_of_the_textbook():
    """By hand: R = 12/8, residuals (.5, 0, -.5), s^2 = .25, N^2 (1 - n/N) s^2/n = 100 * .7 * .25/3."""
    total, variance = ratio_estimate([2.0, 3.0, 7.0], [1, 2, 5], 10, 40)
    assert total == pytest.approx(60.0, rel=1e-15)
    assert variance == pytest.approx(100 * 0.7 * 0.25 / 3, rel=1e-14)
    assert ratio_estimate([2.0, 4.0], [1, 1], 2, 2) == (6.0, 0.0)  # all of them: nothing is left to chance
    assert ratio_estimate([2.0], [1], 9, 9) == (18.0, 0.0)


def test_intervals_cover_what_they_say():
    """Blocks with scattered times, drawn often: 95 % of the intervals hold the total, within 4 standard errors."""
    rng = np.random.default_rng(0)
    job = _job(n=2000, block=100)
    places = list(job.plan.places())
    on = [place for place in places if place[0] == place[1]]
    off = [place for place in places if place[0] != place[1]]
    times = {place: job.plan.pairs(place) * 1e-6 * rng.uniform(0.7, 1.3) for place in places}
    truth, repeats, held = sum(times.values()), 1000, 0
    for _ in range(repeats):
        chosen = [group[k] for group, size in ((on, 4), (off, 12)) for k in rng.choice(len(group), size, replace=False)]
        sample = BlockSample(job, tuple(_record(place, times[place]) for place in chosen), 0.0, 0)
        _, (low, high) = sample.solving_time()
        held += low <= truth <= high
    assert abs(held / repeats - 0.95) <= 4.0 * math.sqrt(0.95 * 0.05 / repeats)


def test_times_in_proportion_to_pairs_are_extrapolated_exactly():
    job = _job()
    places = [(0, 0), (6, 6), (0, 1), (2, 5), (3, 6)]
    sample = BlockSample(job, tuple(_record(place, 2e-9 * job.plan.pairs(place)) for place in places), 0.125, 0)
    seconds, (low, high) = sample.solving_time()
    wanted = 2e-9 * 310 * 311 / 2 + 7 * 0.125  # every part is prepared once when they all fit
    assert seconds == pytest.approx(wanted, rel=1e-14)
    assert high - low <= 1e-14 * wanted


def test_too_few_blocks_have_no_interval():
    job = _job(n=300, block=100)
    records = tuple(_record(place, 1.0) for place in ((0, 0), (0, 1)))
    assert BlockSample(job, records, 0.0, 0).solving_time()[1] is None


def test_a_sample_of_everything_is_no_estimate(tmp_path):
    estimate = estimate_kernels(X, GELU, block=100, blocks=10)
    assert (estimate.sampled, estimate.blocks) == (10, 10)
    assert estimate.solving_interval == (estimate.solving_seconds, estimate.solving_seconds)
    streamed = stream_kernels(X, GELU, tmp_path, block=100)
    assert estimate.methods == streamed.methods == implicit_kernels(X, GELU).methods
    assert estimate.error_bound == streamed.error_bound


@pytest.mark.parametrize(("blocks", "drawn"), [(1, 4), (8, 8), (20, 20), (10**6, 28)])
def test_samples_have_two_of_each_stratum_and_the_size_asked_for(blocks, drawn):
    job = _job()
    sample = BlockSample.drawn(job, blocks, 0)
    places = [record.place for record in sample.records]
    assert len(places) == len(set(places)) == drawn
    assert sum(i == j for i, j in places) == {4: 2, 8: 2, 20: 5, 28: 7}[drawn]
    again = [record.place for record in BlockSample.drawn(job, blocks, 0).records]
    assert again == places
    if drawn < 28:
        assert [record.place for record in BlockSample.drawn(job, blocks, 1).records] != places


def test_rows_against_columns_are_one_stratum():
    estimate = estimate_kernels(X, GELU, Y=X[:120], block=50, blocks=4, which="ntk")
    assert (estimate.n, estimate.m, estimate.blocks, estimate.sampled) == (310, 120, 21, 4)
    assert estimate.kernels == ("ntk",)
    assert estimate.disk_bytes == 8 * 310 * 120
    assert sum(estimate.methods.values()) == pytest.approx(310 * 120, abs=4)  # rounded method by method


def test_two_hundred_thousand_samples_in_a_memory_map(tmp_path):
    """The kernels would take 640 GB; what is allocated is a chunk of samples and a few blocks."""
    n, p, block = 200_000, 4, 1024
    given = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (n, p))
    given[:] = np.random.default_rng(1).standard_normal((n, p), dtype=np.float32) / 2
    del given
    given = np.load(tmp_path / "X.npy", mmap_mode="r")
    estimate_kernels(given[:3000], GELU, block=block)  # modules and compiled code are not what is measured
    resident = resident_bytes()
    tracemalloc.start()
    try:
        estimate = estimate_kernels(given, GELU, block=block, blocks=6, folder=tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    chunks = -(-n // block)
    assert estimate.blocks == chunks * (chunks + 1) // 2
    assert estimate.sampled == 6
    assert estimate.disk_bytes == 16 * n * n
    assert estimate.memory_bytes > 16 * n * n
    # of the whole process, in which other tests may have left much
    assert estimate.streaming_bytes - resident < 10**9
    assert estimate.solving_interval[0] <= estimate.solving_seconds <= estimate.solving_interval[1]
    assert estimate.writing_seconds > 0.0
    assert estimate.disk_free > 0
    assert peak < 3e8  # a block is 8 MB, the list of 19306 blocks a few
    assert [path.name for path in tmp_path.iterdir()] == ["X.npy"]


def test_explicit_networks():
    estimate = estimate_kernels(X, ExplicitNetwork.of("erf", "tanh"), block=100, blocks=4)
    assert sum(estimate.methods.values()) == pytest.approx(310 * 309 / 2, rel=0.05)  # those with themselves left out


def test_reads_as_text_and_as_json(tmp_path):
    estimate = estimate_kernels(X, GELU, block=60, blocks=5, folder=tmp_path, threads=1, max_blocks=3)
    text = str(estimate)
    assert re.match(
        r"CK and NTK of 310 x 310 samples with 5 features\n"
        r"blocks: +21 of up to 60 x 60 pairs, 5 solved for this estimate\n"
        r"solving: .* s with 1 threads? \(95 % interval: .* s to .* s\)\n"
        r"writing: .* s, meanwhile\n"
        r"in memory: .* [MG]B \(.* available\)\n"
        r"streamed: .* [MG]B of memory with 3 blocks at a time, 1\.54 MB on disk \(.* free\)\n"
        r"pairs by: +series 100\.000%; error bound \d.*$",
        text,
    ), text
    record = json.loads(json.dumps(estimate.to_dict()))
    assert record["solving_seconds"] == estimate.solving_seconds
    assert record["solving_interval"] == list(estimate.solving_interval)
    assert record["kernels"] == ["ck", "ntk"]
    alone = estimate_kernels(X, GELU, block=60, blocks=5)
    assert alone.writing_seconds is alone.disk_free is None
    assert "writing" not in str(alone)
    assert "free" not in str(alone)


def test_long_times_and_sizes_read_well():
    from equikernel.numerics.kernels.estimate import _duration, _size

    assert [_duration(s) for s in (0.0123, 100.0, 200.0, 8000.0, 200000.0)] == [
        "0.0123 s", "100 s", "3.33 min", "2.22 h", "2.31 d",
    ]  # fmt: skip
    assert [_size(b) for b in (1000, 64_000_000, 640_000_000_000)] == ["0.001 MB", "64 MB", "640 GB"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"blocks": 0}, InputError, "blocks must be a positive integer"),
        ({"block": 1.5}, InputError, "block must be a positive integer"),
        ({"max_blocks": 0}, InputError, "max_blocks must be a positive integer"),
        ({"which": "x"}, InputError, "which must name"),
        ({"X": np.where(np.arange(310)[:, None] == 300, np.inf, X)}, DataError, "infinity in row 300"),
        ({"Y": X[:, :2]}, DataError, "as many features, got 5 and 2"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        estimate_kernels(**{"X": X, "deq": GELU, **arguments})


def test_folders_that_are_not_there_yet_and_that_refuse(monkeypatch, tmp_path):
    estimate = estimate_kernels(X, GELU, block=100, blocks=4, folder=tmp_path / "not" / "yet")
    assert estimate.disk_free > 0
    assert list(tmp_path.iterdir()) == []

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refused)
    with pytest.raises(InputError, match=r"folder must be one that can be written to; got .* \(Permission denied\)"):
        estimate_kernels(X, GELU, block=100, blocks=4, folder=tmp_path)


def test_not_even_one_block_fits(monkeypatch):
    monkeypatch.setattr("equikernel.numerics.memory.available_memory", lambda: 10**6)
    with pytest.raises(MemoryLimitError, match=r"a block of 100 samples need .* use a smaller block"):
        estimate_kernels(X, GELU, block=100)


def test_parts_prepared_anew_are_counted():
    """When only two parts are kept, every block of a row but the first needs one more."""
    job = _job(n=350, block=50)  # 7 parts
    assert job.preparations() == 7
    kept = Job.prepared_bytes
    try:
        Job.prepared_bytes = property(lambda job: 2 * job.sample_bytes)
        made, recent = 0, []
        for i, j in job.plan.places():  # by hand: the two parts used last are kept
            for part in (j, i):
                made += part not in recent
                recent = [*[other for other in recent if other != part], part][-2:]
        assert job.preparations() == made > 7
    finally:
        Job.prepared_bytes = kept
