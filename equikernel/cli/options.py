"""Arguments and options that several commands share.

Variances and scales stay text until the library reads them, so that 0.2 is the decimal 1/5.
"""

from __future__ import annotations

from typing import Annotated

import typer

from equikernel.errors import InputError

__all__ = [
    "Act",
    "Acts",
    "Digits",
    "Json",
    "Quick",
    "Seed",
    "SigmaA2",
    "SigmaB2",
    "Tau0",
    "Trained",
    "Weights",
    "require_digits",
]

Act = Annotated[
    str, typer.Argument(metavar="ACT", help="A name (gelu) or an expression in x; after -- if it begins with -.")
]
Acts = Annotated[list[str] | None, typer.Argument(metavar="ACT...", help="Names or expressions.", show_default=False)]
SigmaA2 = Annotated[str, typer.Option("--sigma-a2", metavar="V", help="Hidden variance sigma_a^2.")]
SigmaB2 = Annotated[str, typer.Option("--sigma-b2", metavar="V", help="Input variance sigma_b^2.")]
Weights = Annotated[str, typer.Option("--weights", metavar="iid|orthogonal|goe", help="Family of the hidden weights.")]
Tau0 = Annotated[str, typer.Option("--tau0", metavar="S", help="Standard deviation of the data.")]
Digits = Annotated[int, typer.Option("--digits", metavar="N", help="Significant digits, 1 to 1000.")]
Trained = Annotated[str, typer.Option("--trained", metavar="a|aA|aAB", help="Parameters that the NTK trains.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of every random number.")]
Quick = Annotated[bool, typer.Option("--quick", help="Small sizes: seconds instead of minutes, wide intervals.")]


def require_digits(digits: int) -> int:
    """1 to 1000 significant digits.

    Raises:
        InputError: another number.
    """
    if not 1 <= digits <= 1000:
        raise InputError(f"digits must be a whole number from 1 to 1000; got {digits}")
    return digits
