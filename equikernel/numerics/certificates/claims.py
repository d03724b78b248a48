"""What it means to reject a claim, and when two sentences say the same."""

from __future__ import annotations

import math
import re

__all__ = ["RejectedError", "require", "require_sentence"]

_SHOWN, _NOTHING = 1e-4, 1e-12  # relative and absolute agreement of the numbers in sentences
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?")


class RejectedError(Exception):
    """A claim that was not confirmed; caught in ``check``, never seen by a user."""


def require(condition: bool, failure: str) -> None:
    """Reject with a sentence unless the condition holds.

    Raises:
        RejectedError: it does not.
    """
    if not condition:
        raise RejectedError(failure)


def require_sentence(name: str, claim: str, sentence: str) -> None:
    """Compare a sentence with the one that follows from what was proved, numbers to the few digits that are shown.

    Raises:
        RejectedError: they differ.
    """
    same = _NUMBER.sub("#", claim) == _NUMBER.sub("#", sentence)
    if same:
        pairs = zip(_NUMBER.findall(claim), _NUMBER.findall(sentence), strict=True)
        same = all(math.isclose(float(x), float(y), rel_tol=_SHOWN, abs_tol=_NOTHING) for x, y in pairs)
    require(same, f"the sentence {claim[:60]!r} under {name} was not confirmed; it should read: {sentence}")
