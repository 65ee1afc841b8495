"""`idim bound`: generalization bounds of finished subspace runs."""

from __future__ import annotations

import argparse
import sys

from intrinsic_cli.cli.arguments import folder, numbers, print_answer, read, table_format

SUMMARY = "bound the true error of finished subspace runs"
EXAMPLES = """\
  idim bound outputs/
  idim bound outputs/ --levels 2,4,8 --screen 0 --format md
  idim bound outputs/ --levels 4 --qat-steps 200
  idim bound outputs/ --groups phrases --gaussian 0.3,0.5,0.7"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)
    table_format(parser)
    parser.add_argument(
        "--levels",
        type=numbers(int, "2,4,8"),
        metavar="K,...",
        help="levels of θ to try; default 2,3,4,6,8,16",
    )
    parser.add_argument("--delta", type=float, default=0.05, help="the bound may fail so often; default 0.05")
    parser.add_argument(
        "--screen", type=int, default=4000, metavar="ROWS",
        help="training rows on which K is chosen before all are counted; 0: all; default 4000",
    )  # fmt: skip
    parser.add_argument(
        "--qat-steps", type=int, default=0, metavar="N", help="fine-tune θ at its levels first; default 0"
    )
    parser.add_argument(
        "--gaussian", type=numbers(float, "0.3,0.5"), default=(), metavar="D,...",
        help="also bound a draw around θ that is off by a share D of its square, such as 0.3,0.5,0.7",
    )  # fmt: skip
    parser.add_argument(
        "--groups", default="none", metavar="none|texts|phrases",
        help="what alone is independent: texts, or sentences whose phrases rows are; default: none",
    )  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.bounds import measure, tables
    from intrinsic_cli.bounds.bounded import LEVELS, Options
    from intrinsic_cli.reports import curves
    from intrinsic_cli.rundir import RunDir

    survey = read(arguments.dir)
    results = survey.results
    options = Options(
        levels=arguments.levels or LEVELS, delta=arguments.delta, screen=arguments.screen,
        qat_steps=arguments.qat_steps, noise=arguments.gaussian, groups=arguments.groups,
    )  # fmt: skip
    directories = {run.run_id: run.directory for run in results}
    rows = []
    for row in measure.bounded(
        results,
        options,
        d90s=curves.d90s(curves.of(survey)),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    ):
        RunDir(directories[row.run_id]).keep_bound(tables.kept(row))
        rows.append(row)
    print_answer(tables.answer(rows), arguments.format)
    return 0
