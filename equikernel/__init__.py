"""equikernel: the kernel equations of deep equilibrium models, for any activation.

Public names resolve on first use, so that importing the package costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from equikernel._lazy import lazy_names

__version__ = "0.1.0"

_HOMES = {
    "Activation": "equikernel.theory.activation",
    "DEQ": "equikernel.theory.models",
    "EquikernelError": "equikernel.errors",
    "ExplicitNetwork": "equikernel.theory.models",
    "activation": "equikernel.theory.activation",
    "equivalent_ck": "equikernel.numerics.equivalents",
    "equivalent_network": "equikernel.numerics.design",
    "equivalent_ntk": "equikernel.numerics.equivalents",
    "explicit_ck": "equikernel.numerics.kernels",
    "explicit_coefficients": "equikernel.numerics.explicit",
    "explicit_ntk": "equikernel.numerics.kernels",
    "gaussian_moments": "equikernel.numerics.moments",
    "implicit_ck": "equikernel.numerics.kernels",
    "implicit_kernels": "equikernel.numerics.kernels",
    "implicit_ntk": "equikernel.numerics.kernels",
    "load_dataset": "equikernel.validation.datasets",
    "solve": "equikernel.numerics.solve",
    "validate": "equikernel.validation.validate",
    "verify": "equikernel.validation.verify",
}

__all__ = [
    "DEQ",
    "Activation",
    "EquikernelError",
    "ExplicitNetwork",
    "activation",
    "equivalent_ck",
    "equivalent_network",
    "equivalent_ntk",
    "explicit_ck",
    "explicit_coefficients",
    "explicit_ntk",
    "gaussian_moments",
    "implicit_ck",
    "implicit_kernels",
    "implicit_ntk",
    "load_dataset",
    "solve",
    "validate",
    "verify",
]

if TYPE_CHECKING:
    from equikernel.errors import EquikernelError
    from equikernel.numerics.design import equivalent_network
    from equikernel.numerics.equivalents import equivalent_ck, equivalent_ntk
    from equikernel.numerics.explicit import explicit_coefficients
    from equikernel.numerics.kernels import explicit_ck, explicit_ntk, implicit_ck, implicit_kernels, implicit_ntk
    from equikernel.numerics.moments import gaussian_moments
    from equikernel.numerics.solve import solve
    from equikernel.theory.activation import Activation, activation
    from equikernel.theory.models import DEQ, ExplicitNetwork
    from equikernel.validation.datasets import load_dataset
    from equikernel.validation.validate import validate
    from equikernel.validation.verify import verify

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
