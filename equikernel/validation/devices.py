"""The types and devices of tensors as users name them, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from equikernel.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["require_input", "torch_device", "torch_dtype"]


def torch_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The type called "float64" or "float32" (torch's own objects are taken too).

    Raises:
        InputError: another type.
    """
    import torch

    types = {"float64": torch.float64, "float32": torch.float32}
    found = types.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise InputError(f"dtype must be float64 or float32; got {dtype!r}")
    return found


def torch_device(device: str | torch.device) -> torch.device:
    """The device called "cpu", "cuda" or "cuda:N" (torch's own objects are taken too).

    Raises:
        InputError: another device, or a CUDA device that is not there.
    """
    import torch

    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise InputError(f'device must be "cpu", "cuda" or "cuda:N"; got {device!r}')
    count = torch.cuda.device_count() if found.type == "cuda" and torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= count:
        raise InputError(f'device "{device}" was asked for, but torch sees {count} CUDA devices: use "cpu"')
    return found


def require_input(x: torch.Tensor, in_features: int, weights: torch.Tensor) -> None:
    """Refuse samples that a module cannot take.

    Args:
        x: (..., p), samples in rows.
        in_features: p.
        weights: what x must share its type and device with.

    Raises:
        InputError: another last dimension, type or device.
    """
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise InputError(
            f"x must have {in_features} features in its last dimension (in_features of the module); got the shape "
            f"{tuple(x.shape)}"
        )
    if x.dtype != weights.dtype or x.device != weights.device:
        raise InputError(
            f"x must be {weights.dtype} on {weights.device}, as the weights are; got {x.dtype} on {x.device}: "
            "convert it with x.to(...)"
        )
