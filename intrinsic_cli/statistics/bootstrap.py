"""Replays of a study: every run drawn anew, rates chosen again, the target set and the crossing found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from intrinsic_cli.spec import stream_seed
from intrinsic_cli.statistics.collapse import collapsed
from intrinsic_cli.statistics.curve import crossing, fallen, spreads
from intrinsic_cli.statistics.noise import Noise, measure_noise
from intrinsic_cli.statistics.points import Floats, Grid, Ints, Point, by_d, choose, tabulate, take


def target_score(full: Floats, chance: float, threshold: float, normalised: bool) -> Floats:
    """threshold * full (the paper's), or where `normalised` that share of the way from chance to full."""
    return chance + threshold * (full - chance) if normalised else threshold * full


@dataclass(frozen=True)
class Study:
    """Runs as arrays: K d's `ds`, their log2 `x`, and a table whose last row is full fine-tuning.

    apart: the subspace runs and full fine-tuning's that collapsed, (2,). pick (K + 1,): the chosen columns;
    lr, score, runs and variance (K + 1,) are those of the chosen cells, variance None where it is unknown.
    kept: d's that lie before a fall. fit (K,): the monotone curve, flat where it fell.
    """

    ds: list[int]
    x: Floats
    table: Grid
    noise: Noise | None
    chance: float
    selection: str
    apart: tuple[tuple[Point, ...], tuple[Point, ...]]
    pick: Ints
    lr: Floats
    score: Floats
    runs: Ints
    variance: Floats | None
    kept: int
    fit: Floats

    def crossing(self, target: float) -> float:
        """log2 of the d where the curve first reaches `target`; -inf and inf beyond the grid."""
        weight = np.where(np.arange(self.x.size) < self.kept, self.runs[:-1], 0)
        return float(crossing(self.x, self.score[None, :-1], weight[None], np.array([target]))[0])


def prepare(
    subspace: Sequence[Point], baseline: Sequence[Point], *, chance: float, selection: str,
    n_eval: int | None, metric: str,
) -> Study | str:  # fmt: skip
    """The study of these runs, or a sentence that says why there is none. Options as in `estimate`."""
    if not baseline or not subspace:
        return f"no {'subspace' if baseline else 'full fine-tuning'} run has finished"
    ds, rows = by_d(subspace)
    rows = [*rows, list(baseline)]
    marks = collapsed(rows, chance, n_eval, metric)
    whole = [
        any(p.score is not None and not fell for p, fell in zip(row, mark, strict=True))
        for row, mark in zip(rows, marks, strict=True)
    ]
    if not whole[-1]:
        return "every run of full fine-tuning failed or collapsed to chance"
    if not any(whole[:-1]):
        return "every subspace run failed or collapsed to chance"
    apart = [
        tuple(p for row, mark in part for p, fell in zip(row, mark, strict=True) if fell)
        for part in (list(zip(rows, marks, strict=True))[:-1], [(rows[-1], marks[-1])])
    ]
    ds = [d for d, some in zip(ds, whole, strict=False) if some]
    rows = [row for row, some in zip(rows, whole, strict=True) if some]
    marks = [mark for mark, some in zip(marks, whole, strict=True) if some]
    x, table = np.log2(ds), tabulate(rows, selection, marks)
    noise = measure_noise(table, x, chance, n_eval, metric)
    pick = choose(table.choice, table, chance)
    score, runs = take(table.score, pick), take(table.count, pick)
    variance = None if noise is None else take(noise.of_means(table), pick)
    kept = x.size if variance is None else int(fallen(score[None, :-1], variance[None, :-1])[0])
    fit = isotonic_regression(score[:kept], weights=runs[:kept]).x
    return Study(
        ds, x, table, noise, chance, selection, (apart[0], apart[1]), pick, take(table.lr, pick), score, runs,
        variance, kept, np.append(fit, np.full(x.size - kept, fit[-1])),
    )  # fmt: skip


def replays(
    study: Study,
    *,
    threshold: float,
    normalised: bool,
    seed: int,
    resamples: int,
    shared_seed: int | None = None,
) -> Floats | None:
    """log2 d_t of bootstrap replays, (resamples,); -inf and inf beyond the grid. None where noise is unknown.

    A replay draws every cell's mean anew about what was measured: by the scatter of its runs, widened by the
    doubt about its size as Student's t widens the normal, and by the rows, which all cells share. It then
    chooses its own learning rates, sets its own target, looks for its own fall, and finds its own crossing,
    where the rise inside a gap is not a line but a random path (`curve.within`). With selection=validation it
    chooses on one draw and scores on another, so that the interval does not inherit the flattery of the choice.

    shared_seed seeds full fine-tuning and the rows: studies that share both are paired by an equal one.
    """
    if study.noise is None:
        return None
    table = study.table
    streams = [
        np.random.default_rng(stream_seed(number, f"replays of {what}"))
        for number, what in (
            (seed, "the curve"), (seed if shared_seed is None else shared_seed, "full fine-tuning"),
            (seed if shared_seed is None else shared_seed, "rows"),
        )
    ]  # fmt: skip
    rows = study.noise.rows
    if rows is not None and shared_seed is None:  # the same covariance from fewer numbers
        rows = np.asarray(np.linalg.qr(rows.T, mode="r")).T
    score = _draw(study, table.score, study.noise.score, streams, resamples, rows)
    if study.selection != "validation":
        rows = None
    choice = _draw(study, table.choice, study.noise.choice, streams, resamples, rows)
    pick = choose(choice, table, study.chance)
    score = take(score, pick)
    runs, variance = (
        take(np.broadcast_to(a, choice.shape), pick) for a in (table.count, study.noise.of_means(table))
    )
    kept = fallen(score[:, :-1], variance[:, :-1])
    weight = np.where(np.arange(study.x.size) < kept[:, None], runs[:, :-1], 0)
    target = target_score(score[:, -1], study.chance, threshold, normalised)
    return crossing(study.x, score[:, :-1], weight, target, spreads(study.x, study.fit), streams[0])


def _draw(
    study: Study, mean: Floats, variance: Floats, streams: Sequence[np.random.Generator], resamples: int,
    rows: Floats | None,
) -> Floats:  # fmt: skip
    """Means (B, K + 1, L) of every cell in replays."""
    noise, count = study.noise, np.maximum(study.table.count, 1)
    assert noise is not None
    told = noise.told if rows is not None else 0.0
    size = np.broadcast_to(mean, (resamples, *mean.shape)).copy()
    curve, full, row = streams
    for rng, part in ((curve, slice(None, -1)), (full, slice(-1, None))):
        freedom = noise.freedom[part]
        widen = (freedom / rng.chisquare(freedom, size=(resamples, freedom.size)))[..., None]
        sd = np.sqrt(np.maximum(widen * variance[part] - told, 0) / count[part])
        size[:, part] += sd * rng.standard_normal(sd.shape)
    if rows is not None:
        shift = row.standard_normal((resamples, rows.shape[1])) @ rows.T
        if np.isfinite(noise.rows_freedom):
            shift *= np.sqrt(noise.rows_freedom / row.chisquare(noise.rows_freedom, (resamples, 1)))
        size += shift.reshape(size.shape)
    return size
