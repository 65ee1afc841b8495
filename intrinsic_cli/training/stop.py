"""Leave soon, but not in the middle of a step: what Ctrl-C, SIGTERM and a vanished driver ask of a run."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from intrinsic_cli.errors import Stopped

TOGETHER = 1.0  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A wish to leave, which loops look at between steps."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        return self.signal is not None

    def request(self, number: int = signal.SIGTERM) -> None:
        """Ask to leave, as signal `number` does."""
        self.signal = number

    def raise_if_requested(self, where: str) -> None:
        """Raise Stopped, with `where` things stand, once somebody has asked."""
        if self.signal is not None:
            raise Stopped(where, self.signal)


@contextmanager
def on_signals() -> Iterator[Stop]:
    """A Stop that the first SIGINT or SIGTERM requests, and says so; a second raises KeyboardInterrupt at once.

    SIGTERMs that come within a second are one: a group and its launcher may both send it.

    Outside the main thread signals can't be caught: the Stop is then requested by nobody but the caller.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    asked = -math.inf

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if stop.requested and (number == signal.SIGINT or time.monotonic() > asked + TOGETHER):
            raise KeyboardInterrupt(number)
        if not stop.requested:
            asked = time.monotonic()
            with suppress(OSError):  # nobody may be there to read it
                os.write(2, b"idim: stopping after this step; once more leaves at once\n")
        stop.request(number)

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
