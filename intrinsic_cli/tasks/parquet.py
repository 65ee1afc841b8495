"""Parquet: typed columns, which may unpack to far more than the file holds, and class names for their numbers.

Every function raises DataError that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intrinsic_cli.errors import DataError
from intrinsic_cli.tasks.table import LISTED, ROW_BYTES, Table, as_text, numbers, too_large

BATCH = 1000  # rows decoded at a time


def parse(file: Path, content: bytes, columns: Sequence[str], limit: int) -> Table:
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
