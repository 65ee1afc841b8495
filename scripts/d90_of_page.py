"""d90 of the scores that stand on a page, where their runs are gone: the same estimate, without what each row said.

    python scripts/d90_of_page.py docs/results.md MRPC "MRPC, SAID" "MRPC, DID" --chance 0.6838 --rows 408

A row of a table is named by its first cell. Its others have the scores of one seed each, `0.686 / 0.713`, below a
d (`d = 300`, `1,000`) or a learning rate of full fine-tuning (`3e-5`); FULL is the row of those. Of several rows of
one name the first counts.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from intrinsic_cli.reports.cells import called, cell, symbol
from intrinsic_cli.reports.differences import spell
from intrinsic_cli.statistics.difference import difference
from intrinsic_cli.statistics.estimate import Measured
from intrinsic_cli.statistics.points import Point
from intrinsic_cli.statistics.targets import TARGETS, THRESHOLD, Scale, begin, headline

Row = list[tuple[int | float, list[float]]]  # below a d, a whole number, or a rate: the scores of the seeds
SCORES = re.compile(r"[-−]?[\d.]+( / [-−]?[\d.]+)*")


def rows(page: str) -> Iterator[tuple[str, Row]]:
    """Every row of the page's tables that has scores, with its name."""
    head: list[str] = []
    for line in page.splitlines():
        if not line.startswith("|"):
            head = []
            continue
        cells = [part.strip() for part in line.split("|")[1:]]
        if not head:
            head = cells
            continue
        below = ((place(top), text) for top, text in zip(head[1:], cells[1:], strict=False))
        scored = [
            (at, [float(score.replace("−", "-")) for score in text.split(" / ")])
            for at, text in below
            if at is not None and SCORES.fullmatch(text)
        ]
        if scored:
            yield cells[0], scored


def place(head: str) -> int | float | None:
    """The d or the learning rate that a column is headed by; None for another head."""
    said = re.sub(r"^(d = |full, )", "", head).replace(",", "")
    if re.fullmatch(r"\d+", said):
        return int(said)
    return float(said) if re.fullmatch(r"[\d.]+e-\d+", said) else None


def points(row: Row, *, full: bool, unit: float) -> list[Point]:
    """The runs of a row; a score is the nearest multiple of `unit`, where that is not 0."""
    runs = [(at, seed, score) for at, scores in row for seed, score in enumerate(scores)]
    if unit:
        runs = [(at, seed, round(score / unit) * unit) for at, seed, score in runs]
    if full:
        return [Point(None, seed, rate, score) for rate, seed, score in runs if isinstance(rate, float)]
    return [Point(d, seed, 1.0, score) for d, seed, score in runs if isinstance(d, int)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("full", help="the row of full fine-tuning")
    parser.add_argument("curves", nargs="+", help="the rows of subspaces")
    parser.add_argument("--chance", type=float, required=True, help="score of the best constant answer")
    parser.add_argument("--rows", type=int, help="of the validation set, where its metric tells their noise")
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--untrained", type=float, help="score before training")
    parser.add_argument("--lower", action="store_true", help="a lower score is better")
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    asked = parser.parse_args()

    of: dict[str, Row] = {}
    for name, scored in rows(asked.page.read_text(encoding="utf-8")):
        of.setdefault(name, scored)
    if missing := {asked.full, *asked.curves} - of.keys():
        parser.error(f"no row {', '.join(sorted(missing))} with scores; there are {', '.join(of)}")
    unit = 1 / asked.rows if asked.rows and asked.metric == "accuracy" else 0.0
    scale = Scale(asked.chance, asked.rows, asked.metric, not asked.lower, asked.untrained)
    full = points(of[asked.full], full=True, unit=unit)
    curves = [Measured(points(of[name], full=False, unit=unit), full, scale) for name in asked.curves]
    for definition in [name for name in TARGETS if begin(name, scale) is not None]:
        found = [curve.estimate(asked.threshold, definition) for curve in curves]
        first = [curve.estimate(asked.threshold) for curve in curves]
        if definition != headline(scale) and [v.target for v in found] == [v.target for v in first]:
            continue
        what = called(symbol(asked.threshold), definition)
        for name, value in zip(asked.curves, found, strict=True):
            why = value.reason if value.status == "undefined" else ""
            print(f"{name}: {what} {cell(value)} {why}".rstrip())
        for name, curve in zip(asked.curves[1:], curves[1:], strict=True):
            apart = difference(
                curves[0], curve, threshold=asked.threshold, definition=definition, same_full=True
            )
            if not apart.reason:
                print(f"{asked.curves[0]} against {name}: {what}, octaves {spell(apart)}")


if __name__ == "__main__":
    main()
