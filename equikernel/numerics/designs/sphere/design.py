r"""One hidden layer with exactly the kernel of a DEQ on a sphere ||x||^2 = r (theory, section 6).

On the sphere the CK of the DEQ is F(s) = sum_k b_k s^k and its NTK sum_k k_k s^k, with coefficients >= 0. The network
with sigma(t) = sum_k c_k he_k(t/sqrt(r)) has the CK sum_k c_k^2 (s/r)^k and, the hidden layer being trained at eta
times the readout's rate, the NTK sum_k (1 + eta k) c_k^2 (s/r)^k. So c_k^2 = b_k r^k, or k_k r^k/(1 + k), with any
signs. ``sphere_terms`` says how many terms it takes, ``signs`` which signs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from flint import arb

from equikernel.errors import InputError, NoDesignError
from equikernel.numerics.balls.context import precision
from equikernel.numerics.designs.sphere.signs import CRITERION, chosen_signs, require_signs, steepness
from equikernel.numerics.designs.sphere.terms import BITS, MAX_TERMS, plan_for_terms, plan_for_tolerance, series_of
from equikernel.numerics.files import write_text
from equikernel.numerics.hermite_series import HermiteSeries
from equikernel.numerics.power_series import KernelSeries
from equikernel.theory.models import DEQ, ExplicitNetwork, Layer, exact_number, require_trained

__all__ = ["SphereDesign", "sphere_design"]

TOLERANCE, _ENOUGH = 1e-6, 200  # by default so small an error, or so many terms
_PROBED = 12  # coefficients that are looked at before both kernels are asked for


@dataclass(frozen=True)
class SphereDesign:
    """A network of one hidden layer with the CK or NTK of a DEQ on the sphere ||x||^2 = radius2.

    Attributes:
        network: its layer is a ``HermiteSeries``; tau0 = sqrt(radius2).
        deq: the DEQ.
        radius2: r.
        match: "ck", "ntk" or "both".
        trained: what the DEQ's NTK trains.
        terms: N, the largest k with a coefficient.
        coefficients: c_0 = 0, c_1 .. c_N, signs included.
        signs: eps_1 .. eps_N.
        kernel_error: proved bound of |kernel of the network - kernel of the DEQ| over |s| <= r, the diagonal included;
            for "both", of the kernel where it is larger relative to its diagonal.
        relative_error: proved bound of the same, relative to the DEQ's kernel at s = r.
        steepness: max |sigma'(t)| over |t| <= 4 sqrt(r), what "smooth" signs minimise.
        status: "proved": the bounds are. They are about the network at infinite width with these float64 numbers; what
            evaluating its kernel in float64 adds is not in them.
    """

    network: ExplicitNetwork
    deq: DEQ
    radius2: Fraction
    match: str
    trained: str
    terms: int
    coefficients: tuple[float, ...]
    signs: tuple[int, ...]
    kernel_error: arb
    relative_error: arb
    steepness: float
    status: str = "proved"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the bounds as floats, rounded up."""
        return {
            "match": self.match,
            "trained": self.trained,
            "activation": self.deq.activation.name,
            "sigma_a2": str(self.deq.sigma_a2),
            "sigma_b2": str(self.deq.sigma_b2),
            "radius2": str(self.radius2),
            "terms": self.terms,
            "scale": self.network.tau0,
            "rates": list(self.network.rates),
            "coefficients": list(self.coefficients),
            "signs": list(self.signs),
            "kernel_error": _above(self.kernel_error),
            "relative_error": _above(self.relative_error),
            "criterion": CRITERION,
            "steepness": self.steepness,
            "status": self.status,
        }

    def save(self, path: str | Path) -> None:
        """Write ``to_dict`` and the network as JSON, all at once; ``ExplicitNetwork.from_dict`` reads the network."""
        record = self.to_dict() | {"network": self.network.to_dict()}
        write_text(Path(path), json.dumps(record, indent=1) + "\n")

    def to_latex(self, terms: int = 12, digits: int = 10) -> str:
        """The first ``terms`` Hermite polynomials that do not vanish, as a display; needs amsmath."""
        kept = [(k, c) for k, c in enumerate(self.coefficients) if c][:terms]
        parts = [rf"{c:+.{digits}g}\,\mathrm{{he}}_{{{k}}}\!\left(x/\sqrt{{r}}\right)" for k, c in kept]
        dots = r" + \cdots" if len(kept) < np.count_nonzero(self.coefficients) else ""
        body = r" \\ & \quad ".join(" ".join(parts[i : i + 3]) for i in range(0, len(parts), 3)).removeprefix("+")
        return "\n".join([r"\begin{align*}", rf"\sigma(x) &= {body}{dots}", r"\end{align*}"])

    def to_torch(self, width: int, in_features: int, **options: Any) -> Any:
        """``network.to_torch``."""
        return self.network.to_torch(width, in_features, **options)


def sphere_design(
    deq: DEQ,
    radius2: Any = 1,
    match: str = "ck",
    *,
    tolerance: float | None = None,
    terms: int | None = None,
    trained: str = "aA",
    signs: str | Sequence[int] = "smooth",
) -> SphereDesign:
    """The one-hidden-layer network with the DEQ's kernel on data of constant norm, for any activation.

    Args:
        deq: the network to imitate; its sigmas are variances.
        radius2: r = ||x||^2 = tau0^2 of all samples.
        match: "ck"; "ntk" (all layers of the network trained, at equal rates); or "both", which needs a linear
            activation or sigma_a2 = 0.
        tolerance: of the kernel, relative to its diagonal; the least number of terms that is proved to reach it is
            taken. By default 1e-6, or what 200 terms leave, unless ``terms`` is given.
        terms: N instead, 1 to 1000, whatever error it leaves.
        trained: which parameters of the DEQ the NTK trains: "a", "aA" or "aAB".
        signs: "smooth" (the smallest max |sigma'(t)| over |t| <= 4 sqrt(r) that single flips lead to from a few
            starts), "own" (those of phi's Hermite coefficients at sqrt(q)), "plus", or N numbers +1 and -1.

    Raises:
        InputError: arguments out of range; both tolerance and terms; an activation that jumps, for the NTK.
        NoDesignError: the tolerance is out of reach of 1000 terms; the chaotic phase; both kernels where no network
            has them.
        NoFixedPointError, UncertifiedError: as ``kernel_series``.
    """
    r = _checked(deq, radius2, match, tolerance, terms, trained)
    require_signs(signs)
    rate = _common_rate(deq, r, trained) if match == "both" else 1.0 if match == "ntk" else 0.0
    kernels = ("ck", "ntk") if match == "both" else (match,)

    def expand(order: int) -> tuple[KernelSeries, ...]:
        return tuple(series_of(deq, r, order, kernel, trained) for kernel in kernels)

    if terms is None and tolerance is None:
        plan = plan_for_tolerance(expand, rate, TOLERANCE, _ENOUGH)
    elif terms is None:
        plan = plan_for_tolerance(expand, rate, float(tolerance or 0.0))
    else:
        plan = plan_for_terms(expand, rate, terms)
    scale = plan.scale
    magnitudes = np.array(plan.magnitudes)
    chosen = chosen_signs(signs, magnitudes, scale, deq.activation, plan.q)
    coefficients = magnitudes * np.array([0, *chosen]) + 0.0
    layer = Layer(HermiteSeries(coefficients, scale), (("degree", plan.terms), ("scale", scale)))
    network = ExplicitNetwork((layer,), scale, (rate,) if match == "both" else ())
    return SphereDesign(
        network, deq, r, match, trained, plan.terms, tuple(coefficients.tolist()), chosen,
        plan.error, plan.relative, steepness(coefficients, scale),
    )  # fmt: skip


def _checked(deq: Any, radius2: Any, match: Any, tolerance: Any, terms: Any, trained: str) -> Fraction:
    """radius2, after refusing bad arguments."""
    if not isinstance(deq, DEQ):
        raise InputError(f"a sphere design needs a DEQ; got {type(deq).__name__}")
    if match not in ("ck", "ntk", "both"):
        raise InputError(f'match must be "ck", "ntk" or "both"; got {match!r}')
    require_trained(trained)
    if tolerance is not None and terms is not None:
        raise InputError("give tolerance or terms, not both: each determines the other")
    if terms is not None and (isinstance(terms, bool) or terms not in range(1, MAX_TERMS + 1)):
        raise InputError(f"terms must be a whole number from 1 to {MAX_TERMS}; got {terms!r}")
    if tolerance is not None and not (isinstance(tolerance, int | float) and 0 < tolerance < 1):
        raise InputError(f"tolerance must lie between 0 and 1, relative to the diagonal; got {tolerance!r}")
    return exact_number(radius2, "radius2", positive=True)


def _above(bound: arb) -> float:
    return math.nextafter(float(bound.mid()), math.inf)


# -- both kernels ------------------------------------------------------------------------------------------------------


def _common_rate(deq: DEQ, r: Fraction, trained: str) -> float:
    """The learning rate eta with k_k = (1 + eta k) b_k for all k, b_k and k_k the coefficients of the CK and the NTK.

    Raises:
        NoDesignError: two coefficients prove that there is none.
    """
    ck, ntk = (series_of(deq, r, _PROBED, kernel, trained) for kernel in ("ck", "ntk"))
    if deq.sigma_a2 == 0:  # the DEQ is that network
        return 1.0 if trained == "aAB" else 0.0
    first: tuple[int, arb] | None = None
    with precision(BITS):
        for k, (b, m) in enumerate(zip(ck.coefficients, ntk.coefficients, strict=True), start=1):
            if not b > 0:
                continue
            rate = (m / b - 1) / k
            if first is None:
                first = k, rate
            elif not rate.overlaps(first[1]):
                raise NoDesignError(
                    f"no one-hidden-layer network has both kernels of {deq.activation.name} on this sphere: the CK "
                    "fixes all c_k^2, and for the NTK the learning rate of the hidden layer would have to be "
                    f"{_shown(first[1])} by the coefficient of s^{first[0]} and {_shown(rate)} by that of s^{k}; ask "
                    'for match="ck" or match="ntk"'
                )
    if first is None:
        raise NoDesignError(
            f"none of the first {_PROBED} coefficients of {deq.activation.name} is proved positive, so that no "
            'learning rate for both kernels can be told; ask for match="ck" or match="ntk"'
        )
    return max(float(first[1].mid()), 0.0)


def _shown(rate: arb) -> str:
    return "0" if rate.contains(0) else str(rate.str(6, radius=False))
