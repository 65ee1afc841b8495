"""`idim keys`: every key of a configuration, with its default and its meaning."""

from __future__ import annotations

import argparse

from intrinsic_cli.cli.arguments import print_answer, table_format

SUMMARY = "show every key of a configuration, with its default and meaning"
EXAMPLES = """\
  idim keys
  idim keys train                              # those that begin so
  idim keys 'launcher.*' --format md"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="keys of such names, as train or '*.seed'"
    )
    table_format(parser)


def execute(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from intrinsic_cli.planning.reference import reference
    from intrinsic_cli.render import Answer, Table

    found = reference(arguments.pattern)
    rows = [[key.name, key.default, key.option, key.meaning] for key in found]
    table = Table(["key", "default", "of", "meaning"], rows)
    print_answer(Answer([table], [], [asdict(key) for key in found]), arguments.format)
    return 0
