"""An account of many fixed-point solves: how many samples did not converge, and in how many iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from equikernel.validation.deq.fixed_point import FixedPointReport

__all__ = ["Solves"]


@dataclass
class Solves:
    """How the solves of one direction went; a solve is that of one batch of samples."""

    samples: int = 0
    unconverged_samples: int = 0
    solves: int = 0
    unconverged_solves: int = 0
    iterations: int = 0
    largest: int = 0

    def note(self, report: FixedPointReport | None) -> None:
        """One more solve."""
        if report is None:
            return
        left = int((~report.converged).sum())
        self.samples += report.converged.size
        self.unconverged_samples += left
        self.solves += 1
        self.unconverged_solves += left > 0
        self.iterations += int(report.iterations.sum())
        self.largest = max(self.largest, report.most_iterations)

    def to_dict(self) -> dict[str, Any] | None:
        """Counts, fractions, mean and largest iterations of a sample, as plain JSON types; None without a solve."""
        if not self.solves:
            return None
        return {
            "samples": self.samples,
            "solves": self.solves,
            "unconverged_samples": self.unconverged_samples / self.samples,
            "unconverged_solves": self.unconverged_solves / self.solves,
            "iterations": self.iterations / self.samples,
            "largest_iterations": self.largest,
        }
