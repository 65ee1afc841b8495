"""Do a command in a process of its own: where a stranger's model kills that, there is one left to say so."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from contextlib import suppress

from intrinsic_cli.errors import ModelError

READ_MODELS = ("export", "apply", "eval", "bound")  # where they are called; those that train have workers
PR_SET_PDEATHSIG = 1  # of prctl(2)
FAREWELL = 1.5  # seconds that an interrupt leaves for an orderly end


def status_apart(command: str) -> int | None:
    """None in a new process, which is to do `command`; here, once that has ended, its exit status.

    It ends with this process, however this one ends. Raises ModelError where something else killed it. Where the
    system can't promise that (all but Linux), there is no new process.
    """
    if command not in READ_MODELS or sys.platform != "linux":
        return None
    parent, child = os.getpid(), os.fork()  # before anything has started threads, which a copy lacks
    if child == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells both, and one answers
        from intrinsic_cli.training.stop import heard

        if heard(signal.SIGTERM):
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        if os.getppid() != parent:  # it has ended before that
            os._exit(1)
        return None
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:
        try:
            os.kill(child, signal.SIGTERM)  # what is half written goes
            with suppress(OSError):  # a system without such files
                select.select([os.pidfd_open(child)], [], [], FAREWELL)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise
    if os.WIFSIGNALED(status):
        from intrinsic_cli.study.ending import death

        how = death(os.waitstatus_to_exitcode(status))
        raise ModelError(f"idim {command} can't go on: {how}; give other files of the model, or free memory")
    return os.waitstatus_to_exitcode(status)
