"""Fifty digits of a fixed point, and how to see that they are right: ask for seventy.

Prints:

    tau* = 0.92669235418622571907310338788097121273461229198145
    residual below 1e-60: True
    70 digits round to the same 50: True
    as JSON: "0.92669235418622571907310338788097121273461229198145"
"""

from __future__ import annotations

import json

import mpmath

import equikernel as ek


def main() -> None:
    """GELU at the default variances, 1/5 and 4/5."""
    deq = ek.DEQ("gelu", sigma_a2="0.2", sigma_b2="0.8")
    fifty, seventy = ek.solve(deq, digits=50), ek.solve(deq, digits=70)
    text = mpmath.nstr(fifty.tau, 50, strip_zeros=False)
    print(f"tau* = {text}")
    record = fifty.to_dict()
    print(f"residual below 1e-60: {record['residual'] < 1e-60}")
    print(f"70 digits round to the same 50: {mpmath.nstr(seventy.tau, 50, strip_zeros=False) == text}")
    print(f"as JSON: {json.dumps(record['tau'])}")  # more than 17 digits are strings


if __name__ == "__main__":
    main()
