"""The exact kernels solved on a torch device, against the CPU's, and what an H200 should take.

    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/torch_kernels.py --device cuda --sizes 10000 20000

Contenders take turns: ``implicit_kernels`` on --threads threads of the CPU, and ``device_kernels`` on --device with its
results left there (and the device waited for). A ratio is the median of the rounds' ratios, CPU over device; the
differences are of the largest entry. On --device cpu torch runs on --threads threads too.

"estimate" is a roofline and was NOT measured: bytes and operations are counted in a run of the same code on this data
(every tensor that an operation reads or writes, at its own size, once), and divided by the figures of the data sheet of
an H200 SXM: 4.8 TB/s of memory, 34 Tflop/s in float64, 67 Tflop/s in float64 matrix products. It leaves out what is
done on the CPU, the launches of kernels, and caches. "traffic s" is the time that the memory takes for the operations
one by one, as they are; "matrix s" that of the Gram matrix; "fused s" what arithmetic, Gram matrix and writing the
result would take if all operations on a tile were one kernel, which they are not.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from exact_common import data_of, kernels_of, network, take_paired_turns, use_threads
from timing import arguments, write_record
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from equikernel.validation.torch_kernels import DeviceKernels, device_kernels

MEMORY, VECTOR, MATRIX = 4.8e12, 34e12, 67e12  # bytes and float64 operations a second: the data sheet of an H200 SXM
_OPERATIONS = {"mm": 0, "addcmul": 2, "addcmul_": 2, "add": 1, "add_": 1, "sub": 1, "sub_": 1, "mul": 1, "mul_": 1}
_SLOW = {"asin": 25, "sqrt": 10, "sqrt_": 10, "reciprocal_": 10, "reciprocal": 10, "div": 10, "true_divide": 10}
_VIEWS = (
    "view",
    "slice",
    "select",
    "t",
    "transpose",
    "unsqueeze",
    "as_strided",
    "detach",
    "alias",
    "permute",
    "expand",
)


class Counter(TorchDispatchMode):
    """Counts, for all operations inside, the bytes of the tensors they read and write and what they calculate."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.vector, self.matrix = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _VIEWS or name.startswith(("empty", "_local_scalar", "is_")):
            return result
        out = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        given = [t for t in tree_leaves(args) if isinstance(t, torch.Tensor)]
        read = given[1:] if name in {"zero_", "fill_", "copy_", "index_put_"} else given
        self.bytes += sum(t.numel() * t.element_size() for t in (*read, *out))
        if name == "mm":
            self.matrix += 2 * out[0].numel() * given[0].shape[1]
        elif out:
            self.vector += (_OPERATIONS | _SLOW).get(name, 1) * max(t.numel() for t in (*given, *out))
        return result


def count(X: np.ndarray, deq: Any) -> tuple[Counter, DeviceKernels]:
    """What a run counts; the same on every device."""
    with Counter() as counter:
        found = device_kernels(X, deq, tau0=1.0, device="cpu")
    return counter, found


def estimate(counter: Counter, sample: DeviceKernels, n: int, m: int) -> dict[str, float]:
    """Seconds of an H200 for n samples, from a count on m samples: both grow with the number of pairs."""
    # of a symmetric kernel in eight parts 36 of 64 squares are solved
    pairs, solved = n * n * 9.0 / 16.0, sum(tile.shape[0] * tile.shape[1] for tile in sample.tiles)
    matrix = counter.matrix / solved * pairs / MATRIX
    traffic, arithmetic = (amount / solved * pairs for amount in (counter.bytes / MEMORY, counter.vector / VECTOR))
    written = 2 * 8.0 * n * n / MEMORY
    return {
        "counted_on": m,
        "bytes_per_pair": counter.bytes / solved,
        "operations_per_pair": counter.vector / solved,
        "matrix_operations_per_pair": counter.matrix / solved,
        "traffic_seconds": traffic,
        "matrix_seconds": matrix,
        "fused_seconds": arithmetic + matrix + written,
    }


def measure(n: int, data: str, name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One row: times in turns, differences, and the estimate."""
    X, deq = data_of(data, n).X, network(name)
    wait = torch.cuda.synchronize if torch.device(given.device).type == "cuda" else lambda: None
    last: dict[str, Any] = {}

    def on_device() -> None:
        last["device"] = None  # before the next one is made
        last["device"] = device_kernels(X, deq, tau0=1.0, device=given.device)
        wait()

    def on_cpu() -> None:
        last["cpu"] = None
        last["cpu"] = kernels_of(X, deq, given.threads)

    seconds = take_paired_turns({"cpu": on_cpu, "device": on_device}, given.repeats)
    ratios = np.divide(seconds["cpu"], seconds["device"])
    found, expected = last["device"], last["cpu"]
    worst = {
        kernel: float(np.abs(getattr(found, kernel).cpu().numpy() - getattr(expected, kernel)).max())
        / float(np.abs(getattr(expected, kernel)).max())
        for kernel in ("ck", "ntk")
    }
    few = min(n, given.count)
    row = {
        "n": n, "data": data, "activation": name, "device": given.device, "repeats": given.repeats,
        "cpu_seconds": float(np.median(seconds["cpu"])), "device_seconds": float(np.median(seconds["device"])),
        "ratio": float(np.median(ratios)), "least_ratio": float(ratios.min()), "largest_ratio": float(ratios.max()),
        "ck_difference": worst["ck"], "ntk_difference": worst["ntk"], **found.to_dict(),
        "estimate": estimate(*count(X[:few], deq), n, few),
    }  # fmt: skip
    told = row["estimate"]
    print(
        f"{n:7} {data:6} {name:10} {row['cpu_seconds']:8.3f} {row['device_seconds']:8.3f} {row['ratio']:7.2f} "
        f"({row['least_ratio']:.2f}-{row['largest_ratio']:.2f}) {worst['ck']:9.1e} {worst['ntk']:9.1e} "
        f"{row['pairs_on_cpu']:9} {row['most_terms']:5} {row['most_passes']:6} | {told['bytes_per_pair']:9.0f} "
        f"{told['operations_per_pair']:9.0f} {told['traffic_seconds']:9.4f} {told['matrix_seconds']:8.4f} "
        f"{told['fused_seconds']:8.4f}",
        flush=True,
    )
    return row


def main() -> None:
    """Measure, print, and write a record."""
    parser = arguments(__doc__.splitlines()[0], repeats=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000])
    parser.add_argument("--data", nargs="+", default=["gmm", "image"], choices=["gmm", "image"])
    parser.add_argument("--activations", nargs="+", default=["relu", "tanh", "gelu", "hard_tanh"])
    parser.add_argument("--threads", type=int, default=1, help="threads of the CPU, for both")
    parser.add_argument("--count", type=int, default=1000, help="samples on which bytes and operations are counted")
    given = parser.parse_args()
    use_threads(given.threads)
    torch.set_num_threads(given.threads)
    where = torch.cuda.get_device_name(given.device) if given.device.startswith("cuda") else "the CPU"
    print(f"torch {torch.__version__} on {where}; {given.threads} CPU threads for both; ratios are CPU/device")
    if given.device == "cpu":
        print("no CUDA device was used: the times are torch's on the CPU")
    print("right of the bar: an ESTIMATE for an H200 from counted bytes and operations, not measured")
    print(
        f"{'n':>7} {'data':6} {'activation':10} {'cpu s':>8} {'device s':>8} {'ratio':>7} {'(spread)':11} {'dG':>9} "
        f"{'dK':>9} {'on cpu':>9} {'terms':>5} {'passes':>6} | {'B/pair':>9} {'op/pair':>9} {'traffic s':>9} "
        f"{'matrix s':>8} {'fused s':>8}"
    )
    rows = [measure(n, data, name, given) for n in given.sizes for data in given.data for name in given.activations]
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
