"""CSV and TSV: cells between separators, and quotes as programs write them.

Every function raises DataError that names the file and the line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intrinsic_cli.errors import DataError
from intrinsic_cli.tasks.table import LISTED, LONGEST_CELL, Table, in_all

SEPARATOR_TOLD = re.compile(r"sep=(.|\\t)?", re.IGNORECASE | re.DOTALL)  # Excel's first line of a CSV


@contextmanager
def _cells_up_to(size: int) -> Iterator[None]:
    before = csv.field_size_limit(size)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def parse(file: Path, text: str, separator: str, columns: Sequence[str]) -> Table:
    """Cells between separators. Only an empty field has no value: NA, null and None are words."""
    taken: list[str] = []  # the lines of the row being read
    rows = csv.reader(_kept(io.StringIO(text, newline=""), taken), delimiter=separator, strict=True)
    tabs = separator == "\t"
    with _cells_up_to(LONGEST_CELL):
        try:
            header = _header(file, rows, columns)
            places = {name: header.index(name) for name in columns if name in header}
            cells: dict[str, list[Any]] = {name: [] for name in places}
            count = 0
            uneven: dict[int, int] = {}  # lines and their fields
            doubtful: dict[int, int] = {}  # first and last line of a row
            taken.clear()
            for row in rows:
                if tabs and _reads_two_ways(row, taken, len(header), places.values()):
                    doubtful[rows.line_num - len(taken) + 1] = rows.line_num
                elif row and len(row) != len(header):
                    uneven[rows.line_num] = len(row)
                elif row:
                    count += 1
                    for name, place in places.items():
                        cells[name].append(row[place] or None)
                taken.clear()
        except csv.Error as error:
            reason = f"a cell of more than {LONGEST_CELL} characters" if "limit" in str(error) else str(error)
            reason = reason.replace("'\t'", "a tab")
            way = "; where quotes are part of the text, save the file as .jsonl" if tabs else ""
            raise DataError(
                f"{file}, line {rows.line_num}: {reason}; close every quote, and double "
                f"those inside a field{way}"
            ) from error
    if doubtful:
        first, last = next(iter(doubtful.items()))
        raise DataError(
            f"{file}, line {first}: a cell in quotes reaches to line {last}, but each of these lines is a row if "
            "quotes are part of the text; save the file as .csv or .jsonl, which say which one is meant"
            f"{in_all(list(doubtful), 'rows')}"
        )
    if uneven:
        line, fields = next(iter(uneven.items()))
        raise DataError(
            f"{file}, line {line}: has {fields} fields where the header has {len(header)}; put a field that holds "
            f'the separator in "quotes"{in_all(list(uneven), "lines")}'
        )
    return Table(count, tuple(header[:LISTED]), cells)


def _kept(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    """The lines, each of which is also put into `taken`."""
    for line in lines:
        taken.append(line)
        yield line


def _reads_two_ways(row: Sequence[str], lines: Sequence[str], fields: int, used: Collection[int]) -> bool:
    """Whether the `lines` of a TSV, one `row` by their quotes, are one or more other rows if quotes are text.

    Programs quote the cells that hold tabs, line breaks and quotes; GLUE, like most who write a TSV by hand, quotes
    none, and speech that goes on over some rows then looks like one cell. Nothing in the file tells which is
    meant where each line has its `fields`. In a file of one column no line could have any others, and where the
    first column is `used`, and so has values, a line that begins with a tab is indented text, as of code.
    """
    if fields == 1 or (len(lines) == 1 and len(row) == fields):
        return False
    found = [line for line in lines if line.strip("\r\n")]
    indented = 0 in used and any(line.startswith("\t") for line in found)
    return not indented and all(line.count("\t") == fields - 1 for line in found)


def _header(file: Path, rows: Iterable[list[str]], columns: Sequence[str]) -> list[str]:
    header = next((row for row in rows if row), [])
    if SEPARATOR_TOLD.fullmatch(",".join(header)):
        raise DataError(
            f"{file}: the first line, {','.join(header)!r}, tells a spreadsheet the separator and names no column; "
            "take it out, and put commas between the fields (tabs in a .tsv)"
        )
    if not any(name.strip() for name in header):
        raise DataError(f"{file} has no header; write the names of the columns into its first line")
    for name in columns:
        if header.count(name) > 1:
            raise DataError(
                f"{file}: the header names the column {name!r} {header.count(name)} times; keep one"
            )
    return header
