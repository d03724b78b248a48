r"""What a truncated series leaves out: bounds of its tail at s = r, where all terms are largest.

sum_k b_k r^k <= gamma^2 always, with equality just if sigma_a2 v <= 1 (docs/mathematics.md). In the chaotic phase
sigma_a2 v > 1 the sum is P(Y_0), Y_0 < 1 the smaller root of u(Y) = 1: u is concave with u(0) = 0, so that any Y with
u(Y) >= 1 is at least Y_0, and P(Y) bounds the sum. For the tangent kernel the sum is kappa^2 if sigma_a2 v < 1; in the
chaotic phase F(r) is divided by 1 - sigma_a2 P'(Y_0)/q > 0, and training the input weights adds
sigma_b2 r P'(Y_0)/q over the same. What P has beyond c_N is bounded by V - sum_{k<=N} c_k^2 times Y^(N+1), and what P'
has by the same times the largest k Y^(k-1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flint import arb

from equikernel.numerics.balls.context import exact, hull
from equikernel.numerics.certificates.decimals import to_record
from equikernel.numerics.power_series.expansion import SphereExpansion
from equikernel.theory.equations import ntk_entry

__all__ = ["Remainder", "remainder"]

_STEPS = 256
_HALVINGS = 30


@dataclass(frozen=True)
class Remainder:
    """The sum of the whole series at s = r, and its tail.

    Attributes:
        phase: "ordered" (sigma_a2 v < 1), "chaotic" (> 1), "critical" (not decided), from balls.
        diagonal: gamma^2 or kappa^2, the kernel of a sample with itself; None where it is infinite or has no meaning.
        tail: a ball in [0, oo) that contains sum_{k>order} b_k r^k; None where no bound is known.
        statement: how the sum of the series, the tail and the diagonal are related.
    """

    phase: str
    diagonal: arb | None
    tail: arb | None
    statement: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "phase": self.phase,
            "diagonal": None if self.diagonal is None else to_record(self.diagonal),
            "tail": None if self.tail is None else to_record(self.tail),
            "statement": self.statement,
        }


def remainder(expansion: SphereExpansion, trained: str) -> Remainder:
    """The remainder at the current precision; ``trained`` = "a" is the conjugate kernel."""
    phase, number = _phase(expansion)
    partial = sum(expansion.scaled, arb(0))
    diagonal: arb | None = None
    bound: arb | None = None
    if trained == "a":
        diagonal = bound = expansion.gamma2
    elif phase == "ordered":
        diagonal = bound = _kernel(expansion, trained, expansion.gamma2, expansion.slope_energy)
    if phase == "chaotic":
        bound = _bound_below_diagonal(expansion, trained) or bound
    tail = None
    if bound is not None:
        rest = bound - partial
        tail = hull(max(rest.lower(), arb(0)) if phase == "ordered" else 0, max(rest.upper(), arb(0)))
    return Remainder(phase, diagonal, tail, _SENTENCES[phase, trained == "a"].format(number))


def _phase(expansion: SphereExpansion) -> tuple[str, str]:
    """The phase, and sigma_a2 v as text."""
    deq, v = expansion.equation.deq, expansion.equation.rough.v_or_none
    if deq.sigma_a2 == 0:
        return "ordered", "0"
    if v is None:
        return "chaotic", "oo"
    gain = exact(deq.sigma_a2) * v
    return "ordered" if gain < 1 else "chaotic" if gain > 1 else "critical", gain.str(8, radius=False)


def _kernel(expansion: SphereExpansion, trained: str, value: arb, slope: arb | None) -> arb:
    """The kernel at s = r from F and the derivative in the covariance."""
    deq = expansion.equation.deq
    variances = exact(expansion.equation.radius2), exact(deq.sigma_a2), exact(deq.sigma_b2)
    kernel: arb = ntk_entry(value, slope, *variances, trained)
    return kernel


def _bound_below_diagonal(expansion: SphereExpansion, trained: str) -> arb | None:
    """An upper bound of the sum of the series in the chaotic phase; None if none better than the diagonal was found."""
    squares, order, q = expansion.squares, len(expansion.squares), expansion.q
    sigma_a2 = exact(expansion.equation.deq.sigma_a2)
    source = q - sigma_a2 * expansion.gamma2
    beyond = max((expansion.gamma2 - sum(squares, arb(0))).upper(), arb(0))

    def reached(Y: arb) -> bool:
        total = beyond * Y
        for square in reversed(squares):
            total = (total + square) * Y
        return bool(q * Y - sigma_a2 * total >= source)

    steps = (arb(k) / _STEPS for k in range(1, _STEPS))
    high = next((Y for Y in steps if reached(Y)), None)
    if high is None:
        return None
    low = high - arb(1) / _STEPS
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    value = (q * high - source) / sigma_a2
    if trained == "a":
        return value
    slope = beyond * _largest_power(order, high)
    for k in range(order, 0, -1):
        slope += k * squares[k - 1] * high ** (k - 1)
    slope /= q
    return _kernel(expansion, trained, value, slope) if sigma_a2 * slope < 1 else None


def _largest_power(order: int, Y: arb) -> arb:
    """A bound of k Y^(k-1) over k > order."""
    if (order + 1) * (1 - Y) >= Y:  # decreasing from there
        return (order + 1) * Y**order
    return 1 / (arb.const_e() * Y * -Y.log())


_SENTENCES: dict[tuple[str, bool], str] = {
    ("ordered", True): "sigma_a2*v = {} < 1: the series sums to the diagonal gamma^2 at s = r",
    ("ordered", False): "sigma_a2*v = {} < 1: the series sums to the diagonal kappa^2 at s = r",
    ("chaotic", True): "sigma_a2*v = {} > 1: nearly identical samples separate, and at s = r the series sums to less "
    "than the diagonal gamma^2",
    ("chaotic", False): "sigma_a2*v = {} > 1: nearly identical samples separate; the series is the kernel of distinct "
    "samples, and the kernel of a sample with itself, gamma^2/(1 - sigma_a2*v), has no meaning",
    ("critical", True): "sigma_a2*v = {} is not told from 1: the series sums to gamma^2 at s = r, or to less",
    (
        "critical",
        False,
    ): "sigma_a2*v = {} is not told from 1: at s = r the series may diverge, and its tail has no bound",
}
