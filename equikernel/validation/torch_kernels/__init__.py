"""Exact implicit kernels with the pairs solved in torch, for CUDA devices; ``device_kernels``.

- ``arrays``: what tiles work on.
- ``pairs``: the equations of pairs, by Horner's scheme and third-order steps over whole tiles.
- ``left``: the pairs that tiles leave, by longer series on the device or careful methods on the CPU.
- ``plan``: tiles within a memory budget.
- ``samples``: equal samples, which are solved once.
- ``run``: one computation, tile by tile.
- ``kernels``: ``device_kernels`` and its result.
"""

# first: it says what to install without torch
import equikernel.validation.torch_arithmetic  # noqa: F401

# isort: split
from equikernel.validation.torch_kernels.kernels import DeviceKernels, device_kernels
from equikernel.validation.torch_kernels.run import DeviceTile

__all__ = ["DeviceKernels", "DeviceTile", "device_kernels"]
