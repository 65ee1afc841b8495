"""Trends for the terminal, a paper and scripts: the d_t table with each model's step or size, and correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from intrinsic_cli.render import Answer, Table
from intrinsic_cli.reports import tables
from intrinsic_cli.reports.axes import Axis
from intrinsic_cli.reports.cells import called, explain, symbol
from intrinsic_cli.reports.curves import Curve
from intrinsic_cli.reports.notes import footnotes
from intrinsic_cli.reports.records import records
from intrinsic_cli.reports.trends import Trend
from intrinsic_cli.settings import natural
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.ranks import Correlation


def answer(trends: Sequence[Trend], axis: Axis) -> Answer:
    """What `idim trajectory` and `idim compare` say of d_t against `axis`.

    JSON has the models under `models` and the correlations under `trends`, those of each definition under its name;
    CSV has the models alone.
    """
    models = [
        {axis.name: x, **record}
        for trend in trends
        for x, record in zip(trend.x, records(trend.members), strict=True)
    ]
    told = [
        {"name": trend.name, **asdict(trend.correlation), "lacking": list(trend.lacking)}
        | {name: asdict(each) for name, each in trend.correlations.items()}
        for trend in trends
    ]
    members = sorted(
        ((x, member) for trend in trends for x, member in zip(trend.x, trend.members, strict=True)),
        key=lambda pair: pair[0],
    )
    notes = [line for trend in trends for line in (*spell(trend, axis), *trend.lacking)]
    notes += [*([axis.note] if axis.note else []), *footnotes([member for _, member in members])]
    return Answer(_tables(members, axis), notes, models, {"models": models, "trends": told})


def _tables(members: Sequence[tuple[float, tuple[Curve, Estimate]]], axis: Axis) -> list[Table]:
    """The d_t table with the axis as first column: a row for each model, or each curve where x is a curve's. A
    table for each task, where a model's x is not the same on all, as its parameters where heads differ."""
    found = [member for _, member in members]
    name = f"{symbol(found[0][1].threshold)}: {explain(found)}"
    what = ", ".join(dict.fromkeys(axis.called(curve) for curve, _ in found))
    if not axis.by_task:
        table = tables.long(found)
        texts = [[f"{x:.3f}", *row] for (x, _), row in zip(members, table.rows, strict=True)]
        return [Table([what, *table.header], texts, name, keys=4, right=frozenset([0]))]
    one = len({(curve.row, x) for x, (curve, _) in members}) == len({curve.row for curve, _ in found})
    parts: dict[str, list[tuple[float, tuple[Curve, Estimate]]]] = {}
    for x, (curve, value) in members:
        parts.setdefault("" if one else curve.task, []).append((x, (curve, value)))
    return [_of_models(parts[task], what, name) for task in sorted(parts, key=natural)]


def _of_models(members: Sequence[tuple[float, tuple[Curve, Estimate]]], what: str, name: str) -> Table:
    places = {curve.row: f"{x:,}" for x, (curve, _) in members}
    header, rows = tables.grid([member for _, member in members])
    texts = [[places[row[0]], *row] for row in rows]
    return Table([what, *header], texts, name, keys=2, right=frozenset([0]))


def spell(trend: Trend, axis: Axis) -> list[str]:
    """`sst2 DID: rank correlation of step and d90 -0.90, exact p = 0.083 (4 models)`, and the same of the other
    definitions that the table shows. Of several tasks: `-0.57, within tasks 0.12, permutation p = 0.6 (18 curves)`.
    """
    known = {each.definition for curve, value in trend.members for each in curve.shown(value)}
    return [_spell(trend, name, axis) for name in trend.correlations if name in known]


def _spell(trend: Trend, definition: str, axis: Axis) -> str:
    c, (curve, value) = trend.correlations[definition], trend.members[0]
    d_t = called(symbol(value.threshold), definition)
    what = f"{trend.name}: rank correlation of {axis.called(curve)} and {d_t}"
    if c.rho is None:
        return f"{what} unknown: {c.reason}"
    members = "models" if axis.by_task else "curves"
    worst = f", {c.undefined} of them undefined, which is the worst rank" if c.undefined else ""
    return f"{what} {c.rho:.2f}, {_p(c)} ({c.models} {members}{worst})"


def _p(c: Correlation) -> str:
    """Of several tasks with the correlation that p is of, as a task's own level makes one by itself."""
    within = "" if c.within is None else f"within tasks {c.within:.2f}, "
    if c.p is None:
        return f"{within}p unknown as {c.reason}"
    return f"{within}{'exact' if c.exact else 'permutation'} p = {c.p:.2g}"
