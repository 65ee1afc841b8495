"""`idim summarize`: print the d90 table of finished runs."""

from __future__ import annotations

import argparse

from intrinsic_cli.cli.arguments import folder, numbers, print_answer, read, selection, table_format

SUMMARY = "print the d90 table of finished runs"
EXAMPLES = """\
  idim summarize outputs/
  idim summarize outputs/ --format tex > table.tex
  idim summarize outputs/ --threshold 0.95 --format json | jq '.[].d90'
  idim summarize outputs/ --threshold 0.8,0.9,0.95 --reference paper"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)
    table_format(parser)
    parser.add_argument(
        "--threshold",
        type=numbers(float, "0.8,0.9"),
        default=[0.9],
        metavar="T,...",
        help="share of the full score; default 0.9 (d90)",
    )
    parser.add_argument(
        "--normalised", action="store_true",
        help="JSON and CSV: a record more of each, about the share of the way from chance",
    )  # fmt: skip
    parser.add_argument("--reference", metavar="paper", help="set the paper's numbers beside yours")
    selection(parser)


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.reports import curves, tables

    found = curves.estimates(
        curves.of(read(arguments.dir)), thresholds=arguments.threshold, selection=arguments.selection
    )
    print_answer(tables.answer(found, arguments.reference, normalised=arguments.normalised), arguments.format)
    return 0
