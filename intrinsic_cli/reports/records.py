"""d_t as flat records, for scripts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from intrinsic_cli.reports.curves import Curve, Found, few_seeds, levels_at
from intrinsic_cli.reports.reference import d90s
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.targets import HEADLINE, TARGETS, THRESHOLD

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


def records(found: Found, *, normalised: bool = False) -> list[dict[str, Any]]:
    """Flat records with exactly KEYS; None where there is no number. docs/files.md says what each key is.

    With `normalised`, a second record of each is about the share of the way from chance, unless the first is, and
    all have the key `normalised`, true or false.
    """
    if not normalised:
        return [_record(curve, value) for curve, value in found]
    return [
        {**_record(curve, each), "normalised": each.definition == "chance"}
        for curve, value in found
        for each in {value.definition: value, "chance": curve.beside(value)["chance"]}.values()
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
    first, at = curve.first, levels_at(value)
    tried = [*(run.d for run in curve.runs), *(spec.d for spec in curve.diverged if spec.d)]
    grid = [level.d for level in value.grid] or sorted(tried)
    return {
        "d": value.d_t,
        "definition": value.definition,
        "settings": curve.settings,
        "study": curve.study,
        "seeds": value.seeds or None,  # without a curve no rate is chosen
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
            "threshold": THRESHOLD,
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
