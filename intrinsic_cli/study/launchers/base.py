"""What every launcher promises."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from typing import Protocol

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.result import RunState
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.training.stop import Stop


class Launcher(Protocol):
    """Trains runs somewhere. What became of each is in its directory; the launcher says when.

    `slots` is how many runs it trains at once.
    """

    slots: int

    def check(self, cells: Sequence[Sequence[RunSpec]], store: Store, stop: Stop) -> list[str]:
        """Load what the runs of each cell share, and size their subspaces, where a crash costs no driver.

        Returns a line for each cell, which files, rows and classes it has, and one on what they are trained where
        that is known.
        Raises IdimError, with nothing left behind, at input that can't be used, and Stopped.
        """
        ...

    def launch(
        self, specs: Sequence[RunSpec], store: Store, stop: Stop
    ) -> Generator[tuple[RunSpec, RunState], None, None]:
        """Train `specs` and yield each as it ends, with what became of it, as `ending.ended` decides: done, failed,
        pruned, elsewhere or stopped.

        Once `stop` is requested no run is begun, and those under way leave after their step. Runs that were
        not begun are not yielded.
        """
        ...


class Watch:
    """Whether a run has gone `limit` seconds without a step; never where that is None.

    It looks at whether the time of a file changes and not at what it is, so that no two clocks are compared. The
    time of a run that is `queued` begins once it does.
    """

    def __init__(self, limit: float | None, *, queued: bool = False) -> None:
        self._limit = limit
        self._since = math.inf if queued else time.monotonic()
        self._seen: list[float | None] = []  # the last time of the file, once somebody has looked

    def lost(self, run: RunDir) -> bool:
        """Whether it is lost with `run`, as it stands now."""
        if self._limit is None:
            return False
        beat = run.last_beat()
        if self._seen and beat != self._seen[0]:
            self._since = time.monotonic()
        self._seen = [beat]
        return time.monotonic() - self._since > self._limit

    def __str__(self) -> str:
        return f"no step for launcher.timeout={self._limit:g} s"


def timeout_of(value: object) -> float | None:
    """`launcher.timeout`: a number of seconds above 0, or None. Raises ConfigError."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e9:
        raise ConfigError(f"launcher.timeout={value} must be a number of seconds above 0, or null")
    return float(value)


def at_least(key: str, value: object, low: int) -> int:
    """`value` as an integer of at least `low`. Raises ConfigError, naming `launcher.KEY`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(f"launcher.{key}={value} must be an integer of at least {low}")
    return value
