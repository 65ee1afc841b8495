"""Run a study: what is planned, what is pending, and what a launcher made of it until none is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from intrinsic_cli.result import RunState
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.clock import Clock
from intrinsic_cli.study.launchers.base import Launcher
from intrinsic_cli.training.stop import Stop

WAIT = 1.0  # seconds between two looks at runs that another process has


@dataclass(frozen=True)
class Ended:
    """How a sweep ended: run ids by what became of them."""

    done: tuple[str, ...]
    failed: tuple[str, ...]


def cells(specs: Sequence[RunSpec]) -> Iterator[list[RunSpec]]:
    """The runs that share a base model and data, together, in the order in which they first occur."""
    groups: dict[tuple[object, ...], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.model, spec.task, spec.data), []).append(spec)
    yield from groups.values()


def pending(specs: Sequence[RunSpec], store: Store, *, retry_failed: bool = False) -> list[RunSpec]:
    """The runs still to be done, cell by cell. A run that failed is one only with `retry_failed`."""
    over = (RunState.DONE,) if retry_failed else (RunState.DONE, RunState.FAILED)
    return [spec for cell in cells(specs) for spec in cell if store.run(spec).state not in over]


def sweep(
    specs: Sequence[RunSpec],
    store: Store,
    launcher: Launcher,
    say: Callable[[str], None],
    *,
    stop: Stop | None = None,
    retry_failed: bool = False,
    later: Sequence[RunSpec] = (),
    study: str | None = None,
) -> Ended:
    """Finish every pending run of the study; a run that fails is recorded and the rest go on.

    `later` are runs to check with these, such as the ends of a search that follows, and `study` is the text of a
    study file to keep. The same call again continues. A run that another process has is waited for, and taken
    over if that process dies. Raises IdimError, before any training, at input that can't be used, and Stopped.
    """
    stop = stop or Stop()
    todo = pending(specs, store, retry_failed=retry_failed)
    waiting = {spec.run_id for spec in todo}
    over = [spec for spec in specs if spec.run_id not in waiting]
    failed = [spec.run_id for spec in over if store.run(spec).state is RunState.FAILED]
    if over:
        lost = f", {len(failed)} of them failed and are left so (--retry-failed)" if failed else ""
        say(f"{len(over)} of {len(specs)} runs are over already{lost}")
    unchecked = [*todo, *pending(later, store, retry_failed=retry_failed)]
    summaries = launcher.check(list(cells(unchecked)), store, stop)
    store.check_writable()
    for line in dict.fromkeys(summaries):
        say(line)
    if todo:
        say(f"{len(todo)} runs to do, {launcher.slots} at once")
    if study is not None:
        store.keep_study(study)
    for spec in todo:
        store.run(spec).plan(spec, forget=retry_failed)
    done = [spec.run_id for spec in over if spec.run_id not in failed]
    clock = Clock(len(todo), launcher.slots)

    def ended(spec: RunSpec, state: RunState) -> None:
        (done if state is RunState.DONE else failed).append(spec.run_id)
        clock.tick()
        say(f"[{len(done) + len(failed)}/{len(specs)}] {spec.run_id}  {outcome(spec, store)}; {clock.left()}")

    waited = False
    while todo:
        elsewhere: list[RunSpec] = []
        for spec, state in launcher.launch(todo, store, stop):
            if state is RunState.ELSEWHERE:
                elsewhere.append(spec)
            elif state is not RunState.STOPPED:
                ended(spec, state)
        if to_go := len(specs) - len(done) - len(failed):
            stop.raise_if_requested(f"with {to_go} of {len(specs)} runs to go")
        if elsewhere and not waited:
            say(f"waiting for {len(elsewhere)} runs that other processes have")
            waited = True
        while elsewhere and all(store.run(spec).state is RunState.RUNNING for spec in elsewhere):
            stop.raise_if_requested(f"while {len(elsewhere)} runs were with other processes")
            time.sleep(WAIT)
        todo = []
        for spec in elsewhere:
            state = store.run(spec).state
            if state.over:
                ended(spec, state)
            else:
                todo.append(spec)
    return Ended(tuple(done), tuple(failed))


def outcome(spec: RunSpec, store: Store) -> str:
    """The score of a finished run, or why it has none, in a few words."""
    run = store.run(spec)
    if run.state is RunState.FAILED:
        error = run.error()
        if error.get("expected"):
            return f"failed: {error['message']}"
        return f"failed: {error.get('error')}: {error['message']} (traceback in {run.path})"
    result = run.result()
    if result is None:
        return f"failed, and its folder {run.path} could not take the reason"
    return f"{result.metric} {result.score:.4f}  {result.total_seconds:.0f} s"


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
