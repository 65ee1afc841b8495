"""`idim list`: list what can be chosen."""

from __future__ import annotations

import argparse

SUMMARY = "list what can be chosen"
EXAMPLES = """\
  idim list tasks
  idim list models"""


GROUPS = {
    "models": "model", "tasks": "task", "adapters": "adapter", "projections": "projection",
    "subspaces": "subspace", "launchers": "launcher", "studies": "study",
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=list(GROUPS), metavar="|".join(GROUPS))


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.planning import options

    for name, summary in options.describe(GROUPS[arguments.what]):
        print(f"{name:20} {summary}".rstrip())
    return 0
