"""The named activations, as exact SymPy expressions in the real symbol ``X``.

Values at jumps: sign(0) = 0 and heaviside(0) = 1/2; hard_shrink is 0 at its thresholds, as in torch.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import sympy as sp

from equikernel.errors import ParseError
from equikernel.theory.constructors import compare, compose, constant_value, is_constant
from equikernel.theory.program import X

__all__ = [
    "Parameter",
    "RegistryEntry",
    "close_matches",
    "lookup",
    "names",
    "quoted",
]


@dataclass(frozen=True)
class Parameter:
    """A parameter of an activation: a real constant, larger than 0 if the symbol is positive."""

    symbol: sp.Symbol
    default: sp.Rational

    @property
    def name(self) -> str:
        """The name of the symbol."""
        return str(self.symbol)

    def validated(self, owner: str, value: sp.Expr | float) -> sp.Expr:
        """The value as an exact SymPy constant; a float stands for its shortest decimal, 0.1 for 1/10.

        An expression in symbols other than x, a parameter left open, stands for itself; its sign must follow from the
        assumptions where it matters.
        """
        exact = value
        if isinstance(value, (float, sp.Float)) and math.isfinite(value):
            exact = sp.Rational(Fraction(repr(float(value))))
        elif isinstance(value, int) and not isinstance(value, bool):
            exact = sp.Integer(value)
        if isinstance(exact, sp.Expr) and exact.free_symbols and X not in exact.free_symbols:
            if self.symbol.is_positive and not exact.is_positive:
                raise ParseError(
                    f"the parameter {self.name} of {owner} must be positive, which does not follow from the "
                    f"assumptions on {value}: declare its symbols positive"
                )
            return exact
        if not isinstance(exact, sp.Expr) or not is_constant(exact):
            raise ParseError(f"the parameter {self.name} of {owner} must be a finite number, got {value}")
        if constant_value(exact) <= 0 and self.symbol.is_positive:
            raise ParseError(f"the parameter {self.name} of {owner} must be positive, got {value}")
        return exact


@dataclass(frozen=True)
class RegistryEntry:
    """A named activation.

    Attributes:
        name: the canonical name.
        description: the formula, one line.
        source: where it comes from.
        template: the formula in ``X`` and the symbols of the parameters.
        aliases: other names.
        parameters: optional parameters, in order.
    """

    name: str
    description: str
    source: str
    template: sp.Expr
    aliases: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()

    def build(self, u: sp.Expr = X, *params: sp.Expr | float) -> sp.Expr:
        """The activation of ``u``; parameters not given take their defaults.

        Raises:
            ParseError: ``u`` is no SymPy expression, there are too many parameters, or one is outside its domain.
        """
        if not isinstance(u, sp.Expr):
            raise ParseError(f"the argument of {self.name} must be a SymPy expression, got {type(u).__name__}")
        if len(params) > len(self.parameters):
            usage = ", ".join(["u", *(f"{p.name}={p.default}" for p in self.parameters)])
            raise ParseError(f"expected {self.name}({usage}), got {len(params)} parameters after the argument")
        values = {p.symbol: p.default for p in self.parameters}
        values |= {p.symbol: p.validated(self.name, value) for p, value in zip(self.parameters, params, strict=False)}
        if _LOW in values and compare("<", values[_LOW], values[_HIGH]) == sp.false:
            raise ParseError(f"{self.name} needs low < high, got low = {values[_LOW]} and high = {values[_HIGH]}")
        return compose(self.template, {X: u, **values})


_SLOPE, _ALPHA, _BETA, _LOW, _HIGH = sp.symbols("slope alpha beta low high", real=True)
_WIDTH, _SHARPNESS, _THRESHOLD, _FREQUENCY = sp.symbols("alpha beta threshold frequency", positive=True)
_HALF = sp.Rational(1, 2)
_SELU_ALPHA = sp.Rational(16732632423543772848170429916717, 10**31)
_SELU_SCALE = sp.Rational(10507009873554804934193349852946, 10**31)

_PHI = (1 + sp.erf(X / sp.sqrt(2))) / 2
_RELU = sp.Max(X, 0)
_HARD_SIGMOID = sp.Min(sp.Max(X / 6 + _HALF, 0), 1)
# elu and its kin are written with max and min, not with a condition, so that they may stand inside conditions
_BELOW = sp.exp(sp.Min(X, 0)) - 1

_TORCH = "convention of torch.nn.functional"
_ELEMENTARY = "elementary function"

_ENTRIES = (
    RegistryEntry("relu", "max(x, 0)", "Nair & Hinton, ICML 2010", _RELU),
    RegistryEntry(
        "leaky_relu",
        "x for x > 0, slope*x otherwise",
        "Maas, Hannun & Ng, ICML workshop 2013",
        _RELU + _SLOPE * sp.Min(X, 0),
        ("lrelu",),
        (Parameter(_SLOPE, sp.Rational(1, 100)),),
    ),
    RegistryEntry(
        "elu",
        "x for x > 0, alpha*(exp(x) - 1) otherwise",
        "Clevert, Unterthiner & Hochreiter, ICLR 2016 (arXiv 1511.07289)",
        _RELU + _ALPHA * _BELOW,
        parameters=(Parameter(_ALPHA, sp.S.One),),
    ),
    RegistryEntry(
        "selu",
        "1.0507...*elu(x, 1.6732...), self-normalising",
        "Klambauer, Unterthiner, Mayr & Hochreiter, NeurIPS 2017 (arXiv 1706.02515)",
        _SELU_SCALE * (_RELU + _SELU_ALPHA * _BELOW),
    ),
    RegistryEntry(
        "celu",
        "x for x > 0, alpha*(exp(x/alpha) - 1) otherwise",
        "Barron 2017 (arXiv 1704.07483)",
        _RELU + _WIDTH * _BELOW.subs(X, X / _WIDTH),
        parameters=(Parameter(_WIDTH, sp.S.One),),
    ),
    RegistryEntry("gelu", "x*Phi(x)", "Hendrycks & Gimpel 2016 (arXiv 1606.08415)", X * _PHI),
    RegistryEntry(
        "gelu_tanh",
        "x*(1 + tanh(sqrt(2/pi)*(x + 0.044715*x**3)))/2, an approximation of gelu",
        "Hendrycks & Gimpel 2016 (arXiv 1606.08415)",
        X * (1 + sp.tanh(sp.sqrt(2 / sp.pi) * (X + sp.Rational(44715, 10**6) * X**3))) / 2,
        ("gelu_new",),
    ),
    RegistryEntry(
        "quick_gelu",
        "x*sigmoid(1.702*x), an approximation of gelu",
        "Hendrycks & Gimpel 2016 (arXiv 1606.08415)",
        X / (1 + sp.exp(-sp.Rational(1702, 1000) * X)),
    ),
    RegistryEntry(
        "silu",
        "x*sigmoid(beta*x)",
        "Elfwing, Uchibe & Doya 2018 (arXiv 1702.03118); Ramachandran, Zoph & Le 2017 (arXiv 1710.05941)",
        X / (1 + sp.exp(-_BETA * X)),
        ("swish",),
        (Parameter(_BETA, sp.S.One),),
    ),
    RegistryEntry(
        "mish",
        "x*tanh(log(1 + exp(x)))",
        "Misra, BMVC 2020 (arXiv 1908.08681)",
        X * sp.tanh(sp.log(1 + sp.exp(X))),
    ),
    RegistryEntry(
        "softplus",
        "log(1 + exp(beta*x))/beta",
        "Dugas, Bengio, Belisle, Nadeau & Garcia, NIPS 2000",
        sp.log(1 + sp.exp(_SHARPNESS * X)) / _SHARPNESS,
        parameters=(Parameter(_SHARPNESS, sp.S.One),),
    ),
    RegistryEntry("log_sigmoid", "-log(1 + exp(-x))", _TORCH, -sp.log(1 + sp.exp(-X))),
    RegistryEntry(
        "softsign",
        "x/(1 + abs(x))",
        "Bergstra, Desjardins, Lamblin & Bengio 2009; Glorot & Bengio, AISTATS 2010",
        X / (1 + sp.Abs(X)),
    ),
    RegistryEntry("sigmoid", "1/(1 + exp(-x))", _ELEMENTARY, 1 / (1 + sp.exp(-X)), ("logistic",)),
    RegistryEntry("tanh", "hyperbolic tangent", _ELEMENTARY, sp.tanh(X)),
    RegistryEntry(
        "lecun_tanh",
        "1.7159*tanh(2*x/3)",
        "LeCun, Bottou, Orr & Mueller, Efficient BackProp, 1998",
        sp.Rational(17159, 10**4) * sp.tanh(2 * X / 3),
    ),
    RegistryEntry("tanhshrink", "x - tanh(x)", _TORCH, X - sp.tanh(X)),
    RegistryEntry(
        "hard_tanh",
        "x clipped to low ... high",
        "Collobert, thesis, 2004; the one-layer design of [Ling24]",
        sp.Min(sp.Max(X, _LOW), _HIGH),
        parameters=(Parameter(_LOW, sp.S.NegativeOne), Parameter(_HIGH, sp.S.One)),
    ),
    RegistryEntry(
        "hard_sigmoid",
        "x/6 + 1/2 clipped to 0 ... 1",
        f"Howard et al., MobileNetV3, ICCV 2019 (arXiv 1905.02244); {_TORCH}",
        _HARD_SIGMOID,
    ),
    RegistryEntry(
        "hard_swish",
        "x*hard_sigmoid(x)",
        "Howard et al., MobileNetV3, ICCV 2019 (arXiv 1905.02244)",
        X * _HARD_SIGMOID,
        ("hard_silu",),
    ),
    RegistryEntry("relu6", "x clipped to 0 ... 6", "Krizhevsky 2010", sp.Min(_RELU, 6)),
    RegistryEntry(
        "squared_relu",
        "max(x, 0)**2",
        "So et al., Primer, NeurIPS 2021 (arXiv 2109.08668)",
        _RELU**2,
        ("relu_squared", "relu2"),
    ),
    RegistryEntry(
        "softshrink",
        "x moved towards 0 by threshold, 0 within it",
        f"Donoho 1995 (soft thresholding); {_TORCH}",
        sp.Max(X - _THRESHOLD, 0) + sp.Min(X + _THRESHOLD, 0),
        parameters=(Parameter(_THRESHOLD, _HALF),),
    ),
    RegistryEntry(
        "hard_shrink",
        "x where abs(x) > threshold, 0 elsewhere; it jumps",
        f"Donoho & Johnstone 1994 (hard thresholding); {_TORCH}",
        sp.Piecewise((X, sp.Abs(X) > _THRESHOLD), (0, True)),
        parameters=(Parameter(_THRESHOLD, _HALF),),
    ),
    RegistryEntry("normal_cdf", "(1 + erf(x/sqrt(2)))/2", _ELEMENTARY, _PHI, ("Phi",)),
    RegistryEntry("erf", "error function", _ELEMENTARY, sp.erf(X)),
    RegistryEntry("sin", "sine", _ELEMENTARY, sp.sin(X), ("sine",)),
    RegistryEntry("cos", "cosine", _ELEMENTARY, sp.cos(X), ("cosine",)),
    RegistryEntry("arctan", "inverse tangent", _ELEMENTARY, sp.atan(X), ("atan",)),
    RegistryEntry("asinh", "inverse hyperbolic sine", _ELEMENTARY, sp.asinh(X), ("arcsinh",)),
    RegistryEntry("exp", "exponential", _ELEMENTARY, sp.exp(X)),
    RegistryEntry("gaussian", "exp(-x**2)", "radial basis function", sp.exp(-(X**2)), ("rbf",)),
    RegistryEntry("log_cosh", "log(cosh(x))", "smooth absolute value", sp.log(sp.cosh(X))),
    RegistryEntry(
        "snake",
        "x + sin(frequency*x)**2/frequency",
        "Ziyin, Hartwig & Ueda, NeurIPS 2020 (arXiv 2006.08195)",
        X + sp.sin(_FREQUENCY * X) ** 2 / _FREQUENCY,
        parameters=(Parameter(_FREQUENCY, sp.S.One),),
    ),
    RegistryEntry("abs", "absolute value", _ELEMENTARY, sp.Abs(X), ("absolute",)),
    RegistryEntry("sign", "-1, 0 or 1; it jumps, and is 0 at 0", _ELEMENTARY, sp.sign(X), ("signum",)),
    RegistryEntry(
        "heaviside",
        "0, 1/2 or 1: (1 + sign(x))/2; it jumps, and is 1/2 at 0",
        "McCulloch & Pitts 1943",
        (1 + sp.sign(X)) / 2,
        ("step",),
    ),
    RegistryEntry("identity", "x", _ELEMENTARY, X, ("linear",)),
    RegistryEntry("square", "x**2", _ELEMENTARY, X**2, ("quadratic",)),
    RegistryEntry("cube", "x**3", _ELEMENTARY, X**3, ("cubic",)),
)


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


_INDEX = {_key(name): entry for entry in _ENTRIES for name in (entry.name, *entry.aliases)}


def names() -> tuple[str, ...]:
    """The canonical names, in the order of the registry."""
    return tuple(entry.name for entry in _ENTRIES)


def quoted(text: str) -> str:
    """``text`` for a message: in ASCII, so that a Cyrillic letter does not pass for a Latin one, and not too long."""
    shown = ascii(text)
    return shown if len(shown) <= 60 else f"{shown[:56]}...{shown[-1]}"


def close_matches(name: str, extra: Iterable[str] = ()) -> str:
    """``" (close matches: ...)"`` among names, aliases and ``extra``; empty when nothing is close."""
    spellings = {_key(s): s for e in _ENTRIES for s in (e.name, *e.aliases)} | {_key(s): s for s in extra}
    found = difflib.get_close_matches(_key(name)[:40], list(spellings), n=3)
    return f" (close matches: {', '.join(spellings[key] for key in found)})" if found else ""


def lookup(name: str) -> RegistryEntry:
    """The entry called ``name``, up to case, ``-``, ``_`` and spaces: "Leaky-ReLU" is leaky_relu.

    Raises:
        ParseError: no such name; the message has the close ones.
    """
    if not isinstance(name, str):
        raise ParseError(f"the name of an activation must be a string, got {type(name).__name__}")
    entry = _INDEX.get(_key(name))
    if entry is None:
        raise ParseError(
            f"unknown activation {quoted(name)}: expected one of the {len(_ENTRIES)} names of the registry"
            f"{close_matches(name) or ', such as relu, gelu or tanh'}"
        )
    return entry
