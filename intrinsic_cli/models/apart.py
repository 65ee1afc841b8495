"""Try in another process what native code does with a stranger's file: a crash there is an error here.

A tokenizer's file can make its reader allocate without end, loop, or abort. The process is a copy of this one, so
that a trial costs milliseconds; it computes nothing with torch, whose threads a copy does not have.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

MOST_MEMORY = 2 << 30  # bytes beside those that this process has mapped
PATIENCE = 60.0  # seconds


def trouble(act: Callable[[], None]) -> str | None:
    """What ended `act` in another process, in words: a signal, a panic, no end. None where it returned, or raised
    an ordinary exception, which will come again where it can be explained."""
    readable, writable = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # of threads, none of which the copy waits for
        child = os.fork()
    if child == 0:
        _try(act, writable)
    os.close(writable)
    said, ended = b"", False
    try:
        until = time.monotonic() + PATIENCE
        while not ended and (left := until - time.monotonic()) > 0:
            if select.select([readable], [], [], left)[0]:
                part = os.read(readable, 4096)
                said, ended = said + part, not part
    finally:
        os.close(readable)
        if not ended:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if not ended:
        return f"it came to no end in {PATIENCE:.0f} s"
    if os.WIFSIGNALED(status):
        return f"its process was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return said.decode(errors="replace") or None


def _try(act: Callable[[], None], writable: int) -> None:
    """The other process: does `act`, writes what went wrong and leaves at once."""
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)  # a panic prints before it is raised
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError, ValueError):  # without /proc: no limit but the machine's
            with open("/proc/self/statm") as file:
                mapped = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + MOST_MEMORY, resource.RLIM_INFINITY))
        act()
    except MemoryError:
        os.write(writable, b"it takes more memory than there may be")
    except Exception:
        pass
    except BaseException as error:  # a panic of native code is none of Python's exceptions
        os.write(writable, f"{type(error).__name__}: {error}".encode()[:300])
    finally:
        os._exit(0)
