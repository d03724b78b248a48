"""Streaming goes on after any end, keeps what is done, and refuses what cannot be, in one sentence."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from equikernel.errors import DataError, InputError, MemoryLimitError, UnstableError
from equikernel.numerics.kernels import implicit_kernels
from equikernel.numerics.kernels.manifest import BlockRecord, Manifest
from equikernel.numerics.kernels.plan import BlockPlan
from equikernel.numerics.kernels.storage import NpyFile
from equikernel.numerics.kernels.stream import stream_kernels
from equikernel.theory.models import DEQ

from .test_kernel_stream import BLOCK, BLOCKS, GELU, HARD_TANH, BlockGauge, N, X, file_bytes, tolerance


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("finished")
    stream_kernels(X, HARD_TANH, folder, block=BLOCK)
    return folder


@pytest.fixture(scope="module")
def at_once(finished):
    """Its files."""
    return file_bytes(finished)


# -- resuming ----------------------------------------------------------------------------------------------------------


class _StopError(Exception):
    pass


def _stop_after(count):
    def progress(done, total):
        assert total == BLOCKS
        if done >= count:
            raise _StopError

    return progress


def test_goes_on_with_what_is_missing(at_once, monkeypatch, tmp_path):
    with pytest.raises(_StopError):
        stream_kernels(X, HARD_TANH, tmp_path, block=BLOCK, max_blocks=1, progress=_stop_after(4))
    done = {tuple(json.loads(line)["place"]) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()[1:]}
    assert len(done) == 4
    plan = BlockPlan.of(N, None, BLOCK)
    for name in ("ck.npy", "ntk.npy"):  # whatever a killed writer left of the other blocks
        kernel = np.load(tmp_path / name, mmap_mode="r+")
        for i, j in set(plan.places()) - done:
            kernel[plan.rows(i), plan.columns(j)] = kernel[plan.rows(j), plan.columns(i)] = np.nan
        del kernel
    gauge = BlockGauge(monkeypatch)
    streamed = stream_kernels(X, HARD_TANH, tmp_path, block=BLOCK)
    assert streamed.resumed == 4
    assert gauge.solved == BLOCKS - 4
    assert file_bytes(tmp_path) == at_once
    again = stream_kernels(X, HARD_TANH, tmp_path, block=BLOCK)
    assert (again.resumed, again.most_blocks, gauge.solved) == (BLOCKS, 0, BLOCKS - 4)
    assert again.methods == streamed.methods


def test_zarr_goes_on_too(at_once, tmp_path):
    with pytest.raises(_StopError):
        stream_kernels(X, HARD_TANH, tmp_path, block=BLOCK, format="zarr", progress=_stop_after(3))
    streamed = stream_kernels(X, HARD_TANH, tmp_path, block=BLOCK, format="zarr")
    assert streamed.resumed >= 3
    assert at_once["ntk.npy"].endswith(streamed.ntk[:].tobytes())


KILLED = """
    import sys
    import numpy as np
    from equikernel.numerics.kernels.stream import stream_kernels
    from equikernel.theory.models import DEQ

    if __name__ == "__main__":
        stream_kernels(
            np.load(sys.argv[1]), DEQ("hard_tanh", "0.3", "0.7"), sys.argv[2], block=100,
            progress=lambda done, total: print(done, flush=True),
        )
"""


def test_survives_being_killed(at_once, tmp_path):
    script, folder = tmp_path / "run.py", tmp_path / "out"
    script.write_text(textwrap.dedent(KILLED))
    np.save(tmp_path / "X.npy", X)
    with subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, str(script), str(tmp_path / "X.npy"), str(folder)], stdout=subprocess.PIPE, text=True
    ) as run:
        for _ in range(3):
            assert run.stdout.readline()
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    streamed = stream_kernels(X, HARD_TANH, folder, block=BLOCK)
    assert 3 <= streamed.resumed < BLOCKS
    assert file_bytes(folder) == at_once


def test_a_manifest_cut_anywhere_tells_of_its_whole_lines(tmp_path):
    problem = {"data": "x", "block": 3}
    manifest = Manifest.start(tmp_path, problem)
    for k in range(3):
        manifest.add(BlockRecord((0, k), {"series": 9}, 1e-15, 0.5, "here:1"))
    whole = manifest.path.read_bytes()
    ends = [k for k, byte in enumerate(whole, 1) if byte == 10]
    for cut in sorted({*ends, *(end - 1 for end in ends[1:]), *range(ends[0], len(whole), 9)}):
        manifest.path.write_bytes(whole[:cut])
        found = Manifest.resume(tmp_path, problem)
        assert len(found.done) == whole[:cut].count(b"\n") - 1
        assert manifest.path.read_bytes() == whole[: whole[:cut].rindex(b"\n") + 1]
    assert found.done[0, 2].pairs == {"series": 9}
    assert len(found.done) == 3


def test_killed_before_the_first_block(at_once, monkeypatch, tmp_path):
    monkeypatch.setattr(NpyFile, "create", lambda file: _raise(_StopError()))
    with pytest.raises(_StopError):
        stream_kernels(X, HARD_TANH, tmp_path, block=BLOCK)
    monkeypatch.undo()
    (tmp_path / "ck.npy").write_bytes(b"half a header")
    assert stream_kernels(X, HARD_TANH, tmp_path, block=BLOCK).resumed == 0
    assert file_bytes(tmp_path) == at_once


def _raise(error):
    raise error


OTHER_PROBLEMS = {
    "data": {"X": X + 1e-9},
    "activations": {"deq": DEQ("tanh", "0.3", "0.7")},
    "sigma_a2": {"deq": DEQ("hard_tanh", "0.31", "0.7")},
    "sigma_b2": {"deq": DEQ("hard_tanh", "0.3", "0.71")},
    "tau0": {"tau0": 1},
    "trained": {"trained": "aAB"},
    "which": {"which": ("ck",)},
    "block": {"block": 99},
    "format": {"format": "zarr"},
}


@pytest.mark.parametrize("what", OTHER_PROBLEMS)
def test_another_problem_is_refused(what, finished, at_once):
    arguments = {"X": X, "deq": HARD_TANH, "block": BLOCK, **OTHER_PROBLEMS[what]}
    with pytest.raises(InputError, match=rf"another problem \(its {what} is .*resume=False") as caught:
        stream_kernels(out_folder=finished, **arguments)
    assert "\n" not in str(caught.value)
    assert file_bytes(finished) == at_once


def test_a_function_of_the_same_name_is_another_problem(tmp_path):
    from equikernel.numerics.callables import callable_activation

    deqs = [DEQ(callable_activation(f, name="mine")) for f in (np.tanh, np.arctan)]
    stream_kernels(X[:9], deqs[0], tmp_path)
    with pytest.raises(InputError, match="its activations is"):
        stream_kernels(X[:9], deqs[1], tmp_path)


def test_overwrites_when_told_to(tmp_path):
    stream_kernels(X, HARD_TANH, tmp_path, block=BLOCK)
    streamed = stream_kernels(X[:150], GELU, tmp_path, block=BLOCK, resume=False)
    assert (streamed.resumed, streamed.blocks, streamed.ck.shape) == (0, 3, (150, 150))
    exact = implicit_kernels(X[:150], GELU)
    assert np.abs(streamed.ck - exact.ck).max() <= tolerance(exact.ck)


def test_files_that_are_not_ours_are_left_alone(tmp_path):
    (tmp_path / "ck.npy").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"ck\.npy is there already, and no manifest"):
        stream_kernels(X, GELU, tmp_path)
    assert (tmp_path / "ck.npy").read_bytes() == b"precious"
    (tmp_path / "manifest.jsonl").write_text("shopping list\nmilk\n")
    with pytest.raises(InputError, match="not a manifest of stream_kernels"):
        stream_kernels(X, GELU, tmp_path)


@pytest.mark.parametrize("damage", ["missing", "another shape"])
def test_damaged_files_are_refused(damage, tmp_path):
    stream_kernels(X, GELU, tmp_path, block=BLOCK)
    (tmp_path / "ntk.npy").unlink()
    if damage == "another shape":
        np.save(tmp_path / "ntk.npy", np.zeros((3, 3)))
    with pytest.raises(InputError, match=r"ntk\.npy is missing or damaged, although 10 of its blocks were done"):
        stream_kernels(X, GELU, tmp_path, block=BLOCK)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_seen_beforehand(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    needed = 16 * N * N
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(InputError, match=rf"the kernels need .* GB \({needed} bytes\) on the disk"):
        stream_kernels(X, GELU, tmp_path, block=BLOCK)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    with pytest.raises(_StopError):
        stream_kernels(X, GELU, tmp_path, block=BLOCK, max_blocks=1, progress=_stop_after(1))
    # what is done is on the disk already
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 16 * BLOCK * BLOCK))
    assert stream_kernels(X, GELU, tmp_path, block=BLOCK).resumed == 1


def test_chunks_of_zarr_are_all_of_one_size_on_disk(monkeypatch, tmp_path):
    usage, needed = shutil.disk_usage(tmp_path), 2 * 8 * 16 * BLOCK**2
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(InputError, match=rf"\({needed} bytes\) on the disk"):
        stream_kernels(X, GELU, tmp_path, block=BLOCK, format="zarr")
    monkeypatch.undo()
    stream_kernels(X, GELU, tmp_path, block=BLOCK, format="zarr")
    assert sum(path.stat().st_size for path in tmp_path.rglob("c/*/*")) == needed


def test_a_disk_that_fills_up_meanwhile(monkeypatch, tmp_path):
    write = NpyFile.write

    def full(file, rows, columns, block, *, mirrored):
        if columns.start >= 200:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, rows, columns, block, mirrored=mirrored)

    monkeypatch.setattr(NpyFile, "write", full)
    # two blocks are at work at a time: either may come first
    with pytest.raises(InputError, match=r"block \(0, [23]\) could not be written to .*ck\.npy \(No space left"):
        stream_kernels(X, GELU, tmp_path, block=BLOCK)
    monkeypatch.undo()
    assert stream_kernels(X, GELU, tmp_path, block=BLOCK).resumed == 2


def test_too_little_memory_is_seen_beforehand(monkeypatch, tmp_path):
    monkeypatch.setattr("equikernel.numerics.memory.available_memory", lambda: 2 * 16 * 300**2)
    with pytest.raises(MemoryLimitError, match=r"2 blocks of 300 need .* use a smaller block or max_blocks"):
        stream_kernels(X, GELU, tmp_path, block=300)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"block": 0}, InputError, "block must be a positive integer; got 0"),
        ({"max_blocks": True}, InputError, "max_blocks must be a positive integer; got True"),
        ({"threads": 0}, InputError, "threads must be a positive integer"),
        ({"which": "nngp"}, InputError, "which must name the kernels wanted"),
        ({"which": ()}, InputError, "which must name the kernels wanted"),
        ({"format": "csv"}, InputError, "format must be one of npy, zarr; got 'csv'"),
        ({"client": object()}, InputError, "client must be a dask.distributed.Client; got object"),
        ({"trained": "b"}, InputError, "trained must be one of"),
        ({"tau0": -1}, InputError, "tau0 must be a positive finite number"),
        ({"Y": X[:, :2]}, DataError, "rows and columns must have as many features, got 6 and 2"),
        ({"X": X.astype(object)}, DataError, "X must hold real numbers"),
        ({"X": X[0]}, DataError, r"two dimensions .* got the shape \(6,\)"),
        ({"X": X[:0]}, DataError, "at least one sample"),
        ({"X": 0.0 * X}, DataError, "every sample is zero"),
        ({"deq": DEQ("sign"), "which": "ntk"}, InputError, "jump"),
    ],
)
def test_bad_arguments(arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        stream_kernels(**{"X": X, "deq": GELU, "out_folder": tmp_path, **arguments})


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="out_folder must be a folder"):
        stream_kernels(X, GELU, tmp_path / "file")


@pytest.mark.parametrize("kind", ["array", "memory map", "dask"])
def test_nan_names_the_sample(kind, tmp_path):
    bad = np.zeros((1000, 5))
    bad[777, 3] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    dask_array = pytest.importorskip("dask.array", reason="dask is not installed")
    given = {
        "array": bad,
        "memory map": np.load(tmp_path / "bad.npy", mmap_mode="r"),
        "dask": dask_array.from_array(bad, chunks=(300, -1)),
    }[kind]
    with pytest.raises(DataError, match="X must be finite, got NaN or infinity in row 777:"):
        stream_kernels(given, GELU, tmp_path / "out", block=256)


def test_impossible_pairs_are_named_by_their_numbers_in_the_whole(tmp_path):
    given = 0.1 * X
    given[205], given[310] = 3.0 * X[0], 3.0 * X[0]
    deq = DEQ("tanh(3*x)", "0.9", "0.1")
    with pytest.raises(UnstableError) as whole:
        implicit_kernels(given, deq, tau0=1)
    with pytest.raises(UnstableError, match=r"samples? \d+") as streamed:
        stream_kernels(given, deq, tmp_path, tau0=1, block=BLOCK)
    assert str(whole.value).split(" for ")[1] == str(streamed.value).split(" for ")[1]


def test_without_zarr(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r'format "zarr" needs the package zarr, which is not installed'):
        stream_kernels(X, GELU, tmp_path, format="zarr")
    stream_kernels(X, GELU, tmp_path)
