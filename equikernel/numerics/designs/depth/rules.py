"""The rules that decide a depth, one function for each kind of match; the theorems behind them are in docs/proofs.md.

Notation: delta0 = sigma_a2 d1^2. Coefficients are those of the DEQ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from flint import arb

from equikernel.errors import UncertifiedError
from equikernel.numerics.balls.context import precision
from equikernel.numerics.designs.depth.chains import enough_layers
from equikernel.numerics.designs.depth.facts import Facts
from equikernel.numerics.designs.depth.realisability import BITS
from equikernel.numerics.designs.depth.two_layers import two_layers

__all__ = ["Finding", "both_depth", "ck_depth", "ntk_depth"]

_UNTIED = "with sigma_a2 = 0 the DEQ is itself one layer with scaled input"
_SPHERE = "on data of one norm {} plays no part, and one layer with the coefficients of the power series has the rest"


@dataclass(frozen=True)
class Finding:
    """A verdict without the question; the fields are those of ``DepthVerdict``."""

    reason: str
    proof: str
    depth: int | None = None
    at_most: int | None = None
    exists: bool | None = None
    impossible: tuple[tuple[int, str], ...] = ()
    quantity: str = ""
    value: arb | None = None
    rate: arb | None = None


def _proved_or_undecided(rule: Callable[[Facts, str, str], Finding]) -> Callable[[Facts, str, str], Finding]:
    """A rule whose missing enclosures make the verdict undecided."""

    def guarded(facts: Facts, data: str, rates: str) -> Finding:
        try:
            found = rule(facts, data, rates)
        except UncertifiedError as error:
            return Finding(f"undecided: {error}", "undecided")
        return found

    return guarded


def _flat_reason(facts: Facts, rest: str) -> str:
    why = "is odd up to a constant, so that d2" if facts.deq.activation.odd_up_to_constant else "has d2"
    return f"{facts.deq.activation.name} {why} = 0: {rest}"


@_proved_or_undecided
def ck_depth(facts: Facts, data: str, _rates: str) -> Finding:
    """The least depth for alpha1, alpha2, alpha3 and gamma^2."""
    quantity = "2*alpha2 - alpha3"
    if data == "sphere":
        return Finding(_SPHERE.format("alpha2"), "symbolic", 1)
    if facts.untied:
        return Finding(_UNTIED, "symbolic", 1)
    if facts.is_flat:
        rest = "alpha2 = alpha3 = 0, and one layer without a quadratic term has the rest"
        return Finding(_flat_reason(facts, rest), "symbolic", 1, quantity=quantity)
    tie = facts.combination(alpha2=2, alpha3=-1)
    if tie.contains(0):
        if facts.is_balanced:
            return Finding("h = d1^2, so that alpha2 = alpha3/2 as in one layer", "symbolic", 1, quantity=quantity)
        return _tied(quantity, tie, "is one layer enough, else at least two are needed")
    ratio = float((facts.ball("alpha2") / facts.ball("alpha3")).mid())
    one = (1, f"one layer forces alpha2/alpha3 = 1/2, here it is {ratio:.6g}")
    found = Finding("", "certified", impossible=(one,), quantity=quantity, value=tie)
    if tie > 0:
        return replace(found, depth=2, reason=f"{one[1]}; as that is more than 1/2, two layers are always enough")
    return _two_or_more(facts, "ck", found)


@_proved_or_undecided
def ntk_depth(facts: Facts, data: str, rates: str) -> Finding:
    """The least depth for beta1, beta2, beta3 and kappa^2."""
    if data == "sphere":
        return Finding(_SPHERE.format("beta2"), "symbolic", 1)
    if facts.is_flat:
        rest = "beta2 = beta3 = 0, and one layer without a quadratic term has the rest"
        return Finding(_flat_reason(facts, rest), "symbolic", 1)
    if rates == "free":
        return _ntk_depth_free(facts)
    quantity = "6*beta2 - beta3"
    tie = facts.combination(beta2=6, beta3=-1)
    if tie.contains(0):
        return _tied(quantity, tie, "is one layer enough, else at least two are needed")
    ratio = float((facts.ball("beta2") / facts.ball("beta3")).mid())
    one = (1, f"one layer trained at equal rates forces beta2/beta3 = 1/6, here it is {ratio:.6g}")
    return _two_or_more(facts, "ntk", Finding("", "certified", impossible=(one,), quantity=quantity, value=tie))


def _ntk_depth_free(facts: Facts) -> Finding:
    """One layer has beta2/beta3 = 1/(2 + 4 eta) with eta >= 0; two with an untrained hidden part have all above 1/2."""
    quantity = "beta3 - 2*beta2"
    if facts.untied:
        return Finding(f"{_UNTIED}, of which only the readout is trained", "symbolic", 1, rate=arb(0))
    tie = facts.combination(beta3=1, beta2=-2)
    with precision(BITS):
        rate = (facts.ball("beta3") / facts.ball("beta2") - 2) / 4
    if tie > 0:
        reason = (
            f"one layer whose hidden weights learn at the rate {float(rate.mid()):.6g} has beta2/beta3 = 1/(2+4*eta)"
        )
        return Finding(reason, "certified", 1, quantity=quantity, value=tie, rate=rate)
    if not tie < 0:
        return _tied(quantity, tie, "or positive is one layer enough, else two")
    one = (1, "one layer has beta2/beta3 <= 1/2 at any learning rate")
    reason = f"{one[1]}; two are enough, with only the readout trained"
    return Finding(reason, "certified", 2, impossible=(one,), quantity=quantity, value=tie, rate=arb(0))


def _two_or_more(facts: Facts, match: str, found: Finding) -> Finding:
    """Depths from 2 on, depth 1 being impossible: by a chain, else by branch and bound."""
    target = facts.target(match)
    diagonal = "gamma^2" if match == "ck" else "kappa^2"
    one = found.impossible[0][1]
    at_most = enough_layers(target)
    if at_most == 2:
        return replace(found, depth=2, reason=f"{one}; two layers with cubic terms are enough")
    searched = two_layers(target)
    if searched.possible:
        return replace(found, depth=2, reason=f"{one}; two layers are enough")
    if searched.possible is None:
        reason = (
            f"undecided: {one}; whether two layers are enough is too close to call, or {diagonal} is not sharp enough"
        )
        return replace(found, proof="undecided", at_most=at_most, reason=reason)
    value = float(target.diagonal.mid())
    two = (2, f"two layers with the other three coefficients have {diagonal} above the {value:.6g} of the DEQ")
    found = replace(found, impossible=(*found.impossible, two), at_most=at_most)
    if at_most == 3:
        return replace(found, depth=3, reason=f"{two[1]}, whatever their activations; three layers are enough")
    enough = "the least depth that is enough is not known" if at_most is None else f"{at_most} layers are enough"
    return replace(found, exists=True, reason=f"{two[1]}, whatever their activations; {enough}")


@_proved_or_undecided
def both_depth(facts: Facts, _data: str, rates: str) -> Finding:
    """The least depth for the coefficients of the CK and of the NTK in one network."""
    if facts.untied:
        if rates == "free":
            return Finding(f"{_UNTIED}, of which only the readout is trained", "symbolic", 1, rate=arb(0))
        return Finding(
            "with sigma_a2 = 0 the NTK is the CK, and a network with trained hidden layers has a larger kappa^2",
            "symbolic",
            exists=False,
        )
    if facts.is_flat:
        return _both_depth_flat(facts, rates)
    alpha3 = facts.combination(alpha3=1)
    if not alpha3 > 0:
        return _tied("alpha3", alpha3, "is there a depth, else none is enough")
    return Finding(
        "no depth and no learning rates do: in every explicit network beta3/alpha3 <= 2*beta1/alpha1 - 1, and weight "
        "tying makes it 3*beta1/alpha1 - 2 in the DEQ",
        "certified",
        exists=False,
        quantity="alpha3",
        value=alpha3,
    )


def _both_depth_flat(facts: Facts, rates: str) -> Finding:
    """With d2 = 0 only alpha1, gamma^2, beta1 and kappa^2 are left, and beta1/alpha1 - 1 is the sum of the rates."""
    quantity = "beta1/alpha1 - 1"
    if facts.is_centred:
        if rates == "free":
            return Finding("d1 = d2 = 0: one layer, with any small learning rate of its weights", "symbolic", 1)
        return Finding("undecided: d1 = d2 = 0, where kappa^2/gamma^2 alone would have to decide", "undecided")
    with precision(BITS):
        total = facts.ball("beta1") / facts.ball("alpha1") - 1
    if rates == "free":
        reason = _flat_reason(facts, f"one layer whose hidden weights learn at the rate {float(total.mid()):.6g}")
        return Finding(reason, "symbolic", 1, quantity=quantity, value=total, rate=total)
    forced = "equal rates make beta1/alpha1 - 1 the number of layers"
    whole = total.unique_fmpz()
    if whole is None and not total.contains_integer():
        reason = f"no depth does: {forced}, and here it is {float(total.mid()):.6g}"
        return Finding(reason, "certified", exists=False, quantity=quantity, value=total)
    gain = facts.linear_gain
    if gain is not None and (gain / (1 - gain)).is_Integer:
        layers = int(gain / (1 - gain))
        return Finding(f"{forced}, and here it is {layers}", "symbolic", layers, quantity=quantity, value=total)
    return _tied(f"{quantity} - {whole}", total, "is that the depth, else there is none")


def _tied(quantity: str, value: arb, otherwise: str) -> Finding:
    """Undecided: a ball that contains 0, and no algebra that says whether it is."""
    reason = (
        f"undecided: {quantity} is {value.str(5)} and not distinguishable from 0; only where it vanishes {otherwise}"
    )
    return Finding(reason, "undecided", quantity=quantity, value=value)
