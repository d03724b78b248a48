"""An explicit network of several layers: the recursion of ``theory.derivation`` composed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import sympy as sp

from equikernel.theory.derivation import derive_explicit_layer, equate, symbol
from equikernel.theory.equations import explicit_input

__all__ = ["unrolled"]


def unrolled(layers: int, closed: Mapping[str, sp.Expr]) -> dict[str, sp.Eq]:
    """The scales tau2_1, tau2_2, ... of the layers and the coefficients after the last one.

    Powers of sums would fill pages: of the closed forms, the coefficients get those that are no sums in tau.

    Args:
        layers: how many; none gives no equations.
        closed: closed forms of V, d1, d2, h, v in ``symbol("tau")``, by name.
    """
    if not layers:
        return {}
    start = explicit_input(symbol("tau0") ** 2)
    state = {f.name: sp.sympify(getattr(start, f.name)) for f in fields(start)}
    short = {name: value for name, value in closed.items() if not (value.is_Add and value.has(symbol("tau")))}
    scales: dict[str, sp.Eq] = {}
    known: dict[sp.Symbol, sp.Expr] = {}
    for k in range(1, layers + 1):
        below = {symbol("tau"): symbol("tau0") if k == 1 else sp.sqrt(symbol(f"tau2_{k - 1}"))}
        V = closed.get("V", symbol(f"V_{k}")).xreplace(below)
        scales[f"tau2_{k}"] = equate(symbol(f"tau2_{k}"), V)
        known |= {symbol(f"{name}_{k}"): value.xreplace(below) for name, value in short.items()}
        values = {symbol(name): symbol(f"{name}_{k}") for name in ("V", "d1", "d2", "h", "v")}
        values |= {symbol(f"{name}_prev"): value for name, value in state.items()}
        for name, equation in derive_explicit_layer().results.items():
            # a result may use others of the same layer, which come before it
            state[name] = values[equation.lhs] = sp.expand(equation.rhs.xreplace(values))
    known |= {symbol(f"V_{k}"): symbol(f"tau2_{k}") for k in range(1, layers + 1)}
    last = {f"{name}_{layers}": value.xreplace(known) for name, value in state.items() if name != "tau2"}
    return scales | {name: equate(symbol(name), value) for name, value in last.items()}
