"""Replays of a study: every run drawn anew, rates chosen again, the target set and the crossing found again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import gammaincinv  # the quantiles of χ² are 2 · gammaincinv(freedom / 2, p)

from intrinsic_cli.spec import stream_seed
from intrinsic_cli.statistics.curve import crossing, fallen, spreads
from intrinsic_cli.statistics.points import Floats, take
from intrinsic_cli.statistics.rates import choose
from intrinsic_cli.statistics.study import Study
from intrinsic_cli.statistics.targets import Scale, begin, target_score


@dataclass(frozen=True)
class Replays:
    """B studies drawn anew about one, before any target is set.

    x (K,): log2 of the d's; score (B, K + 1): means at the rates that each chose, full fine-tuning's last;
    weight (B, K): runs behind them, 0 beyond a fall; spread (K - 1,): as in `curve.within`; paths draws those.
    reach: log2 of the largest d that the study itself has before a fall.
    scale: the study's, with the score before training of each (B,).
    """

    x: Floats
    score: Floats
    weight: Floats
    spread: Floats
    paths: np.random.Generator
    reach: float
    scale: Scale

    def begin(self, definition: str) -> Any:
        """`targets.begin`, of each replay where it was measured on rows that are drawn."""
        return begin(definition, self.scale)

    def crossings(self, begin: Any, threshold: float) -> Floats:
        """log2 d_t of each, (B,), by its own target; -inf and inf beyond its grid. Equal for equal targets."""
        target = target_score(self.score[:, -1], begin, threshold)
        paths = copy.deepcopy(self.paths)
        return crossing(self.x, self.score[:, :-1], self.weight, target, self.spread, paths)

    def bounds(self, begin: Any, threshold: float) -> tuple[Floats, Floats]:
        """What log2 d_t of each is at least and at most, (B,) each: the same number twice inside its grid. Beyond
        it, d_t is at most the smallest d, or more than the largest before the study's fall."""
        at = self.crossings(begin, threshold)
        return np.where(at == np.inf, self.reach, at), np.where(at == -np.inf, self.x[0], at)


def percentiles(least: Floats, most: Floats, confidence: float) -> tuple[float, float]:
    """The middle `confidence` of replays that lie between `least` and `most` (B,); an open end is infinite."""
    low = np.quantile(least, (1 - confidence) / 2, method="lower")
    high = np.quantile(most, (1 + confidence) / 2, method="higher")
    return float(low), float(high)


def replay(
    study: Study, *, seed: int, resamples: int, full_seed: int | None = None, rows_seed: int | None = None
) -> Replays | None:
    """`resamples` replays of a study; None where noise is unknown.

    A replay draws every cell's mean anew about what was measured: by the scatter of its runs, widened by the
    doubt about its size as Student's t widens the normal, and by the rows, which all cells share. It then
    chooses its own learning rates, sets its own target, looks for its own fall, and finds its own crossing,
    where the rise inside a gap is not a line but a random path (`curve.within`). With selection=validation it
    chooses on one draw and scores on another, so that the interval does not inherit the flattery of the choice.

    full_seed, rows_seed seed full fine-tuning and the rows, None as the rest: the replays of two studies with the
    same runs of full fine-tuning, or on the same rows, are paired by an equal one.
    """
    if study.noise is None:
        return None
    table = study.table
    streams = [
        np.random.default_rng(stream_seed(seed if number is None else number, f"replays of {what}"))
        for number, what in ((seed, "the curve"), (full_seed, "full fine-tuning"), (rows_seed, "rows"))
    ]
    rows = study.noise.rows
    if rows is not None and study.start is not None:
        rows = np.vstack([rows, study.start])
    if rows is not None and rows_seed is None:  # the same covariance from fewer numbers
        rows = np.asarray(np.linalg.qr(rows.T, mode="r")).T
    score, start = _draw(study, table.score, study.noise.score, streams, resamples, rows)
    if study.selection != "validation":
        rows = None
    choice, _ = _draw(study, table.choice, study.noise.choice, streams, resamples, rows)
    pick = choose(choice, table, study.chance)
    runs, variance = (
        take(np.broadcast_to(a, choice.shape), pick) for a in (table.count, study.noise.of_means(table))
    )
    score = take(score, pick)
    kept = fallen(score[:, :-1], variance[:, :-1])
    weight = np.where(np.arange(study.x.size) < kept[:, None], runs[:, :-1], 0)
    scale = study.scale
    if scale.untrained is not None:
        scale = replace(scale, untrained=scale.untrained + scale.up(start))
    return Replays(
        study.x, score, weight, spreads(study.x, study.fit), streams[0], float(study.x[study.kept - 1]), scale
    )


def _draw(
    study: Study, mean: Floats, variance: Floats, streams: Sequence[np.random.Generator], resamples: int,
    rows: Floats | None,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Means (B, K + 1, L) of every cell in replays, and what rows add to the score before training, (B,).

    rows (K * L [+ 1], G): as in `Noise`, with those of the model before training behind them.
    """
    noise, count = study.noise, np.maximum(study.table.count, 1)
    assert noise is not None
    told = noise.told if rows is not None else 0.0
    curve, full, row = streams
    freedom = noise.freedom[:-1]
    doubt = curve.chisquare(freedom, size=(resamples, freedom.size))
    widen = (freedom / doubt)[..., None]
    sd = np.sqrt(np.maximum(widen * variance[:-1] - told, 0) / count[:-1])
    size = np.broadcast_to(mean, (resamples, *mean.shape)).copy()
    size[:, :-1] += sd * curve.standard_normal(sd.shape)
    # Of its own rates and by quantiles, so that two studies with these runs draw alike whatever else differs.
    own = np.flatnonzero(study.table.tried[-1])
    widen = noise.freedom[-1] / (2 * gammaincinv(noise.freedom[-1] / 2, full.random((resamples, 1))))
    sd = np.sqrt(np.maximum(widen * variance[-1, own] - told, 0) / count[-1, own])
    size[:, -1, own] += sd * full.standard_normal(sd.shape)
    cells = size[0].size
    apart = np.zeros(resamples)
    if study.start is None and study.start_variance:
        apart = np.sqrt(study.start_variance) * row.standard_normal(resamples)
    if rows is None:
        return size, apart
    shift = row.standard_normal((resamples, rows.shape[1])) @ rows.T
    if np.isfinite(noise.rows_freedom):
        shift *= np.sqrt(noise.rows_freedom / row.chisquare(noise.rows_freedom, (resamples, 1)))
    size += shift[:, :cells].reshape(size.shape)
    return size, apart if study.start is None else shift[:, cells]
