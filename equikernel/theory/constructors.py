"""Constructors of SymPy expressions that never ask SymPy's assumption system anything.

They build plain SymPy nodes in SymPy's canonical order. Evaluated construction does ask, even for 2*exp(u) (is u real?
comparable?), and on nested arguments the answer can take minutes or raise. Everything here takes time linear in the
size of the result, up to sorting. Constants are decided by their value in two precisions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cmp_to_key, lru_cache
from typing import Any

import mpmath
import sympy as sp

from equikernel.errors import ParseError
from equikernel.theory.program import FUNCTIONS

__all__ = [
    "absolute",
    "add",
    "apply",
    "compare",
    "compose",
    "constant_value",
    "exponential",
    "is_constant",
    "maximum",
    "minimum",
    "multiply",
    "negate",
    "power",
    "select",
    "signum",
]

_LARGEST = 10**300  # constants stay inside the float64 range with room for a few operations
_MAX_BITS = 4096
_MAX_EXPONENT = 690  # exp(690) < 1e300
_MAX_LOG_FACTOR = 1000  # evaluated later, exp(n*log(c)) becomes c**n

_COARSE, _FINE = mpmath.MPContext(), mpmath.MPContext()
_COARSE.dps, _FINE.dps = 60, 130
_AGREEMENT = mpmath.mpf(10) ** -30

_ODD = {sp.sin, sp.tan, sp.sinh, sp.tanh, sp.atan, sp.asinh, sp.erf}
_EVEN = {sp.cos, sp.cosh}
_RELATIONS = {"<": sp.Lt, "<=": sp.Le, ">": sp.Gt, ">=": sp.Ge, "==": sp.Eq, "!=": sp.Ne}
_MIRROR = str.maketrans("<>", "><")
_IN_ORDER = cmp_to_key(sp.Basic.compare)


# -- constants -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _approximations(constant: sp.Expr) -> tuple[Any, Any]:
    """The value of an expression without symbols, in 60 and in 130 digits."""
    if constant.is_Rational and max(int(constant.p).bit_length(), int(constant.q).bit_length()) > _MAX_BITS:
        raise ParseError(f"a constant needs more than {_MAX_BITS} bits as an exact fraction")
    if constant == sp.I:
        raise ParseError("a constant is not a real number")
    if not constant.args and not constant.is_Rational and constant not in {sp.pi, sp.E}:
        raise ParseError("a constant is infinite or undefined")
    if constant.args and constant.func not in {sp.Add, sp.Mul, sp.Pow, *FUNCTIONS}:
        raise ParseError(f"a constant contains the function {constant.func.__name__}, which is not of the grammar")
    parts = [_approximations(part) for part in constant.args]
    try:
        low = _approximate(_COARSE, constant, [part[0] for part in parts])
        high = _approximate(_FINE, constant, [part[1] for part in parts])
    except (ArithmeticError, ValueError):
        raise ParseError("a constant is infinite or too large to compute") from None
    if not isinstance(high, _FINE.mpf):
        raise ParseError("a constant is not a real number")
    if constant != 0:
        if not abs(low - high) <= _AGREEMENT * abs(high) or high == 0:
            raise ParseError("a constant cannot be told from zero, or from infinity, with 130 digits")
        if not _FINE.mpf(1) / _LARGEST <= abs(high) <= _LARGEST:
            raise ParseError("a constant is outside 1e-300 ... 1e300 in magnitude")
    return low, high


def _approximate(context: Any, constant: sp.Expr, parts: list[Any]) -> Any:
    """The value of one node from those of its arguments."""
    if constant.is_Rational:
        return context.mpf(int(constant.p)) / int(constant.q)
    if constant.is_Add:
        return context.fsum(parts)
    if constant.is_Mul:
        return context.fprod(parts)
    if constant.is_Pow:
        return parts[0] ** parts[1]
    if constant == sp.pi:
        return +context.pi
    if constant == sp.E:
        return +context.e
    return getattr(context, FUNCTIONS[constant.func])(*parts)


def constant_value(constant: sp.Expr) -> float:
    """The float64 value of an expression without symbols, correctly rounded, and 0 for an exact zero only.

    Raises:
        ParseError: it is infinite or not real, cannot be told from zero with 130 digits, has a magnitude outside
            1e-300 ... 1e300, or is a fraction of more than 4096 bits.
    """
    return float(_approximations(constant)[1])


def is_constant(u: sp.Basic) -> bool:
    """Whether the node has no symbol."""
    return not u.free_symbols


@lru_cache(maxsize=4096)
def _is_real(u: sp.Expr) -> bool:
    """Whether ``u`` is real for every real x where it is defined, as far as its structure tells."""
    if u.is_Symbol or u.is_Rational or u.is_NumberSymbol or isinstance(u, (sp.Abs, sp.sign)):
        return True
    if isinstance(u, sp.log) or (u.is_Pow and not u.exp.is_Integer):
        return False
    return not isinstance(u, sp.Piecewise) and all(map(_is_real, u.args))


# -- constructors ----------------------------------------------------------------------------------------------------


def _scaled(factor: sp.Rational, rest: sp.Expr) -> sp.Expr:
    """factor*rest, for a ``rest`` without a rational factor of its own."""
    if factor == 0 or rest == 1:
        return factor
    if factor == 1:
        return rest
    return sp.Mul(factor, *sp.Mul.make_args(rest), evaluate=False)


def add(*terms: sp.Expr) -> sp.Expr:
    """The sum, with equal terms collected."""
    number = sp.S.Zero
    factors: defaultdict[sp.Expr, sp.Rational] = defaultdict(lambda: sp.S.Zero)
    for total in terms:
        for term in sp.Add.make_args(total):
            factor, rest = (term, sp.S.One) if term.is_Rational else term.as_coeff_Mul()
            if rest == 1:
                number += factor
            else:
                factors[rest] += factor
    kept = sorted((_scaled(factor, rest) for rest, factor in factors.items() if factor != 0), key=_IN_ORDER)
    return sp.Add(*([number] if number != 0 or not kept else []), *kept, evaluate=False)


def negate(u: sp.Expr) -> sp.Expr:
    """-u."""
    return multiply(sp.S.NegativeOne, u)


def multiply(*factors: sp.Expr) -> sp.Expr:
    """The product, with powers of equal bases and exponentials collected, and a rational factor carried into a sum."""
    number = sp.S.One
    exponents: defaultdict[sp.Expr, sp.Expr] = defaultdict(lambda: sp.S.Zero)
    logarithms: list[sp.Expr] = []
    for product in factors:
        for factor in sp.Mul.make_args(product):
            if factor.is_Rational:
                number *= factor
            elif isinstance(factor, sp.exp) or factor == sp.E:
                logarithms.append(factor.args[0] if factor.args else sp.S.One)
            else:
                rational_power = factor.is_Pow and factor.exp.is_Rational
                exponents[factor.base if rational_power else factor] += factor.exp if rational_power else 1
    if number == 0:
        return number
    kept = [power(base, exponent) for base, exponent in exponents.items() if exponent != 0]
    if logarithms:
        kept.append(exponential(add(*logarithms)))
    if any(factor.is_Rational or factor.is_Mul for factor in kept):  # what equal bases have become
        return multiply(number, *kept)
    if len(kept) == 1 and kept[0].is_Add:
        return add(*(_scaled(number * c, rest) for c, rest in (term.as_coeff_Mul() for term in kept[0].args)))
    return _scaled(number, sp.Mul(*sorted(kept, key=_IN_ORDER), evaluate=False))


def power(base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    """base**exponent for a constant exponent; (u**2)**(1/2) is abs(u) where u is known to be real.

    Raises:
        ParseError: zero to a negative power.
    """
    if exponent in {0, 1}:
        return base if exponent == 1 else sp.S.One
    if base == 0:
        if constant_value(exponent) < 0:
            raise ParseError("division by zero")
        return sp.S.Zero
    if base == 1 or (base.is_Rational and exponent.is_Rational):
        return sp.Pow(base, exponent)
    if exponent.is_Integer:
        return _integer_power(base, exponent)
    if isinstance(base, sp.exp) and _is_real(base.args[0]):
        return exponential(multiply(exponent, base.args[0]))
    outside: list[sp.Expr] = []
    inside: list[sp.Expr] = []
    for factor in sp.Mul.make_args(base):
        if factor.is_Rational and factor > 0 and exponent.is_Rational:
            outside.append(sp.Pow(factor, exponent))
        elif factor.is_Pow and factor.exp.is_Integer and factor.exp % 2 == 0 and _is_real(factor.base):
            outside.append(power(absolute(factor.base), multiply(factor.exp, exponent)))
        else:
            inside.append(factor)
    if outside:
        return multiply(*outside, power(multiply(*inside), exponent))
    return sp.Pow(base, exponent, evaluate=False)


def _integer_power(base: sp.Expr, exponent: sp.Integer) -> sp.Expr:
    if base.is_Mul:
        return multiply(*(power(factor, exponent) for factor in base.args))
    if base.is_Pow:
        return power(base.base, multiply(base.exp, exponent))
    if isinstance(base, sp.exp) or base == sp.E:
        return exponential(multiply(exponent, base.args[0] if base.args else sp.S.One))
    if isinstance(base, sp.Abs) and exponent % 2 == 0 and _is_real(base.args[0]):
        return power(base.args[0], exponent)
    return sp.Pow(base, exponent, evaluate=False)


def exponential(u: sp.Expr) -> sp.Expr:
    """e^u. Raises ParseError where SymPy, evaluating, would compute a huge number."""
    if is_constant(u) and abs(constant_value(u)) > _MAX_EXPONENT:
        raise ParseError(f"the exponent of a constant exp(...) is larger than {_MAX_EXPONENT} in magnitude")
    for term in sp.Add.make_args(u):
        factor, rest = term.as_coeff_Mul()
        if abs(factor) > _MAX_LOG_FACTOR and rest.has(sp.log):
            raise ParseError(f"an exponent has a logarithm multiplied by more than {_MAX_LOG_FACTOR}")
    if isinstance(u, sp.log):
        return u.args[0]
    return sp.exp(u) if u.is_Rational else sp.exp(u, evaluate=False)


def apply(function: Callable[..., sp.Expr], u: sp.Expr) -> sp.Expr:
    """function(u), for one of the elementary functions of the grammar."""
    if function is sp.exp:
        return exponential(u)
    factor, rest = u.as_coeff_Mul()
    if u.is_Rational or u == sp.E or (rest == sp.pi and max(abs(factor.p), factor.q) < 1000):
        return function(u)
    if function is sp.log and isinstance(u, sp.exp) and _is_real(u.args[0]):
        return u.args[0]
    if factor < 0 and function in _ODD:
        return negate(function(negate(u), evaluate=False))
    return function(negate(u) if factor < 0 and function in _EVEN else u, evaluate=False)


def absolute(u: sp.Expr) -> sp.Expr:
    """abs(u)."""
    if is_constant(u):
        return u if constant_value(u) >= 0 else negate(u)
    factor, rest = u.as_coeff_Mul()
    return multiply(abs(factor), rest if isinstance(rest, (sp.Abs, sp.exp)) else sp.Abs(rest, evaluate=False))


def signum(u: sp.Expr) -> sp.Expr:
    """-1, 0 or 1 with the sign of u."""
    if is_constant(u):
        value = constant_value(u)
        return sp.Integer((value > 0) - (value < 0))
    factor, rest = u.as_coeff_Mul()
    return multiply(sp.sign(factor), sp.sign(rest, evaluate=False))


def maximum(*args: sp.Expr) -> sp.Expr:
    """The largest argument."""
    return _extremum(sp.Max, args, ">")


def minimum(*args: sp.Expr) -> sp.Expr:
    """The smallest argument."""
    return _extremum(sp.Min, args, "<")


def _extremum(kind: Callable[..., sp.Expr], args: Iterable[sp.Expr], better: str) -> sp.Expr:
    kept: list[sp.Expr] = []
    best: sp.Expr | None = None
    for arg in (part for whole in args for part in (whole.args if whole.func is kind else (whole,))):
        if not is_constant(arg):
            kept.append(arg)
        elif best is None or compare(better, arg, best) == sp.true:
            best = arg
    return kind(*kept, *([] if best is None else [best]), evaluate=False)


def compare(operator: str, left: sp.Expr, right: sp.Expr) -> sp.Basic:
    """The condition ``left operator right``, decided when the two differ by a constant.

    ``operator`` is one of < <= > >= == != .

    Raises:
        ParseError: the difference is a constant that cannot be told from zero.
    """
    difference = add(left, negate(right))
    if not is_constant(difference):
        if is_constant(left):  # SymPy's canonical form has the constant on the right
            operator, left, right = operator.translate(_MIRROR), right, left
        return _RELATIONS[operator](left, right, evaluate=False)
    return _RELATIONS[operator](signum(difference), sp.S.Zero)


def select(condition: sp.Basic, then: sp.Expr, otherwise: sp.Expr) -> sp.Expr:
    """``then`` where the condition holds, ``otherwise`` elsewhere.

    Raises:
        ParseError: the condition itself contains a Piecewise (SymPy would multiply out the cases).
    """
    if condition.has(sp.Piecewise):
        raise ParseError("a condition contains where or hard_shrink, expected a comparison of expressions without them")
    if condition == sp.true or then == otherwise:
        return then
    if condition == sp.false:
        return otherwise
    return sp.Piecewise((then, condition), (otherwise, True), evaluate=False)


def compose(template: sp.Basic, values: Mapping[sp.Symbol, sp.Expr]) -> sp.Basic:
    """``template`` with its symbols replaced, rebuilt by the constructors of this module."""
    if is_constant(template):
        return template
    if template.is_Symbol:
        return values[template]
    if isinstance(template, sp.Piecewise):
        (then, condition), (otherwise, _) = template.args
        return select(compose(condition, values), compose(then, values), compose(otherwise, values))
    args = [compose(arg, values) for arg in template.args]
    if template.is_Relational:
        return compare(template.rel_op, *args)
    constructors: dict[Any, Callable[..., sp.Expr]] = {
        sp.Add: add,
        sp.Mul: multiply,
        sp.Pow: power,
        sp.Abs: absolute,
        sp.sign: signum,
        sp.Max: maximum,
        sp.Min: minimum,
    }
    build = constructors.get(template.func)
    return build(*args) if build is not None else apply(template.func, *args)
