"""Explicit networks as torch modules, to train and to deploy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from equikernel.validation.torch_arithmetic import is_tracing  # first: it says what to install without torch

# isort: split
import torch
from torch import Tensor

from equikernel.errors import InputError
from equikernel.numerics.memory import require_memory
from equikernel.theory.models import ExplicitNetwork, exact_number
from equikernel.validation.devices import require_input, torch_device, torch_dtype
from equikernel.validation.empirical import require_count
from equikernel.validation.explicit_networks import layer_means

__all__ = ["ExplicitModule", "explicit_module"]

_PARAMETERIZATIONS = ("ntk", "standard")
_DRAWN = 2**20  # numbers at a time


class ExplicitModule(torch.nn.Module):
    """An explicit network of finite width, x -> a x^(L); ``explicit_module`` makes it.

    Formula, with x^(0) = x and sigma_l minus mean_l = E[sigma_l(tau_(l-1) xi)] at its own input scale (theory, section
    1), for the two parameterisations of the same function:

        "ntk":       x^(l) = (sigma_l(W_l x^(l-1)) - mean_l)/sqrt(d_l),    W_l and a i.i.d. N(0, 1);
        "standard":  h^(l) = sigma_l(W_l h^(l-1)) - mean_l, x^(L) = h^(L)/sqrt(d_L),    W_1 i.i.d. N(0, 1) as there,
                     W_(l+1) i.i.d. N(0, 1/d_l), and a h^(L) in place of a x^(L), a i.i.d. N(0, 1/d_L).

    Attributes:
        network: the network it was made of.
        in_features: p.
        widths: (d_1, ..., d_L).
        parameterization: "ntk" or "standard".
        weights: W_l, (d_l, d_(l-1)), first layer first.
        readout: a, (outputs, d_L), or None for the features alone.
        means: (L,), a buffer.
    """

    means: Tensor
    readout: torch.nn.Parameter | None

    def __init__(
        self,
        network: ExplicitNetwork,
        widths: Sequence[int],
        in_features: int,
        outputs: int | None,
        parameterization: str,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.network, self.in_features, self.widths = network, in_features, tuple(widths)
        self.parameterization = parameterization
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        self.weights = torch.nn.ParameterList(
            torch.nn.Parameter(torch.empty(rows, columns, **options), requires_grad=rate > 0)
            for rate, (columns, rows) in zip(
                network.learning_rates[:-1], itertools.pairwise((in_features, *widths)), strict=True
            )
        )
        readout = None if outputs is None else torch.nn.Parameter(torch.empty(outputs, widths[-1], **options))
        self.register_parameter("readout", readout)
        self.register_buffer("means", torch.tensor(layer_means(network), **options))
        self._prepare()

    def forward(self, x: Tensor) -> Tensor:
        """f(x), (..., outputs), of samples in rows, (..., p); the features (..., d_L) where there is no readout.

        Raises:
            InputError: x has another last dimension, or another type or device than the weights.
        """
        if self.readout is None:
            return self.features(x)
        return torch.nn.functional.linear(self._last_layer(x), self.readout)

    def features(self, x: Tensor) -> Tensor:
        """The last layer x^(L), (..., d_L), of samples in rows, whose inner products are the network's CK.

        Formula: G = features(x) @ features(x).T.

        Raises:
            InputError: as ``forward``.
        """
        last = self._last_layer(x)
        return last if self.parameterization == "ntk" else last / math.sqrt(self.widths[-1])

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Groups of parameters with their learning rates, for the optimisers of torch; frozen layers are left out.

        Formula: W_l learns at lr * eta_l and a at lr, eta_l = ``network.rates``; in the standard parameterisation times
        the variance of the layer's initial weights, 1/d_(l-1). Plain gradient descent then trains both
        parameterisations alike, by the kernel lr * K, K the NTK of ``empirical_explicit_ntk``.

        Args:
            lr: a positive number.

        Raises:
            InputError: another lr.
        """
        rate = float(exact_number(lr, "lr", positive=True))
        return [
            {"params": [parameter], "lr": rate * eta * deviation**2}
            for parameter, eta, deviation in zip(
                self._initialised(), self.network.learning_rates, self.initial_deviations, strict=False
            )
            if parameter.requires_grad
        ]

    @property
    def initial_deviations(self) -> tuple[float, ...]:
        """Standard deviations of the initial W_1, ..., W_L and a."""
        if self.parameterization == "ntk":
            return (1.0,) * (len(self.widths) + 1)
        return (1.0, *(1.0 / math.sqrt(width) for width in self.widths))

    @torch.no_grad()
    def initialise(self, seed: int) -> ExplicitModule:
        """Draw all weights anew: W_1, W_2, ..., a row by row from ``numpy.random.default_rng(seed)``, in float64.

        The CPU and CUDA see the same network, float32 sees it rounded.

        Args:
            seed: a non-negative integer.

        Raises:
            InputError: another seed.
        """
        stream = np.random.default_rng(require_count(seed, "seed", 0))
        for parameter, deviation in zip(self._initialised(), self.initial_deviations, strict=False):
            for rows in torch.split(parameter, max(_DRAWN // parameter.shape[1], 1)):
                rows.copy_(torch.from_numpy(deviation * stream.standard_normal(tuple(rows.shape))))
        return self

    def extra_repr(self) -> str:
        activations = ", ".join(layer.activation.name for layer in self.network.layers)
        return f"{self.in_features} -> {' -> '.join(map(str, self.widths))}, {activations}, {self.parameterization}"

    def _initialised(self) -> list[torch.nn.Parameter]:
        return [*self.weights, *(() if self.readout is None else (self.readout,))]

    def _last_layer(self, x: Tensor) -> Tensor:
        if not is_tracing():  # in a trace the comparisons themselves would be recorded
            require_input(x, self.in_features, self.weights[0])
        for k, (weight, sigma) in enumerate(zip(self.weights, self._functions, strict=True)):
            x = sigma(torch.nn.functional.linear(x, weight)) - self.means[k]
            if self.parameterization == "ntk":
                x = x / math.sqrt(self.widths[k])
        return x

    # -- activations: made of the network, not part of the state -------------------------------------------------------

    def _prepare(self) -> None:
        """Activations in torch, and once through each of them: what they keep for a type no compiler can trace."""
        self._functions: tuple[Callable[[Tensor], Tensor], ...] = tuple(
            layer.activation.function("torch") for layer in self.network.layers
        )
        with torch.enable_grad():
            zero = torch.zeros((), dtype=self.means.dtype, requires_grad=True)
            for sigma in self._functions:
                torch.autograd.grad(sigma(zero), zero)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ExplicitModule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._prepare()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_functions"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._prepare()


def explicit_module(
    net: ExplicitNetwork,
    width: int | Sequence[int],
    in_features: int,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    seed: int = 0,
    readout: int | None = 1,
    parameterization: str = "ntk",
) -> ExplicitModule:
    """An explicit network as a module of torch, with random weights: formulas at ``ExplicitModule``.

    As the widths grow, features(x) @ features(y).T tends to ``explicit_ck`` and the tangent kernel, at the learning
    rates of ``parameter_groups``, to ``explicit_ntk``; the errors of one network are of order 1/sqrt(width).

    Args:
        net: centred at ``net.tau0``; a hidden layer whose learning rate is 0 is frozen (``requires_grad`` False).
        width: of all hidden layers, or one for each.
        in_features: p, the number of inputs.
        dtype: "float32" or "float64".
        device: "cpu", "cuda" or "cuda:N".
        seed: a non-negative integer; see ``ExplicitModule.initialise``.
        readout: the number of outputs, or None for a module that gives the features.
        parameterization: "ntk", with factors 1/sqrt(d) in the network, or "standard", with them in the weights.

    Raises:
        InputError: bad arguments; an activation without a torch form.
        MemoryLimitError: the weights do not fit into memory.
    """
    if not isinstance(net, ExplicitNetwork):
        raise InputError(f"net must be an ExplicitNetwork, such as a design's network; got {type(net).__name__}")
    widths = _widths(width, net.depth)
    in_features = require_count(in_features, "in_features", 1)
    outputs = None if readout is None else require_count(readout, "readout, the number of outputs,", 1)
    if parameterization not in _PARAMETERIZATIONS:
        raise InputError(f'parameterization must be "ntk" or "standard"; got {parameterization!r}')
    tensor_type, place = torch_dtype(dtype), torch_device(device)
    require_count(seed, "seed", 0)
    _require_torch_forms(net)
    sizes = [a * b for a, b in itertools.pairwise((in_features, *widths, outputs or 0))]
    if place.type == "cpu":
        require_memory(sum(sizes) * tensor_type.itemsize, "the weights", "take a smaller width, or float32")
    module = ExplicitModule(net, widths, in_features, outputs, parameterization, tensor_type, place)
    return module.initialise(seed)


def _widths(width: Any, depth: int) -> tuple[int, ...]:
    if not isinstance(width, Sequence) or isinstance(width, str):
        return (require_count(width, "width", 1),) * depth
    if len(width) != depth:
        raise InputError(f"width must be one number or {depth}, one for each hidden layer; got {len(width)}")
    return tuple(require_count(w, "a width", 1) for w in width)


def _require_torch_forms(net: ExplicitNetwork) -> None:
    for k, layer in enumerate(net.layers, 1):
        try:
            layer.activation.function("torch")
        except InputError as error:
            raise InputError(f"the activation of layer {k} has no form in torch: {error}") from error
