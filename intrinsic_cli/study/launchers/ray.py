"""Tasks of a Ray cluster: one per run, wherever it has room.

All nodes need the output folder at the same path, on a file system that they share: that is where a run's
state is. A task that looks for its run's directory and finds none fails with these words.
"""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import chdir
from functools import cache
from math import floor
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, TaskCancelledError

from intrinsic_cli import errors
from intrinsic_cli.errors import ConfigError
from intrinsic_cli.result import RunState
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.ending import ended
from intrinsic_cli.study.launchers.base import Watch, at_least, timeout_of
from intrinsic_cli.study.launchers.process import check_apart
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.run import train_one
from intrinsic_cli.training.stop import Stop, on_signals

LOOK = 0.5  # seconds between two looks at whether to stop
SHARE = "output_dir must be on all of them"
STORE_BYTES = 80 * 2**20  # of Ray's shared memory: a task is a few kilobytes


class Ray:
    """A run per task with `cpus` and `gpus` (fractions are allowed) of a node; a run whose process or node dies
    is tried `retries` more times. One that takes no step for `timeout` seconds is killed.

    `address` is that of a cluster as `ray.init` takes it, such as `auto` or `host:port`; None starts one on
    this machine alone. Raises ConfigError where there is none at the address.
    """

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1,
        gpus: float = 0,
        retries: int = 1,
        timeout: float | None = None,
    ) -> None:
        self._retries = at_least("retries", retries, 0)
        self._timeout = timeout_of(timeout)
        self._needs = {"num_cpus": _amount("cpus", cpus), "num_gpus": _amount("gpus", gpus)}
        _connect(address)
        there = ray.cluster_resources()
        rooms = [
            there.get(name, 0) / need
            for name, need in (("CPU", self._needs["num_cpus"]), ("GPU", self._needs["num_gpus"]))
            if need
        ]
        self.slots = floor(min(rooms, default=1))
        if self.slots < 1:
            raise ConfigError(
                f"launcher.cpus={cpus} launcher.gpus={gpus} is more than the Ray cluster has "
                f"({there.get('CPU', 0):g} CPUs, {there.get('GPU', 0):g} GPUs)"
            )

    def check(self, cells: Sequence[Sequence[RunSpec]], store: Store, stop: Stop) -> list[str]:
        return check_apart(cells, store, stop, self._timeout)

    def launch(
        self, specs: Sequence[RunSpec], store: Store, stop: Stop
    ) -> Generator[tuple[RunSpec, RunState], None, None]:
        root, here = str(store.root.absolute()), os.getcwd()
        # Attempts are counted here, where the reason of the last one is recorded.
        remote: Any = ray.remote  # and not `options`, where Ray would let GPU tasks share a process
        task = remote(max_retries=0, **self._needs)(work)
        attempts: Counter[RunSpec] = Counter()

        def begin(spec: RunSpec) -> ray.ObjectRef:
            store.run(spec).plan(spec)
            return task.remote(spec.to_dict(), root, here)

        tasks = {begin(spec): spec for spec in specs}
        watch = {ref: Watch(self._timeout, queued=True) for ref in tasks}
        lost: set[ray.ObjectRef] = set()
        asked = False
        try:
            while tasks:
                if stop.requested and not asked:
                    asked = True
                    _cancel(tasks)
                for ref, spec in tasks.items():
                    if ref not in lost and watch[ref].lost(store.run(spec)):
                        lost.add(ref)
                        ray.cancel(ref, force=True)
                over, _ = ray.wait(list(tasks), num_returns=1, timeout=LOOK)
                for ref in over:
                    spec = tasks.pop(ref)
                    run = store.run(spec)
                    word: RunState | None = None
                    reason, retries = "", self._retries
                    try:
                        word = ray.get(ref)
                        if word is None:
                            reason, retries = f"a Ray node has no {run.path.absolute()}; {SHARE}", 0
                    except RayError as error:
                        if isinstance(error, TaskCancelledError) and stop.requested:
                            continue  # not begun
                        died = f"its Ray task died: {' '.join(str(error).split())}"
                        reason = f"its process was killed, {watch[ref]}" if ref in lost else died
                    attempts[spec] += 1
                    state = ended(
                        run, word, reason, attempts=attempts[spec], retries=retries, stopping=stop.requested
                    )
                    if state is None:
                        tasks[ref := begin(spec)] = spec
                        watch[ref] = Watch(self._timeout, queued=True)
                    else:
                        yield spec, state
        finally:
            _cancel(tasks)


def work(tree: dict[str, Any], root: str, folder: str) -> RunState | None:
    """Train a run in a process of the cluster, which keeps its base model and data for the next one.

    Returns what became of it, or None where this node lacks the output folder. A cancelled task gets
    SIGINT, and leaves after the step.
    """
    spec, store = RunSpec.from_dict(tree), Store(root)
    if not store.run(spec).path.is_dir():
        return None
    if os.path.isdir(folder):
        os.chdir(folder)  # where relative paths of models and data start
    with on_signals() as stop:
        return train_one(spec, store, _loader(), stop)


@cache
def _loader() -> Loader:
    """The inputs of this process."""
    return Loader()


def _connect(address: str | None) -> None:
    """Connect to a cluster, once in a process. One that starts here sends nothing home and shows no pages."""
    if ray.is_initialized():
        return
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if match := re.fullmatch(r"([^:/]+):(\d+)", address or ""):
            socket.create_connection((match[1], int(match[2])), timeout=10).close()  # Ray tries for minutes
        # Ray has its workers look for modules in this folder first.
        with chdir(Path(errors.__file__).parents[1]):
            ray.init(
                address=address or "local", log_to_driver=False, configure_logging=False,
                **(own if address is None else {}),
            )  # fmt: skip
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        raise ConfigError(
            f"launcher.address={address}: no Ray cluster answers there ({' '.join(str(error).split())})"
        ) from error


def _cancel(tasks: dict[Any, RunSpec]) -> None:
    for ref in tasks:
        ray.cancel(ref, force=False)


def _amount(key: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"launcher.{key}={value} must be a number of at least 0")
    return value
