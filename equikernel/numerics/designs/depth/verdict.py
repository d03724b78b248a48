"""``minimal_depth``: how many layers an explicit network with the kernel coefficients of a DEQ needs, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from flint import arb

from equikernel.errors import InputError, SolutionError
from equikernel.numerics.certificates.decimals import is_recordable, to_record
from equikernel.numerics.designs.depth.facts import Facts
from equikernel.numerics.designs.depth.rules import Finding, both_depth, ck_depth, ntk_depth
from equikernel.numerics.solve import solve
from equikernel.theory.activation import Activation, registry_names
from equikernel.theory.models import DEQ, exact_number

__all__ = ["DepthRow", "DepthVerdict", "depth_table", "minimal_depth"]

_MATCHES = {"ck": ck_depth, "ntk": ntk_depth, "both": both_depth}
_DATA = ("any", "sphere")
_RATES = ("equal", "free")


@dataclass(frozen=True)
class DepthVerdict:
    """The least depth of an explicit network with the coefficients of a DEQ, over all activations.

    Attributes:
        match: "ck", "ntk" or "both".
        data: "any", or "sphere" for data of one norm, on which alpha2 and beta2 play no part.
        rates: "equal" learning rates in all layers, or "free" ones for the hidden layers (``ExplicitNetwork.rates``).
        depth: the least number of hidden layers; None where it is not known, or where no number is enough.
        at_most: a number of layers proved to be enough; None without one.
        exists: whether some depth is enough; None where that is not known.
        impossible: (depth, reason) of depths proved not to be enough, where only some are.
        reason: one sentence.
        proof: "symbolic", "certified" (with balls), or "undecided".
        quantity: what decided, as a formula.
        value: a ball of it; None where algebra alone decided.
        rate: a ball of the sum of the hidden learning rates, where the verdict needs one.
    """

    match: str
    data: str
    rates: str
    depth: int | None
    at_most: int | None
    exists: bool | None
    impossible: tuple[tuple[int, str], ...]
    reason: str
    proof: str
    quantity: str
    value: arb | None
    rate: arb | None

    @property
    def at_least(self) -> int:
        """One more than the depths proved impossible, counted from 1."""
        depths = {depth for depth, _ in self.impossible}
        return next(k for k in range(1, len(depths) + 2) if k not in depths)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; balls as decimal strings mid and rad."""
        return {
            "match": self.match,
            "data": self.data,
            "rates": self.rates,
            "depth": self.depth,
            "at_least": self.at_least,
            "at_most": self.at_most,
            "exists": self.exists,
            "impossible": [{"depth": depth, "reason": reason} for depth, reason in self.impossible],
            "reason": self.reason,
            "proof": self.proof,
            "quantity": self.quantity,
            "value": _record(self.value),
            "rate": _record(self.rate),
        }


def _record(ball: arb | None) -> dict[str, str] | None:
    return to_record(ball) if ball is not None and is_recordable(ball) else None


def minimal_depth(
    deq: DEQ, tau0: Any = 1, match: str = "ck", data: str = "any", *, rates: str = "equal"
) -> DepthVerdict:
    """The least L such that some L-layer network has alpha1..alpha3 and gamma^2, or beta1..beta3 and kappa^2, of a DEQ.

    Over all activations of the layers, with hidden widths going to infinity. What is claimed is proved: by algebra, or
    by balls around the coefficients (theorems in docs/proofs.md); what is not proved is "undecided".

    Args:
        deq: the network to imitate.
        tau0: standard deviation of the data.
        match: "ck"; "ntk" (trained a and A of the DEQ against all layers of the explicit network); "both".
        data: "any", or "sphere" where all samples have norm tau0.
        rates: "equal", or "free" if the hidden layers may have learning rates other than the readout's.

    Raises:
        InputError: an unknown match, data or rates; an activation with jumps and match other than "ck"; GOE weights.
        SolutionError: the DEQ has no stable fixed point, or its NTK diverges.
    """
    for name, value, known in (("match", match, tuple(_MATCHES)), ("data", data, _DATA), ("rates", rates, _RATES)):
        if value not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    deq.require_independent("the depths of equivalent networks are")
    tau0 = exact_number(tau0, "tau0", positive=True)
    trained = "a" if match == "ck" else "aA"
    solve(deq, tau0, trained=trained)
    found = _MATCHES[match](Facts(deq, tau0, trained), data, rates)
    return _verdict(found, match, data, rates)


def _verdict(found: Finding, match: str, data: str, rates: str) -> DepthVerdict:
    depth = found.depth
    return DepthVerdict(
        match=match,
        data=data,
        rates=rates,
        depth=depth,
        at_most=found.at_most if depth is None else depth,
        exists=True if depth is not None or found.at_most is not None else found.exists,
        impossible=found.impossible,
        reason=found.reason,
        proof=found.proof,
        quantity=found.quantity,
        value=found.value,
        rate=found.rate,
    )


@dataclass(frozen=True)
class DepthRow:
    """One cell of a table of depths: the network, and its verdict or the sentence why there is none."""

    activation: str
    sigma_a2: Fraction
    sigma_b2: Fraction
    verdict: DepthVerdict | None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        verdict = None if self.verdict is None else self.verdict.to_dict()
        numbers = {"sigma_a2": str(self.sigma_a2), "sigma_b2": str(self.sigma_b2)}
        return {"activation": self.activation} | numbers | {"verdict": verdict, "error": self.error}

    @property
    def summary(self) -> str:
        """The depth in a few characters: "2", "3-5" (at least and at most), "none", "1-2?" (undecided), "-" (error)."""
        if self.verdict is None:
            return "-"
        verdict = self.verdict
        if verdict.exists is False:
            return "none"
        if verdict.depth is not None:
            return str(verdict.depth)
        top = "" if verdict.at_most is None else str(verdict.at_most)
        return f"{verdict.at_least}-{top}" + ("?" if verdict.proof == "undecided" else "")


def depth_table(
    activations: Iterable[str | Activation] | None = None,
    sigma_a2: Sequence[Any] = ("0.05", "0.2", "0.5", "0.8"),
    match: str = "ck",
    data: str = "any",
    *,
    sigma_b2: Any = None,
    tau0: Any = 1,
    rates: str = "equal",
) -> tuple[DepthRow, ...]:
    """``minimal_depth`` for every activation and every sigma_a2, activations outermost.

    Args:
        activations: by default the registry.
        sigma_a2: hidden variances.
        match: "ck", "ntk" or "both".
        data: "any" or "sphere".
        sigma_b2: the input variance; by default 1 - sigma_a2, as in [Ling24].
        tau0: standard deviation of the data.
        rates: "equal" or "free".

    Raises:
        InputError: bad arguments. A network without a verdict has a row with its error instead.
    """
    rows = []
    for name in registry_names() if activations is None else activations:
        for value in sigma_a2:
            a2 = exact_number(value, "sigma_a2")
            deq = DEQ(name, a2, 1 - a2 if sigma_b2 is None else sigma_b2)
            try:
                verdict, error = minimal_depth(deq, tau0, match, data, rates=rates), ""
            except SolutionError as caught:
                verdict, error = None, str(caught)
            except InputError as caught:
                if not deq.activation.jumps:
                    raise
                verdict, error = None, str(caught)
            rows.append(DepthRow(deq.activation.name, deq.sigma_a2, deq.sigma_b2, verdict, error))
    return tuple(rows)
