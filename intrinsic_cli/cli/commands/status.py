"""`idim status`: show what is done, running, failed and pending."""

from __future__ import annotations

import argparse

from intrinsic_cli.cli.arguments import folder

STATES = ("done", "running", "failed", "pending", "damaged")
SUMMARY = "show what is done, running, failed and pending"
EXAMPLES = """\
  idim status outputs/"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)


def execute(arguments: argparse.Namespace) -> int:
    from collections import Counter

    from intrinsic_cli.render import duration
    from intrinsic_cli.store import Store

    seconds, states = [], []
    for run in Store(arguments.dir).runs():
        state = run.state
        line = f"{state:8} {run.path.name}"
        if state == "done":
            result = run.result() or {}
            seconds.append(result["seconds"]["total"])
            line += f"  {result['metric']} {result['score']:.4f}"
        elif state == "failed":
            line += f"  {run.error()['message']}"
        print(line)
        states.append(state)
    counts = Counter(states)
    line = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state] or state != "damaged")
    to_go = counts["pending"] + counts["running"] + counts["damaged"]
    if to_go and seconds:
        workers = max(1, counts["running"])
        left = to_go / workers * sum(seconds) / len(seconds)
        line += (
            f"; about {duration(left)} to go with {workers} at once, as long as the runs that are done took"
        )
    print(line)
    return 0
