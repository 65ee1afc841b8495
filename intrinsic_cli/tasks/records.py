"""Files of records, read as they are: a cell is the text it is, the same from CSV, TSV, JSON and Parquet.

Nothing is guessed: not a column's type, not a missing value, not a separator. Only the named columns are built,
every reader takes time linear in its file, and a size that could not be held is refused before it is read.
Every function raises DataError that names the file, and the line or record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from intrinsic_cli.errors import DataError
from intrinsic_cli.tasks import jsonl, parquet, separated
from intrinsic_cli.tasks.table import ROW_BYTES, Table, too_large

CHUNK = 1 << 24  # bytes read at a time


def read(file: Path, columns: Sequence[str], limit: int) -> tuple[Table, str]:
    """The `columns` that `file` has, and SHA-256 (hex) of the very bytes they were read from.

    `limit` bounds the bytes that the file may hold, packed or not, with ROW_BYTES for each row.
    """
    kind = file.suffix.lower()
    content = _content(file, limit, text=kind != ".parquet")
    digest = hashlib.sha256(content).hexdigest()
    if kind == ".parquet":
        return parquet.parse(file, content, columns, limit), digest
    text = _decoded(file, content)
    del content
    if kind in (".csv", ".tsv"):
        return separated.parse(file, text, "\t" if kind == ".tsv" else ",", columns), digest
    return jsonl.parse(file, text, columns), digest


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
