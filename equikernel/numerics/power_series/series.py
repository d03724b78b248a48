"""The kernels of a DEQ on a sphere as power series with proved coefficients (theory, section 6).

On data with ||x_i||^2 = r the implicit kernels are functions of s = <x_i, x_j> alone, with non-negative coefficients:
F(s) = sum b_k s^k and K(s) = sum k_k s^k. ``expansion`` computes them, ``support`` says which vanish, ``remainder``
bounds the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
from flint import arb

from equikernel.errors import InputError, UncertifiedError
from equikernel.numerics.balls.context import bits_of_digits, exact, precision
from equikernel.numerics.certificates.decimals import to_record
from equikernel.numerics.enclosed_moments import ball_number
from equikernel.numerics.moment_values import require_derivative
from equikernel.numerics.power_series.expansion import SphereEquation, expand
from equikernel.numerics.power_series.remainder import Remainder, remainder
from equikernel.numerics.power_series.support import hermite_support, kernel_support
from equikernel.theory.models import DEQ, exact_number, require_trained
from equikernel.theory.multiprecision import mp_arithmetic

__all__ = ["KernelSeries", "kernel_series"]

MAX_DIGITS = MAX_ORDER = 1000
KERNELS = ("ck", "ntk")
POSITIVE, ZERO, UNDECIDED = "positive", "zero (by symmetry)", "not decided"
_GUARD_BITS = 24
_MOST_EXTRA_BITS = 2000
_ATTEMPTS = 6


@dataclass(frozen=True)
class KernelSeries:
    """sum_{k=1}^order b_k s^k of the CK or NTK of a DEQ on the sphere ||x||^2 = radius2, |s| <= radius2.

    Attributes:
        deq: the network.
        radius2: r = ||x||^2 = tau0^2.
        kernel: "ck" or "ntk".
        trained: the parameters that the NTK trains.
        digits: significant digits asked for.
        q: a ball with the fixed point (a variance).
        coefficients: balls with b_1 .. b_order.
        verdicts: for each: "positive", "zero (by symmetry)" (both proved) or "not decided" (then zero or positive).
        remainder: what is known about the sum of the series at s = r and about its tail.
    """

    deq: DEQ
    radius2: Fraction
    kernel: str
    trained: str
    digits: int
    q: arb
    coefficients: tuple[arb, ...]
    verdicts: tuple[str, ...]
    remainder: Remainder

    @property
    def order(self) -> int:
        """The largest exponent kept."""
        return len(self.coefficients)

    @property
    def values(self) -> tuple[Any, ...]:
        """b_1 .. b_order as mpmath numbers of ``digits`` digits."""
        arithmetic = mp_arithmetic(self.digits + 10)
        with precision(bits_of_digits(self.digits + 10)):
            return tuple(ball_number(b, arithmetic, "").value for b in self.coefficients)

    def enclosure(self, s: Any) -> arb:
        """A ball that contains the kernel of two samples with inner product ``s``, tail included.

        Raises:
            InputError: s is not a number in [-radius2, radius2].
            UncertifiedError: no bound of the tail (see ``remainder``).
        """
        text = str(s).strip()
        inner = exact_number(text.removeprefix("-"), "|s|") * (-1 if text.startswith("-") else 1)
        if abs(inner) > self.radius2:
            raise InputError(f"s must be an inner product in [-{self.radius2}, {self.radius2}]; got {s}")
        tail = self.remainder.tail
        if tail is None:
            raise UncertifiedError(f"the tail of the series has no bound: {self.remainder.statement}")
        with precision(bits_of_digits(self.digits) + 2 * _GUARD_BITS + self.order.bit_length()):
            point = exact(inner)
            total = arb(0)
            for b in reversed(self.coefficients):
                total = (total + b) * point
            ratio = exact(abs(inner) / self.radius2)
            beyond = tail * ratio ** (self.order + 1)
            return total + (beyond.union(arb(0)) if inner >= 0 else arb(0, beyond.abs_upper()))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: coefficients as decimal enclosures {"mid", "rad"} with their verdicts; the tail."""
        return {
            "activation": self.deq.activation.name,
            "sigma_a2": str(self.deq.sigma_a2),
            "sigma_b2": str(self.deq.sigma_b2),
            "radius2": str(self.radius2),
            "kernel": self.kernel,
            "trained": self.trained,
            "order": self.order,
            "digits": self.digits,
            "q": to_record(self.q),
            "coefficients": [
                {"k": k, **to_record(b), "verdict": verdict}
                for k, (b, verdict) in enumerate(zip(self.coefficients, self.verdicts, strict=True), start=1)
            ],
            **self.remainder.to_dict(),
        }

    def to_latex(self, terms: int = 8, digits: int = 6) -> str:
        """The first ``terms`` non-zero terms, as LaTeX."""
        shown = [k for k, verdict in enumerate(self.verdicts) if verdict != ZERO][:terms]
        s = sp.Symbol("s")
        parts = [
            rf"{sp.latex(sp.Float(self.coefficients[k].str(digits, radius=False), digits))}\,{sp.latex(s ** (k + 1))}"
            for k in shown
        ]
        return f"{'F' if self.kernel == 'ck' else 'K'}(s) = " + " + ".join([*parts, r"\cdots"])


def kernel_series(
    deq: DEQ,
    radius2: Any = 1,
    order: int = 20,
    digits: int = 15,
    kernel: str = "ck",
    trained: str = "aA",
) -> KernelSeries:
    """The power series of the implicit CK or NTK on data of constant norm (theory, section 6).

    b_1 = alpha_1 and b_2 = alpha_3 of the four equations at tau0^2 = radius2 (for the NTK, beta_1 and beta_3). The
    smallest stable fixed point is meant, as in ``solve``.

    Accuracy: every coefficient is a ball; its relative radius is below 10^-digits unless that would take more than
    2000 bits beyond the digits asked for (the high coefficients of an entire function are that small). Time grows like
    order times the number of nodes: order 200 to 30 digits takes about a second.

    Args:
        deq: the network; its sigmas are variances.
        radius2: r = ||x||^2, a variance, positive.
        order: the largest exponent, 1 to 1000.
        digits: significant digits, 1 to 1000.
        kernel: "ck" or "ntk".
        trained: for the NTK, "a", "aA" or "aAB".

    Raises:
        InputError: arguments out of range; the NTK of an activation that jumps.
        NoFixedPointError: T(q) = q has no stable solution.
        UncertifiedError: something could not be proved, or not in the stated work.
    """
    deq.require_independent("power series of kernels are")
    require_trained(trained)
    r = exact_number(radius2, "radius2", positive=True)
    for name, value, most in (("order", order, MAX_ORDER), ("digits", digits, MAX_DIGITS)):
        if value not in range(1, most + 1):
            raise InputError(f"{name} must be a whole number from 1 to {most}; got {value!r}")
    if kernel not in KERNELS:
        raise InputError(f'kernel must be "ck" or "ntk"; got {kernel!r}')
    tangent = kernel == "ntk" and trained != "a"
    if tangent:
        require_derivative(deq.activation)
    equation = SphereEquation(deq, r)
    hermite = hermite_support(equation.function, order)
    support = kernel_support(hermite, order, feedback=deq.sigma_a2 > 0, tangent=tangent)
    groups = trained if tangent else "a"
    bits = wanted = bits_of_digits(digits) + _GUARD_BITS
    for _ in range(_ATTEMPTS):
        found = expand(equation, order, bits, groups)
        missing = max((_missing_bits(found.scaled[k], wanted, bits) for k in support), default=0)
        if missing <= 0 or bits + missing > wanted + _MOST_EXTRA_BITS:
            break
        bits += missing + _GUARD_BITS
    with precision(found.precision):
        scaled = [found.scaled[k] if k in support else arb(0) for k in range(1, order + 1)]
        coefficients = tuple(b / exact(r**k) for k, b in enumerate(scaled, start=1))
        rest = remainder(found, groups)
    verdicts = tuple(
        ZERO if k not in support else POSITIVE if b > 0 else UNDECIDED for k, b in enumerate(coefficients, start=1)
    )
    return KernelSeries(deq, r, kernel, trained, digits, found.q, coefficients, verdicts, rest)


def _missing_bits(ball: arb, wanted: int, bits: int) -> int:
    """Bits that a coefficient lacks; as many again as were tried if it is not told from zero."""
    return bits if ball.contains(0) else max(0, wanted - _GUARD_BITS // 2 - int(ball.rel_accuracy_bits()))
