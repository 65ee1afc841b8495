"""d_t tables: flat records for scripts, and the form of the paper's Table 1 for people."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Any

from intrinsic_cli.errors import ConfigError, one_of
from intrinsic_cli.render import Answer, Table, natural
from intrinsic_cli.reports.curves import (
    FEW_SEEDS,
    Curve,
    Found,
    few_seeds,
    levels_at,
    place,
    spelled,
    untrained_at_the_end,
)
from intrinsic_cli.reports.reference import PAPER, REFERENCES, Column, beside_paper, d90s
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.pruning import THRESHOLD
from intrinsic_cli.statistics.targets import HEADLINE, TARGETS

KEYS = (
    "model", "revision", "task", "subspace", "projection", "normalize", "metric", "full_score", "target",
    "threshold", "d90", "d90_low", "d90_high", "status", "runs",
    "d", "definition", "settings", "study", "seeds", "rough", "lr", "full_lr", "full_runs", "D",
    "n_train", "n_eval", "grid_low", "grid_high", "low_status", "high_status", "reason", "adapter", "space",
    "untrained_score",
    *(
        form.format(name)
        for name in TARGETS
        for form in ("target_{}", "d90_{}", "d90_{}_low", "d90_{}_high", "status_{}")
    ),
)  # fmt: skip


def answer(found: Found, reference: str | None = None, *, normalised: bool = False) -> Answer:
    """What `idim summarize` says; `reference="paper"` adds the paper's d90s of the tasks that were run.

    `found` comes from `curves.estimates`; each threshold is a table of its own. `normalised` is of `records`.
    """
    if reference is not None and reference not in REFERENCES:
        raise ConfigError(f"--reference {reference}{one_of(reference, list(REFERENCES))}")
    blocks = []
    for threshold, part in groupby(found, key=lambda pair: pair[1].threshold):
        block, paper = list(part), reference is not None and threshold == 0.9
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


def records(found: Found, *, normalised: bool = False) -> list[dict[str, Any]]:
    """Flat records with exactly KEYS; None where there is no number. docs/files.md says what each key is.

    With `normalised`, a second record of each is about the share of the way from chance, and all have the key
    `normalised`, true or false.
    """
    if not normalised:
        return [_record(curve, value) for curve, value in found]
    return [
        {**_record(curve, each), "normalised": each.definition == "chance"}
        for curve, value in found
        for each in (value, curve.beside(value)["chance"])
    ]


def _record(curve: Curve, value: Estimate) -> dict[str, Any]:
    beside: dict[str, Any] = {}
    for name in TARGETS:
        other = curve.estimate(value.threshold, name)
        beside |= {
            f"target_{name}": other.target, f"d90_{name}": other.d_t, f"d90_{name}_low": other.low,
            f"d90_{name}_high": other.high, f"status_{name}": other.status,
        }  # fmt: skip
    return {
        "model": curve.spec.model.label,
        "revision": curve.spec.model.revision,
        "task": curve.task,
        "subspace": curve.spec.subspace.kind,
        "projection": curve.spec.projection.kind if curve.spec.d else None,
        "normalize": curve.spec.subspace.normalize if curve.spec.d else None,
        "metric": curve.metric,
        "full_score": value.full_score,
        "target": value.target,
        "threshold": value.threshold,
        "d90": value.d_t,
        "d90_low": value.low,
        "d90_high": value.high,
        "status": value.status,
        "runs": value.runs,
        **_particulars(curve, value),
        **beside,
    }


def _particulars(curve: Curve, value: Estimate) -> dict[str, Any]:
    """What tells a record's curve from others, and how far to trust its number."""
    first, at = curve.runs[0], levels_at(value)
    grid = [level.d for level in value.grid] or sorted(run.d for run in curve.runs)
    return {
        "d": value.d_t,
        "definition": value.definition,
        "settings": curve.settings,
        "study": curve.study,
        "seeds": value.seeds,
        "rough": few_seeds(value),
        "lr": at[-1].lr if at else None,
        "full_lr": value.full_lr,
        "full_runs": value.full_runs,
        "D": first.D,
        "n_train": first.n_train,
        "n_eval": first.n_eval,
        "grid_low": grid[0],
        "grid_high": grid[-1],
        "low_status": "below_grid" if value.low_open else _known(value.low),
        "high_status": "above_grid" if value.high_open else _known(value.high),
        "reason": value.reason,
        "adapter": curve.spec.adapter.kind,
        "space": curve.kind,
        "untrained_score": value.untrained,
    }


def _known(end: int | None) -> str:
    return "unknown" if end is None else "estimated"


def paper_records(tasks: Collection[str]) -> list[dict[str, Any]]:
    """The paper's d90s of these tasks as records; all that the paper does not tell is None."""
    return [
        dict.fromkeys(KEYS)
        | {
            "model": model,
            "task": task,
            "subspace": kind,
            "threshold": 0.9,
            "d90": d90,
            "status": "estimated",
            "d": d90,
            "definition": HEADLINE,
            f"d90_{HEADLINE}": d90,
            f"status_{HEADLINE}": "estimated",
            "adapter": "none",
            "space": kind,
        }
        for model, task, kind, d90 in d90s(tasks)
    ]


def grid(found: Found, paper: bool = False) -> tuple[list[str], list[list[str]]]:
    """The paper's Table 1: header and rows of text. Rows are models, columns task × (full, SAID, DID, and the
    spaces of adapters), and behind each d_t that of the other definitions, where they differ.

    `found` has one threshold. Settings that differ between a model's studies are part of its row's name,
    those between subspaces part of the column's. With `paper`, each model's row in the paper stands below it.
    """
    cells: dict[str, dict[Column, str]] = {}
    for curve, value in found:
        row = cells.setdefault(curve.row, {})
        row[full_column(curve)] = full(value)
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


def called(name: str, definition: str) -> str:
    """`d90`, or `d90 chance` of another definition than the headline."""
    return name if definition == HEADLINE else f"{name} {definition}"


def column(curve: Curve, value: Estimate) -> Column:
    """Where an estimate stands."""
    other = "" if value.definition == HEADLINE else value.definition
    return curve.task, curve.kind, f"{curve.variant} {other}".strip()


def full_column(curve: Curve) -> Column:
    """Where full fine-tuning's score stands."""
    return curve.task, "full", curve.metric


def order(column: Column) -> tuple[object, ...]:
    """A sort key: by task, then full fine-tuning, SAID and DID as the paper has them."""
    task, kind, variant = column
    return natural(task), *place(kind), natural(variant)


def head(column: Column) -> str:
    """`SAID` or `full accuracy`: the column's name under its task."""
    _, kind, variant = column
    return " ".join(filter(None, [spelled(kind), variant]))


def full(value: Estimate) -> str:
    """Full fine-tuning's mean score, or a dash."""
    return "—" if value.full_score is None else f"{value.full_score:.3f}"


def cell(value: Estimate, form: str = "d", to: str = ", ") -> str:
    """`1861 [1500, 2300]`: a d_t as `point` has it, and its interval, where it says more.

    `form` formats a d and `to` stands between the ends of the interval.
    """
    ends = interval(value, form, to)
    return f"{point(value, form)} [{ends}]" if ends else point(value, form)


def point(value: Estimate, form: str = "d") -> str:
    """`1861`, `≤ 100`, `> 30000` or `—`, with a * where seeds are too few. `form` formats a d."""
    if value.status == "undefined":
        return "—"
    few = "*" if few_seeds(value) else ""
    if value.d_t is not None:
        return f"{value.d_t:{form}}{few}"
    beyond = f"≤ {value.grid[0].d:{form}}" if value.status == "below_grid" else f"> {value.grid[-1].d:{form}}"
    return f"{beyond}{few}"


def interval(value: Estimate, form: str = "d", to: str = ", ") -> str:
    """`1500, 2300`, with `≤ 100` or `> 30000` for an open end; empty where there is none, or where it says no more
    than `point` does. `form` and `to` as in `cell`."""
    if not value.has_interval:
        return ""
    smallest, largest = value.grid[0].d, value.grid[-1].d
    # Of a censored d_t, the interval says more only where it reaches into the grid.
    if (
        smallest == largest
        or (value.status == "below_grid" and value.high == smallest)
        or (value.status == "above_grid" and value.low == largest)
    ):
        return ""
    low = f"≤ {smallest:{form}}" if value.low_open else f"{value.low:{form}}"
    high = f"> {largest:{form}}" if value.high_open else f"{value.high:{form}}"
    return f"{low}{to}{high}"


def percent(share: float) -> str:
    return f"{100 * share:.6g} %"


def symbol(threshold: float) -> str:
    """`d90`."""
    return f"d{100 * threshold:.6g}"


def explain(found: Found) -> str:
    """What d_t is, under a table's name; `found` has one threshold."""
    first, definitions = found[0][1], {value.definition for _, value in found}
    does = (
        goal(first.threshold, definitions.pop()) if len(definitions) == 1 else "reaches its column's target"
    )
    return f"trained parameters at which the score {does} [{100 * first.confidence:.6g} % interval]"


def defined(threshold: float, definition: str) -> str:
    """`chance: the d at which the score has gone 90 % of the way from chance to full fine-tuning's.`"""
    return f"{definition}: the d at which the score {goal(threshold, definition)}."


def goal(threshold: float, definition: str) -> str:
    """`reaches 90 % of full fine-tuning's`: what the score does at d_t."""
    return f"{TARGETS[definition].verb} {way(threshold, definition)}"


def way(threshold: float, definition: str) -> str:
    """`90 % of full fine-tuning's`, or of the way to it."""
    return TARGETS[definition].way.format(share=percent(threshold))


def footnotes(found: Found) -> list[str]:
    """What a reader of the table has to know, a line each."""
    lines = []
    pairs = [(curve, each) for curve, value in found for each in curve.shown(value)]
    if any(value.status != "undefined" and few_seeds(value) for _, value in pairs):
        lines.append(f"* fewer than {FEW_SEEDS} seeds where it matters: take the interval as a rough one.")
    lines += dict.fromkeys(
        defined(value.threshold, value.definition) for _, value in pairs if value.definition != HEADLINE
    )
    lines += _reasons(pairs)
    lines += dict.fromkeys(note for curve, value in found for note in notes_on(curve, value))
    return lines + list(_choice_of_rate(found))


def _reasons(pairs: Found) -> list[str]:
    """Why there is a dash, once where it is so by every definition."""
    told: dict[tuple[str, str | None], list[str]] = {}
    for curve, value in pairs:
        if value.status == "undefined":
            told.setdefault((curve.name, value.reason), []).append(value.definition)
    return [
        f"— {name}: {reason}."
        if HEADLINE in definitions
        else f"— {name} {' and '.join(definitions)}: {reason}."
        for (name, reason), definitions in told.items()
    ]


def notes_on(curve: Curve, value: Estimate) -> Iterator[str]:
    """What happened to a curve's runs that a reader has to know."""
    for what, count in (
        ("subspace runs diverged", value.failed), ("runs of full fine-tuning diverged", value.full_failed),
    ):  # fmt: skip
        if count:
            yield f"{curve.name}: {count} {what}, which counts against their learning rates."
    if curve.pruned:
        yield f"{curve.name}: {curve.pruned} runs were pruned, and what is left of their d and rate takes no part."
        other = f"--threshold {value.threshold:g}" if value.threshold != THRESHOLD else ""
        if other := other or ("--selection holdout" if value.selection == "holdout" else ""):
            yield (
                f"{curve.name}: runs were pruned by scores on validation, for {symbol(THRESHOLD)}. With {other} "
                "neither the number nor its interval is to be trusted: sweep again without search.prune."
            )
    if value.collapsed or value.full_collapsed:
        mean = "has no number" if value.mean_d_t is None else f"is {value.mean_d_t}"
        yield (
            f"{curve.name}: {value.collapsed} of {len(curve.runs)} subspace runs and {value.full_collapsed} of "
            f"{len(curve.baseline)} of full fine-tuning collapsed to chance. {symbol(value.threshold)} is that of "
            "the others, as it asks how many numbers suffice where training works; that of the mean of all runs "
            f"{mean}."
        )
    if value.falls_at is not None and value.slower_lr is not None and value.status != "undefined":
        yield (
            f"{curve.name}: the score falls from d={value.falls_at} on, which takes no part: a rate too high? "
            f"Try lr={value.slower_lr:.2g} there."
        )
    if untrained_at_the_end(value):
        last = value.grid[-1]
        yield (
            f"{curve.name}: at d={last.d}, the largest, the score ({last.score:.3f}) does not clearly beat chance "
            f"({value.chance:.3f}): > {last.d} may tell of a rate or too few steps, and not of too few numbers. "
            "Try other lr or more train.epochs."
        )
    if value.floored:
        yield (
            f"{curve.name}: with too few repeats, the noise is at least what a smooth curve leaves of the points; "
            "more seeds would tell it."
        )


def _choice_of_rate(found: Found) -> Iterator[str]:
    """How learning rates were chosen, and what choosing on validation adds to a score."""
    if not any(_tuned(curve) for curve, _ in found):
        return
    known = {c.name: value.flattery for c, value in found if value.flattery is not None and _tuned(c)}
    size = ""
    if known:
        worst = max(known, key=lambda name: known[name])
        size = f"{sum(known.values()) / len(known):.4f} on average, {known[worst]:.4f} at most ({worst})"
    if found[0][1].selection == "holdout":
        yield "Learning rates were chosen on rows held out of the training set."
        if known:
            yield f"Choosing them on validation would have flattered the scores by {size}."
    else:
        unknown = "; runs with data.holdout above 0 can tell by how much"
        yield (
            "Learning rates were chosen on the validation rows that give the score, which flatters it"
            f"{f' by {size}' if known else unknown}."
        )


def _tuned(curve: Curve) -> bool:
    """Whether any d of the curve was run at more than one learning rate."""
    rates: dict[int | None, set[float]] = {}
    for run in curve.runs:
        rates.setdefault(run.d, set()).add(run.spec.lr)
    return any(len(r) > 1 for r in rates.values())
