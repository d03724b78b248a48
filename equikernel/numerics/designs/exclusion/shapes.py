"""What the formula of a layer shows for all values of its parameters: symmetry, and behaviour under scaling."""

from __future__ import annotations

import sympy as sp

from equikernel.theory.closed_forms import TAU
from equikernel.theory.families import FAMILIES, LayerFamily
from equikernel.theory.program import X

__all__ = ["is_even", "is_hard_tanh", "is_odd", "scales"]

_ODD = (sp.sin, sp.tan, sp.sinh, sp.tanh, sp.asin, sp.atan, sp.asinh, sp.atanh, sp.erf, sp.erfi, sp.sign)
_SWITCHES = (sp.Piecewise, sp.DiracDelta)


def is_odd(layer: LayerFamily) -> bool:
    """Whether sigma is proved odd up to a constant, whatever the parameters: then d2 = 0."""
    terms = sp.Add.make_args(layer.expr)
    return all(_symmetry(term) == -1 for term in terms if term.has(X))


def is_even(layer: LayerFamily) -> bool:
    """Whether sigma is proved even, whatever the parameters: then d1 = 0."""
    return _symmetry(layer.expr) == 1


def is_hard_tanh(layer: LayerFamily) -> bool:
    """Whether this is a*clip(x, -c, c) with a, c > 0."""
    return layer == FAMILIES["hard-tanh"].layers[0]


def _symmetry(expr: sp.Expr) -> int | None:
    """1 for even, -1 for odd, None for neither or unknown; by the rules of composition, from the leaves up."""
    if not expr.has(X):
        return 1
    if expr == X:
        return -1
    if expr.has(*_SWITCHES):
        return None
    if isinstance(expr, (sp.Min, sp.Max)) and _is_clip(expr):
        return -1
    parts = [_symmetry(arg) for arg in expr.args]
    if all(part == 1 for part in parts):
        return 1
    if None in parts:
        return None
    return _of_parts(expr, [part for part in parts if part is not None])


def _of_parts(expr: sp.Expr, parts: list[int]) -> int | None:
    """The symmetry of an expression whose arguments have one each, not all even."""
    if expr.is_Mul:
        return -1 if parts.count(-1) % 2 else 1
    if expr.is_Add:
        return -1 if 1 not in parts else None
    if expr.is_Pow and expr.exp.is_Integer:
        return -1 if expr.exp % 2 else 1
    if isinstance(expr, (sp.Abs, sp.cos, sp.cosh)):
        return 1
    return -1 if isinstance(expr, _ODD) else None


def _is_clip(expr: sp.Expr) -> bool:
    """Whether this is min(c, max(-c, u)), or max and min exchanged, with u odd and c >= 0."""
    inner_kind = sp.Max if isinstance(expr, sp.Min) else sp.Min
    inner = [arg for arg in expr.args if isinstance(arg, inner_kind)]
    if len(expr.args) != 2 or len(inner) != 1 or len(inner[0].args) != 2:
        return False
    (outer_end,) = (arg for arg in expr.args if arg is not inner[0])
    inside = [arg for arg in inner[0].args if arg.has(X)]
    ends = [arg for arg in inner[0].args if not arg.has(X)]
    if len(inside) != 1 or len(ends) != 1 or outer_end.has(X):
        return False
    upper = outer_end if isinstance(expr, sp.Min) else ends[0]
    return bool(upper.is_nonnegative) and outer_end + ends[0] == 0 and _symmetry(inside[0]) == -1


def scales(layer: LayerFamily) -> bool:
    """Whether each basis function has f(c x, c tau) = c^m f(x, tau): an input of another scale changes nothing."""
    return layer.basis is not None and all(_degree(f) is not None for f in layer.basis)


def _degree(expr: sp.Expr) -> sp.Expr | None:
    """The m of an expression in x and tau that is proved homogeneous under positive factors."""
    if expr in (X, TAU):
        return sp.S.One
    if not expr.has(X, TAU):
        return sp.S.Zero
    if expr.has(*_SWITCHES):
        return None
    degrees = [_degree(arg) for arg in expr.args if arg != 0]
    if None in degrees:
        return None
    if isinstance(expr, sp.sign) or set(degrees) == {sp.S.Zero}:
        return sp.S.Zero
    if expr.is_Mul:
        return sp.Add(*degrees)
    if expr.is_Pow:
        return degrees[0] * expr.exp if expr.exp.is_Rational else None
    return degrees[0] if isinstance(expr, (sp.Add, sp.Max, sp.Min, sp.Abs)) and len(set(degrees)) == 1 else None
