"""One directory per run, and the state of a run read off its files.

`result.json` is published last, by write and rename: where it stands whole, the run is done. `error.json`
(the reason and the traceback) says it failed. Neither: pending, or running while somebody holds its lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import itertools
import json
import os
import secrets
import traceback
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from intrinsic_cli.errors import DamagedError, IdimError, StoreError
from intrinsic_cli.result import RunResult, RunState
from intrinsic_cli.spec import RunSpec

RESULT, ERROR, CONFIG, HISTORY, THETA, SNAPSHOT, OUTCOMES = (
    "result.json",
    "error.json",
    "config.json",
    "history.jsonl",
    "theta.safetensors",
    "snapshot.bin",
    "outcomes.npz",
)
LARGEST_OUTCOMES = 2**30  # bytes of a run's outcomes, unpacked

STUDY = "study.yaml"  # the words of the last sweep into a folder


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


def publish(path: Path, record: Any) -> None:
    """Write `record` as JSON, whole or not at all. NaN is refused."""
    write_whole(path, (json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def _narrow(values: Any) -> Any:
    """Whole numbers in as few bytes as hold them, and real ones as float32."""
    import numpy as np

    if values.dtype.kind == "f":
        return values.astype(np.float32)
    return (
        values.astype(np.min_scalar_type(int(values.max(initial=0)))) if values.dtype.kind in "iu" else values
    )


class RunDir:
    """The directory of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def state(self) -> RunState:
        """What the directory says: done, running, failed, pending, or unreadable where its result is not whole."""
        try:
            if self.result() is not None:
                return RunState.DONE
        except DamagedError:
            return RunState.RUNNING if self._lock_is_held() else RunState.UNREADABLE
        if self._lock_is_held():
            return RunState.RUNNING
        return RunState.FAILED if self.has_error else RunState.PENDING

    @property
    def has_error(self) -> bool:
        """Whether the last attempt left a reason, whoever holds the run now."""
        return (self.path / ERROR).exists()

    def _lock_is_held(self) -> bool:
        # A shared lock, which needs no right to write, and in whose way only the owner's is.
        try:
            with open(self.path / ".lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except BlockingIOError:
            return True
        return False

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

    def plan(self, spec: RunSpec, *, forget: bool = True) -> None:
        """Record that the run is going to be done, and `forget` why an earlier attempt failed."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if forget:
                (self.path / ERROR).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"can't write {self.path}: {error.strerror or error}") from error
        if not (self.path / CONFIG).exists():
            publish(self.path / CONFIG, spec.to_dict())

    def begin(self, spec: RunSpec, history: int | None = None) -> None:
        """Record the resolved configuration and clear what an earlier attempt left. With `history`, its
        snapshot and so many bytes of its history stay."""
        fresh, cleared = history is None, (RESULT, ERROR, THETA, OUTCOMES)
        for name in (*cleared, HISTORY, SNAPSHOT) if fresh else cleared:
            (self.path / name).unlink(missing_ok=True)
        for name in (*cleared, SNAPSHOT):  # drafts of an owner that was killed while it wrote
            for draft in self.path.glob(f".{name}.*.tmp"):
                draft.unlink(missing_ok=True)
        publish(self.path / CONFIG, spec.to_dict())
        if history is not None and self.history_size():
            os.truncate(self.path / HISTORY, history)

    def history_size(self) -> int:
        """Bytes of the history, 0 where there is none."""
        path = self.path / HISTORY
        return path.stat().st_size if path.exists() else 0

    def save(self, snapshot: bytes) -> None:
        """Publish where the run goes on, behind its SHA-256."""
        write_whole(self.path / SNAPSHOT, hashlib.sha256(snapshot).digest(), snapshot)

    def snapshot(self) -> bytes | None:
        """What `save` was given, or None where there is none or any bit of it is damaged."""
        try:
            with open(self.path / SNAPSHOT, "rb") as file:
                digest, content = file.read(32), file.read()
        except FileNotFoundError:
            return None
        return content if hashlib.sha256(content).digest() == digest else None

    def theta(self, content: bytes) -> None:
        """Write what the run has learned."""
        write_whole(self.path / THETA, content)

    def keep_outcomes(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Write, row by row, what the final evaluation answered; see `outcomes`."""
        import numpy as np

        columns = {f"{split}.{name}": v for split, table in tables.items() for name, v in table.items()}
        file = io.BytesIO()
        np.savez_compressed(file, **{name: _narrow(np.asarray(v)) for name, v in columns.items()})
        write_whole(self.path / OUTCOMES, file.getvalue())

    def outcomes(self) -> dict[str, dict[str, Any]] | None:
        """What the final evaluation answered and what was right: by split, columns (n,) in the rows' order.

        The splits are `validation` and, where rows were held out, `holdout`. Classification has the columns
        `prediction` and `label`, class ids; regression the same, float32 values; other kinds what their task's
        `blank` and `facts` say. `task_of(spec.task).score` gives any metric of any rows of them. None for a run
        without the file, which earlier versions did not write. Raises DamagedError where it is not whole.
        """
        import numpy as np

        path = self.path / OUTCOMES
        if not path.is_file():
            return None
        tables: dict[str, dict[str, Any]] = {}
        try:
            with zipfile.ZipFile(path) as packed:
                if sum(member.file_size for member in packed.infolist()) > LARGEST_OUTCOMES:
                    raise ValueError(f"it unpacks to more than {LARGEST_OUTCOMES} bytes")
            with np.load(path, allow_pickle=False) as columns:
                for key in columns.files:
                    split, _, name = key.partition(".")
                    tables.setdefault(split, {})[name] = columns[key]
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DamagedError(f"{path} is damaged ({error}); delete its folder or run it again") from error
        return tables

    def log(self, **record: Any) -> None:
        """Append one line to the history."""
        line = json.dumps(record, allow_nan=False) + "\n"
        try:
            with open(self.path / HISTORY, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise StoreError(f"can't write {self.path / HISTORY}: {error.strerror or error}") from error

    def finish(self, result: RunResult) -> None:
        """Publish the result: from here on the run is done, and there is nothing to go on from."""
        publish(self.path / RESULT, result.to_dict())
        (self.path / SNAPSHOT).unlink(missing_ok=True)

    def result(self) -> RunResult | None:
        """The published result, or None. Raises DamagedError where the file is not whole, and StoreError where
        it can't be read or is of a format that this idim does not know."""
        path = self.path / RESULT
        again = "delete it or run its sweep again"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"can't read {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise DamagedError(f"{path} is damaged ({error}); {again}") from error
        try:
            return RunResult.from_dict(record, self.path)
        except DamagedError as error:
            raise DamagedError(f"{path} is damaged ({error}); {again}") from error
        except StoreError as error:
            raise StoreError(f"{path}: {error}") from error

    def fail(self, error: BaseException, **more: Any) -> None:
        """Record why the run has no result, and what `more` there is to say."""
        publish(
            self.path / ERROR,
            {
                "error": type(error).__name__,
                "message": str(error),
                "expected": isinstance(error, IdimError),
                "traceback": "".join(traceback.format_exception(error)),
                **more,
            },
        )

    def error(self) -> dict[str, Any]:
        """The record of `fail`, or one that says why there is none to read."""
        path = self.path / ERROR
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return {**record, "message": str(record["message"])}
        except (ValueError, OSError, KeyError, TypeError) as error:
            return {
                "error": None,
                "message": f"the reason in {path} can't be read ({error})",
                "expected": True,
            }

    def spec(self) -> RunSpec:
        """What the run is. Raises DamagedError where its configuration is no such thing."""
        path = self.path / CONFIG
        try:
            return RunSpec.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError, IdimError) as error:
            raise DamagedError(f"{path} is not the configuration of a run ({error})") from error

    def forget(self) -> bool:
        """Remove what the run has left, if it has no result and nobody holds it. Returns whether it is gone.

        Only files of a run are removed: others stay, and so does their folder.
        """
        self.spec()
        with self.claim() as mine:
            if not mine or (self.path / RESULT).exists():
                return False
            drafts = [path.name for path in self.path.glob(".*.tmp")]
            for name in (ERROR, CONFIG, HISTORY, THETA, SNAPSHOT, *drafts, ".lock"):
                (self.path / name).unlink(missing_ok=True)
            with suppress(OSError):
                self.path.rmdir()
        return True

    def step(self) -> int | None:
        """The last step in the history; None where there is none."""
        try:
            steps = [line.get("step") for line in self.history() if isinstance(line, dict)]
        except (OSError, ValueError):
            return None
        return next((step for step in reversed(steps) if isinstance(step, int)), None)

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
        probe = self.root / f".probe.{secrets.token_hex(4)}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"output_dir={self.root} can't be written ({error.strerror or error}); choose another folder"
            ) from error

    def run(self, spec: RunSpec) -> RunDir:
        """The directory of a run, under its name or, where that is not there, one that earlier versions gave it."""
        names = (spec.run_id, *spec.legacy_ids)
        there = (self.root / name for name in names if (self.root / name).is_dir())
        return RunDir(next(there, self.root / spec.run_id))

    def keep_study(self, text: str) -> None:
        """Write `text` as the folder's study file. One of other words stays, under the next free number."""
        path = self.root / STUDY
        try:
            before = path.read_bytes() if path.is_file() else None
            if before == text.encode():
                return
            if before is not None:
                number = next(n for n in itertools.count(1) if not (self.root / f"study-{n}.yaml").exists())
                with suppress(FileNotFoundError):  # another driver was first
                    os.replace(path, self.root / f"study-{number}.yaml")
        except OSError as error:
            raise StoreError(f"can't write {path}: {error.strerror or error}") from error
        write_whole(path, text.encode())

    def runs(self) -> list[RunDir]:
        """Every run directory under the root, by name."""
        if not self.root.is_dir():
            raise StoreError(f"{self.root} is not a folder; give the output_dir of a sweep, such as outputs/")
        return [RunDir(path.parent) for path in sorted(self.root.rglob(CONFIG))]

    def results(self) -> list[RunResult]:
        """The results of all finished runs. Raises StoreError at a result that is not whole."""
        return [result for run in self.runs() if (result := run.result()) is not None]
