"""A certificate's JSON read back: types, sizes and syntax, before anything is believed or computed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from flint import arb

from equikernel.errors import InputError
from equikernel.numerics.balls.context import bits_of_digits, precision
from equikernel.numerics.certificates.bounds import THEOREMS
from equikernel.numerics.certificates.decimals import from_record
from equikernel.numerics.certificates.equation import Equation
from equikernel.numerics.certificates.localise import ABOVE, BELOW, FALLING, MAX_BOXES, RISING, UNDECIDED, Box
from equikernel.theory.activation import activation
from equikernel.theory.models import exact_number, require_trained

__all__ = ["FORMAT", "MAX_DIGITS", "VERSION", "Record", "load", "read_record"]

FORMAT, VERSION = "equikernel certificate", 1
MAX_BYTES = 8_000_000
MAX_DIGITS = 1000
_SPARE_BITS = 200
_KEYS = (
    *("format", "version", "problem", "digits", "existence", "uniqueness", "count", "bound", "shape", "boxes"),
    *("fixed_points", "selected", "enclosures", "refused", "stability", "engine", "checkable"),
)
_VERDICTS = (BELOW, ABOVE, RISING, FALLING, UNDECIDED)


@dataclass(frozen=True)
class Record:
    """The claims of a certificate.

    Attributes:
        equation: the network, its activation parsed by the safe grammar.
        trained: the parameters that the NTK trains.
        digits: significant digits asked for.
        theorem, upper, sign: the bound on all fixed points.
        shape: whether the monotone-shape theorem is said to apply.
        boxes: the cover.
        points: balls of the fixed points, and whether they are said to be stable.
        selected: index of the point that the coefficients belong to.
        enclosures: balls of the coefficients.
        stability: (ball or None, verdict) by name.
        count: the machine-readable count.
        sentences: (existence, uniqueness).
        engine: the engine the coefficients were computed with.
    """

    equation: Equation
    trained: str
    digits: int
    theorem: str
    upper: float | None
    sign: int
    shape: bool
    boxes: tuple[Box, ...]
    points: tuple[tuple[arb, bool | None], ...]
    selected: int | None
    enclosures: dict[str, arb]
    stability: dict[str, tuple[arb | None, bool | None]]
    count: dict[str, Any]
    sentences: tuple[str, str]
    engine: str | None

    @property
    def bits(self) -> int:
        """Bits that hold the digits of the record."""
        return bits_of_digits(self.digits)


def load(path: str | Path) -> Any:
    """The JSON value in a file: a certificate, or the output of ``equikernel solve --certify --json``.

    Raises:
        InputError: no such file, not JSON, or too large.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the certificate {file}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"the certificate {file} is larger than {MAX_BYTES} bytes")
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the certificate {file} is not JSON: {str(error)[:120]}") from None
    return value["certificate"] if isinstance(value, dict) and "certificate" in value else value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def read_record(value: Any) -> Record:
    """The claims of a certificate, with every type and size checked.

    Raises:
        InputError: the first thing that is wrong, in one sentence.
    """
    if not isinstance(value, dict):
        raise InputError(f"a certificate is a JSON object; got {type(value).__name__}")
    if value.get("format") != FORMAT or value.get("version") != VERSION:
        raise InputError(f'a certificate has "format": "{FORMAT}" and "version": {VERSION}')
    missing = sorted(set(_KEYS) - set(value))
    if missing:
        raise InputError(f"the certificate lacks the key {missing[0]}")
    digits = _whole(value["digits"], "digits", 1, MAX_DIGITS)
    problem = _object(value["problem"], "problem", ("activation", "sigma_a2", "sigma_b2", "tau0", "trained"))
    text = problem["activation"]
    if text is None:
        raise InputError("the activation of this certificate has no text that parses, so that it cannot be checked")
    equation = Equation(
        activation(_text(text, "the activation")),
        exact_number(_text(problem["sigma_a2"], "sigma_a2"), "sigma_a2"),
        exact_number(_text(problem["sigma_b2"], "sigma_b2"), "sigma_b2", positive=True),
        exact_number(_text(problem["tau0"], "tau0"), "tau0", positive=True),
    )
    bound = _object(value["bound"], "bound", ("theorem", "upper", "sign", "statement"))
    if bound["theorem"] not in (*THEOREMS, "interval"):
        raise InputError(f"the theorem of the bound must be one of {', '.join(THEOREMS)} or interval")
    upper = None if bound["upper"] is None else _float(bound["upper"], "the bound")
    points = _list(value["fixed_points"], "fixed_points")
    with precision(bits_of_digits(digits) + _SPARE_BITS):
        return Record(
            equation=equation,
            trained=require_trained(problem["trained"]),
            digits=digits,
            theorem=bound["theorem"],
            upper=upper,
            sign=_whole(bound["sign"], "the sign of the bound", -1, 1),
            shape=_object(value["shape"], "shape", ("holds", "statement"))["holds"] is True,
            boxes=tuple(_box(box) for box in _list(value["boxes"], "boxes")),
            points=tuple(_point(point) for point in points),
            selected=None if value["selected"] is None else _whole(value["selected"], "selected", 0, len(points) - 1),
            enclosures={
                name: from_record(ball, f"the enclosure of {name[:20]}")
                for name, ball in _object(value["enclosures"], "enclosures").items()
            },
            stability={
                name: _statement(name, claim) for name, claim in _object(value["stability"], "stability").items()
            },
            count=_object(value["count"], "count", ("least", "number", "on", "theorems", "undecided", "complete")),
            sentences=(_text(value["existence"], "existence"), _text(value["uniqueness"], "uniqueness")),
            engine=None if value["engine"] is None else _text(value["engine"], "engine"),
        )


def _object(value: Any, name: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(keys) <= set(value) or len(value) > MAX_BOXES:
        raise InputError(f"{name} must be an object{' with the keys ' + ', '.join(keys) if keys else ''}")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > 4 * MAX_BOXES:
        raise InputError(f"{name} must be a list of at most {4 * MAX_BOXES} entries")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string; got {type(value).__name__}")
    return value


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{name} must be a whole number from {least} to {most}; got {str(value)[:40]}")
    return value


def _float(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e300:
        raise InputError(f"{name} must be a positive number below 1e300; got {str(value)[:40]}")
    return float(value)


def _verdict(value: Any, name: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise InputError(f"{name} must be true, false or null; got {str(value)[:40]}")
    return value


def _box(value: Any) -> Box:
    box = _object(value, "a box", ("lower", "upper", "verdict"))
    lower, upper = _float(box["lower"], "the end of a box"), _float(box["upper"], "the end of a box")
    if box["verdict"] not in _VERDICTS or not (lower < upper and math.isfinite(upper)):
        raise InputError(f"a box has lower < upper and a verdict among {', '.join(_VERDICTS)}; got {str(value)[:80]}")
    return Box(lower, upper, box["verdict"])


def _point(value: Any) -> tuple[arb, bool | None]:
    point = _object(value, "a fixed point", ("q", "stable"))
    q = from_record(point["q"], "a fixed point")
    if not q > 0:
        raise InputError("a fixed point must be a positive variance")
    return q, _verdict(point["stable"], "stable")


def _statement(name: str, value: Any) -> tuple[arb | None, bool | None]:
    claim = _object(value, f"the stability statement {name[:20]}", ("value", "holds", "meaning"))
    ball = None if claim["value"] is None else from_record(claim["value"], f"the value of {name[:20]}")
    return ball, _verdict(claim["holds"], "holds")
