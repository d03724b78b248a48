"""The phase diagram of an activation at initialisation, as plain data: statistics against sigma, and where they end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from equikernel.errors import EquikernelError
from equikernel.numerics.initialisation import Critical, InputLaw, critical_sigma, linear_deq
from equikernel.theory.activation import Activation, activation
from equikernel.theory.initialisation import FAMILIES, require_family
from equikernel.theory.initialisation_scales import scale_of
from equikernel.validation.initialisation.inputs import scaled_law
from equikernel.validation.initialisation.rows import InitRow, critical_record, init_rows

__all__ = ["PhaseDiagram"]

_BEYOND = 1.25  # how far past the critical sigma
_UNLIMITED = 4.0  # where the sweep ends if nothing is critical
_DECADES = (-1.25, 1.0)  # of the root mean square of x
_SHOWN = ("sigma", "mean_square", "stability", "tangent_length", "radius", "length_noise", "status")
_LINEAR_STEPS = 60
COMPARED_AT = 0.9  # share of the critical sigma at which the families are compared in tables


@dataclass(frozen=True)
class PhaseDiagram:
    """A unit of work: the phase diagram of one activation and input law.

    Attributes:
        act: activation.
        law: of the entries of x.
        families: of weights.
        match: what the abscissa is: "variance" (sigma itself), "radius" or "operator_norm" of W.
        points: values of sigma below the critical one; a quarter as many beyond.
        inputs: scales of x at which the critical sigma is found.
    """

    act: str | Activation
    law: InputLaw
    families: tuple[str, ...] = FAMILIES
    match: str = "variance"
    points: int = 20
    inputs: int = 16

    def describe(self) -> dict[str, Any]:
        """Everything that the numbers depend on, as plain JSON types."""
        phi = activation(self.act)
        return {
            "phase_diagram": {"activation": phi.name, "expression": str(phi.expr)},
            "law": {
                "name": self.law.name,
                "mean": str(self.law.mean),
                "variance": str(self.law.variance),
                "atoms": [str(atom) for atom in self.law.atoms],
            },
            "families": list(self.families),
            "match": self.match,
            "points": self.points,
            "inputs": self.inputs,
        }

    def measure(self, progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
        """The diagram as plain JSON types, for ``figures.draw_phase_diagram``.

        ``families`` holds the points of each family, closer to each other towards its critical sigma and past it as far
        as there is a fixed point; ``compared`` the full rows at 0.9 of it; ``boundary`` the critical sigma against the
        root mean square of x; ``linear`` the law of small x, where there is one.

        Args:
            progress: called with (done, total).

        Raises:
            EquikernelError: no family has a critical sigma here (bad input, a jump in phi).
        """
        phi = activation(self.act)
        for family in self.families:
            scale_of(require_family(family), self.match, 1)
        families, compared, failure = [], [], None
        total = len(self.families) + 1
        for done, family in enumerate(self.families):
            progress(done, total)
            try:
                critical = critical_sigma(phi, family, self.law)
            except EquikernelError as error:
                failure = error
                continue
            families.append(self._family(phi, family, critical))
            compared.append(self._compared(phi, family, critical))
        if failure is not None and not families:
            raise failure
        progress(total - 1, total)
        return {
            "activation": phi.name,
            "law": self.law.name,
            "match": self.match,
            "families": families,
            "compared": compared,
            "boundary": list(self._boundary(phi, [entry["family"] for entry in families])),
            "linear": self._linear(phi),
            "refused": None if failure is None else str(failure),
        }

    def _family(self, phi: Activation, family: str, critical: Critical) -> dict[str, Any]:
        found: dict[str, Any] = {"family": family, **critical_record(critical)}
        found["critical_scale"] = self._scale(family, found["critical_sigma"])
        rows = init_rows(
            phi, [family], list(self._sigmas(critical)), self.law, confirm=False, criticals={family: critical}
        )
        found["points"] = [self._point(row) for row in rows]
        return found

    def _sigmas(self, critical: Critical) -> Iterator[float]:
        """From 0 to nearly the critical sigma, dense there, and past it."""
        end = _UNLIMITED if math.isinf(critical.sigma) else critical.sigma
        for k in range(self.points):
            yield end * math.sin(0.5 * math.pi * k / self.points)
        if math.isfinite(critical.sigma):
            beyond = max(1, self.points // 4)
            for k in range(1, beyond + 1):
                yield end * (1 + (_BEYOND - 1) * k / beyond)

    def _point(self, row: InitRow) -> dict[str, Any]:
        record = {name: row.record.get(name) for name in _SHOWN}
        return {**record, "scale": self._scale(row.record["family"], record["sigma"])}

    def _compared(self, phi: Activation, family: str, critical: Critical) -> dict[str, Any]:
        sigma = COMPARED_AT * (_UNLIMITED if math.isinf(critical.sigma) else critical.sigma)
        (row,) = init_rows(phi, [family], [sigma], self.law, criticals={family: critical})
        return row.record

    def _scale(self, family: str, sigma: float | None) -> float | None:
        return None if sigma is None else float(scale_of(family, self.match, sigma))

    def _boundary(self, phi: Activation, families: list[str]) -> Iterator[dict[str, Any]]:
        """The critical sigma for x times a factor; iid and orthogonal weights have the same."""
        size = math.sqrt(self.law.moment(2))
        for factor in np.geomspace(10.0 ** _DECADES[0], 10.0 ** _DECADES[1], self.inputs) if size > 0 else ():
            law = scaled_law(self.law, float(f"{factor:.6g}"))
            limits: dict[bool, Critical | None] = {}
            for family in families:
                symmetric = family == "goe"
                if symmetric not in limits:
                    limits[symmetric] = _critical(phi, family, law)
                limit = limits[symmetric]
                if limit is None:
                    continue
                record = critical_record(limit)
                scale = self._scale(family, record["critical_sigma"])
                yield {"family": family, "rms": math.sqrt(law.moment(2)), "scale": scale, **record}

    def _linear(self, phi: Activation) -> dict[str, Any] | None:
        """The law of small x: z = phi'(0) W z + x, where phi(0) = 0 and phi is smooth there."""
        smooth = all(float(b) != 0 for b in phi.breakpoints)
        slope = abs(float(phi.derivative("numpy")(0.0)))
        if not smooth or float(phi.function("numpy")(0.0)) != 0 or slope == 0:
            return None
        power = self.law.moment(2)
        return {
            "slope": slope,
            "families": [
                {
                    "family": family,
                    "critical_scale": self._scale(family, _linear_end(family) / slope),
                    "points": [
                        {
                            "scale": self._scale(family, sigma / slope),
                            "mean_square": power * found.length,
                            "tangent_length": found.length,
                            "length_noise": power**2 * found.length_noise,
                        }
                        for sigma in (_linear_end(family) * (k / _LINEAR_STEPS) for k in range(1, _LINEAR_STEPS))
                        for found in (linear_deq(family, sigma),)
                    ],
                }
                for family in self.families
            ],
        }


def _linear_end(family: str) -> float:
    """The critical sigma of a linear DEQ: where the radius is 1."""
    return 1 / float(scale_of(family, "radius", 1))


def _critical(phi: Activation, family: str, law: InputLaw) -> Critical | None:
    try:
        return critical_sigma(phi, family, law)
    except EquikernelError:  # too extreme a scale of x for the integrals
        return None
