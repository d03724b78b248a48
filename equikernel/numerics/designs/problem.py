"""A design as equations in the parameters of all layers, for many parameter vectors at once.

The unknowns are the layers' parameters, logarithms where they must be positive, and the logarithms of the learning
rates where these are free. The equations are the coefficients, relative to the target's, and for every hidden layer
whose scale is free the gauge tau_l = tau_0: a factor put into a layer and taken out of the next one's input changes
nothing. A coefficient that is zero is a sum of squares of d1 or d2, a double root: where it is not zero by the layers'
symmetry, the equations d1 = 0 or d2 = 0 of single layers are added, which are linear in the parameters of a linear
family.
"""

from __future__ import annotations

import itertools
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.numerics.designs.functionals import (
    GridLayer,
    LayerModel,
    has_no_scale,
    layer_model,
    layer_slopes,
    reflection,
)
from equikernel.numerics.designs.targets import Target
from equikernel.theory.equations import ExplicitState, explicit_input, explicit_layer
from equikernel.theory.families import LayerFamily
from equikernel.theory.next_order import ThirdOrder, explicit_third_order, input_third_order

__all__ = ["DesignProblem", "exponentiated"]

FloatArray = npt.NDArray[np.float64]
_LOGARITHMS = (-200.0, 50.0)  # of positive unknowns: beyond, they are 0 or no numbers to compute with


def exponentiated(unknowns: FloatArray, positive: npt.NDArray[np.bool_]) -> FloatArray:
    """The numbers themselves (B, n), of which the unknowns flagged in ``positive`` (n,) are the logarithms."""
    return np.where(positive, np.exp(np.clip(np.where(positive, unknowns, 0.0), *_LOGARITHMS)), unknowns)


@dataclass(frozen=True)
class DesignProblem:
    """The equations of a family of networks for a target.

    Attributes:
        target: the coefficients.
        layers: the formula of every layer.
        free_rates: whether the learning rates of the hidden layers are unknowns too.
        cancelled: moments that are to vanish, ("d1", k) or ("d2", k) of the layer with index k.
    """

    target: Target
    layers: tuple[LayerFamily, ...]
    free_rates: bool = False
    cancelled: tuple[tuple[str, int], ...] = ()

    @property
    def depth(self) -> int:
        """The number of hidden layers."""
        return len(self.layers)

    @cached_property
    def tau0(self) -> float:
        """Standard deviation of the data."""
        return float(self.target.tau0)

    @cached_property
    def gauged(self) -> tuple[bool, ...]:
        """Of every hidden layer but the last, whether its scale is free and pinned to tau0."""
        pairs = itertools.pairwise(self.layers)
        return tuple(bool(layer.scaling) and has_no_scale(following) for layer, following in pairs)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of parameters of each layer."""
        return tuple(len(layer.parameters) for layer in self.layers)

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return sum(self.sizes) + (self.depth if self.free_rates else 0)

    @property
    def is_cheap(self) -> bool:
        """Whether no layer's moments are sums over a grid, so that thousands of starts take a second."""
        return not any(isinstance(model, GridLayer) for model in self.models)

    @property
    def equations(self) -> int:
        """The number of equations, gauge included, but for coefficients that vanish by symmetry."""
        return sum(not self.target.vanishes(name) for name in self.target.fields) + self.conditions

    @property
    def conditions(self) -> int:
        """The number of equations that are not coefficients, the last ones: gauges, and moments that are to vanish."""
        return sum(self.gauged) + len(self.cancelled)

    def cancelled_unit(self, name: str, layer: int) -> float:
        """What a moment that is to vanish is relative to: d1 <= tau_out/tau_in, d2 <= sqrt(2) tau_out/tau_in^2."""
        out = self.target.diagonal**0.5 if layer == self.depth - 1 else self.tau0
        return out / self.tau0 ** {"d1": 1, "d2": 2}[name]

    @cached_property
    def positive(self) -> npt.NDArray[np.bool_]:
        """Which unknowns are logarithms, (unknowns,)."""
        flags = [bool(p.is_positive) for layer in self.layers for p in layer.parameters]
        return np.array(flags + [True] * (self.depth if self.free_rates else 0))

    @cached_property
    def models(self) -> tuple[LayerModel, ...]:
        """The moments of every layer."""
        known = (True, *self.gauged)
        return tuple(
            layer_model(layer, self.tau0 if fixed else None) for layer, fixed in zip(self.layers, known, strict=True)
        )

    def parameters(self, unknowns: FloatArray) -> tuple[tuple[FloatArray, ...], FloatArray]:
        """The parameters of every layer, (B, k_l) each, and the learning rates (B, L + 1)."""
        plain = exponentiated(unknowns, self.positive)
        cuts = np.cumsum(self.sizes)
        *layers, rates = np.split(plain, cuts, axis=1)
        ones = np.ones((len(plain), 1))
        rates = rates if self.free_rates else np.repeat(ones, self.depth, axis=1)
        return tuple(layers), np.concatenate([rates, ones], axis=1)

    def states(self, unknowns: FloatArray) -> tuple[ExplicitState, ThirdOrder, list[Any]]:
        """Coefficients and third-order terms, arrays (B,), and the relative residuals of the conditions."""
        layers, rates = self.parameters(unknowns)
        tau = np.full(len(unknowns), self.tau0)
        gauges, vanishing = [], []
        with np.errstate(all="ignore"):  # a search may stray; what is not finite is given up
            state, terms = explicit_input(self.tau0**2, rates[:, 0]), input_third_order(rates[:, 0])
            for k, (model, parameters) in enumerate(zip(self.models, layers, strict=True)):
                m = model.moments(parameters, tau)
                rate = rates[:, k + 1]
                terms = explicit_third_order(state, terms, m, rate, ntk=self.target.ntk)
                state = explicit_layer(state, m.V, m.d1, m.d2, m.h, m.v, rate)
                vanishing += [getattr(m, n) / self.cancelled_unit(n, k) for n, j in self.cancelled if j == k]
                if k < self.depth - 1:
                    if self.gauged[k]:
                        gauges.append(m.V / self.tau0**2 - 1.0)
                    else:
                        tau = np.sqrt(np.asarray(m.V))
        return state, terms, [*gauges, *vanishing]

    def residuals(self, unknowns: FloatArray) -> FloatArray:
        """The equations, (B, equations): relative differences, NaN where there is no value."""
        state, _, conditions = self.states(unknowns)
        return self._residuals(state, conditions, len(unknowns))

    def _residuals(self, state: ExplicitState, conditions: list[Any], count: int) -> FloatArray:
        target, units = self.target.floats, self.target.units
        with np.errstate(all="ignore"):
            columns = [
                (getattr(state, field) - target[name]) / units[name] for name, (field, _) in self.target.fields.items()
            ]
        columns += conditions
        return np.stack([np.broadcast_to(np.asarray(c, dtype=np.float64), (count,)) for c in columns], axis=1)

    def residuals_and_differences(self, unknowns: FloatArray) -> FloatArray:
        """``residuals`` and ``differences`` side by side."""
        state, terms, conditions = self.states(unknowns)
        equations = self._residuals(state, conditions, len(unknowns))
        return np.concatenate([equations, self._differences(terms, len(unknowns))], axis=1)

    def differences(self, unknowns: FloatArray) -> FloatArray:
        """Third-order terms less the target's, relative to the kernel's diagonal, (B, terms)."""
        return self._differences(self.states(unknowns)[1], len(unknowns))

    def _differences(self, terms: ThirdOrder, count: int) -> FloatArray:
        kernels = {"ck": ("ck",), "ntk": ("ntk",), "both": ("ck", "ntk")}[self.target.match]
        # mixed s chi, cubic s^3, square s^2 chi, norms chi^3, diagonal chi: powers of tau0^2
        powers = np.array([2, 3, 3, 3, 1])
        kept = np.array([1]) if self.target.on_sphere else np.arange(5)
        columns = []
        for kernel in kernels:
            wanted = np.array(astuple(getattr(self.target.third_order, kernel)), dtype=np.float64)
            found = np.stack(
                [np.broadcast_to(np.asarray(x, dtype=np.float64), (count,)) for x in astuple(getattr(terms, kernel))],
                axis=1,
            )
            diagonal = self.target.floats["gamma2" if kernel == "ck" else "kappa2"]
            with np.errstate(all="ignore"):
                columns.append(((found - wanted) * self.tau0 ** (2 * powers) / diagonal)[:, kept])
        return np.concatenate(columns, axis=1)

    def lipschitz(self, unknowns: FloatArray) -> FloatArray:
        """The product over layers of max |sigma'| within 4 standard deviations of its input, (B,)."""
        layers, _ = self.parameters(unknowns)
        product, tau = np.ones(len(unknowns)), np.full(len(unknowns), self.tau0)
        for k, (layer, parameters) in enumerate(zip(self.layers, layers, strict=True)):
            product *= np.array([layer_slopes(layer, row[None], t)[0] for row, t in zip(parameters, tau, strict=True)])
            if k < self.depth - 1 and not self.gauged[k]:
                tau = np.sqrt(np.asarray(self.models[k].moments(parameters, tau).V))
        return product

    def scales(self, unknowns: FloatArray) -> list[float]:
        """The standard deviations of the layers' inputs, for one vector of unknowns."""
        layers, _ = self.parameters(unknowns[None])
        scales = [self.tau0]
        for k in range(self.depth - 1):
            V = self.models[k].moments(layers[k], np.array(scales[-1:])).V
            scales.append(self.tau0 if self.gauged[k] else float(np.sqrt(V)[0]))
        return scales

    def canonical(self, unknowns: FloatArray) -> FloatArray:
        """The mirror image of a solution (unknowns,) with d2 >= 0 and, where the family allows, d1 >= 0 in every layer.

        sigma(x) -> -sigma(x) and sigma(x) -> sigma(-x) change no kernel, since the weights are symmetric.
        """
        result, first, tau = unknowns.copy(), 0, np.array([self.tau0])
        for k, (model, layer, size) in enumerate(zip(self.models, self.layers, self.sizes, strict=True)):
            part = slice(first, first + size)
            plain = self.parameters(result[None])[0][k]
            m = model.moments(plain, tau)
            d1, d2 = float(np.squeeze(m.d1)), float(np.squeeze(m.d2))
            flat = abs(d2) * float(tau[0]) <= 1e-9 * abs(d1)
            scaling = np.array([p in layer.scaling for p in layer.parameters])
            if (d1 if flat else d2) < 0 and scaling.any() and not self.positive[part][scaling].any():
                result[part] = np.where(scaling, -result[part], result[part])
                d1 = -d1
            M = reflection(layer)
            if d1 < 0 and not flat and M is not None:
                result[part] = M @ result[part]
            first += size
            if k < self.depth - 1 and not self.gauged[k]:
                tau = np.sqrt(np.asarray(m.V))
        return result

    @cached_property
    def _even(self) -> npt.NDArray[np.bool_]:
        """Which unknowns are the weights of even functions."""
        flags: list[bool] = []
        for layer, size in zip(self.layers, self.sizes, strict=True):
            M = reflection(layer)
            flags += [False] * size if M is None else (np.diag(M) > 0).tolist()
        return np.array(flags + [False] * (self.unknowns - len(flags)))

    @property
    def _evenness(self) -> float:
        """The square root of the share that the second order has in the diagonal, at most 1."""
        names = [name for name in ("alpha3", "beta3") if name in self.target.fields]
        shares = [abs(self.target.floats[name]) / self.target.scales[name] for name in names]
        return float(min(1.0, *shares) ** 0.5)

    def starts(self, count: int, seed: int = 0) -> FloatArray:
        """Starting points, (count, unknowns): normal, with the scale of every layer that has one set right.

        Where the target is nearly odd, every other one has its even functions as small as the coefficients say.
        """
        rng = np.random.default_rng(seed)
        unknowns = rng.standard_normal((count, self.unknowns)) * np.where(self.positive, 0.7, 1.0)
        unknowns[::2, self._even] *= self._evenness
        layers, _ = self.parameters(unknowns)
        first, tau = 0, np.full(count, self.tau0)
        for k, (model, layer, parameters) in enumerate(zip(self.models, self.layers, layers, strict=True)):
            with np.errstate(all="ignore"):
                V = np.asarray(model.moments(parameters, tau).V)
            goal = self.tau0**2 if k < self.depth - 1 else self.target.diagonal
            factor = np.sqrt(goal / np.where(V > 0, V, goal))
            for j, p in enumerate(layer.parameters):
                if p in layer.scaling:
                    column = unknowns[:, first + j]
                    unknowns[:, first + j] = column + np.log(factor) if p.is_positive else column * factor
            if k < self.depth - 1 and not self.gauged[k]:
                tau = np.sqrt(np.where(V > 0, V, 1.0))
            first += len(layer.parameters)
        return unknowns
