"""Identities of pairs and kernels: Price, rho = +-1, Hermite series, Monte Carlo, symmetry, PSD, invariance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.numerics.dual import pair_duals
from equikernel.numerics.kernels import explicit_kernels, implicit_kernels
from equikernel.numerics.kernels.table import hermite_table
from equikernel.numerics.montecarlo import dual_moments_mc
from equikernel.theory.models import ExplicitNetwork
from equikernel.validation.identities import EPS, Identity, Measured, Point, Subject, worst

__all__ = ["KERNEL_IDENTITIES", "Z_LEVEL"]

FloatArray = npt.NDArray[np.float64]
_PAIR = 1e-13  # accuracy of G and G', in units of the geometric mean of the two diagonal entries
_TERMS = 64
_MC_SAMPLES, _MC_REPLICATES = 2**10, 16
Z_LEVEL = 1e-6  # probability that a right kernel fails the Monte Carlo check at all
_MC_TESTS = 200  # Bonferroni: the check never makes more comparisons than this


def _numbers(subject: Subject, name: str, count: int) -> list[Point]:
    """Pairs of variances and a correlation, the plain cases first."""
    generator = subject.generator(name)
    q = subject.scale**2
    pairs = [(q, q, rho) for rho in (0.0, 0.5, -0.5)]
    pairs += [
        (q * math.exp(a), q * math.exp(b), rho)
        for a, b, rho in zip(*(generator.uniform(-r, r, count) for r in (1.4, 1.4, 0.95)), strict=True)
    ]
    return [dict(zip(("q_i", "q_j", "rho"), (float(f"{x:.3g}") for x in pair), strict=True)) for pair in pairs]


def _centre(subject: Subject) -> float:
    return float(subject.moments(subject.scale).mean.value)


def _second_moment(subject: Subject, q: float) -> float:
    """E[phi_c(sqrt(q) xi)^2], centred at the subject's scale."""
    m = subject.moments(math.sqrt(q))
    return float(m.V.value) + float(m.mean.value - _centre(subject)) ** 2


def _accuracy(subject: Subject) -> float:
    """Accuracy of G in units of its scale: 1e-13, and what subtracting the centre cancels, max(1, |c|/sd(phi))."""
    m = subject.moments(subject.scale)
    return _PAIR * max(1.0, abs(float(m.mean.value)) / math.sqrt(float(m.V.value)))


def _sizes(subject: Subject, point: Point) -> tuple[float, float]:
    """sqrt(E phi_c(u)^2 E phi_c(v)^2) and sqrt(E phi'(u)^2 E phi'(v)^2): the scales of G and of G'."""
    G = math.sqrt(_second_moment(subject, point["q_i"]) * _second_moment(subject, point["q_j"]))
    if not subject.activation.has_square_integrable_derivative:
        return G, math.nan
    v = [float(subject.moments(math.sqrt(point[q])).v.value) for q in ("q_i", "q_j")]
    return G, math.sqrt(v[0] * v[1])


def _price(subject: Subject, point: Point) -> Measured:
    q_i, q_j, rho = point["q_i"], point["q_j"], point["rho"]
    centre, step = _centre(subject), 0.008 * (1.0 - abs(rho))
    scale, (G_size, slope_size) = math.sqrt(q_i * q_j), _sizes(subject, point)

    def quotient(h: float) -> float:
        G = [pair_duals(subject.activation, centre, q_i, q_j, rho + k * h)[0] for k in (-2, -1, 1, 2)]
        return (G[0] - 8.0 * G[1] + 8.0 * G[2] - G[3]) / (12.0 * h * scale)

    near, wide = quotient(step), quotient(2.0 * step)
    slope = pair_duals(subject.activation, centre, q_i, q_j, rho)[1]
    got = math.nan if slope is None else slope
    # the error of a five-point quotient is of fourth order: the near one has a sixteenth of the wide one's
    tolerance = abs(near - wide) / 8.0 + 1.5 * _accuracy(subject) * G_size / (step * scale) + _PAIR * slope_size
    return Measured(abs(got - near), tolerance, f"E[phi'(u) phi'(v)] {got!r}, dG/dLambda {near!r}")


def _price_points(subject: Subject) -> list[Point]:
    return _numbers(subject, "price", subject.few(0.15))


def _limit_points(subject: Subject) -> list[Point]:
    return [{"q": tau * tau, "sign": sign} for tau in subject.scales("limits", 2) for sign in (1.0, -1.0)]


def _limits(subject: Subject, point: Point) -> Measured:
    q, sign = point["q"], point["sign"]
    phi, centre = subject.activation.function("numpy"), _centre(subject)
    mirror = [-b for b in subject.breakpoints] if sign < 0 else []
    direct = subject.expectation(lambda y: (phi(y) - centre) * (phi(sign * y) - centre), math.sqrt(q), 2, mirror)
    G, G_dot = pair_duals(subject.activation, centre, q, q, sign)
    found = [_near(G, direct, _accuracy(subject) * _second_moment(subject, q), "G")]
    if G_dot is not None:
        slope = subject.activation.derivative("numpy")
        direct = subject.expectation(lambda y: slope(y) * slope(sign * y), math.sqrt(q), 2, mirror)
        v = float(subject.moments(math.sqrt(q)).v.value)
        found.append(_near(G_dot, direct, _PAIR * v, "E[phi' phi']"))
    return worst(found)


def _near(got: float, direct: Any, allowed: float, what: str) -> Measured:
    return Measured(
        abs(got - direct.value), allowed + direct.error, f"{what} {got!r}, by direct integration {direct.value!r}"
    )


def _hermite_points(subject: Subject) -> list[Point]:
    return [{"q": tau * tau} for tau in subject.scales("hermite", 2)]


def _hermite(subject: Subject, point: Point) -> Measured:
    q, centre = point["q"], _centre(subject)
    tau = math.sqrt(q)
    m = subject.moments(tau)
    row = hermite_table(subject.activation).rows(np.array([q]), _TERMS)[0]
    row[0] -= centre
    size = math.sqrt(_second_moment(subject, q))
    expected = (float(m.mean.value) - centre, float(m.d1.value) * tau, float(m.d2.value) * q / math.sqrt(2.0))
    errors = (m.mean.error, m.d1.error * tau, m.d2.error * q)
    found = [
        Measured(
            abs(row[k] - value),
            _accuracy(subject) * size + error + EPS * abs(centre),
            f"A_{k} {float(row[k])!r}, from moments {value!r}",
        )
        for k, (value, error) in enumerate(zip(expected, errors, strict=True))
    ]
    energy = float(np.sum(row**2))
    excess = max(energy - size**2, 0.0)
    found.append(Measured(excess, _accuracy(subject) * size**2, f"sum A_k^2 {energy!r} exceeds E[phi_c^2] {size**2!r}"))
    # |sum_{k >= 64} A_k^2 2^-k| <= 2^-64 E[phi_c^2]: nothing
    series = float(np.sum(row**2 * 0.5 ** np.arange(_TERMS)))
    G = pair_duals(subject.activation, centre, q, q, 0.5)[0]
    found.append(
        Measured(abs(series - G), _accuracy(subject) * size**2, f"sum A_k^2 2^-k {series!r}, G at rho = 1/2 {G!r}")
    )
    return worst(found)


def _z(gap: float, error: float, accuracy: float, what: str) -> Measured:
    """A gap beyond the accuracy of the quadrature in standard errors, against the Bonferroni bound."""
    from scipy.stats import t

    bound = float(t.isf(Z_LEVEL / (2 * _MC_TESTS), _MC_REPLICATES - 1))
    beyond = max(abs(gap) - accuracy, 0.0) if math.isfinite(gap) else math.inf
    return Measured(beyond / error if beyond else 0.0, bound, what)


def _monte_carlo_points(subject: Subject) -> list[Point]:
    return _numbers(subject, "monte carlo", min(subject.few(0.3), _MC_TESTS // 2 - 3))


def _monte_carlo(subject: Subject, point: Point) -> Measured:
    q_i, q_j, rho = point["q_i"], point["q_j"], point["rho"]
    centre, (G_size, slope_size) = _centre(subject), _sizes(subject, point)
    G, G_dot = pair_duals(subject.activation, centre, q_i, q_j, rho)
    lam = rho * math.sqrt(q_i * q_j)
    mc = dual_moments_mc(subject.activation, q_i, q_j, lam, centre, _MC_SAMPLES, _MC_REPLICATES, seed=subject.seed)
    found = [
        _z(
            G - mc.value,
            mc.value_error,
            _accuracy(subject) * G_size,
            f"G {G!r}, Monte Carlo {mc.value:.9g} +- {mc.value_error:.2g}",
        )
    ]
    if G_dot is not None and mc.slope is not None and mc.slope_error is not None:
        what = f"E[phi' phi'] {G_dot!r}, Monte Carlo {mc.slope:.9g} +- {mc.slope_error:.2g}"
        found.append(_z(G_dot - mc.slope, mc.slope_error, _PAIR * slope_size, what))
    return worst(found)


def _data_points(name: str, share: float) -> Callable[[Subject], list[Point]]:
    """Small data sets of scale tau0 with a duplicate, an antipode, a zero row, a near-duplicate and an outlier."""

    def points(subject: Subject) -> list[Point]:
        generator = subject.generator(name)
        found: list[Point] = []
        for k in range(subject.few(share)):
            X = generator.standard_normal((7, 3)) * subject.tau0 / math.sqrt(3.0)
            X[3], X[4], X[5] = X[1], -X[0], X[0] * (1.0 + 10.0 ** -generator.uniform(2.0, 12.0))
            if k % 2:
                X[6], X[2] = 0.0, 2.0 * X[2]
            found.append({"X": [[float(f"{x:.3g}") for x in row] for row in X[:5]] + X[5:].tolist()})
        return found

    return points


def _is_symmetric_psd(M: FloatArray, accuracy: float, name: str) -> Measured:
    """Asymmetry (none is allowed) and the negative part of the spectrum, against n times the entries' accuracy."""
    if not np.isfinite(M).all():
        return Measured(math.nan, 0.0, f"{name} has entries that are not finite")
    asymmetry = float(np.abs(M - M.T).max())
    if asymmetry:
        return Measured(asymmetry, 0.0, f"{name} is not symmetric")
    smallest, largest = np.linalg.eigvalsh(M)[[0, -1]]
    return Measured(
        max(-float(smallest), 0.0),
        len(M) * accuracy * float(np.abs(M).max()),
        f"{name}: smallest eigenvalue {smallest:.3g}, largest {largest:.3g}",
    )


def _ck_psd(subject: Subject, point: Point) -> Measured:
    G = implicit_kernels(np.array(point["X"]), subject.deq, ntk=False).ck
    return _is_symmetric_psd(G, _accuracy(subject), "G")


def _ntk_psd(subject: Subject, point: Point) -> Measured:
    kernels = implicit_kernels(np.array(point["X"]), subject.deq)
    if kernels.ntk is None:
        return Measured(math.nan, 0.0, "no NTK")
    # K = G/(1 - sigma_a2 G') amplifies what is wrong with G' by sigma_a2 v/(1 - sigma_a2 v)
    condition = 1.0 / (1.0 - min(kernels.contraction, 1.0 - EPS))
    return _is_symmetric_psd(kernels.ntk, _accuracy(subject) * condition, "K")


def _equation(subject: Subject, point: Point) -> Measured:
    """G_ij against the dual of a pair, off the diagonal, at the covariance that G_ij itself implies."""
    X = np.array(point["X"])
    kernels = implicit_kernels(X, subject.deq, ntk=False)
    centre = float(subject.moments(kernels.tau).mean.value)
    sigma_a2, sigma_b2 = float(subject.deq.sigma_a2), float(subject.deq.sigma_b2)
    covariance = sigma_a2 * kernels.ck + sigma_b2 * X @ X.T
    return _entries(subject, kernels.ck, covariance, kernels.variances, centre)


def _explicit_equation(subject: Subject, point: Point) -> Measured:
    X = np.array(point["X"])
    ck = explicit_kernels(X, ExplicitNetwork.of(subject.activation, tau0=subject.tau0), ntk=False).ck
    covariance = X @ X.T
    centre = float(subject.moments(subject.tau0).mean.value)
    return _entries(subject, ck, covariance, np.diag(covariance), centre)


def _entries(subject: Subject, G: FloatArray, covariance: FloatArray, variances: FloatArray, centre: float) -> Measured:
    if not np.isfinite(G).all():
        return Measured(math.nan, 0.0, "the kernel has entries that are not finite")
    accuracy = _accuracy(subject)
    found = [Measured(0.0, accuracy, "no pairs")]
    # the documented accuracy is relative to the kernel's scale, not to every entry
    size = max(float(np.abs(G).max()), _second_moment(subject, subject.scale**2))
    for i in range(len(G)):
        for j in range(i + 1):
            scale = math.sqrt(variances[i] * variances[j])
            if scale == 0.0:
                continue
            rho = min(max(float(covariance[i, j]) / scale, -1.0), 1.0) if i != j else 1.0
            value, slope = pair_duals(subject.activation, centre, float(variances[i]), float(variances[j]), rho)
            moved = _moved(subject, centre, variances[i], variances[j], rho, value, slope)
            what = f"entry ({i}, {j}): {float(G[i, j])!r}, the dual at rho = {rho!r} is {value!r}"
            found.append(Measured(abs(float(G[i, j]) - value), accuracy * size + moved, what))
    return worst(found)


def _moved(
    subject: Subject, centre: float, q_i: float, q_j: float, rho: float, value: float, slope: float | None
) -> float:
    """What the rounding of rho, a few units of the last place, does to a dual: a lot near +-1 when phi jumps."""
    if slope is not None:
        return 8.0 * EPS * math.sqrt(q_i * q_j) * abs(slope)
    neighbour = rho * (1.0 - 8.0 * EPS)
    return 2.0 * abs(pair_duals(subject.activation, centre, float(q_i), float(q_j), neighbour)[0] - value)


def _invariance(subject: Subject, point: Point) -> Measured:
    """G of the reversed data, each sample twice, against G: duplicates are exact, the order is irrelevant."""
    X = np.array(point["X"])
    G = implicit_kernels(X, subject.deq, tau0=subject.tau0, ntk=False).ck
    twice = implicit_kernels(np.concatenate([X[::-1], X]), subject.deq, tau0=subject.tau0, ntk=False).ck
    n = len(X)
    reverse, same = twice[:n, :n][::-1, ::-1], twice[n:, n:]
    size = float(np.abs(G).max())
    gap = max(float(np.abs(M - G).max()) for M in (reverse, same, twice[:n, n:][::-1]))
    return Measured(gap, _accuracy(subject) * size, f"entries move by {gap:.3g} of {size:.3g}")


KERNEL_IDENTITIES: Sequence[Identity] = (
    Identity("Price", "dG/dLambda = E[phi'(u) phi'(v)] by differences of G", _price_points, _price, needs_slope=True),
    Identity(
        "rho = +-1", "G and E[phi' phi'] of a pair (u, +-u) are one-dimensional integrals", _limit_points, _limits
    ),
    Identity("Hermite", "A_0, A_1, A_2 are moments; Parseval; sum A_k^2 rho^k = G", _hermite_points, _hermite),
    Identity("Monte Carlo", "G and E[phi' phi'] within the error bars of Sobol", _monte_carlo_points, _monte_carlo),
    Identity(
        "implicit CK",
        "G_ij = E[phi_c(u) phi_c(v)] at Lambda = sigma_a2 G + sigma_b2 s",
        _data_points("ck", 0.05),
        _equation,
    ),
    Identity(
        "explicit CK",
        "one layer: Sigma_ij = E[phi_c(u) phi_c(v)] at s",
        _data_points("explicit", 0.05),
        _explicit_equation,
    ),
    Identity("CK is PSD", "G is symmetric with no negative eigenvalue", _data_points("psd", 0.1), _ck_psd),
    Identity(
        "NTK is PSD", "K is symmetric with no negative eigenvalue", _data_points("psd", 0.1), _ntk_psd, needs_slope=True
    ),
    Identity(
        "invariance", "G does not see the order of samples, nor repetition", _data_points("order", 0.05), _invariance
    ),
)
