"""The maps whose fixed points are wanted: states of a DEQ, adjoints, or any function of samples in rows.

Tensors are (n, m), or (R, n, m) for R networks at once: samples in rows, so that a sample is contiguous in memory. A
map writes its values where it is told and says on the way how far every sample has moved; what is done entry by entry
after the matrix product is done in blocks that stay in the processor's cache, on CUDA in one piece.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from equikernel.validation.torch_arithmetic import values_over  # first: it says what to install without torch

# isort: split
import torch
from torch import Tensor

from equikernel.errors import InputError
from equikernel.validation.deq.products import multiply

__all__ = ["AdjointMap", "CallableMap", "FixedPointMap", "StateMap"]

_BLOCK_BYTES = 2**19


class FixedPointMap(ABC):
    """A function f of samples in rows, each of which it treats alone."""

    @abstractmethod
    def advance(self, z: Tensor, out: Tensor, *, zero: bool = False) -> tuple[Tensor, Tensor]:
        """Write f(z) to ``out``; the norms |f(z) - z| and |f(z)| of every sample. ``zero``: z is that of ``zero``."""

    @property
    @abstractmethod
    def zero(self) -> Tensor:
        """A new z of zeros.

        Raises:
            InputError: the map does not know the shape.
        """

    @abstractmethod
    def select(self, rows: Tensor) -> FixedPointMap:
        """The map of these samples alone."""

    @abstractmethod
    def to(self, dtype: torch.dtype) -> FixedPointMap:
        """The map in another type."""

    def near(self, start: Tensor) -> FixedPointMap | None:
        """The map close to ``start``, which is its ``zero``, by products in float32; None if there is no such form."""
        return None


@dataclass(frozen=True, eq=False)
class CallableMap(FixedPointMap):
    """Any function that keeps shape and type and treats every row alone; its samples are not dropped from the work."""

    function: Callable[[Tensor], Tensor]

    def advance(self, z: Tensor, out: Tensor, *, zero: bool = False) -> tuple[Tensor, Tensor]:
        out.copy_(self.function(z))
        return _norm(out - z), _norm(out)

    @property
    def zero(self) -> Tensor:
        raise InputError("a function does not say the shape of its fixed point: give a start")

    def select(self, rows: Tensor) -> FixedPointMap:
        raise InputError("a function of all samples has no part of some")

    def to(self, dtype: torch.dtype) -> FixedPointMap:
        return self


@dataclass(frozen=True, eq=False)
class _AffineMap(FixedPointMap):
    """f(z) = g(z W^T + c), g entry by entry.

    Attributes:
        weight: W, (m, m) or (R, m, m).
        shift: c, (n, m) or (R, n, m).
    """

    weight: Tensor
    shift: Tensor

    @abstractmethod
    def select(self, rows: Tensor) -> _AffineMap: ...

    @property
    def zero(self) -> Tensor:
        return torch.zeros_like(self.shift)

    @abstractmethod
    def _finish(self, u: Tensor, rows: slice) -> None:
        """Replace u by g(u) for these rows of all samples, flattened over networks."""

    def advance(self, z: Tensor, out: Tensor, *, zero: bool = False) -> tuple[Tensor, Tensor]:
        return self.complete(None if zero else multiply(z, self.weight, out), z, out)

    def complete(self, product: Tensor | None, z: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """Write g(product + c) to ``out``, which may be the product; norms as of ``advance``. None: of zeros."""
        flat, old, shift = (x.view(-1, out.shape[-1]) for x in (out, z, self.shift))
        added = None if product is None else product.view(-1, out.shape[-1])
        changes, norms = [], []
        for rows in _blocks(flat):
            u = flat[rows]
            if added is None:
                u.copy_(shift[rows])
            else:
                torch.add(shift[rows], added[rows], out=u)
            self._finish(u, rows)
            changes.append(_norm(u - old[rows]))
            norms.append(_norm(u))
        change, norm = (x[0] if len(x) == 1 else torch.cat(x) for x in (changes, norms))
        return change.view(out.shape[:-1]), norm.view(out.shape[:-1])

    def near(self, start: Tensor) -> FixedPointMap:
        u = multiply(start, self.weight).add_(self.shift)
        return _NearMap(replace(self, shift=u), self.weight.float(), start)


@dataclass(frozen=True, eq=False)
class _NearMap(FixedPointMap):
    """A float64 map close to z_0 by products in float32: f(z) = g(u_0 + W (z - z_0)), u_0 = z_0 W^T + c in float64.

    Only the product with the small difference is rounded to float32, so f is wrong by about eps_32 |z - z_0|, and it
    is f itself at z_0. No derivative of g is taken: where g has a kink it is that of f.

    Attributes:
        map: g, with the shift u_0.
        weight: W in float32.
        zero: z_0.
    """

    map: _AffineMap
    weight: Tensor
    start: Tensor

    @property
    def zero(self) -> Tensor:
        return self.start

    def advance(self, z: Tensor, out: Tensor, *, zero: bool = False) -> tuple[Tensor, Tensor]:
        if zero:
            return self.map.complete(None, z, out)
        difference = torch.sub(z, self.start, out=torch.empty_like(z, dtype=torch.float32))
        return self.map.complete(multiply(difference, self.weight), z, out)

    def select(self, rows: Tensor) -> _NearMap:
        return _NearMap(self.map.select(rows), self.weight, self.start.index_select(-2, rows))

    def to(self, dtype: torch.dtype) -> FixedPointMap:
        raise InputError("a map of mixed precision has no other type")


@dataclass(frozen=True, eq=False)
class StateMap(_AffineMap):
    """f(z) = (phi(z W^T + c) - mean)/sqrt(m): the state of a DEQ, W = sigma_a A and c = sigma_b x B^T.

    Attributes:
        phi: an activation in torch.
        mean: E[phi(tau* xi)].
    """

    phi: Callable[[Tensor], Tensor]
    mean: float

    def _finish(self, u: Tensor, rows: slice) -> None:
        torch.sub(values_over(self.phi, u), self.mean, out=u).div_(math.sqrt(u.shape[-1]))

    def select(self, rows: Tensor) -> StateMap:
        return StateMap(self.weight, self.shift.index_select(-2, rows), self.phi, self.mean)

    def to(self, dtype: torch.dtype) -> StateMap:
        return StateMap(self.weight.to(dtype), self.shift.to(dtype), self.phi, self.mean)


@dataclass(frozen=True, eq=False)
class AdjointMap(_AffineMap):
    """f(delta) = D * (delta W^T + g): linear; with W = sigma_a A^T the gradient in the pre-activations.

    Formula: for a function of the state whose gradient in z is g, and D = phi'(u)/sqrt(m), its gradient in u is the
    fixed point delta = D * (sigma_a A^T delta + g).

    Attributes:
        slopes: D, of the shape of g.
    """

    slopes: Tensor

    def _finish(self, u: Tensor, rows: slice) -> None:
        u.mul_(self.slopes.view(-1, u.shape[-1])[rows])

    def select(self, rows: Tensor) -> AdjointMap:
        return AdjointMap(self.weight, self.shift.index_select(-2, rows), self.slopes.index_select(-2, rows))

    def to(self, dtype: torch.dtype) -> AdjointMap:
        return AdjointMap(self.weight.to(dtype), self.shift.to(dtype), self.slopes.to(dtype))


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norm


def _blocks(flat: Tensor) -> Iterator[slice]:
    size = max(_BLOCK_BYTES // (flat.shape[1] * flat.element_size()), 1) if flat.device.type == "cpu" else len(flat)
    for start in range(0, len(flat), size):
        yield slice(start, min(start + size, len(flat)))
