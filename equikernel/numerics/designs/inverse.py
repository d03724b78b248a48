"""The other direction: the DEQ whose kernels have the coefficients of a given explicit network, or the nearest one.

The unknowns are sigma_a^2 and the parameters of phi. Scaling the input of phi and both sigmas together changes nothing,
so that tau* = tau_0 may be asked for; then sigma_b^2 = 1 - sigma_a^2 V/tau_0^2 by the fixed point's equation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import EquikernelError, InputError, NoDesignError
from equikernel.numerics.designs.functionals import LayerModel, layer_model
from equikernel.numerics.designs.problem import exponentiated
from equikernel.numerics.designs.search import levenberg
from equikernel.numerics.designs.targets import Target
from equikernel.numerics.solve import solve
from equikernel.theory.equations import implicit_ck_coefficients, implicit_ntk_coefficients
from equikernel.theory.families import Family, LayerFamily, family
from equikernel.theory.models import DEQ, ExplicitNetwork

__all__ = ["NearestDEQ", "nearest_deq"]

FloatArray = npt.NDArray[np.float64]
_STARTS, _STEPS, _CHECKED = 200, 80, 12
_EXACT = 1e-10
_SMALLEST_GAIN = 1e-3
_NO_FEEDBACK = 1e-12  # share of the variance below which sigma_a^2 is zero


@dataclass(frozen=True)
class NearestDEQ:
    """A DEQ whose kernels' coefficients are a network's, or as near as its family comes.

    Attributes:
        deq: the DEQ, with tau* = tau0 for the network's data.
        residual: the largest difference of a coefficient, relative to the target or, where that is nothing beside its
            natural size, to that size; recomputed by ``solve``.
        exact: whether the residual is below 1e-10.
        target: the network's coefficients.
        achieved: the DEQ's.
        starts: the number of starting points.
    """

    deq: DEQ
    residual: float
    exact: bool
    target: dict[str, float]
    achieved: dict[str, float]
    starts: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        deq = {
            "activation": self.deq.activation.name,
            "sigma_a2": str(self.deq.sigma_a2),
            "sigma_b2": str(self.deq.sigma_b2),
        }
        return {"deq": deq} | {name: value for name, value in asdict(self).items() if name != "deq"}


def nearest_deq(
    network: ExplicitNetwork,
    family_: str | Family = "smooth",
    match: str = "ck",
    *,
    parameters: str = "",
    seed: int = 0,
) -> NearestDEQ:
    """The DEQ(sigma_a^2, sigma_b^2, phi of a family) whose kernels are nearest to a network's in their coefficients.

    Least squares of the relative differences of alpha1, alpha2, alpha3, gamma^2 (or the betas and kappa^2, trained
    "aA"), from 200 starts. What is found is solved again by ``solve``; a DEQ that is not stable is passed over.

    Args:
        network: any explicit network.
        family_: the family of phi, by name or formula; see ``theory.families.family``.
        match: "ck" or "ntk".
        parameters: signs of a formula's parameters.
        seed: of the starts.

    Raises:
        InputError: bad arguments; a network or family that jumps, for the NTK.
        NoDesignError: no stable DEQ of the family was found at all.
    """
    if match not in ("ck", "ntk"):
        raise InputError(f'match must be "ck" or "ntk"; got {match!r}')
    chosen = family(family_, parameters)
    layer = chosen.at_depth(1)[0]
    fit = _Inverse(Target.of(network, match), layer)
    x, r = levenberg(fit.residuals, fit.starts(_STARTS, seed), _STEPS)
    cost = np.where(np.isfinite(r).all(axis=1), np.einsum("bi,bi->b", r, r), np.inf)
    best: NearestDEQ | None = None
    for k in np.argsort(cost)[:_CHECKED]:
        if not np.isfinite(cost[k]) or (best is not None and best.exact):
            break
        found = fit.checked(x[k])
        if found is not None and (best is None or found.residual < best.residual):
            best = found
    if best is None:
        raise NoDesignError(
            f"no stable DEQ with an activation of the family {chosen.name} was found near the network: take another "
            "family"
        )
    return best


@dataclass(frozen=True)
class _Inverse:
    """The equations; unknowns are the parameters (logarithms of positive ones) and the logit of sigma_a^2 V/tau0^2."""

    target: Target
    layer: LayerFamily

    @cached_property
    def tau0(self) -> float:
        return float(self.target.tau0)

    @cached_property
    def model(self) -> LayerModel:
        return layer_model(self.layer, self.tau0)

    @cached_property
    def positive(self) -> npt.NDArray[np.bool_]:
        return np.array([bool(p.is_positive) for p in self.layer.parameters])

    def parameters(self, unknowns: FloatArray) -> FloatArray:
        return exponentiated(unknowns[:, :-1], self.positive)

    def starts(self, count: int, seed: int) -> FloatArray:
        rng = np.random.default_rng(seed)
        return rng.standard_normal((count, len(self.layer.parameters) + 1))

    def coefficients(self, unknowns: FloatArray) -> tuple[dict[str, FloatArray], FloatArray, FloatArray]:
        """The DEQ's coefficients, sigma_a^2 and sigma_b^2, (B,) each."""
        q = self.tau0**2
        with np.errstate(all="ignore"):
            m = self.model.moments(self.parameters(unknowns), np.full(len(unknowns), self.tau0))
            share = 1.0 / (1.0 + np.exp(-unknowns[:, -1]))
            sigma_a2, sigma_b2 = share * q / m.V, 1.0 - share
            ck = implicit_ck_coefficients(m.V, m.d1, m.d2, m.h, sigma_a2, sigma_b2)
            found = {"alpha1": ck.alpha1, "alpha2": ck.alpha2, "alpha3": ck.alpha3, "gamma2": ck.gamma2}
            gains = [1.0 - sigma_a2 * m.d1**2, 1.0 - sigma_a2 * m.h]
            if self.target.ntk:
                ntk = implicit_ntk_coefficients(ck, m.d1, m.d2, m.v, sigma_a2, sigma_b2, q, train_input=False)
                found |= {"beta1": ntk.beta1, "beta2": ntk.beta2, "beta3": ntk.beta3, "kappa2": ntk.kappa2}
                gains.append(1.0 - sigma_a2 * m.v)
            stable = np.min(gains, axis=0) > _SMALLEST_GAIN
        return {name: np.where(stable, value, np.nan) for name, value in found.items()}, sigma_a2, sigma_b2

    def relative(self, name: str, value: Any) -> Any:
        return (value - self.target.floats[name]) / self.target.units[name]

    def residuals(self, unknowns: FloatArray) -> FloatArray:
        found, _, _ = self.coefficients(unknowns)
        return np.stack([self.relative(name, found[name]) for name in self.target.fields], axis=1)

    def checked(self, unknowns: FloatArray) -> NearestDEQ | None:
        """The DEQ of one vector of unknowns, if it solves and is stable."""
        _, sigma_a2, sigma_b2 = self.coefficients(unknowns[None])
        values = self.parameters(unknowns[None])[0]
        text = self.layer.written([repr(float(v)) for v in values], repr(self.tau0))
        try:
            feedback = float(sigma_a2[0]) if sigma_b2[0] < 1.0 - _NO_FEEDBACK else 0.0
            deq = DEQ(text, repr(feedback), repr(float(sigma_b2[0])))
            solution = solve(deq, self.target.tau0, trained="aA" if self.target.ntk else "a")
        except EquikernelError:
            return None
        achieved = {name: float(getattr(solution, name)) for name in self.target.fields}
        residual = max(abs(self.relative(name, value)) for name, value in achieved.items())
        return NearestDEQ(deq, residual, residual <= _EXACT, dict(self.target.floats), achieved, _STARTS)
