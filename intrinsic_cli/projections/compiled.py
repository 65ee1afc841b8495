"""numba's `njit` with a compile cache that can't go stale.

numba looks only at the file that holds a cached function, so a change to a function it inlines from
another file would go unnoticed. Here the cache's folder is named after a hash of all the package's kernels.
It lies in the user's cache folder, or under NUMBA_CACHE_DIR where that is set; where neither can be written,
every process compiles anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

config: Any = numba.core.config


@cache
def _folder() -> str | None:
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    home = config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "idim" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return str(folder) if os.access(folder, os.W_OK) else None


def cached_njit(**options: Any) -> Callable[[Callable], Callable]:
    """`numba.njit(cache=True, **options)`, compiled once per machine and version of the kernels."""

    def compile_later(function: Callable) -> Callable:
        if (folder := _folder()) is None:
            return numba.njit(**options)(function)
        before, config.CACHE_DIR = config.CACHE_DIR, folder
        try:
            return numba.njit(cache=True, **options)(function)
        finally:
            config.CACHE_DIR = before

    return compile_later
