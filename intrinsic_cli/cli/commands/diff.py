"""`idim diff`: what two runs have not in common."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from intrinsic_cli.cli.arguments import print_answer, table_format

if TYPE_CHECKING:
    from intrinsic_cli.rundir import RunDir

SUMMARY = "show what two runs have not in common"
EXAMPLES = """\
  idim diff outputs/ONE outputs/OTHER
  idim diff here/RUN there/RUN --format json   # the same run on two machines"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("one", metavar="RUN", help="directory of a run")
    parser.add_argument("other", metavar="RUN", help="directory of another")
    table_format(parser)


def execute(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from intrinsic_cli.render import Answer, Table
    from intrinsic_cli.rundir import RunDir

    one, other = (_facts(RunDir(Path(folder))) for folder in (arguments.one, arguments.other))
    keys = [key for key in {**one, **other} if one.get(key, "") != other.get(key, "")]
    rows = [[key, one.get(key, ""), other.get(key, "")] for key in keys]
    records = [{"key": key, "one": a, "other": b} for key, a, b in rows]
    notes = [] if rows else ["no difference in configuration, result, hashes or environment"]
    tables = [Table(["", arguments.one, arguments.other], rows)] if rows else []
    print_answer(Answer(tables, notes, records), arguments.format)
    return 0


def _facts(run: RunDir) -> dict[str, str]:
    """Configuration, result and circumstances of a run, by dotted keys."""
    from intrinsic_cli.result import RunState
    from intrinsic_cli.settings import flat

    state = run.state
    facts = {"state": str(state), **flat(run.spec().to_dict())}
    if (result := run.result() if state is RunState.DONE else None) is None:
        return facts
    tree = result.to_dict()
    for key in ("spec", "run_id", "study", "label_names", "format"):
        tree.pop(key, None)
    return facts | flat(tree)
