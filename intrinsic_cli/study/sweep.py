"""Run a study: what is planned, what is pending, and what a launcher made of it until none is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from intrinsic_cli.errors import DamagedError
from intrinsic_cli.result import RunState
from intrinsic_cli.spec import RunSpec, TrainSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.clock import Clock
from intrinsic_cli.study.launchers.base import Launcher
from intrinsic_cli.study.progress import outcome
from intrinsic_cli.study.pruning import Pruning
from intrinsic_cli.training.stop import Stop

WAIT = 1.0  # seconds between two looks at runs that another process has


@dataclass(frozen=True)
class Ended:
    """How a sweep ended: run ids by what became of them."""

    done: tuple[str, ...]
    failed: tuple[str, ...]
    pruned: tuple[str, ...] = ()


def cells(specs: Sequence[RunSpec]) -> Iterator[list[RunSpec]]:
    """The runs that share a base model and data, together, in the order in which they first occur."""
    groups: dict[tuple[object, ...], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.cell, []).append(spec)
    yield from groups.values()


def pending(
    specs: Sequence[RunSpec], store: Store, *, retry_failed: bool = False, pruning: Pruning | None = None
) -> list[RunSpec]:
    """The runs still to be done, cell by cell. A run that failed is one only with `retry_failed`, and one that was
    pruned unless `pruning` would do so again.

    A result that is damaged is done again. Raises StoreError at one that is to be kept: another run's, of a
    later format, or one that may not be read.
    """
    over = (RunState.DONE,) if retry_failed else (RunState.DONE, RunState.FAILED)
    todo: list[RunSpec] = []
    pruned: list[RunSpec] = []
    for spec in (spec for cell in cells(specs) for spec in cell):
        run = store.run(spec)
        if (state := run.state) is RunState.UNREADABLE:
            with suppress(DamagedError):
                run.result()
        if state is RunState.PRUNED:
            pruned.append(spec)
        if state not in over:
            todo.append(spec)
    standing = pruning.standing(pruned) if pruning else set()
    return [spec for spec in todo if spec not in standing]


def clipped_otherwise(specs: Sequence[RunSpec], store: Store) -> list[str]:
    """A line where runs of `specs` that are still to do lie here as they were before `train.clip` was a key."""
    before = [replace(spec, train=replace(spec.train, clip=TrainSpec().clip)) for spec in specs]
    count = sum(
        store.run(old).state is RunState.DONE and store.run(spec).state is RunState.PENDING
        for spec, old in zip(specs, before, strict=True)
    )
    return (
        [f"{count} of these runs lie here with train.clip=trained; add it to go on with them"]
        if count
        else []
    )


def without_weights(specs: Sequence[RunSpec], store: Store) -> list[str]:
    """A line where runs of `specs` are to keep their weights and are over without: it makes no run another."""
    asked = [store.run(spec) for spec in specs if spec.is_full and spec.train.keep_weights]
    results = [run.result() for run in asked if run.state is RunState.DONE]
    count = sum(result is not None and not result.spec.train.keep_weights for result in results)
    if not count:
        return []
    return [
        f"{count} of these runs ended without train.keep_weights=true and have no weights; to train them again, "
        "delete their folders, or give another output_dir"
    ]


class _Tally:
    """What has become of the runs so far; says each as it ends."""

    def __init__(
        self,
        specs: Sequence[RunSpec],
        over: Mapping[RunSpec, RunState],
        store: Store,
        slots: int,
        say: Callable[[str], None],
    ) -> None:
        self.ids: dict[RunState, list[str]] = {state: [] for state in RunState if state.over}
        for spec, state in over.items():
            self.ids[state].append(spec.run_id)
        self.total = len(specs)
        self._specs, self._store, self._say = specs, store, say
        self._clock = Clock(len(specs) - len(over), slots)

    @property
    def to_go(self) -> int:
        return self.total - sum(map(len, self.ids.values()))

    def take_back(self, pruning: Pruning) -> list[RunSpec]:
        """The pruned runs that would not be pruned again, which are to go on."""
        ids = self.ids[RunState.PRUNED]
        pruned = [spec for spec in self._specs if spec.run_id in ids]
        standing = pruning.standing(pruned)
        back = [spec for spec in pruned if spec not in standing]
        for spec in back:
            ids.remove(spec.run_id)
        self._clock.expect(len(back))
        return back

    def add(self, spec: RunSpec, state: RunState, *, begun: bool = True) -> None:
        """A run has ended, or need not begin, which takes no time."""
        self.ids[state].append(spec.run_id)
        if begun:
            self._clock.tick()
        else:
            self._clock.expect(-1)
        told = f"{outcome(spec, self._store)}; {self._clock.left()}"
        self._say(f"[{self.total - self.to_go}/{self.total}] {spec.run_id}  {told}")


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
    prune: bool = False,
) -> Ended:
    """Finish every pending run of the study; a run that fails is recorded and the rest go on.

    `later` are runs to check with these, such as the ends of a search that follows, and `study` is the text of a
    study file to keep. `prune` ends runs that can't matter, as `pruning` has it. The same call again continues. A
    run that another process has is waited for, and taken over if that process dies. Raises IdimError, before any
    training, at input that can't be used, and Stopped.
    """
    stop = stop or Stop()
    pruning = Pruning(specs, store) if prune else None
    todo = pending(specs, store, retry_failed=retry_failed, pruning=pruning)
    unchecked = [*todo, *pending(later, store, retry_failed=retry_failed)]
    lines = launcher.check(list(cells(unchecked)), store, stop)
    waiting = set(todo)
    states = {spec: store.run(spec).state for spec in specs if spec not in waiting}
    over = {spec: state for spec, state in states.items() if state.over}
    todo += [spec for spec in states if spec not in over]  # forgotten or begun again meanwhile
    if todo:
        store.check_writable()
    tally = _Tally(specs, over, store, launcher.slots, say)
    if over:
        failed, pruned = (len(tally.ids[state]) for state in (RunState.FAILED, RunState.PRUNED))
        lost = f", {failed} of them failed and are left so (--retry-failed)" if failed else ""
        ended = f", {pruned} of them pruned" if pruned else ""
        say(f"{len(over)} of {tally.total} runs are over already{lost}{ended}")
    lines += [*clipped_otherwise(todo, store), *without_weights(list(over), store)]
    if todo:
        lines.append(f"{len(todo)} runs to do, {launcher.slots} at once")
    for line in dict.fromkeys(lines):
        say(line)
    if study is not None and (todo or os.access(store.root, os.W_OK)):  # what is done can be read anywhere
        store.keep_study(study)
    for spec in todo:
        store.run(spec).plan(spec, forget=retry_failed)
    while todo:
        for wave in _waves(todo, store, pruning, tally):
            _train(wave, tally, store, launcher, say, stop, prune=prune)
        todo = tally.take_back(pruning) if pruning else []
        if todo:
            say(f"{len(todo)} pruned runs matter after all, by what has finished since")
    return Ended(*(tuple(tally.ids[state]) for state in (RunState.DONE, RunState.FAILED, RunState.PRUNED)))


def _waves(
    todo: Sequence[RunSpec], store: Store, pruning: Pruning | None, tally: _Tally
) -> Iterator[list[RunSpec]]:
    """The runs to do, in parts of which each waits for those before it: one, where nothing is pruned."""
    if pruning is None:
        for spec in todo:
            store.run(spec).limit([])
        yield list(todo)
        return
    for wave in (wave for cell in cells(todo) for wave in pruning.waves(cell)):
        begun = pruning.begin(wave)
        for spec in wave:
            if spec not in begun:
                tally.add(spec, RunState.PRUNED, begun=False)
        yield begun


def _train(
    todo: Sequence[RunSpec],
    tally: _Tally,
    store: Store,
    launcher: Launcher,
    say: Callable[[str], None],
    stop: Stop,
    *,
    prune: bool,
) -> None:
    """Launch until no run is left, those of other processes too once they let them go. What another sweep has
    pruned goes on, unless this one would `prune` too."""
    waited = False
    while todo:
        left: list[RunSpec] = []  # that other processes have, or have ended early
        with closing(
            launcher.launch(todo, store, stop)
        ) as ended:  # whatever happens, its processes end first
            for spec, state in ended:
                if state is RunState.ELSEWHERE or (state is RunState.PRUNED and not prune):
                    left.append(spec)
                elif state is not RunState.STOPPED:
                    tally.add(spec, state)
        if tally.to_go:
            stop.raise_if_requested(f"with {tally.to_go} of {tally.total} runs to go")
        while left and all(store.run(spec).state is RunState.RUNNING for spec in left):
            if not waited:
                say(f"waiting for {len(left)} runs that other processes have")
                waited = True
            stop.raise_if_requested(f"while {len(left)} runs were with other processes")
            time.sleep(WAIT)
        states = {spec: store.run(spec).state for spec in left}
        pruned = [spec for spec, state in states.items() if state is RunState.PRUNED and not prune]
        for spec in pruned:
            store.run(spec).limit([])
        if pruned:
            say(f"{len(pruned)} runs that another sweep has pruned go on")
        todo = [spec for spec, state in states.items() if not state.over or spec in pruned]
        for spec, state in states.items():
            if spec not in todo:
                tally.add(spec, state)
