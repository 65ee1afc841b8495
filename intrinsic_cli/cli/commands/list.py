"""`idim list`: list what can be chosen."""

from __future__ import annotations

import argparse

SUMMARY = "list what can be chosen"
EXAMPLES = """\
  idim list tasks
  idim list models"""


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = ["models", "tasks", "adapters", "projections", "subspaces", "launchers"]
    parser.add_argument("what", choices=kinds, metavar="|".join(kinds))


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.planning import compose

    for name, summary in compose.describe(arguments.what.removesuffix("s")):
        print(f"{name:20} {summary}".rstrip())
    return 0
