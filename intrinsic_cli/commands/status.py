"""`idim status`: show what is done, running, failed and pending."""

from __future__ import annotations

import argparse

from intrinsic_cli.commands.arguments import folder

SUMMARY = "show what is done, running, failed and pending"
EXAMPLES = """\
  idim status outputs/"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)


def execute(arguments: argparse.Namespace) -> int:
    from collections import Counter

    from intrinsic_cli.store import Store

    runs = Store(arguments.dir).runs()
    for run in runs:
        line = f"{run.state:8} {run.path.name}"
        if run.state == "done":
            result = run.result() or {}
            line += f"  {result['metric']} {result['score']:.4f}"
        elif run.state == "failed":
            line += f"  {run.error()['message']}"
        print(line)
    counts = Counter(run.state for run in runs)
    print(", ".join(f"{counts[state]} {state}" for state in ("done", "running", "failed", "pending")))
    return 0
