"""An expression as a straight-line program, run unchanged in every arithmetic.

A ``Program`` is a list of elementary operations on earlier results, built once from a smooth SymPy expression in the
real symbol ``x``. An ``Arithmetic`` gives the operations a meaning (float64 arrays, mpmath numbers, torch tensors).
Building rewrites what would overflow or cancel: ``log(1+exp(u))`` becomes ``softplus(u)``, ``1+erf(u)`` becomes
``erfc(-u)``, ``exp(u)-1`` becomes ``expm1(u)`` and so on. Differentiation works on the program, so that derivatives
are made of the same stable operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import sympy as sp

from equikernel.errors import ActivationError

__all__ = ["FUNCTIONS", "Arithmetic", "Instruction", "Operators", "Program", "X", "compile_expression"]

X = sp.Symbol("x", real=True)


class Arithmetic(Protocol):
    """What a number system must offer to run programs; every method is elementwise.

    ``unary(name)`` returns the function for one of ``exp expm1 log log1p sqrt sin cos tan sinh cosh tanh sech2 atan
    asinh erf erfc sigmoid softplus log_cosh``. ``constant`` turns an exact SymPy number into one of this arithmetic;
    ``fill`` makes a constant the shape of ``x``.
    """

    def constant(self, value: sp.Expr) -> Any: ...
    def unary(self, name: str) -> Callable[[Any], Any]: ...
    def add(self, a: Any, b: Any) -> Any: ...
    def mul(self, a: Any, b: Any) -> Any: ...
    def div(self, a: Any, b: Any) -> Any: ...
    def neg(self, a: Any) -> Any: ...
    def powi(self, a: Any, n: int) -> Any: ...
    def powr(self, a: Any, exponent: Any) -> Any: ...
    def fill(self, x: Any, value: Any) -> Any: ...


class Operators:
    """The arithmetic operations of numbers that have Python's operators, for arithmetics to inherit."""

    def add(self, a: Any, b: Any) -> Any:
        return a + b

    def mul(self, a: Any, b: Any) -> Any:
        return a * b

    def div(self, a: Any, b: Any) -> Any:
        return a / b

    def neg(self, a: Any) -> Any:
        return -a

    def powi(self, a: Any, n: int) -> Any:
        return a**n

    def powr(self, a: Any, exponent: Any) -> Any:
        return a**exponent


class Instruction(NamedTuple):
    """One operation: its name, the indices of its arguments, and an exact constant or integer where it has one."""

    op: str
    args: tuple[int, ...] = ()
    payload: sp.Expr | int | None = None


# SymPy functions that are one operation
FUNCTIONS: dict[type, str] = {
    sp.exp: "exp",
    sp.log: "log",
    sp.sin: "sin",
    sp.cos: "cos",
    sp.tan: "tan",
    sp.sinh: "sinh",
    sp.cosh: "cosh",
    sp.tanh: "tanh",
    sp.atan: "atan",
    sp.asinh: "asinh",
    sp.erf: "erf",
    sp.erfc: "erfc",
}
_BINARY = frozenset({"add", "mul", "div"})
_REWRITES: dict[type, Callable[[sp.Expr], sp.Expr]] = {
    sp.sech: lambda u: 1 / sp.cosh(u),
    sp.csch: lambda u: 1 / sp.sinh(u),
    sp.coth: lambda u: sp.cosh(u) / sp.sinh(u),
    sp.sec: lambda u: 1 / sp.cos(u),
    sp.csc: lambda u: 1 / sp.sin(u),
    sp.cot: lambda u: sp.cos(u) / sp.sin(u),
}


class Program:
    """A straight-line program in one variable. Instruction 0 is ``x``; the last instruction named by ``result``."""

    def __init__(self, instructions: Sequence[Instruction], result: int) -> None:
        self.instructions = tuple(instructions)
        self.result = result

    def __len__(self) -> int:
        return len(self.instructions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and (self.instructions, self.result) == (other.instructions, other.result)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.instructions, self.result))

    @cached_property
    def is_constant(self) -> bool:
        """Whether the result does not depend on x."""
        return self.instructions[self.result].op == "const"

    def run(self, arithmetic: Arithmetic, x: Any) -> Any:
        """Evaluate at ``x`` (a number or array of the arithmetic); the result has the shape of ``x``."""
        value = self.trace(arithmetic, x)[self.result]
        return arithmetic.fill(x, value) if self.is_constant else value

    def trace(self, arithmetic: Arithmetic, x: Any) -> list[Any]:
        """The values of all instructions at ``x``."""
        values: list[Any] = []
        for op, args, payload in self.instructions:
            values.append(x if op == "x" else _apply(arithmetic, op, [values[a] for a in args], payload))
        return values

    def derivative(self) -> Program:
        """The program of d/dx, by forward differentiation of every instruction."""
        builder = _Builder()
        return builder.program(self._differentiated(builder)[1])[0]

    @cached_property
    def with_derivative(self) -> tuple[Program, int, int]:
        """One program that computes value and derivative, and the two instructions that hold them."""
        builder = _Builder()
        both, (value, slope) = builder.program(*self._differentiated(builder))
        return both, value, slope

    def _differentiated(self, builder: _Builder) -> tuple[int, int]:
        """Value and derivative among the instructions of a builder."""
        image: list[int] = []
        slopes: list[int | None] = []  # None stands for an identically zero derivative
        for op, args, payload in self.instructions:
            index = builder.copy(op, tuple(image[a] for a in args), payload)
            image.append(index)
            slopes.append(_slope(builder, op, [image[a] for a in args], payload, index, [slopes[a] for a in args]))
        slope = slopes[self.result]
        return image[self.result], builder.const(sp.S.Zero) if slope is None else slope


def _apply(arithmetic: Arithmetic, op: str, args: list[Any], payload: Any) -> Any:
    """One instruction other than ``x`` on values of an arithmetic."""
    if op == "const":
        return arithmetic.constant(payload)
    if op in _BINARY:
        return getattr(arithmetic, op)(*args)
    if op == "powi":
        return arithmetic.powi(args[0], int(payload))
    if op == "powr":
        return arithmetic.powr(args[0], arithmetic.constant(payload))
    return arithmetic.neg(args[0]) if op == "neg" else arithmetic.unary(op)(args[0])


class _Builder:
    """Appends instructions, sharing equal ones and folding constants."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = [Instruction("x")]
        self._index: dict[Instruction, int] = {self.instructions[0]: 0}
        self._memo: dict[sp.Expr, int] = {}

    @property
    def one(self) -> int:
        return self.const(sp.S.One)

    def program(self, *results: int) -> tuple[Program, tuple[int, ...]]:
        """The instructions that the results need, renumbered, and where the results are in it."""
        needed = {0, *results}
        for index in range(max(results), -1, -1):
            if index in needed:
                needed.update(self.instructions[index].args)
        order = sorted(needed)
        place = {old: new for new, old in enumerate(order)}
        kept = [
            Instruction(i.op, tuple(place[a] for a in i.args), i.payload)
            for i in (self.instructions[old] for old in order)
        ]
        return Program(kept, place[results[-1]]), tuple(place[r] for r in results)

    def emit(self, op: str, *args: int, payload: sp.Expr | int | None = None) -> int:
        instruction = Instruction(op, args, payload)
        if instruction not in self._index:
            self._index[instruction] = len(self.instructions)
            self.instructions.append(instruction)
        return self._index[instruction]

    def copy(self, op: str, args: tuple[int, ...], payload: sp.Expr | int | None) -> int:
        return 0 if op == "x" else self.emit(op, *args, payload=payload)

    def const(self, value: sp.Expr) -> int:
        return self.emit("const", payload=sp.sympify(value))

    def constant_value(self, index: int) -> sp.Expr | None:
        instruction = self.instructions[index]
        return instruction.payload if instruction.op == "const" else None

    def add(self, a: int, b: int) -> int:
        ca, cb = self.constant_value(a), self.constant_value(b)
        if ca == 0:
            return b
        if cb == 0:
            return a
        return self.const(ca + cb) if ca is not None and cb is not None else self.emit("add", a, b)

    def mul(self, a: int, b: int) -> int:
        ca, cb = self.constant_value(a), self.constant_value(b)
        if ca is not None and cb is not None:
            return self.const(ca * cb)
        if ca == 0 or cb == 0:
            return self.const(sp.S.Zero)
        if ca == 1:
            return b
        if cb == 1:
            return a
        if ca == -1:
            return self.neg(b)
        return self.neg(a) if cb == -1 else self.emit("mul", a, b)

    def div(self, a: int, b: int) -> int:
        cb = self.constant_value(b)
        return self.mul(a, self.const(1 / cb)) if cb is not None else self.emit("div", a, b)

    def neg(self, a: int) -> int:
        ca = self.constant_value(a)
        if ca is not None:
            return self.const(-ca)
        instruction = self.instructions[a]
        return instruction.args[0] if instruction.op == "neg" else self.emit("neg", a)

    def powi(self, a: int, n: int) -> int:
        if n == 0:
            return self.const(sp.S.One)
        if n < 0:
            return self.div(self.const(sp.S.One), self.powi(a, -n))
        return a if n == 1 else self.emit("powi", a, payload=n)

    def powr(self, a: int, exponent: sp.Expr) -> int:
        if exponent.is_Integer:
            return self.powi(a, int(exponent))
        if exponent == sp.Rational(1, 2):
            return self.emit("sqrt", a)
        if exponent.is_negative:
            return self.div(self.const(sp.S.One), self.powr(a, -exponent))
        return self.emit("powr", a, payload=exponent)

    # -- from SymPy ----------------------------------------------------------------------------------------------

    def build(self, expr: sp.Expr) -> int:
        if expr not in self._memo:
            self._memo[expr] = self._build(expr)
        return self._memo[expr]

    def _build(self, expr: sp.Expr) -> int:
        if expr == X:
            return 0
        if not expr.has(X):
            return self.const(expr)
        if expr.is_Add:
            return self._sum(list(expr.args))
        if expr.is_Mul:
            return self._product(expr)
        if expr.is_Pow:
            base, exponent = expr.args
            if exponent.has(X):
                return self.emit("exp", self.build(exponent * sp.log(base)))
            if exponent.is_negative:
                return self._product(expr)
            return self.powr(self.build(base), exponent)
        if isinstance(expr, sp.log):
            return self._log(expr.args[0])
        kind = type(expr)
        if kind in FUNCTIONS:
            return self.emit(FUNCTIONS[kind], self.build(expr.args[0]))
        if kind in _REWRITES:
            return self.build(_REWRITES[kind](expr.args[0]))
        raise ActivationError(
            f"the function {kind.__name__} is not supported in an activation; "
            "use exp, log, powers, trigonometric, hyperbolic, atan, asinh, erf and their compositions"
        )

    def _sum(self, terms: list[sp.Expr]) -> int:
        indices: list[int] = []
        while terms:
            term = terms.pop()
            paired = self._pair(term, terms)
            if paired is None:
                paired = self._pair_other(term, terms)
            indices.append(self.build(term) if paired is None else paired)
        total = indices.pop()
        while indices:
            total = self.add(total, indices.pop())
        return total

    def _pair(self, term: sp.Expr, others: list[sp.Expr]) -> int | None:
        """Join ``R f(u)`` with ``+R`` or ``-R`` among ``others`` when the sum has a form without cancellation."""
        for factor in sp.Mul.make_args(term):
            base, exponent = factor.as_base_exp() if not isinstance(factor, sp.exp) else (factor, sp.S.One)
            if not isinstance(base, (sp.exp, sp.erf, sp.erfc, sp.tanh, sp.cos)):
                continue
            rest = term / factor
            u = base.args[0]
            for partner, sign in ((rest, 1), (-rest, -1)):
                if partner not in others:
                    continue
                stable = self._stable_pair(base, exponent, u, sign)
                if stable is not None:
                    others.remove(partner)
                    return self.mul(self.build(rest), stable)
        return None

    def _pair_other(self, term: sp.Expr, others: list[sp.Expr]) -> int | None:
        """The same with ``term`` in the part of R: look for the other member among ``others``."""
        for other in others:
            if abs(len(sp.Mul.make_args(other)) - len(sp.Mul.make_args(term))) <= 2 and other.has(
                sp.exp, sp.erf, sp.erfc, sp.tanh, sp.cos
            ):
                rest = [term]
                paired = self._pair(other, rest)
                if paired is not None:
                    others.remove(other)
                    return paired
        return None

    def _stable_pair(self, base: sp.Expr, exponent: sp.Expr, u: sp.Expr, sign: int) -> int | None:
        """f(u) + sign without cancellation, or None."""
        if exponent == 2 and isinstance(base, sp.tanh) and sign < 0:
            return self.neg(self.emit("sech2", self.build(u)))
        if exponent != 1:
            return None
        if isinstance(base, sp.exp) and sign < 0:
            return self.emit("expm1", self.build(u))
        if isinstance(base, sp.erf):
            value = self.emit("erfc", self.build(-u if sign > 0 else u))
            return value if sign > 0 else self.neg(value)
        if isinstance(base, sp.erfc) and sign < 0:
            return self.neg(self.emit("erf", self.build(u)))
        if isinstance(base, sp.tanh):
            return self.mul(self.const(sp.Integer(2 * sign)), self.emit("sigmoid", self.build(2 * sign * u)))
        if isinstance(base, sp.cos) and sign < 0:
            return self.mul(self.const(sp.Integer(-2)), self.powi(self.emit("sin", self.build(u / 2)), 2))
        return None

    def _product(self, expr: sp.Expr) -> int:
        numerator: list[int] = []
        denominator: list[int] = []
        sigmoids: list[tuple[sp.Expr, int]] = []
        exponent_sum: sp.Expr = sp.S.Zero
        factors = list(sp.Mul.make_args(expr))
        for sinh in [f for f in factors if isinstance(f, sp.sinh) and 1 / sp.cosh(f.args[0]) in factors]:
            # each alone overflows where their quotient is 1
            factors.remove(sinh)
            factors.remove(1 / sp.cosh(sinh.args[0]))
            factors.append(sp.tanh(sinh.args[0]))
        for factor in factors:
            if isinstance(factor, sp.exp):
                exponent_sum += factor.args[0]
                continue
            base, exponent = factor.as_base_exp()
            logistic = _logistic_argument(base) if exponent.is_Integer and exponent < 0 else None
            if logistic is not None:
                scale, u = logistic
                numerator.append(self.const(scale**exponent))
                sigmoids.append((u, -int(exponent)))
            elif factor.has(X) and exponent.is_negative and not exponent.has(X):
                denominator.append(self.powr(self.build(base), -exponent))
            elif factor.is_Pow and not factor.has(X):
                numerator.append(self.const(factor))
            else:
                numerator.append(self.build(factor))
        for u, power in sigmoids:
            # e^{ju} / (1 + e^u)^power = sigmoid(u)^j sigmoid(-u)^(power - j)
            taken = next((j for j in range(power, 0, -1) if sp.expand(exponent_sum - j * u) == 0), 0)
            if taken:
                exponent_sum = sp.S.Zero
                numerator.append(self.powi(self.emit("sigmoid", self.build(u)), taken))
            if power > taken:
                numerator.append(self.powi(self.emit("sigmoid", self.build(-u)), power - taken))
        if exponent_sum != 0:
            numerator.append(
                self.emit("exp", self.build(exponent_sum)) if exponent_sum.has(X) else self.const(sp.exp(exponent_sum))
            )
        value = self._multiply(numerator)
        return self.div(value, self._multiply(denominator)) if denominator else value

    def _multiply(self, indices: list[int]) -> int:
        product = self.const(sp.S.One)
        for index in indices:
            product = self.mul(product, index)
        return product

    def _log(self, argument: sp.Expr) -> int:
        if isinstance(argument, sp.cosh):
            return self.emit("log_cosh", self.build(argument.args[0]))
        if argument.is_Add:
            terms = [_scaled_exponential(term) for term in argument.args]
            if len(terms) == 2 and all(t is not None for t in terms):
                (c1, u1), (c2, u2) = (t for t in terms if t is not None)
                if u2 == 0:
                    c1, u1, c2, u2 = c2, u2, c1, u1
                gap = u2 - u1 + sp.log(c2 / c1)
                return self.add(self.build(u1 + sp.log(c1)), self.emit("softplus", self.build(gap)))
            rest = argument - 1
            if not rest.is_Add or not any(not t.has(X) for t in rest.args):
                return self.emit("log1p", self.build(rest))
        return self.emit("log", self.build(argument))


def _scaled_exponential(term: sp.Expr) -> tuple[sp.Expr, sp.Expr] | None:
    """``(c, u)`` with term = c e^u, c > 0 free of x; None when it has another form."""
    coefficient, rest = term.as_independent(X, as_Add=False)
    if not coefficient.is_positive:
        return None
    if rest == 1:
        return coefficient, sp.S.Zero
    return (coefficient, rest.args[0]) if isinstance(rest, sp.exp) else None


def _logistic_argument(base: sp.Expr) -> tuple[sp.Expr, sp.Expr] | None:
    """``(c, u)`` with base = c (1 + e^u), c > 0 free of x; None otherwise."""
    if not base.is_Add or len(base.args) != 2:
        return None
    terms = [_scaled_exponential(term) for term in base.args]
    if terms[0] is None or terms[1] is None:
        return None
    (c1, u1), (c2, u2) = sorted((terms[0], terms[1]), key=lambda t: t[1] != 0)
    return (c1, u2 + sp.log(c2 / c1)) if u1 == 0 and u2 != 0 else None


def _slope(b: _Builder, op: str, args: list[int], payload: Any, index: int, slopes: list[int | None]) -> int | None:
    """The derivative of one instruction by the chain rule; ``index`` is the instruction's own value."""
    if op == "x":
        return b.const(sp.S.One)
    if op == "const" or all(s is None for s in slopes):
        return None
    if op == "add":
        present = [s for s in slopes if s is not None]
        return present[0] if len(present) == 1 else b.add(present[0], present[1])
    if op == "mul":
        products = [b.mul(s, args[1 - i]) for i, s in enumerate(slopes) if s is not None]
        return products[0] if len(products) == 1 else b.add(products[0], products[1])
    if op == "div":
        numerator = slopes[0]
        denominator = slopes[1]
        first = None if numerator is None else b.div(numerator, args[1])
        if denominator is None:
            return first
        second = b.neg(b.mul(index, b.div(denominator, args[1])))
        return second if first is None else b.add(first, second)
    inner = slopes[0]
    if inner is None:
        return None
    if op == "neg":
        return b.neg(inner)
    return b.mul(_OUTER_SLOPES[op](b, args[0], payload, index), inner)


_OuterSlope = Callable[[_Builder, int, Any, int], int]

# f'(u) for a one-argument operation, from (builder, u, payload, index of f(u))
_OUTER_SLOPES: dict[str, _OuterSlope] = {
    "powi": lambda b, u, n, f: b.mul(b.const(sp.Integer(n)), b.powi(u, int(n) - 1)),
    "powr": lambda b, u, c, f: b.mul(b.const(c), b.powr(u, c - 1)),
    "sqrt": lambda b, u, _, f: b.div(b.const(sp.Rational(1, 2)), f),
    "exp": lambda b, u, _, f: f,
    "expm1": lambda b, u, _, f: b.emit("exp", u),
    "log": lambda b, u, _, f: b.div(b.one, u),
    "log1p": lambda b, u, _, f: b.div(b.one, b.add(b.one, u)),
    "sin": lambda b, u, _, f: b.emit("cos", u),
    "cos": lambda b, u, _, f: b.neg(b.emit("sin", u)),
    "tan": lambda b, u, _, f: b.div(b.one, b.powi(b.emit("cos", u), 2)),
    "sinh": lambda b, u, _, f: b.emit("cosh", u),
    "cosh": lambda b, u, _, f: b.emit("sinh", u),
    "tanh": lambda b, u, _, f: b.emit("sech2", u),
    "sech2": lambda b, u, _, f: b.mul(b.const(sp.Integer(-2)), b.mul(b.emit("tanh", u), f)),
    "atan": lambda b, u, _, f: b.div(b.one, b.add(b.one, b.powi(u, 2))),
    "asinh": lambda b, u, _, f: b.div(b.one, b.emit("sqrt", b.add(b.one, b.powi(u, 2)))),
    "erf": lambda b, u, _, f: b.mul(b.const(2 / sp.sqrt(sp.pi)), b.emit("exp", b.neg(b.powi(u, 2)))),
    "erfc": lambda b, u, _, f: b.mul(b.const(-2 / sp.sqrt(sp.pi)), b.emit("exp", b.neg(b.powi(u, 2)))),
    "sigmoid": lambda b, u, _, f: b.mul(f, b.emit("sigmoid", b.neg(u))),
    "softplus": lambda b, u, _, f: b.emit("sigmoid", u),
    "log_cosh": lambda b, u, _, f: b.emit("tanh", u),
}


def compile_expression(expr: sp.Expr) -> Program:
    """The program of a smooth expression in ``X`` (no Abs, Max, Piecewise: see ``piecewise.smooth_pieces``).

    Raises:
        ActivationError: the expression has a function outside the supported set.
    """
    builder = _Builder()
    return builder.program(builder.build(expr))[0]
