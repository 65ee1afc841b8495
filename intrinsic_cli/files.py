"""Files written whole or not at all, and read with limits: they may be torn, edited, huge, or no files."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from intrinsic_cli.errors import DamagedError, StoreError

LOOKS = 5  # at a file that changes while it is read
DEEPEST = 50  # of JSON; a run's files nest four deep


def write_whole(path: Path, *parts: bytes) -> None:
    """Write a file so that a reader sees the whole of it or what was there before. Raises StoreError."""
    # Processes of different machines may have one number, and one folder.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(draft, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise StoreError(
            f"can't write {path}: {error.strerror or error}; see to the disk and go on"
        ) from error
    with suppress(OSError):  # some file systems know no fsync of a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def is_full(error: StoreError) -> bool:
    """Whether a file could not be written for want of space, of the disk or of its user's share or limit."""
    return getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(option: str, path: Path, kind: str) -> Iterator[None]:
    """Raise StoreError where `path`, a `file` or `folder` that `option` names, can't be written."""
    try:
        yield
    except Exception as error:
        native = re.search(r"\(os error (\d+)\)", str(error))  # of a library in Rust, whose class is its own
        number = int(native[1]) if native else getattr(error, "errno", None)
        if number is None and not isinstance(error, OSError):
            raise
        reason = error if number is None else os.strerror(number)
        raise StoreError(f"{option} {path} can't be written ({reason}); choose another {kind}") from error


def check_new(option: str, folder: Path) -> None:
    """Raise StoreError unless `folder`, which `option` names, is not there yet or empty."""
    with writing(option, folder, "folder"):
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken:
        raise StoreError(f"{option} {folder} is there already; give a new folder")


@contextmanager
def new_folder(option: str, path: Path) -> Iterator[Path]:
    """A hidden draft that becomes the folder `path`, new or empty, at the block's end, and is gone after an error.

    Its files may be read by whom new files may, which libraries that write weights do not see to. Raises StoreError
    where `path`, which `option` names, can't be written.
    """
    there = path.is_dir()  # it may be a mount, or somebody's working folder, and stays
    draft = (path if there else path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with writing(option, path, "folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.mkdir()
            yield draft
            mode = draft.stat().st_mode & 0o666
            for file in draft.rglob("*"):
                file.chmod(file.stat().st_mode | mode)
            if there:
                for file in draft.iterdir():
                    file.rename(path / file.name)
                draft.rmdir()
            else:
                draft.rename(path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def publish(path: Path, record: Any) -> None:
    """Write `record` as JSON, whole or not at all. NaN is refused."""
    write_whole(path, (json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A regular file to read; links are followed. Raises FileNotFoundError, and StoreError at anything else."""
    try:
        _regular(path, os.stat(path).st_mode)  # before it is opened: to open a pipe would wait for a writer
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            _regular(path, os.fstat(file.fileno()).st_mode)
            yield file
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(str(path)) from error
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror or error}") from error


def _regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise StoreError(
            f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')} and no file; put a file there"
        )


def read_json(path: Path, most: int) -> Any:
    """The record in a file of at most `most` bytes. What somebody writes at that moment (a copy, say) is looked at
    again. Raises FileNotFoundError, DamagedError where it is not whole JSON of such a size and of a
    depth that a run writes, and StoreError where it can't be read."""
    for left in reversed(range(LOOKS)):
        try:
            with opened(path) as file:
                seen = os.fstat(file.fileno())
                content = file.read(most + 1)
            return _whole_json(path, content, most)
        except StoreError as error:
            torn = isinstance(error, DamagedError) and _changed(path, seen)
            replaced = getattr(error.__cause__, "errno", None) == errno.ESTALE  # by another machine
            if not left or not (torn or replaced):
                raise
    raise AssertionError("unreachable")


def _changed(path: Path, seen: os.stat_result) -> bool:
    """Whether another file, or other content, is where one was read."""
    try:
        now = os.stat(path)
    except OSError:
        return True
    return (now.st_ino, now.st_size, now.st_mtime_ns) != (seen.st_ino, seen.st_size, seen.st_mtime_ns)


def _whole_json(path: Path, content: bytes, most: int) -> Any:
    if len(content) > most:
        raise DamagedError(f"{path} is damaged: it is longer than the {most >> 20} MB that a run writes")
    try:
        return parse_json(content)
    except ValueError as error:
        raise DamagedError(f"{path} is damaged ({error})") from error


def parse_json(content: bytes) -> Any:
    """JSON of finite numbers, nested at most DEEPEST deep. Raises ValueError."""
    try:
        tree = json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    level, depth = [tree], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError("it nests too deep")
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return tree


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")
