"""Families of activations that a designed network's layers are taken from, as text with parameters.

A layer of a family is a formula of the safe grammar in ``x``, its parameters, and ``tau``, the standard deviation of
the layer's input: "a*x + b*abs(x) + c*hard_tanh(x, -tau, tau)". Constants do not count: layers are centred.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import sympy as sp

from equikernel.errors import InputError
from equikernel.theory.closed_forms import TAU
from equikernel.theory.grammar import functions, parse
from equikernel.theory.parameters import declared_parameters
from equikernel.theory.program import X
from equikernel.theory.registry import close_matches, names

__all__ = ["FAMILIES", "Family", "LayerFamily", "family"]

_NAME = re.compile(r"(?<![A-Za-z0-9_.])[A-Za-z][A-Za-z0-9_]*")
_KNOWN = frozenset({"x", "pi", "tau", "or", "and", "not"})
_SIGN = re.compile(r"(?:([+-]) |^)\(-([0-9.e+-]+)\)")


@dataclass(frozen=True)
class LayerFamily:
    """sigma(x; parameters), for one layer.

    Attributes:
        text: the formula.
        parameters: real symbols, positive where they must be.
    """

    text: str
    parameters: tuple[sp.Symbol, ...]

    @cached_property
    def expr(self) -> sp.Expr:
        """The formula in ``X``, ``TAU`` and the parameters."""
        known = {str(p): p for p in self.parameters}
        return parse(self.text, {**known, "tau": TAU} if _mentions_tau(self.text) else known)

    @cached_property
    def basis(self) -> tuple[sp.Expr, ...] | None:
        """f_j in sigma = sum of parameters times f_j(x); None where the parameters do not enter linearly."""
        slopes = tuple(sp.diff(self.expr, p) for p in self.parameters)
        if any(f.free_symbols & set(self.parameters) for f in slopes):
            return None
        return slopes if self._is_sum(self.parameters) else None

    @cached_property
    def scaling(self) -> tuple[sp.Symbol, ...]:
        """Parameters that, all multiplied by a number, multiply sigma by it: the scale of a hidden layer is free."""
        linear = [p for p in self.parameters if not sp.diff(self.expr, p).has(p)]
        return tuple(linear) if linear and self._is_sum(tuple(linear)) else ()

    def _is_sum(self, parameters: tuple[sp.Symbol, ...]) -> bool:
        return bool(sp.expand(self.expr - sum(p * sp.diff(self.expr, p) for p in parameters)) == 0)

    def without(self, names: frozenset[str]) -> LayerFamily:
        """The family with some of its parameters zero, their terms left out of the formula."""
        terms = [t for t in _terms(self.text) if not any(re.match(rf"[+-]? ?{name}\*", t) for name in names)]
        text = " ".join(terms).removeprefix("+ ")
        return LayerFamily(text, tuple(p for p in self.parameters if str(p) not in names))

    def written(self, values: Iterable[str], tau: str) -> str:
        """``at`` with the values in the order of the parameters; tau may be the text of a float."""
        return self.at(dict(zip(map(str, self.parameters), values, strict=True)), tau.removesuffix(".0"))

    def at(self, values: Mapping[str, str], tau: str) -> str:
        """The formula with decimal numbers in the place of parameters and tau; the grammar reads it."""
        known = {**values, "tau": tau}
        formula = re.sub(r"/tau(\*\*[0-9]+)?\b", "", self.text) if tau == "1" else self.text

        def number(match: re.Match[str]) -> str:
            value = known.get(match[0])
            return match[0] if value is None else f"({value})" if value.startswith("-") else value

        text = _NAME.sub(number, formula)
        return _SIGN.sub(lambda m: {"+": "- ", "-": "+ ", None: "-"}[m[1]] + m[2], text)


@dataclass(frozen=True)
class Family:
    """A family of explicit networks: the same formula for every layer, or one for each.

    Attributes:
        name: its name in ``FAMILIES``, or the formula.
        layers: one for all, or one for each layer.
        description: what the layers are.
        source: where it comes from.
    """

    name: str
    layers: tuple[LayerFamily, ...]
    description: str = "given by its formula"
    source: str = ""

    @property
    def depth(self) -> int | None:
        """The number of layers it is for; None for any."""
        return len(self.layers) if len(self.layers) > 1 else None

    def at_depth(self, depth: int) -> tuple[LayerFamily, ...]:
        """The formula of every layer.

        Raises:
            InputError: a family with one formula for each of another number of layers.
        """
        if self.depth not in (None, depth):
            raise InputError(f"the family {self.name} has {self.depth} layers; got depth {depth}")
        return self.layers if self.depth else self.layers * depth


def _terms(text: str) -> list[str]:
    """The terms of a sum, each after the first with its sign."""
    depth, cuts = 0, [0]
    for k, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0 and text[k : k + 3] in (" + ", " - "):
            cuts.append(k + 1)
    return [text[a:b].strip() for a, b in itertools.pairwise([*cuts, len(text)])]


def _mentions_tau(text: str) -> bool:
    return "tau" in _NAME.findall(text)


@lru_cache(maxsize=256)
def _layer(text: str, declared: str) -> LayerFamily:
    """A layer whose parameters are the names in the text that the grammar does not know."""
    signs = declared_parameters(declared)
    taken = _KNOWN | set(functions()) | set(names())
    found = dict.fromkeys(name for name in _NAME.findall(text) if name not in taken)
    unknown = [name for name in signs if name not in found]
    if unknown:
        raise InputError(f"the parameter {unknown[0]} was declared, but the formula {text!r} has no such name")
    if not found:
        raise InputError(
            f"the family {text!r} has no parameters: expected a formula in x and parameters, such as "
            f"'a*x + b*sin(c*x)', or one of {', '.join(FAMILIES)}{close_matches(text)}"
        )
    made = LayerFamily(text, tuple(signs.get(name, sp.Symbol(name, real=True)) for name in found))
    for p in made.parameters:
        if not sp.diff(made.expr, p).has(X):
            raise InputError(
                f"the parameter {p} drops out of the family {text!r}: it moves sigma by a constant, which centring "
                "takes away; leave it out"
            )
    return made


def _named(name: str, text: str, declared: str, description: str, source: str) -> Family:
    known = declared_parameters(declared)
    return Family(name, (LayerFamily(text, tuple(known.values())),), description, source)


FAMILIES: dict[str, Family] = {
    made.name: made
    for made in (
        _named("hard-tanh", "a*hard_tanh(x, -c, c)", "a>0, c>0", "x clipped to -c ... c, times a", "[Ling24]"),
        _named("leaky-relu", "a*max(x, 0) + b*min(x, 0)", "a, b", "slope a above 0, slope b below", "[Ling24]"),
        _named(
            "piecewise-linear",
            "a*x + b*abs(x) + c*hard_tanh(x, -tau, tau)",
            "a, b, c",
            "linear pieces with kinks at 0 and at one standard deviation of the input",
            "theory, section 6",
        ),
        _named(
            "smooth",
            "a*x + b*log_cosh(x/tau) + c*tanh(x/tau)",
            "a, b, c",
            "analytic and Lipschitz",
            "theory, section 6",
        ),
        _named(
            "hermite-cubic",
            "a*x/tau + b*(x**2/tau**2 - 1)/sqrt(2) + c*(x**3/tau**3 - 3*x/tau)/sqrt(6)",
            "a, b, c",
            "the Hermite polynomials of degree 1 to 3 in x/tau",
            "theory, section 6",
        ),
        _named("erf", "a*x + b*erf(c*x/tau)", "a, b, c>0", "an error function of any width; odd", "theory, section 6"),
        _named("quadratic", "a*x + b*x**2/tau", "a, b", "a parabola", "[Gu22]"),
        _named(
            "ternary",
            "a*heaviside(x - s) - b*heaviside(-x - t)",
            "a, b, s>0, t>0",
            "three levels: -b below -t, 0, a above s",
            "[Gu22]",
        ),
        _named("binary", "a*heaviside(x - s)", "a, s", "two levels: 0, and a above s", "[Gu22]"),
    )
}


def family(spec: str | Family, parameters: str = "") -> Family:
    """A family by name, or from its formula.

    Args:
        spec: a name in ``FAMILIES``; a formula in x, tau and parameters, such as "a*x + b*sin(c*x)"; formulas for each
            layer, separated by semicolons; or a Family, returned as it is.
        parameters: the signs of parameters of a formula where they matter, as in "c>0"; see ``declared_parameters``.

    Raises:
        InputError: a formula without parameters, or with one that changes nothing but a constant; an unknown name.
        ParseError: a formula that the grammar does not read.
    """
    if isinstance(spec, Family):
        return spec
    spec = str(spec)
    if not spec.strip():
        raise InputError(f"a family is a name ({', '.join(FAMILIES)}) or a formula with parameters; got {spec!r}")
    if spec in FAMILIES:
        return FAMILIES[spec]
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_ -]*", spec.strip()) and spec.strip() != "x":
        raise InputError(
            f"unknown family {spec!r}: expected auto, {', '.join(FAMILIES)}, or a formula such as 'a*x + b*sin(c*x)'"
        )
    return Family(spec, tuple(_layer(text.strip(), parameters) for text in spec.split(";")))
