"""What the plots of d90 curves show: one of all, one of each task, and several of each curve."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from intrinsic_cli.errors import StoreError
from intrinsic_cli.reports.cells import cell, percent, point, symbol
from intrinsic_cli.reports.curves import Curve, Found, spelled
from intrinsic_cli.reports.plot import Line, Plot, Series, slug
from intrinsic_cli.result import RunResult
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.statistics.estimate import Estimate, Level

log = logging.getLogger(__name__)

TARGET_TONES = ("accent", "c3", "c4")  # of definitions, the headline first
HUES = 8  # of unordered tones
MAX_POINTS = 60  # of one loss curve; more are averaged in equal stretches

Histories = Mapping[str, Sequence[Mapping[str, Any]]]  # by run_id


def overview(found: Found) -> Plot:
    """Every d_t with its interval, one row each; what has none is left out."""
    series: list[Series] = []
    rows: list[str] = []
    for curve, value in found:
        if value.status == "undefined":
            continue
        y = float(-len(rows))
        rows.append(f"{curve.name}  {point(value, ',d')}")
        parts = spread(value, "mark", note=rows[-1])
        series += [replace(part, y=(y,) * len(part.x), label="") for part in parts]
    name = symbol(found[0][1].threshold)
    return Plot(
        "overview", f"{name} at a glance", f"{name}, trained parameters", "", tuple(series), log_x=True,
        rows=tuple(rows), told="; ".join(rows),
    )  # fmt: skip


def overlay(task: str, members: Found) -> Plot:
    """The fits of all curves of a task and metric on the same axes, each with its d_t and with the band of its
    means, and the best that any space reaches with so few numbers."""
    series: list[Series] = []
    told = []
    for i, (curve, value) in enumerate(members):
        name = " ".join(filter(None, [curve.row, spelled(curve.kind), curve.variant]))
        at = f"{name}: {symbol(value.threshold)} {cell(value, ',d')}"
        told.append(at)
        series += _overlaid(name, at, f"c{i % HUES}", "line" if i < HUES else "dash", curve, value)
    several = len({curve.kind for curve, _ in members}) > 1
    if several and len({curve.row for curve, _ in members}) == 1:
        series.append(_pareto(members))
        told.append(f"best: {', '.join(dict.fromkeys(series[-1].notes))}")
    symbols = symbol(members[0][1].threshold)
    return Plot(
        slug(f"{task}-overlay"), f"Score against d, with each {symbols}", "d, trained parameters",
        members[0][0].metric, tuple(series), log_x=True, told="; ".join(told),
    )  # fmt: skip


def _overlaid(name: str, at: str, tone: str, look: str, curve: Curve, value: Estimate) -> Iterator[Series]:
    """One curve among others: its band and its fit up to a fall, what was measured beyond it, and its d_t."""
    if value.curve:
        yield from _area(value, tone)
        notes = tuple(
            f"{name}: d = {level.d:,}, fitted {curve.metric} {level.fit:.4f}" for level in value.grid
        )
        ds, fits = zip(*((float(level.d), level.fit) for level in value.grid), strict=True)
        yield Series(ds, fits, look, tone, name, notes)
        yield from _beyond_the_fall(name, tone, curve, value)
    if value.d_t is not None and value.target is not None:
        yield Series((float(value.d_t),), (value.target,), "mark", tone, notes=(at,))


def _beyond_the_fall(name: str, tone: str, curve: Curve, value: Estimate) -> list[Series]:
    """The measured means beyond a fall, which no fit is of, and how the fit goes on to them."""
    beyond = value.curve[len(value.grid) :]
    if not beyond:
        return []
    ds, means = tuple(float(level.d) for level in beyond), tuple(level.score for level in beyond)
    notes = tuple(
        f"{name}: d = {level.d:,}, mean {curve.metric} {level.score:.4f}, beyond a fall" for level in beyond
    )
    last = value.grid[-1]
    return [
        Series((float(last.d), *ds), (last.fit, *means), "dash", tone),
        Series(ds, means, "points", tone, "mean beyond a fall", notes),
    ]


def _area(value: Estimate, tone: str) -> list[Series]:
    """Where the means of a curve's runs lie 19 times of 20, about the fit; nothing where no noise is known."""
    if value.noise is None:
        return []
    ds = [float(level.d) for level in value.grid]
    reach = [1.96 * value.noise / math.sqrt(level.runs) for level in value.grid]
    upper = [level.fit + r for level, r in zip(value.grid, reach, strict=True)]
    lower = [level.fit - r for level, r in zip(value.grid, reach, strict=True)]
    return [Series((*ds, *reversed(ds)), (*upper, *reversed(lower)), "area", tone)]


def _pareto(members: Found) -> Series:
    """The best fit of all spaces at each number of trained numbers or fewer: a staircase."""
    sign = 1 if members[0][1].higher_is_better else -1
    levels = sorted(
        ((level.d, level.fit, spelled(c.kind)) for c, value in members for level in value.grid),
        key=lambda step: (step[0], -sign * step[1], step[2]),
    )
    steps: list[tuple[int, float, str]] = []
    for d, fit, kind in levels:
        if not steps or sign * fit > sign * steps[-1][1]:
            steps.append((d, fit, kind))
    last = float(levels[-1][0]) if levels else 1.0
    ends = [float(d) for d, _, _ in steps[1:]] + [last]
    x = tuple(at for (d, _, _), end in zip(steps, ends, strict=True) for at in (float(d), end))
    y = tuple(at for _, fit, _ in steps for at in (fit, fit))
    notes = tuple(f"{kind} {fit:.4f} with {d:,}" for d, fit, kind in steps for _ in (0, 1))
    return Series(x, y, "dash", "chance", "best with so few numbers", notes)


def by_task(found: Found) -> dict[str, list[tuple[Curve, Estimate]]]:
    """The curves of each task, in their order; of each of its metrics, where it has several, as they share no
    axis."""
    metrics: dict[str, set[str]] = {}
    for curve, _ in found:
        metrics.setdefault(curve.task, set()).add(curve.metric)
    tasks: dict[str, list[tuple[Curve, Estimate]]] = {}
    for curve, value in found:
        name = f"{curve.task} {curve.metric}" if len(metrics[curve.task]) > 1 else curve.task
        tasks.setdefault(name, []).append((curve, value))
    return tasks


def ends(value: Estimate) -> tuple[float, float]:
    """The interval of a d_t, an open end at the end of the grid; the estimate alone where there is none."""
    smallest, largest = float(value.grid[0].d), float(value.grid[-1].d)
    beyond = smallest if value.status == "below_grid" else largest
    alone = beyond if value.d_t is None else float(value.d_t)
    low = smallest if value.low_open else alone if value.low is None else float(value.low)
    high = largest if value.high_open else alone if value.high is None else float(value.high)
    return low, high


def spread(value: Estimate, look: str, name: str = "", note: str = "") -> list[Series]:
    """A d_t along x, its y's to be filled in: the interval as a line with an arrow at each open end, and the number
    itself by its `look` and `name`; one beyond the grid is a grey arrow at its end."""
    low, high = ends(value)
    beyond = {"below_grid": "left", "above_grid": "right"}.get(value.status)
    series = [Series((low, high), (), "line", "fit", f"{percent(value.confidence)} interval")]
    for end, arrow, is_open in ((low, "left", value.low_open), (high, "right", value.high_open)):
        if arrow == beyond:
            edge = float(value.grid[0 if beyond == "left" else -1].d)
            series.append(Series((edge,), (), arrow, "chance", "beyond the grid", (note,)))
        elif is_open:
            series.append(Series((end,), (), arrow, "fit", "open end"))
    if value.d_t is not None:
        series.append(Series((float(value.d_t),), (), look, "accent", name, (note,)))
    return series


def score(curve: Curve, value: Estimate) -> Plot:
    """Score against d at the chosen learning rates: runs, means, monotone fit, chance, and by every definition its
    target and d_t. The fit ends where the scores fall, and runs that collapsed are points of their own."""
    chosen, fell = _apart(curve, _chosen(curve, value))
    series = [
        Series(
            tuple(float(r.d) for r in chosen), tuple(r.score for r in chosen), "points", "data",
            "one seed", tuple(_note(r) for r in chosen),
        )
    ]  # fmt: skip
    if fell:
        series.append(_fallen(fell, tuple(float(r.d) for r in fell)))
    notes: tuple[str, ...] = ()
    if value.curve:
        ds, means = zip(*((float(level.d), level.score) for level in value.curve), strict=True)
        notes = tuple(_note_on(level, value) for level in value.curve)
        series.append(Series(ds, means, "dash", "data", "mean", notes))
        ds, fits = zip(*((float(level.d), level.fit) for level in value.grid), strict=True)
        series.append(Series(ds, fits, "line", "fit", "monotone fit"))
    levels = [Line(value.chance, "chance", "chance")]
    if value.untrained is not None:
        levels.append(Line(value.untrained, "chance", "before training"))
    if value.full_score is not None:
        levels.append(Line(value.full_score, "full", "full fine-tuning"))
    for each, tone in zip(curve.shown(value), TARGET_TONES, strict=False):
        name = "" if each is value else f" {each.definition}"
        if each.target is not None:
            levels.append(Line(each.target, tone, f"target{name}, {percent(each.threshold)}"))
        if each.d_t is not None and each.target is not None:
            label = f"{symbol(each.threshold)}{name} = {each.d_t:,}"
            series.append(Series((float(each.d_t),), (each.target,), "mark", tone, label, (label,)))
    return Plot(
        slug(f"{curve.name}-score"), "Score against d", "d, trained parameters", curve.metric, tuple(series),
        log_x=True, levels=tuple(levels), band=(value.low, value.high) if value.has_interval else None,
        band_label=f"{percent(value.confidence)} interval",
        told="; ".join([*notes, *(f"{level.label} {level.y:.4f}" for level in levels)]),
    )  # fmt: skip


def _note_on(level: Level, value: Estimate) -> str:
    fit = f"fit {level.fit:.4f}" if level in value.grid else "beyond a fall"
    return f"d = {level.d:,}: mean {level.score:.4f} of {level.runs} at lr {level.lr:g}, {fit}"


def _fallen(runs: Sequence[RunResult], x: tuple[float, ...]) -> Series:
    """Runs that collapsed, at their places."""
    notes = tuple(f"{_note(run)}, collapsed" for run in runs)
    return Series(x, tuple(run.score for run in runs), "points", "chance", "collapsed, in no mean", notes)


def rates(curve: Curve, value: Estimate) -> Plot:
    """Mean score against learning rate, a line per d; the chosen rate is marked. The means are those of the curve:
    runs that collapsed are points of their own."""
    counted, fell = _apart(curve, curve.runs)
    scores: dict[int, dict[float, list[float]]] = {}
    for run in counted:
        scores.setdefault(run.d, {}).setdefault(run.spec.lr, []).append(run.score)
    series, told = [], []
    picked = {level.d: level.lr for level in value.curve}
    for (d, by_rate), tone in zip(sorted(scores.items()), _tones(len(scores)), strict=True):
        means = {lr: sum(s) / len(s) for lr, s in sorted(by_rate.items())}
        notes = tuple(f"d = {d:,}, lr {lr:g}: {mean:.4f}" for lr, mean in means.items())
        series.append(Series(tuple(means), tuple(means.values()), "line", tone, f"d = {d:,}", notes))
        if d in picked:
            note = f"d = {d:,}: lr {picked[d]:g} chosen, {means[picked[d]]:.4f}"
            told.append(note)
            series.append(Series((picked[d],), (means[picked[d]],), "points", tone, f"d = {d:,}", (note,)))
    if fell:
        series.append(_fallen(fell, tuple(run.spec.lr for run in fell)))
        told += series[-1].notes
    return Plot(
        slug(f"{curve.name}-rates"), "Learning rate", "learning rate of θ", f"mean {curve.metric}", tuple(series),
        log_x=True, told="; ".join(told),
    )  # fmt: skip


def _apart(curve: Curve, runs: Sequence[RunResult]) -> tuple[list[RunResult], list[RunResult]]:
    """Those of its subspace runs that count, and those that collapsed."""
    study = curve.measured.study
    fell = set() if isinstance(study, str) else {(p.d, p.seed, p.lr) for p in study.apart[0]}
    parts: tuple[list[RunResult], list[RunResult]] = ([], [])
    for run in runs:
        parts[(run.d, run.spec.seed, run.spec.lr) in fell].append(run)
    return parts


def training(curve: Curve, value: Estimate, histories: Histories) -> list[Plot]:
    """Training loss and ‖θ‖ against the step at the chosen learning rates, a line per run, coloured by d."""
    runs = _chosen(curve, value)
    ds = sorted({r.d for r in runs})
    tones = dict(zip(ds, _tones(len(ds)), strict=True))
    full = [r for r in curve.baseline if r.spec.lr == value.full_lr]
    plots = []
    for key, title, label in (("loss", "Training loss", "loss"), ("theta_norm", "Norm of θ", "‖θ‖")):
        series = [
            _trace(r, histories, key, "line", tones[r.d], f"d = {r.d:,}")
            for r in sorted(runs, key=lambda r: (r.d, r.spec.seed))
        ]
        series += [_trace(r, histories, key, "dash", "full", "full fine-tuning") for r in full]
        drawn = tuple(s for s in series if s.x)
        told = "; ".join(f"{s.label}: {s.y[-1]:.4g} at the end" for s in drawn)
        plots.append(Plot(slug(f"{curve.name}-{key}"), title, "step", label, drawn, told=told))
    return plots


def _trace(
    run: RunResult, histories: Histories, key: str, look: str, tone: str | float, label: str
) -> Series:
    lines = [line for line in histories[run.run_id] if key in line]
    x, y = decimate([line["step"] for line in lines], [line[key] for line in lines])
    notes = ("",) * (len(x) - 1) + (f"{label}, seed {run.spec.seed}: {y[-1]:.4g}",) if y else ()
    return Series(x, y, look, tone, label, notes)


def decimate(x: Sequence[float], y: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The means of at most MAX_POINTS equal stretches, in order."""
    n = len(x)
    count = min(n, MAX_POINTS)
    edges = [i * n // count for i in range(count + 1)] if count else [0]
    stretches = list(pairwise(edges))
    return tuple(sum(x[a:b]) / (b - a) for a, b in stretches), tuple(
        sum(y[a:b]) / (b - a) for a, b in stretches
    )


def histories(curves: Iterable[tuple[Curve, Estimate]]) -> dict[str, list[dict[str, float]]]:
    """The histories of the runs that `training` draws, by run_id."""
    runs = [r for c, v in curves for r in _chosen(c, v) + [b for b in c.baseline if b.spec.lr == v.full_lr]]
    return {run.run_id: _history(run) for run in runs}


def _history(run: RunResult) -> list[dict[str, float]]:
    """What a run logged; nothing, with a word, where that can't be read."""
    try:
        return RunDir(run.directory).history()
    except StoreError as error:
        log.warning("%s; its losses are not drawn", error)
        return []


def of_curve(curve: Curve, value: Estimate, told: Histories) -> list[Plot]:
    """All plots of one curve; those that would be empty are left out."""
    plots = [score(curve, value), rates(curve, value), *training(curve, value, told)]
    return [plot for plot in plots if plot.series]


def every(found: Found) -> list[Plot]:
    """All plots of all curves, the overview first."""
    told = histories(found)
    all_plots = [overview(found)]
    all_plots += [overlay(task, some) for task, some in by_task(found).items() if len(some) > 1]
    all_plots += [plot for curve, value in found for plot in of_curve(curve, value, told)]
    return [plot for plot in all_plots if plot.series]


def _chosen(curve: Curve, value: Estimate) -> list[RunResult]:
    """The runs at each d's chosen learning rate; all where nothing was estimated."""
    picked = {level.d: level.lr for level in value.curve}
    return [r for r in curve.runs if picked.get(r.d, r.spec.lr) == r.spec.lr]


def _tones(n: int) -> list[float]:
    return [i / max(n - 1, 1) for i in range(n)]


def _note(run: RunResult) -> str:
    spec = run.spec
    return f"d = {run.d:,}, seed {spec.seed}, lr {spec.lr:g}: {run.metric} {run.score:.4f}"
