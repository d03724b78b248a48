from __future__ import annotations

import math

import pytest
from flint import arb

from equikernel.errors import InputError, UncertifiedError
from equikernel.numerics.balls.context import precision
from equikernel.numerics.certificates.branch import first_zero
from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.certificates.phase import phase_diagram
from equikernel.theory.models import DEQ


def test_relu_is_known_in_closed_form() -> None:
    # V = q (1 - 1/pi)/2, v = 1/2: chaos at sigma_a2 = 2, existence ends at 2/(1 - 1/pi)
    found = phase_diagram("relu")
    chaos, existence = found.transitions["chaos"], found.transitions["existence"]
    with precision(64):
        limit = 2 / (1 - 1 / arb.pi())
        assert chaos.sigma_a2 is not None
        assert existence.sigma_a2 is not None
        assert chaos.q is not None
        assert chaos.sigma_a2.contains(2)
        assert chaos.q.overlaps((arb(4) / 5) / (1 - 2 / limit))
        assert chaos.q.rad() < 1e-4
        assert existence.sigma_a2.overlaps(limit)
    assert found.transitions["norm"].verdict == "never"
    assert found.first == "chaos"


def test_the_square_folds_where_its_discriminant_vanishes() -> None:
    # F = q - 2 sigma_a2 q^2 - b: the fold is at sigma_a2 = 1/(8 b), q = 2 b
    found = phase_diagram("x**2", "1/2", digits=3)
    for name in ("norm", "existence"):
        transition = found.transitions[name]
        assert transition.sigma_a2 is not None
        assert transition.q is not None
        assert transition.sigma_a2.contains(0.25)
        assert transition.q.contains(1)
    assert "q <= 500" in found.transitions["existence"].statement


def test_tanh_becomes_chaotic_where_certificates_say_so() -> None:
    transition = phase_diagram("tanh", "1/2", digits=4).transitions["chaos"]
    assert transition.sigma_a2 is not None
    low, high = float(transition.sigma_a2.lower()), float(transition.sigma_a2.upper())
    below, above = (certify(DEQ("tanh", value, "1/2")) for value in (low * 0.999, high * 1.001))
    assert below.coefficients is not None
    assert above.coefficients is not None
    assert below.coefficients.stability["chaos"].holds is True
    assert above.coefficients.stability["chaos"].holds is False


def test_jumps_are_chaotic_at_once() -> None:
    found = phase_diagram("sign")
    assert found.first == "chaos"
    assert found.transitions["chaos"].sigma_a2 == 0
    assert found.transitions["existence"].verdict == "never"


def test_identity_exists_up_to_one_and_is_never_chaotic_before() -> None:
    # sigma_a2 v = sigma_a2 and V = q: F = q (1 - sigma_a2) - b
    found = phase_diagram("identity", digits=3)
    assert found.transitions["existence"].sigma_a2 == 1
    assert found.transitions["chaos"].verdict == "not reached"
    assert found.first == "existence"


def test_tied_variances_follow_the_same_curve() -> None:
    # tanh with sigma_b2 = 1 - sigma_a2 attracts for every sigma_a2 < 1
    found = phase_diagram("2*tanh(x)", tied=True, digits=3)
    transition = found.transitions["chaos"]
    assert transition.sigma_a2 is not None
    low, high = float(transition.sigma_a2.lower()), float(transition.sigma_a2.upper())
    for value, holds in ((low * 0.99, True), (high * 1.01, False)):
        point = certify(DEQ("2*tanh(x)", value, 1 - value))
        assert point.coefficients is not None
        assert point.coefficients.stability["chaos"].holds is holds
    assert found.to_dict()["tied"] is True


def test_a_degenerate_tied_curve_is_refused() -> None:
    with pytest.raises(UncertifiedError, match="degenerate"):
        phase_diagram("identity", tied=True)


@pytest.mark.parametrize("arguments", [{"sigma_b2": 0}, {"tau0": -1}, {"digits": 0}, {"digits": 40}])
def test_bad_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        phase_diagram("tanh", **arguments)  # type: ignore[arg-type]  # the values are what is wrong


def test_the_first_zero_has_nothing_before_it() -> None:
    with precision(64):
        found = first_zero(lambda q: (2 - q) * (3 - q) * (5 - q), 1.0, 10.0, 1e-9)
    assert found.zero is not None
    assert found.zero.contains(2)
    assert found.zero.rad() < 1e-6


def test_a_touching_zero_is_undecided() -> None:
    with precision(64):
        found = first_zero(lambda q: (q - 2) ** 2, 1.0, 10.0, 1e-6)
    assert found.zero is None
    assert not found.decided
    assert found.positive_to <= 2


def test_a_first_zero_is_closed_in_from_both_sides() -> None:
    asked: list[arb] = []

    def function(q: arb) -> arb:
        asked.append(q)
        return 2 - q

    with precision(64):
        found = first_zero(function, 1.0, 10.0, 1e-12)
    assert found.zero is not None
    assert found.zero.contains(2)
    assert found.zero.rad() < 1e-11
    assert len(asked) < 100


def test_what_is_not_proved_anywhere_names_no_number() -> None:
    # E[phi'^2] is finite, but phi' is not bounded at 0: no ball of it is finite
    transitions = phase_diagram("abs(x)**0.75", "1/2").transitions
    assert transitions["chaos"].verdict == "undecided"
    assert transitions["chaos"].statement == "sigma_a2*v < 1 is not proved for any sigma_a2 > 0"
    # V/q decreases: the largest sigma_a2 up to q = 500 is that at q = 500, where V = q^(3/4) Var|xi|^(3/4)
    moments = [2 ** (p / 2) * math.gamma((p + 1) / 2) / math.sqrt(math.pi) for p in (0.75, 1.5)]
    end = 499.5 / (500**0.75 * (moments[1] - moments[0] ** 2))
    limit = float(transitions["existence"].statement.rsplit(maxsplit=1)[-1])
    assert end * (1 - 1e-6) < limit <= end


@pytest.mark.parametrize("text", ["where(gelu(x) < 1, gelu(x), 1)", "abs(x)**0.25"])
def test_chaos_is_not_claimed_where_a_jump_is_not_proved(text: str) -> None:
    # the first is continuous (v is finite), the second has no jump (v is infinite): neither is proved to be reached
    assert phase_diagram(text).transitions["chaos"].verdict == "undecided"


@pytest.mark.parametrize("text", ["x/abs(x)", "where(x < 1, x, 2*x)"])
def test_chaos_is_reached_at_once_where_phi_jumps(text: str) -> None:
    chaos = phase_diagram(text).transitions["chaos"]
    assert chaos.verdict == "reached"
    assert chaos.sigma_a2 == 0
