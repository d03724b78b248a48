"""``Activation``: one object from which every arithmetic's function, derivative and LaTeX are derived."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import mpmath
import sympy as sp
from sympy.printing.latex import LatexPrinter

from equikernel.arithmetics import ARITHMETICS, BOUNDED_FLOAT64
from equikernel.errors import ActivationError, InputError
from equikernel.theory.grammar import parse
from equikernel.theory.multiprecision import mp_arithmetic
from equikernel.theory.piecewise import Piece, PiecewiseProgram, check_domain, smooth_pieces, value_at
from equikernel.theory.program import X
from equikernel.theory.registry import lookup, names
from equikernel.theory.roots import Breakpoint, compiled
from equikernel.theory.symmetry import is_odd_up_to_constant, parity

__all__ = [
    "Activation",
    "BoundedFunction",
    "Growth",
    "activation",
    "constant_activation",
    "exact_expression",
    "registry_names",
]

BoundedFunction = Callable[[Any, Any], tuple[Any, Any]]
_FAILURES = (ValueError, ZeroDivisionError, OverflowError)
_JUMP_DIGITS = 400
_LONG_FRACTION = 1000
_STEEP_DIGITS = 900


@dataclass(frozen=True)
class Growth:
    """log|phi(x)| <= rate*|x| + degree*log|x| + O(1), estimated at large |x|; rate > 0 means exponential growth."""

    rate: float
    degree: float

    @classmethod
    def of(cls, sizes: Sequence[float], reach: float) -> Growth:
        """Growth from log|phi| at three distances a decade apart, the last of which is ``reach``.

        Raises:
            ActivationError: log|phi| grows like x^2 or faster.
        """
        low, middle, high = (max(v, 0.0) for v in sizes)
        if high > 300.0 and middle > 0.0 and high / middle > 10.0**1.95:
            raise _too_fast()
        if high - middle < 3.0 * (middle - low) + 1.0:  # polynomial: the logarithm gains degree * log 10 a decade
            return cls(0.0, max((high - middle) / 2.302585, (middle - low) / 2.302585, 0.0))
        return cls(max((high - middle) / (0.9 * reach), 0.0), 0.0)


class _LatexPrinter(LatexPrinter):  # type: ignore[misc]  # SymPy's printers are untyped
    """SymPy's printer, which fails on powers of a Piecewise."""

    def _print_Pow(self, expr: sp.Expr) -> str:  # noqa: N802 - the name SymPy dispatches on
        if isinstance(expr.base, sp.Piecewise):
            return rf"\left({self._print(expr.base)}\right)^{{{self._print(expr.exp)}}}"
        return str(super()._print_Pow(expr))


class Activation:
    """An activation function, given by a SymPy expression in the real symbol ``x``.

    Attributes:
        name: the registry name or the text it was made from.
        expr: the expression as given.
        pieces: smooth expressions between the breakpoints, left to right.
        breakpoints: where phi or a derivative of phi is not smooth, in increasing order.
        jumps: the breakpoints at which phi itself jumps.
        parity: "even", "odd" or None.
        growth: growth at infinity.

    Raises:
        ActivationError: constant, complex or undefined on part of the line, infinitely many breakpoints, an
            unsupported function, or growth like exp(x^2), for which Gaussian moments do not exist.
    """

    def __init__(self, expr: sp.Expr, name: str | None = None) -> None:
        expr = exact_expression(sp.sympify(expr))
        _check_symbols(expr)
        self.expr = expr
        self.name = name or str(expr)
        self.pieces: tuple[Piece, ...] = smooth_pieces(expr)
        if len(self.pieces) == 1 and not self.pieces[0].expr.has(X):
            raise constant_activation(self.name, self.pieces[0].expr)
        for piece in self.pieces:
            check_domain(piece)
        self.growth = _growth(self.program)

    def __repr__(self) -> str:
        return f"activation({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and self.expr == other.expr

    def __hash__(self) -> int:
        return hash(self.expr)

    def __reduce__(self) -> tuple[Any, ...]:
        """Made anew from the expression: caches do not travel between processes."""
        return Activation, (self.expr, self.name)

    def __call__(self, x: Any) -> Any:
        """float64 values at ``x`` (scalar or array), relative error about 1e-13."""
        return self.function("numpy")(x)

    @property
    def record(self) -> dict[str, Any]:
        """What a layer's record holds besides the activation's text: {key of ``RECORDS``: record}, empty for text."""
        return {}

    @property
    def has_expression(self) -> bool:
        """Whether there is an expression to derive from: of a plain Python function there is none."""
        return True

    @cached_property
    def breakpoints(self) -> tuple[Breakpoint, ...]:
        return tuple(p.upper for p in self.pieces if p.upper is not None)

    @cached_property
    def program(self) -> PiecewiseProgram:
        """Phi as programs between breakpoints."""
        values = tuple(value_at(self.expr, b) for b in self.breakpoints)
        return PiecewiseProgram(self.breakpoints, tuple(compiled(p.expr) for p in self.pieces), values)

    @cached_property
    def derivative_program(self) -> PiecewiseProgram:
        """Phi' away from the breakpoints."""
        return self.program.derivative()

    @cached_property
    def jumps(self) -> tuple[Breakpoint, ...]:
        found = []
        for k, at in enumerate(self.breakpoints):
            if at.exact is not None and (self.pieces[k].expr - self.pieces[k + 1].expr).subs(X, at.exact) == 0:
                continue
            left, right = self.program.programs[k], self.program.programs[k + 1]
            for digits in (60, _JUMP_DIGITS):
                arithmetic = mp_arithmetic(digits)
                point = at.value(arithmetic)
                a, b = left.run(arithmetic, point), right.run(arithmetic, point)
                near = abs(a - b) <= arithmetic.context.mpf(10) ** (20 - digits) * max(1, abs(a), abs(b))
                if not near:
                    break
            if not near:
                found.append(at)
        return tuple(found)

    @cached_property
    def has_square_integrable_derivative(self) -> bool:
        """Whether E[phi'(tau xi)^2] is finite: no jumps, and |phi'| below |x - b|^(-1/2) near a breakpoint b."""
        return not self.jumps and not (self.has_algebraic_breakpoints and self._is_steep)

    @cached_property
    def has_algebraic_breakpoints(self) -> bool:
        """Whether a root or real power of something that vanishes at a breakpoint makes a piece singular there."""
        arithmetic = mp_arithmetic(60)
        for k, at in enumerate(self.breakpoints):
            for program in (self.program.programs[k], self.program.programs[k + 1]):
                values = program.trace(arithmetic, at.value(arithmetic))
                for op, args, _ in program.instructions:
                    if op in ("sqrt", "powr") and abs(values[args[0]]) < mpmath.mpf(10) ** -40:
                        return True
        return False

    @property
    def _is_steep(self) -> bool:
        """Whether |phi'| grows like |x - b|^(-1/2) or faster towards a breakpoint b, by its growth over 400 decades."""
        arithmetic = mp_arithmetic(_STEEP_DIGITS)
        c = arithmetic.context
        slopes = self.derivative_program.programs
        for k, at in enumerate(self.breakpoints):
            point = at.value(arithmetic)
            for program, side in ((slopes[k], -1), (slopes[k + 1], 1)):
                sizes = [abs(program.run(arithmetic, point + side * c.mpf(10) ** -e)) for e in (400, 800)]
                if min(sizes) > 0 and c.log10(sizes[1] / sizes[0]) / 400 > 0.5 - 1e-6:
                    return True
        return False

    @cached_property
    def parity(self) -> str | None:
        """Even, odd or None, proved on the expressions (``theory.symmetry``)."""
        return parity(self.expr, self.pieces)

    @cached_property
    def odd_up_to_constant(self) -> bool:
        """Whether phi - c is odd for some c, as for the sigmoid: then phi_c is odd, whatever the scale."""
        return self.parity == "odd" or is_odd_up_to_constant(self.expr, self.pieces)

    def function(self, arithmetic: str = "numpy", **options: Any) -> Callable[[Any], Any]:
        """Phi as a function: "numpy" (float64, vectorised), "mpmath" (``digits=50``) or "torch".

        Raises:
            InputError: unknown arithmetic.
        """
        return self._lower(self.program, arithmetic, options)

    def derivative(self, arithmetic: str = "numpy", **options: Any) -> Callable[[Any], Any]:
        """Phi' as a function; at a kink, the mean of the one-sided derivatives."""
        return self._lower(self.derivative_program, arithmetic, options)

    def float64_piece(self, k: int) -> tuple[BoundedFunction, BoundedFunction]:
        """Phi and phi' on the k-th smooth piece in float64, with error bounds.

        Both are functions of points inside the piece, shape (n,), and of ``needed``: None, or a function of (values,
        errors) that says which values are worth repairing where float64 lost accuracy. They return values and errors.
        """
        module, factory = BOUNDED_FLOAT64
        bounded = getattr(importlib.import_module(module), factory)
        return bounded(self.program.programs[k]), bounded(self.derivative_program.programs[k])

    @lru_cache(maxsize=32)  # noqa: B019 - activations are few and live as long as the process
    def _cached(self, derivative: bool, arithmetic: str, options: tuple[tuple[str, Any], ...]) -> Callable[[Any], Any]:
        module, factory = ARITHMETICS[arithmetic]
        program = self.derivative_program if derivative else self.program
        made: Callable[[Any], Any] = getattr(importlib.import_module(module), factory)(program, **dict(options))
        return made

    def _lower(self, program: PiecewiseProgram, arithmetic: str, options: dict[str, Any]) -> Callable[[Any], Any]:
        if arithmetic not in ARITHMETICS:
            known = ", ".join(sorted(ARITHMETICS))
            raise InputError(f"unknown arithmetic {arithmetic!r}: expected one of {known}")
        return self._cached(program is self.derivative_program, arithmetic, tuple(sorted(options.items())))

    def scaled(self, factor: sp.Expr) -> Activation:
        """The activation x -> phi(factor * x)."""
        return Activation(self.expr.subs(X, factor * X))

    def latex(self, digits: int | None = None) -> str:
        """phi(x) as LaTeX; with ``digits``, fractions of more than three digits as decimals of so many."""
        expr = self.expr
        if digits is not None:
            long = [r for r in expr.atoms(sp.Rational) if max(abs(r.p), r.q) >= _LONG_FRACTION]
            expr = expr.xreplace({r: sp.Float(r, digits) for r in long})
        return str(_LatexPrinter().doprint(expr))

    def to_dict(self) -> dict[str, Any]:
        """Name, expression, breakpoints, jumps, parity and LaTeX, as plain JSON types."""
        return {
            "name": self.name,
            "expression": str(self.expr),
            "latex": self.latex(),
            "breakpoints": [str(b.to_sympy()) for b in self.breakpoints],
            "jumps": [str(b.to_sympy()) for b in self.jumps],
            "parity": self.parity,
        }


def decimal_of(number: sp.Float) -> sp.Rational:
    """The shortest decimal that a SymPy Float stands for: 0.1 is 1/10, with as many digits as it carries."""
    # SymPy prints 15 digits of a float64, two fewer than it may take to tell it from its neighbours
    is_float64 = sp.Rational(number) == sp.Rational(float(number))
    return sp.Rational(repr(float(number)) if is_float64 else str(number))


def exact_expression(expr: sp.Expr) -> sp.Expr:
    """Floats replaced by the decimal fractions they print as, before any algebra touches them."""
    return expr.xreplace({f: decimal_of(f) for f in expr.atoms(sp.Float)})


def _check_symbols(expr: sp.Expr) -> None:
    if not isinstance(expr, sp.Expr):
        raise ActivationError(f"an activation must be an expression in x; got {expr!r}")
    others = sorted(str(s) for s in expr.free_symbols - {X})
    if others:
        raise ActivationError(
            f"an activation must depend on x alone; got the other symbol{'s' * (len(others) > 1)} {', '.join(others)}: "
            "put numbers in their place"
        )
    if expr.has(sp.I, sp.zoo, sp.nan, sp.oo, -sp.oo):
        raise ActivationError(
            f"an activation must be real and finite; got {expr}, which has a complex or infinite part"
        )


def _growth(program: PiecewiseProgram) -> Growth:
    """Growth at infinity from |phi| and |phi'| around |x| = 10^2, 10^3, 10^4.

    Raises:
        ActivationError: log|phi| grows like x^2 or faster.
    """
    arithmetic = mp_arithmetic(30)
    c = arithmetic.context
    slopes = program.derivative()
    logs = []
    widest = 1 + 5 * 0.0137
    for exponent in (2, 3, 4):
        largest = c.zero
        for k in range(6):
            x = c.mpf(10) ** exponent * (widest - k * c.mpf("0.0137"))
            for signed in (x, -x):
                try:
                    sizes = [abs(p.run(arithmetic, signed)) for p in (program, slopes)]
                except OverflowError:
                    raise _too_fast() from None
                except (ValueError, ZeroDivisionError):
                    raise ActivationError(
                        f"the activation is undefined at x = {c.nstr(signed, 6)}; "
                        "it must be real and finite for every x"
                    ) from None
                largest = max(largest, *sizes)
        logs.append(float(c.log(largest)) if largest > 0 else 0.0)
    return Growth.of(logs, 1e4 * widest)


def constant_activation(name: str, value: object) -> ActivationError:
    """The error for an activation that does not depend on x."""
    return ActivationError(
        f"the activation {name} is the constant {value}: its kernels vanish; an activation must depend on x"
    )


def _too_fast() -> ActivationError:
    return ActivationError(
        "the activation grows (or oscillates) too fast: its Gaussian moments do not exist or cannot be computed; "
        "at most exponential growth, exp(c*|x|), is allowed"
    )


def activation(spec: str | sp.Expr | Activation, name: str | None = None) -> Activation:
    """An ``Activation`` from a registry name, a string of the safe grammar, or a SymPy expression in one symbol.

    Strings never reach an evaluator: they are parsed by ``theory.grammar``. Decimal numbers are exact (0.1 is 1/10).

    Args:
        spec: ``"gelu"``, ``"x*tanh(log(1+exp(x)))"``, a SymPy expression, or an Activation (returned as it is).
        name: how to call it in tables; by default the spec's text.

    Raises:
        ParseError: a string that is neither a name nor an expression of the grammar.
        ActivationError: see ``Activation``.
    """
    if isinstance(spec, Activation):
        return spec
    if isinstance(spec, str):
        return _from_text(spec, name)
    if isinstance(spec, sp.Expr):
        symbols = spec.free_symbols
        if len(symbols) == 1 and X not in symbols:
            symbol = next(iter(symbols))
            if str(symbol) == "x":
                spec = spec.subs(symbol, X)
        return Activation(spec, name)
    raise InputError(
        f"an activation is a registry name, an expression string or a SymPy expression; got {type(spec).__name__}"
        + (" (for a Python function, use callable_activation)" if callable(spec) else "")
    )


@lru_cache(maxsize=256)
def _from_text(text: str, name: str | None) -> Activation:
    stripped = text.strip()
    try:
        entry = lookup(stripped)
    except InputError:
        return Activation(parse(text), name or stripped)
    return Activation(entry.build(), name or entry.name)


def registry_names() -> tuple[str, ...]:
    """The names in the registry."""
    return names()
