"""equikernel: the kernel equations of deep equilibrium models, for any activation.

Public names resolve on first use, so that importing the package costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from equikernel._lazy import lazy_names

__version__ = "0.1.0"

_HOMES = {
    "Activation": "equikernel.theory.activation",
    "activation": "equikernel.theory.activation",
    "callable_activation": "equikernel.numerics.callables",
    "certify": "equikernel.numerics.certificates.certificate",
    "check_certificate": "equikernel.numerics.certificates.check",
    "closed_form_moments": "equikernel.theory.closed_forms",
    "compare_families": "equikernel.numerics.designs.compare",
    "DEQ": "equikernel.theory.models",
    "DEQKernel": "equikernel.validation.estimators",
    "DEQKernelTransformer": "equikernel.validation.estimators",
    "Design": "equikernel.numerics.designs.design",
    "dual_activation": "equikernel.theory.dual_forms",
    "enclosed_moments": "equikernel.numerics.enclosed_moments",
    "equations": "equikernel.numerics.symbolic",
    "EquikernelError": "equikernel.errors",
    "equivalent_ck": "equikernel.numerics.equivalents",
    "equivalent_network": "equikernel.numerics.designs.equivalent",
    "equivalent_ntk": "equikernel.numerics.equivalents",
    "estimate_kernels": "equikernel.numerics.kernels",
    "explicit_ck": "equikernel.numerics.kernels",
    "explicit_coefficients": "equikernel.numerics.explicit",
    "explicit_kernels": "equikernel.numerics.kernels",
    "explicit_ntk": "equikernel.numerics.kernels",
    "ExplicitNetwork": "equikernel.theory.models",
    "fit_design": "equikernel.numerics.designs.on_data",
    "gaussian_moments": "equikernel.numerics.moments",
    "implicit_ck": "equikernel.numerics.kernels",
    "implicit_kernels": "equikernel.numerics.kernels",
    "implicit_ntk": "equikernel.numerics.kernels",
    "kernel_mismatch": "equikernel.numerics.designs.compare",
    "kernel_series": "equikernel.numerics.power_series",
    "lazy_kernels": "equikernel.numerics.kernels",
    "load_dataset": "equikernel.validation.datasets",
    "load_design": "equikernel.numerics.designs.design",
    "minimal_depth": "equikernel.numerics.designs.depth",
    "nearest_deq": "equikernel.numerics.designs.inverse",
    "phase_diagram": "equikernel.numerics.certificates.phase",
    "sensitivities": "equikernel.numerics.sensitivities",
    "solve": "equikernel.numerics.solve",
    "sphere_design": "equikernel.numerics.designs.sphere",
    "stream_kernels": "equikernel.numerics.kernels",
    "validate": "equikernel.validation.validate",
    "verified_closed_forms": "equikernel.numerics.closed_forms",
    "verify": "equikernel.validation.verify",
}

__all__ = [
    "DEQ",
    "Activation",
    "DEQKernel",
    "DEQKernelTransformer",
    "Design",
    "EquikernelError",
    "ExplicitNetwork",
    "activation",
    "callable_activation",
    "certify",
    "check_certificate",
    "closed_form_moments",
    "compare_families",
    "dual_activation",
    "enclosed_moments",
    "equations",
    "equivalent_ck",
    "equivalent_network",
    "equivalent_ntk",
    "estimate_kernels",
    "explicit_ck",
    "explicit_coefficients",
    "explicit_kernels",
    "explicit_ntk",
    "fit_design",
    "gaussian_moments",
    "implicit_ck",
    "implicit_kernels",
    "implicit_ntk",
    "kernel_mismatch",
    "kernel_series",
    "lazy_kernels",
    "load_dataset",
    "load_design",
    "minimal_depth",
    "nearest_deq",
    "phase_diagram",
    "sensitivities",
    "solve",
    "sphere_design",
    "stream_kernels",
    "validate",
    "verified_closed_forms",
    "verify",
]

if TYPE_CHECKING:
    from equikernel.errors import EquikernelError
    from equikernel.numerics.callables import callable_activation
    from equikernel.numerics.certificates.certificate import certify
    from equikernel.numerics.certificates.check import check_certificate
    from equikernel.numerics.certificates.phase import phase_diagram
    from equikernel.numerics.closed_forms import verified_closed_forms
    from equikernel.numerics.designs.compare import compare_families, kernel_mismatch
    from equikernel.numerics.designs.depth import minimal_depth
    from equikernel.numerics.designs.design import Design, load_design
    from equikernel.numerics.designs.equivalent import equivalent_network
    from equikernel.numerics.designs.inverse import nearest_deq
    from equikernel.numerics.designs.on_data import fit_design
    from equikernel.numerics.designs.sphere import sphere_design
    from equikernel.numerics.enclosed_moments import enclosed_moments
    from equikernel.numerics.equivalents import equivalent_ck, equivalent_ntk
    from equikernel.numerics.explicit import explicit_coefficients
    from equikernel.numerics.kernels import (
        estimate_kernels,
        explicit_ck,
        explicit_kernels,
        explicit_ntk,
        implicit_ck,
        implicit_kernels,
        implicit_ntk,
        lazy_kernels,
        stream_kernels,
    )
    from equikernel.numerics.moments import gaussian_moments
    from equikernel.numerics.power_series import kernel_series
    from equikernel.numerics.sensitivities import sensitivities
    from equikernel.numerics.solve import solve
    from equikernel.numerics.symbolic import equations
    from equikernel.theory.activation import Activation, activation
    from equikernel.theory.closed_forms import closed_form_moments
    from equikernel.theory.dual_forms import dual_activation
    from equikernel.theory.models import DEQ, ExplicitNetwork
    from equikernel.validation.datasets import load_dataset
    from equikernel.validation.estimators import DEQKernel, DEQKernelTransformer
    from equikernel.validation.validate import validate
    from equikernel.validation.verify import verify

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
