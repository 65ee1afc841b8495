"""What a run's final evaluation answered, row by row: columns of numbers by split, in one compressed file."""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intrinsic_cli.errors import DamagedError

if TYPE_CHECKING:
    import numpy as np

LARGEST = 2**30  # bytes of a run's outcomes, unpacked


def pack(tables: Mapping[str, Mapping[str, object]]) -> bytes:
    """The content of a file of `tables`: by split, columns (n,) of numbers. Real ones become float32."""
    import numpy as np

    columns: dict[str, Any] = {
        f"{split}.{name}": _narrow(np.asarray(values))
        for split, table in tables.items()
        for name, values in table.items()
    }
    file = io.BytesIO()
    np.savez_compressed(file, **columns)
    return file.getvalue()


def unpack(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The inverse of `pack`. Raises DamagedError at a file that is not whole, or of more than LARGEST bytes."""
    import numpy as np

    tables: dict[str, dict[str, np.ndarray]] = {}
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        with zipfile.ZipFile(path) as packed:
            members = packed.infolist()
            if sum(member.file_size for member in members) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST} bytes")
            _check_whole(packed)
            for member in members:
                split, _, name = member.filename.removesuffix(".npy").partition(".")
                with packed.open(member) as column:
                    values = np.lib.format.read_array(column, allow_pickle=False)
                tables.setdefault(split, {})[name] = values
    except (
        OSError,
        ValueError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        TypeError,  # of a header that describes no array, as the next
        tokenize.TokenError,
    ) as error:
        raise DamagedError(f"{path} is damaged ({error}); delete its folder or run it again") from error
    return tables


def _check_whole(packed: zipfile.ZipFile) -> None:
    """Raise ValueError unless the members that the file names fill it: one that it no longer names is lost."""
    file, at = packed.fp, 0
    assert file is not None
    for member in sorted(packed.infolist(), key=lambda member: member.header_offset):
        if member.header_offset != at:
            break
        file.seek(at + 26)  # of its own header: how long its name and what follows it are
        name, extra = struct.unpack("<HH", file.read(4).ljust(4, b"\0"))
        at += 30 + name + extra + member.compress_size
    if at != packed.start_dir:
        raise ValueError("not all that it holds is named")


def _narrow(values: np.ndarray) -> np.ndarray:
    """Whole numbers in as few bytes as hold them, and real ones as float32."""
    import numpy as np

    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.dtype.kind in "iu":
        least, most = int(values.min(initial=0)), int(values.max(initial=0))
        return values.astype(np.min_scalar_type(min(least, -most - 1) if least < 0 else most))
    return values
