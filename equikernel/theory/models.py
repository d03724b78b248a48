"""Descriptions of networks: what they are, without how anything about them is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from importlib import import_module
from typing import Any

import sympy as sp

from equikernel.arithmetics import RECORDS, TORCH_MODULE
from equikernel.errors import InputError
from equikernel.theory.activation import Activation, activation
from equikernel.theory.initialisation import require_family

__all__ = ["DEQ", "TRAINED", "ExplicitNetwork", "Layer", "exact_number", "require_trained"]

TRAINED = ("a", "aA", "aAB")


def exact_number(value: Any, name: str, *, positive: bool = False) -> Fraction:
    """A non-negative real parameter as an exact fraction: a float is the decimal it prints as (0.1 is 1/10).

    Args:
        value: int, float, Fraction, Decimal, SymPy Rational, or a string such as "0.2", "1/5", "2e-3".
        name: how the error message calls it.
        positive: whether zero is refused too.

    Raises:
        InputError: not a number, NaN, infinite, negative (or zero).
    """
    expected = f"{name} must be a {'positive' if positive else 'non-negative'} finite number; got {value!r}"
    text = str(value).strip()
    if isinstance(value, bool) or len(text) > 200:
        raise InputError(expected)
    if isinstance(value, sp.Rational):
        number = Fraction(int(value.p), int(value.q))
    else:
        try:
            if "/" in text:
                top, bottom = text.split("/")
                number = Fraction(Decimal(top)) / Fraction(Decimal(bottom))
            else:
                decimal = Decimal(text)
                if not decimal.is_finite() or abs(decimal.adjusted()) > 300:
                    raise InputError(expected)
                number = Fraction(decimal)
        except (InvalidOperation, ValueError, ZeroDivisionError, OverflowError):
            raise InputError(expected) from None
    if number < 0 or (positive and number == 0):
        raise InputError(expected)
    return number


def require_trained(trained: str) -> str:
    """One of "a" (readout), "aA" (readout and hidden weights), "aAB" (input weights too)."""
    if trained not in TRAINED:
        raise InputError(f"trained must be one of {', '.join(TRAINED)}; got {trained!r}")
    return trained


@dataclass(frozen=True)
class DEQ:
    """z = phi_c(sigma_a A z + sigma_b B x)/sqrt(m), B with i.i.d. N(0, 1) entries (theory, section 1).

    A has i.i.d. N(0, 1) entries ("iid"), or is sqrt(m) times a Haar orthogonal matrix ("orthogonal": the same kernels),
    or symmetric with N(0, 1) entries off the diagonal ("goe": other kernels, see docs/initialisation.md).

    Args:
        activation: anything ``equikernel.activation`` takes.
        sigma_a2: hidden variance sigma_a^2 (a variance, not a standard deviation).
        sigma_b2: input variance sigma_b^2.
        weights: family of A, "iid", "orthogonal" or "goe".

    Raises:
        InputError: a variance that is negative, NaN or infinite; both zero; a bad activation; an unknown family.
    """

    activation: Activation
    sigma_a2: Fraction = Fraction(1, 5)
    sigma_b2: Fraction = Fraction(4, 5)
    weights: str = "iid"

    def __init__(
        self,
        activation_: str | sp.Expr | Activation,
        sigma_a2: Any = Fraction(1, 5),
        sigma_b2: Any = Fraction(4, 5),
        weights: str = "iid",
    ) -> None:
        object.__setattr__(self, "activation", activation(activation_))
        object.__setattr__(self, "sigma_a2", exact_number(sigma_a2, "sigma_a2"))
        object.__setattr__(self, "sigma_b2", exact_number(sigma_b2, "sigma_b2", positive=True))
        object.__setattr__(self, "weights", require_family(weights))

    def __repr__(self) -> str:
        family = "" if self.weights == "iid" else f", weights={self.weights!r}"
        return f"DEQ({self.activation.name!r}, sigma_a2={self.sigma_a2}, sigma_b2={self.sigma_b2}{family})"

    def require_independent(self, what: str) -> None:
        """Refuse symmetric weights, whose response the theory of i.i.d. (and orthogonal) weights lacks.

        Args:
            what: that is not known for them, for the message.

        Raises:
            InputError: GOE weights.
        """
        if self.weights == "goe":
            raise InputError(
                f"{what} not known for DEQs with GOE weights; take weights iid or orthogonal, or ask for what is known "
                "of GOE weights: solve (float64), the exact kernels, finite networks"
            )


@dataclass(frozen=True)
class Layer:
    """One layer of an explicit network: x -> sigma(W x)/sqrt(d), sigma centred at its own input scale.

    Attributes:
        activation: sigma, uncentred.
        params: the family's parameters, as floats or, beyond 15 digits, decimal strings, for display and saving.
    """

    activation: Activation
    params: tuple[tuple[str, float | str], ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The layer's activation, as the text it was made from, and its parameters, as plain JSON types."""
        return {"expression": self.activation.name, "params": dict(self.params), **self.activation.record}

    @classmethod
    def from_dict(cls, record: Any) -> Layer:
        """A layer from what ``to_dict`` gives; the expression goes through the safe grammar.

        Raises:
            InputError: something else.
            ParseError, ActivationError: an expression that is no activation.
        """
        if not isinstance(record, dict) or not isinstance(record.get("expression"), str):
            raise InputError(f'a layer must be an object with an "expression" in x; got {_shown(record)}')
        params = record.get("params", {})
        plain = isinstance(params, dict) and all(isinstance(v, int | float | str) for v in params.values())
        if not plain:
            raise InputError(f"the params of a layer must be an object of numbers; got {_shown(params)}")
        return cls(_recorded(record), tuple(params.items()))


@dataclass(frozen=True)
class ExplicitNetwork:
    """L layers with weights i.i.d. N(0, 1) and inputs of mean squared norm tau0^2 (theory, section 1).

    Attributes:
        layers: first layer first.
        tau0: standard deviation of the data: the first layer is centred there, each other at the scale it meets.
        rates: learning rates of the L hidden weight matrices relative to the readout's (eta_1 .. eta_L), which the NTK
            weighs their gradients with; floats, or decimal strings. Empty: all 1, the NTK of section 5.
    """

    layers: tuple[Layer, ...]
    tau0: float = 1.0
    rates: tuple[float | str, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("an explicit network needs at least one layer; got none")
        if not (math.isfinite(self.tau0) and self.tau0 > 0):
            raise InputError(f"tau0 must be a positive finite number; got {self.tau0!r}")
        if self.rates and len(self.rates) != len(self.layers):
            raise InputError(
                f"rates must be {len(self.layers)} numbers, a learning rate for each hidden layer; got {self.rates!r}"
            )
        for rate in self.rates:
            exact_number(rate, "a learning rate")

    @classmethod
    def of(cls, *activations: str | sp.Expr | Activation, tau0: float = 1.0) -> ExplicitNetwork:
        """A network from its activations, first layer first."""
        return cls(tuple(Layer(activation(a)) for a in activations), tau0)

    @property
    def depth(self) -> int:
        """The number of hidden layers."""
        return len(self.layers)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """eta_1 .. eta_L and 1 for the readout."""
        return (*(float(rate) for rate in self.rates or (1.0,) * self.depth), 1.0)

    def to_torch(self, width: int | Sequence[int], in_features: int, **options: Any) -> Any:
        """The network as a ``torch.nn.Module``; see ``equikernel.validation.modules.explicit_module`` for the options.

        Raises:
            InputError: torch is not installed; bad sizes or options.
        """
        module, factory = TORCH_MODULE
        return getattr(import_module(module), factory)(self, width, in_features, **options)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: tau0, the layers, and the learning rates if they are not all 1."""
        record = {"tau0": self.tau0, "layers": [layer.to_dict() for layer in self.layers]}
        return record | ({"rates": list(self.rates)} if self.rates else {})

    @classmethod
    def from_dict(cls, record: Any) -> ExplicitNetwork:
        """A network from what ``to_dict`` gives.

        Raises:
            InputError, ParseError, ActivationError: something else.
        """
        if not isinstance(record, dict) or not isinstance(record.get("layers"), list):
            raise InputError(f'a network must be an object with "tau0" and a list of "layers"; got {_shown(record)}')
        tau0, rates = record.get("tau0", 1.0), record.get("rates", [])
        if not (isinstance(tau0, int | float) and isinstance(rates, list)):
            raise InputError(f"tau0 must be a number and rates a list; got {_shown(tau0)} and {_shown(rates)}")
        layers = tuple(Layer.from_dict(layer) for layer in record["layers"])
        return cls(layers, float(tau0), tuple(rates))


def _recorded(record: dict[str, Any]) -> Activation:
    """The activation of a layer's record: from its coefficients where it has them, else from its text."""
    for key, (module, kind) in RECORDS.items():
        if key in record:
            made: Activation = getattr(import_module(module), kind).from_record(record[key], record["expression"])
            return made
    return activation(record["expression"])


def _shown(value: Any) -> str:
    """A piece of a file, for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
