"""What a task of a job array does on its node."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from submitit import JobEnvironment
from submitit.core.utils import DelayedSubmission

from intrinsic_cli.result import RunState
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.run import train_one
from intrinsic_cli.training.stop import Stop

LOOK = 0.5  # seconds between two looks at whether it may leave
SLURM_KILLS = 900  # seconds after SIGTERM, at the latest, by a generous administrator


class Runs:
    """What a task does, and does again after a preemption or at its time limit: its runs, one after the other."""

    def __init__(self, trees: list[dict[str, Any]], root: Path) -> None:
        self.trees, self.root = trees, root

    def __call__(self) -> None:
        stop, load, store = Stop(), Loader(), Store(self.root)
        warning = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
        asked: set[int] = set()

        def ask(number: int, _: object) -> None:
            asked.add(number)
            stop.request(number)

        before = {number: signal.signal(number, ask) for number in (warning, signal.SIGTERM)}
        try:
            for tree in self.trees:
                spec = RunSpec.from_dict(tree)
                if not stop.requested and store.run(spec).state not in (
                    RunState.FAILED,
                    RunState.PRUNED,
                ):  # before this task was queued again
                    train_one(spec, store, load, stop)
            # Preempted, or cancelled: to leave now would end the job for good, where Slurm may queue it again.
            deadline = time.monotonic() + (SLURM_KILLS if _under_slurm() and stop.requested else 0)
            while warning not in asked and time.monotonic() < deadline:
                time.sleep(LOOK)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if warning in asked:
            signal.raise_signal(warning)  # submitit then has Slurm queue the task again, and does not return

    def checkpoint(self) -> DelayedSubmission:
        """What submitit starts when the task runs again. Its state is in the runs' directories."""
        return DelayedSubmission(self)


def _under_slurm() -> bool:
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"
