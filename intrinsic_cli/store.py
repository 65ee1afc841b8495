"""One directory per run, and the state of a run read off its files.

`result.json` is published last, by write and rename: where it stands, the run is done. `error.json` (the
reason and the traceback) says it failed. Neither: pending, or running while somebody holds its lock.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from intrinsic_cli.errors import IdimError, StoreError
from intrinsic_cli.spec import RunSpec

RESULT, ERROR, CONFIG, HISTORY, THETA = (
    "result.json",
    "error.json",
    "config.json",
    "history.jsonl",
    "theta.safetensors",
)


def publish(path: Path, record: Any) -> None:
    """Write `record` as JSON so that a reader sees the whole of it or nothing. NaN is refused."""
    text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(draft, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


class RunDir:
    """The directory of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def state(self) -> str:
        """`done`, `failed`, `running` (somebody holds its lock) or `pending`."""
        if (self.path / RESULT).exists():
            return "done"
        if self._lock_is_held():
            return "running"
        return "failed" if (self.path / ERROR).exists() else "pending"

    def _lock_is_held(self) -> bool:
        lock = self.path / ".lock"
        if not lock.exists():
            return False
        try:
            with FileLock(lock, timeout=0):
                return False
        except Timeout:
            return True

    @contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the run's lock; yields False where another process holds it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Not 0: somebody who reads `state` holds the lock for an instant.
            lock = FileLock(self.path / ".lock", timeout=0.5)
            lock.acquire()
        except Timeout:
            yield False
            return
        except OSError as error:
            raise StoreError(f"output_dir: can't write {self.path}: {error.strerror or error}") from error
        try:
            yield True
        finally:
            lock.release()

    def begin(self, spec: RunSpec) -> None:
        """Record the resolved configuration and clear what an earlier attempt left."""
        for name in (RESULT, ERROR, HISTORY, THETA):
            (self.path / name).unlink(missing_ok=True)
        publish(self.path / CONFIG, spec.to_dict())

    def log(self, **record: Any) -> None:
        """Append one line to the history."""
        with open(self.path / HISTORY, "a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def finish(self, result: dict[str, Any]) -> None:
        """Publish the result: from here on the run is done."""
        publish(self.path / RESULT, result)

    def result(self) -> dict[str, Any] | None:
        """The published result, or None. Raises StoreError where the file is not whole."""
        path = self.path / RESULT
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(f"{path} is damaged ({error}); delete it and run the sweep again") from error

    def fail(self, error: BaseException) -> None:
        """Record why the run has no result."""
        publish(
            self.path / ERROR,
            {
                "error": type(error).__name__,
                "message": str(error),
                "expected": isinstance(error, IdimError),
                "traceback": "".join(traceback.format_exception(error)),
            },
        )

    def error(self) -> dict[str, Any]:
        """The record of `fail`."""
        return json.loads((self.path / ERROR).read_text(encoding="utf-8"))

    def history(self) -> list[dict[str, Any]]:
        """The whole lines of the history; a torn last line (a run that was killed) is left out."""
        path = self.path / HISTORY
        if not path.exists():
            return []
        text = path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Store:
    """All the runs under one output folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def check_writable(self) -> None:
        """Raise StoreError now, not after an hour of training, where the folder can't be written."""
        probe = self.root / f".probe.{os.getpid()}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"output_dir={self.root} can't be written ({error.strerror or error}); choose another folder"
            ) from error

    def run(self, spec: RunSpec) -> RunDir:
        return RunDir(self.root / spec.run_id)

    def runs(self) -> list[RunDir]:
        """Every run directory under the root, by name."""
        if not self.root.is_dir():
            raise StoreError(f"{self.root} is not a folder; give the output_dir of a sweep, such as outputs/")
        return [RunDir(path.parent) for path in sorted(self.root.rglob(CONFIG))]

    def results(self) -> list[dict[str, Any]]:
        """The results of all finished runs. Raises StoreError at a result that is not whole."""
        records = ((run.path, run.result()) for run in self.runs())
        return [{**record, "path": str(path)} for path, record in records if record is not None]
