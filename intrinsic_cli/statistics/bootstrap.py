"""The bootstrap behind an interval of d_t: how much single runs scatter, and replays of the whole study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from intrinsic_cli.spec import stream_seed
from intrinsic_cli.statistics.points import Floats, Point, Table, by_d, choose, crossing, tabulate, take

# With fewer degrees of freedom the residuals say too little about the noise's shape: the normal stands in.
ENOUGH = 5


def target_score(full: Floats, chance: float, threshold: float, normalised: bool) -> Floats:
    """threshold * full (the paper's), or where `normalised` that share of the way from chance to full."""
    return chance + threshold * (full - chance) if normalised else threshold * full


def replays(
    subspace: Sequence[Point],
    baseline: Sequence[Point],
    *,
    chance: float,
    threshold: float,
    selection: str,
    normalised: bool,
    n_eval: int | None,
    seed: int,
    resamples: int,
) -> Floats | None:
    """log2 d_t of bootstrap replays, (resamples,); -inf and inf beyond the grid. Options as in `estimate`.

    A replay draws every run anew, the baseline's too: the mean of its d and learning rate plus a residual
    from the pool of all repeated runs. One factor per replay widens them by the doubt about their size, as
    Student's t widens the normal. The replay then chooses its own learning rates, sets its own target and
    finds its own crossing. With selection=validation it chooses on one draw and scores on another, so that
    the interval does not inherit the flattery of the choice. None where the noise is unknown.
    """
    ds, rows = by_d(subspace)
    table = tabulate([*rows, baseline], selection)
    noise = measure_noise(table, n_eval)
    if noise is None:
        return None
    rng = np.random.default_rng(stream_seed(seed, "estimate"))
    if selection == "validation":
        (score,), (choice,) = (_redraw(table, noise, rng, resamples, parts=1) for _ in range(2))
    else:
        score, choice = _redraw(table, noise, rng, resamples, parts=2)
    pick = choose(choice, table.count)
    score, runs = take(score, pick), take(np.broadcast_to(table.count, score.shape), pick)
    target = target_score(score[:, -1], chance, threshold, normalised)
    return crossing(np.log2(ds), score[:, :-1], runs[:, :-1], target)


@dataclass(frozen=True)
class Noise:
    """Scatter of single runs: standard deviations (K, L) of score and choice, their degrees of freedom, and
    residuals of unit variance to draw from, (2, M): score and choice of the same run stay together."""

    score: Floats
    choice: Floats
    freedom: int
    shapes: Floats


def measure_noise(table: Table, n_eval: int | None) -> Noise | None:
    """Pool the residuals of repeated runs; with `n_eval`, no less than binomial. None where it is unknown."""
    count = table.count.ravel()[table.cell]
    many = count > 1
    freedom = int(np.sum(np.maximum(table.count - 1, 0)))
    if freedom < 2 and n_eval is None:
        return None
    left = np.stack([table.score_left, table.choice_left])[:, many]
    pooled = np.sqrt(np.sum(left**2, axis=1) / max(freedom, 1))
    # A cell's mean takes 1/n of its runs' variance with it: give it back.
    shapes = left * np.sqrt(count[many] / (count[many] - 1))
    size = np.sqrt(np.mean(shapes**2, axis=1, keepdims=True)) if freedom >= ENOUGH else np.zeros((2, 1))
    shapes = shapes / size if np.all(size > 0) else np.tile(norm.ppf((np.arange(99) + 0.5) / 99), (2, 1))
    sd = np.broadcast_to(pooled[:, None, None], (2, *table.count.shape))
    if n_eval is not None:
        p = np.clip(np.stack([table.score, table.choice]), 0, 1)
        sd = np.maximum(sd, np.sqrt(p * (1 - p) / n_eval))
        freedom = max(freedom, ENOUGH - 1)
    return Noise(sd[0], sd[1], freedom, shapes)


def _redraw(table: Table, noise: Noise, rng: np.random.Generator, resamples: int, parts: int) -> list[Floats]:
    """Means (B, K, L) of every cell's scores in replays, and with 2 `parts` of the same runs' choices."""
    count = table.count.ravel()
    full = np.flatnonzero(count)
    first = np.searchsorted(table.cell, full)
    run = rng.integers(noise.shapes.shape[1], size=(resamples, table.cell.size), dtype=np.int32)
    widen = np.sqrt(noise.freedom / rng.chisquare(noise.freedom, size=(resamples, 1)))
    means = []
    cells = ((table.score, noise.score), (table.choice, noise.choice))
    for (mean, sd), shape in list(zip(cells, noise.shapes, strict=True))[:parts]:
        shift = np.zeros((resamples, count.size))
        shift[:, full] = widen * np.add.reduceat(shape[run], first, axis=1) / count[full]
        means.append(mean + sd * shift.reshape(resamples, *mean.shape))
    return means
