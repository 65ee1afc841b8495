"""What a trend's plot shows: every model's d_t with its interval, against its step or its size."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby, pairwise

from intrinsic_cli.reports.axes import Axis
from intrinsic_cli.reports.cells import called, cell, symbol
from intrinsic_cli.reports.curve_plots import spread
from intrinsic_cli.reports.curves import Curve
from intrinsic_cli.reports.plot import Plot, Series, slug
from intrinsic_cli.reports.trends import Trend, takes_part
from intrinsic_cli.statistics.estimate import Estimate

UPWARD = {"left": "down", "right": "up"}

Placed = list[tuple[float, Curve, Estimate]]  # curves at their places along x


def plot(trend: Trend, axis: Axis) -> Plot:
    """One trend, d_t on a logarithmic axis, of the definition that its correlation is of.

    A d_t beyond the grid is a grey arrow at the grid's end, and an undefined one, which has the worst rank, a cross
    above all others; where no d_t is known, there is no plot (it has no series). Curves that take no part in the
    correlation are named in the note. Step 0 stands left of the others, as far as they stand apart.
    """
    definition = trend.members[0][1].definition
    zero = _zero(trend.x) if axis.log and min(trend.x) == 0 else None
    placed = [
        (x if x or zero is None else zero, curve, curve.estimate(value.threshold, definition))
        for x, (curve, value) in zip(trend.x, trend.members, strict=True)
    ]
    name = symbol(placed[0][2].threshold)
    defined = [(x, curve, value) for x, curve, value in placed if value.status != "undefined"]
    series = [
        part for x, curve, value in defined for part in _spread(x, value, name, _note(curve, value, axis))
    ]
    if series:
        series += _undefined(placed, max(y for s in series for y in s.y), axis)
        series[:0] = _lines(placed) if axis.by_task else ()
    what = called(name, definition)
    return Plot(
        slug(f"{name}-{axis.name}-{trend.name}"), f"{trend.name}: {what} against {axis.label}", axis.label,
        f"{what}, trained parameters", tuple(series), log_x=axis.log, log_y=True, zero=zero,
        note="; ".join(_left_out(placed, axis)),
    )  # fmt: skip


def _spread(x: float, value: Estimate, name: str, note: str) -> list[Series]:
    """A d_t and its interval, upright at x."""
    return [
        replace(part, x=(x,) * len(part.x), y=part.x, look=UPWARD.get(part.look, part.look))
        for part in spread(value, "points", name, note)
    ]


def _lines(placed: Placed) -> list[Series]:
    """Lines through numbers that follow each other: what lies between has none where they break."""
    lines = []
    for known, stretch in groupby(placed, key=lambda each: each[2].d_t is not None):
        points = [(x, float(value.d_t)) for x, _, value in stretch if value.d_t is not None]
        if known and len(points) > 1:
            x, y = zip(*points, strict=True)
            lines.append(Series(x, y, "dash", "accent"))
    return lines


def _undefined(placed: Placed, highest: float, axis: Axis) -> list[Series]:
    """A cross above `highest` for each curve that has the worst rank."""
    return [
        Series(
            (x,), (1.3 * highest,), "cross", "chance", "undefined: worst rank", (_note(curve, value, axis),)
        )
        for x, curve, value in placed
        if value.status == "undefined" and takes_part(curve, value)
    ]


def _left_out(placed: Placed, axis: Axis) -> list[str]:
    """Which curves take no part, a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for _, curve, value in placed:
        if not takes_part(curve, value):
            reasons.setdefault(value.reason, []).append(_who(curve, axis))
    return [f"left out: {', '.join(names)} ({reason})" for reason, names in reasons.items()]


def _who(curve: Curve, axis: Axis) -> str:
    return curve.row if axis.by_task else f"{curve.row} {curve.task}"


def _note(curve: Curve, value: Estimate, axis: Axis) -> str:
    return f"{_who(curve, axis)}: {cell(value, ',d')}"


def _zero(x: tuple[float, ...]) -> float:
    """Where step 0 stands: the first other step, divided by the mean ratio of those that follow each other."""
    others = [value for value in x if value > 0]
    gaps = max(len(list(pairwise(others))), 1)
    return others[0] / max((others[-1] / others[0]) ** (1 / gaps), 2)
