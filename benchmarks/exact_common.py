"""What the benchmarks of the exact kernels share: data, threads, turns with paired ratios, and the figure of ratios.

Every contender runs once a round, so that a round's ratio compares runs of the same moment: a ratio is the median of
the rounds' ratios, and its spread the least and the largest of them.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import scipy.linalg.blas  # noqa: F401 - loads SciPy's BLAS, so that its threads are limited with the others
import threadpoolctl
from timing import arguments, write_record

from equikernel.errors import DataError
from equikernel.numerics.kernels import implicit_kernels
from equikernel.theory.models import DEQ
from equikernel.validation.datasets import load_dataset
from equikernel.validation.mixtures import mixture_family

__all__ = [
    "FEATURES",
    "SIGMA_A2",
    "SIGMA_B2",
    "Data",
    "Ratio",
    "benchmark_parser",
    "data_of",
    "draw_ratios",
    "finish",
    "kernels_of",
    "network",
    "plain_ticks",
    "print_setting",
    "ratio",
    "save_figure",
    "spread",
    "take_paired_turns",
    "use_threads",
    "verdict",
]

FloatArray = npt.NDArray[np.float64]
Ratio = dict[str, float]

SIGMA_A2, SIGMA_B2 = 0.2, 0.8
FEATURES = 784
_TURN = 0.1  # seconds
_PAUSE = 0.05  # seconds in which the threads of the run before stop spinning


@dataclass(frozen=True)
class Data:
    """Samples in rows, centred and of mean squared norm 1, and what they are."""

    X: FloatArray
    source: str


def _mixture(n: int) -> Data:
    return Data(mixture_family("isotropic")(FEATURES).sample(n, seed=0).X, f"isotropic mixture, p = {FEATURES}")


def _stand_in(n: int) -> FloatArray:
    """Samples with the cosines and norms of Fashion-MNIST, about: ten centres, power-law spectra, uneven sizes.

    Quantiles of the cosines at n = 2000, (5, 50, 95, 99, 99.9, 100) %: -.54 -.01 .60 .77 .88 .97, the images' -.49 -.04
    .62 .78 .88 .98.
    """
    generator = np.random.default_rng(0)
    spectrum = np.arange(1.0, FEATURES + 1.0) ** -1.0
    centres = np.zeros((10, FEATURES))
    centres[:, :9] = generator.standard_normal((10, 9)) / np.arange(1.0, 10.0)
    centres *= np.sqrt(1.4) / np.linalg.norm(centres, axis=1, keepdims=True)
    size = np.exp(0.45 * generator.standard_normal((n, 1)))
    X = centres[generator.integers(0, 10, n)]
    X += size * generator.standard_normal((n, FEATURES)) * np.sqrt(spectrum / spectrum.sum())
    X -= X.mean(axis=0)
    X /= np.sqrt(np.linalg.norm(X, axis=1, keepdims=True))  # norms half as uneven, on a logarithmic scale
    return np.asarray(X / np.sqrt((X * X).sum(axis=1).mean()))


def _images(n: int) -> Data:
    try:
        data = load_dataset("fashion-mnist", n=n, seed=0, download=False)
    except DataError as error:
        return Data(_stand_in(n), f"synthetic stand-in for Fashion-MNIST ({error})")
    return Data(np.array(data.X), "Fashion-MNIST")


_SOURCES: dict[str, Callable[[int], Data]] = {"gmm": _mixture, "image": _images}


def data_of(name: str, n: int) -> Data:
    """The data "gmm" (isotropic mixture) or "image" (Fashion-MNIST where it is installed), with their cosines told."""
    data = _SOURCES[name](n)
    few = data.X[:: max(1, n // 1000)]
    norms = np.linalg.norm(few, axis=1)
    cosines = (few @ few.T / np.outer(norms, norms))[np.triu_indices(len(few), 1)]
    low, middle, high, top = np.quantile(cosines, (0.01, 0.5, 0.99, 1.0))
    return Data(data.X, f"{data.source}; cosines 1 % {low:.2f}, median {middle:.2f}, 99 % {high:.2f}, most {top:.3f}")


def network(activation: str, sigma_a2: float = SIGMA_A2, sigma_b2: float = SIGMA_B2) -> DEQ:
    """The network of all comparisons: sigma_a2 = 1/5, sigma_b2 = 4/5 unless told otherwise."""
    return DEQ(activation, str(sigma_a2), str(sigma_b2))


def kernels_of(X: FloatArray, deq: DEQ, threads: int, *, tau0: float = 1.0, trained: str = "aA") -> Any:
    """Both implicit kernels of the package, on so many threads."""
    takes_threads = "threads" in inspect.signature(implicit_kernels).parameters
    more: dict[str, Any] = {"threads": threads} if takes_threads else {}
    return implicit_kernels(X, deq, tau0=tau0, trained=trained, ntk=True, **more)


def benchmark_parser(description: str, *, repeats: int) -> argparse.ArgumentParser:
    """--repeats, --out, --figure and --threads."""
    parser = arguments(description, repeats=repeats)
    parser.add_argument("--figure", type=Path, help="a .png file; by default beside --out")
    most = numba.get_num_threads()  # the processors, unless the environment says otherwise
    parser.add_argument("--threads", type=int, default=most, help="threads of every contender")
    return parser


def use_threads(count: int) -> None:
    """The same number of threads for numba and for every BLAS in this process."""
    numba.set_num_threads(count)
    threadpoolctl.threadpool_limits(count)


def print_setting(given: argparse.Namespace) -> None:
    """What the figures were measured with."""
    load = os.getloadavg()
    told = ", ".join(f"{value:.1f}" for value in load)
    print(f"{given.threads} of {os.cpu_count()} threads for every contender; load average {told} at the start")
    if load[0] + given.threads > 1.2 * (os.cpu_count() or 1):
        print(
            "the machine has other work: BLAS waits for threads that are not running, and is slowed more than others; "
            "do not quote ratios from this run"
        )


def _turn(run: Callable[[], Any]) -> float:
    """Mean seconds of as many runs as fill a tenth of a second, of one at least.

    A contender that returns a float has measured itself, in a process of its own.
    """
    gc.collect()
    time.sleep(_PAUSE)
    total, count = 0.0, 0
    while total < _TURN:
        start = time.perf_counter()
        result = run()
        elapsed = time.perf_counter() - start
        total += result if isinstance(result, float) else elapsed
        count += 1
        del result
    return total / count


def take_paired_turns(contenders: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every contender in every round; one round before them is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for count in range(repeats + 1):
        for name, run in contenders.items():
            taken = _turn(run)
            if count:
                seconds[name].append(taken)
    return seconds


def spread(values: Sequence[float]) -> Ratio:
    """Median, least and largest."""
    return {"median": statistics.median(values), "least": min(values), "largest": max(values)}


def ratio(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """Spread of the rounds' ratios."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def verdict(found: Ratio, target: float | None, *, at_least: bool) -> str:
    """A ratio with its spread, and whether its median reaches the target."""
    text = f"{found['median']:.3g} ({found['least']:.3g} to {found['largest']:.3g})"
    if target is None:
        return text
    reached = found["median"] >= target if at_least else found["median"] <= target
    return f"{text}, target {'>=' if at_least else '<='} {target:g}: {'reached' if reached else 'SHORT'}"


def plain_ticks(axis: Any) -> None:
    """Ticks 1, 2, 5, 10, ... in plain numbers on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_ratios(figure: Any, rows: Sequence[tuple[str, Ratio, float | None]], label: str) -> None:
    """One line for each ratio: the median, its spread, and the target as an upright bar."""
    axes = figure.add_subplot()
    figure.set_size_inches(8.0, 1.2 + 0.4 * len(rows))
    for place, (_, found, target) in enumerate(rows):
        axes.plot([found["least"], found["largest"]], [place, place], color="C0", lw=2, solid_capstyle="butt")
        axes.plot(found["median"], place, "o", color="C0")
        if target is not None:
            axes.plot([target, target], [place - 0.3, place + 0.3], color="C3", lw=2)
    axes.plot([], [], "o-", color="C0", label="median, least to largest")
    if any(target is not None for _, _, target in rows):
        axes.plot([], [], "|", color="C3", ms=12, mew=2, label="target")
    axes.axvline(1.0, color="0.6", lw=1)
    axes.set_xscale("log")
    plain_ticks(axes.xaxis)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.25)
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=8)


def save_figure(path: Path, draw: Callable[[Any], None]) -> None:
    """A figure drawn by ``draw`` without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    figure.savefig(path, dpi=150)


def finish(given: argparse.Namespace, rows: Sequence[Mapping[str, Any]], draw: Callable[[Any], None]) -> None:
    """Write the record and the figure, each where it was asked for."""
    write_record(given.out, vars(given), rows)
    path = given.figure or (given.out.with_suffix(".png") if given.out else None)
    if path and rows:
        save_figure(path, draw)
