"""Every activation of the registry: its closed forms, its certificate, and how long both take.

    .venv/bin/python benchmarks/registry.py --out registry.json

Prints a Markdown table. "closed forms" names the moments that have one, or the reason why there is none; "derived" is
the time of the derivation and "verified" that of the comparison with ball enclosures at five scales. The certificate is
of sigma_a2 = 1/5, sigma_b2 = 4/5, tau0 = 1 with 50 digits asked for; "digits" are those of the widest enclosure that
does not contain 0 (a coefficient that vanishes without a symbolic proof is a ball around 0). Each activation is
measured in this process, in the order of the registry: the first pays for what is imported on first use, and celu at
its default is elu. Times are the processor's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from timing import arguments, write_record

from equikernel.errors import NoClosedFormError, SolutionError
from equikernel.numerics.certificates.certificate import certify
from equikernel.numerics.closed_forms import verified_closed_forms
from equikernel.theory.activation import activation, registry_names
from equikernel.theory.closed_forms import DERIVED, closed_form_moments
from equikernel.theory.models import DEQ

_SIGMA_A2, _SIGMA_B2 = "1/5", "4/5"
_DIGITS = 50
_MOMENTS = (*DERIVED, "v")
_COLUMNS = ("activation", "closed forms", "derived, s", "verified, s", "digits", "certified, s", "verdict")


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call, or the error it ended with, and the processor's seconds."""
    start = time.process_time()
    try:
        result = run()
    except SolutionError as error:
        result = error
    return result, time.process_time() - start


def _closed(forms: Any, v_is_finite: bool) -> str:
    """What has a closed form, and why the rest has none."""
    if isinstance(forms, NoClosedFormError):
        return f"none: {str(forms).rpartition(' has a closed form here: ')[2]}"
    infinite = "" if v_is_finite else " (v is infinite)"
    wanted = _MOMENTS if v_is_finite else DERIVED
    missing = [name for name in wanted if forms.get(name) is None]
    if not missing:
        return f"all{infinite}"
    return f"all but {', '.join(missing)}: {forms.reasons[missing[0]]}{infinite}"


def measure(name: str) -> dict[str, Any]:
    """One row: an activation of the registry at its default parameters."""
    act = activation(name)
    forms, derived = _timed(lambda: closed_form_moments(act))
    _, verified = _timed(lambda: verified_closed_forms(act))
    trained = "aA" if act.has_square_integrable_derivative else "a"
    found, certified = _timed(lambda: certify(DEQ(act, _SIGMA_A2, _SIGMA_B2), 1, _DIGITS, trained))
    row: dict[str, Any] = {"activation": name, "closed": _closed(forms, act.has_square_integrable_derivative)}
    row |= {"derived": derived, "verified": verified if not isinstance(forms, NoClosedFormError) else None}
    if isinstance(found, SolutionError):
        return row | {"digits": None, "zeros": [], "certified": certified, "verdict": str(found)}
    balls = {key: ball for key, ball in found.enclosures.items() if not ball.is_exact()}
    zeros = [key for key, ball in balls.items() if ball.contains(0)]
    bits = [int(ball.rel_accuracy_bits()) for key, ball in balls.items() if key not in zeros]
    digits = int(min(bits) * 0.30103) if bits else None
    return row | {"digits": digits, "zeros": zeros, "certified": certified, "verdict": found.count.uniqueness}


def _line(row: dict[str, Any]) -> str:
    times = ["-" if row[k] is None else f"{row[k]:.2g}" for k in ("derived", "verified", "certified")]
    digits = "no fixed point" if row["digits"] is None else str(row["digits"])
    digits += f" ({', '.join(row['zeros'])} around 0)" if row["zeros"] else ""
    cells = [row["activation"], row["closed"], *times[:2], digits, times[2], row["verdict"]]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> None:
    """Print the table row by row, and write the record."""
    given = arguments("Closed forms and certificates of the registry", repeats=1).parse_args()
    print(f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}")
    rows = []
    for name in registry_names():
        rows.append(measure(name))
        print(_line(rows[-1]), flush=True)
    write_record(given.out, vars(given), rows)


if __name__ == "__main__":
    main()
