"""How long it will take, in words."""

from __future__ import annotations

import math
import time

from intrinsic_cli.render import duration


class Clock:
    """The time left for `runs` runs, from how long those took that have ended."""

    def __init__(self, runs: int, slots: int) -> None:
        self._runs, self._slots = runs, slots
        self._over = 0
        self._began = time.perf_counter()

    def expect(self, runs: int) -> None:
        """So many runs more are to come; fewer, where below 0."""
        self._runs += runs

    def tick(self) -> None:
        """A run has ended."""
        self._over += 1

    def left(self) -> str:
        """`5 to go, about 4 min`, or `all done`."""
        to_go = self._runs - self._over
        if not to_go:
            return "all done"
        if not self._over:
            return f"{to_go} to go"
        rounds = math.ceil(self._over / self._slots)  # those that ended first waited for nobody
        per_round = (time.perf_counter() - self._began) / rounds
        return f"{to_go} to go, about {duration(per_round * math.ceil(to_go / self._slots))}"
