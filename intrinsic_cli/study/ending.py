"""What becomes of a run of which an attempt has ended: one rule for all launchers."""

from __future__ import annotations

import logging
import signal

from intrinsic_cli.errors import OutOfMemory, RunError, StoreError
from intrinsic_cli.files import is_full
from intrinsic_cli.result import RunState
from intrinsic_cli.rundir import RunDir

log = logging.getLogger(__name__)


def ended(
    run: RunDir, word: RunState | None, reason: str, *, attempts: int, retries: int, stopping: bool
) -> RunState | None:
    """What has become of `run`, or None where it is to be tried again.

    `word` is what its process said of it, None where the process died without one, and `reason` what is
    recorded then. A word stands: a run that failed is left so. But a run whose process died, was told to leave
    by somebody else, or ran out of memory may do better in a fresh process, so it has `retries` more attempts
    (`attempts` were made), unless the launcher itself is `stopping`.
    """
    if word not in (None, RunState.STOPPED) and not out_of_memory(run):
        return word
    found = run.state
    if found in (RunState.DONE, RunState.PRUNED):  # its process died after it
        return found
    if found is RunState.RUNNING:  # in another process
        return RunState.ELSEWHERE
    if stopping:
        return RunState.STOPPED
    if attempts <= retries:
        return None
    return word if word is RunState.FAILED else record_death(run, reason, attempts)


def record_death(run: RunDir, reason: str, attempts: int) -> RunState:
    """Record why a run's process left no word, unless it did or another process has the run. Its state then.

    Raises StoreError where the disk is full.
    """
    try:
        with run.claim() as mine:
            if not mine:
                return RunState.ELSEWHERE
            if (state := run.state) in (RunState.DONE, RunState.PRUNED):
                return state
            if not run.has_error:
                run.fail(RunError(reason), attempts=attempts)
    except StoreError as error:  # the folder can't even take the reason: the run stays pending there
        if is_full(error):
            raise
        log.error("%s: %s, and %s", run.path.name, reason, error)
    return RunState.FAILED


def death(status: int) -> str:
    """What an exit status of a process that left no word says."""
    if status >= 0:
        return f"its process ended with status {status} and left no word"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"


def out_of_memory(run: RunDir) -> bool:
    """Whether the run failed for want of memory, which its process may not have given back."""
    return run.state is RunState.FAILED and run.error().get("error") == OutOfMemory.__name__
