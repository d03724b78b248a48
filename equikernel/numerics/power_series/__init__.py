"""The implicit kernels on a sphere as power series, every coefficient and the tail enclosed."""

from equikernel.numerics.power_series.series import KernelSeries, kernel_series

__all__ = ["KernelSeries", "kernel_series"]
