"""numba's `njit` with a compile cache that neither goes stale nor ends a run.

numba looks only at the file that holds a cached function, so a change to a function it inlines from
another file would go unnoticed. Here the cache's folder is named after a hash of all the package's kernels.
It lies in the user's cache folder, or under NUMBA_CACHE_DIR where that is set. What is read from it can run
anything (a pickle, machine code), so it has to be this user's own and nobody else may write it. Where there is
no such folder, every process compiles anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

config: Any = numba.core.config
log = logging.getLogger(__name__)


def cached_njit(**options: Any) -> Callable[[Callable], Callable]:
    """`numba.njit(cache=True, **options)`, compiled once per machine and version of the kernels."""

    def compile_later(function: Callable) -> Callable:
        compiled = numba.njit(**options)(function)
        if config.DISABLE_JIT or (folder := _folder()) is None:
            return compiled
        before, config.CACHE_DIR = config.CACHE_DIR, folder
        try:
            compiled._cache = _Cache(function)
        finally:
            config.CACHE_DIR = before
        return compiled

    return compile_later


@cache
def _folder() -> str | None:
    """The folder of this version's compiled functions, or None where none is safe."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    try:
        home = Path(config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = home / "idim" / digest.hexdigest()[:16]
        home.mkdir(parents=True, exist_ok=True)
        safe = _own(folder.parent) and _own(folder)
    except (OSError, RuntimeError):  # not to be written, or a user without a home
        return None
    return str(folder) if safe and os.access(folder, os.W_OK) else None


def _own(folder: Path) -> bool:
    """Make `folder` if need be; whether it is this user's. Nobody else may write it from now on."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if not hasattr(os, "geteuid"):  # Windows: the user's folders are their own
        return True
    found = folder.stat()
    if found.st_uid != os.geteuid():
        log.warning("the compile cache %s is another user's and is not used", folder)
        return False
    if found.st_mode & 0o022:
        folder.chmod(0o700)
    return True


class _Cache(FunctionCache):
    """A cache whose files count as not there when they can't be read, and may fail to be written."""

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        plain = self._cache_file
        self._cache_file = _Files(self.cache_path, self._impl.filename_base, plain._source_stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # what is torn raises errors of any type
            self._forget(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk
            self._forget(error)

    def _forget(self, error: Exception) -> None:
        """Remove the index, so that the function is compiled and written anew."""
        log.info("the compile cache %s is not used for %s: %r", self.cache_path, self._name, error)
        try:
            Path(self._cache_file._index_path).unlink(missing_ok=True)
        except OSError as also:
            log.info("nor can its index be removed: %r", also)


class _Files(IndexDataCacheFile):
    """Files that are on the disk before they get their names, and machine code with a checksum before it."""

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[Any]:
        with super()._open_for_write(filepath) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())

    def _save_data(self, name: str, data: Any) -> None:
        body = self._dump(data)
        with self._open_for_write(self._data_path(name)) as f:
            f.write(hashlib.sha256(body).digest() + body)

    def _load_data(self, name: str) -> Any:
        raw = Path(self._data_path(name)).read_bytes()
        if hashlib.sha256(raw[32:]).digest() != raw[:32]:
            raise OSError(f"{name} is damaged")  # which `load` takes for a file that is not there
        return pickle.loads(raw[32:])
