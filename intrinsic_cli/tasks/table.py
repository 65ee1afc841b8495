"""The records of one split in memory: columns of cells, what becomes a cell, and how one is told in a message."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intrinsic_cli.errors import DataError

LONGEST_CELL = 1_000_000  # characters: a long book; more is a quote that is never closed
ROW_BYTES = 64  # that Python needs for the shortest row, beside its text
NAMED = 5  # places at fault in a message
LISTED = 1000  # names of columns kept for messages
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Table:
    """The records of one split, n rows.

    `cells[column]` has n entries: text, or None where there is no value, or whatever else JSON and Parquet can hold
    (lists, bytes), which the checks of a column refuse by its row. `names` are all columns, for messages.
    `declared[column]` are class names that the file states for whole numbers in it (Parquet alone), and
    `numbers[column]` those of its texts that are numbers in the file, not words (JSON and Parquet).
    """

    rows: int
    names: tuple[str, ...]
    cells: Mapping[str, list[Any]]
    declared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: Mapping[str, Collection[str]] = field(default_factory=dict)


class Digits(str):
    """A number of a JSON file, as it is written there."""

    __slots__ = ()


def joined(tables: Sequence[Table], files: Sequence[Path]) -> Table:
    """The pieces of one split, read from `files`, as one table. Raises DataError at a column that some lack, but
    for those without rows."""
    files = [file for file, table in zip(files, tables, strict=True) if table.rows]
    tables = [table for table in tables if table.rows] or tables[:1]
    if len(tables) == 1:
        return tables[0]
    shared = list(dict.fromkeys(name for table in tables for name in table.cells))
    for name in shared:
        lacking = [file for file, table in zip(files, tables, strict=True) if name not in table.cells]
        if lacking:
            raise DataError(
                f"{lacking[0]} has no column {name}, which other pieces of its split have"
                f"{in_all(lacking, 'pieces')}; is its header missing?"
            )
    declared = {
        name: names for name, names in tables[0].declared.items()
        if all(table.declared.get(name) == names for table in tables)
    }  # fmt: skip
    if any(table.declared.keys() - declared.keys() for table in tables):
        raise DataError(
            "the pieces of a split declare different class names; write all of them by one program"
        )
    cells = {name: [cell for table in tables for cell in table.cells[name]] for name in shared}
    digits = {name: set().union(*(table.numbers.get(name, ()) for table in tables)) for name in shared}
    return Table(sum(table.rows for table in tables), tables[0].names, cells, declared, digits)


def as_text(value: Any) -> Any:
    """The text of a number or truth value, None for NaN; anything else as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value)
    return str(value) if isinstance(value, int | decimal.Decimal | Digits) else value


def numbers(values: Iterable[Any]) -> set[str]:
    """The texts of those values that are numbers; a truth value is none."""
    kinds = {int, float, decimal.Decimal, Digits}
    return {as_text(value) for value in values if type(value) in kinds and value == value}


def shown(value: Any) -> str:
    """A value in a message: in quotes where it is text and no number. The keys of objects were not read."""
    if isinstance(value, dict):
        return "an object {…}"
    number = isinstance(value, str) and (NUMBER.fullmatch(value) or value in ("inf", "-inf"))
    return value[:40] if number else f"{value!r:.40}"


def in_all(places: Sequence[object], kind: str) -> str:
    """`; 17 rows in all: 2, 5, 9, 12, 20, …` for a message about the first of them; "" where there is but one."""
    if len(places) < 2:
        return ""
    more = ", …" if len(places) > NAMED else ""
    return f"; {len(places):,} {kind} in all: {', '.join(map(str, places[:NAMED]))}{more}"


def too_large(file: Path, size: float, limit: int) -> DataError:
    """The error of a file that takes `size` bytes when it is read, more than `limit`."""
    return DataError(
        f"{file} holds {size / 2**30:.3g} GiB when it is read, above data.read_limit={limit / 2**30:g}; "
        "raise data.read_limit if there is memory for it, or give a smaller file"
    )
