"""Exact infinite-width kernels of DEQs and explicit networks on data, for any activation."""

from equikernel.numerics.kernels.implicit import (
    ExplicitKernels,
    ImplicitKernels,
    explicit_ck,
    explicit_kernels,
    explicit_ntk,
    implicit_ck,
    implicit_kernels,
    implicit_ntk,
)

__all__ = [
    "ExplicitKernels",
    "ImplicitKernels",
    "explicit_ck",
    "explicit_kernels",
    "explicit_ntk",
    "implicit_ck",
    "implicit_kernels",
    "implicit_ntk",
]
