"""What a design is: a network, the coefficients it was made for, and how well it has them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from equikernel.errors import InputError
from equikernel.numerics.designs.refine import DesignCertificate
from equikernel.numerics.designs.targets import MATCHES
from equikernel.numerics.explicit import explicit_coefficients
from equikernel.numerics.files import write_text
from equikernel.numerics.moment_values import FLOAT64_DIGITS
from equikernel.theory.activation import activation
from equikernel.theory.models import ExplicitNetwork, Layer

__all__ = ["Alternative", "Design", "load_design"]

_FORMAT = "equikernel design 1"
_LATEX = {f"{name}{k}": rf"\{name}_{k}" for name in ("alpha", "beta") for k in (1, 2, 3)}
_LATEX |= {"gamma2": r"\gamma^2", "kappa2": r"\kappa^2"}
_LATEX_DIGITS = 10
_LOADED = 1e-9  # relative: a file whose network misses its coefficients by more was changed


@dataclass(frozen=True)
class Alternative:
    """Another network of the family with the same coefficients; see ``Design.distance`` and ``Design.lipschitz``."""

    params: tuple[tuple[tuple[str, float], ...], ...]
    distance: float
    lipschitz: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        layers = [dict(layer) for layer in self.params]
        return {"params": layers, "distance": self.distance, "lipschitz": self.lipschitz}


@dataclass(frozen=True)
class Design:
    """An explicit network whose kernels have the coefficients of a DEQ's, or of another network's.

    Attributes:
        source: what is imitated, in words.
        match: "ck" (alpha1, alpha2, alpha3, gamma^2), "ntk" (beta1, beta2, beta3, kappa^2) or "both".
        family: its name in ``FAMILIES``, or its formula.
        tau0: standard deviation of the data.
        expressions: the activation of every layer, uncentred, as text of the grammar.
        params: the parameters of every layer: floats, or decimal strings beyond 15 digits.
        rates: learning rates of the hidden layers relative to the readout's; empty when all are 1.
        target: the coefficients asked for.
        achieved: the network's.
        residual: the largest relative difference between them; where the target is zero, relative to its natural
            size, that of a term which alone would make up the kernel's diagonal.
        digits: significant digits of the parameters.
        on_sphere: whether the design is for data of squared norm tau0^2 alone.
        distance: how far the kernels are from the source's beyond the coefficients: root mean square of the
            differences of the third-order terms (``theory.next_order``), relative to the kernel's diagonal.
        lipschitz: the product of the layers' largest slopes within 4 standard deviations of their inputs.
        alternatives: the other solutions found, nearest first.
        starts: the number of starting points searched from.
        certificate: the proof that an exact solution lies next to the parameters, where it was asked for and found.
        status: "solved"; with a certificate asked for and not found, why.
    """

    source: str
    match: str
    family: str
    tau0: float
    expressions: tuple[str, ...]
    params: tuple[tuple[tuple[str, float | str], ...], ...]
    rates: tuple[float | str, ...]
    target: Mapping[str, Any]
    achieved: Mapping[str, Any]
    residual: float
    digits: int = FLOAT64_DIGITS
    on_sphere: bool = False
    distance: float = math.nan
    lipschitz: float = math.nan
    alternatives: tuple[Alternative, ...] = ()
    starts: int = 0
    certificate: DesignCertificate | None = None
    status: str = "solved"

    @property
    def depth(self) -> int:
        """The number of hidden layers."""
        return len(self.expressions)

    @cached_property
    def network(self) -> ExplicitNetwork:
        """The network; its layers are uncentred, as ``ExplicitNetwork`` takes them."""
        pairs = zip(self.expressions, self.params, strict=True)
        return ExplicitNetwork(tuple(Layer(activation(text), params) for text, params in pairs), self.tau0, self.rates)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; numbers of more than 15 digits are strings."""
        layers = [{"expression": e, "params": dict(p)} for e, p in zip(self.expressions, self.params, strict=True)]
        return {
            "format": _FORMAT,
            "source": self.source,
            "match": self.match,
            "depth": self.depth,
            "family": self.family,
            "tau0": self.tau0,
            "on_sphere": self.on_sphere,
            "layers": layers,
            "rates": list(self.rates),
            "digits": self.digits,
            "target": dict(self.target),
            "achieved": dict(self.achieved),
            "residual": self.residual,
            "distance": self.distance if math.isfinite(self.distance) else None,
            "lipschitz": self.lipschitz if math.isfinite(self.lipschitz) else None,
            "alternatives": [a.to_dict() for a in self.alternatives],
            "starts": self.starts,
            "certificate": None if self.certificate is None else self.certificate.to_dict(),
            "status": self.status,
        }

    @classmethod
    def from_dict(cls, record: Any) -> Design:
        """A design from what ``to_dict`` gives. The network's coefficients are computed again; the proof is not kept.

        Raises:
            InputError: not a design; its network does not have the coefficients that it says.
        """
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            raise InputError(f'a design must be an object with "format": "{_FORMAT}", as Design.to_dict makes it')
        network = ExplicitNetwork.from_dict(record)
        match, target = record.get("match"), record.get("target")
        if match not in MATCHES or not isinstance(target, dict) or not set(target) <= set(MATCHES[match]):
            raise InputError('a design must have a "match" and the "target" coefficients of its kernels')
        found = explicit_coefficients(network, ntk=match != "ck")
        achieved = {name: float(getattr(found, MATCHES[match][name][0])) for name in target}
        scale = max(abs(float(value)) for value in target.values())
        missed = max(abs(achieved[name] - float(value)) for name, value in target.items()) / scale
        if not missed <= _LOADED:
            raise InputError(
                f"the network of the design misses the coefficients it is said to have by {missed:.2g} (relative): the "
                "record was changed; make the design again"
            )
        layers = record["layers"]
        return cls(
            source=str(record.get("source", "")),
            match=match,
            family=str(record.get("family", "")),
            tau0=network.tau0,
            expressions=tuple(str(layer["expression"]) for layer in layers),
            params=tuple(layer.params for layer in network.layers),
            rates=network.rates,
            target=target,
            achieved=achieved,
            residual=float(record.get("residual", math.nan)),
            digits=int(record.get("digits", FLOAT64_DIGITS)),
            on_sphere=bool(record.get("on_sphere", False)),
            distance=_number(record.get("distance")),
            lipschitz=_number(record.get("lipschitz")),
            starts=int(record.get("starts", 0)),
            status=str(record.get("status", "")),
        )

    def save(self, path: str | Path) -> None:
        """Write the design as JSON, all at once; ``load_design`` reads it."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=1) + "\n")

    def to_latex(self) -> str:
        """The layers as an aligned display, and a booktabs table of the coefficients; needs amsmath and booktabs."""
        layers = [
            rf"\sigma_{{{k}}}(x) &= {layer.activation.latex(_LATEX_DIGITS)}"
            for k, layer in enumerate(self.network.layers, start=1)
        ]
        rates = [rf"\eta_{{{k}}} &= {float(rate):.{_LATEX_DIGITS}g}" for k, rate in enumerate(self.rates, start=1)]
        body = [
            rf"${_LATEX[name]}$ & {float(self.target[name]):.15g} & {float(self.achieved[name]):.15g} \\"
            for name in self.target
        ]
        return "\n".join(
            [
                r"\begin{align*}",
                " \\\\\n".join([*layers, *rates]),
                r"\end{align*}",
                r"\begin{tabular}{lll}",
                r"\toprule",
                r" & target & achieved \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
            ]
        )

    def to_torch(self, width: int | Sequence[int], in_features: int, **options: Any) -> Any:
        """``network.to_torch``."""
        return self.network.to_torch(width, in_features, **options)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def load_design(path: str | Path) -> Design:
    """The design in a file that ``Design.save`` or ``equikernel design --out`` wrote.

    Raises:
        InputError: no such file, or it is no design.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as a design: {error}") from None
    return Design.from_dict(record)
