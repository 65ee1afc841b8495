"""What Slurm's queue says of this user's jobs.

`squeue` and not accounting (`sacct`), which many clusters do not have.
"""

from __future__ import annotations

import getpass
import logging
import subprocess
import time

log = logging.getLogger(__name__)

EVERY = 10.0  # seconds between two questions: the controller serves a whole cluster
ENDINGS = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "REVOKED", "TIMEOUT",
}  # fmt: skip


class Queue:
    """The states of this user's jobs, not older than `EVERY` seconds."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Ask anew next time: jobs have been submitted."""
        self._asked = -EVERY
        self._states: dict[str, str] | None = None

    def answers(self) -> bool:
        """Whether the controller can be asked."""
        return self._look() is not None

    def ending(self, job_id: str) -> str | None:
        """Slurm's word for how a job ended (`gone` where it has forgotten it); None while it waits or runs,
        or while the controller can't be asked."""
        states = self._look()
        if states is None:
            return None
        state = states.get(job_id, "gone")
        return state if state in ENDINGS or state == "gone" else None

    def runs(self, job_id: str) -> bool:
        """Whether a job is at work, and does not wait."""
        return (self._look() or {}).get(job_id) == "RUNNING"

    def _look(self) -> dict[str, str] | None:
        if time.monotonic() - self._asked >= EVERY:
            self._asked, self._states = time.monotonic(), states()
        return self._states


def cancel(job_id: str) -> None:
    """Have Slurm end a job. Where it can't be asked, the job is found again by the next look at the queue."""
    try:
        subprocess.run(["scancel", job_id], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        words = str(getattr(error, "stderr", None) or error).strip()
        log.warning("scancel %s failed (%s); it is tried again", job_id, words)


def states() -> dict[str, str] | None:
    """The state of every job of this user by its id, `12` or `12_3`; None where squeue does not answer."""
    words = [
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        f"--user={getpass.getuser()}",
        "--format=%i|%T",
    ]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    rows = (line.partition("|") for line in answer.stdout.splitlines())  # and what a site's wrapper says
    return {job_id: state for job_id, bar, state in rows if bar}
