r"""How many terms a sphere design takes, and the proof of what they leave.

The kernel of the DEQ is K(s) = sum_k m_k (s/r)^k, m_k >= 0 (``numerics.power_series``); that of the network with
sigma(t) = sum_k c_k he_k(t/sqrt(r)) and the learning rate eta of its hidden layer is sum_k (1 + eta k) c_k^2 (s/r)^k,
eta = 0 for the conjugate kernel. With the floats c_k nearest to sqrt(m_k/(1 + eta k)),

    sup_{|s| <= r} |difference| <= sum_{k > N} m_k + sum_{k <= N} |(1 + eta k) c_k^2 - m_k| + shift,

where the shift is for the network's scale tau, a float too. With e = |r/tau^2 - 1|, Hermite coefficients a_k at sqrt(r)
instead of tau (formula in ``numerics.hermite_scales``; c_0 = 0), w_k^2 = 1 + eta k and sqrt(m (m - 1)) <= m,

    |w (a - c)| <= (3/2) e exp(2 N e) |w k c|    (Euclidean norms over k = 0 .. N),
    shift = sum_k w_k^2 |a_k^2 - c_k^2| <= |w (a - c)| (2 |w c| + |w (a - c)|).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from flint import arb

from equikernel.errors import NoDesignError
from equikernel.numerics.balls.context import exact, precision
from equikernel.numerics.power_series import KernelSeries, kernel_series
from equikernel.theory.models import DEQ

__all__ = ["BITS", "MAX_TERMS", "Plan", "plan_for_terms", "plan_for_tolerance", "series_of"]

MAX_TERMS = 1000
BITS = 128
_ORDERS = (32, 128, 400, MAX_TERMS)
_DIGITS = 20  # of the series: three beyond the floats
_NEGLIGIBLE = 1e-3  # of the error


def series_of(deq: DEQ, r: Fraction, order: int, kernel: str, trained: str) -> KernelSeries:
    """The series to a few digits more than floats have."""
    return kernel_series(deq, r, order, _DIGITS, kernel, trained)


@dataclass(frozen=True)
class Plan:
    """|c_0| .. |c_N|, the scale, and proved bounds of the error.

    Attributes:
        q: the fixed point of the DEQ.
        scale: tau.
        magnitudes: |c_k|.
        error: absolute.
        relative: to the diagonal.
        tail: what the whole series that was computed leaves, relative to the diagonal.
    """

    q: float
    scale: float
    magnitudes: tuple[float, ...]
    error: arb
    relative: arb
    tail: arb

    @property
    def terms(self) -> int:
        """N."""
        return len(self.magnitudes) - 1

    @property
    def is_rounding(self) -> bool:
        """Whether more terms would not help."""
        return bool(self.tail < _NEGLIGIBLE * self.relative)


Expand = Callable[[int], tuple[KernelSeries, ...]]  # order -> the kernels to match, the first of which sets the c_k


def plan_for_terms(expand: Expand, rate: float, terms: int) -> Plan:
    """The plan with N = ``terms``.

    Raises:
        NoDesignError: the chaotic phase.
    """
    return _plans(expand(terms), rate)[-1]


def plan_for_tolerance(expand: Expand, rate: float, goal: float, enough: int = MAX_TERMS + 1) -> Plan:
    """The plan with the least number of terms whose relative error is proved to be at most ``goal``.

    With ``enough`` terms the goal is given up, and they are the plan.

    Raises:
        NoDesignError: 1000 terms do not reach it, or float64 does not; the chaotic phase.
    """
    best: Plan | None = None
    for order in (*(order for order in _ORDERS if order < enough), *([enough] if enough <= MAX_TERMS else [])):
        series = expand(order)
        plans = _plans(series, rate)
        for plan in plans:
            if plan.relative <= goal:
                return plan
        best = min(plans, key=lambda plan: float(plan.relative.mid()))
        if order == enough:
            return best
        if best.is_rounding:
            break
    if best is None:
        raise AssertionError("there is an order to try")
    raise _out_of_reach(series, goal, best)


def _out_of_reach(series: tuple[KernelSeries, ...], goal: float, best: Plan) -> NoDesignError:
    kernels = " and ".join(one.kernel.upper() for one in series)
    what = f"the {kernels} of {series[0].deq.activation.name}"
    reached = f"{best.relative.str(2, radius=False)} of the diagonal"
    if best.is_rounding:
        return NoDesignError(
            f"float64 coefficients do not give {what} to {goal:.3g}: the least error that can be proved is {reached}, "
            f"with {best.terms} terms; ask for a larger tolerance"
        )
    return NoDesignError(
        f"{MAX_TERMS} terms leave an error of {reached} in {what}, {goal:.3g} was asked for: the series decays slowly; "
        f"ask for a larger tolerance, or for terms={MAX_TERMS}"
    )


def _plans(series: tuple[KernelSeries, ...], rate: float) -> list[Plan]:
    """The plans with 1, 2, .. order terms (those that end in a zero left out, but for the last)."""
    r = series[0].radius2
    with precision(BITS):
        scale = float(exact(r).sqrt().mid())
        errors = [_Errors(one, rate) for one in series]
        magnitudes = errors[0].magnitudes()
        shift = abs(exact(r) / exact(Fraction(scale)) ** 2 - 1).upper()
        tail = max(error.tail for error in errors)
        plans = []
        for k in range(1, len(magnitudes)):
            for error in errors:
                error.add(k, magnitudes[k])
            if magnitudes[k] > 0.0 or k + 1 == len(magnitudes):
                worst = max((error.bound(k, shift) for error in errors), key=lambda pair: float(pair[1].mid()))
                plans.append(Plan(float(series[0].q.mid()), scale, tuple(magnitudes[: k + 1]), *worst, tail))
    return plans


class _Errors:
    """The error of one kernel as terms are added.

    Args:
        series: of the kernel.
        rate: eta in the NTK; the CK has none.

    Raises:
        NoDesignError: a network's kernel is continuous at s = r, and the DEQ's is not.
    """

    def __init__(self, series: KernelSeries, rate: float) -> None:
        rest = series.remainder
        if rest.phase == "chaotic" or rest.tail is None or rest.diagonal is None:
            raise NoDesignError(
                f"no network has the kernel of {series.deq.activation.name} on the sphere with its diagonal: "
                f"{rest.statement}; reduce sigma_a2"
            )
        r = series.radius2
        self._target = [arb(0), *(b * exact(r**k) for k, b in enumerate(series.coefficients, start=1))]
        self._rate = exact(Fraction(rate)) if series.kernel == "ntk" else arb(0)
        self._diagonal = rest.diagonal
        beyond = [rest.tail.upper()]
        for m in reversed(self._target):
            beyond.append((beyond[-1] + m.upper()).upper())
        self._beyond = beyond[::-1]  # [k] = sum from k on
        self._rounding = self._norm = self._moved = arb(0)

    @property
    def tail(self) -> arb:
        """What the whole series leaves, relative to the diagonal."""
        return (self._beyond[-1] / self._diagonal).upper()

    def magnitudes(self) -> list[float]:
        """The floats |c_k|, for this kernel."""
        squares = [(m / (1 + self._rate * k)).mid() for k, m in enumerate(self._target)]
        return [float(square.sqrt().mid()) if square > 0 else 0.0 for square in squares]

    def add(self, k: int, c: float) -> None:
        """Take c_k in."""
        square = exact(Fraction(c)) ** 2 * (1 + self._rate * k)
        self._rounding = (self._rounding + abs(square - self._target[k])).upper()
        self._norm = (self._norm + square).upper()
        self._moved = (self._moved + k * k * square).upper()

    def bound(self, k: int, shift: arb) -> tuple[arb, arb]:
        """The bound with k terms, absolute and relative to the diagonal."""
        gap = 3 * shift / 2 * (2 * k * shift).exp() * self._moved.sqrt()
        total = self._beyond[k + 1] + self._rounding + gap * (2 * self._norm.sqrt() + gap)
        return total.upper(), (total / self._diagonal).upper()
