"""The safe grammar: ``parse(text)`` turns a formula in ``x`` into a SymPy expression in ``X``.

A tokenizer and a Pratt parser (precedence climbing), written out by hand: the text reaches neither eval nor sympify.

    condition  or, and, not, comparisons (they chain: 0 < x < 1); only as the first argument of where
    sum        + -
    product    * /
    sign       - +            binds less than **, as in Python: -x**2 is -(x**2)
    power      **             to the right: 2**3**2 is 2**9
    atom       number, x, pi, function(arguments), ( )

Numbers are exact: 0.1 is 1/10. Besides the functions listed in ``functions()``, every activation of the registry
may be applied to an expression, with its parameters after the argument: ``leaky_relu(2*x, 0.2)``.
Everything is bounded before it is computed (text, nesting, exponents, bits of a fraction, size and degree of the
expression), so that no text can hang SymPy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, NoReturn

import sympy as sp

from equikernel.errors import ParseError
from equikernel.theory.constructors import (
    add,
    apply,
    compare,
    constant_value,
    exponential,
    maximum,
    minimum,
    multiply,
    negate,
    power,
    select,
)
from equikernel.theory.program import X
from equikernel.theory.registry import RegistryEntry, close_matches, lookup, names, quoted

__all__ = ["X", "functions", "parse"]

MAX_CHARACTERS = 2000
MAX_NESTING = 50
MAX_DIGITS = 320
MAX_DECIMAL_EXPONENT = 300
MAX_POWER = 64
MAX_NODES = 4000
MAX_DEPTH = 100
MAX_DEGREE = 256

_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER = range(1, 9)
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_BINDING = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(_COMPARISONS, _COMPARE),
    **dict.fromkeys("+-", _SUM),
    **dict.fromkeys("*/", _PRODUCT),
    "**": _POWER,
}
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*)"
    r"|(?P<operator>\*\*|<=|>=|==|!=|[-+*/<>(),])"
)
_CHARACTER_HINTS = {
    "^": "write ** for a power",
    "=": "write == to compare",
    "&": "write and",
    "|": "write or, or abs(...)",
    "!": "write not",
    "\N{MINUS SIGN}": "write an ASCII -",
}
_NAME_HINTS = {
    "e": "write exp(1)",
    "E": "write exp(1)",
    "ln": "write log",
    "X": "write x",
    "clip": "write hard_tanh(u, low, high)",
    "inf": "expected a finite number",
    "nan": "expected a number",
}


class _Function(NamedTuple):
    """Least and largest number of arguments, and the expression of them."""

    least: int
    most: int
    build: Callable[..., sp.Expr]


_FUNCTIONS = {
    "max": _Function(2, MAX_CHARACTERS, maximum),
    "min": _Function(2, MAX_CHARACTERS, minimum),
    "where": _Function(3, 3, select),
    "log": _Function(1, 1, partial(apply, sp.log)),
    "log1p": _Function(1, 1, lambda u: apply(sp.log, add(sp.S.One, u))),
    "expm1": _Function(1, 1, lambda u: add(exponential(u), sp.S.NegativeOne)),
    "sqrt": _Function(1, 1, lambda u: power(u, sp.Rational(1, 2))),
    "tan": _Function(1, 1, partial(apply, sp.tan)),
    "sinh": _Function(1, 1, partial(apply, sp.sinh)),
    "cosh": _Function(1, 1, partial(apply, sp.cosh)),
    "erfc": _Function(1, 1, partial(apply, sp.erfc)),
}


def functions() -> tuple[str, ...]:
    """The names that may be called in the grammar: its own functions and the activations of the registry."""
    return (*_FUNCTIONS, *names())


def parse(text: str, parameters: Mapping[str, sp.Symbol] | None = None) -> sp.Expr:
    """The SymPy expression in ``X`` that ``text`` denotes.

    sigmoid, softplus and Phi are written out as 1/(1 + exp(-u)), log(1 + exp(u)) and (1 + erf(u/sqrt(2)))/2;
    where, max, min, abs and sign become Piecewise, Max, Min, Abs and sign.

    Args:
        text: the formula.
        parameters: other names that may stand for numbers, and the real symbols that they become; with
            ``{"c": Symbol("c", positive=True)}``, ``hard_tanh(x, -c, c)`` is an expression in x and c.

    Raises:
        ParseError: ``text`` is not an expression of the grammar, exceeds a limit, or has a constant part without a
            real value (1/0, log(-1)). The message says what was expected, what was found, and at which character,
            counted from 1.
    """
    if not isinstance(text, str):
        raise ParseError(f"an expression must be a string, got {type(text).__name__}")
    if len(text) > MAX_CHARACTERS:
        raise ParseError(f"an expression has at most {MAX_CHARACTERS} characters, got {len(text)}")
    return _Parser(text, _checked(parameters or {})).parse()


def _checked(parameters: Mapping[str, sp.Symbol]) -> Mapping[str, sp.Symbol]:
    """The parameters, once their names are free and their symbols real."""
    for name, symbol in parameters.items():
        match = _TOKEN.fullmatch(name)
        if match is None or match.lastgroup != "name" or name in {"x", "pi", "and", "or", "not", *functions()}:
            raise ParseError(f"the name of a parameter must be a name without a meaning of its own, got {name!r}")
        if not isinstance(symbol, sp.Symbol) or not symbol.is_extended_real or symbol == X:
            raise ParseError(
                f"the parameter {name} must be a real symbol, as Symbol({name!r}, real=True); got {symbol}"
            )
    return parameters


class _Token(NamedTuple):
    kind: str
    text: str
    position: int  # from 1

    def __str__(self) -> str:
        return "the end of the text" if self.kind == "end" else quoted(self.text)


class _Measure(NamedTuple):
    """What is bounded in an expression, counted as a tree."""

    nodes: int
    depth: int
    degree: float
    constant: bool


class _Parser:
    """One text on its way to an expression."""

    def __init__(self, text: str, parameters: Mapping[str, sp.Symbol]) -> None:
        self._text = text
        self._parameters = parameters
        self._tokens = self._tokenize()
        self._index = 0
        self._nesting = 0
        self._measures: dict[sp.Basic, _Measure] = {}

    def parse(self) -> sp.Expr:
        value = self._operand(_OR)
        if self._token.kind != "end":
            hint = " (write * for a product)" if self._token.kind in {"number", "name"} or self._at("(") else ""
            self._fail(f"expected an operator or the end of the text, found {self._token}{hint}")
        return value

    # -- tokens ------------------------------------------------------------------------------------------------------

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        place = 0
        while place < len(self._text):
            match = _TOKEN.match(self._text, place)
            if match is None:
                character = self._text[place]
                hint = _CHARACTER_HINTS.get(character, "expected numbers, x, pi, functions, operators and parentheses")
                self._fail(f"the character {quoted(character)} is not allowed, {hint}", place + 1)
            kind = match.lastgroup or ""
            if kind != "space":
                tokens.append(_Token(kind, match.group(), place + 1))
            place = match.end()
        tokens.append(_Token("end", "", len(self._text) + 1))
        return tokens

    @property
    def _token(self) -> _Token:
        return self._tokens[self._index]

    def _advance(self) -> _Token:
        token = self._token
        self._index += 1
        return token

    def _at(self, *operators: str) -> bool:
        return self._token.kind in {"operator", "name"} and self._token.text in operators

    def _fail(self, problem: str, position: int | None = None) -> NoReturn:
        where = self._token.position if position is None else position
        raise ParseError(f"cannot parse {quoted(self._text)}: {problem}, at character {where}")

    # -- expressions -------------------------------------------------------------------------------------------------

    def _expression(self, level: int) -> sp.Basic:
        """A number or a condition, made of operators that bind at least as tightly as ``level``."""
        start = self._token.position
        left = self._prefix()
        while True:
            binding = _BINDING.get(self._token.text, 0) if self._token.kind != "number" else 0
            if binding < level:
                return left
            if binding == _COMPARE:
                left = self._comparison(left, start)
            elif binding in {_OR, _AND}:
                left = self._logical(left, binding, start)
            else:
                self._expect_number(left, start)
                left = self._arithmetic(left, binding)

    def _operand(self, level: int) -> sp.Expr:
        """A number (not a condition)."""
        start = self._token.position
        return self._expect_number(self._expression(level), start)

    def _condition(self, level: int) -> sp.Basic:
        start = self._token.position
        return self._expect_condition(self._expression(level), start)

    def _expect_number(self, value: sp.Basic, position: int) -> sp.Expr:
        if not isinstance(value, sp.Expr):
            self._fail("expected a number, found a condition (write where(condition, a, b))", position)
        return value

    def _expect_condition(self, value: sp.Basic, position: int) -> sp.Basic:
        if isinstance(value, sp.Expr):
            self._fail("expected a condition such as x > 0, found a number", position)
        return value

    def _nested(self, read: Callable[[int], sp.Basic], level: int) -> sp.Basic:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            self._fail(f"expected at most {MAX_NESTING} nested operations, found more")
        value = read(level)
        self._nesting -= 1
        return value

    def _prefix(self) -> sp.Basic:
        token = self._advance()
        if token.kind == "number":
            return self._admit(self._literal(token), token.position)
        if token.text == "not":
            return sp.Not(self._nested(self._condition, _NOT))
        if token.kind == "name":
            return self._name(token)
        if token.text in {"-", "+"} and token.kind == "operator":
            value = self._nested(self._operand, _SIGN)
            return self._admit(negate(value), token.position) if token.text == "-" else value
        if token.text != "(":
            self._fail(f"expected a number, x, pi, a function or '(', found {token}", token.position)
        value = self._nested(self._expression, _OR)
        self._close(token)
        return value

    def _close(self, opening: _Token) -> None:
        if not self._at(")"):
            self._fail(f"expected an operator or ')' for the '(' of character {opening.position}, found {self._token}")
        self._advance()

    def _literal(self, token: _Token) -> sp.Rational:
        mantissa, _, exponent = token.text.lower().partition("e")
        whole, _, fraction = mantissa.partition(".")
        digits = (whole + fraction).lstrip("0")
        if len(digits) > MAX_DIGITS:
            self._fail(f"a number has at most {MAX_DIGITS} digits, found {len(digits)}", token.position)
        if abs(int(exponent or "0")) > MAX_DECIMAL_EXPONENT:
            self._fail(
                f"the exponent of a number is at most {MAX_DECIMAL_EXPONENT} in magnitude, found {quoted(exponent)}",
                token.position,
            )
        scale = int(exponent or "0") - len(fraction)
        value = int(digits or "0")
        return sp.Rational(value * 10**scale) if scale >= 0 else sp.Rational(value, 10**-scale)

    def _comparison(self, left: sp.Basic, start: int) -> sp.Basic:
        links: list[sp.Basic] = []
        while self._at(*_COMPARISONS):
            self._expect_number(left, start)
            operator = self._advance()
            start = self._token.position
            right = self._operand(_SUM)
            links.append(self._build(compare, operator.position, operator.text, left, right))
            left = right
        return self._admit(sp.And(*links), start)

    def _logical(self, left: sp.Basic, binding: int, start: int) -> sp.Basic:
        word = self._token.text
        parts = [self._expect_condition(left, start)]
        while self._at(word):
            self._advance()
            parts.append(self._condition(binding + 1))
        return self._admit((sp.Or if binding == _OR else sp.And)(*parts), start)

    def _arithmetic(self, left: sp.Expr, binding: int) -> sp.Expr:
        position = self._token.position
        if binding == _POWER:
            self._advance()
            exponent = self._nested(self._operand, _SIGN)
            return self._admit(self._power(left, exponent, position), position)
        # the whole chain at once: one term after the other takes quadratic time
        chain = [left]
        symbols = "+-" if binding == _SUM else "*/"
        while self._at(*symbols):
            operator = self._advance()
            value = self._operand(binding + 1)
            if operator.text == "-":
                value = negate(value)
            elif operator.text == "/":
                value = self._power(value, sp.S.NegativeOne, operator.position)
            chain.append(value)
        return self._admit(self._build(add if binding == _SUM else multiply, position, *chain), position)

    def _power(self, base: sp.Expr, exponent: sp.Expr, position: int) -> sp.Expr:
        if not self._measure(exponent).constant:
            if not self._measure(base).constant or constant_value(base) <= 0:
                self._fail(
                    "expected a constant exponent, or a positive constant to the power of an expression "
                    "(write exp(v*log(u)) for u**v)",
                    position,
                )
            return self._build(exponential, position, multiply(exponent, apply(sp.log, base)))
        if abs(constant_value(exponent)) > MAX_POWER:
            self._fail(f"expected an exponent of at most {MAX_POWER} in magnitude, found a larger one", position)
        return self._build(power, position, base, exponent)

    # -- names -------------------------------------------------------------------------------------------------------

    def _name(self, token: _Token) -> sp.Expr:
        if token.text == "x":
            return X
        if token.text == "pi":
            return sp.pi
        if token.text in self._parameters:
            return self._parameters[token.text]
        function = self._function(token)
        if not self._at("("):
            self._fail(f"expected '(' after the function {token.text} (write {token.text}(x)), found {self._token}")
        opening = self._advance()
        arguments: list[sp.Basic] = []
        while True:
            takes_condition = token.text == "where" and not arguments
            arguments.append(self._nested(self._condition if takes_condition else self._operand, _OR))
            if not self._at(","):
                break
            self._advance()
        self._close(opening)
        if isinstance(function, RegistryEntry):
            return self._admit(self._build(function.build, token.position, *arguments), token.position)
        if not function.least <= len(arguments) <= function.most:
            wanted = f"{function.least}" if function.least == function.most else f"at least {function.least}"
            self._fail(f"{token.text} takes {wanted} arguments, found {len(arguments)}", token.position)
        return self._admit(self._build(function.build, token.position, *arguments), token.position)

    def _function(self, token: _Token) -> _Function | RegistryEntry:
        if token.text in _FUNCTIONS:
            return _FUNCTIONS[token.text]
        try:
            return lookup(token.text)
        except ParseError:
            hint = _NAME_HINTS.get(token.text, "expected x, pi or a function")
            close = close_matches(token.text, _FUNCTIONS) if token.text not in _NAME_HINTS else ""
            self._fail(f"unknown name {token}, {hint}{close}", token.position)

    # -- bounds ------------------------------------------------------------------------------------------------------

    def _build(self, build: Callable[..., sp.Expr], position: int, *arguments: object) -> sp.Expr:
        """``build(*arguments)``, its complaint completed by the position."""
        try:
            return build(*arguments)
        except ParseError as error:
            self._fail(str(error), position)

    def _admit(self, value: sp.Basic, position: int) -> sp.Basic:
        """``value``, once it is known to be finite, real and of sane size."""
        self._build(self._measure, position, value)
        return value

    def _measure(self, value: sp.Basic) -> _Measure:
        if value not in self._measures:
            self._measures[value] = self._measured(value)
        return self._measures[value]

    def _measured(self, value: sp.Basic) -> _Measure:
        if value.is_Symbol:
            return _Measure(1, 1, 1.0, constant=False)
        parts = [self._measure(part) for part in value.args]
        nodes = 1 + sum(part.nodes for part in parts)
        depth = 1 + max((part.depth for part in parts), default=0)
        degree = self._degree(value, [part.degree for part in parts])
        constant = all(part.constant for part in parts)
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ParseError(f"the expression grows beyond {MAX_NODES} operations or {MAX_DEPTH} levels")
        if degree > MAX_DEGREE:
            raise ParseError(f"the degree of the expression grows beyond {MAX_DEGREE}")
        if constant and isinstance(value, sp.Expr):
            constant_value(value)
        return _Measure(nodes, depth, degree, constant)

    @staticmethod
    def _degree(value: sp.Basic, degrees: list[float]) -> float:
        if value.is_Mul:
            return sum(degrees)
        if value.is_Pow and degrees[0] > 0:
            return degrees[0] * abs(constant_value(value.exp))
        return max(degrees, default=0.0)
