"""d_t tables in the form of the paper's Table 1, and in one with a row for each curve."""

from __future__ import annotations

from itertools import groupby

from intrinsic_cli.errors import ConfigError, one_of
from intrinsic_cli.render import Answer, Table
from intrinsic_cli.reports.cells import NOTHING, called, cell, explain, full, symbol
from intrinsic_cli.reports.curves import Curve, Found, place, spelled
from intrinsic_cli.reports.notes import footnotes
from intrinsic_cli.reports.records import paper_records, records
from intrinsic_cli.reports.reference import PAPER, REFERENCES, Column, beside_paper, d90s
from intrinsic_cli.settings import natural
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.targets import HEADLINE, TARGETS, THRESHOLD


def answer(found: Found, reference: str | None = None, *, normalised: bool = False) -> Answer:
    """What `idim summarize` says; `reference="paper"` adds the paper's d90s of the tasks that were run.

    `found` comes from `curves.estimates`; each threshold is a table of its own. `normalised` is
    of `records.records`.
    """
    if reference is not None and reference not in REFERENCES:
        raise ConfigError(f"--reference {reference}{one_of(reference, list(REFERENCES))}")
    blocks = []
    for threshold, part in groupby(found, key=lambda pair: pair[1].threshold):
        block, paper = list(part), reference is not None and threshold == THRESHOLD
        header, rows = grid(block, paper)
        title = f"{symbol(threshold)}: {explain(block)}"
        blocks.append(Table(header, rows, title, long=long(block, paper)))
    notes = footnotes(found)
    if reference:
        known = any(d90s({curve.task for curve, _ in found}))
        notes.append(f"Rows marked (paper): {PAPER}." if known else f"{PAPER} has none of these tasks.")
    flat = records(found, normalised=normalised) + (
        paper_records({curve.task for curve, _ in found}) if reference else []
    )
    return Answer(blocks, notes, flat)


def grid(found: Found, paper: bool = False) -> tuple[list[str], list[list[str]]]:
    """The paper's Table 1: header and rows of text. Rows are models, columns task × (full, SAID, DID, and the
    spaces of adapters), and behind each d_t that of the other definitions, where they differ.

    `found` has one threshold. Settings that differ between a model's studies are part of its row's name,
    those between subspaces part of the column's. With `paper`, each model's row in the paper stands below it.
    """
    cells: dict[str, dict[Column, str]] = {}
    fulls = full_cells(found)
    for curve, value in found:
        row = cells.setdefault(curve.row, {})
        row[full_column(curve)] = fulls[curve.row, full_column(curve)]
        row |= {column(curve, each): cell(each) for each in curve.shown(value)}
    if paper:
        tasks = {curve.task for curve, _ in found}
        cells = beside_paper(cells, {curve.row: curve.spec.model.label for curve, _ in found}, tasks)
    columns = sorted({c for row in cells.values() for c in row}, key=order)
    header = ["model", *(f"{c[0]} {head(c)}" for c in columns)]
    return header, [[name, *(row.get(c, "") for c in columns)] for name, row in cells.items()]


def long(found: Found, paper: bool = False) -> Table:
    """The same in a row for each curve, for many columns. `found` has one threshold."""
    name = symbol(found[0][1].threshold)
    asked = [{each.definition: each for each in curve.shown(value)} for curve, value in found]
    known = [key for key in TARGETS if any(key in by for by in asked) or (paper and key == HEADLINE)]
    header = ["model", "task", "subspace", "metric", "full", *(called(name, key) for key in known)]
    rows = []
    for (curve, value), by in zip(found, asked, strict=True):
        space = head((curve.task, curve.kind, curve.variant))
        cells = (cell(by[key]) if key in by else "" for key in known)
        rows.append([curve.row, curve.task, space, curve.metric, full(value), *cells])
    if paper:
        tasks = {curve.task for curve, _ in found}
        rows += [
            [m, task, spelled(kind), "", "", *(str(d90) if key == HEADLINE else "" for key in known)]
            for m, task, kind, d90 in d90s(tasks)
        ]
    return Table(header, rows, keys=3)


def column(curve: Curve, value: Estimate) -> Column:
    """Where an estimate stands."""
    other = "" if value.definition == HEADLINE else value.definition
    return curve.task, curve.kind, f"{curve.variant} {other}".strip()


def full_column(curve: Curve) -> Column:
    """Where full fine-tuning's score stands."""
    return curve.task, "full", curve.metric


def full_cells(found: Found) -> dict[tuple[str, Column], str]:
    """Full fine-tuning's score by row and column. Where curves leave out other runs of it, each with its space."""
    told: dict[tuple[str, Column], dict[str, list[str]]] = {}
    for curve, value in found:
        scores = told.setdefault((curve.row, full_column(curve)), {})
        scores.setdefault(full(value), []).append(head((curve.task, curve.kind, curve.variant)))
    for scores in told.values():
        if len(scores) > 1:
            scores.pop(NOTHING, None)
    return {
        place: next(iter(scores))
        if len(scores) == 1
        else ", ".join(f"{score} ({', '.join(spaces)})" for score, spaces in scores.items())
        for place, scores in told.items()
    }


def order(column: Column) -> tuple[object, ...]:
    """A sort key: by task, then full fine-tuning, SAID and DID as the paper has them."""
    task, kind, variant = column
    return natural(task), *place(kind), natural(variant)


def head(column: Column) -> str:
    """`SAID` or `full accuracy`: the column's name under its task."""
    _, kind, variant = column
    return " ".join(filter(None, [spelled(kind), variant]))
