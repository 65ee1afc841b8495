"""How a d_t is written: its number, its interval, its name and what it means."""

from __future__ import annotations

from intrinsic_cli.reports.curves import Found, few_seeds
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.targets import HEADLINE, TARGETS

NOTHING = "—"  # where there is no number


def cell(value: Estimate, form: str = "d", to: str = ", ") -> str:
    """`1861 [1500, 2300]`: a d_t as `point` has it, and its interval, where it says more.

    `form` formats a d and `to` stands between the ends of the interval.
    """
    ends = interval(value, form, to)
    return f"{point(value, form)} [{ends}]" if ends else point(value, form)


def point(value: Estimate, form: str = "d") -> str:
    """`1861`, `≤ 100`, `> 30000` or `—`, with a * where seeds are too few. `form` formats a d."""
    if value.status == "undefined":
        return NOTHING
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


def full(value: Estimate) -> str:
    """Full fine-tuning's mean score, or a dash."""
    return NOTHING if value.full_score is None else f"{value.full_score:.3f}"


def percent(share: float) -> str:
    return f"{100 * share:.6g} %"


def symbol(threshold: float) -> str:
    """`d90`."""
    return f"d{100 * threshold:.6g}"


def called(name: str, definition: str) -> str:
    """`d90`, or `d90 chance` of another definition than the headline."""
    return name if definition == HEADLINE else f"{name} {definition}"


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
