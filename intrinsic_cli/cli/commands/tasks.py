"""`idim tasks`: how near tasks are to each other in the space of θ."""

from __future__ import annotations

import argparse
import sys

from intrinsic_cli.cli.arguments import folder, print_answer, read, table_format
from intrinsic_cli.errors import printable

SUMMARY = "show how near the tasks of finished runs are in the space of θ"
EXAMPLES = """\
  idim sweep task=sst2,mrpc,rte d=1000 seed=0,1,2 projection.seed=0 baseline.run=false
  idim tasks outputs/
  idim tasks outputs/ --figures figures/ --format csv > tasks.csv"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)
    table_format(parser)
    parser.add_argument("--figures", metavar="FOLDER", help="also draw each matrix of cosines as an SVG file")


def execute(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from intrinsic_cli.finetunes import space
    from intrinsic_cli.reports import heatmap

    found = space.spaces(read(arguments.dir).results)
    print_answer(space.answer(found), arguments.format)
    if arguments.figures:
        for each in found:
            picture = heatmap.draw(f"cosine, {each.name}", each.tasks, each.cosines.tolist())
            heatmap.write(Path(arguments.figures) / f"{space.slug(each)}.svg", picture)
        print(printable(f"{len(found)} figures in {arguments.figures}"), file=sys.stderr)
    return 0
