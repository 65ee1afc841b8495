"""Subprocesses of this machine: one per slot, each on a GPU of its own or a share of the processors.

A process that is killed fails its run alone. Each keeps its base model and data from run to run.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import selectors
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from intrinsic_cli import errors
from intrinsic_cli.errors import IdimError, ModelError
from intrinsic_cli.result import RunState
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.ending import death, ended, out_of_memory
from intrinsic_cli.study.launchers.base import Watch, at_least, seconds
from intrinsic_cli.training.stop import Stop

DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # where there is none, torch has no GPU
LOOK = 0.2  # seconds between two looks at whether to stop
FAREWELL = 5.0  # seconds that a process which has nothing left to do may take to leave
# Of torchrun, while a worker is alone; and what takes docstrings away, of which transformers makes its classes.
NOT_FOR_WORKERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "PYTHONOPTIMIZE")


class Died(ModelError):
    """A process died while it read a model and data, through them or through somebody else."""


class Local:
    """`slots` processes, by default one per GPU, or one; a run whose process dies is tried `retries` more times.

    A process that takes no step for `timeout` seconds is killed; reading model and data must take no longer.
    """

    def __init__(
        self,
        slots: int | None = None,
        retries: int = 1,
        timeout: float | None = None,
        *,
        progress: bool = False,
    ) -> None:
        gpus = _gpus()
        self.slots = max(1, len(gpus)) if slots is None else at_least("slots", slots, 1)
        self._retries = at_least("retries", retries, 0)
        self._timeout = seconds("timeout", timeout)
        self._environments = [_environment(slot, self.slots, gpus) for slot in range(self.slots)]
        self._options = ["--progress"] if progress and self.slots == 1 else []
        self._ready: _Worker | None = None  # the one that has checked the inputs

    def check(self, cells: Sequence[Sequence[RunSpec]], store: Store, stop: Stop) -> list[str]:
        if not cells:
            return []
        for left in reversed(range(self._retries + 1)):
            worker = _Worker(store, self._environments[0], self._options)
            try:
                lines = worker.check(cells, stop, self._timeout)
            except Died:
                if not left:
                    raise
            else:
                self._ready = worker
                break
        return [*lines, worker.where]

    def launch(
        self, specs: Sequence[RunSpec], store: Store, stop: Stop
    ) -> Generator[tuple[RunSpec, RunState], None, None]:
        todo = deque(specs)
        attempts: Counter[RunSpec] = Counter()
        free = deque(self._environments)
        resting: list[_Worker] = []
        if self._ready is not None:
            free.popleft()
            resting, self._ready = [self._ready], None
        busy: dict[_Worker, RunSpec] = {}
        started: list[_Worker] = [*resting]
        after = partial(ended, retries=self._retries)
        with selectors.DefaultSelector() as answers, _none_left(started, busy):
            while True:
                while todo and (resting or free) and not stop.requested:
                    if not resting:
                        resting.append(_Worker(store, free.popleft(), self._options))
                        started.append(resting[0])
                    worker = resting.pop()
                    busy[worker] = spec = todo.popleft()
                    attempts[spec] += 1
                    worker.ask(spec, Watch(self._timeout))
                    answers.register(worker.answers, selectors.EVENT_READ, worker)
                if not busy:
                    return
                for worker, spec in busy.items():
                    worker.look_after(store.run(spec))
                    if stop.requested:
                        worker.leave()
                for key, _ in answers.select(timeout=LOOK):
                    worker = key.data
                    answers.unregister(worker.answers)
                    spec = busy.pop(worker)
                    run = store.run(spec)
                    word, reason = worker.leave_or_rest(run)
                    if reason:
                        free.append(worker.environment)
                    else:
                        resting.append(worker)
                    state = after(run, word, reason, attempts=attempts[spec], stopping=stop.requested)
                    if state is None:
                        todo.appendleft(spec)
                    else:
                        yield spec, state


@contextmanager
def _none_left(started: Sequence[_Worker], busy: Collection[_Worker]) -> Iterator[None]:
    """End all processes with the block: those with a run at once, and at an error, such as a second signal, all."""
    try:
        yield
    except BaseException:
        for worker in started:
            worker.kill()
        raise
    finally:
        for worker in busy:
            worker.kill()
        for worker in started:
            worker.leave()
        for worker in started:
            worker.status()


class _Worker:
    """One subprocess and its two pipes."""

    def __init__(self, store: Store, environment: dict[str, str], options: list[str]) -> None:
        self.environment = environment
        self._process = subprocess.Popen(
            # -P: a file of the working folder, such as random.py, is no module.
            [sys.executable, "-P", "-m", "intrinsic_cli.study.worker", str(store.root), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=same_code(environment), process_group=0,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.answers = self._process.stdout
        self.where = ""  # it trains, in words, once it has checked something
        self._watch = Watch(None)
        self._why = ""  # it was killed, where this process did it

    def check(
        self, cells: Sequence[Sequence[RunSpec]], stop: Stop, timeout: float | None = None
    ) -> list[str]:
        """Have it load and check each cell, the first one last, which it keeps for its runs. Returns what rows
        they have.

        Raises IdimError at one that can't be used, or takes more than `timeout` seconds, and Stopped; the process
        has then ended.
        """
        lines = []
        try:
            for cell in reversed(cells):
                self._send({"check": [spec.to_dict() for spec in cell]})
                until = math.inf if timeout is None else time.monotonic() + timeout
                while not select.select([self.answers], [], [], LOOK)[0]:
                    stop.raise_if_requested("before any training")
                    if time.monotonic() > until:
                        self._end(f"it came to no end in launcher.timeout={timeout:g} s")
                lines.append(self._summary(self._answer(), cell[0]))
            return lines[::-1]
        except BaseException:
            self.kill()
            self.leave()
            self.status()
            raise

    def _summary(self, answer: dict[str, Any] | None, spec: RunSpec) -> str:
        """What the process says of a cell. Raises how it died over it."""
        if answer is None:
            raise Died(
                f"model.name={spec.model.name} and task {spec.task.title} can't be used: {self.last_word()} "
                "while it read them; give other files, or free memory"
            )
        self.where = answer["where"]
        return answer["summary"]

    def ask(self, spec: RunSpec, watch: Watch) -> None:
        """Give it a run, to be looked after with `watch`."""
        self._watch = watch
        self._send({"train": spec.to_dict()})

    def look_after(self, run: RunDir) -> None:
        """End it where the run has gone too long without a step."""
        if not self._why and self._watch.lost(run):
            self._end(f"its process was killed, {self._watch}")

    def answer(self) -> RunState | None:
        """What became of its run; None where it died instead."""
        answer = self._answer()
        return None if answer is None else RunState(answer["state"])

    def _send(self, message: dict[str, Any]) -> None:
        """A process that is dead already says so when it is listened to."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _answer(self) -> dict[str, Any] | None:
        """What it says; None where it died instead. Raises the error that it tells."""
        line = self.answers.readline()
        if not line.endswith("\n"):
            return None
        answer = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"], None)
            if isinstance(kind, type) and issubclass(kind, IdimError):
                raise kind(answer["message"])
            raise RuntimeError(f"{answer['error']}: {answer['message']}")
        return answer

    def leave_or_rest(self, run: RunDir) -> tuple[RunState | None, str]:
        """Its word on `run`, and "" where it can have another one; else it has left, with a word on how."""
        word = self.answer()
        if word not in (None, RunState.STOPPED) and not self._why and not out_of_memory(run):
            return word, ""
        self.leave()
        return word, self.last_word()

    def leave(self) -> None:
        """Let it end its step and go."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def kill(self) -> None:
        self._process.kill()

    def _end(self, why: str) -> None:
        self._why = why
        self.kill()

    def last_word(self) -> str:
        """How it ended, in words."""
        status = self.status()
        return self._why or death(status)

    def status(self) -> int:
        """Its exit status, once it has ended; one that does not leave is killed."""
        try:
            return self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()


def check_apart(
    cells: Sequence[Sequence[RunSpec]], store: Store, stop: Stop, timeout: float | None = None
) -> list[str]:
    """`Launcher.check` in a process of this machine that only checks."""
    if not cells:
        return []
    worker = _Worker(store, dict(os.environ), [])
    lines = worker.check(cells, stop, timeout)
    worker.leave()
    worker.status()
    return lines


def same_code(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which Python imports the idim of this process, and nothing of its working folder, into a
    process that trains alone."""
    home = Path(errors.__file__).parents[1]
    own = {name: value for name, value in environment.items() if name not in NOT_FOR_WORKERS}
    own["PYTHONSAFEPATH"] = "1"
    # An empty entry, as `PYTHONPATH=$PYTHONPATH:/x` easily has, is the working folder.
    folders = [part for part in own.get("PYTHONPATH", "").split(os.pathsep) if part not in ("", ".", "./")]
    if not {"site-packages", "dist-packages"} & set(home.parts):  # a checkout, which -P takes off the path
        folders.insert(0, str(home))
    own["PYTHONPATH"] = os.pathsep.join(folders)
    return own


def _gpus() -> list[str]:
    """The ids of the GPUs that this process may use."""
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    if visible is not None or not any(map(Path.exists, map(Path, DEVICES))):
        return []  # torch takes seconds to say the same
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def _environment(slot: int, slots: int, gpus: list[str]) -> dict[str, str]:
    """A slot's environment: its GPU, or its share of the threads."""
    own = dict(os.environ)
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    else:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        stated = own.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is for nested levels
        threads = int(stated) if re.fullmatch("[1-9][0-9]{0,5}", stated) else processors
        own["OMP_NUM_THREADS"] = str(max(1, threads // slots))
    return own
