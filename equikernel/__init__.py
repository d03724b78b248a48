"""equikernel: the kernel equations of deep equilibrium models, for any activation.

Public names resolve on first use, so that importing the package costs little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Activation": "equikernel.theory.activation",
    "DEQ": "equikernel.theory.models",
    "EquikernelError": "equikernel.errors",
    "ExplicitNetwork": "equikernel.theory.models",
    "activation": "equikernel.theory.activation",
    "explicit_coefficients": "equikernel.numerics.explicit",
    "gaussian_moments": "equikernel.numerics.moments",
    "solve": "equikernel.numerics.solve",
}

__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from equikernel.errors import EquikernelError
    from equikernel.numerics.explicit import explicit_coefficients
    from equikernel.numerics.moments import gaussian_moments
    from equikernel.numerics.solve import solve
    from equikernel.theory.activation import Activation, activation
    from equikernel.theory.models import DEQ, ExplicitNetwork


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'equikernel' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
