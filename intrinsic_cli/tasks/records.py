"""Files of records, read as they are: a cell is the text it is, the same from CSV, TSV, JSON and Parquet.

Nothing is guessed: not a column's type, not a missing value, not a separator. Only the named columns are built,
every reader takes time linear in its file, and a size that could not be held is refused before it is read.
Every function raises DataError that names the file, and the line or record.
"""

from __future__ import annotations

import csv
import decimal
import hashlib
import io
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intrinsic_cli.errors import DataError

LONGEST_CELL = 1_000_000  # characters: a long book; more is a quote that is never closed
ROW_BYTES = 64  # that Python needs for the shortest row, beside its text
CHUNK = 1 << 24  # bytes read at a time
BATCH = 1000  # rows of a Parquet file decoded at a time
NAMED = 5  # places at fault in a message
LISTED = 1000  # names of columns kept for messages
SEPARATOR_TOLD = re.compile(r"sep=(.|\\t)?", re.IGNORECASE | re.DOTALL)  # Excel's first line of a CSV
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


def read(file: Path, columns: Sequence[str], limit: int) -> tuple[Table, str]:
    """The `columns` that `file` has, and SHA-256 (hex) of the very bytes they were read from.

    `limit` bounds the bytes that the file may hold, packed or not, with ROW_BYTES for each row.
    """
    kind = file.suffix.lower()
    content = _content(file, limit, text=kind != ".parquet")
    digest = hashlib.sha256(content).hexdigest()
    if kind == ".parquet":
        return _parquet(file, content, columns, limit), digest
    text = _decoded(file, content)
    del content
    if kind in (".csv", ".tsv"):
        return _separated(file, text, "\t" if kind == ".tsv" else ",", columns), digest
    return _json(file, text, columns), digest


def joined(tables: Sequence[Table]) -> Table:
    """The pieces of one split as one table; a column must be in all of them."""
    if len(tables) == 1:
        return tables[0]
    shared = [name for name in tables[0].cells if all(name in table.cells for table in tables)]
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


def too_large(file: Path, size: float, limit: int) -> DataError:
    return DataError(
        f"{file} holds {size / 2**30:.3g} GiB when it is read, above data.read_limit={limit / 2**30:g}; "
        "raise data.read_limit if there is memory for it, or give a smaller file"
    )


def _content(file: Path, limit: int, *, text: bool) -> bytes:
    """The bytes of a file, no more than `limit`; of a text's, none is NUL."""
    parts, size, lines = [], 0, 0
    try:
        if (size_told := file.stat().st_size) > limit:
            raise too_large(file, size_told, limit)
        with file.open("rb") as stream:
            while part := stream.read(CHUNK):
                at = part.find(b"\0") if text else -1
                if at >= 0:
                    line = lines + part.count(b"\n", 0, at) + 1
                    raise DataError(f"{file}, line {line}: holds a NUL byte; save the file as UTF-8 text")
                lines += part.count(b"\n") if text else 0
                size += len(part)
                if size + ROW_BYTES * lines > limit:
                    raise too_large(file, size + ROW_BYTES * lines, limit)
                parts.append(part)
    except OSError as error:
        raise DataError(f"can't read {file}: {error.strerror}; give a file that can be read") from error
    if not size:
        raise DataError(f"{file} can't be read: it is empty; give a file with rows")
    return b"".join(parts)


def _decoded(file: Path, content: bytes) -> str:
    """The text of a file, without its byte order mark, or the several that a chain of programs has put there."""
    try:
        return content.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}, line {line}: is not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error


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


def in_all(places: Sequence[int], kind: str) -> str:
    """`; 17 rows in all: 2, 5, 9, 12, 20, …` for a message about the first of them; "" where there is but one."""
    if len(places) < 2:
        return ""
    more = ", …" if len(places) > NAMED else ""
    return f"; {len(places):,} {kind} in all: {', '.join(map(str, places[:NAMED]))}{more}"


# --- CSV and TSV ------------------------------------------------------------------------------------------


@contextmanager
def _cells_up_to(size: int) -> Iterator[None]:
    before = csv.field_size_limit(size)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _separated(file: Path, text: str, separator: str, columns: Sequence[str]) -> Table:
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


# --- JSON and JSON lines ----------------------------------------------------------------------------------


def _json(file: Path, text: str, columns: Sequence[str]) -> Table:
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


# --- Parquet ----------------------------------------------------------------------------------------------


def _parquet(file: Path, content: bytes, columns: Sequence[str], limit: int) -> Table:
    """The columns' values as text. What the file unpacks to is told by its metadata, and counted as it comes."""
    import pyarrow
    from pyarrow import parquet

    failures = (pyarrow.ArrowException, ValueError, TypeError, OSError, OverflowError, MemoryError, KeyError)
    try:
        source = parquet.ParquetFile(pyarrow.BufferReader(content))
        names = source.schema_arrow.names
        for name in columns:
            if (times := names.count(name)) > 1:
                raise DataError(f"{file} can't be read: it has the column {name!r} {times} times; keep one")
        present = [name for name in columns if name in names]
        size = _unpacked(source.metadata, present)
        if size > limit:
            raise too_large(file, size, limit)
        declared = _declared(file, source.schema_arrow, present)
        cells, digits = _decode(file, content, present, limit)
    except failures as error:
        cause = " ".join(str(error).split())
        raise DataError(f"{file} can't be read: {cause}; write it again, with text as UTF-8") from error
    return Table(source.metadata.num_rows, tuple(names[:LISTED]), cells, declared, digits)


def _decode(
    file: Path, content: bytes, columns: Sequence[str], limit: int
) -> tuple[dict[str, list[Any]], dict[str, set[str]]]:
    """The cells of the columns, as long as they take no more than `limit` bytes, and the numbers among them."""
    import pyarrow
    from pyarrow import parquet

    # Texts that repeat stay packed until their size is known, where their encoding allows it.
    for packed in (list(columns), None):
        cells: dict[str, list[Any]] = {name: [] for name in columns}
        digits: dict[str, set[str]] = {name: set() for name in columns}
        try:
            source = parquet.ParquetFile(pyarrow.BufferReader(content), read_dictionary=packed)
            size = ROW_BYTES * source.metadata.num_rows
            for batch in source.iter_batches(batch_size=BATCH, columns=list(columns)) if columns else ():
                for name in columns:
                    size += _characters(batch.column(name))
                    if size > limit:
                        raise too_large(file, size, limit)
                    values = batch.column(name).to_pylist()
                    cells[name] += map(as_text, values)
                    digits[name] |= numbers(values)
            return cells, digits
        except (pyarrow.ArrowNotImplementedError, OSError, KeyError):  # the last of a nested column
            if packed is None:
                raise
    raise AssertionError("unreachable")


def _unpacked(metadata: Any, columns: Sequence[str]) -> int:
    """Bytes that the columns unpack to as their file tells, and ROW_BYTES for each row."""
    total = ROW_BYTES * metadata.num_rows
    if not metadata.num_row_groups:
        return total
    first = metadata.row_group(0)
    places = [i for i in range(first.num_columns) if first.column(i).path_in_schema.split(".")[0] in columns]
    for group in range(metadata.num_row_groups):
        chunks = metadata.row_group(group)
        total += sum(chunks.column(place).total_uncompressed_size for place in places)
    return total


def _characters(array: Any) -> int:
    """Bytes of the texts of an array, which may be packed as a dictionary; 0 for numbers."""
    import pyarrow
    from pyarrow import compute

    kind = array.type.value_type if pyarrow.types.is_dictionary(array.type) else array.type
    if not any(check(kind) for check in (pyarrow.types.is_string, pyarrow.types.is_large_string,
                                         pyarrow.types.is_binary, pyarrow.types.is_large_binary)):  # fmt: skip
        return array.nbytes
    if pyarrow.types.is_dictionary(array.type):
        return compute.sum(compute.binary_length(array.dictionary).take(array.indices)).as_py() or 0
    return compute.sum(compute.binary_length(array)).as_py() or 0


def _declared(file: Path, schema: Any, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The class names that `datasets` wrote into the file for columns of whole numbers."""
    import pyarrow

    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return {}
    try:
        features = json.loads(raw)["info"]["features"]
        found = {
            name: tuple(features[name]["names"])
            for name in columns
            if features.get(name, {}).get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file} can't be read: what it says of its columns is damaged ({error!r:.80}); write it again"
        ) from error
    whole = {
        name: names for name, names in found.items() if pyarrow.types.is_integer(schema.field(name).type)
    }
    for name, names in whole.items():
        if not all(isinstance(word, str) for word in names) or len(set(names)) < max(2, len(names)):
            raise DataError(
                f"{file} can't be read: it declares {names!r:.80} as the classes of {name!r}, which are no two "
                "different names; write it again"
            )
    return whole
