"""What is computed of a DEQ at initialisation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import mpmath

from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.precision import Precision

__all__ = ["MeanField", "finer"]

_RESIDUAL_DIGITS, _GUARD = 32, 10
_FLOAT_DIGITS = 17


@dataclass(frozen=True)
class MeanField:
    """Leading values in 1/N; floats, or mpmath numbers if ``digits`` were asked for.

    Attributes:
        activation, family, law: what was asked for.
        sigma: scale of W, a standard deviation; None for a W given by its R-transform.
        digits: None for float64.
        mean_square: q = |z|^2/N.
        chi: s E phi'(u)^2 (iid, orthogonal), which is radius^2; the response E dz/dg (symmetric W).
        stability: what must be below 1 for the fixed point to be locally stable: chi (iid, orthogonal), R = s E y^2
            (goe). Perturbations decay by its square root an iteration (iid, orthogonal).
        stable: the verdict.
        kappa: s dE[z^2]/dv at v = s q; None for symmetric W.
        tangent_length: T = tau((I-J)^-T (I-J)^-1); None if unstable.
        tangent_square: tau of the square of that matrix; None if unstable or symmetric.
        radius: spectral radius of J: sqrt(chi), or the edge (goe).
        radius_bounds: bracket of the edge, see ``goe_edge``; None where the radius has a formula of its own.
        length_noise: N Var q at fixed x; None if unstable or not known. For goe with Gaussian x in float64 always.
        residual: relative defect of the fixed-point equations, recomputed with more digits (unless told otherwise).
        status: "solved" or "unstable".
    """

    activation: str
    family: str
    sigma: Any
    law: InputLaw
    digits: int | None
    mean_square: Any
    chi: Any
    stability: Any
    stable: bool
    kappa: Any
    tangent_length: Any
    tangent_square: Any
    radius: Any
    length_noise: Any
    residual: float
    status: str
    radius_bounds: tuple[Any, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; numbers of more than 17 digits are strings."""

        def plain(value: Any) -> Any:
            if self.digits is None or not hasattr(value, "context"):
                return value
            return mpmath.nstr(value, self.digits) if self.digits > _FLOAT_DIGITS else float(value)

        apart = ("law", "sigma", "radius_bounds")
        found = {name: plain(value) for name, value in asdict(self).items() if name not in apart}
        found["radius_bounds"] = None if self.radius_bounds is None else [plain(bound) for bound in self.radius_bounds]
        return {**found, "law": self.law.name, "sigma": None if self.sigma is None else float(self.sigma)}


def finer(precision: Precision) -> Precision:
    """The arithmetic in which residuals are recomputed."""
    return Precision(_RESIDUAL_DIGITS if precision.digits is None else precision.digits + _GUARD)
