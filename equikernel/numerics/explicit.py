"""The coefficients of an explicit network's high-dimensional kernels, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from equikernel.errors import InputError
from equikernel.numerics.moment_values import FLOAT64_DIGITS
from equikernel.numerics.moments import gaussian_moments, require_derivative
from equikernel.theory.activation import Activation
from equikernel.theory.equations import ExplicitState, explicit_input, explicit_layer
from equikernel.theory.models import ExplicitNetwork, exact_number
from equikernel.theory.multiprecision import mp_arithmetic

__all__ = ["ExplicitCoefficients", "explicit_coefficients", "explicit_state"]


@dataclass(frozen=True)
class ExplicitCoefficients:
    """Coefficients of an L-layer network (theory, section 5). tau2 = tau_L^2 and kappa2 are variances.

    beta1, beta2, beta3 and kappa2 are None when the NTK was not asked for.
    """

    tau2: Any
    alpha1: Any
    alpha2: Any
    alpha3: Any
    alpha4: Any
    beta1: Any
    beta2: Any
    beta3: Any
    kappa2: Any

    def to_dict(self) -> dict[str, Any]:
        """Field name -> float."""
        return {f.name: None if getattr(self, f.name) is None else float(getattr(self, f.name)) for f in fields(self)}


def explicit_state(
    net: ExplicitNetwork,
    number: Callable[[Fraction], Any],
    moments: Callable[[Activation, Any], tuple[Any, ...]],
    *,
    ntk: bool,
) -> ExplicitState:
    """The recursion of theory, section 5, in any arithmetic.

    Args:
        net: the network.
        number: an exact number in the arithmetic.
        moments: V, d1, d2, h, v of an activation at a standard deviation tau.
        ntk: whether the NTK's coefficients have a meaning.

    Raises:
        InputError: a layer with jumps when ``ntk`` is set.
    """
    first, *rates = (number(exact_number(rate, "a learning rate")) for rate in (*(net.rates or (1,) * net.depth), 1))
    state = explicit_input(number(exact_number(net.tau0, "tau0", positive=True)) ** 2, first)
    for layer, rate in zip(net.layers, rates, strict=True):
        if ntk:
            require_derivative(layer.activation)
        V, d1, d2, h, v = moments(layer.activation, state.tau2**0.5)
        state = explicit_layer(state, V, d1, d2, h, v, rate)
    return state


def explicit_coefficients(net: ExplicitNetwork, digits: int = 15, *, ntk: bool = True) -> ExplicitCoefficients:
    """Run the recursion of theory, section 5 ([Ling24], [Gu22]) on moments of ``digits`` digits.

    Args:
        net: the network; layer l is centred at its own input scale tau_(l-1).
        digits: up to 15 in float64, above in mpmath.
        ntk: whether the NTK's coefficients are wanted too (all layers trained at ``net.rates``, readout included).

    Raises:
        InputError: a layer with jumps when ``ntk`` is set.
        AccuracyError: the moments of a layer did not converge.
    """
    if digits < 1:
        raise InputError(f"digits must be positive; got {digits!r}")
    number: Any = float if digits <= FLOAT64_DIGITS else mp_arithmetic(digits + 10).number

    def moments(activation: Activation, tau: Any) -> tuple[Any, ...]:
        m = gaussian_moments(activation, tau, digits)
        return m.V.value, m.d1.value, m.d2.value, m.h.value, m.v.value if ntk else 0

    state = explicit_state(net, number, moments, ntk=ntk)
    return _finished(state, ntk)


def _finished(state: ExplicitState, ntk: bool) -> ExplicitCoefficients:
    values = {f.name: getattr(state, f.name) for f in fields(state)}
    if not ntk:
        values |= dict.fromkeys(("beta1", "beta2", "beta3", "kappa2"))
    return ExplicitCoefficients(**values)
