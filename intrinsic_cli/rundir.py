"""The directory of one run, and what has become of the run, read off its files.

`result.json` is published last, by write and rename: where it stands whole, the run is done. `error.json`
(the reason and the traceback) says it failed, `pruned.json` that an evaluation ended it. None of these: pending, or
running while somebody holds its claim.
Each file is read with limits (`files`) and checked once; who may train a run, `claims` knows.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from typing import Any

from intrinsic_cli import history, sealed
from intrinsic_cli.claims import LOCK, Claim, claimed
from intrinsic_cli.errors import ConfigError, DamagedError, IdimError, StoreError, one_line
from intrinsic_cli.files import parse_json, publish, read_json, write_whole
from intrinsic_cli.history import Progress, is_number
from intrinsic_cli.outcomes import pack, unpack
from intrinsic_cli.result import RunBound, RunResult, RunState
from intrinsic_cli.spec import RunSpec, digest

log = logging.getLogger(__name__)

RESULT, ERROR, CONFIG, HISTORY, THETA, SNAPSHOT, OUTCOMES, BOUND, LIMITS, PRUNED = FILES = (
    "result.json",
    "error.json",
    "config.json",
    "history.jsonl",
    "theta.safetensors",
    "snapshot.bin",
    "outcomes.npz",
    "bound.json",
    "limits.json",  # at which scores its driver wants the run ended
    "pruned.json",  # that it was
)
TRACKED = ("idim/events.out.tfevents.*", "wandb/*run*", "wandb/debug*.log")  # what trackers write beside them
BEAT = ".beat"  # its time is that of the last step of the run that is trained
# Bytes that a run writes at most.
MOST = {
    RESULT: 64 << 20,
    ERROR: 16 << 20,
    CONFIG: 4 << 20,
    BOUND: 1 << 20,
    LIMITS: 4 << 20,
    PRUNED: 1 << 20,
}
QUIET = 60.0  # seconds without a step that are worth a word
DRAFT = re.compile(rf"\.({'|'.join(map(re.escape, FILES))})\.[0-9a-f]{{8}}\.tmp")  # of `write_whole`


@dataclass(frozen=True)
class Look:
    """What a run's directory said at one moment.

    `spec` is the run's, by its result or else its configuration, and None where neither can be read. `reason`
    says why the run failed, or why it is unreadable; `diverged`: it failed as its numbers stopped being finite,
    which tells of its learning rate, and for no reason of the machine. `pruned`: why it can't matter, a kind of
    `statistics.pruning.Limit`.
    """

    path: Path
    state: RunState
    spec: RunSpec | None = None
    result: RunResult | None = None
    reason: str = ""
    diverged: bool = False
    pruned: str = ""


class RunDir:
    """The directory of one run: of `spec`, where that is given."""

    def __init__(self, path: Path, spec: RunSpec | None = None) -> None:
        self.path = path
        self._wanted = spec
        self._claim: Claim | None = None
        self._beaten = 0.0  # when, by the clock that only goes forward

    def look(self) -> Look:
        """What the directory says now. Never raises."""
        try:
            result = self.result()
        except StoreError as error:
            running = isinstance(error, DamagedError) and claimed(self.path)
            state = RunState.RUNNING if running else RunState.UNREADABLE
            return Look(self.path, state, self._spec()[0], reason=self._brief(error))
        if result is not None:
            return Look(self.path, RunState.DONE, result.spec, result)
        spec, problem = self._spec()
        if claimed(self.path):
            return Look(self.path, RunState.RUNNING, spec)
        if (self.path / RESULT).exists():  # its owner has published it and left since this looked
            return self.look()
        if self.has_error:
            why = self.error()
            diverged = why["error"] == "RunError" and "attempts" not in why  # which a launcher counts
            return Look(self.path, RunState.FAILED, spec, reason=why["message"], diverged=diverged)
        if (end := self.pruned()) is not None:
            return Look(self.path, RunState.PRUNED, spec, reason=end["reason"], pruned=end["kind"])
        if problem and self._has(CONFIG, HISTORY, SNAPSHOT, THETA):
            return Look(self.path, RunState.UNREADABLE, reason=self._brief(problem))
        return Look(self.path, RunState.PENDING, spec)

    @property
    def state(self) -> RunState:
        """What has become of the run, as `look` has it."""
        return self.look().state

    def _brief(self, reason: object) -> str:
        return one_line(str(reason).replace(f"{self.path}{os.sep}", ""))

    def _has(self, *names: str) -> bool:
        return any(os.path.lexists(self.path / name) for name in names)

    def _json(self, name: str) -> Any:
        """The record in one of the run's files. Raises as `read_json`."""
        return read_json(self.path / name, MOST[name])

    def _spec(self) -> tuple[RunSpec | None, str]:
        """The recorded configuration, or None and why there is none."""
        try:
            tree = self._json(CONFIG)
            return RunSpec.from_dict(tree), ""
        except FileNotFoundError:
            return None, f"{self.path / CONFIG} is missing"
        except ConfigError as error:
            return None, f"{self.path / CONFIG} is damaged ({error})"
        except StoreError as error:
            return None, str(error)

    def spec(self) -> RunSpec:
        """What the run is. Raises StoreError where its configuration can't be read."""
        spec, problem = self._spec()
        if spec is None:
            raise StoreError(
                f"{self.path / CONFIG} is not the configuration of a run ({self._brief(problem)})"
                f"{missing_run(self.path)}"
            )
        return spec

    @property
    def has_error(self) -> bool:
        """Whether the last attempt left a reason, whoever holds the run now."""
        return self._has(ERROR)

    @contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the run; yields False where another process holds it."""
        claim = Claim(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            mine = claim.take()
        except OSError as error:
            raise StoreError(
                f"output_dir: can't write {error.filename or self.path}: {error.strerror or error}"
            ) from error
        if not mine:
            yield False
            return
        self._claim = claim
        self.beat()
        try:
            yield True
        finally:
            self._claim = None
            with suppress(OSError):
                (self.path / BEAT).unlink(missing_ok=True)
            claim.release()

    def beat(self) -> None:
        """Tell those who look from elsewhere of a step that was taken: at most once a second, by a file's time."""
        if self._claim is not None and time.monotonic() >= self._beaten + 1:
            self._beaten = time.monotonic()
            with suppress(OSError):  # a disk that is full says so where something is written
                (self.path / BEAT).touch()

    def last_beat(self) -> float | None:
        """When the process that trains the run took its last step, or claimed the run, in seconds of the file
        system's clock; None where nobody does."""
        try:
            return os.lstat(self.path / BEAT).st_mtime
        except OSError:
            return None

    def silence(self) -> float:
        """Seconds since `last_beat`, by this machine's clock; 0 where nobody trains the run."""
        beat = self.last_beat()
        return 0.0 if beat is None else max(0.0, time.time() - beat)

    def _still_mine(self) -> None:
        """Raise StoreError where another process has taken the run over meanwhile."""
        if self._claim is not None and self._claim.lost:
            raise StoreError(f"{self.path}: another process has taken this run over ({self._claim.lost})")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"can't write {self.path}: {error.strerror or error}") from error

    def plan(self, spec: RunSpec, *, forget: bool = True) -> None:
        """Record that the run is going to be done, and `forget` why an earlier attempt failed."""
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            if forget:
                _remove(self.path / ERROR)
        if not (self.path / CONFIG).exists():
            publish(self.path / CONFIG, spec.to_dict())

    def limit(self, limits: Sequence[Mapping[str, Any]]) -> None:
        """Record at which scores the run is to end early, none for nowhere, and forget that it did before."""
        with self._writing():
            if limits or self._has(PRUNED, LIMITS):
                self.path.mkdir(parents=True, exist_ok=True)
            _remove(self.path / PRUNED)
            if not limits:
                _remove(self.path / LIMITS)
        if limits:
            publish(self.path / LIMITS, list(limits))

    def limits(self) -> list[Any]:
        """What `limit` was given. Raises DamagedError where the file is not whole."""
        try:
            return list(self._json(LIMITS))
        except FileNotFoundError:
            return []
        except TypeError as error:
            raise DamagedError(f"{self.path / LIMITS} is damaged (it holds no list); delete it") from error

    def prune(self, record: Mapping[str, Any]) -> None:
        """Record that the run ended early: `step`, `kind`, `reason`, and `score` where it has one. It can go on."""
        self._still_mine()
        publish(self.path / PRUNED, dict(record))

    def pruned(self) -> dict[str, Any] | None:
        """What `prune` was given; None where it was not, or where that can't be read: the run is done again."""
        try:
            record = self._json(PRUNED)
        except (StoreError, FileNotFoundError):
            return None
        texts = isinstance(record, dict) and all(isinstance(record.get(k), str) for k in ("kind", "reason"))
        if not texts or not (is_number(record.get("step")) and is_number(record.get("score", 0))):
            return None
        return {**record, "reason": one_line(record["reason"])}

    def begin(self, spec: RunSpec, history: int | None = None) -> None:
        """Record the resolved configuration and clear what an earlier attempt left. With `history`, its
        snapshot and so many bytes of its history stay."""
        anew = (HISTORY, SNAPSHOT) if history is None else ()
        cleared = (RESULT, ERROR, PRUNED, THETA, OUTCOMES, BOUND, *anew)
        with self._writing():
            for name in cleared:
                _remove(self.path / name)
            for name in {*cleared, SNAPSHOT}:  # drafts of an owner that was killed while it wrote
                for draft in self.path.glob(f".{name}.*.tmp"):
                    draft.unlink(missing_ok=True)
        publish(self.path / CONFIG, spec.to_dict())
        if history is not None and self.history_size():
            os.truncate(self.path / HISTORY, history)

    def history_size(self) -> int:
        """Bytes of the history, 0 where there is none."""
        path = self.path / HISTORY
        return path.stat().st_size if path.is_file() else 0

    def save(self, snapshot: bytes) -> None:
        """Publish where the run goes on, behind its SHA-256."""
        self._still_mine()
        sealed.write(self.path / SNAPSHOT, snapshot)

    def snapshot(self) -> bytes | None:
        """What `save` was given, or None where there is none. One that is damaged is passed over with a word."""
        try:
            return sealed.read(self.path / SNAPSHOT)
        except FileNotFoundError:
            return None
        except StoreError as error:
            log.warning("%s; the run begins anew", error)
            return None

    def theta(self, content: bytes) -> None:
        """Write what the run has learned."""
        self._still_mine()
        write_whole(self.path / THETA, content)

    def keep_outcomes(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Write, row by row, what the final evaluation answered; see `outcomes`."""
        self._still_mine()
        write_whole(self.path / OUTCOMES, pack(tables))

    def outcomes(self) -> dict[str, dict[str, Any]] | None:
        """What the final evaluation answered and what was right: by split, columns (n,) in the rows' order.

        The splits are `validation` and, where rows were held out, `holdout`. Classification has the columns
        `prediction` and `label`, class ids; regression the same, float32 values; other kinds what their task's
        `blank` and `table` say. `task_of(spec.task).score` gives any metric of any rows of them. None for a run
        without the file, which earlier versions did not write. Raises DamagedError where it is not whole.
        """
        path = self.path / OUTCOMES
        return unpack(path) if os.path.lexists(path) else None

    def keep_bound(self, bound: RunBound) -> None:
        """Write what `idim bound` found, in place of what it found before."""
        publish(self.path / BOUND, asdict(bound))

    def bound(self) -> RunBound | None:
        """What `keep_bound` wrote; None where there is none. Raises DamagedError where it is not whole."""
        path = self.path / BOUND
        try:
            return RunBound.from_dict(self._json(BOUND))
        except FileNotFoundError:
            return None
        except DamagedError as error:
            reason = self._brief(error).removeprefix(f"{BOUND} is damaged ").strip("()")
            raise DamagedError(f"{path} is damaged ({reason}); `idim bound` writes it anew") from error

    def log(self, **record: Any) -> None:
        """Append one line to the history."""
        self._still_mine()
        history.append(self.path / HISTORY, record)

    def finish(self, result: RunResult) -> None:
        """Publish the result: from here on the run is done, and there is nothing to go on from."""
        self._still_mine()
        publish(self.path / RESULT, result.to_dict())
        with self._writing():
            _remove(self.path / SNAPSHOT)
            _remove(self.path / LIMITS)

    def result(self) -> RunResult | None:
        """The published result, or None. Raises DamagedError where the file is not whole or holds what no run
        leaves, and StoreError where it can't be read, is another run's, or of a format that this idim does not
        know."""
        path = self.path / RESULT
        again = "delete it or run its sweep again"
        try:
            result = RunResult.from_dict(self._json(RESULT), self.path)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            told = str(error) if str(path) in str(error) else f"{path} is damaged ({error})"
            raise DamagedError(f"{told}; {again}") from error
        except StoreError as error:
            raise StoreError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
        if self._wanted is not None and digest(result.spec.run_id) != digest(self._wanted.run_id):
            raise StoreError(f"{path} is of another run, {result.spec.run_id}; rename or move its folder")
        return result

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
        """The record of `fail`, or one that says why there is none to read. Its message is one line."""
        path = self.path / ERROR
        try:
            record = self._json(ERROR)
            if not isinstance(record, dict) or not isinstance(record.get("message"), str):
                raise DamagedError(f"{path} is damaged (it lacks a message)")
            return {"error": None, **record, "message": one_line(record["message"])}
        except (StoreError, FileNotFoundError) as error:
            return {
                "error": None,
                "message": one_line(f"the reason in {path} can't be read ({error})"),
                "expected": True,
            }

    def forget(self) -> bool:
        """Remove what the run has left, if it has no result and nobody holds it. Returns whether it is gone.

        Only files of a run and of its tracker are removed: others stay, and so does their folder.
        """
        self.spec()
        with self.claim() as mine:
            if not mine or self._has(RESULT):
                return False
            drafts = [path for path in self.path.iterdir() if DRAFT.fullmatch(path.name)]
            tracked = [path for pattern in TRACKED for path in self.path.glob(pattern)]
            with self._writing():
                for path in tracked:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                for path in (*drafts, *(self.path / name for name in (*FILES, LOCK))):
                    _remove(path)
        for folder in (*{path.parent for path in tracked}, self.path):
            with suppress(OSError):  # it holds something else
                folder.rmdir()
        return True

    def progress(self) -> Progress | None:
        """How far the history is; None where there is none to read."""
        try:
            lines = self.history()
        except StoreError:
            return None
        return Progress.of(lines[-1], lines[-1].get("steps")) if lines else None

    def resumes_at(self) -> Progress | None:
        """Where the snapshot goes on, without a look at what it has learned; None where there is none to read."""
        state = sealed.entry(self.path / SNAPSHOT, "state", MOST[RESULT])
        try:
            tree = parse_json(state or b"")
            return Progress.of(tree["position"], tree.get("steps"))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return None

    def history(self) -> list[dict[str, float]]:
        """The records of `log`, as `history.read` has them."""
        return history.read(self.path / HISTORY)


def missing_run(path: str | Path) -> str:
    """The way out where `path` is a run's name without its folder, as `idim status` prints it, or a folder of runs;
    else nothing."""
    name = os.fspath(path)
    with suppress(OSError):
        if any(RunDir(file.parent).look().spec for file in Path(name).glob(f"*/{CONFIG}")):
            return f"; it is a folder of runs, which idim status {name} lists"
    if os.path.lexists(name) or os.sep in name:
        return ""
    with suppress(OSError):
        for found in sorted(Path().glob(f"*/{escape(name)}/{CONFIG}")):
            return f"; did you mean {found.parent}?"
    return ""


def _remove(path: Path) -> None:
    """Remove what stands in a file's place, be it an empty folder. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
