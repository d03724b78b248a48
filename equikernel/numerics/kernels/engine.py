"""Exact kernels in blocks: what a network is, its samples, and every pair of two sets of samples.

An ``Engine`` describes a network; ``prepare`` does what is linear in the number of samples, ``block`` every pair of two
prepared sets. All that comes out is the same to the last bit for every number of threads: tiles are fixed, and each is
the work of one thread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import ConvergenceError, UnstableError
from equikernel.numerics.absolute import absolute_form
from equikernel.numerics.blas import serial_blas
from equikernel.numerics.centring import centring_scale
from equikernel.numerics.data import row_norms
from equikernel.numerics.initialisation.coefficients import goe_coefficients
from equikernel.numerics.kernels.diagonal import sample_variances
from equikernel.numerics.kernels.effective import EffectiveTable, effective_table
from equikernel.numerics.kernels.samples import Scales, scales_of
from equikernel.numerics.kernels.table import HermiteTable, hermite_table
from equikernel.numerics.moments import gaussian_moments, require_derivative, without_constant
from equikernel.theory.activation import Activation
from equikernel.theory.equations import ntk_entry
from equikernel.theory.models import DEQ, ExplicitNetwork, exact_number, require_trained

__all__ = ["Engine", "Prepared", "not_a_contraction", "not_settled"]

FloatArray = npt.NDArray[np.float64]


def not_a_contraction(name: str, what: str, rate: float) -> UnstableError:
    """The error for sigma_a2 E[phi' phi'] >= 1."""
    return UnstableError(
        f"sigma_a2 E[phi'(u) phi'(v)] = {rate:.6g} >= 1 for {what} with {name}: the kernel equation is not a "
        "contraction there and the neural tangent kernel diverges; reduce sigma_a2"
    )


def not_settled(name: str, what: str) -> ConvergenceError:
    """The error for a pair whose equation did not converge."""
    return ConvergenceError(
        f"the kernel equation of {what} did not converge for {name} (sigma_a2 E[phi'(u) phi'(v)] is close to 1 or "
        "above); reduce sigma_a2"
    )


@dataclass(frozen=True)
class Prepared:
    """Samples with all that is known of each of them alone.

    Attributes:
        X: data, (n, p).
        norms: ||x_i||^2, (n,).
        layers: the scales at the layer of a DEQ, or at every layer of an explicit network.
        keys: numbers that agree for equal samples (and, if all activations are odd, for opposite ones), (n,).
        signs: with which sample and key agree, (n,).
        first: number of the first sample, for errors.
    """

    X: FloatArray
    norms: FloatArray
    layers: tuple[Scales, ...]
    keys: npt.NDArray[np.uint64]
    signs: FloatArray
    first: int = 0


@dataclass(frozen=True)
class _Layer:
    """An activation, less a large constant if it has one, and the constant that centres it.

    Attributes:
        feedback: sigma_a2 of symmetric hidden weights, through which the layer acts back on itself; else 0.
    """

    activation: Activation
    centre: float
    feedback: float = 0.0

    @property
    def table(self) -> HermiteTable:
        if self.feedback:
            return effective_table(self.activation, self.feedback, self.centre)
        return hermite_table(self.activation)

    @property
    def bend(self) -> float:
        """b^2 where phi = a x + b |x| + c, else 0."""
        form = None if self.feedback else absolute_form(self.activation)
        return form.b**2 if form else 0.0


@dataclass(frozen=True)
class Engine:
    """A network whose kernels are wanted.

    Attributes:
        layers: one for a DEQ, L for an explicit network.
        tau: the standard deviation at which the (first) layer is centred.
        sigma_a2: hidden variance; None for an explicit network.
        sigma_b2: input variance; 1 for an explicit network.
        trained: "a", "aA" or "aAB"; of no meaning for an explicit network, all of whose layers are trained.
        ck: whether the conjugate kernel is wanted.
        ntk: whether the neural tangent kernel is wanted.
        rates: of an explicit network, the learning rates of its L layers and of the readout.
    """

    layers: tuple[_Layer, ...]
    tau: float
    sigma_a2: float | None
    sigma_b2: float
    trained: str = "aA"
    ck: bool = True
    ntk: bool = True
    rates: tuple[float, ...] = ()
    odd: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "odd", all(layer.activation.odd_up_to_constant for layer in self.layers))

    @classmethod
    def of_deq(cls, deq: DEQ, tau0: Any, *, trained: str = "aA", ck: bool = True, ntk: bool = True) -> Engine:
        """The engine of a DEQ centred for data of mean squared norm tau0^2.

        Raises:
            InputError: bad arguments; an activation with jumps when the NTK needs E[phi'^2].
            SolutionError: no stable fixed point at this tau0.
        """
        require_trained(trained)
        if ntk and trained != "a":
            require_derivative(deq.activation)
        if deq.weights == "goe" and deq.sigma_a2:
            layer, tau = _self_centred(deq, tau0)
        else:
            tau = centring_scale(deq, tau0)
            layer = _centred(deq.activation, tau)
        return cls((layer,), tau, float(deq.sigma_a2), float(deq.sigma_b2), trained, ck, ntk)

    @classmethod
    def of_explicit(cls, net: ExplicitNetwork, *, ck: bool = True, ntk: bool = True) -> Engine:
        """The engine of an explicit network, every layer centred at its own input scale.

        Raises:
            InputError: a layer with jumps when the NTK is wanted.
        """
        layers: list[_Layer] = []
        tau = net.tau0
        for layer in net.layers:
            if ntk:
                require_derivative(layer.activation)
            layers.append(_centred(layer.activation, tau))
            tau = float(gaussian_moments(layers[-1].activation, tau).V.value) ** 0.5
        return cls(tuple(layers), net.tau0, None, 1.0, "aA", ck, ntk, net.learning_rates)

    @property
    def name(self) -> str:
        """The activations, for messages."""
        return ", ".join(layer.activation.name for layer in self.layers)

    @property
    def sigmas(self) -> tuple[float, float]:
        """(sigma_a2, sigma_b2) of the pair equation; a layer of an explicit network only evaluates: (0, 1)."""
        return self.sigma_a2 or 0.0, self.sigma_b2

    @property
    def needs_slope(self) -> bool:
        """Whether the diagonal of E[phi'(u) phi'(v)] is wanted."""
        return self.ntk and (self.sigma_a2 is None or self.trained != "a")

    def prepare(self, X: FloatArray, first: int = 0) -> Prepared:
        """All that is linear in the number of samples; the bits of a sample do not depend on the others' number.

        Args:
            X: data, (n, p).
            first: number of the first sample, for errors.

        Raises:
            NoFixedPointError: a sample (named) for which no variance solves the diagonal equation.
        """
        norms = row_norms(X)
        with serial_blas():
            layers = self._scales(norms, first)
        keys, signs = _keys(X, odd=self.odd)
        return Prepared(X, norms, layers, keys, signs, first)

    def _scales(self, norms: FloatArray, first: int) -> tuple[Scales, ...]:
        """The samples as every layer sees them."""
        if self.sigma_a2 is not None:
            layer, bias = self.layers[0], self.sigma_b2 * norms
            table = layer.table
            if isinstance(table, EffectiveTable):
                q = table.sample_variances(bias, first)
            else:
                q = sample_variances(table, layer.centre, self.sigma_a2, bias, self.tau * self.tau, first)
            return (scales_of(table, q, layer.centre),)
        found: list[Scales] = []
        q = norms
        for layer in self.layers:
            found.append(scales_of(layer.table, q, layer.centre))
            q = found[-1].second_moment
        return tuple(found)

    def kernels(self, G: Sequence[Any], G_dot: Sequence[Any], s: Any) -> tuple[Any, Any]:
        """(CK, NTK) from G and E[phi'(u) phi'(v)] of every layer and <x_i, x_j>: arrays of one shape, or numbers."""
        if self.sigma_a2 is not None:
            if not self.ntk:
                return G[0], None
            with np.errstate(invalid="ignore"):  # jumps, where only the readout is trained
                return G[0], ntk_entry(G[0], G_dot[0], s, self.sigma_a2, self.sigma_b2, self.trained)
        if not self.ntk:
            return G[-1], None
        theta = self.rates[0] * s
        for rate, value, slope in zip(self.rates[1:], G, G_dot, strict=True):
            theta = rate * value + theta * slope
        return G[-1], theta

    def diagonal(self, samples: Prepared) -> tuple[FloatArray, FloatArray | None]:
        """The kernels of every sample with itself, (n,) each."""
        G = [scales.second_moment for scales in samples.layers]
        G_dot = [scales.slope_energy for scales in samples.layers]
        ck, ntk = self.kernels(G, G_dot, samples.norms)
        return ck, ntk

    def rate(self, G_dot: FloatArray) -> FloatArray:
        """sigma_a2 E[phi'(u) phi'(v)]: what must stay below 1; 0 for an explicit network."""
        return np.zeros_like(G_dot) if self.sigma_a2 is None else self.sigma_a2 * G_dot

    def require_stable(self, samples: Prepared) -> None:
        """Refuse samples whose own NTK diverges, if that is wanted.

        Raises:
            UnstableError: names the first one.
        """
        if not self.needs_slope:
            return
        rates = self.rate(samples.layers[0].slope_energy)
        bad = np.flatnonzero(rates >= 1.0)
        if len(bad):
            raise not_a_contraction(self.name, f"sample {samples.first + bad[0]}", float(rates[bad[0]]))


def _self_centred(deq: DEQ, tau0: Any) -> tuple[_Layer, float]:
    """The layer of a DEQ with GOE weights, and tau = sqrt(Var g) at samples of squared norm tau0^2.

    Raises:
        InputError, SolutionError: as ``solve``.
    """
    tau0 = float(exact_number(tau0, "tau0", positive=True))
    found = goe_coefficients(deq.activation, float(deq.sigma_a2), float(deq.sigma_b2), tau0, "a")
    return _Layer(found.activation, found.centre, float(deq.sigma_a2)), math.sqrt(found.q)


def _centred(activation: Activation, tau: float) -> _Layer:
    shifted = without_constant(activation, tau)
    return _Layer(shifted, float(gaussian_moments(shifted, tau).mean.value))


def _keys(X: FloatArray, *, odd: bool) -> tuple[npt.NDArray[np.uint64], FloatArray]:
    """Equal samples have equal keys; for odd networks opposite ones too, with opposite signs."""
    signs = np.ones(len(X))
    if odd:
        leading = X[np.arange(len(X)), (X != 0).argmax(axis=1)]
        signs = np.where(leading < 0, -1.0, 1.0)
    multipliers = np.random.default_rng(0).integers(0, 2**63, X.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    keys = np.empty(len(X), dtype=np.uint64)
    step = max(1, 2**18 // X.shape[1])
    for start in range(0, len(X), step):
        rows = X[start : start + step] * signs[start : start + step, None] + 0.0  # -0 becomes 0
        bits = rows.view(np.uint64)
        bits ^= bits >> np.uint64(29)  # else the signs, being the highest bits, would cancel in an even number
        keys[start : start + step] = (bits * multipliers).sum(axis=1, dtype=np.uint64)
    return keys, signs
