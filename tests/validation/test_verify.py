import dataclasses
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from equikernel.errors import InputError
from equikernel.numerics.kernels import implicit_kernels
from equikernel.numerics.kernels.table import HermiteTable
from equikernel.numerics.moments import Moment
from equikernel.theory.activation import Activation
from equikernel.theory.models import DEQ
from equikernel.validation import identities, identities_of_kernels, identities_of_moments, identities_of_proofs
from equikernel.validation import verify as module
from equikernel.validation.identities import Measured, Subject
from equikernel.validation.reference_quadrature import gaussian_expectation
from equikernel.validation.verify import verify

KINDS = (module.FUNCTION_IDENTITIES, module.MOMENT_IDENTITIES, module.KERNEL_IDENTITIES, module.PROOF_IDENTITIES)
ALL = {i.name: i for kind in KINDS for i in kind}


def check(name, activation="gelu", examples=4):
    """One identity alone: quick."""
    return module._check(ALL[name], Subject(DEQ(activation), 1.0, 0, examples))


def simplicity(counterexample):
    """Characters of the numbers: what shrinking is to keep small."""
    return sum(len(repr(value)) for value in counterexample.values())


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_every_identity_holds(name):
    report = verify(name, examples=2)
    assert report.passed, report.to_markdown()
    assert [c.name for c in report.checks] == list(ALL)
    skipped = {c.name: c.skipped for c in report.checks if c.skipped is not None}
    assert list(skipped) == (["closed forms"] if name == "tanh" else [])
    assert all("not a finite sum" in reason for reason in skipped.values())
    assert all(c.counterexample is None for c in report.checks)
    assert all(c.worst <= c.tolerance for c in report.checks)


def test_report_is_plain_json_and_a_table(monkeypatch):
    monkeypatch.setattr(module, "KERNEL_IDENTITIES", ())
    monkeypatch.setattr(module, "PROOF_IDENTITIES", ())
    report = verify("x/(1 + x**2)", examples=1)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["passed"] is True
    assert data["activation"]["expression"] == "x/(x**2 + 1)"
    assert [c["name"] for c in data["checks"]] == list(ALL)[: len(data["checks"])]
    table = report.to_markdown()
    assert table.count("| pass |") == len(data["checks"])
    assert verify("x/(1 + x**2)", examples=1) == report


def test_jumps_skip_what_needs_the_derivative_with_the_reason():
    activation = "where(x < 0, x - 1, x + 2)"
    for name in ("Price", "NTK is PSD"):
        outcome = check(name, activation)
        assert "jumps at x = 0" in outcome.skipped
        assert outcome.passed
    for name in ("Stein, d1", "Stein, d2", "Stein, h", "moments", "Hermite"):
        outcome = check(name, activation, 1)
        assert outcome.skipped is None
        assert outcome.passed


def test_no_fixed_point_is_a_reason_to_skip():
    report = verify("2*x", sigma_a2="0.3", examples=1)
    reasons = {c.name: c.skipped for c in report.checks if c.skipped is not None}
    assert set(reasons) == {"fixed point", "implicit CK", "CK is PSD", "NTK is PSD", "invariance", "certificate"}
    assert all("fixed point" in reason for reason in reasons.values())
    assert "skipped: no fixed point" in report.to_markdown()


def test_torch_missing_is_a_reason_to_skip(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "not installed" in check("torch = mpmath").skipped


# -- planted faults --------------------------------------------------------------------------------------------------


def test_a_wrong_derivative_is_found_where_it_is_wrong(monkeypatch):
    right = Activation.derivative

    def wrong(self, arithmetic="numpy", **options):
        function = right(self, arithmetic, **options)
        if arithmetic != "numpy":
            return function
        return lambda x: function(x) * (1.0 + 1e-9 * (np.asarray(x) > 2.5))

    monkeypatch.setattr(Activation, "derivative", wrong)
    outcome = check("derivative")
    assert not outcome.passed
    assert outcome.worst > outcome.tolerance
    assert 2.5 < outcome.counterexample["x"] <= 10.0
    assert outcome.counterexample["x"] == round(outcome.counterexample["x"])
    assert not check("Stein, d1").passed
    assert check("numpy = mpmath").passed


def test_a_wrong_function_is_found_in_its_arithmetic(monkeypatch):
    right = Activation.function

    def wrong(self, arithmetic="numpy", **options):
        function = right(self, arithmetic, **options)
        return (lambda x: function(x) + 1e-12) if arithmetic == "torch" else function

    monkeypatch.setattr(Activation, "function", wrong)
    outcome = check("torch = mpmath")
    assert not outcome.passed
    assert simplicity(outcome.counterexample) <= 4
    assert check("numpy = mpmath").passed


def test_overflow_is_a_failure(monkeypatch):
    right = Activation.function
    monkeypatch.setattr(
        Activation,
        "function",
        lambda self, arithmetic="numpy", **options: (
            (lambda x: math.inf if x > 30 else right(self)(x))
            if arithmetic == "numpy"
            else right(self, arithmetic, **options)
        ),
    )
    outcome = check("numpy = mpmath")
    assert not outcome.passed
    assert outcome.worst == math.inf
    assert 30 < outcome.counterexample["x"] <= 40
    assert module.VerifyReport(DEQ("gelu").activation, (outcome,)).to_dict()["checks"][0]["worst"] is None


def plant_moment(monkeypatch, name, factor):
    right = identities.gaussian_moments

    def wrong(activation, tau, *rest):
        m = right(activation, tau, *rest)
        if rest:
            return m
        old = getattr(m, name)
        return dataclasses.replace(m, **{name: Moment(old.value * factor, old.error, old.provenance)})

    monkeypatch.setattr(identities, "gaussian_moments", wrong)


@pytest.mark.parametrize(
    ("moment", "identity", "others"),
    [
        ("d1", "Stein, d1", ["Stein, d2", "Stein, h", "moments"]),
        ("d2", "Stein, d2", ["Stein, d1", "Stein, h", "moments"]),
        ("h", "Stein, h", ["Stein, d1", "Stein, d2", "moments"]),
        ("V", "moments", ["Stein, d1", "Stein, d2", "Stein, h"]),
        ("v_or_none", "moments", ["Stein, d1", "Stein, d2", "Stein, h"]),
    ],
)
def test_a_wrong_moment_is_found_by_the_right_identity(monkeypatch, moment, identity, others):
    plant_moment(monkeypatch, moment, 1.0 + 1e-11)
    outcome = check(identity)
    assert not outcome.passed
    assert outcome.counterexample == {"tau": 1.0}
    assert not check("error bounds").passed
    assert not check("scaling").passed
    assert all(check(other).passed for other in others)


def test_a_wrong_slope_of_the_variance_is_found(monkeypatch):
    plant_moment(monkeypatch, "h", 1.0 + 1e-12)
    assert not check("slope of V").passed


def plant_duals(monkeypatch, change):
    right = identities_of_kernels.pair_duals
    monkeypatch.setattr(
        identities_of_kernels, "pair_duals", lambda act, c, q_i, q_j, rho: change(*right(act, c, q_i, q_j, rho), rho)
    )


def test_a_wrong_dual_slope_is_found(monkeypatch):
    plant_duals(monkeypatch, lambda G, slope, rho: (G, slope * (1 + 1e-4)))
    for name in ("Price", "rho = +-1"):
        outcome = check(name)
        assert not outcome.passed
        assert simplicity(outcome.counterexample) <= 9
    assert check("Hermite").passed


def test_a_wrong_dual_is_found_only_by_what_looks_at_it(monkeypatch):
    # wrong at negative correlation: G alone, by far more than the Monte Carlo error and with the wrong derivative
    plant_duals(monkeypatch, lambda G, slope, rho: (G + 0.01 * min(rho, 0.0), slope))
    outcome = check("Monte Carlo")
    assert not outcome.passed
    assert -1 <= outcome.counterexample["rho"] < 0
    assert not check("rho = +-1").passed
    assert check("rho = +-1").counterexample["sign"] == -1.0
    assert check("Hermite").passed


def test_a_wrong_hermite_row_is_found(monkeypatch):
    right = HermiteTable.rows

    def wrong(table, variances, terms):
        rows = right(table, variances, terms)
        rows[:, 4] += 1e-9
        return rows

    monkeypatch.setattr(HermiteTable, "rows", wrong)
    assert not check("Hermite").passed


def plant_kernel(monkeypatch, change):
    right = implicit_kernels

    def wrong(X, deq, **options):
        k = right(X, deq, **options)
        return replace(k, ck=change(k.ck), ntk=None if k.ntk is None else change(k.ntk))

    monkeypatch.setattr(identities_of_kernels, "implicit_kernels", wrong)


def test_a_kernel_that_is_not_symmetric_is_found(monkeypatch):
    plant_kernel(monkeypatch, lambda M: M + 1e-9 * np.eye(len(M), k=1))
    for name in ("CK is PSD", "NTK is PSD"):
        outcome = check(name)
        assert not outcome.passed
        assert "not symmetric" in outcome.detail
        # two samples and one feature are enough
        assert np.shape(outcome.counterexample["X"]) == (2, 1)


def test_a_negative_eigenvalue_is_found(monkeypatch):
    plant_kernel(monkeypatch, lambda M: M - 1e-6 * np.eye(len(M)))
    outcome = check("CK is PSD")
    assert not outcome.passed
    assert "eigenvalue" in outcome.detail


def test_a_kernel_with_nan_is_found(monkeypatch):
    plant_kernel(monkeypatch, lambda M: M * math.nan)
    assert not check("CK is PSD").passed
    assert not check("implicit CK").passed
    assert not check("invariance").passed


def test_a_kernel_off_its_equation_is_found(monkeypatch):
    plant_kernel(monkeypatch, lambda M: M * (1 + 1e-10))
    outcome = check("implicit CK")
    assert not outcome.passed
    assert np.shape(outcome.counterexample["X"]) == (1, 1)


def test_a_kernel_that_sees_the_order_is_found(monkeypatch):
    plant_kernel(monkeypatch, lambda M: M + 1e-9 * np.outer(np.arange(len(M)), np.arange(len(M))))
    assert not check("invariance").passed
    assert check("explicit CK").passed


def test_a_wrong_fixed_point_is_found(monkeypatch):
    right = identities_of_moments.solve

    def wrong(*arguments, **options):
        solution = right(*arguments, **options)
        q = solution.q * (1 + 1e-12)
        return dataclasses.replace(solution, q=q, tau=math.sqrt(q))

    monkeypatch.setattr(identities_of_moments, "solve", wrong)
    outcome = check("fixed point")
    assert not outcome.passed
    assert outcome.counterexample == {"tau0": 1.0}


def test_a_wrong_recursion_is_found(monkeypatch):
    right = identities_of_moments.explicit_coefficients

    def wrong(*arguments, **options):
        found = right(*arguments, **options)
        return dataclasses.replace(found, alpha2=found.alpha3)

    monkeypatch.setattr(identities_of_moments, "explicit_coefficients", wrong)
    outcome = check("one layer")
    assert not outcome.passed
    assert outcome.detail.startswith("alpha2")


def test_failures_show_in_the_report(monkeypatch):
    plant_moment(monkeypatch, "d1", 2.0)
    monkeypatch.setattr(module, "FUNCTION_IDENTITIES", ())
    monkeypatch.setattr(module, "KERNEL_IDENTITIES", ())
    monkeypatch.setattr(module, "MOMENT_IDENTITIES", (ALL["Stein, d1"], ALL["Stein, d2"]))
    report = verify("gelu", examples=1)
    assert not report.passed
    text = report.to_markdown()
    assert text.startswith("# gelu: FAILED")
    assert "**Stein, d1** fails at `{'tau': 1.0}`" in text


# -- the parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma_a2": -1}, "sigma_a2 must be a non-negative"),
        ({"tau0": 0}, "tau0 must be a positive"),
        ({"examples": 0}, "examples must be a whole number of at least 1"),
        ({"examples": 1.5}, "examples must be a whole number of at least 1"),
        ({"examples": 10**6}, "examples must be at most"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": True}, "seed must be a whole number of at least 0"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        verify("tanh", **arguments)


@pytest.mark.parametrize(
    ("f", "breakpoints", "growth", "truth"),
    [
        (np.cos, (), 0.0, math.exp(-2.0)),
        (np.abs, (0.0,), 0.0, 2 * math.sqrt(2 / math.pi)),
        (np.exp, (), 1.0, math.exp(2.0)),
        (np.sign, (0.0,), 0.0, 0.0),
        (lambda y: np.abs(y) ** 0.5, (0.0,), 0.0, math.sqrt(2) * 2**0.25 * math.gamma(0.75) / math.sqrt(math.pi)),
        (lambda y: np.abs(y) ** -0.5, (0.0,), 0.0, 2**-0.25 / math.sqrt(2) * math.gamma(0.25) / math.sqrt(math.pi)),
        (lambda y: 1.0 / (1.0 + (50 * y) ** 2), (), 0.0, None),
    ],
)
def test_reference_quadrature_knows_its_error(f, breakpoints, growth, truth):
    estimate = gaussian_expectation(f, 2.0, breakpoints, growth)
    if truth is None:
        # E[1/(1 + a^2 xi^2)] = sqrt(pi/2)/a exp(1/(2 a^2)) erfc(1/(a sqrt 2)), a = 100
        a = 100.0
        truth = math.sqrt(math.pi / 2) / a * math.exp(0.5 / a**2) * math.erfc(1 / (a * math.sqrt(2)))
    assert abs(estimate.value - truth) <= estimate.error
    assert estimate.error <= 1e-5


def test_nan_never_holds_and_no_tolerance_allows_nothing():
    assert not Measured(math.nan, 1.0).holds
    assert not Measured(1e-300, 0.0).holds
    assert Measured(0.0, 0.0).holds


def test_simpler_points_are_simpler_and_admissible():
    point = {"q_i": 0.731, "rho": -0.25, "sign": -1.0, "X": [[1.5, 0.25], [0.125, 3.0]]}
    candidates = list(module._simpler(point))
    assert all(c["sign"] == -1.0 and c["q_i"] > 0 for c in candidates)
    assert {"q_i": 1.0, "rho": -0.25, "sign": -1.0, "X": point["X"]} in candidates
    assert any(len(c["X"]) == 1 for c in candidates)
    assert any(len(c["X"][0]) == 1 for c in candidates)
    assert list(module._simpler({"q": 1.0, "sign": 1.0, "X": [[0.0]]})) == []


def test_a_wrong_closed_form_is_found(monkeypatch):
    true = identities_of_proofs.verified_closed_forms

    def wrong(activation):
        forms = true(activation)
        return SimpleNamespace(
            moments=lambda tau: forms.moments(tau).map(lambda m: Moment(m.value * (1 + 1e-9), m.error, m.provenance))
        )

    monkeypatch.setattr(identities_of_proofs, "verified_closed_forms", wrong)
    outcome = check("closed forms", "gelu", 1)
    assert not outcome.passed
    assert "closed" in outcome.detail


def test_a_certificate_that_cannot_be_proved_again_is_found(monkeypatch):
    true = identities_of_proofs.certify

    def forged(*args, **options):
        record = true(*args, **options).to_dict()
        record["enclosures"]["alpha1"]["mid"] = "0.3"
        return SimpleNamespace(to_dict=lambda: record, enclosures={})

    monkeypatch.setattr(identities_of_proofs, "certify", forged)
    outcome = check("certificate", "relu", 1)
    assert not outcome.passed
    assert "rejected" in outcome.detail
