"""Fixed points z = f(z) of many samples at once, each to its own relative residual, with an honest report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernel.errors import ConvergenceError, InputError
from equikernel.validation.deq.accelerators import accelerator
from equikernel.validation.deq.maps import CallableMap, FixedPointMap
from equikernel.validation.deq.options import SolverOptions, least_tolerance

__all__ = ["FixedPointReport", "solve_fixed_point"]

_WORTH = 2**22  # multiplications an iteration, from which on samples are dropped
_FEWER = 0.75  # samples are dropped from the work when at most this part of them is left
_PATIENCE = 4  # iterations without a new least residual after which float32 is at its floor


@dataclass(frozen=True, eq=False)
class FixedPointReport:
    """How the fixed points were reached.

    Attributes:
        method: "plain", "anderson" or "broyden".
        tolerance: the relative residual asked for.
        iterations: (n,) or (R, n), evaluations of f until the sample stopped, those in float32 included.
        single: of these, the ones of a mixed solve whose matrix product was in float32; zeros otherwise.
        residual: |f(z) - z|/|f(z)| of the last evaluation, whose f(z) is the result.
        converged: residual <= tolerance.
        chunks: how many parts the samples were solved in, one after the other, to save memory.
    """

    method: str
    tolerance: float
    iterations: NDArray[np.int64]
    single: NDArray[np.int64]
    residual: NDArray[np.float64]
    converged: NDArray[np.bool_]
    chunks: int = 1

    @property
    def succeeded(self) -> bool:
        """Whether every sample has converged."""
        return bool(self.converged.all())

    @property
    def most_iterations(self) -> int:
        """Of any sample."""
        return int(self.iterations.max(initial=0))

    @property
    def worst_residual(self) -> float:
        """The largest relative residual; NaN where a sample has none."""
        return float(self.residual.max(initial=0.0))

    @staticmethod
    def joined(parts: Sequence[FixedPointReport]) -> FixedPointReport:
        """The report on all samples of solves in parts with the same options."""
        if len(parts) == 1:
            return parts[0]
        arrays = ("iterations", "single", "residual", "converged")
        together: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in arrays
        }
        return replace(parts[0], **together, chunks=len(parts))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; a residual that is not finite is None."""
        worst = self.worst_residual
        return {
            "method": self.method,
            "tolerance": self.tolerance,
            "samples": int(self.converged.size),
            "unconverged": int((~self.converged).sum()),
            "iterations": self.most_iterations,
            "single": int(self.single.max(initial=0)),
            "residual": worst if np.isfinite(worst) else None,
            "chunks": self.chunks,
        }


class _Outcome(NamedTuple):
    solution: Tensor
    iterations: Tensor
    residual: Tensor


def solve_fixed_point(
    f: FixedPointMap | Callable[[Tensor], Tensor],
    start: Tensor | None = None,
    options: SolverOptions | None = None,
    *,
    throw: bool = True,
    subject: str = "the fixed point",
    remedy: str = "raise max_iter or tol, or try another method",
) -> tuple[Tensor, FixedPointReport]:
    """Solve z = f(z) for every sample: iterate until |f(z) - z| <= tol |f(z)|, and return f(z).

    A sample that has converged keeps its value, whatever the others do; it is dropped from the work when a quarter of
    the samples have converged (in all networks, for batches of networks). So its result depends on the others only by
    the rounding of matrix products of another shape. Where f contracts by c < 1, the error of the result is at most
    tol c/(1 - c) relative to |f(z)|.

    Args:
        f: a map, or a function that treats every row alone.
        start: (n, m), or (R, n, m) for R networks; float64 or float32, left as it is. None: zero, for maps that know
            their shape; their first evaluation, which counts as any other, takes no matrix product.
        options: plain iteration to 1e-12 (float64) or 1e-5 (float32) by default.
        throw: raise where a sample does not converge; False returns the result, with ``converged`` False there.
        subject: what is solved, for the error's sentence.
        remedy: what to do, for the same.

    Raises:
        InputError: a bad tolerance or start, or mixed precision of a start that is not float64.
        ConvergenceError: samples did not converge; names how many, the largest residual and the remedy.
    """
    options = SolverOptions() if options is None else options
    map_ = f if isinstance(f, FixedPointMap) else CallableMap(f)
    from_zero = start is None
    start = map_.zero if start is None else start.contiguous()
    dtype = str(start.dtype).removeprefix("torch.")
    if dtype not in ("float64", "float32") or start.ndim not in (2, 3):
        raise InputError(
            "the start must be a float64 or float32 tensor of shape (n, m) or (R, n, m); "
            f"got {dtype} of shape {tuple(start.shape)}"
        )
    if options.mixed and dtype != "float64":
        raise InputError(f"mixed precision finishes in float64: give a start of that type; got {dtype}")
    tolerance = options.tolerance(dtype)
    with torch.no_grad():
        outcome, single = _solve(map_, start, options, tolerance, from_zero=from_zero)
    residual = outcome.residual.cpu().numpy()
    report = FixedPointReport(
        method=options.method,
        tolerance=tolerance,
        iterations=outcome.iterations.cpu().numpy(),
        single=single.cpu().numpy(),
        residual=residual,
        converged=residual <= tolerance,
    )
    if throw and not report.succeeded:
        raise ConvergenceError(_failure(report, subject, remedy))
    return outcome.solution, report


def _failure(report: FixedPointReport, subject: str, remedy: str) -> str:
    return (
        f"{subject} did not converge for {int((~report.converged).sum())} of {report.converged.size} samples: relative "
        f"residual {report.worst_residual:.3g} after {report.most_iterations} iterations ({report.method}), "
        f"{report.tolerance:.3g} asked for; {remedy}"
    )


def _solve(
    f: FixedPointMap, start: Tensor, options: SolverOptions, tolerance: float, *, from_zero: bool
) -> tuple[_Outcome, Tensor]:
    budget = torch.full(start.shape[:-1], options.max_iter, device=start.device)
    if not budget.numel():
        return _Outcome(start, budget, budget.double()), budget
    if not options.mixed:
        outcome = _iterate(f, start, options, tolerance, budget, from_zero=from_zero)
        return outcome, torch.zeros_like(outcome.iterations)
    floor = max(tolerance, least_tolerance("float32"))
    # one evaluation is left for float64, whose residual is the one reported
    single = _iterate(
        f.to(torch.float32), start.float(), options, floor, budget - 1, from_zero=from_zero, patience=_PATIENCE
    )
    begin = _usable(single, start)
    finished, more = _finish_in_double(f, begin, options, tolerance, budget - single.iterations)
    return finished._replace(iterations=finished.iterations + single.iterations), single.iterations + more


def _finish_in_double(
    f: FixedPointMap, start: Tensor, options: SolverOptions, tolerance: float, budget: Tensor
) -> tuple[_Outcome, Tensor]:
    """From where float32 ends to a residual in float64, and how many of the evaluations had products in float32.

    The first evaluation is one of f, at the start. From there the iteration goes on with differences to the start,
    small enough for products in float32, and what comes out is checked, and if need be improved, by f itself.
    """
    near = f.near(start)
    if near is None:
        outcome = _iterate(f, start, options, tolerance, budget)
        return outcome, torch.zeros_like(outcome.iterations)
    close = _iterate(near, start, options, tolerance, (budget - 1).clamp_min(1), from_zero=True, patience=_PATIENCE)
    exact = close.iterations == 1  # f itself: converged, or out of budget
    if bool(exact.all()):
        return close, close.iterations - 1
    double = _iterate(f, _usable(close, start), options, tolerance, budget - close.iterations)
    outcome = _Outcome(
        torch.where(exact[..., None], close.solution, double.solution),
        torch.where(exact, 1, close.iterations + double.iterations),
        torch.where(exact, close.residual, double.residual),
    )
    return outcome, close.iterations - 1


def _usable(outcome: _Outcome, start: Tensor) -> Tensor:
    """Where to go on in float64: the start for samples that overflowed in float32."""
    return torch.where(torch.isfinite(outcome.residual)[..., None], outcome.solution.double(), start)


def _iterate(
    f: FixedPointMap,
    start: Tensor,
    options: SolverOptions,
    tolerance: float,
    budget: Tensor,
    *,
    from_zero: bool = False,
    patience: int | None = None,
) -> _Outcome:
    """Evaluate f; a sample stops when converged, not finite, out of budget, or without progress for ``patience``."""
    run = _Run(start)
    method, z, out = accelerator(options), start, torch.empty_like(start)
    best, since = torch.full_like(run.residual, torch.inf), torch.zeros_like(run.iterations)
    tiny, first_limit = torch.finfo(start.dtype).tiny, int(budget.min())
    for count in range(1, int(budget.max()) + 1):
        change, norm = f.advance(z, out, zero=from_zero and count == 1)
        # a zero sample may stay zero: it has converged when it does
        residual = change.double() / norm.double().clamp_min(tiny)
        goes_on = (residual > tolerance) & (residual < torch.inf)  # false for NaN
        if count >= first_limit:
            goes_on &= count < budget
        if patience is not None:
            since = torch.where(residual < best, 0, since + 1)
            best = torch.minimum(best, residual)
            goes_on &= since < patience
        if run.note(out, residual, goes_on, count) == 0:
            break
        z, out = method.step(z, out, residual)
        if out is start:  # which is the caller's
            out = torch.empty_like(start)
        kept = run.fewer() if _is_worth_dropping(f, z) else None
        if kept is not None:
            f, z = f.select(kept), z.index_select(-2, kept)
            out = torch.empty_like(z)
            best, since, budget = (x.index_select(-1, kept) for x in (best, since, budget))
            method.select(kept)
    return _Outcome(run.solution, run.iterations, run.residual)


def _is_worth_dropping(f: FixedPointMap, z: Tensor) -> bool:
    """Whether an iteration takes longer than the bookkeeping of dropping samples."""
    return not isinstance(f, CallableMap) and z.numel() * z.shape[-1] >= _WORTH


class _Run:
    """Which samples are at work, and what became of the others."""

    def __init__(self, start: Tensor) -> None:
        samples, device = start.shape[:-1], start.device
        self.rows: Tensor | None = None  # at work, some of them perhaps stopped; None: all
        self.residual = torch.full(samples, torch.inf, dtype=torch.float64, device=device)
        self.iterations = torch.zeros(samples, dtype=torch.int64, device=device)
        self.solution = start
        self._active = torch.ones(samples, dtype=torch.bool, device=device)  # of the rows at work
        self._left = self._active.numel()

    def note(self, image: Tensor, residual: Tensor, goes_on: Tensor, count: int) -> int:
        """Keep the values of samples that stop now; the number of those that go on."""
        going = self._active & goes_on
        left = int(torch.count_nonzero(going))
        if left < self._left:
            self._keep(image, residual, self._active & ~goes_on, count)
        self._active, self._left = going, left
        return left

    def fewer(self) -> Tensor | None:
        """Indices, among the rows at work, of those to go on with, if that is worth a copy."""
        if self._left > _FEWER * self._active.numel():
            return None
        wanted = self._active if self._active.ndim == 1 else self._active.any(dim=0)
        chosen = wanted.nonzero().squeeze(-1)
        if len(chosen) > _FEWER * len(wanted):
            return None
        self.rows = chosen if self.rows is None else self.rows[chosen]
        self._active = self._active.index_select(-1, chosen)
        return chosen

    def _keep(self, image: Tensor, residual: Tensor, leaving: Tensor, count: int) -> None:
        rows = self.rows
        if rows is None:
            self.residual = torch.where(leaving, residual, self.residual)
            self.iterations = torch.where(leaving, count, self.iterations)
            together = self._left == self.residual.numel() and bool(leaving.all())
            self.solution = image if together else torch.where(leaving[..., None], image, self.solution)
            return
        self.residual[..., rows] = torch.where(leaving, residual, self.residual[..., rows])
        self.iterations[..., rows] = torch.where(leaving, count, self.iterations[..., rows])
        before = self.solution.index_select(-2, rows)
        # index_copy makes a tensor of its own: the solution may still be the caller's start
        self.solution = self.solution.index_copy(-2, rows, torch.where(leaving[..., None], image, before))
