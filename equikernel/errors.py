"""The exception tree: one sentence each (what, expected, got, remedy).

``InputError`` means the caller asked for something that has no meaning and can be put right by changing the input
(command-line exit code 2). ``SolutionError`` means the question was well posed and the answer is that there is none,
or none that can be vouched for (exit code 3).
"""

from __future__ import annotations

__all__ = [
    "AccuracyError",
    "ActivationError",
    "ConvergenceError",
    "DataError",
    "EquikernelError",
    "InputError",
    "MemoryLimitError",
    "NoClosedFormError",
    "NoDesignError",
    "NoFixedPointError",
    "ParseError",
    "SolutionError",
    "UncertifiedError",
    "UnstableError",
]


class EquikernelError(Exception):
    """Base of every error raised on purpose by equikernel."""

    exit_code = 1


class InputError(EquikernelError, ValueError):
    """Bad input: an argument outside its domain."""

    exit_code = 2


class ParseError(InputError):
    """A string that is not an expression of the safe grammar."""


class ActivationError(InputError):
    """Not a usable activation: constant, complex, undefined on part of the line, or growing too fast."""


class DataError(InputError):
    """Data that cannot be used: NaN, wrong shape, unreadable or corrupt file."""


class MemoryLimitError(InputError, MemoryError):
    """What was asked for does not fit into memory; refused before anything was allocated."""


class SolutionError(EquikernelError, ArithmeticError):
    """A well-posed problem without an answer that can be vouched for."""

    exit_code = 3


class NoFixedPointError(SolutionError):
    """The scalar equation T(q) = q has no solution."""


class UnstableError(SolutionError):
    """A coefficient has no meaning at the fixed point (sigma_a2*h >= 1 or sigma_a2*v >= 1)."""


class ConvergenceError(SolutionError):
    """An iteration did not reach its tolerance."""


class AccuracyError(SolutionError):
    """A number could not be computed to the accuracy asked for."""


class NoDesignError(SolutionError):
    """No network of the family has the coefficients asked for."""


class NoClosedFormError(SolutionError):
    """An expectation outside the class that has closed forms here; the message says which part is outside, and why."""


class UncertifiedError(SolutionError):
    """A proof was asked for and could not be given; the message says what could not be proved."""
