"""The parts of the kernel engine, each against an oracle of its own, and what a user may hand to it."""

from __future__ import annotations

import math
import pickle

import mpmath
import numpy as np
import pytest

from equikernel.errors import DataError, InputError, MemoryLimitError, UnstableError
from equikernel.numerics import memory
from equikernel.numerics.absolute import absolute_form
from equikernel.numerics.blas import serial_blas
from equikernel.numerics.dual import _integrate, rotated_duals
from equikernel.numerics.kernels import explicit_kernels, implicit_ck, implicit_kernels, implicit_ntk
from equikernel.numerics.kernels.block import compute_block
from equikernel.numerics.kernels.careful import _long_series
from equikernel.numerics.kernels.engine import Engine
from equikernel.numerics.kernels.samples import ALL, EVEN, ODD, scales_of
from equikernel.numerics.kernels.strips import ARRAYS, WIDTH, D, E, P, R, absolute_value, series
from equikernel.numerics.kernels.table import hermite_table
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ, ExplicitNetwork


def gaussian(n, p, seed=0):
    return np.random.default_rng(seed).normal(size=(n, p)) / math.sqrt(p)


def strip_of(r):
    strip = np.zeros(ARRAYS * WIDTH)
    strip[R : R + WIDTH] = r
    return strip


def values_of(strip):
    return [strip[k : k + WIDTH] for k in (P, D, E)]


@pytest.mark.parametrize("packing", [ALL, EVEN, ODD])
@pytest.mark.parametrize("terms", [0, 4, 12])
def test_the_series_of_a_strip_is_the_polynomial(packing, terms):
    rng = np.random.default_rng(terms)
    r = rng.uniform(-1, 1, WIDTH)
    row, tile = rng.normal(size=16), rng.normal(size=16 * WIDTH)
    firsts = rng.normal(size=WIDTH)
    strip = strip_of(r)
    series(row, 0.7, tile, firsts, strip, terms, packing.power, packing.stride)
    for j in range(0, WIDTH, 37):
        coefficients = np.zeros(64)
        coefficients[1] = 0.7 * firsts[j]
        k = packing.power + packing.stride * np.arange(terms)
        coefficients[k] = row[:terms] * tile[np.arange(terms) * WIDTH + j]
        exact = np.polynomial.Polynomial(coefficients)
        size = np.abs(coefficients) @ np.arange(1, 65) ** 2.0
        for found, truth in zip(values_of(strip), (exact, exact.deriv(), exact.deriv(2) / 2), strict=True):
            assert abs(found[j] - truth(r[j])) <= 64 * 2.0**-53 * size


def test_the_closed_form_of_a_strip():
    r = np.concatenate([np.linspace(-0.999, 0.999, WIDTH - 4), [0.0, 0.5, -0.5, 1e-9]])
    strip = strip_of(r)
    absolute_value(0.5, np.full(WIDTH, 0.5), strip, 0.25)
    value, slope, bend = values_of(strip)
    with mpmath.workdps(30):
        for j in range(WIDTH):
            x = mpmath.mpf(float(r[j]))
            root, scale = mpmath.sqrt(1 - x * x), mpmath.mpf("0.5") / mpmath.pi
            assert abs(value[j] - (x / 4 + scale * (root + x * mpmath.asin(x) - 1))) <= 4e-16
            assert abs(slope[j] - (mpmath.mpf("0.25") + scale * mpmath.asin(x))) <= 4e-16
            assert abs(bend[j] - scale / (2 * root)) <= 4e-15 * bend[j]  # 1 - |r| loses what r has


def test_a_long_series_is_the_polynomial():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=24), rng.normal(size=24)
    exact = np.polynomial.Polynomial(a * b)
    for r in (-0.97, -0.1, 0.0, 0.4, 1.0):
        value, slope = _long_series(a, b, r)
        assert value == pytest.approx(exact(r), abs=1e-14)
        assert slope == pytest.approx(exact.deriv()(r), abs=3e-13)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs", "0.3*x + 2*abs(x) - 1"])
def test_closed_form_duals_in_the_angle(name):
    act = activation(name)
    form = absolute_form(act)
    assert form is not None
    rng = np.random.default_rng(0)
    q_i, q_j, omega = rng.uniform(0.3, 2, 12), rng.uniform(0.3, 2, 12), rng.uniform(0.01, 1.5, 12)
    sign = rng.choice([-1.0, 1.0], 12)
    closed = rotated_duals(act, 0.2, q_i, q_j, omega, sign)
    quadrature = _integrate(act, 0.2, (q_i, q_j, omega, sign), 2, 36)
    size = float(np.abs(quadrature.value_size).max())
    assert np.abs(closed.value - quadrature.value).max() <= 2e-14 * size
    assert np.abs(closed.slope - quadrature.slope).max() <= 2e-14 * float(quadrature.slope_size.max())
    assert np.abs(closed.distance - quadrature.distance).max() <= 4e-14 * size


def test_what_is_not_linear_on_both_sides_has_no_such_form():
    for name in ("elu", "hard_tanh", "sign", "tanh", "squared_relu", "max(x, 1)"):
        assert absolute_form(activation(name)) is None


@pytest.mark.parametrize(
    ("name", "packing"), [("tanh", ODD), ("sigmoid", ODD), ("relu", EVEN), ("gelu", EVEN), ("elu", ALL), ("cos", EVEN)]
)
def test_packing_leaves_out_what_vanishes(name, packing):
    scales = scales_of(hermite_table(activation(name)), np.array([0.0, 0.4, 1.3]), 0.1)
    assert scales.packing == packing
    left, slopes = scales.tails(packing)
    assert (np.diff(left) <= 0.0).all()
    assert left[0] <= 1.0
    assert slopes[0] <= 1.0


@pytest.mark.parametrize("name", ["relu", "tanh", "elu"])
def test_the_same_bits_for_every_number_of_threads(name):
    X = gaussian(700, 30)
    X[600:] = X[:100] + 1e-3 * gaussian(100, 30, seed=1)
    one = implicit_kernels(X, DEQ(name, "0.4", "0.6"), threads=1)
    for threads in (2, 3, 5):
        more = implicit_kernels(X, DEQ(name, "0.4", "0.6"), threads=threads)
        assert (more.ck == one.ck).all()
        assert (more.ntk == one.ntk).all()


@pytest.mark.parametrize("name", ["relu", "tanh", "elu", "hard_tanh"])
def test_a_rectangular_kernel_is_a_block_of_the_square_one(name):
    X = gaussian(300, 12)
    X[290], X[291] = X[3], -X[4]
    deq = DEQ(name, "0.4", "0.6")
    square = implicit_kernels(X, deq, tau0=1, trained="aAB")
    part = implicit_kernels(X[:40], deq, X[35:], tau0=1, trained="aAB")
    assert part.ck.shape == (40, 265)
    assert np.abs(part.ck - square.ck[:40, 35:]).max() <= 1e-14 * square.ck.max()
    assert np.abs(part.ntk - square.ntk[:40, 35:]).max() <= 1e-13 * square.ntk.max()
    assert (part.column_variances == square.variances[35:]).all()
    assert part.ck[3, 290 - 35] == square.ck[3, 3]  # the same sample on both sides
    assert part.methods["identical"] >= 5


def test_ntk_alone_and_given_arrays():
    X = gaussian(50, 8)
    deq = DEQ("gelu")
    both = implicit_kernels(X, deq)
    room = np.full((2, 100, 100), np.nan)
    G, K = room[0, ::2, ::2], room[1, :50, 50:].T
    found = implicit_kernels(X, deq, out=(G, K))
    assert found.ck is G
    assert found.ntk is K
    assert (both.ck == G).all()
    assert (both.ntk == K).all()
    assert np.isnan(room[0, 1::2]).all()
    assert (implicit_ntk(X, deq) == both.ntk).all()
    target = np.empty((50, 50))
    assert implicit_ck(X, deq, out=target) is target
    assert (target == both.ck).all()


@pytest.mark.parametrize(
    ("out", "says"),
    [
        (np.empty((3, 4)), r"shape \(3, 3\); got float64 \(3, 4\)"),
        (np.empty((3, 3), dtype=np.float32), "got float32"),
        ([[0.0] * 3] * 3, "got list"),
    ],
)
def test_arrays_that_cannot_be_written_to(out, says):
    with pytest.raises(InputError, match=says):
        implicit_ck(gaussian(3, 2), DEQ("relu"), out=out)
    fixed = np.empty((3, 3))
    fixed.flags.writeable = False
    with pytest.raises(InputError, match="read-only"):
        implicit_ck(gaussian(3, 2), DEQ("relu"), out=fixed)


def test_float32_data_are_computed_in_float64():
    X = gaussian(20, 6).astype(np.float32)
    kernel = implicit_ck(X, DEQ("tanh"))
    assert kernel.dtype == np.float64
    assert (kernel == implicit_ck(X.astype(np.float64), DEQ("tanh"))).all()


def test_one_sample_and_layouts():
    X = gaussian(7, 5)
    deq = DEQ("elu")
    alone = implicit_kernels(X[:1], deq, tau0=1)
    all_of_them = implicit_kernels(np.asfortranarray(X), deq, tau0=1)
    assert alone.ck.shape == (1, 1)
    assert alone.ck[0, 0] == pytest.approx(all_of_them.ck[0, 0], rel=1e-15)
    strided = np.repeat(X, 2, axis=0)[::2]
    assert (implicit_ck(strided, deq, tau0=1) == all_of_them.ck).all()


def test_bad_input():
    X = gaussian(4, 3)
    deq = DEQ("relu")
    with pytest.raises(DataError, match="as many features, got 3 and 2"):
        implicit_ck(X, deq, gaussian(4, 2))
    with pytest.raises(DataError, match="Y must be finite"):
        implicit_ck(X, deq, X * np.nan)
    with pytest.raises(DataError, match="at least one sample"):
        implicit_ck(X[:0], deq)
    for threads in (0, 1.5, True, "2"):
        with pytest.raises(InputError, match="threads must be a positive integer"):
            implicit_ck(X, deq, threads=threads)


def test_what_does_not_fit_is_refused_beforehand(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 10**5)
    with pytest.raises(MemoryLimitError, match=r"kernels of 200 x 200 samples need .* bytes.*stream_kernels") as caught:
        implicit_kernels(gaussian(200, 3), DEQ("relu"))
    assert isinstance(caught.value, MemoryError)
    monkeypatch.undo()
    assert memory.available_memory() > 10**6


def test_the_first_offending_pair_is_named_whatever_the_threads():
    X = gaussian(600, 40) * 3
    X[500:503] *= 1e-6  # tanh(8x) is steep at the origin
    X[1] = X[0] + 1e-4 * gaussian(1, 40)  # and nearly equal samples separate
    for threads in (1, 4):
        with pytest.raises(UnstableError, match="for sample 500 with"):
            implicit_ntk(X, DEQ("tanh(8*x)/4", "0.5", "0.5"), threads=threads)


def test_near_the_edge_of_contraction():
    # 1 - sigma_a2 G' is 1e-3 at the samples' own place, and Newton's iteration must still settle beside it
    act, sigma_b2 = activation("tanh"), 0.01
    X = gaussian(6, 4)
    X[1] = X[0] * (1 + 1e-7)
    X /= np.linalg.norm(X, axis=1).mean()
    a2 = 1.0
    for _ in range(60):  # the sigma_a2 at which the largest rate is 0.999
        engine = Engine.of_deq(DEQ(act, repr(a2), repr(sigma_b2)), 1, ntk=False)
        a2 *= (0.999 / (a2 * float(engine.prepare(X).layers[0].slope_energy.max()))) ** 0.5
    deq = DEQ(act, repr(a2), repr(sigma_b2))
    kernels = implicit_kernels(X, deq, tau0=1)
    assert 0.998 < kernels.contraction < 0.9995
    lam = a2 * kernels.ck + sigma_b2 * (X @ X.T)
    for i, j in ((0, 1), (0, 2), (3, 5)):
        q_i, q_j = kernels.variances[i], kernels.variances[j]
        omega = math.acos(min(max(lam[i, j] / math.sqrt(q_i * q_j), -1.0), 1.0))
        sign = 1.0 if omega < math.pi / 2 else -1.0
        angle = np.array([min(omega, math.pi - omega)])
        found = rotated_duals(act, 0.0, np.array([q_i]), np.array([q_j]), angle, np.array([sign]))
        # an error of the equation is amplified by 1/(1 - sigma_a2 G') at most
        assert abs(kernels.ck[i, j] - found.value[0]) <= 4e-15 * kernels.ck.max()
        assert kernels.ntk[i, j] == pytest.approx(found.value[0] / (1 - a2 * found.slope[0]), rel=1e-11)


@pytest.mark.parametrize("name", ["relu", "hard_tanh", "elu"])
def test_a_kink_between_nearly_opposite_samples_of_an_explicit_network(name):
    """The slope moves like sqrt(1 - |rho|): it must come from x + y, not from a rounded correlation."""
    x = np.array([0.6, -0.8, 0.3])
    d = np.array([3e-6, 1e-6, 0.0])
    X = np.stack([x, -x + d])
    kernels = explicit_kernels(X, ExplicitNetwork.of(name))
    with mpmath.workdps(40):
        q = [mpmath.fsum(mpmath.mpf(float(c)) ** 2 for c in row) for row in X]
        s = mpmath.fsum(mpmath.mpf(float(a)) * mpmath.mpf(float(b)) for a, b in zip(*X, strict=True))
        omega = float(mpmath.acos(-s / mpmath.sqrt(q[0] * q[1])))
    centre = float(hermite_table(activation(name)).energies(np.ones(1)).mean[0])
    duals = rotated_duals(activation(name), centre, *(np.array([float(z)]) for z in (q[0], q[1], omega)), -np.ones(1))
    expected = float(duals.value[0]) + float(s) * float(duals.slope[0])
    assert kernels.ck[0, 1] == pytest.approx(float(duals.value[0]), abs=1e-14)
    assert kernels.ntk[0, 1] == pytest.approx(expected, abs=1e-13)


def test_identical_samples_keep_identical_rows_across_tiles():
    X = gaussian(600, 20)
    X[590], X[300], X[301] = X[2], X[2], -X[2]
    for name in ("gelu", "tanh"):
        kernels = implicit_kernels(X, DEQ(name))
        for kernel in (kernels.ck, kernels.ntk):
            assert (kernel == kernel.T).all()
            assert (kernel[590] == kernel[2]).all()
            assert kernel[590, 300] == kernel[2, 2]
        if name == "tanh":
            assert (kernels.ck[301] == -kernels.ck[2]).all()


def test_engines_and_prepared_samples_travel():
    engine = Engine.of_deq(DEQ("selu"), 1)
    samples = engine.prepare(gaussian(10, 4), first=7)
    again, copied = pickle.loads(pickle.dumps((engine, samples)))  # noqa: S301 - our own, as between workers
    first, second = compute_block(engine, samples), compute_block(again, copied)
    assert (first.ck == second.ck).all()
    assert (first.ntk == second.ntk).all()
    assert first.tiles[0].row == 7


def test_serial_blas_may_nest():
    with serial_blas():
        with serial_blas():
            inside = implicit_ck(gaussian(30, 4), DEQ("relu"))
        assert (inside == implicit_ck(gaussian(30, 4), DEQ("relu"))).all()


def test_samples_far_larger_than_the_scale_of_centring():
    # norms of 1e4 tau0^2 along almost the same direction: terms of the equation for 1 - r cancel
    X = np.random.RandomState(42).normal(loc=100, size=(60, 2))
    kernels = implicit_kernels(X, DEQ("relu"), tau0=1)
    lam = 0.2 * kernels.ck + 0.8 * (X @ X.T)
    assert np.allclose(np.diag(lam), kernels.variances, rtol=1e-14)
    rho = lam / np.sqrt(np.outer(kernels.variances, kernels.variances))
    assert (rho <= 1 + 4e-16).all()


@pytest.mark.parametrize("scale", [5.0, 20.0])
def test_smooth_activations_at_large_variance(scale):
    # tanh looks like a step there; the dual activations must still be right at correlations near one
    rng = np.random.default_rng(0)
    q = scale**2 * rng.uniform(0.5, 1.5, (2, 3))
    omega = np.array([1e-4, 0.1, 0.4])
    fine = rotated_duals(activation("tanh"), 0.0, q[0], q[1], omega, np.ones(3))
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(-9.0, 9.0, int(12 * scale) + 1)  # panels narrower than the features of tanh
    half = (edges[1] - edges[0]) / 2
    x = ((edges[1:] + edges[:-1])[:, None] / 2 + half * nodes).ravel()
    density = np.tile(half * weights, len(edges) - 1) * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    for k in range(3):
        u, v = math.sqrt(q[0, k]) * x, math.sqrt(q[1, k]) * math.cos(omega[k]) * x
        inner = np.tanh(v[:, None] + math.sqrt(q[1, k]) * math.sin(omega[k]) * x) @ density
        assert fine.value[k] == pytest.approx(float(density @ (np.tanh(u) * inner)), rel=1e-11)
