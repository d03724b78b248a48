"""How much work a certificate may take, so that it ends within about a minute.

One box may cost a millisecond or a quarter of a second, so that their number says little. The work is measured by the
processor time of the thread, which does not depend on what else the machine does. Between two looks at the clock there
is at most one enclosure, whose evaluations are limited by the engines.
"""

from __future__ import annotations

import time

from equikernel.errors import UncertifiedError

__all__ = ["Budget"]


class Budget:
    """Seconds of processor time of this thread, counted from now on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.thread_time() + seconds

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return time.thread_time() >= self._end

    def share(self, part: float) -> Budget:
        """A part of what is left, counted from now on."""
        return Budget(part * max(self._end - time.thread_time(), 0.0))

    def require(self, what: str) -> None:
        """Go on only while something is left.

        Raises:
            UncertifiedError: names what there was no time for.
        """
        if self.spent:
            raise UncertifiedError(f"the budget of {self.seconds:g} s ran out before {what}; give more seconds")
