"""The DEQ-Transformer: one weight-tied block of causal self-attention, iterated to its equilibrium."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernel.validation.torch_arithmetic import is_tracing as _checked  # noqa: F401 - says what to install without torch

# isort: split
import torch
from torch import Tensor
from torch.nn import functional

from equikernel.errors import InputError
from equikernel.theory.initialisation import FAMILIES
from equikernel.validation.deq.options import SolverOptions, require_choice, require_count
from equikernel.validation.deq.weights import draw_hidden_weights
from equikernel.validation.devices import torch_device, torch_dtype
from equikernel.validation.paper.language.equilibrium import Equilibrium

__all__ = ["NORMS", "OUTPUTS", "DEQTransformer", "Shape", "hidden_matrix"]

NORMS = ("pre", "post")
OUTPUTS = ("softmax", "tied", "adaptive")
_WIDENING = 4  # of the feed-forward layer
_CUTOFFS = (0.075, 0.15, 0.75)  # of the vocabulary: those usual for WikiText-103, 20,000, 40,000 and 200,000 words
_DIVISION = 2.0  # by which the adaptive softmax narrows from one cluster to the next
_LEAST_ADAPTIVE = 16  # words, and features


@dataclass(frozen=True)
class Shape:
    """The sizes of a DEQ-Transformer, and what the talk leaves open.

    Attributes:
        d_model: d, features of a token. heads: of the attention; they divide d.
        segment: T, tokens of a sequence.
        norm: "pre" or "post", where the layer normalisations are (see ``DEQTransformer``).
        output: "softmax" with weights of its own, "tied" to the embedding, or "adaptive".

    Raises:
        InputError: an argument outside its domain.
    """

    d_model: int = 64
    heads: int = 4
    segment: int = 32
    norm: str = "pre"
    output: str = "softmax"

    def __post_init__(self) -> None:
        for name, least in (("d_model", 2), ("heads", 1), ("segment", 2)):
            require_count(getattr(self, name), name, least)
        if self.d_model % self.heads:
            raise InputError(f"d_model must be a multiple of heads; got {self.d_model} and {self.heads}")
        require_choice(self.norm, "norm", NORMS)
        require_choice(self.output, "output", OUTPUTS)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def hidden_matrix(
    stream: np.random.Generator, rows: int, columns: int, family: str, scale: float
) -> NDArray[np.float64]:
    """A matrix of square blocks, each drawn from the family on its own.

    Formula: W = scale/sqrt(columns) (A_ij), A_ij of ``draw_hidden_weights`` with the smaller side as width: entries off
    the diagonals of the blocks have variance scale^2/columns in all families, which draw the same normal numbers.

    Args:
        stream: yields them, block by block.
        rows: outputs.
        columns: inputs; one of the two is a multiple of the other.
        family: "iid", "orthogonal" or "goe".
        scale: sigma, the talk's sqrt(V).
    """
    width = min(rows, columns)
    blocks = [
        [draw_hidden_weights(stream, width, family) for _ in range(columns // width)] for _ in range(rows // width)
    ]
    return np.asarray(np.block(blocks) * (scale / math.sqrt(columns)))


class DEQTransformer(torch.nn.Module):
    """A language model: p(next token | tokens) of every place of a segment, from the equilibrium of one block.

    Formula: tokens are embedded, x = E[token], and z = f(z; x) is solved for all places of a segment together.

        attention(n): q, k, v = n W_qkv^T + x U^T, weights softmax(q.k/sqrt(d/heads) + b(distance)) over this and
            earlier places, heads side by side, times W_o^T;
        feed-forward(n): gelu(n W_1^T + b_1) W_2^T + b_2, four times as wide inside;
        "pre":  h = x + attention(N_1(z)),     f = h + feed-forward(N_2(h));
        "post": h = N_1(z + attention(z)),     f = N_2(h + feed-forward(h)).

    N_1, N_2, and N_3 before the output, are layer normalisations with gains and biases. In "pre" the input takes the
    place of the residual connection, z = x + F(z), as in the talk's z = phi(W z) + x: where W is small, f is nearly
    constant. "post" is the block of [Bai, Kolter and Koltun, Deep equilibrium models, 2019]: where W is small it is
    nearly the identity on normalised states, and its equilibrium is reached slowly.

    The weights that act on the state, W_qkv, W_o, W_1 and W_2, are of the family and of scale sigma
    (``hidden_matrix``); E, U and the output's weights are i.i.d. of variance 1, 1/d and 1/d in all families; b starts
    at minus the distance times 2^(-8 k/heads) for head k [Press, Smith and Lewis, Train short, test long, 2022]; other
    biases at 0, gains at 1.

    f is causal: f(z; x) at a place does not depend on later ones, to the bit. Its equilibrium is so to the accuracy of
    the solve, since all places of a segment stop together, and accelerated methods combine whole segments.

    Attributes:
        shape: its sizes.
        words: of the vocabulary.
        equilibrium: how the last solves went; options may be replaced.
    """

    def __init__(
        self,
        words: int,
        shape: Shape,
        family: str,
        scale: float,
        seed: int,
        options: SolverOptions,
        *,
        adjoint_options: SolverOptions | None = None,
        dtype: str | torch.dtype = "float32",
        device: str | torch.device = "cpu",
    ) -> None:
        """Draw the weights, in float64 and from NumPy's generator, so that every device has the same.

        Args:
            words: of the vocabulary, 2 or more; for an adaptive output 16 or more, and as many features.
            shape: sizes.
            family: of the hidden weights, "iid", "orthogonal" or "goe".
            scale: sigma > 0.
            seed: of all weights.
            options: of the forward solves; of the backward ones too, unless ``adjoint_options`` are given.
            adjoint_options: of the backward solves.
            dtype: "float32" or "float64".
            device: "cpu", "cuda" or "cuda:N".

        Raises:
            InputError: an argument outside its domain.
        """
        super().__init__()
        self.shape, self.words = shape, require_count(words, "words", 2)
        require_choice(family, "weights", FAMILIES)
        if not 0.0 < scale < math.inf:
            raise InputError(f"the scale of the weights must be a positive number; got {scale!r}")
        if shape.output == "adaptive" and min(words, shape.d_model) < _LEAST_ADAPTIVE:
            raise InputError(
                f"an adaptive softmax needs {_LEAST_ADAPTIVE} or more words and features; got {words} and "
                f"{shape.d_model}: take a plain one"
            )
        place: dict[str, Any] = {"dtype": torch_dtype(dtype), "device": torch_device(device)}
        self.equilibrium = Equilibrium(options, adjoint_options or options)
        stream, d, wide = np.random.default_rng(seed), shape.d_model, _WIDENING * shape.d_model

        def parameter(values: NDArray[np.float64]) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(values)).to(**place))

        self.qkv = parameter(hidden_matrix(stream, 3 * d, d, family, scale))
        self.attended = parameter(hidden_matrix(stream, d, d, family, scale))
        self.widen = parameter(hidden_matrix(stream, wide, d, family, scale))
        self.narrow = parameter(hidden_matrix(stream, d, wide, family, scale))
        self.widen_bias, self.narrow_bias = parameter(np.zeros(wide)), parameter(np.zeros(d))
        slopes = 2.0 ** (-8.0 * np.arange(1, shape.heads + 1) / shape.heads)
        self.distance_bias = parameter(-slopes[:, None] * np.arange(shape.segment))
        self.embedding = parameter(stream.standard_normal((words, d)))
        self.injection = parameter(stream.standard_normal((3 * d, d)) / math.sqrt(d))
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(d, **place) for _ in range(3))
        self.output = self._output(stream, place)

    def _output(self, stream: np.random.Generator, place: dict[str, Any]) -> torch.nn.Module | None:
        if self.shape.output == "tied":
            return None
        d = self.shape.d_model
        if self.shape.output == "adaptive":
            cutoffs = sorted({max(1, int(part * self.words)) for part in _CUTOFFS})
            output: torch.nn.Module = torch.nn.AdaptiveLogSoftmaxWithLoss(d, self.words, cutoffs, _DIVISION, **place)
        else:
            output = torch.nn.Linear(d, self.words, **place)
        with torch.no_grad():
            for weight in output.parameters():
                drawn = stream.standard_normal(tuple(weight.shape)) / math.sqrt(weight.shape[-1])
                weight.copy_(torch.from_numpy(drawn if weight.ndim == 2 else np.zeros(len(weight))))
        return output

    def forward(self, tokens: Tensor) -> Tensor:
        """The normalised equilibrium, (n, t, d), of segments of t <= T tokens, (n, t)."""
        x = functional.embedding(tokens, self.embedding)
        normalised: Tensor = self.norms[2](self.equilibrium.solve(self.block(x), x))
        return normalised

    def loss(self, tokens: Tensor) -> Tensor:
        """Minus log p of the tokens 1 to t of segments of t + 1 tokens, (n, t + 1), each from those before: (n, t)."""
        states, wanted = self(tokens[:, :-1]), tokens[:, 1:]
        if isinstance(self.output, torch.nn.AdaptiveLogSoftmaxWithLoss):
            found: Tensor = -self.output(states.flatten(0, 1), wanted.flatten()).output
        else:
            found = functional.cross_entropy(self._logits(states).flatten(0, 1), wanted.flatten(), reduction="none")
        return found.view(wanted.shape)

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """Logarithms of p, of every word after each of the tokens (n, t): (n, t, words)."""
        states = self(tokens)
        if isinstance(self.output, torch.nn.AdaptiveLogSoftmaxWithLoss):
            return self.output.log_prob(states.flatten(0, 1)).view(*tokens.shape, self.words)
        return functional.log_softmax(self._logits(states), dim=-1)

    def _logits(self, states: Tensor) -> Tensor:
        if self.output is None:
            return functional.linear(states, self.embedding) / math.sqrt(self.shape.d_model)
        logits: Tensor = self.output(states)
        return logits

    def block(self, x: Tensor) -> Any:
        """The function z -> f(z; x) of states (n, t, d) for embedded tokens x."""
        injected, biases = functional.linear(x, self.injection), self._attention_bias(x.shape[1])
        first, second = self.norms[0], self.norms[1]

        def pre(z: Tensor) -> Tensor:
            h = x + self._attention(first(z), injected, biases)
            return h + self._feed_forward(second(h))

        def post(z: Tensor) -> Tensor:
            h = first(z + self._attention(z, injected, biases))
            normalised: Tensor = second(h + self._feed_forward(h))
            return normalised

        return pre if self.shape.norm == "pre" else post

    def _attention_bias(self, length: int) -> Tensor:
        """What is added to the logits of the attention, (heads, t, t): b(i - j), and minus infinity ahead."""
        place = torch.arange(length, device=self.distance_bias.device)
        distance = place[:, None] - place[None, :]
        return self.distance_bias[:, distance.clamp_min(0)].masked_fill(distance < 0, -math.inf)

    def _attention(self, n: Tensor, injected: Tensor, biases: Tensor) -> Tensor:
        samples, length, d = n.shape
        heads = self.shape.heads
        together = (functional.linear(n, self.qkv) + injected).view(samples, length, 3, heads, d // heads)
        q, k, v = together.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.mT / math.sqrt(d // heads) + biases, dim=-1)
        return functional.linear((weights @ v).transpose(1, 2).reshape(n.shape), self.attended)

    def _feed_forward(self, n: Tensor) -> Tensor:
        inside = functional.gelu(functional.linear(n, self.widen, self.widen_bias))
        return functional.linear(inside, self.narrow, self.narrow_bias)
