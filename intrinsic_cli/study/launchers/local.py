"""Subprocesses of this machine: one per slot, each on a GPU of its own or a share of the processors.

A process that is killed fails its run alone. Each keeps its base model and data from run to run.
"""

from __future__ import annotations

import os
import re
import selectors
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from intrinsic_cli.result import RunState
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.ending import ended
from intrinsic_cli.study.launchers.base import Watch, at_least, timeout_of
from intrinsic_cli.study.launchers.process import LOOK, Died, Worker
from intrinsic_cli.training.stop import Stop

DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # where there is none, torch has no GPU


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
        self._timeout = timeout_of(timeout)
        self._environments = [_environment(slot, self.slots, gpus) for slot in range(self.slots)]
        self._options = ["--progress"] if progress and self.slots == 1 else []
        self._ready: Worker | None = None  # the one that has checked the inputs

    def check(self, cells: Sequence[Sequence[RunSpec]], store: Store, stop: Stop) -> list[str]:
        if not cells:
            return []
        for left in reversed(range(self._retries + 1)):
            worker = Worker(store, self._environments[0], self._options)
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
        resting: list[Worker] = []
        if self._ready is not None:
            free.popleft()
            resting, self._ready = [self._ready], None
        busy: dict[Worker, RunSpec] = {}
        started: list[Worker] = [*resting]
        after = partial(ended, retries=self._retries)
        with selectors.DefaultSelector() as answers, _none_left(started, busy):
            while True:
                while todo and (resting or free) and not stop.requested:
                    if not attempts[todo[0]] and store.run(todo[0]).state is RunState.FAILED:
                        yield todo.popleft(), RunState.FAILED  # by another driver, meanwhile
                        continue
                    if not resting:
                        resting.append(Worker(store, free.popleft(), self._options))
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
def _none_left(started: Sequence[Worker], busy: Collection[Worker]) -> Iterator[None]:
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
