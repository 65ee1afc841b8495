"""One run after the other in this process: for debuggers, notebooks and tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from intrinsic_cli.errors import Stopped, StoreError
from intrinsic_cli.inputs import Load, Loader
from intrinsic_cli.run import execute
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.stop import Stop
from intrinsic_cli.store import Store

log = logging.getLogger(__name__)


class Inline:
    """A launcher without processes: a run that takes the interpreter down takes the sweep down."""

    def __init__(self, load: Load | None = None, *, progress: bool = False) -> None:
        self.slots = 1
        self._load = load or Loader()
        self._progress = progress

    def launch(self, specs: Sequence[RunSpec], store: Store, stop: Stop) -> Iterator[tuple[RunSpec, str]]:
        for spec in specs:
            if stop.requested:
                return
            yield spec, train_one(spec, store, self._load, stop, progress=self._progress)


def train_one(spec: RunSpec, store: Store, load: Load, stop: Stop, *, progress: bool = False) -> str:
    """Train one run and say what became of it, as `Launcher.launch` does. Its errors are in its directory."""
    try:
        result = execute(spec, store, load, progress=progress, stop=stop)
    except Stopped:
        return "stopped"
    except StoreError as error:  # the folder could not take it, so it is said here or nowhere
        log.error("%s: %s", spec.run_id, error)
        return "failed"
    except Exception:
        return "failed"
    return "elsewhere" if result is None else "done"
