"""The arithmetics an activation can be lowered to: name -> (module, factory), imported when first used.

The table stands below every layer so that theory can offer ``Activation.function("torch")`` without importing torch
or anything else above it. A factory takes a ``PiecewiseProgram`` and options and returns a function.
"""

from __future__ import annotations

__all__ = ["ARITHMETICS", "BOUNDED_FLOAT64"]

ARITHMETICS: dict[str, tuple[str, str]] = {
    "numpy": ("equikernel.numerics.arithmetic", "numpy_function"),
    "mpmath": ("equikernel.numerics.arithmetic", "mpmath_function"),
    "torch": ("equikernel.validation.torch_arithmetic", "torch_function"),
}

# float64 with error bounds: takes a smooth ``Program``, returns a function of (x, needed) that gives values and errors
BOUNDED_FLOAT64 = ("equikernel.numerics.arithmetic", "bounded_float64")
