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
from intrinsic_cli.statistics.targets import TARGETS, Scale, begin, headline


def rows(page: str) -> Iterator[tuple[str, list[tuple[str, list[float]]]]]:
    """Every row of the page's tables that has scores: its name, and (head, scores) of its cells."""
    head: list[str] = []
    for line in page.splitlines():
        cells = [part.strip() for part in line.strip("| ").split("|")] if line.startswith("|") else []
        if line.startswith("| |"):
            cells = ["", *cells]
        if not cells:
            head = []
        elif not head:
            head = cells
        elif not set(line) <= set("|- "):
            below = zip(head[1:], cells[1:], strict=False)
            scored = [(of, [float(s.replace("−", "-")) for s in text.split(" / ")]) for of, text in below
                      if re.fullmatch(r"[-−]?[\d.]+( / [-−]?[\d.]+)*", text)]  # fmt: skip
            if scored:
                yield cells[0], scored


def points(scored: list[tuple[str, list[float]]], *, full: bool, unit: float) -> list[Point]:
    """The runs of a row; a score is the nearest multiple of `unit`, where that is not 0."""
    found = []
    for head, scores in scored:
        said = re.sub(r"^(d = |full, )", "", head).replace(",", "")
        if full != ("e-" in said):
            continue
        for seed, score in enumerate(scores):
            exact = round(score / unit) * unit if unit else score
            found.append(Point(None if full else int(said), seed, float(said) if full else 1.0, exact))
    return found


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
    parser.add_argument("--threshold", type=float, default=0.9)
    asked = parser.parse_args()

    of: dict[str, list[tuple[str, list[float]]]] = {}
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
