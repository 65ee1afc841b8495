"""What every launcher promises, and what they share when a run's process dies without a word."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from typing import Protocol

from intrinsic_cli.errors import ConfigError, RunError, StoreError
from intrinsic_cli.result import RunState
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import RunDir, Store
from intrinsic_cli.training.stop import Stop

log = logging.getLogger(__name__)


class Launcher(Protocol):
    """Trains runs somewhere. What became of each is in its directory; the launcher says when.

    `slots` is how many runs it trains at once.
    """

    slots: int

    def check(self, cells: Sequence[Sequence[RunSpec]], store: Store, stop: Stop) -> list[str]:
        """Load what the runs of each cell share, and size their subspaces, where a crash costs no driver.

        Returns a line for each cell: which files, rows and classes it has.
        Raises IdimError, with nothing left behind, at input that can't be used, and Stopped.
        """
        ...

    def launch(
        self, specs: Sequence[RunSpec], store: Store, stop: Stop
    ) -> Iterator[tuple[RunSpec, RunState]]:
        """Train `specs` and yield each as it ends, with what became of it: `done`, `failed`, `elsewhere`
        (another process holds it) or `stopped` (asked to leave; it goes on from its snapshot next time).

        Once `stop` is requested no run is begun, and those under way leave after their step. Runs that were
        not begun are not yielded.
        """
        ...


def record_death(run: RunDir, reason: str, attempts: int) -> RunState:
    """Record why a run's process left no word, unless it did or another process has the run. Its state then."""
    try:
        with run.claim() as mine:
            if not mine:
                return RunState.ELSEWHERE
            if run.state is RunState.DONE:
                return RunState.DONE
            if not run.has_error:
                run.fail(RunError(reason), attempts=attempts)
    except StoreError as error:  # the folder can't even take the reason: the run stays pending there
        log.error("%s: %s, and %s", run.path.name, reason, error)
    return RunState.FAILED


def out_of_memory(run: RunDir) -> bool:
    """Whether the run failed for want of memory: another attempt in a fresh process may do better."""
    return run.state is RunState.FAILED and run.error().get("error") == "OutOfMemory"


def death(status: int) -> str:
    """What an exit status of a process that left no word says."""
    if status >= 0:
        return f"its process ended with status {status} and left no word"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"


def at_least(key: str, value: object, low: int) -> int:
    """`value` as an integer of at least `low`. Raises ConfigError, naming `launcher.KEY`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(f"launcher.{key}={value} must be an integer of at least {low}")
    return value
