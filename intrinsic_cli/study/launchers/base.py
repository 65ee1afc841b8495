"""What every launcher promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.result import RunState
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
    ) -> Iterator[tuple[RunSpec, RunState]]:
        """Train `specs` and yield each as it ends, with what became of it, as `ending.ended` decides: done, failed,
        elsewhere or stopped.

        Once `stop` is requested no run is begun, and those under way leave after their step. Runs that were
        not begun are not yielded.
        """
        ...


def at_least(key: str, value: object, low: int) -> int:
    """`value` as an integer of at least `low`. Raises ConfigError, naming `launcher.KEY`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(f"launcher.{key}={value} must be an integer of at least {low}")
    return value
