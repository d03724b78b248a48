"""Exact kernels against an independent nested quadrature in 50 digits, on everything that is hard about data.

The truth is tests/data/kernel_truth.json, written by make_kernel_truth.py beside it, which says how. Errors are
relative to the largest entry of G, at most 1e-12, and of K, at most 1e-11, whatever the case.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import mpmath
import numpy as np
import pytest

TESTS = Path(__file__).resolve().parents[1]
TRUTH = json.loads((TESTS / "data" / "kernel_truth.json").read_text())
CASES = [*TRUTH["implicit"], *TRUTH["explicit"]]
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Imports a script of benchmarks/ or of tests/data/ by its name."""
    monkeypatch.syspath_prepend(str(TESTS.parent / "benchmarks"))
    monkeypatch.syspath_prepend(str(TESTS / "data"))
    return importlib.import_module


def name(case):
    return f"{case.get('activation') or ','.join(case['layers'])}-{case['case']}".replace(" ", "_")


def implicit_case(activation, data):
    return next(case for case in TRUTH["implicit"] if (case["activation"], case["case"]) == (activation, data))


@pytest.mark.parametrize("case", CASES, ids=name)
def test_kernels_are_the_true_ones(load, case):
    accuracy = load("kernel_accuracy")
    assert accuracy.TARGETS == {"ck": 1e-12, "ntk": 1e-11, "ntk_aA": 1e-11, "ntk_aAB": 1e-11}
    errors = accuracy.measured(case)
    assert {kernel: error for kernel, error in errors.items() if not error <= accuracy.TARGETS[kernel]} == {}


def test_the_truth_is_far_more_accurate_than_the_tolerances():
    assert len({case["activation"] for case in TRUTH["implicit"]}) >= 18
    assert max(float(case[error]) for case in CASES for error in ("error_ck", "error_ntk")) <= 1e-17
    assert all(float(difference) <= 1e-20 for difference in TRUTH["checks"].values())


@pytest.mark.parametrize("data", ["spread", "ladder", "uneven ladder", "edge at 0.999"])
def test_the_truth_of_relu_solves_its_equation_in_closed_form(data):
    """Equation (2) with the arc-cosine formulas (Cho & Saul 2009) and the centre that they give, in 40 digits."""
    case = implicit_case("relu", data)
    with mpmath.workdps(40):
        a2, b2, tau0 = (mpmath.mpf(case[key]) for key in ("sigma_a2", "sigma_b2", "tau0"))
        tau = mpmath.sqrt(b2 * tau0**2 / (1 - a2 * (1 - 1 / mpmath.pi) / 2))
        centre = tau / mpmath.sqrt(2 * mpmath.pi)
        rows = [[Fraction(float(x)) for x in row] for row in case["X"]]
        G = [[mpmath.mpf(x) for x in row] for row in case["ck"]]
        K = [[mpmath.mpf(x) for x in row] for row in case["ntk_aA"]]
        exact = [[sum(x * y for x, y in zip(first, second, strict=True)) for second in rows] for first in rows]
        L = [
            [a2 * g + b2 * s.numerator / s.denominator for g, s in zip(*both, strict=True)]
            for both in zip(G, exact, strict=True)
        ]
        for i in range(len(G)):
            for j in range(i + 1):
                root = mpmath.sqrt(L[i][i] * L[j][j])
                angle = mpmath.mpf(0) if rows[i] == rows[j] else mpmath.acos(L[i][j] / root)
                slope = (mpmath.pi - angle) / (2 * mpmath.pi)
                value = root * (mpmath.sin(angle) / (2 * mpmath.pi) + slope * mpmath.cos(angle))
                means = (mpmath.sqrt(L[i][i]) + mpmath.sqrt(L[j][j])) / mpmath.sqrt(2 * mpmath.pi)
                # 22 digits of G are stored: near coincidence the slope keeps the digits that 1 - rho has, and half more
                assert abs(value - centre * means + centre**2 - G[i][j]) <= 1e-20 * max(G[i][i], G[j][j]), (i, j)
                rounding = 1e-21 / max(mpmath.sin(angle), mpmath.mpf("1e-12")) if angle else mpmath.mpf(0)
                allowed = 1e-20 + 2 * rounding * a2 / (1 - a2 * slope)
                largest = max(K[i][i], K[j][j])
                assert abs(G[i][j] / (1 - a2 * slope) - K[i][j]) <= allowed * largest, (i, j)


def test_the_file_is_what_the_script_writes(load):
    script = load("make_kernel_truth")
    expected = implicit_case("relu", "sphere")
    parameters = (Fraction(expected[key]) for key in ("sigma_a2", "sigma_b2", "tau0"))
    network = script.Network(script.FUNCTIONS["relu"], *parameters)
    X = np.array(expected["X"], dtype=float)
    assert script.implicit_record(network.function, "sphere", X, network) == expected
