"""How much memory there is, and refusing beforehand what would need more."""

from __future__ import annotations

from pathlib import Path

import psutil

from equikernel.errors import MemoryLimitError

__all__ = ["available_memory", "require_memory"]


def available_memory() -> int:
    """Bytes that this process can still take: what the machine has left, or what its control group leaves it."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, max(int(limit) - int(used), 0))


def require_memory(needed: int, what: str, instead: str) -> None:
    """Refuse what would not fit, before anything is allocated.

    Raises:
        MemoryLimitError: with the bytes needed, those available, and what to do instead.
    """
    available = available_memory()
    if needed > available:
        raise MemoryLimitError(
            f"{what} need {needed / 1e9:.3g} GB ({needed} bytes), {available / 1e9:.3g} GB are available: {instead}"
        )
