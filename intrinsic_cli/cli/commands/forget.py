"""`idim forget`: remove runs that failed or were never begun."""

from __future__ import annotations

import argparse
import sys

from intrinsic_cli.cli.arguments import folder, tell

SUMMARY = "remove runs that failed or were not finished"
EXAMPLES = """\
  idim forget outputs/ --failed
  idim forget outputs/ --pending --yes         # without the question"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--failed", action="store_const", dest="state", const="failed", help="runs that failed"
    )
    which.add_argument(
        "--pending",
        action="store_const",
        dest="state",
        const="pending",
        help="runs not finished and not running",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.errors import ConfigError
    from intrinsic_cli.rundir import RunDir
    from intrinsic_cli.store import Store

    # A folder without a configuration is somebody else's, such as a model.
    looks = (
        look for look in Store(arguments.dir).survey().runs if look.state == arguments.state and look.spec
    )
    found = [RunDir(look.path) for look in looks]
    what = f"{len(found)} {arguments.state} run{'s' * (len(found) != 1)} of {arguments.dir}"
    if found and not arguments.yes:
        for run in found:
            tell(run.path.name)
        if not sys.stdin.isatty():
            raise ConfigError(f"{what} would be removed; add --yes, as there is nobody to ask")
        try:
            answer = input(f"remove {what}? [y/N] ")
        except EOFError:  # Ctrl-D
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            return 0
    tell(f"{sum(run.forget() for run in found)} of {what} removed")
    return 0
