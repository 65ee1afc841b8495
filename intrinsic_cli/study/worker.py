"""A process that trains the runs it is given, one after the other, and keeps its base model and data.

`python -P -m intrinsic_cli.study.worker FOLDER` reads lines of JSON. `{"train": SPEC}` is answered with
`{"run_id", "state"}`; `{"check": [SPEC, ...]}`, runs that share their inputs, with `{"summary", "where"}`; either
with `{"error", "message"}` where no other run could do better: the inputs can't be used, or the disk is full.
It leaves when its input ends: after the run, or, where the input ends during a run (its driver asked it to stop, or
died), after the step, with a snapshot.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any

from intrinsic_cli.errors import IdimError, StoreError, is_failure
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.inputs import Loader, check
from intrinsic_cli.training.run import train_one
from intrinsic_cli.training.stop import Stop, heard


def main(words: list[str]) -> int:
    """Serve the runs of one driver."""
    [folder, *options] = words
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver alone decides when to leave
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    stop, store, load = Stop(), Store(folder), Loader()
    if heard(signal.SIGTERM):
        signal.signal(signal.SIGTERM, lambda number, _: stop.request(number))
    for message in _messages(stop):
        if "check" in message:
            answer = _check([RunSpec.from_dict(tree) for tree in message["check"]], load)
        else:
            spec = RunSpec.from_dict(message["train"])
            answer = _train(spec, store, load, stop, progress="--progress" in options)
        try:
            os.write(answers, (json.dumps(answer) + "\n").encode())
        except BrokenPipeError:  # the driver is gone
            break
        if stop.requested:
            break
    return 0


def _train(spec: RunSpec, store: Store, load: Loader, stop: Stop, *, progress: bool) -> dict[str, str]:
    try:
        return {"run_id": spec.run_id, "state": train_one(spec, store, load, stop, progress=progress)}
    except StoreError as error:
        return {"error": type(error).__name__, "message": str(error)}


def _check(specs: list[RunSpec], load: Loader) -> dict[str, str]:
    try:
        return {
            "summary": check(specs, load),
            "where": Compute.here(specs[0].train.precision).words(specs[-1]),
        }
    except BaseException as error:
        if not is_failure(error):
            raise
        if not isinstance(error, IdimError):
            traceback.print_exc()
        return {"error": type(error).__name__, "message": str(error)}


def _messages(stop: Stop) -> Any:
    """The messages that come in. A thread reads them, so that the input's end is seen during a run."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        stop.request()
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while line := lines.get():
        yield json.loads(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
