"""Changes of variable that make the trapezoidal rule converge fast on a line, a ray or an interval ([TakahasiMori74]).

A map gives y(t) and |y'(t)| from e = exp(t), so that nodes t = k h cost one multiplication instead of one exponential.
It is analytic in the strip |Im t| < ``strip``, where y stays in the sector in which the Gaussian weight decays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from flint import acb, arb

__all__ = ["IntervalMap", "LineMap", "Map", "RayMap"]

Pair = tuple[Any, Any]


class Map(Protocol):
    """A change of variable with the ends (in t) beyond which it has come within ``small`` of the end of the segment."""

    @property
    def strip(self) -> float: ...
    def at(self, e: Any) -> Pair: ...
    def reach(self, far: float, log_small: float) -> tuple[float, float]: ...


@dataclass(frozen=True)
class LineMap:
    """y = s sinh t, the whole line."""

    scale: float
    strip: float = math.pi / 4

    def at(self, e: Any) -> Pair:
        half = arb(self.scale) / 2
        inverse = 1 / e
        return (e - inverse) * half, (e + inverse) * half

    def reach(self, far: float, log_small: float) -> tuple[float, float]:
        end = math.asinh(far / self.scale)
        return end, end


@dataclass(frozen=True)
class RayMap:
    """y = origin + side * s exp(t - exp(-t)): from a breakpoint to infinity on one side."""

    origin: arb
    side: int
    scale: float
    strip: float = math.pi / 4

    def at(self, e: Any) -> Pair:
        inverse = 1 / e
        u = e * (-inverse).exp() * arb(self.scale)
        return self.origin + self.side * u, u * (1 + inverse)

    def reach(self, far: float, log_small: float) -> tuple[float, float]:
        span = max((self.side * (far * self.side - float(self.origin))) / self.scale, 1.0)
        end = math.log(span) + 1 / span
        return math.log(max(-log_small, 3.0)), end + math.exp(-end)


@dataclass(frozen=True)
class IntervalMap:
    """y = a + (b - a)/(1 + exp(-2 sinh t)): between two breakpoints."""

    lower: arb
    upper: arb
    strip: float = math.pi / 2

    def at(self, e: Any) -> Pair:
        inverse = 1 / e
        width = self.upper - self.lower
        left = bool(abs(e) < 1) if isinstance(e, acb) else bool(e < 1)
        small = (e - inverse if left else inverse - e).exp()  # so that it never overflows
        whole = 1 + small
        part = width * small / whole
        return (self.lower + part if left else self.upper - part), part * (e + inverse) / whole

    def reach(self, far: float, log_small: float) -> tuple[float, float]:
        end = math.asinh(max(-log_small, 3.0) / 2)
        return end, end
