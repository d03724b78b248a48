"""How much faster one family of networks is than another where both are equally accurate, from runs at some widths.

Every family is a ladder: at each width a few runs, each with its accuracy and its seconds. A target is the mean
accuracy of the reference at one of its widths; a family reaches it at the smallest width whose mean is as high.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ladder", "SpeedUp", "reached_at", "speed_ups"]

Array = NDArray[np.float64]

_RESAMPLES = 2000
_LEVEL = 0.9


class Ladder(NamedTuple):
    """Runs of a family, by width.

    Attributes:
        widths: in increasing order.
        accuracy: of the runs at each width. seconds: of the same runs, a tuple for each kind of time.
    """

    widths: tuple[int, ...]
    accuracy: tuple[tuple[float, ...], ...]
    seconds: dict[str, tuple[tuple[float, ...], ...]]


@dataclass(frozen=True)
class SpeedUp:
    """The reference's seconds over the other family's at one target, for one kind of time.

    Attributes:
        target: accuracy. slack: by how much the other family may fall short of it.
        reference_width: the smallest that reaches it. width: the other family's, None if it does not reach it.
        reference_seconds: mean at that width. seconds: likewise, or None.
        stepped: the ratio at these two widths, or None.
        ratio: interpolated between widths, or None: see ``reached_at``.
        low: and ``high``, the central 90 % of resamples of the runs; a resample that does not reach the target counts
            as 0, so that ``low`` 0 means that it may never be reached. None where there is only one run at a width.
        reached: the part of the resamples that reach it.
        at_least: the other family is beyond the target at its smallest width already: a narrower network, which was
            not trained, might be faster still.
    """

    target: float
    slack: float
    reference_width: int
    width: int | None
    reference_seconds: float
    seconds: float | None
    stepped: float | None
    ratio: float | None
    low: float | None
    high: float | None
    reached: float | None
    at_least: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dict(self.__dict__)


def reached_at(accuracy: Sequence[float] | Array, target: float) -> float | None:
    """Where on a ladder, as an index, a target is reached first; None if nowhere.

    Formula: with j the first index whose accuracy a_j >= target, j - 1 + (target - a_(j-1))/(a_j - a_(j-1)) if the
    accuracies do not fall up to j, and j if they do; 0 if j = 0.

    Args:
        accuracy: of the rungs.
        target: what is to be reached.
    """
    values = np.asarray(accuracy, float)
    enough = np.flatnonzero(values >= target)
    if not enough.size:
        return None
    j = int(enough[0])
    if j == 0 or np.any(np.diff(values[: j + 1]) < 0):
        return float(j)
    return j - 1 + float((target - values[j - 1]) / (values[j] - values[j - 1]))


def speed_ups(
    reference: Ladder,
    other: Ladder,
    kind: str,
    *,
    test_size: int | None = None,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> list[SpeedUp]:
    """Ratios of seconds at the accuracies of the reference, one for each of its widths that improves on the narrower.

    Formula: exp(log t_ref(i) - log t(j)), with i and j where the ladders reach the target (``reached_at``), log t the
    mean of the logarithms of the runs' seconds, linear between rungs. Interval: percentiles of the same over resamples
    of the runs of each width of both families, target included; a resample's means are moved away from the sample's
    by sqrt(S/(S - 1)), by which the spread of means of S resampled values falls short of that of S new ones.

    Args:
        reference: the family to be outdone.
        other: the family that does it.
        kind: of time.
        test_size: None: the other family must reach the target a. A number n of test samples: it may fall short of it
            by sqrt(a(1 - a)/n), the standard error of an accuracy on so many samples.
        seed: of the resamples.
        resamples: how many.
    """
    means = [float(np.mean(runs)) for runs in reference.accuracy]
    targets = [k for k in range(len(means)) if all(means[k] > narrower for narrower in means[:k])]
    stream = np.random.default_rng(seed)
    several = all(len(runs) > 1 for ladder in (reference, other) for runs in ladder.accuracy)
    draws = list(zip(*(_resampled(ladder, kind, stream, resamples) for ladder in (reference, other)), strict=True))
    return [_speed_up(reference, other, kind, k, draws if several else [], test_size) for k in targets]


def _speed_up(
    reference: Ladder,
    other: Ladder,
    kind: str,
    k: int,
    draws: Sequence[tuple[_Means, _Means]],
    test_size: int | None,
) -> SpeedUp:
    ours, theirs = _means(reference, kind), _means(other, kind)
    target = float(ours.accuracy[k])
    slack = 0.0 if test_size is None else math.sqrt(target * (1.0 - target) / test_size)
    position = reached_at(theirs.accuracy, target - slack)
    j = None if position is None else math.ceil(position)
    seconds = [float(np.mean(runs)) for runs in other.seconds[kind]]
    reference_seconds = float(np.mean(reference.seconds[kind][k]))
    ratios = [_log_ratio(a, b, float(a.accuracy[k]), slack) for a, b in draws]
    values = np.array([0.0 if r is None else math.exp(r) for r in ratios])
    log_ratio = _log_ratio(ours, theirs, target, slack)
    tail = (1.0 - _LEVEL) / 2.0
    return SpeedUp(
        target=target,
        slack=slack,
        reference_width=reference.widths[k],
        width=None if j is None else other.widths[j],
        reference_seconds=reference_seconds,
        seconds=None if j is None else seconds[j],
        stepped=None if j is None else reference_seconds / seconds[j],
        ratio=None if log_ratio is None else math.exp(log_ratio),
        low=float(np.quantile(values, tail, method="lower")) if draws else None,
        high=float(np.quantile(values, 1.0 - tail, method="higher")) if draws else None,
        reached=float(np.mean(values > 0)) if draws else None,
        at_least=position == 0.0 and float(theirs.accuracy[0]) > target - slack,
    )


class _Means(NamedTuple):
    """Of the rungs of a ladder: mean accuracy, and mean logarithm of the seconds."""

    accuracy: Array
    log_seconds: Array


def _means(ladder: Ladder, kind: str) -> _Means:
    return _Means(
        np.array([np.mean(runs) for runs in ladder.accuracy]),
        np.array([np.mean(np.log(runs)) for runs in ladder.seconds[kind]]),
    )


def _resampled(ladder: Ladder, kind: str, stream: np.random.Generator, resamples: int) -> list[_Means]:
    """The means of so many resamples of the runs of every rung."""
    columns = []
    for hits, seconds, means in zip(
        ladder.accuracy, ladder.seconds[kind], zip(*_means(ladder, kind), strict=True), strict=True
    ):
        count = len(hits)
        rows = stream.integers(count, size=(resamples, count))
        stretch = math.sqrt(count / (count - 1)) if count > 1 else 0.0
        columns.append(
            [
                mean + stretch * (np.asarray(values, float)[rows].mean(axis=1) - mean)
                for values, mean in zip((hits, np.log(seconds)), means, strict=True)
            ]
        )
    accuracy, log_seconds = (np.stack(parts, axis=1) for parts in zip(*columns, strict=True))
    return [_Means(*pair) for pair in zip(accuracy, log_seconds, strict=True)]


def _log_ratio(ours: _Means, theirs: _Means, target: float, slack: float) -> float | None:
    """None where the target is not reached."""
    first, second = reached_at(ours.accuracy, target), reached_at(theirs.accuracy, target - slack)
    if first is None or second is None:
        return None
    return _at(ours.log_seconds, first) - _at(theirs.log_seconds, second)


def _at(values: Array, position: float) -> float:
    return float(np.interp(position, np.arange(len(values)), values))
