"""Random texts of the grammar, deterministic in (seed, kind, index): what the fuzz campaign feeds the package."""

from __future__ import annotations

import math
import random

from equikernel.theory.grammar import functions
from equikernel.theory.registry import lookup, names

__all__ = ["KINDS", "functions", "random_tau", "random_text"]

KINDS = ("grammar", "breakpoints")
MAX_DEPTH = 5
_ORDINARY = ("1", "2", "0.5", "-1", "3", "0.1", "-0.3", "4", "1.5", "0.25")
_AWKWARD = ("1e-6", "200", "1/3", "pi", "-pi/2", "0.7071067811865476", "1e-12", "22/7", "1000", "sqrt(2)", "exp(1)")
_OWN_UNARY = ("log", "log1p", "expm1", "sqrt", "tan", "sinh", "cosh", "erfc")
# these leave the real line, or grow beyond every bound, on an argument that is not tame
_DANGEROUS = frozenset({*_OWN_UNARY, "exp", "square", "cube", "squared_relu", "snake"}) - {"erfc"}
_STEPS = frozenset({"sign", "heaviside", "hard_shrink"})
_TAME = ("tanh", "erf", "sigmoid", "atan", "Phi", "gaussian", "softsign")
_EXTREME_TAUS = (1e-12, 1e-6, 1e-3, 1e-2, 50.0, 1e3, 1e6)
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


def random_tau(seed: int, kind: str, index: int) -> float:
    """A standard deviation: log-uniform on [0.05, 20], one time in ten an extreme one."""
    rng = _generator(seed, kind, index, "tau")
    if rng.random() < 0.1:
        return rng.choice(_EXTREME_TAUS)
    return math.exp(rng.uniform(math.log(0.05), math.log(20.0)))


def random_text(seed: int, kind: str, index: int) -> str:
    """The text of trial ``index``: nested to depth 5 at most.

    "grammar" draws from every function of the grammar, three times in four with partners under which logarithms, roots
    and quotients are defined; "breakpoints" nests where, max, min, abs and hard_tanh at random thresholds.
    """
    rng = _generator(seed, kind, index, "text")
    depth = rng.randint(1, MAX_DEPTH)
    if kind == "breakpoints":
        return _Breakpoints(rng).text(depth)
    return _Grammar(rng, wild=rng.random() < 0.25).text(depth)


def _generator(seed: int, kind: str, index: int, purpose: str) -> random.Random:
    return random.Random(f"{seed}/{kind}/{index}/{purpose}")  # noqa: S311 - trials, not secrets


class _Grammar:
    """Texts over the whole grammar."""

    def __init__(self, rng: random.Random, *, wild: bool) -> None:
        self.rng = rng
        self.wild = wild
        self.unary = [name for name in functions() if name not in {"max", "min", "where"}]

    def text(self, depth: int) -> str:
        rng = self.rng
        if depth == 0:
            return "x" if rng.random() < 0.92 else self.constant()
        forms = (self.call, self.operation, self.power, self.extremum, self.where)
        return rng.choices(forms, (10, 8, 2, 3, 2))[0](depth)

    def constant(self) -> str:
        return self.rng.choice(_AWKWARD if self.rng.random() < 0.25 else _ORDINARY)

    def below(self, depth: int) -> str:
        """One branch reaches one level less; the others stop earlier now and then."""
        return self.text(depth - 1 if self.rng.random() < 0.6 else self.rng.randint(0, depth - 1))

    def call(self, depth: int) -> str:
        rng = self.rng
        name = rng.choice(self.unary)
        inner = self.below(depth)
        if not self.wild and name in _DANGEROUS:
            return self._guarded(name, inner)
        parameters = ""
        if name in names() and rng.random() < 0.3:
            entry = lookup(name)
            values = [self._parameter(p.symbol.is_positive is True) for p in entry.parameters]
            if name == "hard_tanh":
                values = [f"-{values[0].lstrip('-')}", values[1].lstrip("-")]
            parameters = "".join(f", {value}" for value in values)
        return f"{name}({inner}{parameters})"

    def _parameter(self, positive: bool) -> str:
        value = self.constant()
        return value.lstrip("-") if positive else value

    def _guarded(self, name: str, inner: str) -> str:
        tame = f"{self.rng.choice(_TAME)}({inner})"
        if name in {"log", "sqrt"}:
            return f"{name}({self.rng.choice(('1', '0.1', '2'))} + ({inner})**2)"
        if name == "log1p":
            return f"log1p(abs({inner}))"
        if name in {"snake", "square"}:
            return f"{name}({inner})"
        return f"{name}({tame})"

    def operation(self, depth: int) -> str:
        rng = self.rng
        left, right = f"({self.below(depth)})", f"({self.below(depth)})"
        if rng.random() < 0.4:
            left = self.constant()
        operator = rng.choice("+-*+-*/")
        if operator == "/" and not self.wild:
            right = f"({rng.choice(('1', '0.1', '2'))} + {right}**2)"
        return f"{left} {operator} {right}"

    def power(self, depth: int) -> str:
        inner = self.below(depth)
        if self.wild:
            return f"({inner})**({self.rng.choice(('2', '3', '0.5', '-1', '1.5', '-2', '4', '1/3', '0', '-0.5'))})"
        if self.rng.random() < 0.5:
            return f"({inner})**{self.rng.choice('23')}"
        return f"abs({inner})**{self.rng.choice(('1.5', '0.75', '2.5'))}"

    def extremum(self, depth: int) -> str:
        rng = self.rng
        inner = [self.below(depth) for _ in range(rng.choice((1, 1, 2)))]
        inner.append(self.constant() if rng.random() < 0.6 else self.below(depth))
        return f"{rng.choice(('max', 'min'))}({', '.join(inner)})"

    def where(self, depth: int) -> str:
        return f"where({self.condition(depth)}, {self.below(depth)}, {self.below(depth)})"

    def condition(self, depth: int) -> str:
        rng = self.rng
        left = "x" if rng.random() < 0.7 else self.below(depth)
        plain = f"{left} {rng.choices(_COMPARISONS, (4, 4, 4, 4, 1, 1))[0]} {self.constant()}"
        match rng.random():
            case p if p < 0.15:
                return f"{self.constant()} < x < {self.constant()}"
            case p if p < 0.25:
                return f"{plain} {rng.choice(('and', 'or'))} x > {self.constant()}"
            case p if p < 0.3:
                return f"not {plain}"
        return plain


class _Breakpoints:
    """Nests of switches at random thresholds, some of them almost the same."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.thresholds: list[str] = []

    def threshold(self) -> str:
        rng = self.rng
        match rng.random():
            case p if p < 0.15 and self.thresholds:
                return f"({rng.choice(self.thresholds)} + {rng.choice(('1e-3', '1e-6', '1e-12'))})"
            case p if p < 0.25 and self.thresholds:
                return f"(-{rng.choice(self.thresholds)})"
            case p if p < 0.35:
                return rng.choice(_AWKWARD)
            case p if p < 0.5:
                return f"({rng.randint(-40, 40)}/{rng.randint(1, 13)})"
        found = f"({rng.gauss(0.0, 2.0):.{rng.randint(1, 6)}f})"
        self.thresholds.append(found)
        return found

    def text(self, depth: int) -> str:
        rng = self.rng
        if depth == 0:
            return self._leaf()
        inner = self.text(depth - 1)
        other = self.text(rng.randint(0, min(depth - 1, 2)))
        t, u = self.threshold(), self.threshold()
        return rng.choice(
            (
                f"max({inner}, {t})",
                f"min({inner}, {t})",
                f"max({inner}, {other})",
                f"min({inner}, {other}, {t})",
                f"abs({inner} - {t})",
                f"where(x < {t}, {inner}, {other})",
                f"where(x > {t} and x < {u}, {inner}, {other})",
                f"where(x <= {t} or x > {u}, {inner}, {t})",
                f"hard_tanh({inner}, -{rng.randint(1, 30)}/7, {rng.randint(1, 30)}/11)",
                f"relu({inner} + {t})",
                f"leaky_relu({inner} - {t}, {rng.choice(('0.1', '-0.5', '1/3'))})",
                f"({inner}) + {rng.choice(sorted(_STEPS))}(x - {t})",
                f"({inner}) - 0.5*({other})",
            )
        )

    def _leaf(self) -> str:
        scale = self.rng.choice(("", "2*", "-", "0.3*"))
        inner = self.rng.choice(
            ("x", "x", "tanh(x)", "gelu(x)", "x + 0.5*sin(x)", "x**2", "softplus(x)", "erf(x)", "silu(x)")
        )
        return f"{scale}{inner}"
