"""A subprocess of this machine that checks inputs and trains runs, as its driver sees it."""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from intrinsic_cli import errors
from intrinsic_cli.errors import IdimError, ModelError
from intrinsic_cli.result import RunState
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.ending import death, out_of_memory
from intrinsic_cli.study.launchers.base import Watch
from intrinsic_cli.training.stop import Stop

LOOK = 0.2  # seconds between two looks at whether to stop
FAREWELL = 5.0  # seconds that a process which has nothing left to do may take to leave
# Of torchrun, while a worker is alone; and what takes docstrings away, of which transformers makes its classes.
NOT_FOR_WORKERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "PYTHONOPTIMIZE")


class Died(ModelError):
    """A process died while it read a model and data, through them or through somebody else."""


class Worker:
    """One subprocess with its two pipes, which is started with `environment` and the words `options`."""

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
        """End it now."""
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
    worker = Worker(store, dict(os.environ), [])
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
