"""Many DEQs of one width on the same data: drawn, solved by one matrix product for all of them, within a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernel.errors import MemoryLimitError
from equikernel.numerics.initialisation.coefficients import goe_coefficients
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ
from equikernel.validation.deq.fixed_point import FixedPointReport, solve_fixed_point
from equikernel.validation.deq.maps import AdjointMap, StateMap
from equikernel.validation.deq.options import SolverOptions
from equikernel.validation.deq.products import multiply
from equikernel.validation.deq.weights import draw_hidden_weights

__all__ = ["Ensemble", "Networks", "centring", "divergence_remedy", "network_bytes"]

Array = NDArray[np.float64]


class Networks(NamedTuple):
    """R networks on n samples.

    Attributes:
        weight: sigma_a A, (R, m, m).
        shift: sigma_b X B^T, (R, n, m).
        readout: a, (R, 1, m), or None where it was not asked for.
    """

    weight: Tensor
    shift: Tensor
    readout: Tensor | None


@lru_cache(maxsize=32)
def centring(deq: DEQ, tau0: float) -> tuple[float, float]:
    """E[phi(tau* xi)], and sigma_a^2 v at tau*; the same at every width. The second is infinite where phi jumps.

    For GOE weights E phi(u) and sigma_a^2 E psi'^2, psi the effective activation (docs/initialisation.md).

    Raises:
        InputError: GOE weights and an activation of unbounded slope.
        NoFixedPointError, UnstableError: tau* does not exist.
    """
    if deq.weights == "goe" and deq.sigma_a2:
        found = goe_coefficients(deq.activation, float(deq.sigma_a2), float(deq.sigma_b2), tau0, "a")
        constant = float(deq.activation(0.0)) - float(found.activation(0.0))
        return constant + found.centre, found.stability
    moments = gaussian_moments(deq.activation, solve(deq, tau0, trained="a").tau)
    v = math.inf if moments.v_or_none is None else float(moments.v_or_none.value)
    return float(moments.mean.value), float(deq.sigma_a2) * v if deq.sigma_a2 else 0.0


def divergence_remedy(contraction: float, family: str) -> str:
    """What to say of a DEQ whose iteration does not converge, from what ``centring`` says of it and the family of A."""
    name = "sigma_a2*E[psi'^2]" if family == "goe" else "sigma_a2*v"
    if contraction >= 1.0:
        advice = "1 or more is the chaotic phase, in which networks have no stable fixed point: reduce sigma_a2"
    elif family == "goe":
        advice = (
            "below 1 samples of squared norm tau0^2 have a stable fixed point as m grows: raise the width, max_iter or "
            "tol, or reduce sigma_a2 for the sake of samples of other norms"
        )
    else:
        advice = "the iteration contracts by about its square root a step: raise max_iter, tol or the width"
    return f"{name} = {contraction:.6g} ({advice})"


def network_bytes(width: int, samples: int, features: int, itemsize: int, options: SolverOptions) -> int:
    """Bytes that one more network takes in a batch.

    Formula: itemsize (m^2 + m p + k n m), times 3/2 in mixed precision, with k = 8 for plain iteration (inputs, slopes,
    state, adjoint, two iterates, the kept solution, temporaries) and 2 window + 6 more for the other methods.
    """
    tensors = 8 + (0 if options.method == "plain" else 2 * options.window + 6)
    needed = itemsize * (width * width + width * features + tensors * samples * width)
    return needed * 3 // 2 if options.mixed else needed


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The DEQs of one width on the same samples.

    Formula: z = (phi(sigma_a A z + sigma_b B x) - mean)/sqrt(m) (theory, section 1).

    Attributes:
        deq: the network of infinite width.
        X: (n, p), samples in rows; its type and device are those of the work.
        width: m.
        mean: and ``contraction``, see ``centring``.
        options: of the solver.
    """

    deq: DEQ
    X: Tensor
    width: int
    mean: float
    contraction: float
    options: SolverOptions

    def batch_size(self, memory: float | None) -> int:
        """How many networks to solve at once within ``memory`` bytes; 1 without a budget.

        Formula: (memory - 16 m^2)/network_bytes, rounded down: drawing one matrix takes 16 m^2 bytes.

        Raises:
            MemoryLimitError: not even one network fits.
        """
        if memory is None:
            return 1
        (samples, features), drawing = self.X.shape, 16 * self.width**2
        one = network_bytes(self.width, samples, features, self.X.element_size(), self.options)
        size = int((memory - drawing) // one)
        if size < 1:
            raise MemoryLimitError(
                f"one network of width {self.width} on {samples} samples takes {one + drawing} bytes, memory is "
                f"{memory:.0f}: raise memory, take fewer samples or a smaller width"
            )
        return size

    def draw(self, streams: Sequence[np.random.Generator], *, readout: bool = False) -> Networks:
        """Networks from their streams, each of which yields A row by row, then B, then a."""
        m, p = self.width, self.X.shape[1]
        weight = self.X.new_empty(len(streams), m, m)
        inputs = self.X.new_empty(len(streams), m, p)
        last = self.X.new_empty(len(streams), 1, m) if readout else None

        def fill(k: int) -> None:
            weight[k] = torch.from_numpy(draw_hidden_weights(streams[k], m, self.deq.weights))
            inputs[k] = torch.from_numpy(streams[k].standard_normal((m, p)))
            if last is not None:
                last[k, 0] = torch.from_numpy(streams[k].standard_normal(m))

        threads = min(len(streams), torch.get_num_threads())
        if threads == 1:
            for k in range(len(streams)):
                fill(k)
        else:  # a stream is one thread's from first to last: the numbers are the same for any number of threads
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fill, range(len(streams))))
        # one product of the samples with the input weights of all networks
        shift = multiply(self.X, inputs.view(-1, p)).view(len(self.X), -1, m).transpose(0, 1).contiguous()
        return Networks(weight.mul_(math.sqrt(self.deq.sigma_a2)), shift.mul_(math.sqrt(self.deq.sigma_b2)), last)

    def states(self, networks: Networks, *, throw: bool = True) -> tuple[Tensor, FixedPointReport]:
        """The states z, (R, n, m), from z = 0.

        Raises:
            ConvergenceError: names the residual and sigma_a^2 v.
        """
        phi = self.deq.activation.function("torch")
        states = StateMap(networks.weight, networks.shift, phi, self.mean)
        return solve_fixed_point(
            states,
            None,
            self.options,
            throw=throw,
            subject=self._subject("state"),
            remedy=divergence_remedy(self.contraction, self.deq.weights),
        )

    def adjoints(self, networks: Networks, z: Tensor, *, throw: bool = True) -> tuple[Tensor, FixedPointReport]:
        """The gradients of a^T z in the pre-activations, (R, n, m); formula: see ``AdjointMap``.

        Raises:
            ConvergenceError: as ``states``.
        """
        if networks.readout is None:
            raise ValueError("adjoints need networks drawn with their readout")
        u = torch.matmul(z, networks.weight.mT).add_(networks.shift)
        slopes = self.deq.activation.derivative("torch")(u).div_(math.sqrt(self.width))
        gradient = networks.readout.expand_as(u).contiguous()
        return solve_fixed_point(
            AdjointMap(networks.weight.mT, gradient, slopes),
            slopes * gradient,
            self.options,
            throw=throw,
            subject=self._subject("adjoint"),
            remedy=divergence_remedy(self.contraction, self.deq.weights),
        )

    def _subject(self, what: str) -> str:
        return f"the {what} of a DEQ with {self.deq.activation.name} at width {self.width}"
