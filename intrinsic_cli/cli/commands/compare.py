"""`idim compare`: show how d90 depends on the size of the model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from intrinsic_cli.cli.arguments import folder, show_trends, trend

if TYPE_CHECKING:
    from intrinsic_cli.spec import RunSpec

SUMMARY = "show how d90 depends on the size of the model"
EXAMPLES = """\
  idim compare outputs/
  idim compare outputs/ --models 'bert-*' --figures figures/
  idim compare outputs/ --format json | jq '.trends[].rho'"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)
    parser.add_argument(
        "--models", metavar="PATTERN", default="*", help="only models of such a name, as 'bert-*'"
    )
    trend(parser)


def execute(arguments: argparse.Namespace) -> int:
    from fnmatch import fnmatchcase

    from intrinsic_cli.reports.trends import parameters
    from intrinsic_cli.store import Store

    def members(spec: RunSpec) -> bool:
        return fnmatchcase(spec.model.label, arguments.models)

    show_trends(Store(arguments.dir).read(), members, parameters, "parameters", arguments)
    return 0
