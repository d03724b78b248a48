"""A folder of finished pieces of work from which a run resumes."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from equikernel.errors import SolutionError
from equikernel.numerics.files import PARTIAL, write_text

__all__ = [
    "Store",
    "StoredFailureError",
    "canonical_json",
    "digest",
    "package_versions",
    "source_digest",
]

# What the numbers depend on beside our own code: a result computed with other versions is not the same result.
_PACKAGES = ("mpmath", "numba", "numpy", "scikit-learn", "scipy", "sympy", "torch")


class StoredFailureError(SolutionError):
    """A problem without solution met by an earlier run and remembered, with the same sentence."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces. Floats round-trip to the bit; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


@cache
def source_digest() -> str:
    """SHA-256 of the package's own source: the numbers of other code are not reused."""
    root = Path(__file__).parents[1]
    hasher = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        hasher.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return hasher.hexdigest()


@dataclass(frozen=True)
class Store:
    """Finished pieces of work, one JSON file each, named by the hash of everything their numbers depend on.

    A file that is missing, cut short or altered (its checksum differs) counts as work not done. Failures are kept when
    they are the answer (``SolutionError``); bad input is met again, since data may have been installed since.

    Attributes:
        folder: where the files are; created when first written to.
    """

    folder: Path

    def key(self, description: dict[str, Any]) -> str:
        """The name of a piece of work: a hash of its description, of our source, and of the versions in use."""
        return digest({"work": description, "source": source_digest(), "versions": package_versions()})[:32]

    def path(self, description: dict[str, Any]) -> Path:
        """Where the piece of work is, or will be."""
        return self.folder / f"{self.key(description)}.json"

    def get(self, description: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a finished piece of work, None if it is not finished or its file is damaged."""
        path = self.path(description)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            intact = stored["sha256"] == digest(stored["record"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return stored["record"] if intact and isinstance(stored["record"], dict) else None

    def put(self, description: dict[str, Any], record: dict[str, Any], seconds: float) -> None:
        """Keep a record, atomically, with its description, its checksum and the seconds it took."""
        content = {"work": description, "record": record, "sha256": digest(record), "seconds": round(seconds, 3)}
        write_text(self.path(description), json.dumps(content, indent=1, allow_nan=False))

    def seconds(self, description: dict[str, Any]) -> float:
        """How long the piece of work took when it was done; 0 if it is not there."""
        try:
            return float(json.loads(self.path(description).read_text(encoding="utf-8"))["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0

    def fetch(self, description: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The record kept under ``description``, or that of ``compute()``, kept for the next time.

        Raises:
            SolutionError: from ``compute``, or kept from an earlier run (as ``StoredFailureError``).
        """
        record = self.get(description)
        if record is None:
            start = time.perf_counter()
            try:
                record = {"result": compute()}
            except SolutionError as error:
                self.put(description, {"failure": str(error)}, time.perf_counter() - start)
                raise
            self.put(description, record, time.perf_counter() - start)
        if "failure" in record:
            raise StoredFailureError(record["failure"])
        result: dict[str, Any] = record["result"]
        return result

    def remove_leftovers(self) -> None:
        """Remove what a killed run left half-written."""
        for path in self.folder.glob(f".*{PARTIAL}"):
            path.unlink(missing_ok=True)
