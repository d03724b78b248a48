"""A solution of the float64 search made exact: Newton's iteration in balls, decimals, and a proof that it is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
from flint import arb, arb_mat

from equikernel.numerics.balls.context import bits_of_digits, precision
from equikernel.numerics.certificates.decimals import to_record
from equikernel.numerics.designs.exact import ExactProblem, decimal_of_ball
from equikernel.numerics.designs.problem import DesignProblem
from equikernel.numerics.designs.search import jacobian

__all__ = ["DesignCertificate", "Refined", "refine"]

FloatArray = npt.NDArray[np.float64]
_GUARD_BITS = 60
_STEPS = 60
_RANK = 1e-9  # singular values below it, relative to the largest, are those of equations that follow from the others
_FROZEN = 1e-6  # learning rates below it are 0: the layer is not trained
_INFLATIONS = (2, 16, 256)
_THINNEST = 1e-6  # of the longest side: where a decimal is exact, a box must still hold what the others' squares move


@dataclass(frozen=True)
class DesignCertificate:
    """A proof by Krawczyk's operator that an exact solution lies next to the decimals of a design.

    Attributes:
        unknowns: the parameters solved for; the others are exactly the decimals given.
        radius: no unknown is further from its decimal than this.
        equations: the equations that the solution satisfies exactly.
        dependent: the remaining ones, which follow from those in the search's rank, with balls of their relative
            residuals: they hold to the size of the ball, and are not proved to hold exactly.
        residuals: balls of all relative residuals at the decimals themselves.
    """

    unknowns: tuple[str, ...]
    radius: arb
    equations: tuple[str, ...]
    dependent: Mapping[str, arb]
    residuals: Mapping[str, arb]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; balls as decimals {"mid", "rad"}."""
        return {
            "unknowns": list(self.unknowns),
            "radius": self.radius.str(3, radius=False),
            "equations": list(self.equations),
            "dependent": {name: to_record(ball) for name, ball in self.dependent.items()},
            "residuals": {name: to_record(ball) for name, ball in self.residuals.items()},
        }


@dataclass(frozen=True)
class Refined:
    """A solution as decimals.

    Attributes:
        decimals: of all parameters, layer by layer, and of the learning rates where they are unknowns.
        scales: of every layer's input, standard deviations as decimals.
        residuals: the relative residuals at the decimals, by equation.
        residual: the largest relative residual at the decimals, an upper bound where ``proved``.
        proved: whether the residual comes from enclosures.
        certificate: None where nothing could be proved; ``reason`` says why.
    """

    decimals: tuple[str, ...]
    scales: tuple[str, ...]
    residuals: Mapping[str, arb]
    residual: float
    proved: bool
    certificate: DesignCertificate | None
    reason: str = ""


@dataclass(frozen=True)
class _Square:
    """Rows and columns of a square system of full rank."""

    rows: list[int]
    columns: list[int]


def _square(J: FloatArray, keep: FloatArray, conditions: int) -> _Square:
    """Independent equations, the conditions among them, and unknowns that they determine, scaled by ``keep``."""
    scaled = J * keep
    size = np.linalg.norm(scaled, axis=1)
    values = np.linalg.svd(scaled, compute_uv=False)
    rank = int((values > _RANK * values[0]).sum())
    # the equations are those of the network only where its scales are the gauge's, and a coefficient that is zero is
    # so by the moments that vanish: these must hold exactly
    alive = size > _RANK * size.max()  # the others hold identically, but for rounding
    weight = np.where(alive, 1.0 / np.where(alive, size, 1.0), 0.0)
    weight[len(J) - conditions :] *= 1e6
    rows = sorted(scipy.linalg.qr((scaled * weight[:, None]).T, pivoting=True)[2][:rank])
    columns = sorted(scipy.linalg.qr(scaled[rows], pivoting=True)[2][:rank])
    return _Square([int(i) for i in rows], [int(j) for j in columns])


def refine(
    problem: DesignProblem, unknowns: FloatArray, targets: Mapping[str, arb], digits: int, *, certified: bool
) -> Refined:
    """Refine a solution to decimals of ``digits`` digits.

    Args:
        problem: the equations.
        unknowns: a solution in float64.
        targets: the coefficients as balls: points for the residual's sake, or enclosures of a DEQ's coefficients.
        digits: significant digits of the decimals.
        certified: whether a proof is wanted.
    """
    bits = 2 * bits_of_digits(digits) + _GUARD_BITS if certified else bits_of_digits(digits) + _GUARD_BITS
    exact = ExactProblem(problem, targets, bits)
    layers, rates = problem.parameters(unknowns[None])
    plain = np.concatenate([*layers, rates[:, : problem.depth] if problem.free_rates else rates[:, :0]], axis=1)[0]
    J = _plain_jacobian(problem, unknowns, plain)
    count = sum(problem.sizes)
    plain[count:][plain[count:] < _FROZEN] = 0.0
    keep = np.maximum(np.abs(plain), 1e-3 * np.abs(plain).max())
    keep[count:] = plain[count:]
    square = _square(J, keep, problem.conditions)
    with precision(bits):
        x = [arb(decimal_of_ball(arb(value), digits)) for value in plain]
        x = _newton(exact, x, square, J, digits)
        decimals = tuple(decimal_of_ball(value, digits if digits <= 15 else digits + 5) for value in x)
        at = [arb(text) for text in decimals]
        residuals = exact.values(at)
        scales = tuple(decimal_of_ball(tau, digits if digits <= 15 else digits + 5) for tau in exact.scales(at))
        residual = max(float(abs(f).upper()) for f in residuals)
        certificate, reason = None, ""
        if certified and not exact.differentiable:
            reason = "the moments of the family have no closed form in its parameters"
        elif certified:
            certificate = _krawczyk(exact, at, square, residuals)
            reason = "" if certificate else "Krawczyk's operator did not map a box around the decimals into itself"
    named = dict(zip(exact.names, residuals, strict=True))
    return Refined(decimals, scales, named, residual, exact.differentiable, certificate, reason)


def _plain_jacobian(problem: DesignProblem, unknowns: FloatArray, plain: FloatArray) -> FloatArray:
    """The float64 Jacobian in the parameters themselves instead of their logarithms."""
    J = jacobian(problem.residuals, unknowns[None])[0]
    # a parameter that underflowed is left as it is, for which any derivative will do
    scale = np.where(problem.positive & (plain > 0.0), plain, 1.0)
    return np.asarray(J / scale)


def _newton(exact: ExactProblem, x: list[arb], square: _Square, J: FloatArray, digits: int) -> list[arb]:
    """Iterate in the square system until the equations hold to the digits, or no longer improve."""
    goal, before = 10.0 ** -(digits + 3), float("inf")
    inverse = np.linalg.inv(J[np.ix_(square.rows, square.columns)])
    for _ in range(_STEPS):
        values = exact.values(x)
        chosen = [values[i].mid() for i in square.rows]
        size = max(float(abs(f)) for f in chosen)
        if size <= goal or not size < before:
            break
        before = size
        if exact.differentiable:
            columns = exact.columns(x, square.columns)
            matrix = arb_mat([[columns[j][i].mid() for j in range(len(square.columns))] for i in square.rows])
            step = [row[0].mid() for row in matrix.solve(arb_mat([[f] for f in chosen])).tolist()]
        else:
            rows = [sum((arb(float(c)) * f for c, f in zip(row, chosen, strict=True)), arb(0)) for row in inverse]
            step = [value.mid() for value in rows]
        for j, change in zip(square.columns, step, strict=True):
            x[j] = (x[j] - change).mid()
    return x


def _krawczyk(exact: ExactProblem, x: Sequence[arb], square: _Square, residuals: list[arb]) -> DesignCertificate | None:
    """K = x - C F(x) + (1 - C J(X)) (X - x) inside X proves one solution in X."""
    size = len(square.rows)
    chosen = [residuals[i] for i in square.rows]
    at = exact.columns(x, square.columns)
    C = arb_mat([[at[j][i].mid() for j in range(size)] for i in square.rows]).inv()
    C = arb_mat([[C[i, j].mid() for j in range(size)] for i in range(size)])
    shift = C * arb_mat([[f] for f in chosen])
    sides = [abs(shift[i, 0]).upper() for i in range(size)]
    least = max(sides, key=float) * _THINNEST
    for inflation in _INFLATIONS:
        radii = [inflation * max(side, least) + arb(2) ** (8 - exact.bits) for side in sides]
        box = list(x)
        for j, radius in zip(square.columns, radii, strict=True):
            box[j] = x[j] + arb(0, radius)
        columns = exact.columns(box, square.columns)
        J = arb_mat([[columns[j][i] for j in range(size)] for i in square.rows])
        rest = C * J
        moved = [
            -shift[i, 0] + sum(((int(i == j) - rest[i, j]) * arb(0, radii[j]) for j in range(size)), arb(0))
            for i in range(size)
        ]
        if all(abs(m) < radius for m, radius in zip(moved, radii, strict=True)):
            return _certificate(exact, box, square, radii, residuals)
    return None


def _certificate(
    exact: ExactProblem, box: Sequence[arb], square: _Square, radii: list[arb], residuals: list[arb]
) -> DesignCertificate:
    problem = exact.problem
    names = [f"{p}_{k + 1}" for k, layer in enumerate(problem.layers) for p in layer.parameters]
    names += [f"eta_{k + 1}" for k in range(problem.depth)]
    others = [i for i in range(len(exact.names)) if i not in square.rows]
    inside = exact.values(box)
    return DesignCertificate(
        unknowns=tuple(names[j] for j in square.columns),
        radius=max(radii, key=float),
        equations=tuple(exact.names[i] for i in square.rows),
        dependent={exact.names[i]: inside[i] for i in others},
        residuals=dict(zip(exact.names, residuals, strict=True)),
    )
