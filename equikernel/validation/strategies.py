"""Hypothesis strategies for activations, DEQs, Gaussian mixtures and data: write property tests of your own with them.

Everything shrinks towards the simplest instance (the activation ``x``, one sample, small dyadic numbers) and prints as
something that can be pasted into a test.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from hypothesis import assume, reject
from hypothesis import strategies as st

from equikernel.errors import EquikernelError, InputError
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.solve import solve
from equikernel.theory.activation import Activation, activation, registry_names
from equikernel.theory.models import DEQ
from equikernel.validation.mixtures import GaussianMixture

__all__ = ["activation_expressions", "activations", "data_matrices", "deqs", "gaussian_mixtures"]

FloatArray = npt.NDArray[np.float64]
_CONSTANTS = ("1", "2", "0.5", "-1", "0.1", "3", "-0.3", "1/3")
_POSITIVE = ("1", "2", "0.5", "0.1", "1/3")
_BOUNDED = ("tanh", "erf", "sigmoid", "atan", "Phi", "gaussian")
_LINEAR = ("softplus", "silu", "gelu", "asinh", "log_cosh", "mish")  # growth at infinity
_KINKED = ("relu", "abs", "leaky_relu", "elu", "hard_tanh", "relu6", "softsign")
_JUMPING = ("sign", "heaviside")
_SLOPE_FRACTIONS = (Fraction(1, 2), Fraction(1, 4), Fraction(3, 4), Fraction(1, 16), Fraction(15, 16))
_HALVINGS = 4
_LARGEST_GAIN = 1e3  # steeper activations would leave sigma_a2 next to nothing
_EIGHTHS = 8.0


def activation_expressions(max_depth: int = 3) -> st.SearchStrategy[str]:
    """Strings of the safe grammar in x, most of them usable activations (real on the whole line, moderate growth).

    Kinks, jumps, oscillation, quadratic and exponential growth all occur; a few strings are constants in disguise or
    have a switch inside an oscillation and are refused by ``activation``. ``activations`` leaves those out.

        >>> from hypothesis import given, settings
        >>> from equikernel.theory.grammar import parse
        >>> @settings(max_examples=20, derandomize=True, database=None, deadline=None)
        ... @given(activation_expressions(max_depth=2))
        ... def test_parses(text):
        ...     assert str(parse(text).free_symbols) in {"{x}", "set()"}
        >>> test_parses()

    Args:
        max_depth: how deep operations nest; 0 gives ``x`` alone.

    Raises:
        InputError: ``max_depth`` is not a whole number of at least 0.
    """
    _check_whole("max_depth", max_depth, 0)
    return _expressions(max_depth, kinks=True, jumps=True)


def _expressions(depth: int, *, kinks: bool, jumps: bool) -> st.SearchStrategy[str]:
    moderate = _moderate(depth, kinks, jumps)
    if depth == 0:
        return moderate
    inner = _moderate(depth - 1, kinks, jumps)
    waves = st.sampled_from(("sin", "cos"))
    positive = st.sampled_from(_POSITIVE)
    return st.one_of(
        moderate,
        st.builds("{}({})".format, waves, inner),
        st.builds("{} + {}*{}({})".format, inner, positive, waves, inner),
        st.builds(lambda u, n: f"{_atom(u)}**{n}", inner, st.sampled_from((2, 3))),
        st.builds(lambda f, c, u: f"{f}({c}*x)*{_atom(u)}", st.sampled_from(("exp", "cosh")), positive, inner),
        st.builds("expm1({}({}))".format, st.sampled_from(_BOUNDED), inner),
    )


@cache
def _moderate(depth: int, kinks: bool, jumps: bool) -> st.SearchStrategy[str]:
    """Expressions without oscillation and of at most linear growth, which may stand inside any switch."""
    if depth == 0:
        return st.just("x")
    inner = _moderate(depth - 1, kinks, jumps)
    constant, positive = st.sampled_from(_CONSTANTS), st.sampled_from(_POSITIVE)
    forms = [
        inner,
        st.builds(lambda c, u: f"{c}*{_atom(u)}", constant, inner),
        st.builds("{} + {}".format, inner, constant),
        st.builds("{}({})".format, st.sampled_from(_BOUNDED + _LINEAR), inner),
        st.builds("{} + {}".format, inner, inner),
        st.builds(lambda u, c, w: f"{u} - {c}*{_atom(w)}", inner, positive, inner),
        st.builds(lambda u, f, w: f"{_atom(u)}*{f}({w})", inner, st.sampled_from(_BOUNDED), inner),
        st.builds(lambda u, c, w: f"{_atom(u)}/({c} + {_atom(w)}**2)", inner, positive, inner),
    ]
    if kinks:
        forms += [
            st.builds("{}({})".format, st.sampled_from(_KINKED), inner),
            st.builds("{}({}, {})".format, st.sampled_from(("max", "min")), inner, st.one_of(constant, inner)),
        ]
    if jumps:
        forms += [
            st.builds("where(x < {}, {}, {})".format, constant, inner, inner),
            st.builds("{}({})".format, st.sampled_from(_JUMPING), inner),
        ]
    return st.one_of(forms)


def _atom(text: str) -> str:
    """``text`` in parentheses where an operator could tear it apart."""
    return text if re.fullmatch(r"x|\w+\([^()]*\)", text) else f"({text})"


def activations(
    smooth: bool | None = None, jumps: bool | None = None, max_depth: int = 2
) -> st.SearchStrategy[Activation]:
    """Usable activations: of the registry, and from ``activation_expressions``.

    Usable: accepted by ``activation``, and with finite Gaussian moments and a positive variance at scale 1.

        >>> from hypothesis import given, settings
        >>> @settings(max_examples=10, derandomize=True, database=None, deadline=None)
        ... @given(activations(smooth=True))
        ... def test_smooth_functions_have_a_derivative(act):
        ...     assert act.has_square_integrable_derivative
        >>> test_smooth_functions_have_a_derivative()

    Args:
        smooth: True for no breakpoint, False for at least one, None for either.
        jumps: True for at least one jump, False for none, None for either.
        max_depth: of the expressions.

    Raises:
        InputError: ``smooth`` and ``jumps`` contradict each other; a bad ``max_depth``.
    """
    _check_whole("max_depth", max_depth, 0)
    if smooth and jumps:
        raise InputError("an activation with jumps is not smooth; ask for smooth=True or jumps=True, not both")

    def wanted(act: Activation | None) -> bool:
        return act is not None and smooth in {None, not act.breakpoints} and jumps in {None, bool(act.jumps)}

    texts = _expressions(max_depth, kinks=not smooth, jumps=not smooth and jumps is not False)
    if jumps:
        steps = st.builds("{}(x + {})".format, st.sampled_from(_JUMPING), st.sampled_from(_CONSTANTS))
        texts = st.builds("{} + {}".format, texts, steps)
    elif smooth is False:
        kinks = st.builds("max(x, {})".format, st.sampled_from(_CONSTANTS))
        texts = st.builds("{} + {}".format, texts, kinks)
    named = st.sampled_from(_registry())
    # filter keeps the type of its elements, among which None was: cast says that it is gone
    return cast(
        "st.SearchStrategy[Activation]",
        st.one_of(named.map(_usable).filter(wanted), texts.map(_usable).filter(wanted)),
    )


def _registry() -> list[str]:
    """Names in the order of shrinking: towards the identity, relu, then the shortest."""
    return sorted(registry_names(), key=lambda name: (name != "identity", name != "relu", len(name), name))


@cache
def _usable(text: str) -> Activation | None:
    """The activation, or None where there is none, or none with a positive and finite variance at scale 1."""
    try:
        act = activation(text)
        V = gaussian_moments(act, 1.0).V
    except EquikernelError:
        return None
    return act if V.value > V.error else None


@st.composite
def deqs(
    draw: st.DrawFn,
    activation_strategy: st.SearchStrategy[Activation] | None = None,
    *,
    trained: str = "aA",
    tau0: float = 1.0,
    spread: float = 2.0,
) -> DEQ:
    """DEQs inside their stable phase for data of scale tau0/spread to tau0*spread (standard deviations).

    sigma_a2 is a fraction, drawn, of the largest for which sigma_a2 max(|h|, d1^2, v) < 1 at the scale of the input,
    halved until ``solve`` succeeds at tau0/spread, tau0 and tau0*spread (v counts unless trained is "a").

        >>> from hypothesis import given, settings
        >>> @settings(max_examples=5, derandomize=True, database=None, deadline=None)
        ... @given(deqs())
        ... def test_fixed_points(deq):
        ...     assert solve(deq).residual < 1e-14
        >>> test_fixed_points()

    Args:
        draw: supplied by Hypothesis.
        activation_strategy: by default ``activations()``, without jumps unless ``trained`` is "a".
        trained: as for ``solve``.
        tau0: scale of the data, a standard deviation.
        spread: factor of at least 1.
    """
    if activation_strategy is None:
        activation_strategy = activations(jumps=None if trained == "a" else False)
    act = draw(activation_strategy)
    assume(trained == "a" or act.has_square_integrable_derivative)
    sigma_b2 = draw(st.sampled_from((Fraction(4, 5), Fraction(1), Fraction(1, 2), Fraction(1, 10), Fraction(2))))
    fraction = draw(st.sampled_from(_SLOPE_FRACTIONS))
    scales = (tau0 / spread, tau0, tau0 * spread)
    gain = max(_gain(act, math.sqrt(sigma_b2) * scale, trained) for scale in scales)
    assume(gain < _LARGEST_GAIN)
    # rounded down to two digits: the numbers of a counterexample should be short
    sigma_a2 = _two_digits(min(float(fraction) / max(gain, 1e-3), 4.0))
    for _ in range(_HALVINGS):
        deq = DEQ(act, sigma_a2, sigma_b2)
        if all(_solved(deq, scale, trained) for scale in scales):
            return deq
        sigma_a2 = _two_digits(float(sigma_a2) / 2)
    return reject()


@cache
def _solved(deq: DEQ, tau0: float, trained: str) -> bool:
    return solve(deq, tau0, trained=trained, throw=False).solved


def _gain(act: Activation, tau: float, trained: str) -> float:
    """What sigma_a2 must not exceed the inverse of, at the scale of the input alone; inf where moments overflow."""
    try:
        m = gaussian_moments(act, tau)
    except EquikernelError:
        return math.inf
    gains = [abs(m.h.value), m.d1.value**2]
    return float(max(gains if trained == "a" else [*gains, m.v.value]))


def _two_digits(value: float) -> Fraction:
    """The largest number of two significant decimal digits not above a positive ``value``."""
    exponent = math.floor(math.log10(value)) - 1
    unit = Fraction(10) ** exponent
    return math.floor(Fraction(value) / unit) * unit


@st.composite
def gaussian_mixtures(
    draw: st.DrawFn, min_classes: int = 1, max_classes: int = 3, min_p: int = 1, max_p: int = 12
) -> GaussianMixture:
    """Mixtures with means and covariances of every form: isotropic, diagonal (zeros included), Toeplitz, low rank.

        >>> from hypothesis import given, settings
        >>> @settings(max_examples=20, derandomize=True, database=None, deadline=None)
        ... @given(gaussian_mixtures(max_p=4))
        ... def test_samples_are_finite(mixture):
        ...     assert np.isfinite(mixture.sample(n=5, seed=0).X).all()
        >>> test_samples_are_finite()

    Args:
        draw: supplied by Hypothesis.
        min_classes: least K.
        max_classes: largest K.
        min_p: least dimension.
        max_p: largest dimension.
    """
    K = draw(st.integers(min_classes, max_classes))
    p = draw(st.integers(min_p, max_p))
    means = draw(st.lists(st.lists(_eighths(2), min_size=p, max_size=p), min_size=K, max_size=K))
    # the first covariance is positive, so that not all vanish
    first = st.sampled_from((1.0, 0.5, 2.0))
    covariances = [draw(first), *(draw(_covariances(p)) for _ in range(K - 1))]
    shares = draw(st.lists(st.integers(1, 4), min_size=K, max_size=K))
    total = sum(shares)
    return GaussianMixture(np.array(means), [np.asarray(c) for c in covariances], [s / total for s in shares])


def _covariances(p: int) -> st.SearchStrategy[Any]:
    diagonal = st.lists(st.sampled_from((1.0, 0.5, 1.5, 0.0, 4.0)), min_size=p, max_size=p).map(np.array)
    places = np.abs(np.subtract.outer(np.arange(p), np.arange(p)))
    toeplitz = st.sampled_from((0.5, -0.5, 0.25)).map(lambda base: np.power(base, places))
    low_rank = st.lists(_eighths(1), min_size=p, max_size=p).map(lambda v: np.outer(v, v))
    return st.one_of(st.sampled_from((1.0, 0.5, 2.0, 0.0)), diagonal, toeplitz, low_rank)


def _eighths(limit: int) -> st.SearchStrategy[float]:
    """Multiples of 1/8: sums and products of a few are exact in float64."""
    return st.integers(-8 * limit, 8 * limit).map(lambda k: k / _EIGHTHS)


@st.composite
def data_matrices(
    draw: st.DrawFn, min_n: int = 1, max_n: int = 6, min_p: int = 1, max_p: int = 4, outliers: bool = True
) -> FloatArray:
    """Data (n, p), samples in rows, of mean squared norm 1, rich in what breaks kernels.

    Besides fresh rows: duplicates and antipodes of an earlier row, zero rows, near-duplicates (one entry moved by 2^-10
    to 2^-50 of itself, or of 1 where it is zero), and outliers, 16 times an earlier row. At least one row is not zero.

        >>> from hypothesis import given, settings
        >>> @settings(max_examples=20, derandomize=True, database=None, deadline=None)
        ... @given(data_matrices(min_n=2))
        ... def test_scale(X):
        ...     assert abs(np.mean(np.sum(X**2, axis=1)) - 1) < 1e-12
        >>> test_scale()

    Args:
        draw: supplied by Hypothesis.
        min_n: least number of samples.
        max_n: largest number of samples.
        min_p: least number of features.
        max_p: largest number of features.
        outliers: whether rows of 16 times the norm of others may occur.
    """
    n = draw(st.integers(min_n, max_n))
    p = draw(st.integers(min_p, max_p))
    fresh = st.lists(_eighths(2), min_size=p, max_size=p)
    rows: list[FloatArray] = [np.array(draw(fresh.filter(any)))]
    kinds = ["fresh", "duplicate", "antipode", "zero", "near"] + ["outlier"] * outliers
    while len(rows) < n:
        kind = draw(st.sampled_from(kinds))
        if kind == "fresh":
            rows.append(np.array(draw(fresh)))
            continue
        earlier = rows[draw(st.integers(0, len(rows) - 1))].copy()
        if kind == "near":
            place, bits = draw(st.integers(0, p - 1)), draw(st.sampled_from((10, 26, 40, 50)))
            earlier[place] += 2.0**-bits * (abs(earlier[place]) or 1.0)
        factor = {"duplicate": 1.0, "antipode": -1.0, "zero": 0.0, "near": 1.0, "outlier": 16.0}[kind]
        rows.append(factor * earlier)
    X = np.array(rows)
    scaled: FloatArray = X / math.sqrt(float(np.mean(np.sum(X * X, axis=1))))
    return scaled


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}; got {value!r}")
