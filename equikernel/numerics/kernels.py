"""The exact infinite-width kernels of DEQs and explicit networks on data, for any activation (theory, sections 3-5)."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy as sp

from equikernel.errors import ConvergenceError, NoFixedPointError, UnstableError
from equikernel.numerics.data import data_matrix, mean_scale
from equikernel.numerics.dual import pair_duals
from equikernel.numerics.hermite import hermite_rows, second_moment
from equikernel.numerics.moments import gaussian_moments, require_derivative
from equikernel.numerics.pairs import NEEDS_QUADRATURE, cut_table, solve_pairs
from equikernel.numerics.solve import solve
from equikernel.theory.activation import Activation
from equikernel.theory.equations import ntk_entry
from equikernel.theory.models import DEQ, ExplicitNetwork, require_trained

__all__ = [
    "ExplicitKernels",
    "ImplicitKernels",
    "explicit_ck",
    "explicit_kernels",
    "explicit_ntk",
    "implicit_ck",
    "implicit_kernels",
    "implicit_ntk",
]

FloatArray = npt.NDArray[np.float64]
_TERMS = (64, 256, 1024)
_FEW_PAIRS = 2e-4  # share of pairs left to quadrature that is cheaper than more terms
_RATIO = 1.25
_LARGE_MEAN = 1e4  # mean^2/variance above which a constant is taken out of the activation


@dataclass(frozen=True)
class ImplicitKernels:
    """Exact kernels of a DEQ on n samples.

    Attributes:
        ck: conjugate kernel G, (n, n).
        ntk: neural tangent kernel K, (n, n), or None when it was not asked for.
        variances: q_i = Lambda_ii, (n,).
        tau: the standard deviation tau* at which the network is centred.
        contraction: max_i sigma_a2 E[phi'(sqrt(q_i) xi)^2]; below 1 every pair's equation is a contraction. inf when
            phi jumps.
        methods: number of distinct pairs by method: "series" and "quadrature".
    """

    ck: FloatArray
    ntk: FloatArray | None
    variances: FloatArray
    tau: float
    contraction: float
    methods: dict[str, int]


@dataclass(frozen=True)
class ExplicitKernels:
    """Exact kernels of an explicit network on n samples: ck (n, n), and ntk (n, n) or None."""

    ck: FloatArray
    ntk: FloatArray | None


def implicit_kernels(X: Any, deq: DEQ, *, tau0: Any = None, trained: str = "aA", ntk: bool = True) -> ImplicitKernels:
    """Exact implicit CK and NTK of any activation on data (theory, sections 3 and 4).

    G_ij = E[phi_c(u) phi_c(v)], (u, v) ~ N(0, [[q_i, L_ij], [L_ij, q_j]]), L_ij = sigma_a2 G_ij + sigma_b2 <x_i, x_j>;
    K_ij = G_ij/(1 - sigma_a2 G'_ij) for trained "aA". Identical samples (and opposite ones, for odd
    phi) share one row, so that they are exact.
    Accuracy: about 1e-14 (G) and 1e-13 (K) of the kernel's scale.

    Args:
        X: data, (n, p), samples in rows.
        deq: the network.
        tau0: standard deviation that fixes the centring constant E[phi(tau* xi)]; None means sqrt(mean ||x_i||^2).
        trained: "a", "aA" or "aAB".
        ntk: False computes the conjugate kernel alone.

    Raises:
        DataError: unusable data.
        InputError: bad arguments; an activation with jumps when the NTK needs E[phi'^2].
        NoFixedPointError: a sample (named) for which no variance solves the diagonal equation.
        UnstableError: a pair or sample (named) at which sigma_a2 E[phi' phi'] >= 1.
        ConvergenceError: a pair (named) that did not settle.
    """
    require_trained(trained)
    X = data_matrix(X)
    needs_slope = ntk and trained != "a"
    if needs_slope:
        require_derivative(deq.activation)
    solution = solve(deq, mean_scale(X) if tau0 is None else tau0, trained="a")
    tau = float(solution.tau)
    phi, centre = _centred(deq.activation, tau)
    sigma_a2, sigma_b2 = float(deq.sigma_a2), float(deq.sigma_b2)
    samples = _distinct(X, odd=phi.odd_up_to_constant)
    s = samples.rows @ samples.rows.T
    variances = _variances(phi, centre, sigma_a2, sigma_b2 * np.diag(s), tau * tau, samples.first)
    pairs = _PairKernel(phi, centre, variances, s, sigma_a2, sigma_b2, samples.first)
    contraction = sigma_a2 * float(pairs.rows.slope_energy.max())
    pairs.check_stability(sigma_a2, include_diagonal=needs_slope)
    K = None
    if ntk:
        with np.errstate(invalid="ignore"):
            K = ntk_entry(pairs.G, pairs.G_dot, s, sigma_a2, sigma_b2, trained)
        K = samples.expand(K)
    return ImplicitKernels(
        ck=samples.expand(pairs.G),
        ntk=K,
        variances=variances[samples.inverse],
        tau=tau,
        contraction=contraction,
        methods=pairs.methods,
    )


def implicit_ck(X: Any, deq: DEQ, *, tau0: Any = None) -> FloatArray:
    """The exact implicit conjugate kernel, (n, n); see ``implicit_kernels``."""
    return implicit_kernels(X, deq, tau0=tau0, ntk=False).ck


def implicit_ntk(X: Any, deq: DEQ, *, trained: str = "aA", tau0: Any = None) -> FloatArray:
    """The exact implicit neural tangent kernel, (n, n); see ``implicit_kernels``."""
    kernels = implicit_kernels(X, deq, tau0=tau0, trained=trained)
    if kernels.ntk is None:
        raise AssertionError("implicit_kernels computes the NTK unless told otherwise")
    return kernels.ntk


def explicit_kernels(X: Any, net: ExplicitNetwork, *, ntk: bool = True) -> ExplicitKernels:
    """Exact CK and NTK of an explicit network (theory, section 5).

    Sigma_l = E[sigma_l(u) sigma_l(v)] under Sigma_(l-1), Theta_l = Sigma_l + Theta_(l-1) * E[sigma_l' sigma_l']
    (elementwise), Sigma_0 = Theta_0 = X X^T; sigma_l is centred at tau_(l-1), tau_0 = net.tau0. Every layer trained,
    readout included.

    Raises:
        DataError: unusable data.
        InputError: a layer with jumps when the NTK is asked for.
    """
    X = data_matrix(X)
    if ntk:
        for layer in net.layers:
            require_derivative(layer.activation)
    samples = _distinct(X, odd=all(layer.activation.odd_up_to_constant for layer in net.layers))
    sigma = samples.rows @ samples.rows.T
    theta = sigma.copy()
    tau = net.tau0
    for layer in net.layers:
        phi, centre = _centred(layer.activation, tau)
        # with sigma_a2 = 0 the pair equation just evaluates the dual activation
        pairs = _PairKernel(phi, centre, np.diag(sigma).copy(), sigma, 0.0, 1.0, samples.first)
        sigma = pairs.G
        if ntk:
            theta = sigma + theta * pairs.G_dot
        tau = math.sqrt(gaussian_moments(phi, tau).V.value)
    return ExplicitKernels(samples.expand(sigma), samples.expand(theta) if ntk else None)


def explicit_ck(X: Any, net: ExplicitNetwork) -> FloatArray:
    """The exact conjugate kernel of an explicit network, (n, n); see ``explicit_kernels``."""
    return explicit_kernels(X, net, ntk=False).ck


def explicit_ntk(X: Any, net: ExplicitNetwork) -> FloatArray:
    """The exact neural tangent kernel of an explicit network, (n, n); see ``explicit_kernels``."""
    kernels = explicit_kernels(X, net)
    if kernels.ntk is None:
        raise AssertionError("explicit_kernels computes the NTK unless told otherwise")
    return kernels.ntk


def _centred(activation: Activation, tau: float) -> tuple[Activation, float]:
    """The activation and its mean at scale tau, after taking out a constant that would drown it in float64.

    Kernels do not depend on constants; of ``3 + 1e-6*x`` float64 values would keep ten digits.
    """
    m = gaussian_moments(activation, tau)
    centre = float(m.mean.value)
    if centre * centre <= _LARGE_MEAN * float(m.V.value):
        return activation, centre
    shifted = Activation(activation.expr - sp.Rational(repr(centre)), activation.name)
    return shifted, float(gaussian_moments(shifted, tau).mean.value)


@dataclass(frozen=True)
class _Samples:
    """Distinct samples, and how the given ones are made of them: X = signs * rows[inverse]; first places for errors."""

    rows: FloatArray
    inverse: npt.NDArray[np.int64]
    signs: FloatArray
    first: npt.NDArray[np.int64]

    def expand(self, kernel: FloatArray) -> FloatArray:
        """The kernel of the given samples from that of the distinct ones."""
        full: FloatArray = kernel[np.ix_(self.inverse, self.inverse)]
        return full * self.signs[:, None] * self.signs if (self.signs < 0).any() else full


def _distinct(X: FloatArray, *, odd: bool) -> _Samples:
    """Identical samples share a row, and for an odd network x and -x do: z(-x) = -z(x)."""
    signs = np.ones(len(X))
    if odd:
        leading = X[np.arange(len(X)), (X != 0).argmax(axis=1)]
        signs = np.where(leading < 0, -1.0, 1.0)
    rows, inverse = np.unique(X * signs[:, None], axis=0, return_inverse=True)
    inverse = inverse.ravel()
    first = np.full(len(rows), len(X), dtype=np.int64)
    np.minimum.at(first, inverse, np.arange(len(X)))
    return _Samples(rows, inverse, signs, first)


def _variances(
    activation: Activation,
    centre: float,
    sigma_a2: float,
    bias: FloatArray,
    reference: float,
    names: npt.NDArray[np.int64],
) -> FloatArray:
    """The smallest root of q = sigma_a2 E[phi_c(sqrt(q) xi)^2] + bias_i for every sample.

    Brackets grow geometrically from below (q >= bias_i), then Newton's iteration stays inside them.
    """
    result = np.zeros_like(bias)
    rest = (activation(0.0) - centre) ** 2 * sigma_a2
    # phi_c(0) may be zero only up to rounding: then a zero sample stays at zero
    active = (bias > 0.0) | (rest > 1e-28 * reference)
    if not active.any():
        return result
    b = bias[active]

    def excess(q: FloatArray, which: Any) -> tuple[FloatArray, FloatArray]:
        value, slope = second_moment(activation, centre, q)
        return q - sigma_a2 * value - b[which], 1.0 - sigma_a2 * slope

    low = b.copy()
    high = np.maximum(b, 1e-6 * reference) * (1.0 + 1e-15)
    pending = np.arange(len(b))
    while len(pending):
        pending = pending[excess(high[pending], pending)[0] < 0.0]
        low[pending] = high[pending]
        high[pending] *= _RATIO
        beyond = pending[high[pending] > 1e9 * max(reference, float(b.max()))]
        if len(beyond):
            sample = names[np.flatnonzero(active)[beyond[0]]]
            raise NoFixedPointError(
                f"sample {sample} has no fixed point: q = sigma_a2 E[phi_c^2] + sigma_b2 ||x||^2 has no solution for "
                f"{activation.name}; reduce sigma_a2 or the norm of the sample"
            )
    q = high.copy()
    for _ in range(200):
        value, slope = excess(q, slice(None))
        high = np.where(value >= 0.0, q, high)
        low = np.where(value < 0.0, q, low)
        with np.errstate(divide="ignore", invalid="ignore"):
            candidate = q - value / slope
        inside = (candidate >= low) & (candidate <= high) & (candidate > 0.0)
        candidate = np.where(inside, candidate, 0.5 * (low + high))
        settled = np.abs(candidate - q) <= 4e-16 * q
        q = candidate
        if settled.all():
            break
    result[active] = q
    return result


class _PairKernel:
    """G and G' for all pairs: the series where it converges, kink-split quadrature where it does not."""

    def __init__(
        self,
        activation: Activation,
        centre: float,
        variances: FloatArray,
        s: FloatArray,
        sigma_a2: float,
        sigma_b2: float,
        names: npt.NDArray[np.int64],
    ) -> None:
        self.activation = activation
        self.names = names
        n = len(variances)
        total = max(n * (n - 1) // 2, 1)
        for terms in _TERMS:
            self.rows = hermite_rows(activation, centre, variances, terms)
            table = cut_table(self.rows)
            G, G_dot, r, used = solve_pairs(self.rows, s, sigma_a2, sigma_b2, table)
            left = int(np.count_nonzero(used == NEEDS_QUADRATURE))
            if left <= _FEW_PAIRS * total or terms == _TERMS[-1]:
                break
        stuck = np.argwhere(used == -2)
        if len(stuck):
            raise self._not_converged(*stuck[0])
        for i, j in np.argwhere(used == NEEDS_QUADRATURE):
            G[i, j], G_dot[i, j] = self._quadrature(
                centre, variances[i], variances[j], r[i, j], sigma_a2, sigma_b2 * s[i, j], i, j
            )
        self.methods = dict(Counter({"series": total * (n > 1) - left, "quadrature": left}))
        self.G, self.G_dot = G + G.T, G_dot + G_dot.T
        np.fill_diagonal(self.G, self.rows.second_moment)
        np.fill_diagonal(self.G_dot, self.rows.slope_energy)

    def _quadrature(
        self, centre: float, q_i: float, q_j: float, r: float, sigma_a2: float, bias: float, i: int, j: int
    ) -> tuple[float, float]:
        """One pair to full accuracy: secant steps from the truncated series' solution."""
        scale = math.sqrt(q_i * q_j)
        previous: tuple[float, float] | None = None
        for _ in range(40):
            value, slope = pair_duals(self.activation, centre, q_i, q_j, r)
            if sigma_a2 == 0.0:
                return value, math.nan if slope is None else slope
            excess = r - (sigma_a2 * value + bias) / scale
            if abs(excess) <= 4e-16:
                break
            if slope is not None:
                rate = 1.0 - sigma_a2 * slope
            else:
                rate = 1.0 if previous is None else (excess - previous[1]) / (r - previous[0])
            following = min(max(r - excess / max(rate, 0.05), -1.0), 1.0)
            previous = (r, excess)
            if abs(following - r) <= 3e-16 * abs(r):
                break
            r = following
        else:
            raise self._not_converged(i, j)
        return value, math.nan if slope is None else slope

    def _not_converged(self, i: int, j: int) -> ConvergenceError:
        a, b = self.names[i], self.names[j]
        return ConvergenceError(
            f"the kernel equation of samples {a} and {b} did not converge for {self.activation.name} "
            "(sigma_a2 E[phi'(u) phi'(v)] is close to 1 or above); reduce sigma_a2"
        )

    def check_stability(self, sigma_a2: float, *, include_diagonal: bool) -> None:
        """Refuse pairs (and, for the NTK, samples) with sigma_a2 E[phi' phi'] >= 1.

        Raises:
            UnstableError: names the first one.
        """
        rates = sigma_a2 * self.G_dot
        if not include_diagonal:
            np.fill_diagonal(rates, 0.0)
        bad = np.argwhere(rates >= 1.0)
        if not len(bad):
            return
        i, j = bad[0]
        what = f"sample {self.names[i]}" if i == j else f"samples {self.names[i]} and {self.names[j]}"
        raise UnstableError(
            f"sigma_a2 E[phi'(u) phi'(v)] = {rates[i, j]:.6g} >= 1 for {what} with {self.activation.name}: the kernel "
            "equation is not a contraction there and the neural tangent kernel diverges; reduce sigma_a2"
        )
