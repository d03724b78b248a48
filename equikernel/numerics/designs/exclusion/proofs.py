"""Proofs that a family has no network with given coefficients; None where there is none, never a false proof.

In units of the data's standard deviation, with P = d1^2, S = d2^2 of the last layer (theory, section 5):

One layer. alpha = (P, S/4, S/2) and beta = (P (1 + eta), S/4, S (1/2 + eta)), eta = 1 at equal rates, whence
alpha2 = alpha3/2 and, at equal rates, beta2 = beta3/6. P and S fix two linear forms in the parameters of a linear
family, and the diagonal is the value of V + f v, f = 0 or eta, whose minimum over what is left is known.

Two layers. With p, s, H = h, W = v of a first layer scaled to V = 1,

    CK:   P p = alpha1,    P s + S p^2 = 2 alpha3,           P s + S H^2 = 4 alpha2,     V = gamma^2
    NTK:  P p = beta1/3,   P s + (5/4) S p^2 = beta3/2,      P s + S H^2/2 = 2 beta2,    V + (1 + W) v = kappa^2,

V and v being the second layer's. The difference of the second and third is the sign condition
S (H^2 - p^2) = 4 alpha2 - 2 alpha3, S (H^2 - (5/2) p^2) = 4 beta2 - beta3. The first layer of a linear family with k
functions is a direction in R^k, up to sign: a compact set, which is covered by boxes (``boxes``).

Hard tanh. With t = c/tau, d1 = 2 int_0^t phi(u) du and V/tau^2 = 2 int_0^t 2 u Q(u) du, Q the upper tail of phi. So
R = V/(tau d1)^2 < pi/2 if t Q(t) < pi phi(t) int_0^t phi for t > 0. With I = int_0^t exp(-u^2/2) du this is
g(t) = 1/I - exp(-t^2/2)/t < sqrt(2/pi), which is g(oo); and g' > 0 as I > t/sqrt(1 + t^2): the difference vanishes
at 0, first grows and then falls to sqrt(pi/2) - 1 > 0. R > 1 as the layer is not linear. Layers multiply:
gamma^2/(alpha1 tau0^2) = R_1 ... R_L.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import arb

from equikernel.errors import ActivationError, UncertifiedError
from equikernel.numerics.balls.context import exact, precision
from equikernel.numerics.designs.exclusion.boxes import MOST_FUNCTIONS, Conditions, Equations, exhaust
from equikernel.numerics.designs.exclusion.intervals import Intervals
from equikernel.numerics.designs.exclusion.layers import BallForms, FirstLayer, SecondLayer, ball_forms
from equikernel.numerics.designs.exclusion.shapes import is_even, is_hard_tanh, is_odd, scales
from equikernel.numerics.designs.problem import DesignProblem
from equikernel.theory.families import FAMILIES

__all__ = ["BOXES", "Exclusion", "prove_infeasible"]

BOXES = 20_000
_BITS = 80
_ALONE = 0.05  # of the boxes: spent on finding that one condition alone excludes everything


@dataclass(frozen=True)
class Exclusion:
    """A proof that a family has no network with the coefficients asked for.

    Attributes:
        statement: what was proved, in one sentence.
        method: "parity", "realisability" or "interval exclusion".
        boxes: how many boxes of parameters were looked at.
    """

    statement: str
    method: str
    boxes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def prove_infeasible(problem: DesignProblem, targets: Mapping[str, arb], boxes: int = BOXES) -> Exclusion | None:
    """Prove that no parameters satisfy the equations of a design.

    Args:
        problem: the equations; with free learning rates little is proved of the NTK.
        targets: enclosures of the coefficients, by the names in ``problem.target.fields``; others are ignored.
        boxes: how many boxes of parameters may be looked at.

    Returns:
        The proof, or None: there may be a network, or there is none and this was not proved.
    """
    with precision(_BITS):
        for ntk in (False, True):
            names = _names(ntk)
            if names[0] in problem.target.fields and all(_known(problem, targets, name) for name in names):
                found = _Question(problem, ntk, targets, boxes).answer()
                if found is not None:
                    return found
    return None


def _names(ntk: bool) -> tuple[str, str, str, str]:
    return ("beta1", "beta2", "beta3", "kappa2") if ntk else ("alpha1", "alpha2", "alpha3", "gamma2")


def _known(problem: DesignProblem, targets: Mapping[str, arb], name: str) -> bool:
    return name not in problem.target.fields or (name in targets and bool(targets[name].is_finite()))


def _shown(value: arb) -> str:
    return f"{float(value.mid()):.6g}"


class _Question:
    """One kernel's coefficients, in units of tau0."""

    def __init__(self, problem: DesignProblem, ntk: bool, targets: Mapping[str, arb], boxes: int) -> None:
        self.problem, self.ntk, self.boxes = problem, ntk, boxes
        self.names, self.targets = _names(ntk), targets
        scale = exact(problem.target.tau0) ** 2
        first, second, third, diagonal = self.names
        self.e1, self.e3, self.diagonal = targets[first], targets[third] * scale, targets[diagonal] / scale
        self.e2 = None if problem.target.on_sphere else targets[second] * scale
        self.free = ntk and problem.free_rates

    def answer(self) -> Exclusion | None:
        """The first proof found."""
        found = self._by_symmetry() or self._by_clipping()
        if found is None and self.problem.depth == 1:
            found = self._one_layer()
        if found is None and self.problem.depth == 2 and not self.free:
            found = self._two_layers()
        return found

    def _excluded(self, reason: str, method: str, boxes: int = 0) -> Exclusion:
        known = {f.layers[0]: f"the family {name}" for name, f in FAMILIES.items()}
        layers = "; ".join(dict.fromkeys(known.get(layer, layer.text) for layer in self.problem.layers))
        count = "one layer" if self.problem.depth == 1 else f"{self.problem.depth} layers"
        kernel = "NTK" if self.ntk else "CK"
        return Exclusion(
            f"no network of {count} of {layers} has the {kernel} coefficients of {self.problem.target.name}: {reason}",
            method,
            boxes,
        )

    def _here(self, *indices: int) -> str:
        """The target's own coefficients, for a message."""
        return "here " + " and ".join(f"{self.names[k]} = {_shown(self.targets[self.names[k]])}" for k in indices)

    @cached_property
    def _forms(self) -> list[BallForms | None]:
        """The moments of each layer as forms, where it is linear in its parameters."""
        tau0 = self.problem.target.tau0
        try:
            return [None if f.basis is None else ball_forms(f.basis, tau0, _BITS) for f in self.problem.layers]
        except (ActivationError, UncertifiedError):
            return [None] * self.problem.depth

    # -- symmetry and clipping -----------------------------------------------------------------------------------------

    def _vanishes(self, order: int) -> list[bool]:
        """Of each layer, whether d1 or d2 is zero for all parameters."""
        check = is_even if order == 1 else is_odd
        return [
            check(layer) or (forms is not None and all(x == 0 for x in forms.d.tolist()[order - 1]))
            for layer, forms in zip(self.problem.layers, self._forms, strict=True)
        ]

    def _by_symmetry(self) -> Exclusion | None:
        if not self.e1.contains(0) and any(self._vanishes(1)):
            return self._excluded(
                f"a layer of it is even, so that {self.names[0]} = 0, {self._here(0)}",
                "parity",
            )
        present = [k for k, e in ((2, self.e3), (1, self.e2)) if e is not None and not e.contains(0)]
        if present and all(self._vanishes(2)):
            name = self.names[present[0]]
            return self._excluded(
                f"its layers are odd up to a constant, so that {name} = 0, {self._here(present[0])}",
                "parity",
            )
        return None

    def _by_clipping(self) -> Exclusion | None:
        if self.ntk or not all(is_hard_tanh(layer) for layer in self.problem.layers) or not self.e1 > 0:
            return None
        ratio, limit = self.diagonal / self.e1, (arb.pi() / 2) ** self.problem.depth
        if not (ratio >= limit or ratio <= 1):
            return None
        return self._excluded(
            f"gamma^2/(alpha1 tau0^2) of clipped layers lies strictly between 1 and {_shown(limit)}, here it is "
            f"{_shown(ratio)}",
            "realisability",
        )

    # -- one layer -----------------------------------------------------------------------------------------------------

    def _one_layer(self) -> Exclusion | None:
        found = self._tie()
        if found is not None:
            return found
        numbers = self._last_layer()
        if numbers is None:
            return None
        P, S, f = (Intervals.of(x)[None] for x in numbers)
        f = f.meet(Intervals([0.0], [np.inf]))
        diagonal = Intervals.of(self.diagonal)
        fixed = f"{self.names[0]} and {self.names[2]} fix d1^2 and d2^2, with which"
        one, half = Intervals.exactly(1.0), Intervals.exactly(0.5)
        least = P * (one + f) + S * (half + f)
        if least.low[0] > diagonal.high:
            return self._excluded(
                f"{fixed} {self.names[3]} exceeds that of the target whatever the activation, {self._here(0, 2, 3)}",
                "realisability",
            )
        forms = self._forms[0]
        layer = None if forms is None else SecondLayer.of(forms, ntk=self.ntk)
        with np.errstate(all="ignore"):
            if layer is None or not layer.excludes(P, S, f, diagonal).all():
                return None
        return self._excluded(
            f"{fixed} no layer of it has the {self.names[3]} of the target, {self._here(0, 2, 3)}",
            "realisability",
        )

    def _tie(self) -> Exclusion | None:
        """What one layer forces upon the coefficients, whatever its activation."""
        if self.e2 is None:
            return None
        _, second, third, _ = self.names
        if self.free:
            fails, tie = self.e3 < 2 * self.e2, f"{third} >= 2 {second}"
        else:
            factor = 6 if self.ntk else 2
            fails, tie = not (factor * self.e2 - self.e3).contains(0), f"{second} = {third}/{factor}"
        if not fails:
            return None
        return self._excluded(
            f"one layer forces {tie} whatever its activation, {self._here(1, 2)}",
            "realisability",
        )

    def _last_layer(self) -> tuple[arb, arb, arb] | None:
        """P, S and f of a single layer."""
        if not self.ntk:
            return self.e1, self._common(2 * self.e3, 4), arb(0)
        if not self.free:
            return self.e1 / 2, self._common(2 * self.e3 / 3, 4), arb(1)
        if self.e2 is None or not self.e2 > 0:
            return None
        rate = self.e3 / (4 * self.e2) - arb(1) / 2
        return self.e1 / (1 + rate), 4 * self.e2, rate

    def _common(self, ball: arb, factor: int) -> arb:
        """A ball and what e2 gives for the same number, which overlap once the tie was looked at."""
        other = ball if self.e2 is None else factor * self.e2
        return ball.intersection(other) if ball.overlaps(other) else ball

    # -- two layers ----------------------------------------------------------------------------------------------------

    @cached_property
    def _equations(self) -> Equations:
        if self.ntk:
            return Equations(True, self.e1 / 3, self.e3 / 2, None if self.e2 is None else 2 * self.e2, self.diagonal)
        return Equations(False, self.e1, 2 * self.e3, None if self.e2 is None else 4 * self.e2, self.diagonal)

    def _two_layers(self) -> Exclusion | None:
        one, two = self._forms
        if one is None or two is None or one.size > MOST_FUNCTIONS:
            return None
        first = FirstLayer.of(one, ntk=self.ntk)
        if first is None:
            return None
        conditions = Conditions(self._equations, SecondLayer.of(two, ntk=self.ntk))
        alone = int(_ALONE * self.boxes)
        looked_at = 0
        for fails, reason, most in (
            (conditions.sign, self._sign_reason, 0 if self.e2 is None else alone),
            (conditions.first, self._first_reason, alone),
            (conditions.both, self._both_reason, self.boxes),
        ):
            done, boxes = exhaust(first, fails, min(most, self.boxes - looked_at))
            looked_at += boxes
            if done:
                return self._excluded(reason(), "interval exclusion", looked_at)
        return None

    def _sign_reason(self) -> str:
        if self.e2 is None:
            raise AssertionError("there is a sign condition only where the norms vary")
        _, second, third, _ = self.names
        # S <= 2 gamma^2 and S <= (2/5) kappa^2, by V >= P + S/2 and W >= V
        if self.ntk:
            tie, power, bound = f"4 {second} - {third}", "h^2 - (5/2) d1^4", 5 * (4 * self.e2 - self.e3) / 2
        else:
            tie, power, bound = f"2 {second} - {third}", "h^2 - d1^4", 2 * self.e2 - self.e3
        bound = bound / self.diagonal
        side, sign = ("at least", ">") if bound > 0 else ("at most", "<")
        return (
            f"sign condition: {tie} {sign} 0 ({self._here(1, 2)}) needs {power} of the first layer to be {side} "
            f"{_shown(bound)}, and no layer of it has that"
        )

    def _first_reason(self) -> str:
        return "none of its first layers leaves what a second layer, of this or any other family, could have"

    def _both_reason(self) -> str:
        # what the second layer can be may depend on the scale of its input
        scaled = "" if scales(self.problem.layers[1]) else ", at the data's standard deviation as its input's,"
        return (
            f"whichever first layer of it is taken, no second one{scaled} with the d1 and d2 that are then needed has "
            f"the {self.names[3]} of the target"
        )
