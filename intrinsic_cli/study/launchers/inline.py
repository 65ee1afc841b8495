"""One run after the other in this process: for debuggers, notebooks and tests."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from intrinsic_cli.result import RunState
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.ending import ended
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.inputs import Load, Loader, check
from intrinsic_cli.training.run import train_one
from intrinsic_cli.training.stop import Stop


class Inline:
    """A launcher without processes: a run that takes the interpreter down takes the sweep down."""

    def __init__(self, load: Load | None = None, *, progress: bool = False) -> None:
        self.slots = 1
        self._load = load or Loader()
        self._progress = progress

    def check(self, cells: Sequence[Sequence[RunSpec]], store: Store, stop: Stop) -> list[str]:
        lines = []
        for cell in reversed(cells):  # the first one is kept for its runs
            stop.raise_if_requested("before any training")
            lines.append(check(cell, self._load))
        return [*lines[::-1], *(Compute.here(cell[0].train.precision).words(cell[-1]) for cell in cells[:1])]

    def launch(
        self, specs: Sequence[RunSpec], store: Store, stop: Stop
    ) -> Generator[tuple[RunSpec, RunState], None, None]:
        for spec in specs:
            if stop.requested:
                return
            if store.run(spec).state is RunState.FAILED:  # by another driver, meanwhile
                yield spec, RunState.FAILED
                continue
            word = train_one(spec, store, self._load, stop, progress=self._progress)
            state = ended(store.run(spec), word, "", attempts=1, retries=0, stopping=stop.requested)
            assert state is not None  # without retries
            yield spec, state
