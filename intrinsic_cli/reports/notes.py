"""What stands under a table of d_t: what its signs mean, and what happened to the runs behind its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from intrinsic_cli.reports.cells import defined, symbol
from intrinsic_cli.reports.curves import FEW_SEEDS, Curve, Found, few_seeds, levels_at, untrained_at_the_end
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.targets import HEADLINE, THRESHOLD

APART = 2.2  # octaves between two d's, from which on d_t may be half an octave too high


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
        else f"— {name} {' and '.join(dict.fromkeys(definitions))}: {reason}."
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
            f"{curve.name}: the score falls at d={value.falls_at}, from which on no d takes part: a rate too "
            f"high? Try lr={value.slower_lr:.2g} there."
        )
    beside = [level.d for level in levels_at(value)]
    if value.status == "estimated" and math.log2(beside[-1] / beside[0]) > APART:
        yield (
            f"{curve.name}: {symbol(value.threshold)} lies between d={beside[0]} and d={beside[-1]}, which are far "
            "apart: the number is more likely too high than too low. Run some d between them."
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
