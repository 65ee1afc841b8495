"""The learning rate that a table would choose for the runs of one size, and how far that choice flatters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intrinsic_cli.statistics.collapse import collapsed
from intrinsic_cli.statistics.points import Point, by_d, choose, rising, tabulate, take, with_lost
from intrinsic_cli.statistics.targets import Scale


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
