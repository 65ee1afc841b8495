"""`idim report`: write a page of tables, figures and runs to open in a browser."""

from __future__ import annotations

import argparse

from intrinsic_cli.cli.arguments import folder, read, selection, tell

SUMMARY = "write a page of tables, figures and runs to open in a browser"
EXAMPLES = """\
  idim report outputs/                         # writes outputs/report.html
  idim report outputs/ --out d90.html --figures figures/"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)
    parser.add_argument("--out", metavar="FILE", help="default: DIR/report.html")
    parser.add_argument("--figures", metavar="FOLDER", help="also write the figures as SVG and PDF files")
    parser.add_argument(
        "--threshold", type=float, default=0.9, help="share of the full score; default 0.9 (d90)"
    )
    selection(parser)


def execute(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from intrinsic_cli.reports import curve_plots, curves, figures, page

    if arguments.figures:
        figures.check_folder(Path(arguments.figures))
    survey = read(arguments.dir)
    found = curves.estimates(
        curves.group(survey.results, survey.diverged, survey.pruned), thresholds=[arguments.threshold],
        selection=arguments.selection,
    )  # fmt: skip
    out = Path(arguments.out or Path(arguments.dir) / "report.html")
    page.write(Path(arguments.dir).resolve().name, survey, found, out)
    tell(str(out))
    if arguments.figures:
        written = figures.write(curve_plots.every(found), Path(arguments.figures))
        tell(f"{len(written)} figures in {arguments.figures}")
    return 0
