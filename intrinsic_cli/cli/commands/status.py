"""`idim status`: show what is done, running, failed and pending."""

from __future__ import annotations

import argparse

from intrinsic_cli.cli.arguments import folder

SUMMARY = "show what is done, running, failed and pending"
EXAMPLES = """\
  idim status outputs/"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)


def execute(arguments: argparse.Namespace) -> int:
    from collections import Counter

    from intrinsic_cli.render import duration
    from intrinsic_cli.result import RunState
    from intrinsic_cli.store import Store

    seconds, states = [], []
    for run in Store(arguments.dir).runs():
        state = run.state
        line = f"{state:8} {run.path.name}"
        if (result := run.result() if state is RunState.DONE else None) is not None:
            seconds.append(result.total_seconds)
            line += f"  {result.metric} {result.score:.4f}"
        elif state is RunState.FAILED:
            line += f"  {run.error()['message']}"
        print(line)
        states.append(state)
    counts = Counter(states)
    told = [RunState.DONE, RunState.RUNNING, RunState.FAILED, RunState.PENDING]
    told += [RunState.UNREADABLE] if counts[RunState.UNREADABLE] else []
    line = ", ".join(f"{counts[state]} {state}" for state in told)
    to_go = counts[RunState.PENDING] + counts[RunState.RUNNING]
    if to_go and seconds:
        workers = max(1, counts[RunState.RUNNING])
        left = to_go / workers * sum(seconds) / len(seconds)
        line += (
            f"; about {duration(left)} to go with {workers} at once, as long as the runs that are done took"
        )
    print(line)
    return 0
