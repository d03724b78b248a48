"""The registry against torch.nn.functional and against formulas written out here."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import pytest
import sympy as sp

from equikernel.errors import ParseError
from equikernel.theory import constructors, registry
from equikernel.theory.grammar import parse
from equikernel.theory.program import X
from equikernel.theory.registry import RegistryEntry, lookup, names

EPS = 2.0**-52
GRID = [k / 8 for k in range(-96, 97)]  # holds every kink and jump


def evaluator(expression: sp.Expr) -> Callable[[float], float]:
    """Values to 30 digits, rounded to float64."""
    function = sp.lambdify(X, expression, "mpmath")

    def value(x: float) -> float:
        with mpmath.workdps(30):
            return float(function(mpmath.mpf(x)))

    return value


def torch_functions() -> dict[str, Callable[..., object]]:
    functional = pytest.importorskip("torch").nn.functional
    return {
        "relu": functional.relu,
        "leaky_relu": functional.leaky_relu,
        "elu": functional.elu,
        "selu": functional.selu,
        "celu": functional.celu,
        "gelu": functional.gelu,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "silu": functional.silu,
        "mish": functional.mish,
        # torch replaces softplus by its asymptote beyond a threshold, 20 by default
        "softplus": lambda x: functional.softplus(x, threshold=1000),
        "log_sigmoid": functional.logsigmoid,
        "softsign": functional.softsign,
        "sigmoid": functional.sigmoid,
        "tanh": functional.tanh,
        "tanhshrink": functional.tanhshrink,
        "hard_tanh": functional.hardtanh,
        "hard_sigmoid": functional.hardsigmoid,
        "hard_swish": functional.hardswish,
        "relu6": functional.relu6,
        "softshrink": functional.softshrink,
        "hard_shrink": functional.hardshrink,
    }


FORMULAS: dict[str, Callable[[float], float]] = {
    "quick_gelu": lambda x: x / (1 + math.exp(-1.702 * x)),
    "lecun_tanh": lambda x: 1.7159 * math.tanh(x * 2 / 3),
    "squared_relu": lambda x: x * x if x > 0 else 0.0,
    "normal_cdf": lambda x: math.erfc(-x / math.sqrt(2)) / 2,
    "erf": math.erf,
    "sin": math.sin,
    "cos": math.cos,
    "arctan": math.atan,
    "asinh": math.asinh,
    "exp": math.exp,
    "gaussian": lambda x: math.exp(-x * x),
    "log_cosh": lambda x: abs(x) + math.log1p(math.exp(-2 * abs(x))) - math.log(2),
    "snake": lambda x: x + math.sin(x) ** 2,
    "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "heaviside": lambda x: 0.5 if x == 0 else float(x > 0),
    "identity": lambda x: x,
    "square": lambda x: x * x,
    "cube": lambda x: x * x * x,
}


def close(got: float, expected: float, x: float) -> bool:
    # float64 formulas of a few operations: a few roundings of quantities no larger than |x|, the result and 1,
    # where exp(u) turns a rounding of u into a relative error |u| eps
    return abs(got - expected) <= 16 * EPS * (1 + abs(x) + (1 + abs(x)) * abs(expected))


@pytest.mark.parametrize("name", sorted(torch_functions()))
def test_agrees_with_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    expected = torch_functions()[name](torch.tensor(GRID, dtype=torch.float64)).tolist()
    value = evaluator(lookup(name).build())
    wrong = [(x, value(x), e) for x, e in zip(GRID, expected, strict=True) if not close(value(x), e, x)]
    assert not wrong


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_agrees_with_the_formula(name: str) -> None:
    value = evaluator(lookup(name).build())
    wrong = [(x, value(x)) for x in GRID if not close(value(x), FORMULAS[name](x), x)]
    assert not wrong


def test_every_entry_has_an_oracle() -> None:
    assert set(names()) == set(torch_functions()) | set(FORMULAS)
    assert len(names()) >= 26


@pytest.mark.parametrize(
    ("name", "params", "function", "arguments"),
    [
        ("leaky_relu", (0.2,), "leaky_relu", {"negative_slope": 0.2}),
        ("elu", (1.5,), "elu", {"alpha": 1.5}),
        ("celu", (sp.Rational(1, 2),), "celu", {"alpha": 0.5}),
        ("softplus", (3,), "softplus", {"beta": 3, "threshold": 1000}),
        ("hard_tanh", (-2, 0.5), "hardtanh", {"min_val": -2, "max_val": 0.5}),
        ("softshrink", (2,), "softshrink", {"lambd": 2}),
        ("hard_shrink", (2,), "hardshrink", {"lambd": 2}),
    ],
)
def test_parameters_agree_with_torch(name: str, params: tuple[float, ...], function: str, arguments: dict) -> None:
    torch = pytest.importorskip("torch")
    expected = getattr(torch.nn.functional, function)(torch.tensor(GRID, dtype=torch.float64), **arguments).tolist()
    value = evaluator(lookup(name).build(X, *params))
    assert all(close(value(x), e, x) for x, e in zip(GRID, expected, strict=True))


@pytest.mark.parametrize("name", names())
def test_built_of_an_expression_it_is_the_composition(name: str) -> None:
    entry = lookup(name)
    outer, inner = evaluator(entry.build()), evaluator(entry.build(2 * X**2 - 1))
    for x in (-1.5, -1.0, -0.25, 0.0, 0.5, 0.75, 1.25):  # dyadic: 2x^2 - 1 is exact
        assert inner(x) == pytest.approx(outer(2 * x**2 - 1), rel=4 * EPS, abs=1e-300)


@pytest.mark.parametrize("name", names())
def test_build_is_exact_and_plain(name: str) -> None:
    entry = lookup(name)
    expression = entry.build()
    assert not expression.atoms(sp.Float)
    assert expression.free_symbols == {X}
    defaults = {p.symbol: p.default for p in entry.parameters}
    assert expression == entry.template.subs(defaults)
    assert expression == parse(f"{name}(x)")
    assert "\n" not in entry.description + entry.source
    assert entry.description
    assert entry.source


def test_values_at_jumps() -> None:
    assert lookup("heaviside").build(sp.S.Zero) == sp.Rational(1, 2)
    assert lookup("sign").build(sp.S.Zero) == 0
    assert lookup("hard_shrink").build(sp.Rational(1, 2)) == 0


def test_selu_has_the_published_constants() -> None:
    expression = lookup("selu").build()
    scale = expression.coeff(sp.Max(X, 0))
    assert scale == sp.Rational("1.0507009873554804934193349852946")
    assert expression.coeff(sp.exp(sp.Min(X, 0))) / scale == sp.Rational("1.6732632423543772848170429916717")


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Leaky-ReLU", "leaky_relu"),
        ("LEAKYRELU", "leaky_relu"),
        ("lrelu", "leaky_relu"),
        ("swish", "silu"),
        ("SiLU", "silu"),
        ("hard swish", "hard_swish"),
        ("Phi", "normal_cdf"),
        ("atan", "arctan"),
        ("step", "heaviside"),
    ],
)
def test_names_resolve(spelling: str, name: str) -> None:
    assert lookup(spelling).name == name


def test_no_name_or_alias_is_taken_twice() -> None:
    entries = registry._ENTRIES
    keys = [registry._key(name) for e in entries for name in (e.name, *e.aliases)]
    assert len(keys) == len(set(keys))
    assert names() == tuple(e.name for e in entries)


@pytest.mark.parametrize(
    ("act", "fragments"),
    [
        (lambda: lookup("geluu"), ("unknown activation 'geluu'", "close matches: gelu")),
        (lambda: lookup("zzzz"), ("unknown activation 'zzzz'", "relu")),
        (lambda: lookup("z" * 5000), ("unknown activation 'zzz",)),
        (lambda: lookup("re\u217cu"), ("'re\\u217cu'", "close matches: relu")),
        (lambda: lookup(3), ("must be a string", "int")),
        (lambda: lookup("relu").build("x"), ("must be a SymPy expression", "str")),
        (lambda: lookup("relu").build(X, 1), ("relu(u)", "got 1 parameters")),
        (lambda: lookup("elu").build(X, 1, 2), ("elu(u, alpha=1)", "got 2 parameters")),
        (lambda: lookup("elu").build(X, X), ("alpha", "finite number", "got x")),
        (lambda: lookup("elu").build(X, math.nan), ("alpha", "got nan")),
        (lambda: lookup("elu").build(X, math.inf), ("alpha", "got inf")),
        (lambda: lookup("elu").build(X, "2"), ("alpha", "got 2")),
        (lambda: lookup("elu").build(X, True), ("alpha", "got True")),
        (lambda: lookup("elu").build(X, sp.I), ("not a real number",)),
        (lambda: lookup("celu").build(X, 0), ("alpha", "positive", "got 0")),
        (lambda: lookup("softplus").build(X, -1.5), ("beta", "positive", "got -1.5")),
        (lambda: lookup("hard_tanh").build(X, 1, 1), ("low < high",)),
    ],
)
def test_bad_input_is_one_sentence(act: Callable[[], RegistryEntry], fragments: tuple[str, ...]) -> None:
    with pytest.raises(ParseError) as caught:
        act()
    message = str(caught.value)
    assert all(fragment in message for fragment in fragments)
    assert "\n" not in message
    assert len(message) < 300


def test_a_float_parameter_is_its_shortest_decimal() -> None:
    exact = lookup("leaky_relu").build(X, sp.Rational(1, 5))
    for value in (0.2, sp.Float(0.2), mpmath.libmp.to_float(mpmath.mpf(0.2)._mpf_)):
        assert lookup("leaky_relu").build(X, value) == exact


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (constructors.power(X**2, sp.Rational(1, 2)), sp.Abs(X)),
        (constructors.power(4 * X**2 * sp.sin(X), sp.Rational(1, 2)), 2 * sp.Abs(X) * sp.sqrt(sp.sin(X))),
        (constructors.power(sp.log(X) ** 2, sp.Rational(1, 2)), sp.sqrt(sp.log(X) ** 2)),  # log(x) is not always real
        (constructors.power(constructors.power(X, sp.Rational(1, 2)), sp.Integer(2)), X),
        (constructors.power(sp.exp(X), sp.Rational(1, 2)), sp.exp(X / 2)),
        (constructors.power(sp.Abs(X), sp.Integer(4)), X**4),
        (constructors.multiply(sp.exp(X), sp.exp(-X)), sp.S.One),
        (constructors.multiply(sp.sqrt(2), sp.sqrt(2), X), 2 * X),
        (constructors.multiply(sp.Integer(2), X + 1), 2 * X + 2),
        (constructors.multiply(X, 1 / X), sp.S.One),
        (constructors.multiply(sp.S.Zero, X), sp.S.Zero),
        (constructors.add(X, X, sp.pi, sp.pi, -2 * X), 2 * sp.pi),
        (constructors.maximum(X, sp.pi, sp.Integer(3)), sp.Max(X, sp.pi)),
        (constructors.minimum(constructors.minimum(X, sp.Integer(2)), sp.Integer(1)), sp.Min(X, 1)),
        (constructors.absolute(-2 * X), 2 * sp.Abs(X)),
        (constructors.signum(-2 * X), -sp.sign(X)),
        (constructors.absolute(sp.pi - 4), 4 - sp.pi),
        (constructors.apply(sp.tanh, -X), -sp.tanh(X)),
        (constructors.apply(sp.cos, -X), sp.cos(X)),
        (constructors.apply(sp.log, sp.exp(X)), X),
        (constructors.compare("<", X, X + 1), sp.true),
        (constructors.compare(">=", sp.pi, sp.Rational(22, 7)), sp.false),
    ],
)
def test_constructors_agree_with_evaluated_sympy(expression: sp.Basic, expected: sp.Basic) -> None:
    assert expression == expected


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        (sp.Rational(1, 3), 1 / 3),
        (sp.pi, math.pi),
        (sp.E, math.e),
        (sp.sqrt(2), math.sqrt(2)),
        (sp.erfc(5), math.erfc(5)),
        (sp.log(1 + sp.exp(-60)), math.log1p(math.exp(-60))),
        (sp.S.Zero, 0.0),
    ],
)
def test_constant_value(constant: sp.Expr, value: float) -> None:
    assert constructors.constant_value(constant) == pytest.approx(value, rel=4 * EPS)


@pytest.mark.parametrize(
    "constant",
    [
        sp.sin(1) ** 2 + sp.cos(1) ** 2 - 1,  # zero, but not by its form
        sp.log(1 + sp.exp(-600)),  # too close to zero for the digits spent
        sp.exp(1000),
        sp.zoo,
        sp.nan,
        sp.oo,
        sp.I,
        sp.log(-2),
        sp.Rational(1, 10**301),
        sp.Rational(3**3000, 2**4000),
        sp.gamma(sp.Rational(1, 3)),
        sp.erfc(10**300),
    ],
)
def test_constants_without_a_usable_value_are_refused(constant: sp.Expr) -> None:
    with pytest.raises(ParseError, match=r"^a constant "):
        constructors.constant_value(constant)
