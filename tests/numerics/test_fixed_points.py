"""How many fixed points there are: verdicts known from independent, certified computations."""

from __future__ import annotations

import math

import pytest

from equikernel.numerics.fixed_points import scan_fixed_points
from equikernel.theory.models import DEQ


@pytest.mark.parametrize(
    ("deq", "tau0", "count"),
    [
        (DEQ("2*x", "0.3", "0.8"), 1.0, 0),
        (DEQ("3*swish(x)", "0.5", "0.5"), 1.0, 0),
        (DEQ("5*where(abs(x) > 2, 1, 0)", "0.9", "0.1"), 1.0, 3),
        (DEQ("x**2", "0.2", "0.5"), 1.0, 2),
        (DEQ("swish", "0.99", "0.01"), 1.0, 1),
        (DEQ("gelu", "0.99", "0.01"), 1.0, 1),
        (DEQ("mish", "0.99", "0.01"), 1.0, 1),
        (DEQ("tanh", "0.5", "0.5"), 2.0, 1),
        (DEQ("relu", 0, 1), 1.0, 1),
    ],
    ids=repr,
)
def test_counts(deq, tau0, count):
    scan = scan_fixed_points(deq, tau0)
    assert len(scan.points) == count
    assert scan.tangent == ()


def test_square_has_its_exact_roots():
    # V = 2 q^2: 0.4 q^2 - q + 0.5 = 0
    scan = scan_fixed_points(DEQ("x**2", "0.2", "0.5"), 1.0)
    exact = [(1 - math.sqrt(1 - 0.8)) / 0.8, (1 + math.sqrt(1 - 0.8)) / 0.8]
    assert [p.q for p in scan.points] == pytest.approx(exact, rel=1e-14)
    assert [p.stable for p in scan.points] == [True, False]


def test_a_double_root_is_called_undecided():
    # 0.4 q^2 - q + 0.625 = 0.4 (q - 1.25)^2
    scan = scan_fixed_points(DEQ("x**2", "0.2", "0.625"), 1.0)
    assert scan.points == ()
    assert scan.tangent == pytest.approx([1.25], rel=1e-6)


def test_close_pair_between_grid_points_is_found():
    # discriminant 1 - 1.6 b = 1e-6: roots 1.25 (1 -+ 1e-3)
    scan = scan_fixed_points(DEQ("x**2", "0.2", "0.624999375"), 1.0)
    assert [p.q for p in scan.points] == pytest.approx([1.25 * (1 - 1e-3), 1.25 * (1 + 1e-3)], rel=1e-9)


def test_linear_activation_has_the_geometric_series():
    scan = scan_fixed_points(DEQ("x", "0.75", "0.5"), 2.0)
    assert [p.q for p in scan.points] == pytest.approx([0.5 * 4 / 0.25], rel=1e-15)
    assert scan.points[0].slope == pytest.approx(0.75, rel=1e-14)


def test_a_fixed_point_at_the_lower_end_to_rounding_is_found():
    """V is about 1e-15 of b there, so that the sign of q - T(q) at b is that of a rounding error."""
    scan = scan_fixed_points(DEQ("sign(0.5*x+gaussian(x+0.5))", "0.1", "0.01"), 1.0)
    assert [p.q for p in scan.points] == pytest.approx([0.01], rel=1e-12)


def test_a_tiny_input_does_not_end_the_scan_early():
    """tanh at sigma_a2 = 1: q = 7.07e-16 solves 2 q^2 = b at b = 1e-30, far above 1e8 b."""
    scan = scan_fixed_points(DEQ("tanh", 1, "1e-30"), 1.0)
    assert [p.q for p in scan.points] == pytest.approx([math.sqrt(0.5e-30)], rel=1e-3)
