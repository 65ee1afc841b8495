"""`idim report`: write a page of tables, figures and runs to open in a browser."""

from __future__ import annotations

import argparse

from intrinsic_cli.cli.arguments import figures_folder, folder, read, selection, tell, threshold

SUMMARY = "write a page of tables, figures and runs to open in a browser"
EXAMPLES = """\
  idim report outputs/                         # writes outputs/report.html
  idim report outputs/ --out d90.html --figures figures/"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)
    parser.add_argument("--out", metavar="FILE", help="default: DIR/report.html")
    figures_folder(parser)
    threshold(parser)
    selection(parser)


def execute(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from intrinsic_cli.reports import curve_plots, curves, figures, page

    if arguments.figures:
        figures.check_folder(Path(arguments.figures))
    survey = read(arguments.dir)
    found = curves.estimates(
        curves.of(survey), thresholds=[arguments.threshold], selection=arguments.selection
    )
    out = Path(arguments.out or Path(arguments.dir) / "report.html")
    page.write(Path(arguments.dir).resolve().name, survey, found, out)
    tell(str(out))
    if arguments.figures:
        written = figures.write(curve_plots.every(found), Path(arguments.figures))
        tell(f"{len(written)} figures in {arguments.figures}")
    return 0
