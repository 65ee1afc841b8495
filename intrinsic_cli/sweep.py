"""Run a study: what is planned, what is pending, and one run after the other until none is."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from intrinsic_cli.errors import IdimError
from intrinsic_cli.inputs import Inputs, Loader
from intrinsic_cli.run import execute
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.subspace import check_size
from intrinsic_cli.train import total_steps, train


@dataclass(frozen=True)
class Report:
    """How a sweep ended: run ids by what became of them."""

    done: tuple[str, ...]
    failed: tuple[str, ...]
    elsewhere: tuple[str, ...]  # held by another process

    def of(self, spec: RunSpec) -> str:
        """What became of one run: `done`, `failed` or `elsewhere`."""
        if spec.run_id in self.failed:
            return "failed"
        return "elsewhere" if spec.run_id in self.elsewhere else "done"


def cells(specs: Sequence[RunSpec]) -> Iterator[list[RunSpec]]:
    """The runs that share a base model and data, together, in the order in which they first occur."""
    groups: dict[tuple[object, ...], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.model, spec.task, spec.data), []).append(spec)
    yield from groups.values()


def check(specs: Sequence[RunSpec], load: Loader) -> None:
    """Load every cell and size every subspace, so that bad input ends the sweep before any training."""
    for cell in cells(specs):
        inputs = load(cell[0])
        for spec in cell:
            if spec.d is not None:
                check_size(inputs.base.model, spec.subspace, spec.d, inputs.head)


def pending(specs: Sequence[RunSpec], store: Store) -> list[RunSpec]:
    """The runs without a result, cell by cell."""
    return [spec for cell in cells(specs) for spec in cell if store.run(spec).state != "done"]


def sweep(
    specs: Sequence[RunSpec], store: Store, load: Loader, say: Callable[[str], None], *, progress: bool
) -> Report:
    """Finish every pending run of the study, one at a time; a run that fails is recorded and the rest go on.

    The same call again continues. Raises IdimError, before any training, at input that can't be used.
    """
    todo = pending(specs, store)
    waiting = {spec.run_id for spec in todo}
    done = [spec.run_id for spec in specs if spec.run_id not in waiting]
    if done:
        say(f"{len(done)} of {len(specs)} runs are done already")
    check(todo, load)
    store.check_writable()
    failed, elsewhere = [], []
    clock = Clock(todo)
    for number, spec in enumerate(todo, start=len(done) + 1):
        head = f"[{number}/{len(specs)}] {spec.run_id}"
        with clock.timing():
            try:
                result = execute(spec, store, load, progress=progress)
            except IdimError as error:
                failed.append(spec.run_id)
                say(f"{head}  failed: {error}")
                continue
            except Exception as error:
                failed.append(spec.run_id)
                say(f"{head}  failed: {type(error).__name__}: {error} (traceback in {store.run(spec).path})")
                continue
        if result is None:
            elsewhere.append(spec.run_id)
            say(f"{head}  is running in another process")
            continue
        done.append(spec.run_id)
        trouble = f", {len(failed)} failed" if failed else ""
        say(f"{head}  {result['metric']} {result['score']:.4f}  {result['seconds']['total']:.0f} s; "
            f"{clock.left()}{trouble}")  # fmt: skip
    return Report(tuple(done), tuple(failed), tuple(elsewhere))


class Clock:
    """The time left, from the seconds that finished runs took."""

    def __init__(self, todo: Sequence[RunSpec]) -> None:
        self._left = len(todo)
        self._took: list[float] = []

    @contextmanager
    def timing(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._took.append(time.perf_counter() - began)
            self._left -= 1

    def left(self) -> str:
        mean = sum(self._took) / len(self._took)
        return f"{self._left} to go, about {minutes(mean * self._left)}" if self._left else "all done"


def minutes(seconds: float) -> str:
    """`40 s`, `12 min` or `3.4 h`."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def forecast(specs: Sequence[RunSpec], load: Loader) -> float:
    """Seconds that `specs` will take here: three steps and one evaluation of each kind of run, timed."""
    total = 0.0
    for cell in cells(specs):
        inputs = load(cell[0])
        for kind in {spec.subspace.kind for spec in cell}:
            runs = [spec for spec in cell if spec.subspace.kind == kind]
            sample = replace(runs[0], train=replace(runs[0].train, max_steps=3, evals=1, patience=None))
            per_step, per_eval = _time(sample, inputs)
            for spec in runs:
                total += per_step * total_steps(spec, len(inputs.train)) + per_eval * spec.train.evals
    return total


def _time(sample: RunSpec, inputs: Inputs) -> tuple[float, float]:
    train(sample, inputs, lambda **_: None)  # the first one compiles and warms up
    seconds = train(sample, inputs, lambda **_: None).seconds
    return (seconds["total"] - seconds["evaluation"]) / 3, seconds["evaluation"]


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
