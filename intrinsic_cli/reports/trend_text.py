"""Trends for the terminal, a paper and scripts: the d_t table with each model's step or size, and correlations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from tabulate import tabulate

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.render import STYLES, csv_text
from intrinsic_cli.reports import tables
from intrinsic_cli.reports.trends import Correlation, Trend


def text(trends: Sequence[Trend], axis: str, form: str = "table") -> str:
    """`trends` in one of `tables.FORMATS`; `axis` (`step`, `parameters`) names their x.

    JSON has the models under `models` and the correlations under `trends`; CSV has the models alone.
    """
    if form not in tables.FORMATS:
        raise ConfigError(f"--format {form} is not known; use one of {', '.join(tables.FORMATS)}")
    models = [
        {axis: x, **record}
        for trend in trends
        for x, record in zip(trend.x, tables.records(trend.members), strict=True)
    ]
    if form == "csv":
        return csv_text(models)
    if form == "json":
        told = [{"name": trend.name, **asdict(trend.correlation)} for trend in trends]
        return json.dumps({"models": models, "trends": told}, indent=1, allow_nan=False)
    members = sorted(
        ((x, member) for trend in trends for x, member in zip(trend.x, trend.members, strict=True)),
        key=lambda pair: pair[0],
    )
    found = [member for _, member in members]
    places = {curve.row: f"{x:,}" for x, (curve, _) in members}
    header, rows = tables.grid(found)
    header, rows = [axis, *header], [[places[row[0]], *row] for row in rows]
    if form == "table":
        header = [name.replace(" ", "\n") for name in header]
    threshold = found[0][1].threshold
    head = f"{tables.symbol(threshold)}: {tables.explain(threshold)}"
    table = tabulate(rows, header, tablefmt=STYLES[form], disable_numparse=True,
                     colalign=("right",) + ("left",) * (len(header) - 1))  # fmt: skip
    notes = [spell(trend, axis) for trend in trends] + tables.footnotes(found)
    if form == "tex":
        return "\n".join([tables.comment(head), table, *map(tables.comment, notes)])
    return "\n\n".join([head, table, ("\n\n" if form == "md" else "\n").join(notes)])


def spell(trend: Trend, axis: str) -> str:
    """`sst2 DID: rank correlation of step and d90 -0.90 [-1.00, -0.30], p = 0.083 (6 models)`."""
    c = trend.correlation
    what = f"{trend.name}: rank correlation of {axis} and {tables.symbol(trend.members[0][1].threshold)}"
    if c.rho is None:
        return f"{what} unknown: {c.reason}"
    interval = "" if c.low is None else f" [{c.low:.2f}, {c.high:.2f}]"
    return f"{what} {c.rho:.2f}{interval}, {_p(c)} ({c.models} models)"


def _p(c: Correlation) -> str:
    return f"{'exact' if c.exact else 'permutation'} p = {c.p:.2g}"
