"""The report: one HTML file with all tables, figures and runs of a folder, and nothing from the network."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from intrinsic_cli import __version__
from intrinsic_cli.files import writing
from intrinsic_cli.render import duration
from intrinsic_cli.reports import curve_plots, svg
from intrinsic_cli.reports.cells import called, cell, explain, goal, interval, point, symbol, way
from intrinsic_cli.reports.curves import Curve, Found, few_seeds, spelled, untrained_at_the_end
from intrinsic_cli.reports.notes import footnotes
from intrinsic_cli.reports.plot import Plot
from intrinsic_cli.reports.tables import column, full_cells, full_column, head, order
from intrinsic_cli.result import RunResult, RunState
from intrinsic_cli.settings import natural
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.store import Survey

MOST_OPEN = 8  # curves; more are folded under their tasks
OTHER_THRESHOLDS = (0.8, 0.9, 0.95, 0.99)
TO = " – "  # between numbers that have commas of their own


def write(title: str, survey: Survey, found: Found, out: Path) -> None:
    """Write the report of a folder to the file `out`; its links to run directories are relative.

    `survey` is the folder's, `found` the estimates of its curves at one threshold. Raises StoreError where
    the file can't be written.
    """
    text = render(title, survey, found, out.parent)
    with writing("--out", out, "file"):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


def render(title: str, survey: Survey, found: Found, base: Path) -> str:
    """The report as HTML, its links relative to the folder `base`."""
    results = survey.results
    threshold = found[0][1].threshold
    told = curve_plots.histories(found)
    runs = _runs(survey, base)
    jinja = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = jinja.from_string((files("intrinsic_cli.reports") / "page.html").read_text(encoding="utf-8"))
    overview = curve_plots.overview(found)
    return template.render(
        title=title,
        symbol=symbol(threshold),
        explain=explain(found).capitalize(),
        summary=_summary(found, results, runs),
        table=_table(found),
        notes=footnotes(found),
        overview=_figure(overview) if overview.series else None,
        tasks=_tasks(found, told),
        folded=len(found) > MOST_OPEN,
        runs=runs,
        environments=_environments(results),
        version=__version__,
    )


def _figure(plot: Plot) -> dict[str, Any]:
    return {
        "title": plot.title,
        "svg": Markup(svg.draw(plot)),
        "legend": [(label, look, tone, Markup(style)) for label, look, tone, style in svg.legend(plot)],
    }


def _summary(found: Found, results: Sequence[RunResult], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The line of small facts under the title."""
    counts = Counter(run["state"] for run in runs)
    told = [f"{counts[state]} {state}" for state in (*RunState, "left out") if counts[state]]
    models, tasks = {curve.row for curve, _ in found}, {curve.task for curve, _ in found}
    began = sorted(r.started[:10] for r in results)
    return [
        _count(len(models), "model"), _count(len(tasks), "task"), _count(len(found), "curve"),
        f"{len(runs):,} runs: {', '.join(told)}",
        f"{duration(sum(r.total_seconds for r in results))} of training",
        began[0] if began[0] == began[-1] else f"{began[0]} to {began[-1]}",
    ]  # fmt: skip


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _table(found: Found) -> dict[str, Any]:
    """Tasks over columns over rows: the cells of `tables.grid`, each linked to its curve."""
    rows: dict[str, dict[Any, dict[str, Any]]] = {}
    fulls = full_cells(found)
    for i, (curve, value) in enumerate(found):
        row = rows.setdefault(curve.row, {})
        text = fulls[curve.row, full_column(curve)]
        row[full_column(curve)] = {"text": text, "interval": None, "href": None, "kind": "full"}
        for each in curve.shown(value):
            row[column(curve, each)] = {
                "text": point(each, ",d"), "interval": interval(each, ",d", TO), "href": f"#c{i}",
                "kind": curve.kind,
            }  # fmt: skip
    columns = sorted({c for row in rows.values() for c in row}, key=order)
    tasks = [(task, len(list(part))) for task, part in groupby(columns, key=lambda c: c[0])]
    return {
        "tasks": tasks,
        "heads": [head(c) for c in columns],
        "rows": [(name, [row.get(c) for c in columns]) for name, row in rows.items()],
    }


def _tasks(found: Found, told: curve_plots.Histories) -> list[dict[str, Any]]:
    """The curves by task, with all of a task on the same axes where there are several."""
    ids = {id(curve): f"c{i}" for i, (curve, _) in enumerate(found)}
    return [
        {
            "id": f"t{i}",
            "name": task,
            "overlay": _figure(curve_plots.overlay(task, members)) if len(members) > 1 else None,
            "count": _count(len(members), "curve"),
            "sections": [_section(ids[id(curve)], curve, value, told) for curve, value in members],
        }
        for i, (task, members) in enumerate(curve_plots.by_task(found).items())
    ]


def _section(name: str, curve: Curve, value: Estimate, told: curve_plots.Histories) -> dict[str, Any]:
    figures = [_figure(plot) for plot in curve_plots.of_curve(curve, value, told)]
    return {
        "id": name,
        "model": curve.row,
        "task": curve.task,
        "kind": " ".join(filter(None, [spelled(curve.kind), curve.variant])),
        "verdict": verdict(curve, value),
        "main": figures[0],
        "others": figures[1:],
        "facts": _facts(curve, value),
    }


def verdict(curve: Curve, value: Estimate) -> str:
    """The finding in a sentence or two."""
    if value.status == "undefined":
        return f"No number: {value.reason}."
    return " ".join(filter(None, [_found(curve, value), _beside(curve, value), _rough(value)]))


def _found(curve: Curve, value: Estimate) -> str:
    share = f"{way(value.threshold, value.definition)} {curve.metric}"
    if value.status == "below_grid":
        return f"The smallest d tried, {value.curve[0].d:,}, already reaches {share}: try smaller ones."
    if value.status == "above_grid":
        way_out = "try larger ones"
        if untrained_at_the_end(value):
            way_out = "its score hardly beats chance: try other lr or epochs before larger ones"
        largest = (
            f"The largest d {'tried' if value.falls_at is None else 'before a fall'}, {value.grid[-1].d:,}"
        )
        return f"{largest}, does not reach {share}: {way_out}."
    D = curve.first.D
    assert value.d_t is not None
    return f"About {value.d_t:,} of {D:,} parameters ({_percent(value.d_t / D)} %) reach {share}."


def _percent(part: float) -> str:
    """Two digits of a share in percent, and all of them where it is the whole; never a power of ten."""
    percent = 100 * part
    if percent >= 99.5:
        return f"{percent:.0f}"
    return f"{percent:.{max(0, 1 - math.floor(math.log10(percent)))}f}"


def _beside(curve: Curve, value: Estimate) -> str:
    """The same by the other definitions, where they ask for another score."""
    others = [each for each in curve.shown(value) if each.definition != value.definition]
    return " ".join(
        f"The score {goal(each.threshold, each.definition)} at {point(each, ',d')}."
        for each in others
        if each.status != "undefined"
    )


def _rough(value: Estimate) -> str:
    rough = value.status == "estimated" and few_seeds(value)
    return "Fewer than three seeds: take it as a rough one." if rough else ""


def _facts(curve: Curve, value: Estimate) -> list[tuple[str, str]]:
    """The numbers beside a curve: name, value."""
    others = [curve.estimate(t) for t in OTHER_THRESHOLDS if t != value.threshold]
    facts = [
        (called(symbol(each.threshold), each.definition), cell(each, ",d", TO))
        for each in (*curve.shown(value), *others)
    ]
    return facts + _of_full(value) + _of_runs(curve, value)


def _of_full(value: Estimate) -> list[tuple[str, str]]:
    facts = []
    if value.logistic is not None:
        facts.append(("by a logistic fit", f"{value.logistic:,}"))
    if value.full_score is not None:
        facts.append(
            (
                "full fine-tuning",
                f"{value.full_score:.4f} (lr {value.full_lr:g}, {_count(value.full_runs, 'run')})",
            )
        )
    if value.untrained is not None:
        facts.append(("before training", f"{value.untrained:.4f}"))
    facts.append(("chance", f"{value.chance:.4f}"))
    if value.noise is not None:
        facts.append(("noise of one run", f"±{value.noise:.4f}"))
    if value.flattery is not None:
        facts.append(("flattery of lr choice", f"{value.flattery:.4f}"))
    return facts


def _of_runs(curve: Curve, value: Estimate) -> list[tuple[str, str]]:
    first, train = curve.first, curve.spec.train
    length = f"{train.max_steps} steps" if train.max_steps else f"{train.epochs:g} epochs"
    return [
        ("data", f"{first.n_train:,} to train on, {first.n_eval:,} to score"),
        ("training", f"{length}, batch {train.batch_size}"),
        *_how(curve),
        ("scales λ", f"{first.m} in d") if first.m else ("scales λ", "none"),
        ("runs", f"{value.runs:,} at {_count(len({r.d for r in curve.runs}), 'd')}"),
    ]


def _how(curve: Curve) -> list[tuple[str, str]]:
    """The adapter and P of a curve, as far as it has them."""
    spec, found = curve.spec, []
    if spec.adapter:
        found.append(("adapter", spec.adapter.kind if spec.subspace.kind == "full" else spec.adapter.label))
    if spec.subspace.kind != "full":
        found.append(("projection", f"{spec.projection.kind}, {spec.subspace.normalize}"))
    return found


def _runs(survey: Survey, base: Path) -> list[dict[str, Any]]:
    """Every run directory, finished or not, with what there is to say about it."""
    rows = [_row(look.path, look.state, base) | {"words": look.reason} for look in survey.runs]
    for row, look in zip(rows, survey.runs, strict=True):
        if look.result is not None:
            row["words"] = f"{look.result.metric} {look.result.score:.4f}"
            row["time"] = duration(look.result.total_seconds)
    rows += [_row(path, "left out", base) | {"words": reason} for path, reason in survey.left_out]
    return sorted(rows, key=lambda row: natural(row["name"]))


def _row(path: Path, state: str, base: Path) -> dict[str, Any]:
    href = quote(Path(os.path.relpath(path, base)).as_posix()) + "/"
    return {"name": path.name, "href": href, "state": state, "time": ""}


def _environments(results: Sequence[RunResult]) -> list[tuple[int, list[tuple[str, str]]]]:
    """The distinct environments, the commonest first: number of runs, and names with values."""
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for result in results:
        told = {**result.environment, "device": result.device, "precision": result.precision}
        key = tuple((name, str(v)) for name, v in sorted(told.items()) if v is not None)
        counts[key] = counts.get(key, 0) + 1
    return [(n, list(key)) for key, n in sorted(counts.items(), key=lambda pair: -pair[1])]
