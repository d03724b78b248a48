"""The Gaussian moments of a layer as functions of its parameters, for many parameters at once.

Three ways, by what the family allows: sums of fixed functions, whose moments are linear and quadratic forms (exact to
rounding); closed forms in the parameters; and values on a grid of the input, which err by about the square of its step
where there are kinks and only serve to find starting points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.special
import sympy as sp

from equikernel.errors import ActivationError, NoClosedFormError
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.quadrature import rule
from equikernel.theory.activation import Activation
from equikernel.theory.closed_forms import TAU, ClosedForms, closed_form_moments
from equikernel.theory.families import LayerFamily
from equikernel.theory.grammar import parse
from equikernel.theory.next_order import LayerMoments
from equikernel.theory.program import X
from equikernel.theory.walk import Walk

__all__ = [
    "GridLayer",
    "LayerModel",
    "LinearLayer",
    "has_no_scale",
    "jumps",
    "layer_model",
    "layer_moments",
    "layer_slopes",
    "reflection",
]

FloatArray = npt.NDArray[np.float64]
_GRID = np.linspace(-9.0, 9.0, 361)
_SCALE = sp.Symbol("scale", positive=True)  # tau where a formula names it, which the derivatives in tau leave alone
_MOST_SYMBOLS = 400  # operations of closed forms worth walking for every iteration

_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    sp.exp: np.exp,
    sp.log: np.log,
    sp.sqrt: np.sqrt,
    sp.sin: np.sin,
    sp.cos: np.cos,
    sp.tan: np.tan,
    sp.sinh: np.sinh,
    sp.cosh: np.cosh,
    sp.tanh: np.tanh,
    sp.atan: np.arctan,
    sp.asin: np.arcsin,
    sp.asinh: np.arcsinh,
    sp.erf: scipy.special.erf,
    sp.erfc: scipy.special.erfc,
    sp.erfi: scipy.special.erfi,
    sp.Abs: np.abs,
    sp.sign: np.sign,
    sp.Heaviside: lambda x, at_zero=0.5: np.heaviside(x, at_zero),
    sp.DiracDelta: lambda x, order=0: np.zeros_like(x),
    sp.Max: lambda *args: _fold(np.maximum, args),
    sp.Min: lambda *args: _fold(np.minimum, args),
}


def _fold(function: Callable[[Any, Any], Any], args: tuple[Any, ...]) -> Any:
    first, *others = args
    for other in others:
        first = function(first, other)
    return first


def array_walk(values: Mapping[sp.Symbol, Any]) -> Walk:
    """Expressions on float64 arrays."""
    return Walk(values, _FUNCTIONS, float)


class LayerModel(Protocol):
    """The moments of a layer from its parameters (B, k) and the standard deviations (B,) of its input."""

    def moments(self, parameters: FloatArray, tau: FloatArray) -> LayerMoments: ...


# -- one activation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Nodes:
    """y (N,) and its Gaussian weights, with the Hermite polynomials He_0 .. He_4 of y/tau, (5, N)."""

    y: FloatArray
    weight: FloatArray
    hermite: FloatArray

    @classmethod
    def of(cls, activation: Activation, tau: float) -> _Nodes:
        gaussian_moments(activation, tau)  # finds the level at which its quadrature converges, or refuses
        shared = rule(activation)
        nodes = shared.nodes(tau, shared.converged_level(tau) + 1)
        xi = np.asarray(nodes.y / tau, dtype=np.float64)
        weight = nodes.dy * np.exp(-(xi * xi) / 2) / (tau * math.sqrt(2 * math.pi))
        alive = weight > 0
        return cls(np.asarray(nodes.y[alive]), np.asarray(weight[alive]), _hermite(xi[alive]))


def _hermite(xi: FloatArray) -> FloatArray:
    square = xi * xi
    return np.array([np.ones_like(xi), xi, square - 1, (square - 3) * xi, (square - 6) * square + 3])


def _energies(square: Callable[[int], Any], slope: Callable[[int], Any], tau: Any) -> list[Any]:
    """V, h, h_q, v, v_q from k -> E[He_k(xi) phi_c^2] and k -> E[He_k(xi) phi'^2] (Stein's identity)."""
    q = tau * tau
    return [square(0), square(2) / (2 * q), square(4) / (4 * q * q), slope(0), slope(2) / (2 * q)]


def layer_moments(activation: Activation, tau: float) -> LayerMoments:
    """Moments to third order of one activation, to about 1e-13 of their natural size; v is inf where phi jumps."""
    nodes = _Nodes.of(activation, tau)
    values = np.asarray(activation(nodes.y))[None]
    slopes = np.asarray(activation.derivative()(nodes.y))[None]
    table = LinearLayer.of(values, slopes, nodes.weight, nodes.hermite, tau)
    found = table.moments(np.ones((1, 1)), np.array([tau]))
    plain = {name: float(value[0]) for name, value in vars(found).items()}
    if not activation.has_square_integrable_derivative:
        plain |= {"v": math.inf, "v_q": math.inf}
    return LayerMoments(**plain)


# -- sums of functions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearLayer:
    """sigma = sum_j theta_j f_j at one scale: d_k = L_k theta, and V, h, h_q, v, v_q = theta^T Q theta.

    Attributes:
        linear: (4, k), E[f_j^(k)], k = 1 .. 4.
        quadratic: (5, k, k), the forms of V, h, h_q, v, v_q.
    """

    linear: FloatArray
    quadratic: FloatArray

    @classmethod
    def of(
        cls, values: FloatArray, slopes: FloatArray, weight: FloatArray, hermite: FloatArray, tau: float
    ) -> LinearLayer:
        """From the values and slopes (k, N) of the functions at nodes with Gaussian weights."""
        centred = values - (values @ weight)[:, None]
        linear = np.array([(centred * weight) @ hermite[k] / tau**k for k in range(1, 5)])

        def form(f: FloatArray, k: int) -> FloatArray:
            return np.asarray((f * (weight * hermite[k])) @ f.T)

        quadratic = _energies(lambda k: form(centred, k), lambda k: form(slopes, k), tau)
        return cls(linear, np.array(quadratic))

    def moments(self, parameters: FloatArray, tau: FloatArray) -> LayerMoments:
        d1, d2, d3, d4 = np.moveaxis(parameters @ self.linear.T, 1, 0)
        V, h, h_q, v, v_q = np.einsum("bi,fij,bj->fb", parameters, self.quadratic, parameters, optimize=True)
        return LayerMoments(V, d1, d2, h, v, d3, d4, h_q, v_q)


@lru_cache(maxsize=64)
def _linear_layer(basis: tuple[sp.Expr, ...], tau: float) -> LinearLayer:
    scale = sp.Rational(repr(tau))
    functions = [Activation(f.subs(TAU, scale)) for f in basis]
    # nodes that suit all functions: those of a sum in which no two kinks cancel
    together = Activation(sum(f.expr * sp.Rational(7 + k, 7 + 2 * k) for k, f in enumerate(functions)))
    nodes = _Nodes.of(together, tau)
    values = np.array([f(nodes.y) for f in functions])
    slopes = np.array([f.derivative()(nodes.y) for f in functions])
    return LinearLayer.of(values, slopes, nodes.weight, nodes.hermite, tau)


# -- closed forms ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ClosedLayer:
    """Moments as expressions in TAU and the parameters; beyond those of ``closed_forms`` by differentiation in tau."""

    parameters: tuple[sp.Symbol, ...]
    expressions: Mapping[str, sp.Expr]

    @classmethod
    def of(cls, layer: LayerFamily, forms: ClosedForms) -> _ClosedLayer:
        def by_variance(expr: sp.Expr) -> sp.Expr:
            return sp.diff(expr, TAU) / (2 * TAU)

        known = {name: getattr(forms, name) for name in ("V", "d1", "d2", "h")}
        known |= {"d3": 2 * by_variance(forms.d1), "d4": 2 * by_variance(forms.d2)}
        # h re-centres at every q, and the bias is frozen here: see ``theory.sensitivities``
        known["h_q"] = by_variance(forms.h) + forms.d2**2 / 2
        v = forms.get("v")
        known |= {"v": sp.oo, "v_q": sp.oo} if v is None else {"v": v, "v_q": by_variance(v)}
        return cls(layer.parameters, {name: expr.xreplace({_SCALE: TAU}) for name, expr in known.items()})

    def moments(self, parameters: FloatArray, tau: FloatArray) -> LayerMoments:
        with np.errstate(all="ignore"):  # a search may stray; what is not finite is given up
            walk = array_walk(dict(zip(self.parameters, parameters.T, strict=True)) | {TAU: tau})
            return LayerMoments(**{k: np.broadcast_to(walk(e), tau.shape) for k, e in self.expressions.items()})


@lru_cache(maxsize=64)
def closed_layer(layer: LayerFamily) -> _ClosedLayer | None:
    """The closed forms of a family, or None where it has none that are short."""
    try:
        forms = closed_form_moments(layer.expr.xreplace({TAU: _SCALE}))
        made = _ClosedLayer.of(layer, forms)
    except (NoClosedFormError, ActivationError):
        return None
    if sum(e.count_ops() for e in made.expressions.values()) > _MOST_SYMBOLS * len(made.expressions):
        return None
    return made


# -- anything else -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GridLayer:
    """Moments by the trapezoidal rule on a fixed grid of the input."""

    layer: LayerFamily

    def moments(self, parameters: FloatArray, tau: FloatArray) -> LayerMoments:
        weight = np.exp(-(_GRID**2) / 2)
        weight /= weight.sum()
        x = tau[:, None] * _GRID
        columns = {p: column[:, None] for p, column in zip(self.layer.parameters, parameters.T, strict=True)}
        with np.errstate(all="ignore"):
            walk = array_walk({X: x, TAU: tau[:, None], **columns})
            f = np.broadcast_to(walk(self.layer.expr), x.shape)
            slope = np.broadcast_to(walk(layer_derivative(self.layer)), x.shape)
            f = f - (f @ weight)[:, None]
            hermite = _hermite(_GRID) * weight
            d1, d2, d3, d4 = (f @ hermite[k] / tau**k for k in range(1, 5))
            V, h, h_q, v, v_q = _energies(lambda k: f**2 @ hermite[k], lambda k: slope**2 @ hermite[k], tau)
            return LayerMoments(V, d1, d2, h, v, d3, d4, h_q, v_q)


@lru_cache(maxsize=64)
def layer_derivative(layer: LayerFamily) -> sp.Expr:
    """D sigma/dx away from jumps."""
    return sp.diff(layer.expr, X)


@lru_cache(maxsize=64)
def jumps(layer: LayerFamily) -> bool:
    """Whether the family's activations jump, by one of them."""
    values = [f"{k}.25" for k in range(1, len(layer.parameters) + 1)]
    return not Activation(parse(layer.written(values, "1"))).has_square_integrable_derivative


def layer_slopes(layer: LayerFamily, parameters: FloatArray, tau: float) -> FloatArray:
    """Max |sigma'| over +-4 standard deviations of the input, (B,): a Lipschitz constant where the data are.

    Infinite where the family jumps.
    """
    if jumps(layer):
        return np.full(len(parameters), np.inf)
    x = tau * _GRID[np.abs(_GRID) <= 4]
    columns = {p: column[:, None] for p, column in zip(layer.parameters, parameters.T, strict=True)}
    slope = array_walk({X: x, TAU: tau, **columns})(layer_derivative(layer))
    return np.asarray(np.abs(np.broadcast_to(slope, (len(parameters), len(x)))).max(axis=1))


@lru_cache(maxsize=64)
def reflection(layer: LayerFamily) -> FloatArray | None:
    """M with f_j(-x) = sum_k M_kj f_k(x) + const for a basis closed under x -> -x, by signs or exchange; else None.

    Compared at points: what is concluded from it is checked where it is used.
    """
    if layer.basis is None:
        return None
    x = np.array([-3.1, -1.7, -0.6, 0.3, 0.9, 1.4, 2.3])
    walk, mirrored = array_walk({X: x, TAU: 0.8}), array_walk({X: -x, TAU: 0.8})
    values = np.array([np.diff(walk(f) * np.ones(7)) for f in layer.basis])
    M = np.zeros((len(values), len(values)))
    for j, f in enumerate(layer.basis):
        image = np.diff(mirrored(f) * np.ones(7))
        for k, sign in itertools.product(range(len(values)), (1.0, -1.0)):
            if np.allclose(image, sign * values[k], rtol=1e-10, atol=1e-12):
                M[k, j] = sign
                break
        else:
            return None
    return M


@lru_cache(maxsize=64)
def has_no_scale(layer: LayerFamily) -> bool:
    """Whether sigma(c x) at input scale c tau is in the family with sigma(x) at tau, by powers of c in the parameters.

    Compared at points: it decides whether the scale of the layer before is pinned, which loses nothing where it holds.
    """
    x, tau, c = np.array([-2.3, -1.1, -0.4, 0.2, 0.7, 1.9]), 0.9, 1.37
    values = {p: 0.6 + 0.23 * k for k, p in enumerate(layer.parameters)}
    wanted = np.diff(array_walk({X: x, TAU: tau, **values})(layer.expr) * np.ones(6))
    for powers in itertools.product((0, -1, 1), repeat=len(values)):
        moved = {p: v * c**k for (p, v), k in zip(values.items(), powers, strict=True)}
        found = np.diff(array_walk({X: c * x, TAU: c * tau, **moved})(layer.expr) * np.ones(6))
        if np.allclose(found, wanted, rtol=1e-10, atol=1e-12):
            return True
    return False


def layer_model(layer: LayerFamily, tau: float | None) -> LayerModel:
    """The moments of a layer: exact where the family is a sum of functions at a scale ``tau`` that is known.

    Args:
        layer: the family.
        tau: standard deviation of the layer's input; None where it depends on the layer before.
    """
    if layer.basis is not None and tau is not None:
        return _linear_layer(layer.basis, tau)
    return closed_layer(layer) or GridLayer(layer)
