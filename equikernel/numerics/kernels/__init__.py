"""Exact infinite-width kernels of DEQs and explicit networks on data, for any activation."""

from equikernel.numerics.kernels.estimate import Estimate, estimate_kernels
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
from equikernel.numerics.kernels.lazy import LazyKernels, lazy_kernels
from equikernel.numerics.kernels.stream import StreamedKernels, stream_kernels

__all__ = [
    "Estimate",
    "ExplicitKernels",
    "ImplicitKernels",
    "LazyKernels",
    "StreamedKernels",
    "estimate_kernels",
    "explicit_ck",
    "explicit_kernels",
    "explicit_ntk",
    "implicit_ck",
    "implicit_kernels",
    "implicit_ntk",
    "lazy_kernels",
    "stream_kernels",
]
