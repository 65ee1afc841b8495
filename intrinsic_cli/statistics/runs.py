"""Runs of a folder as points of curves: which share one, what rows said of finished ones, those that diverged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from intrinsic_cli.result import RunResult
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import AdapterSpec, RunSpec, SubspaceSpec
from intrinsic_cli.statistics.points import Point
from intrinsic_cli.statistics.pruning import Place
from intrinsic_cli.statistics.rows import of_answers
from intrinsic_cli.statistics.targets import Scale

# Of a curve: with the kind of P, and its seed where that is set.
Space = tuple[SubspaceSpec, AdapterSpec, str, int | None]


def space(spec: RunSpec) -> Space:
    """What the runs of a curve share. Runs of one projection.seed repeat the training and not the space: each has
    a curve of its own. An adapter that is trained itself has a curve over its sizes."""
    if spec.subspace.kind == "full":
        return spec.subspace, replace(spec.adapter, r=None), "", None
    return spec.subspace, spec.adapter, spec.projection.kind, spec.projection.seed


def place(spec: RunSpec) -> Place:
    """Where a run stands on its curve."""
    size = spec.d if spec.d is not None else spec.adapter.r or 0
    return Place(None if spec.is_full else size, spec.lr, spec.seed)


def finished(run: RunResult) -> Point:
    """A finished run with what each row said, where it was kept and this metric can tell."""
    kept = RunDir(run.path).outcomes() if run.path else None
    table = (kept or {}).get("validation", {})
    return replace(Point.of(run), rows=of_answers(run.metric, table))


def diverged(spec: RunSpec, d: int | None) -> Point:
    """A run whose numbers stopped being finite, with as many trained ones as runs like it; None for full
    fine-tuning."""
    return Point(d, spec.seed, spec.lr, None)


def scale(run: RunResult, untrained: Sequence[RunResult] = ()) -> Scale:
    """What the scores of this run's study mean. `untrained` are its runs of d = 0, which are all the same."""
    found = Scale(run.chance, run.n_eval, run.metric, run.higher_is_better)
    if not untrained:
        return found
    before = finished(untrained[0])
    return replace(found, untrained=before.score, untrained_rows=before.rows)
