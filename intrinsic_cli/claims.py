"""One run, one owner: the claim of a process on a run's directory, by a lock and a lease that beats."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, LeaseCompromise, SoftFileLease, Timeout

from intrinsic_cli.errors import StoreError
from intrinsic_cli.files import opened

log = logging.getLogger(__name__)

LOCK, LEASE = ".lock", ".lease"
BEATS = 30.0  # seconds without a heartbeat until a claim on a file system without locks may be taken over
PATIENCE = BEATS + 5  # seconds to wait for a heartbeat where there is a lease and no lock
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class Claim:
    """The right of one process to train a run.

    A file lock, which the system lets go of when its owner dies, excludes all others. A lease beside it names
    the owner (process and host) and has a heartbeat: it excludes them where somebody deletes the lock's file,
    and is all there is where the file system knows no locks. A lease without a heartbeat for BEATS seconds, or
    of a process of this machine that is gone, is taken over.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Not 0: somebody who reads the state holds the lock for an instant.
        self._lock = FileLock(folder / LOCK, timeout=0.5, fallback_to_soft=False)
        self._lease = SoftFileLease(folder / LEASE, lease_duration=BEATS, on_compromise=self._lose)
        self._locked = False
        self.lost = ""  # why it is another's, where it is

    def take(self) -> bool:
        """Whether the run is this process's now. Raises OSError where the folder can't be written."""
        try:
            self._lock.acquire()
            self._locked = True
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            _say_once(self._folder.parent, error.strerror or str(error))
        # A lease that beats has an owner who lives. One found with the lock free is most likely a dead one's.
        patience = 0.5 if not self._locked and beats(self._folder) else PATIENCE
        try:
            self._lease.acquire(timeout=patience)
        except Timeout:
            # Somebody deleted the owner's lock: this one, left free, would say that nobody has the run.
            if self._locked:
                with suppress(OSError):
                    (self._folder / LOCK).unlink()
            self._lock.release()
            return False
        return True

    def release(self) -> None:
        """Let go of the run."""
        self._lease.release()
        self._lock.release()

    def _lose(self, loss: LeaseCompromise) -> None:
        """Called by the heartbeat. With the lock the run is this process's, whatever became of the lease."""
        if not self._locked or loss.reason == "owner-changed":
            self.lost = loss.reason


@cache
def _say_once(folder: Path, reason: str) -> None:
    log.warning(
        "%s: the file system has no locks (%s); runs are claimed by files with a heartbeat instead, and one whose "
        "machine dies is free %d s later", folder, reason, BEATS,
    )  # fmt: skip


def beats(folder: Path) -> bool:
    """Whether somebody's lease on a run has had a heartbeat of late."""
    try:
        return time.time() - os.lstat(folder / LEASE).st_mtime < 2 * BEATS
    except OSError:
        return False


def claimed(folder: Path) -> bool:
    """Whether somebody holds the claim on a run. Reading it takes no lock that an owner would wait for."""
    try:
        with opened(folder / LOCK) as lock:
            # A shared lock, which needs no right to write, and in whose way only the owner's is.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except StoreError as error:
        if isinstance(error.__cause__, BlockingIOError):
            return True
    except FileNotFoundError:
        pass
    else:
        return False
    return beats(folder)
