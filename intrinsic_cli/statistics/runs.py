"""Runs of a folder as points of curves: where each stands, what rows said of finished ones, those that diverged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.errors import DamagedError
from intrinsic_cli.result import RunResult
from intrinsic_cli.rundir import OUTCOMES, RunDir
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.statistics.points import Place, Point
from intrinsic_cli.statistics.rows import of_answers
from intrinsic_cli.statistics.targets import Scale

log = logging.getLogger(__name__)

ROUNDING = 1e-3  # of a score that is computed again from float32 columns, or of a large one's size


def place(spec: RunSpec) -> Place:
    """Where a run stands on its curve."""
    size = spec.d if spec.d is not None else spec.adapter.r or 0
    return Place(None if spec.is_full else size, spec.seed, spec.lr)


def finished(run: RunResult) -> Point:
    """A finished run with what each row said, where it was kept and this metric can tell."""
    return replace(Point.of(run), rows=_rows(run))


def _rows(run: RunResult) -> NDArray | None:
    """What each row added to the score; None, with a word, where the file that says so is damaged."""
    if run.path is None:
        return None
    try:
        table = (RunDir(run.path).outcomes() or {}).get("validation", {})
        for name, column in table.items():
            if column.shape != (run.n_eval,) or column.dtype.kind not in "biuf":
                raise DamagedError(
                    f"{run.path / OUTCOMES} is damaged ({name} is no column of {run.n_eval} numbers)"
                )
        rows = of_answers(run.metric, table)
        score = run.score if rows is None else float(np.mean(rows, dtype=float))
        if not abs(score - run.score) < ROUNDING * max(1.0, abs(run.score)):
            raise DamagedError(
                f"{run.path / OUTCOMES} is of other answers ({run.metric} {score:.4g}, the run has {run.score:.4g})"
            )
        return rows
    except DamagedError as error:
        log.warning(
            "%s; it is not read: the noise of its curve is that of repeats and of so many rows",
            error,
        )
        return None


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
