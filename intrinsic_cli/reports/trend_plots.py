"""What a trend's plot shows: every model's d_t with its interval, against its step or its size."""

from __future__ import annotations

from itertools import pairwise

from intrinsic_cli.reports.plots import Plot, Series, ends, slug
from intrinsic_cli.reports.tables import cell, symbol
from intrinsic_cli.reports.trends import Axis, Trend


def plot(trend: Trend, axis: Axis) -> Plot:
    """One trend, d_t on a logarithmic axis. A d_t beyond the grid is a grey arrow at the grid's end; an undefined
    one is left out. Step 0 stands left of the others, as far as they stand apart."""
    name = symbol(trend.members[0][1].threshold)
    zero = _zero(trend.x) if axis.log and min(trend.x) == 0 else None
    known: list[tuple[float, float]] = []
    series: list[Series] = []
    for x, (curve, value) in zip(trend.x, trend.members, strict=True):
        at = x if x or not axis.log else zero
        low, high = ends(value)
        if value.status == "undefined" or at is None or low is None or high is None:
            continue
        series.append(Series((at, at), (low, high), "line", "fit", "95 % interval"))
        who = curve.row if axis.by_task else f"{curve.row} {curve.task}"
        note = (f"{who}: {cell(value, ',d')}",)
        if value.d_t is None:
            end, look = (low, "down") if value.status == "below_grid" else (high, "up")
            series.append(Series((at,), (end,), look, "chance", "beyond the grid", note))
        else:
            known.append((at, float(value.d_t)))
            series.append(Series((at,), (float(value.d_t),), "points", "accent", name, note))
    if len(known) > 1 and axis.by_task:
        x_known, y_known = zip(*known, strict=True)
        series.insert(0, Series(x_known, y_known, "dash", "accent"))
    return Plot(
        slug(f"{name}-{axis.name}-{trend.name}"), f"{trend.name}: {name} against {axis.label}", axis.label,
        f"{name}, trained parameters", tuple(series), log_x=axis.log, log_y=True, zero=zero,
    )  # fmt: skip


def _zero(x: tuple[float, ...]) -> float:
    """Where step 0 stands: the first other step, divided by the mean ratio of those that follow each other."""
    others = [value for value in x if value > 0]
    gaps = max(len(list(pairwise(others))), 1)
    return others[0] / max((others[-1] / others[0]) ** (1 / gaps), 2)
