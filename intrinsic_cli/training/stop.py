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

TOGETHER = 0.3  # seconds
LAST = 1.5  # seconds that a second signal leaves for an orderly end
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
    """A Stop that the first SIGINT or SIGTERM requests, and says so; a second raises KeyboardInterrupt at once, and
    ends the process LAST seconds later where it is still here: in a forward that never returns, say.

    SIGTERMs that come within TOGETHER are one: a group and its launcher may both send it. A signal that is ignored
    stays so.

    Outside the main thread signals can't be caught: the Stop is then requested by nobody but the caller.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    counted = _Counted()

    def ask(number: int, frame: FrameType | None) -> None:
        if counted.again(number):
            raise KeyboardInterrupt(number)
        if not stop.requested:
            with suppress(OSError):  # nobody may be there to read it
                os.write(2, b"idim: stopping after this step; once more leaves at once\n")
        stop.request(number)

    before = {number: signal.signal(number, ask) for number in SIGNALS if heard(number)}
    try:
        with _leaving_at_last():
            yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def heard(number: int) -> bool:
    """Whether a signal is to be answered: not one that whoever started this process has it ignore."""
    return signal.getsignal(number) is not signal.SIG_IGN


class _Counted:
    """Tells a second wish to leave from the first."""

    def __init__(self) -> None:
        self._first = math.inf

    def again(self, number: int) -> bool:
        """Whether signal `number`, which comes now, is a second wish."""
        now = time.monotonic()
        second = now > self._first and (number == signal.SIGINT or now > self._first + TOGETHER)
        self._first = min(self._first, now)
        return second


@contextmanager
def _leaving_at_last() -> Iterator[None]:
    """End this process LAST seconds after a second wish to leave, if it comes while the block lasts.

    The main thread hears of a signal between two steps of Python alone, and another one by the file that the
    interpreter's own handler writes to.
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    over, counted = threading.Event(), _Counted()

    def listen() -> None:
        while number := os.read(readable, 1):
            if number[0] in SIGNALS and counted.again(number[0]) and not over.wait(LAST):
                os._exit(128 + number[0])
        os.close(readable)

    before = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    threading.Thread(target=listen, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writable)
