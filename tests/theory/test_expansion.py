"""The derivation against the stated equations, against kernels known exactly, and against plain differentiation."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import fields

import pytest
import sympy as sp

from equikernel.errors import InputError
from equikernel.theory.derivation import derive_explicit_layer, derive_implicit, solve_linear, symbol
from equikernel.theory.equation_latex import (
    aligned,
    auxiliary_names,
    document,
    latex,
    markup_latex,
    plain,
    symbol_latex,
    width,
)
from equikernel.theory.equations import (
    ExplicitState,
    explicit_input,
    explicit_layer,
    fixed_point_map,
    implicit_ck_coefficients,
    implicit_ntk_coefficients,
)
from equikernel.theory.expansion import (
    CHI_I,
    CHI_J,
    Expansion,
    S,
    kernel_derivative,
    kernel_terms,
    mean_derivative,
    norm_exponent,
)
from equikernel.theory.sensitivities import (
    PARAMETERS,
    MomentSlopes,
    Tangent,
    coefficient_slopes,
    equilibrium_slope,
    symbolic_sensitivities,
)
from equikernel.theory.symbolic_equations import MAX_LAYERS, MOMENTS, symbolic_equations

V, D1, D2, H, V2 = (symbol(name) for name in MOMENTS)
A2, B2, TAU0, TAU = (symbol(name) for name in ("sigma_a2", "sigma_b2", "tau0", "tau"))
RELU = {
    "V": TAU**2 * (sp.Rational(1, 2) - 1 / (2 * sp.pi)),
    "d1": sp.Rational(1, 2),
    "d2": 1 / (sp.sqrt(2 * sp.pi) * TAU),
    "h": sp.Rational(1, 2) - 1 / (2 * sp.pi),
    "v": sp.Rational(1, 2),
}


def in_full(results: dict[str, sp.Eq]) -> dict[str, sp.Expr]:
    """Right sides with earlier results put in, so that only moments and parameters are left."""
    known: dict[sp.Expr, sp.Expr] = {}
    full = {}
    for name, equation in results.items():
        full[name] = equation.rhs.subs(known)
        known[equation.lhs] = full[name]
    return full


def stated(trained: str) -> dict[str, sp.Expr]:
    ck = implicit_ck_coefficients(V, D1, D2, H, A2, B2)
    ntk = implicit_ntk_coefficients(ck, D1, D2, V2, A2, B2, TAU0**2, train_input=trained == "aAB")
    values = {f.name: getattr(state, f.name) for state in (ck, ntk) for f in fields(state)}
    if trained == "a":
        values |= {"beta1": ck.alpha1, "beta2": ck.alpha2, "beta3": ck.alpha3, "kappa2": ck.gamma2}
    return values | {"tau": fixed_point_map(V, A2, B2, TAU0**2)}


@pytest.mark.parametrize("trained", ["a", "aA", "aAB"])
def test_derived_coefficients_are_the_stated_ones(trained: str) -> None:
    derived, expected = in_full(derive_implicit(trained).results), stated(trained)
    assert set(derived) == set(expected)
    for name, value in expected.items():
        assert sp.cancel(sp.together(derived[name] - value)) == 0, name


def test_derived_layer_is_the_stated_one() -> None:
    names = [f.name for f in fields(ExplicitState)]
    before = ExplicitState(*(symbol(f"{name}_prev") for name in names))
    after = explicit_layer(before, V, D1, D2, H, V2)
    derived = in_full(derive_explicit_layer().results)
    assert set(derived) == set(names)
    for name in names:
        assert sp.expand(derived[name] - getattr(after, name)) == 0, name


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_unrolled_network_is_the_stated_recursion(layers: int) -> None:
    state = explicit_input(TAU0**2)
    for k in range(1, layers + 1):
        state = explicit_layer(state, *(symbol(f"{name}_{k}") for name in MOMENTS))
    unrolled = symbolic_equations(layers=layers).unrolled
    scales = {symbol(f"tau2_{k}"): symbol(f"V_{k}") for k in range(1, layers + 1)}
    for f in fields(ExplicitState):
        equation = unrolled[f"{f.name}_{layers}"]
        assert sp.expand(equation.rhs.subs(scales) - getattr(state, f.name)) == 0, f.name


def test_gaussian_density_solves_the_equations_the_expansion_rests_on() -> None:
    """d/dq = (d/du)^2/2 and d/dc = d/du d/dv on the bivariate normal density (heat equation, Price)."""
    q, r, c, u, v = sp.symbols("q r c u v", positive=True)
    determinant = q * r - c**2
    log_density = -(r * u**2 - 2 * c * u * v + q * v**2) / (2 * determinant) - sp.log(determinant) / 2

    def ratio(*variables: sp.Symbol) -> sp.Expr:
        """The derivative of the density divided by the density."""
        result = sp.S.One
        for x in variables:
            result = sp.diff(result, x) + result * sp.diff(log_density, x)
        return result

    assert sp.cancel(sp.together(ratio(q) - ratio(u, u) / 2)) == 0
    assert sp.cancel(sp.together(ratio(c) - ratio(u, v))) == 0


def test_taylor_coefficients_of_a_cubic_kernel_known_in_full() -> None:
    """g of a polynomial by Isserlis' theorem, differentiated by SymPy, against the rule for its derivatives."""
    q, r, c, t = sp.symbols("q r c t", positive=True)
    a1, a2, a3 = sp.symbols("a1:4")
    x = sp.Symbol("x")
    phi = a1 * x + a2 * (x**2 - t) + a3 * (x**3 + x**4 - 3 * t**2)  # centred at variance t

    def moment(m: int, n: int) -> sp.Expr:
        """E[u^m v^n]: sum over the number k of mixed pairs."""
        total = sp.S.Zero
        for k in range(m % 2, min(m, n) + 1, 2):
            if (n - k) % 2 == 0:
                pairs = sp.binomial(m, k) * sp.binomial(n, k) * sp.factorial(k)
                total += (
                    pairs
                    * c**k
                    * sp.factorial2(m - k - 1)
                    * q ** ((m - k) // 2)
                    * (sp.factorial2(n - k - 1) * r ** ((n - k) // 2))
                )
        return total

    coefficients = sp.Poly(phi, x).all_coeffs()[::-1]
    g = sum(
        (a * b * moment(m, n) for (m, a), (n, b) in itertools.product(enumerate(coefficients), repeat=2)), sp.S.Zero
    )
    means = {
        mean_derivative(k): sum(
            (
                a * sp.factorial2(n - 1) * t ** (n // 2)
                for n, a in enumerate(sp.Poly(sp.diff(phi, x, k), x).all_coeffs()[::-1])
                if n % 2 == 0
            ),
            sp.S.Zero,
        )
        for k in range(1, 7)
    }
    for a, b, k in itertools.product(range(3), repeat=3):
        if a + b + k <= 2:
            exact = sp.diff(g, q, a, r, b, c, k) if a + b + k else g
            assert sp.expand(exact.subs({q: t, r: t, c: 0}) - kernel_derivative(a, b, k).subs(means)) == 0, (a, b, k)


def test_which_terms_are_kept() -> None:
    kept = {(a, b, c) for a, b, c in itertools.product(range(4), repeat=3) if norm_exponent(a, b, c) >= 0}
    # constants and single deviations would be kept, but centring removes them
    assert kept == {(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 0, 2), (0, 2, 0), (0, 1, 1), (1, 0, 0), (2, 0, 0)}
    found = {t.monomial: t for t in kernel_terms(Expansion(*sp.symbols("l m n k")))}
    assert set(found) == {S, S**2, CHI_I * CHI_J, S * CHI_I, S * CHI_J}
    assert not found[S * CHI_I].kept
    assert all("r" not in {str(x) for x in t.coefficient.free_symbols} for t in found.values())


def test_relu_by_hand() -> None:
    """[Ling24], table of ReLU: d1 = 1/2, d2 = 1/(sqrt(2 pi) tau), with sigma_a2 = 1/5, sigma_b2 = 4/5."""
    equations = symbolic_equations(activation="relu", moments=RELU)
    numbers = {A2: sp.Rational(1, 5), B2: sp.Rational(4, 5), TAU0: 1}
    lambda1 = equations.sympy["lambda1"].rhs.subs(numbers)
    assert lambda1 == sp.Rational(16, 19)
    tau2 = sp.solve(sp.Eq(*equations.sympy["tau"].args).subs(numbers).subs(TAU, sp.sqrt(sp.Symbol("q"))))[0]
    assert sp.simplify(tau2 - sp.Rational(4, 5) / (1 - (1 - 1 / sp.pi) / 10)) == 0
    assert equations.recursion["alpha4"].rhs == symbol("alpha4_prev") * RELU["h"]
    unrolled = symbolic_equations(layers=3, activation="relu", moments=RELU).unrolled
    assert unrolled["alpha1_3"].rhs == sp.Rational(1, 64)
    assert unrolled["beta1_3"].rhs == sp.Rational(4, 64)


@pytest.mark.parametrize("trained", ["a", "aA", "aAB"])
def test_symbolic_slopes_are_total_derivatives(trained: str) -> None:
    """Against SymPy's derivative of the stated formulas, moments being functions of q."""
    q = sp.Symbol("q", positive=True)
    functions = {symbol(name): sp.Function(name)(q) for name in MOMENTS}
    slopes_of = {sp.Function(name)(q).diff(q): symbol(f"{name}_q") for name in MOMENTS if name != "V"}
    slopes_of |= {sp.Function("V")(q).diff(q): H}
    back = {f: x for x, f in functions.items()}
    formulas = stated(trained)
    for parameter, table in symbolic_sensitivities(trained).items():
        p = symbol(parameter)
        dq = table["q"].rhs
        total = in_full({"q": table["q"]} | {n: e for n, e in table.items() if n != "q"})
        values = {symbol(name): value for name, value in formulas.items() if name != "tau"}
        for name, formula in formulas.items():
            if name == "tau":
                assert sp.cancel(sp.together(sp.diff(formula, p) / (1 - A2 * H) - dq)) == 0
                continue
            partial = formula.subs(functions)
            expected = (sp.diff(partial, p) + sp.diff(partial, q) * dq).subs(slopes_of).subs(back)
            assert sp.cancel(sp.together(total[name].subs(values) - expected)) == 0, (parameter, name)


def test_tangents_agree_with_the_symbolic_slopes() -> None:
    """The same derivatives by two routes: the stated formulas on Tangents, the derived ones differentiated."""
    numbers = {name: sp.Rational(k + 2, 3 * k + 11) for k, name in enumerate(("V", "d1", "d2", "h", "v"))}
    slopes = {f"{name}_q": sp.Rational(k + 1, 5 * k + 7) for k, name in enumerate(("d1", "d2", "h", "v"))}
    values = {"sigma_a2": sp.Rational(1, 5), "sigma_b2": sp.Rational(3, 4), "tau0": sp.Rational(7, 6)}
    moments = MomentSlopes(
        numbers["V"], *(Tangent(numbers[name], slopes[f"{name}_q"]) for name in ("d1", "d2", "h", "v"))
    )
    known = {symbol(name): value for name, value in (numbers | slopes | values).items()}
    known |= {symbol(name): value.subs(known) for name, value in stated("aAB").items() if name != "tau"}
    for parameter in PARAMETERS:
        dq = equilibrium_slope(moments, values, parameter)
        tangents = coefficient_slopes(moments, values, parameter, dq, "aAB")
        symbolic = in_full(symbolic_sensitivities("aAB")[parameter])
        assert symbolic["q"].subs(known) == dq
        for name, slope in tangents.items():
            assert symbolic[name].subs(known) == slope, (parameter, name)


def test_tangent_arithmetic() -> None:
    x = Tangent(sp.Rational(3, 2), 1)
    y = 2 / (1 - x * x) + x / 4 - (5 - x)
    t = sp.Symbol("t")
    f = 2 / (1 - t**2) + t / 4 - (5 - t)
    assert (y.value, y.slope) == (f.subs(t, x.value), f.diff(t).subs(t, x.value))
    assert (1 + x).slope == (x + 1).slope == 1
    assert (x - 1).value == sp.Rational(1, 2)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("sigma_a2", r"\sigma_{a}^{2}"),
        ("tau2_3", r"\tau_{3}^{2}"),
        ("alpha4_prev", r"\alpha_{4,\ell-1}"),
        ("d1_2", "d_{1,2}"),
        ("h_q", "h_{q}"),
        ("chi_i", r"\chi_{i}"),
        ("D_alpha1", r"\alpha_{1}'"),
        ("D_kappa2", r"\left(\kappa^{2}\right)'"),
        ("G_ij", "G_{ij}"),
    ],
)
def test_names_in_latex(name: str, shown: str) -> None:
    assert symbol_latex(name) == shown


def test_squares_in_latex() -> None:
    assert latex(A2**2) == r"\sigma_{a}^{4}"
    assert latex(sp.sqrt(symbol("tau2_1"))) == r"\tau_{1}"
    assert latex(1 / A2) == r"\frac{1}{\sigma_{a}^{2}}"
    assert latex(sp.sqrt(TAU)) == r"\sqrt{\tau}"


def test_text_and_its_mathematics() -> None:
    text = "the map `G_ij = E[phi'^2]` is `O(p^(-1/2))`, 100 %"
    assert plain(text) == "the map G_ij = E[phi'^2] is O(p^(-1/2)), 100 %"
    assert markup_latex(text) == r"the map $G_{ij} = \operatorname{E}[\varphi'^2]$ is $O(p^{-1/2})$, 100 \%"


def test_wide_equations_are_broken_or_named() -> None:
    a = sp.symbols("a1:30")
    long_sum = sp.Eq(symbol("alpha1"), sp.Add(*(x**2 * symbol("d1") for x in a)), evaluate=False)
    wide_quotient = sp.Eq(symbol("alpha2"), sp.Add(*a) / (1 + TAU), evaluate=False)
    text = aligned([long_sum, wide_quotient], auxiliary_names())
    assert r"&\quad +" in text
    assert r"A_{1} &=" in text
    lines = text.splitlines()[1:-1]
    assert max(width(line.removesuffix(r"\\")) for line in lines) <= 52


def test_long_numbers_end_in_dots() -> None:
    assert latex(sp.Rational(1234567890123456789, 10**18) * TAU) == r"1.234567890\ldots \tau"
    assert latex(-sp.Rational(3, 2) * TAU) == r"- \frac{3 \tau}{2}"
    assert latex(sp.Integer(25 * 10**30) + TAU) == r"\tau + 2.5 \cdot 10^{31}"


def balanced(text: str) -> bool:
    environments = re.findall(r"\\(begin|end)\{(\w+\*?)\}", text)
    depth = [1 if kind == "begin" else -1 for kind, _ in environments]
    return text.count("{") == text.count("}") and sum(depth) == 0 and text.count(r"\left") == text.count(r"\right")


@pytest.mark.parametrize("closed", [False, True])
def test_latex_compiles_within_the_page(closed: bool, tmp_path) -> None:
    equations = symbolic_equations("aAB", 3, activation="relu_%", moments=RELU if closed else None, note="A note_1.")
    text = equations.to_latex(derivation=True, sensitivities=True)
    assert balanced(text)
    assert text == document(text.split("\\begin{document}\n")[1].split("\n\\end{document}")[0])
    engine = shutil.which("pdflatex")
    if engine is None:
        pytest.skip("no pdflatex here: only the structure was checked")
    (tmp_path / "e.tex").write_text(text, encoding="ascii")
    done = subprocess.run(  # noqa: S603 - the LaTeX found on the path
        [engine, "-interaction=nonstopmode", "-halt-on-error", "e.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in (tmp_path / "e.log").read_text(encoding="latin-1")


def test_text_and_record() -> None:
    equations = symbolic_equations("aA", 1, activation="mish", note="No closed form, because.")
    text = equations.to_text(derivation=True, sensitivities=True)
    for piece in ("alpha1 = d1**2*lambda1", "beta1_1 = 2*d1_1**2", "No closed form, because.", "Step 6.", "dropped"):
        assert piece in text
    assert "`" not in text
    record = equations.to_dict()
    assert record["equations"]["lambda1"]["right"] == "sigma_b2/(1 - d1**2*sigma_a2)"
    assert record["note"] == "No closed form, because."
    assert record["slopes"]["tau0"]["q"]["right"] == "2*sigma_b2*tau0/(1 - h*sigma_a2)"
    assert len(record["derivation"]) == 6


def test_deep_networks_are_quick_to_unroll() -> None:
    last = symbolic_equations(layers=MAX_LAYERS).unrolled
    assert last[f"alpha4_{MAX_LAYERS}"].rhs == sp.Mul(*(symbol(f"h_{k}") for k in range(1, MAX_LAYERS + 1)))
    assert len(last[f"alpha3_{MAX_LAYERS}"].rhs.args) == MAX_LAYERS


def test_solve_linear() -> None:
    x, y = sp.symbols("x y")
    assert solve_linear(x, 3 * y + 2 * x * y - x).rhs == 3 * y / (1 - 2 * y)


@pytest.mark.parametrize(("arguments", "names"), [(("B",), "trained"), (("aA", -1), "layers"), (("aA", 17), "layers")])
def test_bad_input(arguments: tuple, names: str) -> None:
    with pytest.raises(InputError, match=names):
        symbolic_equations(*arguments)
