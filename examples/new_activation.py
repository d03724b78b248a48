"""An activation of your own: its moments, its fixed point, and the coefficients of its kernels.

Prints:

    softplus(x)*tanh(x), symmetry None, kinks 0
    d1 = 0.5780179065 from quadrature (float64), error bound below 1e-13: True
    tau* = 0.936474652, residual below 1e-15: True
    alpha1 = 0.292979, alpha2 = 0.041005, alpha3 = 0.079928
    the same from SymPy: True
"""

from __future__ import annotations

import sympy as sp

import equikernel as ek


def main() -> None:
    """A string of the safe grammar, and the same function as a SymPy expression."""
    act = ek.activation("softplus(x)*tanh(x)")
    print(f"{act.name}, symmetry {act.parity}, kinks {len(act.breakpoints)}")

    d1 = ek.gaussian_moments(act, tau=1).d1
    print(f"d1 = {d1.value:.10g} from {d1.provenance}, error bound below 1e-13: {d1.error < 1e-13}")

    solution = ek.solve(ek.DEQ(act, sigma_a2="0.2", sigma_b2="0.8"))
    print(f"tau* = {solution.tau:.10g}, residual below 1e-15: {solution.to_dict()['residual'] < 1e-15}")
    print(", ".join(f"{name} = {getattr(solution, name):.6f}" for name in ("alpha1", "alpha2", "alpha3")))

    x = sp.Symbol("x")
    same = ek.solve(ek.DEQ(sp.log(1 + sp.exp(x)) * sp.tanh(x), sigma_a2="0.2", sigma_b2="0.8"))
    print(f"the same from SymPy: {abs(same.tau - solution.tau) < 1e-14}")


if __name__ == "__main__":
    main()
