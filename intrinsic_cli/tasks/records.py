"""Text files of records, CSV and JSON, checked line by line before the readers of `datasets` see them.

Those readers guess: of two columns with one name they take the first, a row with a field too many shifts all
the others, and some JSON ends the whole process. Every function raises DataError that names file and line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intrinsic_cli.errors import DataError
from intrinsic_cli.tasks.columns import LONGEST_CELL


def check(file: Path, columns: Sequence[str]) -> None:
    """Check that `file` is UTF-8 text of records, and that none of `columns` stands twice in a record."""
    if file.suffix.lower() == ".parquet":
        return
    try:
        if not file.stat().st_size:
            raise DataError(f"{file} is empty; give a file with rows")
        _check_bytes(file)
        if file.suffix.lower() in (".csv", ".tsv"):
            _check_table(file, columns)
        else:
            _check_json(file)
    except OSError as error:
        raise DataError(f"can't read {file}: {error.strerror}; give a file that can be read") from error


def _check_bytes(file: Path) -> None:
    number = 0
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if b"\0" in line:
                    raise DataError(f"{file}, line {number}: holds a NUL byte; save the file as UTF-8 text")
                line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}, line {number}: is not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error


@contextmanager
def _cells_up_to(size: int) -> Iterator[None]:
    before = csv.field_size_limit(size)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _check_table(file: Path, columns: Sequence[str]) -> None:
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    with _cells_up_to(LONGEST_CELL), file.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream, delimiter=separator, strict=True)
        try:
            header = next((row for row in rows if row), [])
            header = header if any(name.strip() for name in header) else []
            if not header:
                raise DataError(f"{file} has no header; write the names of the columns into its first line")
            for name in columns:
                if header.count(name) > 1:
                    raise DataError(
                        f"{file}: the header names the column {name!r} {header.count(name)} times; keep one"
                    )
            for row in rows:
                if row and len(row) != len(header):
                    raise DataError(
                        f"{file}, line {rows.line_num}: has {len(row)} fields where the header has {len(header)}; "
                        'put a field that holds the separator in "quotes"'
                    )
        except csv.Error as error:
            reason = f"a cell of more than {LONGEST_CELL} characters" if "limit" in str(error) else str(error)
            raise DataError(
                f"{file}, line {rows.line_num}: {reason}; close every quote, and double those inside a field"
            ) from error


def _check_json(file: Path) -> None:
    """One array of records, or one record a line: only the first character tells."""
    with file.open(encoding="utf-8-sig") as stream:
        if stream.read(4096).lstrip().startswith("["):
            stream.seek(0)
            for row, record in enumerate(_loads(stream.read(), str(file)), 1):
                _check_record(record, f"{file}, record {row}")
            return
        stream.seek(0)
        for number, line in enumerate(stream, 1):
            if line.strip():
                where = f"{file}, line {number}"
                _check_record(_loads(line, where), where)


def _loads(text: str, where: str) -> Any:
    def record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            raise DataError(
                f"{where}: a record has one key twice ({', '.join(key for key, _ in pairs)}); keep one"
            )
        return made

    try:
        return json.loads(text, object_pairs_hook=record)
    except (ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else f"is no JSON ({error})"
        raise DataError(
            f'{where}: {reason}; write a list of records, or one a line: {{"text": "…", "label": …}}'
        ) from error


def _check_record(record: Any, where: str) -> None:
    if not isinstance(record, dict):
        raise DataError(f'{where}: is no record but {record!r:.40}; write {{"text": "…", "label": …}}')
