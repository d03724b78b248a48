"""The operations of programs on tensors of any float type, on any device; needs torch, and says so without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from equikernel.errors import InputError

try:
    import torch
except ModuleNotFoundError as error:
    raise InputError(
        "networks and activations in torch need the package torch, which is not installed: "
        'pip install "equikernel[torch]"'
    ) from error

from equikernel.numerics.arithmetic import Float64Arithmetic

__all__ = ["TORCH", "TorchArithmetic"]

Tensor = torch.Tensor


def _softplus(x: Tensor) -> Tensor:
    # torch.nn.functional.softplus returns x itself above a threshold; this is max(x, 0) + log1p(exp(-|x|))
    return -torch.nn.functional.logsigmoid(-x)


def _log_cosh(x: Tensor) -> Tensor:
    # near zero log cosh x = log1p(2 sinh(x/2)^2) keeps relative accuracy, far away |x| - log 2 does
    a = x.abs()
    near = torch.log1p(2.0 * torch.sinh(0.5 * a.clamp(max=1.0)) ** 2)
    return torch.where(a < 1.0, near, a + (torch.log1p(torch.exp(-2.0 * a)) - 0.6931471805599453))


def _sech2(x: Tensor) -> Tensor:
    e = torch.exp(-2.0 * x.abs())
    return 4.0 * e / (1.0 + e) ** 2


_TORCH_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "sech2": _sech2,
    "atan": torch.atan,
    "asinh": torch.asinh,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "sigmoid": torch.sigmoid,
    "softplus": _softplus,
    "log_cosh": _log_cosh,
}


class TorchArithmetic(Float64Arithmetic):
    """Tensors; constants are Python numbers, which take the type and device of the tensor they meet."""

    def unary(self, name: str) -> Callable[[Any], Any]:
        return _TORCH_UNARY[name]

    def fill(self, x: Any, value: Any) -> Any:
        return torch.full_like(x, value)


TORCH = TorchArithmetic()
