"""The history of a run: a line of JSON for each record, appended as the run goes, and how far it is by them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from intrinsic_cli.errors import DamagedError, StoreError
from intrinsic_cli.files import opened, parse_json

MOST = 256 << 20  # bytes that a run writes at most
HIGHEST = 1e300  # of a record's numbers


class Progress(NamedTuple):
    """How far a run is; `steps` is None where an earlier version did not record it."""

    step: int
    steps: int | None

    def __str__(self) -> str:
        return f"step {self.step}" + (f" of {self.steps}" if self.steps else "")

    @classmethod
    def of(cls, position: Mapping[str, Any], steps: Any) -> Progress:
        """By a record with a `step`. Raises KeyError, TypeError or ValueError where it has none."""
        return cls(int(position["step"]), None if steps is None else int(steps))


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Write one more line. Raises StoreError where the file can't take it, and ValueError at NaN."""
    line = json.dumps(record, allow_nan=False) + "\n"
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise StoreError(f"can't write {path}: {error.strerror or error}") from error


def read(path: Path) -> list[dict[str, float]]:
    """The whole lines; a torn last one (a run that was killed) is left out. [] where there is no file.

    Raises DamagedError at a line that is no record of finite numbers with a step, and where it is longer than MOST.
    """
    try:
        with opened(path) as file:
            content = file.read(MOST + 1)
    except FileNotFoundError:
        return []
    if len(content) > MOST:
        raise DamagedError(f"{path} is longer than the {MOST >> 20} MB that a run writes")
    whole = content[: content.rfind(b"\n") + 1].splitlines()
    return [_record(line, f"{path}, line {i}") for i, line in enumerate(whole, start=1)]


def is_number(value: object) -> bool:
    """Whether a value of a record is one that a run writes: a number, finite and below HIGHEST."""
    return type(value) in (int, float) and abs(value) < HIGHEST  # type: ignore[arg-type]


def _record(line: bytes, where: str) -> dict[str, float]:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise DamagedError(f"{where} is damaged ({error})") from error
    if not isinstance(record, dict) or "step" not in record or not all(map(is_number, record.values())):
        raise DamagedError(f"{where} is damaged: it is no record of numbers with a step")
    return record
