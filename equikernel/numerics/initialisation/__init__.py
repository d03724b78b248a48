"""DEQs at initialisation with iid, orthogonal and GOE weights: lengths, fluctuations, stability, spectra, kernels."""

from equikernel.numerics.initialisation.branch import Critical
from equikernel.numerics.initialisation.coefficients import GoeCoefficients, goe_centre, goe_coefficients
from equikernel.numerics.initialisation.dynamics import Iterates, iterates
from equikernel.numerics.initialisation.inputs import InputLaw
from equikernel.numerics.initialisation.kernel import KernelPair, kernel_pair, kernel_sample
from equikernel.numerics.initialisation.linear import haar_length_statistics, linear_depth_error, linear_deq
from equikernel.numerics.initialisation.mean_field import MeanField, critical_sigma, mean_field, symmetric_mean_field
from equikernel.numerics.initialisation.response import Transform, reflection_transform

__all__ = [
    "Critical",
    "GoeCoefficients",
    "InputLaw",
    "Iterates",
    "KernelPair",
    "MeanField",
    "Transform",
    "critical_sigma",
    "goe_centre",
    "goe_coefficients",
    "haar_length_statistics",
    "iterates",
    "kernel_pair",
    "kernel_sample",
    "linear_depth_error",
    "linear_deq",
    "mean_field",
    "reflection_transform",
    "symmetric_mean_field",
]
