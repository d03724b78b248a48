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
from equikernel.numerics.balls.moments import ENGINES
from equikernel.numerics.certificates.bounds import THEOREMS
from equikernel.numerics.certificates.decimals import from_record
from equikernel.numerics.certificates.equation import Equation
from equikernel.numerics.certificates.localise import ABOVE, BELOW, FALLING, MAX_BOXES, RISING, UNDECIDED, Box
from equikernel.theory.activation import activation
from equikernel.theory.models import exact_number, require_trained

__all__ = ["FORMAT", "MAX_DIGITS", "VERSION", "Record", "StatementClaim", "load", "read_record"]

FORMAT, VERSION = "equikernel certificate", 1
MAX_BYTES = 8_000_000
MAX_DIGITS = 1000
_SPARE_BITS = 200
_KEYS = (
    *("format", "version", "problem", "digits", "existence", "uniqueness", "count", "bound", "shape", "boxes"),
    *("fixed_points", "selected", "enclosures", "refused", "stability", "engine", "checkable"),
)
_VERDICTS = (BELOW, ABOVE, RISING, FALLING, UNDECIDED)
_MAX_ENTRIES = 100


@dataclass(frozen=True)
class StatementClaim:
    """A stability statement as claimed; see ``coefficients.Statement``."""

    name: str
    value: arb | None
    holds: bool | None
    meaning: str


@dataclass(frozen=True)
class Record:
    """The claims of a certificate.

    Attributes:
        equation: the network, its activation parsed by the safe grammar.
        trained: the parameters that the NTK trains.
        digits: significant digits asked for.
        theorem, upper, sign: the bound on all fixed points.
        bound_statement: its sentence.
        shape: whether the monotone-shape theorem is said to apply.
        shape_statement: its sentence.
        boxes: the cover.
        points: balls of the fixed points, and whether they are said to be stable.
        selected: index of the point that the coefficients belong to.
        enclosures: balls of the coefficients.
        refused: sentences about the coefficients without an enclosure.
        stability: the statements by name.
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
    bound_statement: str
    shape: bool
    shape_statement: str
    boxes: tuple[Box, ...]
    points: tuple[tuple[arb, bool | None], ...]
    selected: int | None
    enclosures: dict[str, arb]
    refused: dict[str, str]
    stability: dict[str, StatementClaim]
    count: dict[str, Any]
    sentences: tuple[str, str]
    engine: str | None

    @property
    def bits(self) -> int:
        """Bits that hold the digits of the record."""
        return bits_of_digits(self.digits)


def load(path: str | Path) -> Any:
    """The JSON value in a file.

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
    return value


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
    unknown = sorted(set(value) - set(_KEYS))
    if unknown:
        raise InputError(f"the certificate has the unknown key {unknown[0][:40]!r}")
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
    shape = _object(value["shape"], "shape", ("holds", "statement"))
    if not isinstance(shape["holds"], bool):
        raise InputError(f"holds must be true or false in shape; got {str(shape['holds'])[:40]}")
    if value["checkable"] is not True:
        raise InputError("checkable must be true in a certificate that names its activation")
    points = _list(value["fixed_points"], "fixed_points")
    with precision(bits_of_digits(digits) + _SPARE_BITS):
        return Record(
            equation=equation,
            trained=require_trained(problem["trained"]),
            digits=digits,
            theorem=bound["theorem"],
            upper=upper,
            sign=_whole(bound["sign"], "the sign of the bound", -1, 1),
            bound_statement=_text(bound["statement"], "the statement of the bound"),
            shape=shape["holds"],
            shape_statement=_text(shape["statement"], "the statement of the shape"),
            boxes=tuple(_box(box) for box in _list(value["boxes"], "boxes")),
            points=tuple(_point(point) for point in points),
            selected=None if value["selected"] is None else _whole(value["selected"], "selected", 0, len(points) - 1),
            enclosures={
                name: from_record(ball, f"the enclosure of {name[:20]}")
                for name, ball in _mapping(value["enclosures"], "enclosures").items()
            },
            refused={
                name: _text(reason, f"the reason to refuse {name[:20]}")
                for name, reason in _mapping(value["refused"], "refused").items()
            },
            stability={
                name: _statement(name, claim) for name, claim in _mapping(value["stability"], "stability").items()
            },
            count=_object(value["count"], "count", ("least", "number", "on", "theorems", "undecided", "complete")),
            sentences=(_text(value["existence"], "existence"), _text(value["uniqueness"], "uniqueness")),
            engine=_engine(value["engine"]),
        )


def _object(value: Any, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(keys) != set(value):
        raise InputError(f"{name} must be an object with the keys {', '.join(keys)} and no others")
    return value


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > _MAX_ENTRIES:
        raise InputError(f"{name} must be an object of at most {_MAX_ENTRIES} entries")
    return value


def _engine(value: Any) -> str | None:
    if value not in (None, *ENGINES[1:]):
        raise InputError(f"engine must be null, {' or '.join(ENGINES[1:])}; got {str(value)[:40]}")
    return None if value is None else str(value)


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


def _statement(name: str, value: Any) -> StatementClaim:
    about = f"the stability statement {name[:20]}"
    claim = _object(value, about, ("name", "value", "holds", "meaning"))
    ball = None if claim["value"] is None else from_record(claim["value"], f"the value of {name[:20]}")
    name, meaning = (_text(claim[key], f"{key} in {about}") for key in ("name", "meaning"))
    return StatementClaim(name, ball, _verdict(claim["holds"], "holds"), meaning)
