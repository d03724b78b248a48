from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sympy as sp

from equikernel.errors import InputError
from equikernel.numerics.certificates.certificate import activation_text, certify
from equikernel.numerics.certificates.check import check_certificate
from equikernel.numerics.certificates.record import load, read_record
from equikernel.numerics.solve import solve
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ
from equikernel.theory.program import X

Record = dict[str, Any]
STEP = "5*where(abs(x)>2,1,0)"


@cache
def _text(text: str, sigma_a2: str, sigma_b2: str) -> str:
    return json.dumps(certify(DEQ(text, sigma_a2, sigma_b2)).to_dict(), allow_nan=False)


def certificate(text: str = "silu", sigma_a2: str = "1/5", sigma_b2: str = "4/5") -> Record:
    record = json.loads(_text(text, sigma_a2, sigma_b2))
    assert isinstance(record, dict)
    return record


@pytest.mark.parametrize(
    ("text", "sigma_a2", "sigma_b2"),
    [
        ("tanh", "1/5", "4/5"),
        ("silu", "1/5", "4/5"),
        ("relu", "1/5", "4/5"),
        ("2*x", "3/10", "4/5"),
        (STEP, "9/10", "1/10"),
        ("x**2", "1/5", "1/2"),
        ("x**2", "1/5", "5/8"),
        ("x**2", "1/5", "0.62499999999999999"),
        ("tanh", "0", "1"),
    ],
)
def test_certificates_are_confirmed_from_their_json(text: str, sigma_a2: str, sigma_b2: str) -> None:
    report = check_certificate(certificate(text, sigma_a2, sigma_b2))
    assert report.failure is None
    assert report.passed


def test_the_other_engine_is_used() -> None:
    record = certificate("tanh")
    assert check_certificate(record).engine != record["engine"]


def _shift(ball: Record, by: str) -> None:
    """Move the midpoint by so many radii."""
    digits = sp.Rational(ball["mid"]) + sp.Rational(by) * sp.Rational(ball["rad"])
    ball["mid"] = str(sp.Float(digits, 60))


def _wrong_root(r: Record) -> None:
    _shift(r["fixed_points"][0]["q"], "5")


def _shrunk_root(r: Record) -> None:
    ball = r["fixed_points"][0]["q"]
    ball["mid"] = "0.8525"
    ball["rad"] = "1e-9"


def _wide_root(r: Record) -> None:
    r["fixed_points"][0]["q"] = {"mid": "0.85", "rad": "0.04"}


def _wrong_coefficient(r: Record) -> None:
    _shift(r["enclosures"]["kappa2"], "4")


def _narrow_coefficient(r: Record) -> None:
    r["enclosures"]["alpha1"]["rad"] = "0"


def _unknown_coefficient(r: Record) -> None:
    r["enclosures"]["alpha9"] = r["enclosures"]["alpha1"]


def _gap(r: Record) -> None:
    r["boxes"] = [{"lower": 0.7, "upper": 0.8, "verdict": "T > q"}, {"lower": 0.81, "upper": 0.9, "verdict": "F' > 0"}]


def _too_short(r: Record) -> None:
    r["boxes"][-1]["upper"] = 0.86


def _late_start(r: Record) -> None:
    r["boxes"][0]["lower"] = 0.81


def _false_exclusion(r: Record) -> None:
    r["boxes"][0]["verdict"] = "T > q"


def _false_slope(r: Record) -> None:
    r["boxes"][0]["verdict"] = "F' < 0"


def _no_boxes(r: Record) -> None:
    r["boxes"] = []


def _false_shape(r: Record) -> None:
    r["shape"]["holds"] = True


def _low_bound(r: Record) -> None:
    r["bound"]["upper"] = 0.855


def _other_theorem(r: Record) -> None:
    r["bound"]["theorem"] = "bounded"


def _opposite_sign(r: Record) -> None:
    r["bound"]["sign"] = -1


def _interval_claims_all(r: Record) -> None:
    r["bound"]["theorem"], r["bound"]["sign"] = "interval", 1


def _count(r: Record) -> None:
    r["count"]["number"] = 2


def _sentence(r: Record) -> None:
    r["uniqueness"] = "exactly two fixed points on (0, oo)"


def _number_in_a_sentence(r: Record) -> None:
    r["uniqueness"] = r["uniqueness"].replace("0.068", "0.001")


def _unstable(r: Record) -> None:
    r["fixed_points"][0]["stable"] = False


def _no_point(r: Record) -> None:
    r["fixed_points"], r["selected"] = [], None


def _stability(r: Record) -> None:
    r["stability"]["chaos"]["holds"] = False


def _stability_value(r: Record) -> None:
    _shift(r["stability"]["norm"]["value"], "3")


def _other_problem(r: Record) -> None:
    r["problem"]["sigma_a2"] = "1/4"


def _other_activation(r: Record) -> None:
    r["problem"]["activation"] = "gelu"


def _no_enclosures(r: Record) -> None:
    r["enclosures"] = {}


def _no_stability(r: Record) -> None:
    r["stability"] = {}


def _fewer_stability(r: Record) -> None:
    del r["stability"]["chaos"]


def _one_enclosure_less(r: Record) -> None:
    del r["enclosures"]["kappa2"]


def _many_digits(r: Record) -> None:
    r["digits"] = 100


def _statement_of_the_bound(r: Record) -> None:
    r["bound"]["statement"] = "phi is bounded by 3"


def _statement_of_the_shape(r: Record) -> None:
    r["shape"]["statement"] = "silu is monotone"


def _meaning(r: Record) -> None:
    r["stability"]["chaos"]["meaning"] = "all is lost"


def _name_of_a_statement(r: Record) -> None:
    r["stability"]["chaos"]["name"] = "sigma_a2*h"


def _verdict_without_value(r: Record) -> None:
    r["stability"]["chaos"]["value"] = None


def _refused(r: Record) -> None:
    r["refused"] = {"alpha1": "no"}
    del r["enclosures"]["alpha1"]


def _both(r: Record) -> None:
    r["refused"] = {"alpha1": "no enclosure: 1e5"}


def _number_is_true(r: Record) -> None:
    r["count"]["number"] = True


def _number_is_a_float(r: Record) -> None:
    r["count"]["number"] = 1.0


@pytest.mark.parametrize(
    "tamper",
    [
        *(_wrong_root, _shrunk_root, _wrong_coefficient, _narrow_coefficient, _unknown_coefficient, _gap, _too_short),
        *(_late_start, _false_exclusion, _false_slope, _no_boxes, _false_shape, _low_bound, _other_theorem),
        *(
            _opposite_sign,
            _interval_claims_all,
            _count,
            _sentence,
            _number_in_a_sentence,
            _unstable,
            _no_point,
            _stability,
        ),
        *(_stability_value, _other_problem, _other_activation, _no_enclosures, _no_stability, _fewer_stability),
        *(_one_enclosure_less, _many_digits, _statement_of_the_bound, _statement_of_the_shape, _meaning),
        *(_name_of_a_statement, _verdict_without_value, _refused, _both, _number_is_true, _number_is_a_float),
    ],
)
def test_a_tampered_certificate_is_rejected_in_one_sentence(tamper: Callable[[Record], None]) -> None:
    record = copy.deepcopy(certificate())
    tamper(record)
    report = check_certificate(record)
    assert not report.passed
    assert report.failure is not None
    assert "\n" not in report.failure
    assert len(report.failure) < 400


def test_a_hidden_fixed_point_is_missed_by_nobody() -> None:
    # three fixed points; the certificate owns up to one only
    record = copy.deepcopy(certificate(STEP, "9/10", "1/10"))
    record["fixed_points"] = record["fixed_points"][:1]
    record["count"] |= {"least": 1, "number": 1}
    record["uniqueness"] = record["uniqueness"].replace("exactly three fixed points", "unique: exactly one fixed point")
    record["existence"] = record["existence"].replace("three fixed points", "one fixed point")
    assert not check_certificate(record).passed
    record["boxes"] = [{"lower": 0.0999, "upper": 5.8, "verdict": "F' > 0"}]
    report = check_certificate(record)
    assert not report.passed


def test_coefficients_without_a_fixed_point_are_rejected() -> None:
    record = copy.deepcopy(certificate("2*x", "3/10", "4/5"))
    record["enclosures"] = {"alpha1": {"mid": "0.5", "rad": "0"}}
    report = check_certificate(record)
    assert report.failure == "there are coefficients, but no stable fixed point that they belong to"


def test_boxes_that_nothing_needs_are_rejected() -> None:
    record = copy.deepcopy(certificate("2*x", "3/10", "4/5"))
    record["boxes"] = [{"lower": 0.5, "upper": 9.0, "verdict": "T < q"}]
    assert not check_certificate(record).passed


def test_an_interval_of_another_length_is_another_count() -> None:
    record = copy.deepcopy(certificate("x**2", "1/5", "1/2"))
    record["count"]["on"] = "(0, 1e250]"
    assert not check_certificate(record).passed


def test_what_was_not_enclosed_is_not_said_to_be_confirmed() -> None:
    record = copy.deepcopy(certificate("tanh"))
    for name in ("kappa2", "alpha1"):
        del record["enclosures"][name]
        record["refused"][name] = "no enclosure: the budget of 1 s ran out"
    report = check_certificate(record)
    assert report.passed
    assert report.unchecked == ("why kappa2 has no enclosure", "why alpha1 has no enclosure")
    assert not any("kappa2" in sentence for sentence in report.confirmed)


def test_a_check_ends_within_its_budget() -> None:
    # boxes that are true, but a thousand times as many as are needed
    record = copy.deepcopy(certificate("gelu"))
    (box,) = record["boxes"]
    edges = [box["lower"] + (box["upper"] - box["lower"]) * k / 1000 for k in range(1000)] + [box["upper"]]
    record["boxes"] = [{"lower": low, "upper": high, "verdict": "F' > 0"} for low, high in itertools.pairwise(edges)]
    before = time.thread_time()
    report = check_certificate(record, seconds=0.5)
    assert time.thread_time() - before < 2.5
    assert report.failure == (
        "a claim could not be confirmed: the budget of 0.5 s ran out before every box was confirmed; give more seconds"
    )


# -- the numbers beside a certificate ----------------------------------------------------------------------------------


@cache
def _solution_text(text: str, sigma_a2: str, sigma_b2: str, digits: int) -> str:
    return json.dumps(solve(DEQ(text, sigma_a2, sigma_b2), 1, digits, certified=True).to_dict(), allow_nan=False)


def solution(text: str = "silu", sigma_a2: str = "1/5", sigma_b2: str = "4/5", digits: int = 15) -> Record:
    record = json.loads(_solution_text(text, sigma_a2, sigma_b2, digits))
    assert isinstance(record, dict)
    return record


@pytest.mark.parametrize(("text", "b2", "digits"), [("silu", "4/5", 15), ("tanh", "4/5", 40), ("x**2", "1/2", 15)])
def test_numbers_beside_a_certificate_are_confirmed(text: str, b2: str, digits: int) -> None:
    report = check_certificate(solution(text, "1/5" if b2 == "4/5" else "1/10", b2, digits))
    assert report.failure is None
    assert any("beside the certificate, to" in sentence for sentence in report.confirmed)
    assert report.unchecked == ("beside the certificate: moments, residual, status",)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("weights", "goe"),
        ("weights", 3),
        *(
            ("alpha1", 0.5),
            ("tau", 3.0),
            ("kappa2", True),
            ("q", "much"),
            ("q", 10**400),
            ("beta3", float("inf")),
            ("digits", 16),
        ),
        *(("sigma_a2", 0.3), ("tau0", 2), ("trained", "aAB"), ("activation", "gelu"), ("activation", "3")),
        *(("other_fixed_points", [{"q": 2.0, "slope": 1.5, "stable": False}]), ("other_fixed_points", 3)),
        *(("other_fixed_points", [1]), ("other_fixed_points", [{}])),
    ],
)
def test_false_numbers_beside_a_certificate_are_rejected(path: str, value: Any) -> None:
    record = solution() | {path: value}
    report = check_certificate(record)
    assert not report.passed
    assert report.failure is not None
    assert "beside the certificate" in report.failure


def test_a_digit_of_many_beside_a_certificate_is_compared() -> None:
    record = copy.deepcopy(solution("tanh", digits=40))
    record["alpha1"] = record["alpha1"][:-3] + "000"
    assert "alpha1" in str(check_certificate(record).failure)


@pytest.mark.parametrize(("key", "value"), [("q", 2.3), ("stable", True), ("slope", 0.2)])
def test_other_fixed_points_beside_a_certificate_are_compared(key: str, value: Any) -> None:
    # F = q - q^2/5 - 1/2 at sigma_a2 = 1/10: the roots (5 +- sqrt 15)/2
    record = copy.deepcopy(solution("x**2", "1/10", "1/2"))
    record["other_fixed_points"][0][key] = value
    assert "the other fixed point" in str(check_certificate(record).failure)


def test_a_number_without_enclosure_beside_a_certificate_is_rejected() -> None:
    record = copy.deepcopy(solution())
    del record["certificate"]["enclosures"]["kappa2"]
    record["certificate"]["refused"]["kappa2"] = "no enclosure: for want of time"
    assert "has no enclosure" in str(check_certificate(record).failure)


def test_a_wide_but_true_root_is_confirmed() -> None:
    record = copy.deepcopy(certificate())
    _wide_root(record)
    assert check_certificate(record).failure is None


def test_an_interval_may_not_be_stretched() -> None:
    record = copy.deepcopy(certificate("x**2", "1/5", "1/2"))
    record["uniqueness"] = record["uniqueness"].replace("(0, 1000.0]", "(0, 9000.0]")
    assert not check_certificate(record).passed


def test_an_undecided_count_may_not_be_sold_as_decided() -> None:
    record = copy.deepcopy(certificate("x**2", "1/5", "5/8"))
    record["count"] |= {"number": 0, "undecided": []}
    assert not check_certificate(record).passed


# -- malformed ---------------------------------------------------------------------------------------------------------


def _set(path: str, value: Any) -> Callable[[Record], None]:
    def change(record: Record) -> None:
        *parents, last = path.split("/")
        inside: Any = record
        for key in parents:
            inside = inside[int(key) if key.isdigit() else key]
        inside[int(last) if last.isdigit() else last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "something"),
        ("version", 99),
        ("digits", 10**6),
        ("digits", True),
        ("problem", 3),
        ("problem/activation", "__import__('os').system('true')"),
        ("problem/activation", 7),
        ("problem/activation", None),
        ("problem/activation", "x" * 5000),
        ("problem/sigma_a2", "nan"),
        ("problem/sigma_b2", "0"),
        ("problem/tau0", "-1"),
        ("problem/trained", "everything"),
        ("bound/theorem", "wishful"),
        ("bound/upper", "big"),
        ("bound/upper", 1e308),
        ("bound/sign", 5),
        ("boxes", {}),
        ("boxes", [{"lower": 1, "upper": 1, "verdict": "T > q"}]),
        ("boxes", [{"lower": 1, "upper": 2, "verdict": "maybe"}]),
        ("boxes", [0] * 10**5),
        ("fixed_points/0/q", {"mid": "x", "rad": "0"}),
        ("fixed_points/0/q", {"mid": "1", "rad": "-1"}),
        ("fixed_points/0/q", {"mid": "1e99999", "rad": "1"}),
        ("fixed_points/0/q", {"mid": "-1", "rad": "0"}),
        ("fixed_points/0/stable", "yes"),
        ("selected", 7),
        ("enclosures", []),
        ("enclosures/tau", {"mid": 1.0, "rad": 0.0}),
        ("stability/norm", {}),
        ("count", []),
        ("existence", None),
        ("engine", 4),
        ("engine", "bogus"),
        ("remark", "phi is bounded by 3"),
        ("count/remark", 1),
        ("shape/holds", ""),
        ("checkable", False),
        ("refused", []),
        ("refused/alpha1", 3),
        ("refused", {str(k): "" for k in range(1000)}),
        ("stability/norm/meaning", None),
        ("bound/statement", 1),
    ],
)
def test_malformed_records_are_refused_in_one_sentence(path: str, value: Any) -> None:
    record = copy.deepcopy(certificate())
    _set(path, value)(record)
    with pytest.raises(InputError) as caught:
        check_certificate(record)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", sorted(json.loads(_text("silu", "1/5", "4/5"))))
def test_every_key_is_needed(key: str) -> None:
    record = copy.deepcopy(certificate())
    del record[key]
    with pytest.raises(InputError):
        read_record(record)


@pytest.mark.parametrize("value", [None, [], 3, "text", {}])
def test_what_is_no_certificate_is_refused(value: Any) -> None:
    with pytest.raises(InputError):
        check_certificate(value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"certificate": NaN}', b"1" * 9000, b" " * 8_000_001]
)
def test_files_that_are_not_json_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with pytest.raises(InputError):
        check_certificate(load(file))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path / "none.json")


def test_a_false_number_in_a_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "solution.json"
    file.write_text(json.dumps({"tau": 1.0, "certificate": certificate()}))
    assert check_certificate(load(file)).failure == "tau = 1.0 beside the certificate is not in its enclosure"


# -- the text of the activation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["gelu", "leaky_relu(x, 0.2)", "where(x > 0, x, exp(x) - 1)", "max(x, 0)**2"])
def test_the_text_parses_back(text: str) -> None:
    found = activation_text(activation(text))
    assert found is not None
    assert activation(found).expr == activation(text).expr


def test_a_sympy_expression_without_text_says_so() -> None:
    built = activation(sp.Piecewise((X, X > 0), (sp.exp(X) - 1, True)), "mine")
    assert activation_text(built) is None
    record = certify(DEQ(built)).to_dict()
    assert record["checkable"] is False
    with pytest.raises(InputError, match="no text"):
        check_certificate(record)
