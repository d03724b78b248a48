"""Gaussian energies and Hermite rows of the effective activations of a DEQ with GOE weights.

A sample whose g has variance v sees psi(g) = phi_c(u), u = g + a phi_c(u), where a = sigma_a2 E psi'(g) is a function
of v alone. So everything that a kernel needs of a sample is a function of v, as it is for i.i.d. weights, and is
tabulated and summed in the same way. Derivatives in v are total: psi itself changes with v. Source:
docs/initialisation.md, section "The kernel form with GOE weights".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from equikernel.errors import AccuracyError, ConvergenceError, SolutionError, UnstableError
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.kernel import kernel_sample, pair_kernel
from equikernel.numerics.initialisation.pair_table import PairTable, Side
from equikernel.numerics.initialisation.precision import Precision, slope_range
from equikernel.numerics.initialisation.response import Response, goe_transform
from equikernel.numerics.initialisation.symmetric import scale_of_u, symmetric
from equikernel.numerics.kernels.careful import CAREFUL, Pairs, Solved
from equikernel.numerics.kernels.samples import Scales
from equikernel.numerics.kernels.table import ENERGIES, HermiteTable, chebyshev, interpolation, project
from equikernel.numerics.quadrature import FIRST_LEVEL, Nodes, rule
from equikernel.theory.activation import Activation
from equikernel.theory.initialisation_kernel import response_drift, total_slope

__all__ = ["EffectiveTable", "effective_table", "solve_by_quadrature"]

FloatArray = npt.NDArray[np.float64]

_PLAIN = Precision()
_STEPS = 60
_SETTLED = 4e-16
_AGREEMENT = 1e-14  # of two levels
_GUESSES = 12  # Chebyshev points of an octave of the norms
_ASTRAY = 1e-2  # relative distance from the guess beyond which another solution has been found
_BEST = 1e-15  # relative step of Newton's iteration that leaves nothing
_PAIR_ERROR = 1e-13
_TINY = 1e-300


class _Response(NamedTuple):
    """At one v: a, the density of u (with dy), 1 - a phi', psi, g/sqrt(v), and chi's derivatives in v and a."""

    a: float
    density: FloatArray
    opening: FloatArray
    psi: FloatArray
    xi: FloatArray
    response_v: float
    response_a: float


class EffectiveTable(HermiteTable):
    """Energies and rows of the effective activation at any v at which it exists.

    ``Energies.mean`` is E psi + centre, so that what is centred for i.i.d. weights is centred here; ``mean_slope`` and
    ``variance_slope`` are total derivatives in v. Accuracy: 2e-14 of the row's norm (checked).

    Args:
        activation: phi, of bounded slope.
        sigma_a2: hidden variance.
        centre: the constant c of phi_c = phi - c.
    """

    tolerance = 2e-14

    def __init__(self, activation: Activation, sigma_a2: float, centre: float) -> None:
        super().__init__(activation)
        self.sigma_a2, self.centre = sigma_a2, centre
        self._law = InputLaw.centring(centre)
        self._range = slope_range(activation)
        self._laid_out: dict[int, tuple[float, int]] = {}

    @property
    def slope_energy_at_zero(self) -> float:
        """The limit of E psi'^2 as v -> 0, where phi_c(0) = 0; inf where nothing stable is left."""
        derivative = self.activation.derivative("numpy")
        d = np.array([derivative(1e-300), derivative(-1e-300)])
        gap = 1.0 - 4.0 * self.sigma_a2 * d * d  # y = d/(1 - sigma_a2 y d), the smaller root
        if (gap <= 0.0).any():
            return math.inf
        return float(np.mean((2.0 * d / (1.0 + np.sqrt(gap))) ** 2))

    def response(self, v: float) -> Response:
        """The fixed point of a sample with Var g = v, with its integrals."""
        a = self._at(v, self._nodes(math.ceil(math.log2(v)), 1)).a
        found = symmetric(self.activation, v, a, self._law, _PLAIN)
        return Response(found.square, found.response, v, a, found, goe_transform(self.sigma_a2))

    def sample_variances(self, bias: FloatArray, first: int) -> FloatArray:
        """The v with v = sigma_a2 E psi^2 + bias_i that continue the solution at small sigma_a2, (n,).

        A guess interpolated between the fixed points of an octave of the bias (or each sample's own fixed point, where
        some of the octave have none), then Newton's iteration.

        Args:
            bias: sigma_b2 ||x_i||^2, not negative.
            first: number of the first sample, for errors.

        Raises:
            UnstableError, ConvergenceError: a sample (named) without stable fixed point.
        """
        rest = float(self.activation(0.0)) - self.centre
        active = (bias > 0.0) | (self.sigma_a2 * rest * rest > 1e-28 * max(1.0, float(bias.max(initial=0.0))))
        result = np.zeros_like(bias)
        distinct, places = np.unique(bias[active], return_inverse=True)
        numbers = first + np.flatnonzero(active)[np.unique(places.ravel(), return_index=True)[1]]
        guesses = self._guesses(distinct, numbers)
        result[active] = self._polished(distinct, guesses, numbers)[places.ravel()]
        return result

    def _guesses(self, bias: FloatArray, numbers: npt.NDArray[np.int64]) -> FloatArray:
        guesses = np.empty_like(bias)
        with np.errstate(divide="ignore"):
            octaves = np.ceil(np.log2(bias))
        for octave in np.unique(octaves):
            members = np.flatnonzero(octaves == octave)
            curve = None
            if len(members) > _GUESSES and np.isfinite(octave):
                curve = self._curve(int(octave))
            if curve is None:
                for k in members:
                    guesses[k] = self._own(float(bias[k]), int(numbers[k]))
                continue
            points = 2.0 * (np.log2(bias[members]) - octave) + 1.0
            guesses[members] = interpolation(points, _GUESSES) @ curve
        return guesses

    def _curve(self, octave: int) -> FloatArray | None:
        """Values v at the Chebyshev points of an octave of the bias; None if there is none at some."""
        try:
            return np.array([self._own(2.0 ** (octave + 0.5 * (t - 1.0)), 0) for t in chebyshev(_GUESSES)[0]])
        except SolutionError:
            return None

    def _own(self, bias: float, number: int) -> float:
        """The v of one sample.

        Raises:
            UnstableError, ConvergenceError: names it.
        """
        try:
            return float(kernel_sample(self.activation, "goe", self.sigma_a2, 1.0, bias, self.centre).v)
        except SolutionError as error:
            raise type(error)(f"sample {number}: {error}") from None

    def _polished(self, bias: FloatArray, guesses: FloatArray, numbers: npt.NDArray[np.int64]) -> FloatArray:
        """Newton's iteration for v = sigma_a2 E psi^2 + bias; samples that have settled are left alone."""
        v = guesses.copy()
        pending = np.arange(len(v))
        for _ in range(_STEPS):
            if not len(pending):
                break
            value, slope = self.energies(v[pending]).second_moment(self.centre)
            step = (v[pending] - self.sigma_a2 * value - bias[pending]) / (1.0 - self.sigma_a2 * slope)
            v[pending] -= step
            far = pending[~(np.abs(v[pending] - guesses[pending]) <= _ASTRAY * guesses[pending])]
            if len(far):
                raise ConvergenceError(
                    f"the fixed point of sample {numbers[far[0]]} with {self.activation.name} and GOE weights is "
                    "nearly double and was not resolved; change sigma_a2 slightly"
                )
            pending = pending[np.abs(step) > _BEST * v[pending]]
        return v

    def _direct(self, octave: int, variances: FloatArray, terms: int) -> FloatArray:
        result = np.empty((len(variances), ENERGIES + terms))
        nodes = self._nodes(octave, terms)
        for i, v in enumerate(variances):
            at = self._at(float(v), nodes)
            weight = at.density * at.opening
            mean = float(weight @ at.psi) / float(weight.sum())
            f = at.psi - mean
            drift = response_drift(at.response_v, at.response_a, self.sigma_a2)
            slope = nodes.slope / at.opening
            # the density's derivatives: in v at fixed a, and in a, where g = u - a psi moves and 1 - a phi' opens
            heat = weight * (at.xi * at.xi - 1.0) / (2.0 * v)
            pull = weight * at.xi * at.psi / math.sqrt(v) - at.density * nodes.slope
            result[i, :ENERGIES] = (
                float(weight @ (f * f)),
                total_slope(float(heat @ (f * f)), float(pull @ (f * f)), drift),
                float(weight @ (slope * slope)),
                total_slope(float(heat @ f), float(pull @ f), drift),
            )
            half = np.exp(-0.25 * at.xi * at.xi)
            alive = half > _TINY
            factor = weight[alive] / half[alive] * f[alive]
            project(factor, half[alive], at.xi[alive], result[i, ENERGIES:])
            result[i, ENERGIES] = mean + self.centre
        return result

    def _nodes(self, octave: int, terms: int) -> Nodes:
        """Nodes at which the integrals of both ends of an octave of v have converged, and he_k is resolved."""
        scale, level = self._layout(octave)
        r = rule(self.activation)
        return r.nodes(scale, min(level + self.extra_levels(terms), r.last_level))

    def _layout(self, octave: int) -> tuple[float, int]:
        if octave not in self._laid_out:
            r = rule(self.activation)
            scale, level = 2.0 ** (octave / 2.0), FIRST_LEVEL
            for v in (2.0**octave, 2.0 ** (octave - 1)):
                wide = self._widened(v, scale)
                if wide is not None:
                    scale = max(scale, wide[0])
                    level = max(level, wide[1])
            self._laid_out[octave] = scale, min(level, r.last_level)
        return self._laid_out[octave]

    def _widened(self, v: float, scale: float) -> tuple[float, int] | None:
        """A scale that covers u at this v, and the level at which its integrals agree; None if there is no response."""
        r = rule(self.activation)
        previous: FloatArray | None = None
        try:
            for level in range(FIRST_LEVEL, r.last_level + 1):
                at = self._at(v, r.nodes(scale, level))
                wider = scale_of_u(self.activation, v, at.a, self._law, _PLAIN)
                if wider > scale:
                    scale, at = wider, self._at(v, r.nodes(wider, level))
                weight = at.density * at.opening
                y = r.nodes(scale, level).slope / at.opening
                found = np.array([weight.sum(), weight @ at.psi**2, weight @ y**2, weight @ (at.xi * at.psi)])
                if previous is not None and (np.abs(found - previous) <= _AGREEMENT * np.abs(found).max()).all():
                    return scale, level
                previous = found
        except UnstableError:
            return None
        raise AccuracyError(f"the integrals of {self.activation.name} with GOE weights did not converge at v = {v:.4g}")

    def _at(self, v: float, nodes: Nodes) -> _Response:
        """The response at one v: Newton's iteration for a = sigma_a2 chi(a) from a = 0.

        Raises:
            UnstableError: there is none.
        """
        a, settled = 0.0, False
        psi = nodes.phi - self.centre
        root = math.sqrt(v)
        for _ in range(_STEPS):
            opening = 1.0 - a * nodes.slope
            if not (opening > 0.0).all():
                break
            xi = (nodes.y - a * psi) / root
            with np.errstate(under="ignore"):
                density = nodes.dy * np.exp(-0.5 * xi * xi) / (root * math.sqrt(2.0 * math.pi))
            flow = density * nodes.slope
            chi, response_a = float(flow.sum()), float(flow @ (xi * psi)) / root
            if settled:
                response_v = float(flow @ (xi * xi - 1.0)) / (2.0 * v)
                return _Response(a, density, opening, psi, xi, response_v, response_a)
            rate = 1.0 - self.sigma_a2 * response_a
            if rate <= 0.0:
                break
            step = (a - self.sigma_a2 * chi) / rate
            a -= step
            settled = abs(step) <= _SETTLED * (abs(a) + self.sigma_a2 * float(np.abs(flow).sum()))
        raise UnstableError(
            f"{self.activation.name} with GOE weights has no response at sigma_a2 = {self.sigma_a2:.6g}, Var g = "
            f"{v:.6g}: reduce sigma_a2"
        )


@lru_cache(maxsize=64)
def effective_table(activation: Activation, sigma_a2: float, centre: float) -> EffectiveTable:
    """The table of an activation, sigma_a2 and centre, shared by all that need it."""
    return EffectiveTable(activation, sigma_a2, centre)


def solve_by_quadrature(
    table: EffectiveTable,
    sides: tuple[Scales, Scales],
    pairs: Pairs,
    sigma_b2: float,
    distances: Callable[[float], FloatArray],
) -> Solved:
    """Pairs one by one, by double integrals; see ``numerics.initialisation.pair_table``.

    Args:
        table: of the effective activation.
        sides: scales of the rows and of the columns.
        pairs: which.
        sigma_b2: input variance.
        distances: ||x_i - sign x_j||^2 of the pairs for a sign.

    Raises:
        AccuracyError: features too narrow for the quadrature.
        ConvergenceError: a pair that did not settle.
    """
    rows, columns = sides
    result = Solved.empty(len(pairs.i))
    known: dict[float, Response] = {}
    nodes: dict[tuple[float, int], Side] = {}
    apart = {sign: sigma_b2 * distances(sign) for sign in (1.0, -1.0)}
    for k, (i, j) in enumerate(zip(pairs.i, pairs.j, strict=True)):
        x, y = (_known(known, table, float(v)) for v in (rows.variances[i], columns.variances[j]))
        bias = sigma_b2 * float(pairs.products[k])
        both = {sign: float(distance[k]) for sign, distance in apart.items()}
        pair = PairTable(table.activation, x, y, table.centre, nodes)
        result.G[k], result.G_dot[k] = pair_kernel(pair, table.sigma_a2, bias, both.__getitem__)
        result.r[k] = (table.sigma_a2 * result.G[k] + bias) / math.sqrt(x.v * y.v)
    result.method[:], result.error[:] = CAREFUL, _PAIR_ERROR
    return result


def _known(known: dict[float, Any], table: EffectiveTable, v: float) -> Response:
    if v not in known:
        known[v] = table.response(v)
    found: Response = known[v]
    return found
