"""The kernel of data on a sphere is one power series: every coefficient proved, the tail bounded.

Prints:

    F(s) = 0.210526 s + 0.0755936 s^2 + 0.00271434 s^3 + ...
    b_1 and b_2 are alpha_1 and alpha_3: True
    all coefficients proved positive: True
    the terms beyond s^12 sum to less than 4e-6 at s = 1: True
    the exact kernel of two samples lies in the enclosure: True
"""

from __future__ import annotations

import numpy as np

import equikernel as ek


def main() -> None:
    """GELU, samples of norm 1."""
    deq = ek.DEQ("gelu")
    series = ek.kernel_series(deq, radius2=1, order=12)
    terms = " + ".join(f"{float(b):.6g} s{f'^{k}' * (k > 1)}" for k, b in enumerate(series.values[:3], start=1))
    print(f"F(s) = {terms} + ...")
    solution = ek.solve(deq)
    close = abs(series.values[0] - solution.alpha1) < 1e-14 and abs(series.values[1] - solution.alpha3) < 1e-14
    print(f"b_1 and b_2 are alpha_1 and alpha_3: {bool(close)}")
    print(f"all coefficients proved positive: {set(series.verdicts) == {'positive'}}")
    print(f"the terms beyond s^12 sum to less than 4e-6 at s = 1: {bool(series.remainder.tail < 4e-6)}")
    angle = np.arccos(0.3)
    samples = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    kernel = ek.implicit_ck(samples, deq, tau0=1)
    inside = series.enclosure("0.3").contains(float(kernel[0, 1]))
    print(f"the exact kernel of two samples lies in the enclosure: {inside}")


if __name__ == "__main__":
    main()
