"""What a designed network is to have: the coefficients of a DEQ's kernels, or of another network's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Any

from flint import arb

from equikernel.errors import InputError, UncertifiedError
from equikernel.numerics.balls.context import bits_of_digits, exact, precision
from equikernel.numerics.balls.moments import ball_moments
from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.designs.functionals import layer_moments
from equikernel.numerics.explicit import explicit_coefficients, explicit_state
from equikernel.numerics.solve import solve
from equikernel.theory.activation import Activation
from equikernel.theory.equations import ExplicitState, ImplicitCK, ImplicitNTK, explicit_input, explicit_layer
from equikernel.theory.models import DEQ, ExplicitNetwork, exact_number
from equikernel.theory.next_order import ThirdOrder, explicit_third_order, implicit_third_order, input_third_order

__all__ = ["CK", "MATCHES", "NTK", "Target"]

# name of the coefficient -> its field in ``ExplicitCoefficients``, and the power of tau0 that makes it a variance
CK = {"alpha1": ("alpha1", 2), "alpha2": ("alpha2", 4), "alpha3": ("alpha3", 4), "gamma2": ("tau2", 0)}
NTK = {"beta1": ("beta1", 2), "beta2": ("beta2", 4), "beta3": ("beta3", 4), "kappa2": ("kappa2", 0)}
MATCHES = {"ck": CK, "ntk": NTK, "both": {**CK, **NTK}}
_ZERO = 1e-24  # of its natural size
_OF_THE_NORM = ("alpha2", "beta2")


def _network_third_order(network: ExplicitNetwork, *, ntk: bool) -> ThirdOrder:
    """The third-order terms of an explicit network, in float64."""
    first, *rates = network.learning_rates
    state, terms = explicit_input(network.tau0**2, first), input_third_order(first)
    for layer, rate in zip(network.layers, rates, strict=True):
        m = layer_moments(layer.activation, float(state.tau2) ** 0.5)
        terms = explicit_third_order(state, terms, m, rate, ntk=ntk)
        state = explicit_layer(state, m.V, m.d1, m.d2, m.h, m.v if ntk else 0.0, rate)
    return terms


def _network_enclosures(network: ExplicitNetwork, bits: int, *, ntk: bool) -> ExplicitState:
    def moments(activation: Activation, tau: arb) -> tuple[Any, ...]:
        m = ball_moments(activation, tau, bits)
        return m.V, m.d1, m.d2, m.h, m.v_or_none if ntk else 0

    with precision(bits + 40):
        return explicit_state(network, exact, moments, ntk=ntk)


@dataclass(frozen=True)
class Target:
    """The coefficients to be had.

    Attributes:
        source: the DEQ or the network.
        match: "ck", "ntk" or "both".
        tau0: standard deviation of the data.
        on_sphere: whether all data have squared norm tau0^2: then alpha2 and beta2 play no part.
    """

    source: DEQ | ExplicitNetwork
    match: str
    tau0: Fraction
    on_sphere: bool = False

    def __post_init__(self) -> None:
        if self.match not in MATCHES:
            raise InputError(f'match must be "ck", "ntk" or "both"; got {self.match!r}')
        if isinstance(self.source, DEQ):
            self.source.require_independent("equivalent networks are")

    @classmethod
    def of(cls, source: DEQ | ExplicitNetwork, match: str, tau0: Any = None, *, on_sphere: bool = False) -> Target:
        """The target; tau0 defaults to 1 for a DEQ, and is the network's own for a network.

        Raises:
            InputError: a tau0 that is not the network's.
        """
        if isinstance(source, ExplicitNetwork):
            own = exact_number(source.tau0, "tau0", positive=True)
            if tau0 is not None and exact_number(tau0, "tau0", positive=True) != own:
                raise InputError(f"the network is made for data with tau0 = {source.tau0}; got tau0 = {tau0}")
            return cls(source, match, own, on_sphere)
        return cls(source, match, exact_number(1 if tau0 is None else tau0, "tau0", positive=True), on_sphere)

    @property
    def name(self) -> str:
        """What is to be imitated, for messages."""
        if isinstance(self.source, DEQ):
            return f"the DEQ with {self.source.activation.name}"
        return f"the network with {', '.join(layer.activation.name for layer in self.source.layers)}"

    @property
    def ntk(self) -> bool:
        """Whether the NTK is to be matched."""
        return self.match != "ck"

    @cached_property
    def fields(self) -> dict[str, tuple[str, int]]:
        """The coefficients that count: name -> (field of ``ExplicitCoefficients``, power of tau0)."""
        chosen = MATCHES[self.match]
        return {k: v for k, v in chosen.items() if not (self.on_sphere and k in _OF_THE_NORM)}

    def values(self, digits: int = 15) -> dict[str, Any]:
        """The coefficients: floats up to 15 digits, mpmath numbers above.

        Raises:
            SolutionError: the DEQ has no stable fixed point, or no NTK.
            InputError: an activation with jumps when the NTK is to be matched.
        """
        found: Any
        if isinstance(self.source, DEQ):
            found = solve(self.source, self.tau0, digits, trained="aA" if self.ntk else "a")
            return {name: getattr(found, name) for name in self.fields}
        found = explicit_coefficients(self.source, digits, ntk=self.ntk)
        return {name: getattr(found, field) for name, (field, _) in self.fields.items()}

    def enclosures(self, digits: int) -> dict[str, arb]:
        """The coefficients as balls of about ``digits`` digits, which are proofs.

        Raises:
            UncertifiedError: something could not be proved.
        """
        if isinstance(self.source, ExplicitNetwork):
            found = _network_enclosures(self.source, bits_of_digits(digits), ntk=self.ntk)
            return {name: getattr(found, field) for name, (field, _) in self.fields.items()}
        certificate = certify(self.source, self.tau0, digits, "aA" if self.ntk else "a")
        missing = [name for name in self.fields if name not in certificate.enclosures]
        if missing:
            refused = certificate.coefficients.refused if certificate.coefficients else {}
            why = refused.get(missing[0], "no stable fixed point was proved")
            raise UncertifiedError(f"{missing[0]} of {self.name} has no enclosure: {why}")
        return {name: certificate.enclosures[name] for name in self.fields}

    @cached_property
    def floats(self) -> Mapping[str, float]:
        """The coefficients in float64."""
        return {name: float(value) for name, value in self.values().items()}

    @property
    def diagonal(self) -> float:
        """The kernel's diagonal, the scale of its entries."""
        return self.floats["gamma2" if "gamma2" in self.floats else "kappa2"]

    @property
    def scales(self) -> dict[str, float]:
        """The size that each coefficient would have if its term alone made up the diagonal."""
        tau0 = float(self.tau0)
        diagonals = {"ck": self.floats.get("gamma2", 1.0), "ntk": self.floats.get("kappa2", 1.0)}
        return {
            name: diagonals["ck" if name in CK else "ntk"] / tau0**power for name, (_, power) in self.fields.items()
        }

    @cached_property
    def units(self) -> dict[str, float]:
        """What differences are relative to: the coefficient, or its natural size where it vanishes."""
        return {name: self.scales[name] if self.vanishes(name) else abs(v) for name, v in self.floats.items()}

    def vanishes(self, name: str) -> bool:
        """Whether a coefficient is zero but for rounding: d2 = 0 to 1e-13 leaves 1e-26 in alpha3."""
        return abs(self.floats[name]) <= _ZERO * self.scales[name]

    @property
    def is_odd(self) -> bool:
        """Whether the second-order coefficients vanish, as they do where all activations are odd up to constants."""
        names = ("alpha2", "alpha3", "beta2", "beta3")
        return all(self.vanishes(name) for name in names if name in self.fields)

    @cached_property
    def third_order(self) -> ThirdOrder:
        """The terms beyond the coefficients, in float64."""
        if isinstance(self.source, ExplicitNetwork):
            return _network_third_order(self.source, ntk=self.ntk)
        deq = self.source
        solution = solve(deq, self.tau0, trained="aA" if self.ntk else "a")
        moments = layer_moments(deq.activation, float(solution.tau))
        ck = ImplicitCK(*(float(getattr(solution, f.name)) for f in fields(ImplicitCK)))
        ntk = ImplicitNTK(*(float(getattr(solution, f.name)) for f in fields(ImplicitNTK))) if self.ntk else None
        return implicit_third_order(ck, ntk, moments, float(deq.sigma_a2), float(deq.sigma_b2))
