"""Finite-width networks in torch and their kernels: what the infinite-width theory is held against.

Draw k of a network of width m has its own stream, seeded from (seed, m, k), so that a study may compute its draws in
any order, stop, and go on, and comes to the same bits on one machine. The weights are drawn by NumPy in float64 on
every device: the CPU and CUDA see the same networks, float32 sees them rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from equikernel.errors import ConvergenceError, DataError, InputError
from equikernel.numerics.class_statistics import unbiased_trace_products
from equikernel.numerics.data import data_matrix, mean_scale
from equikernel.numerics.moments import gaussian_moments, require_derivative
from equikernel.numerics.solve import solve
from equikernel.theory.models import DEQ, ExplicitNetwork, require_trained

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Draw",
    "EmpiricalKernel",
    "NetworkOptions",
    "WidthLadder",
    "WidthRow",
    "ZSummary",
    "average_draws",
    "empirical_ck",
    "empirical_explicit_ck",
    "empirical_ntk",
    "fit_ladder",
    "network_draws",
    "width_ladder",
]

Array = NDArray[np.float64]

_TOLERANCES = {"float64": 1e-12, "float32": 1e-5}
_FEWEST_DRAWS = 4  # the correlation of entries is estimated without bias from four draws on
_ENTRIES_KEPT = 2048  # entries of every draw kept for the correlation between entries
_SIGNIFICANCE = 1e-3


class NetworkOptions(TypedDict, total=False):
    """Options shared by the functions of this module.

    ``tau0``: standard deviation of the data for the centring of a DEQ; None: sqrt(mean ||x||^2). ``device``: "cpu"
    (default), "cuda", "cuda:1". ``dtype``: "float64" (default) or "float32". ``tol``: largest relative change of a
    sample in the last iteration, by default 1e-12 (float64) or 1e-5 (float32). ``max_iter``: by default 1000.
    """

    tau0: float | None
    device: str
    dtype: str
    tol: float | None
    max_iter: int


@dataclass(frozen=True)
class _Settings:
    """Checked ``NetworkOptions``."""

    tau0: float | None = None
    device: str = "cpu"
    dtype: str = "float64"
    tol: float | None = None
    max_iter: int = 1000

    def __post_init__(self) -> None:
        import_module("equikernel.validation.torch_arithmetic")  # says what to install where torch is missing
        import torch

        if self.dtype not in _TOLERANCES:
            raise InputError(f"dtype must be float64 or float32; got {self.dtype!r}")
        try:
            kind = torch.device(self.device).type
        except (RuntimeError, TypeError):
            kind = ""
        if kind not in ("cpu", "cuda"):
            raise InputError(f'device must be "cpu", "cuda" or "cuda:N"; got {self.device!r}')
        count = torch.cuda.device_count() if kind == "cuda" and torch.cuda.is_available() else 0
        if kind == "cuda" and (torch.device(self.device).index or 0) >= count:
            raise InputError(f'device "{self.device}" was asked for, but torch sees {count} CUDA devices: use "cpu"')
        smallest = 16.0 * float(torch.finfo(getattr(torch, self.dtype)).eps)
        if self.tol is not None and not smallest <= self.tol < 1.0:
            raise InputError(
                f"tol must lie between {smallest:.1e}, below which {self.dtype} cannot go, and 1; got {self.tol!r}"
            )
        _require_count(self.max_iter, "max_iter", 1)

    @property
    def tolerance(self) -> float:
        return _TOLERANCES[self.dtype] if self.tol is None else self.tol

    def tensor(self, array: Array) -> Tensor:
        import torch

        return torch.from_numpy(array).to(device=self.device, dtype=getattr(torch, self.dtype))


@dataclass(frozen=True, eq=False)
class Draw:
    """One network's kernel (n, n), and how its fixed points were reached (0 and 0.0 for explicit networks)."""

    kernel: Array
    iterations: int = 0
    residual: float = 0.0


@dataclass(frozen=True, eq=False)
class EmpiricalKernel:
    """A kernel averaged over independent networks of one width.

    Attributes:
        mean: (n, n).
        standard_error: (n, n), of the mean, from the sample variance over the draws.
        width: m.
        draws: the number of networks.
        iterations: the most iterations that a fixed point took.
        residual: the largest relative change of a sample in the last iteration.
        entries: (draws, k), at most 2048 entries (i <= j) of every draw, for the correlation between entries.
    """

    mean: Array
    standard_error: Array
    width: int
    draws: int
    iterations: int
    residual: float
    entries: Array

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: everything but the matrices, of whose standard error the root mean square is given."""
        return {
            "width": self.width,
            "draws": self.draws,
            "iterations": self.iterations,
            "residual": self.residual,
            "standard_error": _rms(self.standard_error),
        }


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array))))


def _require_count(value: Any, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number, {least} or more; got {value!r}")
    return int(value)


# -- draws -------------------------------------------------------------------------------------------------------------

_Normal = Callable[[int, int], "Tensor"]  # a matrix of the network's stream, row by row
_Sample = Callable[[_Normal], Draw]  # one network


def network_draws(
    X: ArrayLike,
    network: DEQ | ExplicitNetwork,
    *,
    width: int,
    draws: Iterable[int],
    seed: int,
    trained: str | None = None,
    **options: Unpack[NetworkOptions],
) -> Iterator[Draw]:
    """The kernel of every network whose index is in ``draws``, one at a time, for studies that stop and resume.

    ``average_draws`` over indices 0 ... N-1, whenever and in whatever order they were computed, is what
    ``empirical_ck``, ``empirical_explicit_ck`` and ``empirical_ntk`` return for N draws.

    Args:
        X: (n, p), samples in rows.
        network: a DEQ or an explicit network.
        width: m.
        draws: indices of networks, non-negative.
        seed: a non-negative integer.
        trained: None for the CK; "a", "aA" or "aAB" for the NTK of a DEQ.
        options: see ``NetworkOptions``.

    Raises:
        InputError, DataError, SolutionError: as ``empirical_ck`` and ``empirical_ntk``.
    """
    settings = _Settings(**options)
    data = data_matrix(X)
    width, seed = _require_count(width, "width", 1), _require_count(seed, "seed", 0)
    if isinstance(network, ExplicitNetwork):
        if trained is not None:
            raise InputError("the empirical NTK is for DEQs; got an explicit network: leave trained out for its CK")
        sample = _explicit_sample(settings.tensor(data), network, width)
    else:
        centred = _CentredDEQ.of(data, network, width, settings)
        sample = centred.ck if trained is None or require_trained(trained) == "a" else centred.ntk(trained)
    return _draws(sample, settings, width, draws, seed)


def _draws(sample: _Sample, settings: _Settings, width: int, draws: Iterable[int], seed: int) -> Iterator[Draw]:
    for draw in draws:
        key = (width, _require_count(draw, "the index of a draw", 0))
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
        yield sample(lambda *shape, stream=stream: settings.tensor(stream.standard_normal(shape)))


def _explicit_sample(X: Tensor, network: ExplicitNetwork, width: int) -> _Sample:
    layers, tau = [], network.tau0
    for layer in network.layers:
        moments = gaussian_moments(layer.activation, tau)
        layers.append((layer.activation.function("torch"), float(moments.mean.value)))
        tau = math.sqrt(float(moments.V.value))

    def sample(normal: _Normal) -> Draw:
        x = X.T
        for sigma, mean in layers:
            x = (sigma(normal(width, x.shape[0]) @ x) - mean) / math.sqrt(width)
        return Draw(_gram(x))

    return sample


def _gram(Z: Tensor) -> Array:
    """Z^T Z in float64, symmetric to the bit."""
    G = (Z.T @ Z).double().cpu().numpy()
    return np.asarray((G + G.T) / 2.0)


@lru_cache(maxsize=32)
def _centre(deq: DEQ, tau0: float) -> tuple[float, float]:
    """E[phi(tau* xi)], and sigma_a^2 v at tau*; the same at every width of a ladder."""
    moments = gaussian_moments(deq.activation, solve(deq, tau0, trained="a").tau)
    v = math.inf if moments.v_or_none is None else float(moments.v_or_none.value)
    return float(moments.mean.value), float(deq.sigma_a2) * v if deq.sigma_a2 else 0.0


@dataclass(frozen=True)
class _CentredDEQ:
    """z = (phi(sigma_a A z + sigma_b B x) - mean)/sqrt(m), on all samples at once, in columns."""

    deq: DEQ
    X: Tensor
    width: int
    settings: _Settings
    mean: float
    contraction: float  # infinite where phi' is not square integrable

    @classmethod
    def of(cls, X: Array, deq: DEQ, width: int, settings: _Settings) -> _CentredDEQ:
        tau0 = mean_scale(X) if settings.tau0 is None else settings.tau0
        return cls(deq, settings.tensor(X), width, settings, *_centre(deq, tau0))

    def ck(self, normal: _Normal) -> Draw:
        z, iterations, residual = self._state(*self._weights(normal))
        return Draw(_gram(z), iterations, residual)

    def ntk(self, trained: str) -> _Sample:
        require_derivative(self.deq.activation)
        slope = self.deq.activation.derivative("torch")
        sigma_a2, input_term = float(self.deq.sigma_a2), np.zeros(())
        if trained == "aAB":
            input_term = float(self.deq.sigma_b2) * _gram(self.X.T)

        def sample(normal: _Normal) -> Draw:
            A, inputs = self._weights(normal)
            a = normal(self.width, 1)
            z, iterations, residual = self._state(A, inputs)
            D = slope(A @ z + inputs) / math.sqrt(self.width)
            w, more, adjoint_residual = self._iterate(lambda w: a + A.T @ (D * w), a.expand_as(D), "adjoint")
            G = _gram(z)
            kernel = G + _gram(D * w) * (sigma_a2 * G + input_term)
            return Draw(kernel, max(iterations, more), max(residual, adjoint_residual))

        return sample

    def _weights(self, normal: _Normal) -> tuple[Tensor, Tensor]:
        """sigma_a A (m, m), and the inputs sigma_b B X^T (m, n), which no iteration changes."""
        A = math.sqrt(self.deq.sigma_a2) * normal(self.width, self.width)
        B = normal(self.width, self.X.shape[1])
        return A, math.sqrt(self.deq.sigma_b2) * (B @ self.X.T)

    def _state(self, A: Tensor, inputs: Tensor) -> tuple[Tensor, int, float]:
        phi, root = self.deq.activation.function("torch"), math.sqrt(self.width)
        return self._iterate(
            lambda z: (phi(A @ z + inputs) - self.mean) / root, inputs.new_zeros(inputs.shape), "state"
        )

    def _iterate(self, step: Callable[[Tensor], Tensor], start: Tensor, what: str) -> tuple[Tensor, int, float]:
        """Apply ``step`` until no column changes by more than the tolerance, relative to its norm.

        Returns:
            The fixed point, the iterations, and the largest relative change of the last one.

        Raises:
            ConvergenceError: not within max_iter iterations, or overflow.
        """
        import torch

        z, residual, count = start, math.inf, 0
        while residual > self.settings.tolerance and count < self.settings.max_iter:
            new = step(z)
            # the column of a zero sample may vanish: it has converged when it stays zero
            norms = torch.linalg.vector_norm(new, dim=0).clamp_min(torch.finfo(new.dtype).tiny)
            residual = float((torch.linalg.vector_norm(new - z, dim=0) / norms).max())
            z, count = new, count + 1
        if residual <= self.settings.tolerance:
            return z, count, residual
        remedy = (
            "1 or more is the chaotic phase, in which networks have no stable fixed point: reduce sigma_a2"
            if self.contraction >= 1.0
            else "the iteration contracts by about its square root a step: raise max_iter, tol or the width"
        )
        raise ConvergenceError(
            f"the {what} of a DEQ with {self.deq.activation.name} at width {self.width} did not converge: relative "
            f"residual {residual:.3g} after {count} iterations, {self.settings.tolerance:.3g} asked for; "
            f"sigma_a2*v = {self.contraction:.6g} ({remedy})"
        )


def average_draws(draws: Iterable[Draw], width: int) -> EmpiricalKernel:
    """Mean and standard error over draws, in the order given (the same order gives the same bits).

    Raises:
        InputError: fewer than two draws.
    """
    count, iterations, residual = 0, 0, 0.0
    mean = squares = np.zeros(())
    entries = []
    for draw in draws:
        count += 1
        # Welford's recursion: no cancellation, and one kernel in memory at a time
        step = draw.kernel - mean
        mean = mean + step / count
        squares = squares + step * (draw.kernel - mean)
        entries.append(draw.kernel[_kept(len(draw.kernel))])
        iterations, residual = max(iterations, draw.iterations), max(residual, draw.residual)
    if count < 2:
        raise InputError(f"a standard error needs at least 2 draws; got {count}")
    error = np.sqrt(squares / (count * (count - 1)))
    return EmpiricalKernel(mean, error, width, count, iterations, residual, np.array(entries))


@lru_cache(maxsize=4)
def _kept(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column indices of at most ``_ENTRIES_KEPT`` entries with i <= j, evenly spread."""
    rows, columns = np.triu_indices(n)
    picked = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _ENTRIES_KEPT)).astype(np.intp))
    return rows[picked], columns[picked]


def empirical_ck(
    X: ArrayLike, deq: DEQ, *, width: int, draws: int, seed: int, **options: Unpack[NetworkOptions]
) -> EmpiricalKernel:
    """The conjugate kernel of DEQs of finite width, averaged over independent networks.

    Formula: G = Z^T Z with columns z = phi_c(sigma_a A z + sigma_b B x)/sqrt(m), A (m, m) and B (m, p) i.i.d. N(0, 1),
    phi_c = phi - E[phi(tau* xi)] (theory, section 1; [Ling24], eq. (2)). The expectation of G differs from the
    infinite-width kernel by a bias of order 1/m. Each network is found by plain iteration from z = 0, every sample to
    its own relative residual. Its stream yields A row by row, then B.

    Args:
        X: (n, p), samples in rows.
        deq: the network; its sigmas are variances.
        width: m.
        draws: the number of networks, at least 2.
        seed: a non-negative integer.
        options: see ``NetworkOptions``.

    Raises:
        InputError, DataError: bad arguments or data; a CUDA device that is not there.
        NoFixedPointError, UnstableError: tau* does not exist.
        ConvergenceError: a network's iteration does not converge; names the residual and sigma_a^2 v.
    """
    indices = range(_require_count(draws, "draws", 2))
    return average_draws(network_draws(X, deq, width=width, draws=indices, seed=seed, **options), width)


def empirical_explicit_ck(
    X: ArrayLike,
    network: ExplicitNetwork,
    *,
    width: int,
    draws: int,
    seed: int,
    **options: Unpack[NetworkOptions],
) -> EmpiricalKernel:
    """The conjugate kernel of explicit networks with all hidden layers of one finite width, averaged.

    Formula: x_l = sigma_l(W_l x_(l-1))/sqrt(m) with E[sigma_l(tau_(l-1) xi)] subtracted, tau_l^2 the variance that is
    left (theory, section 1). The stream yields W_1, W_2, ... row by row. The centring is at ``network.tau0``.

    Raises:
        InputError, DataError: as ``empirical_ck``.
    """
    indices = range(_require_count(draws, "draws", 2))
    return average_draws(network_draws(X, network, width=width, draws=indices, seed=seed, **options), width)


def empirical_ntk(
    X: ArrayLike,
    deq: DEQ,
    *,
    width: int,
    draws: int,
    seed: int,
    trained: str = "aA",
    **options: Unpack[NetworkOptions],
) -> EmpiricalKernel:
    """The neural tangent kernel of DEQs of finite width with readout f = a^T z, averaged over networks.

    Formula, by implicit differentiation, D_i = diag(phi'(u_i)):

        (I - sigma_a A^T D_i/sqrt(m)) w_i = a,    delta_i = D_i w_i/sqrt(m),
        K_ij = z_i.z_j + (delta_i.delta_j) (sigma_a^2 z_i.z_j [A trained] + sigma_b^2 x_i.x_j [B trained]),

    which is exact at every width; as m grows delta_i.delta_j tends to G'/(1 - sigma_a^2 G'), G' the dual of phi'
    (theory, section 4; [Feng23]). The stream yields A, B, a. The adjoints are found by the same iteration as z.

    Args:
        X: (n, p), samples in rows.
        deq: the network; its sigmas are variances.
        width: m.
        draws: the number of networks, at least 2.
        seed: a non-negative integer.
        trained: "a", "aA" or "aAB".
        options: see ``NetworkOptions``.

    Raises:
        InputError: also for an activation whose derivative is not square integrable, with A trained.
        ConvergenceError: as ``empirical_ck``, for the states or the adjoints.
    """
    indices = range(_require_count(draws, "draws", 2))
    kernels = network_draws(X, deq, width=width, draws=indices, seed=seed, trained=trained, **options)
    return average_draws(kernels, width)


# -- the ladder of widths ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ZSummary:
    """z-scores of the entries i <= j, and what to expect of them if the theory is right.

    Each score is Student's t of its entry taken to the normal scale: with few draws a standard error is itself
    uncertain, and t = 3 is no rare event. The scores are N(0, 1) but correlated: one draw moves all entries.

    Attributes:
        entries: N, the number of scores.
        effective: the number of independent scores with the same variance of sum z^2, N/(1 + (N-1) mean r^2).
        mean: and ``mean_error``, its standard deviation given the correlations.
        std: root mean square of z, expected near 1.
        beyond3: fraction with |z| > 3; expected 0.0027.
        largest: max |z|.
        expected_largest: its expectation were the N scores independent, an upper bound for correlated ones.
        largest_bound: exceeded with probability at most 1e-3 whatever the correlations (Sidak's inequality).
        p_value: of sum z^2, taken as N/effective times a chi-square with ``effective`` degrees of freedom.
        consistent: p_value >= 1e-3 and largest <= largest_bound.
    """

    entries: int
    effective: float
    mean: float
    mean_error: float
    std: float
    beyond3: float
    largest: float
    expected_largest: float
    largest_bound: float
    p_value: float
    consistent: bool

    def to_dict(self) -> dict[str, Any]:
        """Field name -> number."""
        return dict(vars(self))


@dataclass(frozen=True)
class WidthRow:
    """One width: root mean squares over all entries.

    Attributes:
        deviation: of mean kernel - exact kernel, Monte-Carlo error and bias together.
        monte_carlo: of the standard errors: the part that more draws remove.
        bias2: mean of (mean - exact)^2 - standard_error^2: the squared bias without it; unbiased, so perhaps negative.
        fitted_bias: of slope/m: the part that only a larger width removes, from the fit, without the exact kernel.
    """

    width: int
    draws: int
    deviation: float
    monte_carlo: float
    bias2: float
    fitted_bias: float

    def to_dict(self) -> dict[str, Any]:
        """Field name -> number."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class WidthLadder:
    """Empirical kernels at several widths, extrapolated to infinite width and compared with the exact kernel.

    Attributes:
        kernels: one a width, in increasing order.
        limit: (n, n), the extrapolation; ``limit_error`` its standard error.
        slope: (n, n), the bias times the width; ``slope_error`` its standard error.
        dof: (n, n), degrees of freedom of ``limit_error`` (Welch-Satterthwaite).
        z: (n, n), (limit - exact)/limit_error on the normal scale, where float64 tails end at 38.4.
        misfit: mean square of the standardised residuals of the fit, near 1 (a little above with few draws) when the
            bias goes as 1/m; None for two widths.
        summary: of z. rows: the errors at each width.
    """

    kernels: tuple[EmpiricalKernel, ...]
    exact: Array
    limit: Array
    limit_error: Array
    slope: Array
    slope_error: Array
    dof: Array
    z: Array
    misfit: float | None
    summary: ZSummary
    rows: tuple[WidthRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: everything but the matrices, of which root mean squares are given."""
        return {
            "scale": _rms(self.exact),
            "limit_deviation": _rms(self.limit - self.exact),
            "limit_monte_carlo": _rms(self.limit_error),
            "misfit": self.misfit,
            "z": self.summary.to_dict(),
            "widths": [row.to_dict() for row in self.rows],
        }


def width_ladder(
    X: ArrayLike,
    network: DEQ | ExplicitNetwork,
    widths: Sequence[int],
    draws: int,
    seed: int,
    exact: ArrayLike,
    *,
    trained: str | None = None,
    **options: Unpack[NetworkOptions],
) -> WidthLadder:
    """Empirical kernels over a ladder of widths against the exact kernel of infinite width; see ``fit_ladder``.

    Args:
        X: (n, p), samples in rows.
        network: a DEQ or an explicit network.
        widths: at least two different ones.
        draws: networks a width, at least 4.
        seed: a non-negative integer.
        exact: (n, n), the kernel to compare with.
        trained: None for the CK; "a", "aA" or "aAB" for the NTK of a DEQ.
        options: see ``NetworkOptions``.

    Raises:
        InputError, DataError, SolutionError: as ``empirical_ck`` and ``fit_ladder``.
    """
    indices = range(_require_count(draws, "draws", _FEWEST_DRAWS))
    kernels = []
    for width in sorted({_require_count(w, "a width", 1) for w in widths}):
        sampled = network_draws(X, network, width=width, draws=indices, seed=seed, trained=trained, **options)
        kernels.append(average_draws(sampled, width))
    return fit_ladder(kernels, exact)


def fit_ladder(kernels: Sequence[EmpiricalKernel], exact: ArrayLike) -> WidthLadder:
    """Extrapolate empirical kernels to infinite width and score them against the exact kernel.

    Formula: mean_m = limit + slope/m entry by entry, by least squares with weights m * draws. The variance of one
    draw goes as 1/m; weights that do not depend on the data make the limit a fixed linear combination of means, whose
    standard error follows from theirs without bias. Statistics: see ``ZSummary``.

    Args:
        kernels: of one network at two or more different widths, each from 4 or more draws.
        exact: (n, n).

    Raises:
        InputError: fewer than two widths, or fewer than four draws.
        DataError: an exact kernel of another shape, or not finite.
    """
    kernels = tuple(sorted(kernels, key=lambda k: k.width))
    if len({k.width for k in kernels}) < max(len(kernels), 2):
        raise InputError(
            f"an extrapolation needs two or more different widths; got {[k.width for k in kernels]}: add widths"
        )
    if min(k.draws for k in kernels) < _FEWEST_DRAWS:
        raise InputError(f"the correlation of entries needs {_FEWEST_DRAWS} draws or more at every width: raise draws")
    exact = data_matrix(exact, "the exact kernel")
    for kernel in kernels:
        if kernel.mean.shape != exact.shape:
            raise DataError(
                f"the exact kernel must have the shape of the empirical ones; got {exact.shape} beside "
                f"{kernel.mean.shape} at width {kernel.width}"
            )
    means, errors = np.array([k.mean for k in kernels]), np.array([k.standard_error for k in kernels])
    inverse = np.array([1.0 / k.width for k in kernels])
    counts = np.array([k.draws for k in kernels])
    design = np.stack([np.ones_like(inverse), inverse], axis=1)
    weighted = design * (counts / inverse)[:, None]
    estimator = np.linalg.solve(design.T @ weighted, weighted.T)  # (2, widths)
    limit, slope = np.einsum("ck,kij->cij", estimator, means)
    parts = np.einsum("k,kij->kij", estimator[0] ** 2, errors**2)
    limit_error = np.sqrt(parts.sum(axis=0))
    # an entry without fluctuation (a zero sample, an odd activation) is compared to the accuracy of the fixed points:
    # stopped at a relative change r, a contraction by c a step leaves r c/(1 - c), below 50 r up to c = 0.98
    resolution = max(1e-12, 100.0 * max(k.residual for k in kernels)) * max(float(np.abs(exact).max()), 1e-300)
    with np.errstate(invalid="ignore", divide="ignore"):
        dof = parts.sum(axis=0) ** 2 / np.einsum("kij,k->ij", parts**2, 1.0 / (counts - 1.0))
        dof = np.where(np.isfinite(dof), dof, counts.sum() - len(counts))
        t = (limit - exact) / np.hypot(limit_error, resolution)
    tail = np.maximum(scipy.special.stdtr(dof, -np.abs(t)), np.finfo(float).smallest_subnormal)
    z = -np.sign(t) * scipy.special.ndtri(tail)
    slope_error = np.sqrt(np.einsum("k,kij->ij", estimator[1] ** 2, errors**2))
    return WidthLadder(
        kernels=kernels,
        exact=exact,
        limit=limit,
        limit_error=limit_error,
        slope=slope,
        slope_error=slope_error,
        dof=dof,
        z=z,
        misfit=_misfit(design @ estimator, means, errors) if len(kernels) > 2 else None,
        summary=_summarise(z, kernels, estimator[0], np.hypot(limit_error, resolution)),
        rows=tuple(
            WidthRow(
                k.width,
                k.draws,
                _rms(k.mean - exact),
                _rms(k.standard_error),
                float(np.mean((k.mean - exact) ** 2 - k.standard_error**2)),
                _rms(slope) / k.width,
            )
            for k in kernels
        ),
    )


def _misfit(hat: Array, means: Array, errors: Array) -> float:
    """Mean square of the residuals (I - H) mean, each over its own standard error; entries that never vary left out."""
    remainder = np.eye(len(hat)) - hat
    residuals = np.einsum("kl,lij->kij", remainder, means)
    variances = np.einsum("kl,lij->kij", remainder**2, errors**2)
    varying = variances > 0.0
    return float(np.mean(residuals[varying] ** 2 / variances[varying])) if varying.any() else 0.0


def _summarise(z: Array, kernels: Sequence[EmpiricalKernel], coefficients: Array, error: Array) -> ZSummary:
    scores = z[np.triu_indices(len(z))]
    count = len(scores)
    # the limit is a sum over all draws of all widths: its correlations are those of these scaled draws
    scale = error[_kept(len(z))]
    groups = [c * k.entries / (math.sqrt(k.draws) * scale) for c, k in zip(coefficients, kernels, strict=True)]
    variances = sum(np.var(g, axis=0, ddof=1) for g in groups)
    off_diagonal = float(unbiased_trace_products(groups).sum() - np.sum(np.square(variances)))
    pairs = max(len(scale) * (len(scale) - 1), 1)
    squared_correlation = min(max(off_diagonal / pairs, 0.0), 1.0)  # an unbiased estimate may leave [0, 1]
    effective = count / (1.0 + (count - 1) * squared_correlation)
    total = float(np.sum(np.square(scores)))
    p_value = float(scipy.special.gammaincc(effective / 2.0, total * effective / count / 2.0))
    largest = float(np.abs(scores).max())
    bound = float(-scipy.special.ndtri(-math.expm1(math.log1p(-_SIGNIFICANCE) / count) / 2.0))
    return ZSummary(
        entries=count,
        effective=effective,
        mean=float(scores.mean()),
        mean_error=math.sqrt(sum(float(np.var(g.mean(axis=1), ddof=1)) for g in groups)),
        std=math.sqrt(total / count),
        beyond3=float(np.mean(np.abs(scores) > 3.0)),
        largest=largest,
        expected_largest=_expected_largest(count),
        largest_bound=bound,
        p_value=p_value,
        consistent=bool(p_value >= _SIGNIFICANCE and largest <= bound),
    )


def _expected_largest(count: int) -> float:
    """E[max |z|] of independent N(0, 1): the integral of P(max > c) over c > 0."""
    c = np.linspace(0.0, 12.0, 4001)
    below = np.exp(count * np.log(np.maximum(scipy.special.erf(c / math.sqrt(2.0)), 1e-300)))
    return float(np.trapezoid(1.0 - below, c))
