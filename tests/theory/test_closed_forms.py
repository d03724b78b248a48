"""Closed forms against formulas from the literature, and the sentences for what has none."""

from __future__ import annotations

import dataclasses
import itertools
import re
import subprocess
from pathlib import Path

import pytest
import sympy as sp

from equikernel.errors import ActivationError, InputError, NoClosedFormError, ParseError
from equikernel.theory.activation import activation, registry_names
from equikernel.theory.closed_forms import DERIVED, RAW, TAU, closed_form_moments, im_erf, re_erf
from equikernel.theory.closed_forms.combination import Combination, inverse_root, rational
from equikernel.theory.grammar import parse
from equikernel.theory.program import X

Q = TAU**2
A, W0 = sp.symbols("a w", real=True)
C = sp.Symbol("c", positive=True)
OUTSIDE = {
    "gelu_tanh",
    "quick_gelu",
    "silu",
    "mish",
    "softplus",
    "log_sigmoid",
    "softsign",
    "sigmoid",
    "tanh",
    "lecun_tanh",
    "tanhshrink",
    "arctan",
    "asinh",
    "log_cosh",
}


def same(found: sp.Expr, expected: sp.Expr, digits: int = 30) -> bool:
    """Whether two expressions agree at irrational values of their symbols, to ``digits`` digits."""
    symbols = sorted(found.free_symbols | expected.free_symbols, key=str)
    values = {s: sp.sqrt(sp.prime(k + 2)) / 2 for k, s in enumerate(symbols)}
    left, right = (e.subs(values).evalf(digits + 20) for e in (found, expected))
    return bool(abs(left - right) <= sp.Rational(1, 10**digits) * (1 + abs(right)))


def test_the_class_is_closed_for_every_name_that_is_in_it():
    complete, outside = set(), set()
    for name in registry_names():
        try:
            forms = closed_form_moments(name)
        except NoClosedFormError:
            outside.add(name)
            continue
        complete.add(name)
        assert set(forms.reasons) <= {"v"}, name
        assert ("v" in forms.reasons) == bool(activation(name).jumps), name
    assert outside == OUTSIDE
    assert complete == set(registry_names()) - OUTSIDE


PUBLISHED = [
    # arc-cosine kernels of Cho & Saul at angle 0
    ("relu", "s0", Q / 2),
    ("relu", "mean", TAU / sp.sqrt(2 * sp.pi)),
    ("relu", "V", Q / 2 * (1 - 1 / sp.pi)),
    ("relu", "v", sp.Rational(1, 2)),
    ("squared_relu", "s0", 3 * Q**2 / 2),
    ("heaviside", "s0", sp.Rational(1, 2)),
    # Williams 1997: networks of error functions
    ("erf", "s0", 2 / sp.pi * sp.asin(2 * Q / (1 + 2 * Q))),
    ("erf", "d1", 2 / sp.sqrt(sp.pi * (1 + 2 * Q))),
    ("erf", "v", 4 / (sp.pi * sp.sqrt(1 + 4 * Q))),
    ("normal_cdf", "V", sp.asin(Q / (1 + Q)) / (2 * sp.pi)),
    # random Fourier features
    ("sin", "V", (1 - sp.exp(-2 * Q)) / 2),
    ("cos", "s0", (1 + sp.exp(-2 * Q)) / 2),
    ("cos", "mean", sp.exp(-Q / 2)),
    ("gaussian", "mean", 1 / sp.sqrt(1 + 2 * Q)),
    ("gaussian", "s0", 1 / sp.sqrt(1 + 4 * Q)),
    ("exp", "V", sp.exp(Q) * (sp.exp(Q) - 1)),
    ("exp", "mean", sp.exp(Q / 2)),
    # the GELU kernel of Tsuchida, Pearce et al. 2021 at equal arguments
    ("gelu", "s0", Q / 4 + Q / (2 * sp.pi) * (sp.asin(Q / (1 + Q)) + 2 * Q / ((1 + Q) * sp.sqrt(1 + 2 * Q)))),
    ("gelu", "mean", Q / sp.sqrt(2 * sp.pi * (1 + Q))),
    ("gelu", "d1", sp.Rational(1, 2)),
    ("abs", "V", Q * (1 - 2 / sp.pi)),
    ("abs", "d2", sp.sqrt(2 / sp.pi) / TAU),
    ("elu", "d1", (1 + sp.exp(Q / 2) * sp.erfc(TAU / sp.sqrt(2))) / 2),
    ("elu", "mean", TAU / sp.sqrt(2 * sp.pi) + (sp.exp(Q / 2) * sp.erfc(TAU / sp.sqrt(2)) - 1) / 2),
    ("hard_tanh", "d1", sp.erf(1 / (sp.sqrt(2) * TAU))),
    ("softshrink", "v", sp.erfc(1 / (2 * sp.sqrt(2) * TAU))),
    ("square", "V", 2 * Q**2),
    ("cube", "h", 45 * Q**2),
    ("identity", "h", sp.S.One),
]


@pytest.mark.parametrize(("name", "moment", "expected"), PUBLISHED)
def test_published_formulas(name, moment, expected):
    assert same(closed_form_moments(name)[moment], expected)


@pytest.mark.parametrize(
    ("name", "moment", "printed"),
    [
        ("relu", "V", "tau**2*(-1 + pi)/(2*pi)"),
        ("erf", "s0", "2*asin(2*tau**2/(2*tau**2 + 1))/pi"),
        ("gelu", "mean", "sqrt(2)*tau**2/(2*sqrt(pi)*sqrt(tau**2 + 1))"),
        ("elu", "d2", "exp(tau**2/2)*erfc(sqrt(2)*tau/2)/2"),
        ("sin", "V", "(1 - exp(-2*tau**2))/2"),
        ("hard_tanh", "v", "erf(sqrt(2)/(2*tau))"),
        ("snake", "h", "1 + exp(-4*tau**2) - exp(-8*tau**2)"),
        ("gaussian", "V", "1/sqrt(4*tau**2 + 1) - 1/(2*tau**2 + 1)"),
    ],
)
def test_printed_as_a_paper_would(name, moment, printed):
    assert str(closed_form_moments(name)[moment]) == printed


def test_relu_d2_is_the_stein_form_not_zero():
    # trap: E[phi''] of relu is 0.39894 at tau = 1 (a delta at 0), not the mean of the pieces' second derivatives
    assert same(closed_form_moments("relu").d2, 1 / (sp.sqrt(2 * sp.pi) * TAU))


def test_jump_makes_v_infinite_and_nothing_else():
    # trap: E[phi'^2] is infinite when phi jumps
    forms = closed_form_moments("sign")
    assert forms.d1 == sp.sqrt(2) / (sp.sqrt(sp.pi) * TAU)
    with pytest.raises(NoClosedFormError, match=r"v of sign\(x\) has no closed form here: .* jumps at x = 0"):
        _ = forms.v


def test_floats_become_exact_before_algebra():
    # trap: SELU went wrong with floats
    x = sp.Symbol("x")
    assert closed_form_moments(0.1 * x**2).V == 2 * TAU**4 / 100
    selu = closed_form_moments("selu")
    assert not any(value.atoms(sp.Float) for value in selu.expressions.values())


def test_identities_between_moments():
    # dV/dq = h, dE/dq = d2/2 (heat equation), both for every closed name
    for name in sorted(set(registry_names()) - OUTSIDE):
        forms = closed_form_moments(name)
        assert same(sp.diff(forms.mean, TAU) / TAU, forms.d2), name
        assert same(sp.diff(forms.V, TAU) / (2 * TAU), forms.h), name


def test_parameters():
    cases = {
        "leaky_relu(x, a)": {"d1": (1 + A) / 2, "s0": Q * (1 + A**2) / 2, "v": (1 + A**2) / 2},
        "a*hard_tanh(x, -c, c)": {"d1": A * sp.erf(C / (sp.sqrt(2) * TAU)), "mean": sp.S.Zero},
        "a + w*x + c*x**2": {"V": W0**2 * Q + 2 * C**2 * Q**2, "mean": A + C * Q, "d2": 2 * C},
        "elu(x, a)": {"v": (1 + A**2 * sp.exp(2 * Q) * sp.erfc(sp.sqrt(2) * TAU)) / 2},
        "celu(x, c)": {"d1": (1 + sp.exp(Q / (2 * C**2)) * sp.erfc(TAU / (sp.sqrt(2) * C))) / 2},
        "softshrink(x, c)": {"d1": sp.erfc(C / (sp.sqrt(2) * TAU))},
        "exp(a*x)": {"mean": sp.exp(A**2 * Q / 2)},
        "exp(-c*x**2)": {"mean": 1 / sp.sqrt(1 + 2 * C * Q)},
        "sin(w*x + a)": {"mean": sp.exp(-(W0**2) * Q / 2) * sp.sin(A)},
        "erf(w*x + a)": {"mean": sp.erf(A / sp.sqrt(1 + 2 * W0**2 * Q))},
        "where(x < -c, -1, where(x > c, 1, 0))": {"s0": sp.erfc(C / (sp.sqrt(2) * TAU))},
    }
    parameters = {"a": A, "w": W0, "c": C}
    for text, expected in cases.items():
        forms = closed_form_moments(text, parameters)
        for moment, value in expected.items():
            assert same(forms[moment], value), (text, moment)


def test_parameters_of_sympy_expressions_and_of_strings_agree():
    x = sp.Symbol("x")
    forms = closed_form_moments(A * sp.Min(sp.Max(x, -C), C))
    assert forms.parameters == (A, C)
    assert dict(forms.expressions) == dict(closed_form_moments("a*hard_tanh(x, -c, c)", {"a": A, "c": C}).expressions)


def test_undecided_order_is_one_sentence():
    low, high = sp.symbols("low high", real=True)
    with pytest.raises(ActivationError, match=r"the sign of .*low.* does not follow from the assumptions"):
        closed_form_moments("hard_tanh(x, low, high)", {"low": low, "high": high})
    with pytest.raises(ActivationError, match="the sign of a decides"):
        closed_form_moments("max(a*x, 0)", {"a": A})
    with pytest.raises(ActivationError, match="only functions that are linear in x"):
        closed_form_moments("max(x**3 - a, 0)", {"a": A})
    with pytest.raises(ActivationError, match="must be real symbols"):
        closed_form_moments(sp.Symbol("z") * X)
    with pytest.raises(NoClosedFormError, match="must not grow"):
        closed_form_moments("exp(a*x**2)", {"a": A})


def test_grammar_with_parameters():
    assert parse("leaky_relu(x, a)", {"a": A}).free_symbols == {X, A}
    with pytest.raises(ParseError, match="unknown name 'a'"):
        parse("a*x")
    with pytest.raises(ParseError, match="declare its symbols positive"):
        parse("celu(x, a)", {"a": A})
    with pytest.raises(ParseError, match="name without a meaning of its own"):
        parse("sin(x)", {"sin": A})
    with pytest.raises(ParseError, match="must be a real symbol"):
        parse("b*x", {"b": sp.Symbol("b")})
    with pytest.raises(ParseError):
        parse("leaky_relu(x, x)", {"a": A})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tanh(x)", r"tanh\(x\) is not a finite sum .* poles in the complex plane"),
        ("x/(1 + exp(-x))", r"1/\(1 \+ exp\(-x\)\) is not a finite sum .* quotient"),
        ("log(1 + exp(x))", "is not a finite sum .* branch points"),
        ("exp(-x**4)", "degree 4 in x, and only at most quadratic"),
        ("sin(x**2)", "degree 2 in x, and only linear"),
        ("exp(sin(x))", r"sin\(x\) is no polynomial"),
        ("max(x, exp(-x))", "the breakpoint 0.567143 .* no closed form"),
        ("(x + exp(x) + erf(x) + sin(x))**20", "more than 150 terms"),
        ("x**60*exp(x)", "degree 60 beside"),
    ],
)
def test_sentences_outside_the_class(text, sentence):
    with pytest.raises(NoClosedFormError, match=sentence):
        closed_form_moments(text)


def test_partial_results_keep_what_closes():
    square = closed_form_moments("erf(x)**2")
    assert same(square.mean, 2 / sp.pi * sp.asin(2 * Q / (1 + 2 * Q)))
    # s2 and h close: the orthant probabilities of E[(xi^2 - 1) erf^4] cancel
    assert set(square.reasons) == {"s0", "V"}
    assert "orthant probability of 4 correlated normals" in square.reasons["V"]
    shifted = closed_form_moments("erf(x + 1)")
    assert same(shifted.mean, sp.erf(1 / sp.sqrt(1 + 2 * Q)))
    assert "Owen's T function" in shifted.reasons["s0"]
    assert "v" in shifted.expressions
    cut = closed_form_moments("where(x > 1, gelu(x), x)")
    assert "mean" in cut.expressions
    with pytest.raises(NoClosedFormError, match="Owen"):
        _ = cut.d1


def test_open_integrals_that_cancel_do_not_hide_a_closed_form():
    # E[(xi^2 - 1) erf(x + 1) 1(x > 1)] closes, though E[erf(x + 1) 1(x > 1)] does not
    forms = closed_form_moments("where(x > 1, erf(x + 1), 0)")
    assert "m2" in forms.expressions
    assert "m0" in forms.reasons
    # and pieces that only together are a whole line
    assert "mean" in closed_form_moments("erf(x + 1) + max(x, 0)").expressions


def test_constant_pieces_cancel_against_boundary_terms():
    # an erfc of a number once displaced an equal term, and left a wrong d1
    q = 1 + 2 * Q
    clipped = closed_form_moments("erfc(max(x, 3))")
    assert same(clipped.d1, -sp.erfc(3 * sp.sqrt(q / (2 * Q))) / sp.sqrt(sp.pi * q))
    assert same(clipped.d2, -sp.sqrt(2) * sp.exp(-9 * q / (2 * Q)) / (sp.pi * TAU * q))
    assert clipped.d1.count_ops() < 30  # one term
    assert same(closed_form_moments("sinh(max(x, 3))").d1, closed_form_moments("where(x > 3, sinh(x) - sinh(3), 0)").d1)
    tail = (1 + sp.erf((TAU - 3 / TAU) / sp.sqrt(2))) / 2
    shifted = closed_form_moments("exp(max(x, 3) + 1)").d1
    assert same(shifted, sp.exp(Q / 2 + 1) * tail)
    assert shifted.count_ops() < 30  # one term


def test_joined_kernels_add_up():
    k, c = sp.exp(-Q), sp.erfc(TAU)
    for complement, sign in ((c, -1), (1 + sp.erf(TAU), 1)):
        value = Combination({k: sp.Integer(2), k * sp.erf(TAU): sp.Integer(2 * sign), k * complement: sp.Integer(3)})
        assert value.complemented().terms == {k * complement: 5}
    assert not Combination({k: sp.S.One, k * sp.erf(TAU): -sp.S.One, k * c: -sp.S.One}).complemented()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("sin(max(x, 0))*erf(1 - x)", "m0"),
        ("sin(abs(x))*erf(x + 1)", "m0"),
        ("erf(x)*sin(min(x, 29/17))", "m2"),
        ("exp(abs(x)/3 - x**2/2)*erf(x)*sin(abs(x)) + x", "m0"),
    ],
)
def test_the_imaginary_part_of_an_open_integral_is_not_dropped(text, moment):
    # a wave beside an erf on a half-line: the real part of -i c times a complex integral without closed form
    try:
        reason = closed_form_moments(text).reasons[moment]
    except NoClosedFormError as error:
        reason = str(error)
    assert "Owen" in reason


def test_a_jump_of_any_size_makes_v_infinite():
    for text in ("where(x < 1, x, x + 1e-60)", "x + 1e-300*sign(x - pi)"):
        with pytest.raises(NoClosedFormError, match="jumps at x ="):
            _ = closed_form_moments(text).v
    with pytest.raises(NoClosedFormError, match="jumps at x = 1"):
        _ = closed_form_moments("where(x < 1, x, x + 1e-60*c)", {"c": C}).v
    assert closed_form_moments("where(x < 1, sin(1)**2, 1 - cos(1)**2 + 0*x) + x").v == 1


def test_access():
    forms = closed_form_moments("gelu")
    assert all(getattr(forms, name) == forms[name] == forms.get(name) for name in (*RAW, *DERIVED))
    assert forms.is_complete
    assert dataclasses.is_dataclass(forms)
    with pytest.raises(InputError, match="unknown moment 'gamma'"):
        forms["gamma"]
    record = closed_form_moments("sign").to_dict()
    assert record["moments"]["V"] == {"expression": "1", "latex": "1"}
    assert "jumps" in record["no_closed_form"]["v"]


def test_complex_error_functions():
    a, b = sp.Rational(2, 3), sp.Rational(5, 4)
    value = sp.erf(a + sp.I * b).evalf(30)
    assert abs(re_erf(a, b).evalf(30) - sp.re(value)) < 1e-28
    assert abs(im_erf(a, b).evalf(30) - sp.im(value)) < 1e-28
    assert re_erf(-a, b) == -re_erf(a, b)
    assert im_erf(a, -b) == -im_erf(a, b)
    assert re_erf(a, 0) == sp.erf(a)
    assert im_erf(0, b) == sp.erfi(b)


def test_combinations_collect():
    root = inverse_root(1 + 2 * Q)
    assert (root * root).terms == {sp.S.One: 1 / (2 * Q + 1)}
    assert not (root - root)
    assert rational((Q - 1) / (TAU - 1)) == TAU + 1
    assert Combination.of(3 * TAU * sp.erf(TAU)).terms == {sp.erf(TAU): 3 * TAU}


LATEX = ["relu", "gelu", "selu", "hard_swish", "snake", "where(x > 0, sin(x), x)", "erf(x + 1)", "where(x > c, a, 0)"]


def _document(text: str) -> str:
    return closed_form_moments(text, {"a": A, "c": C} if "c," in text else None).derivation_latex()


@pytest.mark.parametrize("text", LATEX)
def test_derivations_are_balanced(text):
    source = _document(text)
    assert source.count("{") - source.count(r"\{") == source.count("}") - source.count(r"\}")
    for opening, closing in (
        (r"\\left", r"\\right"),
        (r"\\begin", r"\\end"),
        (r"\\bigl", r"\\bigr"),
        (r"\\Bigl", r"\\Bigr"),
    ):
        counts = [len(re.findall(mark + "(?![a-z])", source)) for mark in (opening, closing)]
        assert counts[0] == counts[1], opening
    assert "sqrt(" not in source


def test_derivations_compile(tmp_path: Path):
    try:
        subprocess.run(["pdflatex", "--version"], check=True, capture_output=True)  # noqa: S607 - found on the path
    except FileNotFoundError:
        pytest.skip("pdflatex is not installed")
    bodies = [_document(text).split(r"\begin{document}")[1].split(r"\end{document}")[0] for text in LATEX]
    head = _document("relu").split(r"\begin{document}")[0]
    (tmp_path / "all.tex").write_text(head + r"\begin{document}" + "\n".join(bodies) + r"\end{document}")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],  # noqa: S607 - as above
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=60,
    )
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Overfull" not in log, [line for line in log.splitlines() if "Overfull" in line]


def test_moments_as_latex():
    assert r"\operatorname{erf}{\left(\frac{\sqrt{2}}{2 \tau} \right)}" in closed_form_moments("hard_tanh").to_latex()
    assert r"\frac{\tau}{\sqrt{2 \pi}}" in closed_form_moments("relu").to_latex()


def test_moments_do_not_depend_on_how_phi_is_written():
    for left, right in itertools.pairwise(["gelu", "x*Phi(x)", "x/2 + x*erf(x/sqrt(2))/2"]):
        assert dict(closed_form_moments(left).expressions) == dict(closed_form_moments(right).expressions)
