"""A safetensors file behind the SHA-256 of its content, so that no damage to it goes unseen.

The header is read by hand, as safetensors reads none that stands behind a hash.
"""

from __future__ import annotations

import hashlib
import os
from io import BufferedReader
from pathlib import Path
from typing import Any

from intrinsic_cli.errors import DamagedError, StoreError
from intrinsic_cli.files import opened, parse_json, write_whole

HASH = hashlib.sha256().digest_size  # bytes before the content
LONGEST_HEADER = 100 << 20  # bytes, as in safetensors
_NO_HEADER = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)


def write(path: Path, content: bytes) -> None:
    """Write `content`, whole or not at all, behind its hash. Raises StoreError."""
    write_whole(path, hashlib.sha256(content).digest(), content)


def read(path: Path) -> bytes:
    """What `write` was given. Raises FileNotFoundError, DamagedError where it is not that, and StoreError."""
    with opened(path) as file:
        digest = file.read(HASH)
        # Hashed before it is held, so that a huge file costs no memory; a hole of terabytes is no safetensors file.
        whole = _size(file) == os.fstat(file.fileno()).st_size - HASH
        file.seek(HASH)
        if not whole or hashlib.file_digest(file, "sha256").digest() != digest:
            raise DamagedError(f"{path} is damaged")
        file.seek(HASH)
        return file.read()


def entry(path: Path, name: str, most: int) -> bytes | None:
    """The bytes of the tensor `name`, at most `most` of them, without a look at the others; None where the file has
    none to read."""
    try:
        with opened(path) as file:
            file.seek(HASH)
            size, header = _header(file)
            begin, end = header[name]["data_offsets"]
            file.seek(HASH + size + begin)
            return file.read(max(0, min(end - begin, most)))
    except (FileNotFoundError, StoreError, *_NO_HEADER):
        return None


def _header(file: BufferedReader) -> tuple[int, dict[str, Any]]:
    """The bytes before the tensors of a safetensors file that begins here, and what they say of each. Raises one of
    _NO_HEADER at no such."""
    size = int.from_bytes(length := file.read(8), "little")
    if len(length) < 8 or not 2 <= size <= LONGEST_HEADER:
        raise ValueError(f"a header of {size} bytes")
    return 8 + size, parse_json(file.read(size))


def _size(file: BufferedReader) -> int | None:
    """The bytes that a safetensors file which begins here has by its header; None for no such."""
    try:
        size, header = _header(file)
        return size + max((t["data_offsets"][1] for k, t in header.items() if k != "__metadata__"), default=0)
    except _NO_HEADER:
        return None
