"""Which learning rate is chosen at each d, and how far that choice flatters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.statistics.collapse import collapsed
from intrinsic_cli.statistics.points import ROUNDING, Floats, Grid, Ints, Point, by_d, rising, tabulate, take
from intrinsic_cli.statistics.targets import Scale


def few_lost(lost: Ints, tried: Ints) -> NDArray[np.bool_]:
    """Whether at most a quarter of the runs that were tried failed: a rate that loses more is not to be chosen."""
    return 4 * lost <= tried


def with_lost(mean: Floats, table: Grid, chance: float) -> Floats:
    """Means (..., K, L) of all runs of each cell, where those that failed count as ones that scored `chance`, or as
    the worst mean of their row: of a loss, chance may be better than what any run has reached."""
    held = table.count + table.lost
    worst = np.where(table.count > 0, mean, np.inf).min(axis=-1, keepdims=True)
    return (table.count * mean + table.lost * np.minimum(chance, worst)) / np.maximum(held, 1)


def choose(choice: Floats, table: Grid, chance: float) -> Ints:
    """The column of each row's best learning rate: (..., K, L) -> (..., K).

    A run that failed counts as `with_lost` has it. Only columns with at least half the runs of the
    row's best-covered one take part, so that one lucky run does not beat the mean of five. Of these, where
    there are any, only columns of whose runs at most a quarter failed and half count. A tie goes to the
    first: the smallest learning rate.
    """
    value = with_lost(choice, table, chance)
    able = table.count > 0
    covered = able & (2 * table.tried >= table.tried.max(axis=-1, keepdims=True))
    sound = covered & few_lost(table.lost, table.tried) & (2 * table.count >= table.tried)
    for part in (covered, sound):
        able = np.where(part.any(axis=-1, keepdims=True), part, able)
    value = np.where(able, value, -np.inf)
    best = value.max(axis=-1, keepdims=True)
    return np.argmax(value >= best - ROUNDING * np.abs(best), axis=-1)


def best_rate(
    points: Sequence[Point], scale: Scale, selection: str = "validation"
) -> tuple[float, float] | None:
    """The best rate of the runs of one size, those that collapsed set apart, and its mean score as `scale.up`.

    None where no run counts. `selection` as in `estimate`.
    """
    runs = rising(points, scale)
    table = tabulate([runs], selection, collapsed([runs], scale))
    if not table.count.any():
        return None
    pick = choose(table.choice, table, scale.up(scale.chance))
    return float(take(table.lr, pick)[0]), float(take(table.score, pick)[0])


def flattery(subspace: Sequence[Point], chance: float) -> float | None:
    """How much choosing the learning rate on validation flatters: the mean over d of the score at the rate
    chosen on validation minus the score at the rate chosen on holdout, runs that failed as in `with_lost`.

    Both scores are on validation, so it is never negative. None unless every run has a holdout score.
    """
    if not subspace or any(p.holdout is None for p in subspace if p.score is not None):
        return None
    table = tabulate(by_d(subspace)[1], "holdout")
    score = with_lost(table.score, table, chance)
    best, honest = (take(score, choose(by, table, chance)) for by in (table.score, table.choice))
    return float(np.mean(best - honest))
