"""From one iterate to the next: plain iteration, Anderson's and Broyden's methods, for every sample on its own."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from equikernel.validation.deq.options import SolverOptions

__all__ = ["Accelerator", "accelerator"]

_GROWTH = 2.0  # a residual this many times the best one since the last restart is taken for a failed step


class Accelerator(ABC):
    """What a method remembers between iterations."""

    @abstractmethod
    def step(self, z: Tensor, image: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """The next iterate, from z, f(z) and the relative residual, and a tensor that may be overwritten."""

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Forget all samples but these."""


class _Plain(Accelerator):
    """z <- f(z)."""

    def step(self, z: Tensor, image: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return image, z

    def select(self, rows: Tensor) -> None:
        pass


class _Safeguarded(Accelerator):
    """A method that starts afresh for a sample whose residual has doubled.

    Such a sample goes back to f of its best iterate, and what the method knew of it is forgotten; so between two
    restarts it gains at least one step of plain iteration.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._count = 0
        self._history: dict[str, Tensor] = {}  # every tensor has the samples in dimension -2 or, with a slot, -3
        self._best = self._restarted = torch.empty(0)

    def step(self, z: Tensor, image: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        if not self._count:
            self._start(image, residual)
        grown = residual > _GROWTH * self._best
        better = residual < self._best
        self._history["best image"] = torch.where(better[..., None], image, self._history["best image"])
        proposal = self._propose(image, image - z)
        if bool(grown.any()):
            self._forget(grown)
            proposal = torch.where(grown[..., None], self._history["best image"], proposal)
        self._best = torch.where(grown, torch.inf, torch.minimum(self._best, residual))
        self._restarted = grown
        self._count += 1
        return proposal, torch.empty_like(image)

    def select(self, rows: Tensor) -> None:
        self._best = self._best.index_select(-1, rows)
        self._restarted = self._restarted.index_select(-1, rows)
        for name, value in self._history.items():
            self._history[name] = value.index_select(-3 if name in self._slotted else -2, rows)

    _slotted: tuple[str, ...] = ()

    def _start(self, image: Tensor, residual: Tensor) -> None:
        self._best = torch.full_like(residual, torch.inf)
        self._restarted = torch.ones_like(residual, dtype=torch.bool)
        slots = (*image.shape[:-1], self._window, image.shape[-1])
        self._history = {name: image.new_zeros(slots) for name in self._slotted}
        self._history["best image"] = image.clone()

    def _forget(self, samples: Tensor) -> None:
        for name in self._slotted:
            self._history[name].masked_fill_(samples[..., None, None], 0.0)

    @abstractmethod
    def _propose(self, image: Tensor, gap: Tensor) -> Tensor:
        """The next iterate, from f(z) and f(z) - z."""


class _Anderson(_Safeguarded):
    """Anderson's method (type II) with a window of differences.

    Formula: with gaps r_k = f(z_k) - z_k and differences dr, df of the last iterates' gaps and images,

        gamma = argmin |r_k - sum_j gamma_j dr_j|^2 + ridge,    z_(k+1) = f(z_k) - sum_j gamma_j df_j,

    by normal equations with unit diagonal and a ridge of 1000 eps. Source: [Walker and Ni, Anderson acceleration for
    fixed-point iterations, SIAM J. Numer. Anal. 49 (2011)].
    """

    _slotted = ("gaps", "images")

    def _propose(self, image: Tensor, gap: Tensor) -> Tensor:
        history = self._history
        if self._count:
            slot = (self._count - 1) % self._window
            kept = ~self._restarted[..., None]
            history["gaps"][..., slot, :] = torch.where(kept, gap - history["gap"], 0.0)
            history["images"][..., slot, :] = torch.where(kept, image - history["image"], 0.0)
        history["gap"], history["image"] = gap, image
        differences = history["gaps"]
        gram = differences @ differences.mT
        scale = gram.diagonal(dim1=-2, dim2=-1).sqrt()
        scale = torch.where(scale > 0, scale, 1.0)
        ridge = torch.eye(self._window, dtype=gram.dtype, device=gram.device)
        gram = gram / (scale[..., :, None] * scale[..., None, :]) + 1e3 * torch.finfo(gram.dtype).eps * ridge
        # an empty slot has a row of zeros: the one on its diagonal leaves its coefficient zero
        gram = gram + ridge * (gram.diagonal(dim1=-2, dim2=-1) < 0.5)[..., None]
        right = (differences @ gap[..., None]) / scale[..., None]
        factor, _ = torch.linalg.cholesky_ex(gram)
        gamma = torch.cholesky_solve(right, factor) / scale[..., None]
        return image - (gamma.mT @ history["images"]).squeeze(-2)


class _Broyden(_Safeguarded):
    """Broyden's method with the inverse in product form, started afresh when its memory is full.

    Formula: M approximates (I - f')^(-1), M_0 = I. With w = M r_k and the last step s = M r_(k-1),

        M <- M + w (M^T s)^T/(s.(s - w)),    s <- w (s.s)/(s.(s - w)),    z_(k+1) = z_k + s.

    Source: [Kelley, Iterative methods for linear and nonlinear equations (1995), ch. 7].
    """

    _slotted = ("left", "right")

    def _propose(self, image: Tensor, gap: Tensor) -> Tensor:
        history = self._history
        z = image - gap
        slot = self._count % self._window
        if slot == 0:
            for name in self._slotted:
                history[name].zero_()
            history["step"] = gap
            return image
        left, right, step = history["left"], history["right"], history["step"]
        w = gap + ((right @ gap[..., None]).mT @ left).squeeze(-2)
        transposed = step + ((left @ step[..., None]).mT @ right).squeeze(-2)
        square = (step * step).sum(-1, keepdim=True)
        denominator = square - (step * w).sum(-1, keepdim=True)
        usable = (denominator.abs() > 1e-8 * square) & ~self._restarted[..., None]
        safe = torch.where(usable, denominator, 1.0)
        left[..., slot, :] = torch.where(usable, w / safe, 0.0)
        right[..., slot, :] = torch.where(usable, transposed, 0.0)
        history["step"] = torch.where(usable, w * (square / safe), w)
        return z + history["step"]


def accelerator(options: SolverOptions) -> Accelerator:
    """A fresh memory for the method of the options."""
    if options.method == "plain":
        return _Plain()
    return _Anderson(options.window) if options.method == "anderson" else _Broyden(options.window)
