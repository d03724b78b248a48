"""The arithmetics an activation can be lowered to: name -> (module, factory), imported when first used.

The table stands below every layer so that theory can offer ``Activation.function("torch")`` without importing torch
or anything else above it. A factory takes a ``PiecewiseProgram`` and options and returns a function.
"""

from __future__ import annotations

__all__ = ["ARITHMETICS", "BOUNDED_FLOAT64", "TORCH_MODULE"]

ARITHMETICS: dict[str, tuple[str, str]] = {
    "numpy": ("equikernel.numerics.arithmetic", "numpy_function"),
    "mpmath": ("equikernel.numerics.arithmetic", "mpmath_function"),
    "torch": ("equikernel.validation.torch_arithmetic", "torch_function"),
}

# float64 with error bounds: takes a smooth ``Program``, returns a function of (x, needed) that gives values and errors
BOUNDED_FLOAT64 = ("equikernel.numerics.arithmetic", "bounded_float64")

# explicit networks as torch modules: takes an ``ExplicitNetwork``, a width, the number of inputs and options
TORCH_MODULE = ("equikernel.validation.modules", "explicit_module")

# activations written as records, not as text: key in a layer's record -> class with ``to_record`` and ``from_record``
RECORDS = {"hermite": ("equikernel.numerics.hermite_series", "HermiteSeries")}
