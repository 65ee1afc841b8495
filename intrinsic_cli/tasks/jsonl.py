"""JSON and JSON lines: records of any keys, numbers as their digits.

Every function raises DataError that names the file, and the line or record.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intrinsic_cli.errors import DataError
from intrinsic_cli.tasks.table import LISTED, Digits, Table, as_text, in_all, numbers, shown


def parse(file: Path, text: str, columns: Sequence[str]) -> Table:
    """One array of records, or one record a line: only the first character tells. A number is its digits."""
    listed = text.lstrip().startswith("[")
    kind = "record" if listed else "line"
    rows: list[dict[str, Any]] = []
    wrong: dict[int, DataError] = {}
    for number, part in enumerate(
        _loads(text, str(file), columns) if listed else io.StringIO(text, newline=None), 1
    ):
        where = f"{file}, {kind} {number}"
        try:
            if listed or part.strip():
                rows.append(_record(part if listed else _loads(part, where, columns), where))
        except DataError as error:
            wrong[number] = error
    if wrong:
        first = next(iter(wrong.values()))
        raise DataError(f"{first}{in_all(list(wrong), f'{kind}s')}") from first
    present = [name for name in columns if any(name in row for row in rows)]
    cells = {name: [as_text(row.get(name)) for row in rows] for name in present}
    digits = {name: numbers(row.get(name) for row in rows) for name in present}
    lacking = len(present) < len(columns)
    names = _first_keys(text) if lacking and rows else tuple(present)
    return Table(len(rows), names, cells, numbers=digits)


def _record(found: Any, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise DataError(f'{where}: is no record but {shown(found)}; write {{"text": "…", "label": …}}')
    return found


def _first_keys(text: str) -> tuple[str, ...]:
    """The keys of the first record of a text that is known to be sound."""
    start = text.index("{")
    record, _ = json.JSONDecoder(parse_int=str).raw_decode(text, start)
    return tuple(record)[:LISTED]


def _loads(text: str, where: str, columns: Sequence[str]) -> Any:
    """`text` with numbers as their digits and no key of any object but `columns`."""

    def record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise DataError(
                f"{where}: a record has one key twice ({', '.join(key for key, _ in pairs)}); keep one"
            )
        return {key: value for key, value in pairs if key in columns}

    try:
        return json.loads(
            text, object_pairs_hook=record, parse_int=Digits, parse_float=Digits,
            parse_constant=lambda word: None if word == "NaN" else word,
        )  # fmt: skip
    except (ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else f"is no JSON ({error})"
        raise DataError(
            f'{where}: {reason}; write a list of records, or one a line: {{"text": "…", "label": …}}'
        ) from error
