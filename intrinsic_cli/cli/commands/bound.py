"""`idim bound`: generalization bounds of finished subspace runs."""

from __future__ import annotations

import argparse
import sys

from intrinsic_cli.cli.arguments import folder, print_answer, table_format

SUMMARY = "bound the true error of finished subspace runs"
EXAMPLES = """\
  idim bound outputs/
  idim bound outputs/ --levels 2,4,8 --screen 0 --format md
  idim bound outputs/ --levels 4 --qat-steps 200"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)
    table_format(parser)
    parser.add_argument(
        "--levels", type=_integers, metavar="K,...", help="levels of θ to try; default 2,3,4,6,8,16"
    )
    parser.add_argument("--delta", type=float, default=0.05, help="the bound may fail so often; default 0.05")
    parser.add_argument(
        "--screen", type=int, default=4000, metavar="ROWS",
        help="training rows on which K is chosen before all are counted; 0: all; default 4000",
    )  # fmt: skip
    parser.add_argument(
        "--qat-steps", type=int, default=0, metavar="N", help="fine-tune θ at its levels first; default 0"
    )


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.bounds import measure, tables
    from intrinsic_cli.reports.curves import d90s
    from intrinsic_cli.store import Store

    results = Store(arguments.dir).results()
    rows = measure.bounded(
        results,
        levels=arguments.levels or measure.LEVELS,
        delta=arguments.delta,
        screen=arguments.screen,
        qat_steps=arguments.qat_steps,
        d90s=d90s(results),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print_answer(tables.answer(rows), arguments.format)
    return 0


def _integers(text: str) -> list[int]:
    """`2,4,8` as integers."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 2,4,8") from error
