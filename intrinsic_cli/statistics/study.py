"""The runs of one study as arrays: collapsed ones set apart, the noise measured, rates chosen, the curve fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from intrinsic_cli.statistics.collapse import collapsed
from intrinsic_cli.statistics.curve import crossing, fallen
from intrinsic_cli.statistics.noise import Noise, blocks, measure_noise
from intrinsic_cli.statistics.points import Floats, Grid, Ints, Point, by_d, rising, tabulate, take
from intrinsic_cli.statistics.rates import choose
from intrinsic_cli.statistics.rows import sampling_variance
from intrinsic_cli.statistics.targets import CHANCE, Scale


@dataclass(frozen=True)
class Study:
    """Runs as arrays: K d's `ds`, their log2 `x`, and a table whose last row is full fine-tuning.

    apart: the subspace runs and full fine-tuning's that collapsed, (2,). pick (K + 1,): the chosen columns;
    lr, score, runs and variance (K + 1,) are those of the chosen cells, variance None where it is unknown.
    kept: d's that lie before a fall. fit (K,): the monotone curve, flat where it fell. start (G,): what the
    blocks of rows that `noise.rows` tells apart add to the model before training, None where rows don't tell.
    All scores are as `scale.up` gives them: a higher one is better.
    """

    ds: list[int]
    x: Floats
    table: Grid
    noise: Noise | None
    scale: Scale
    selection: str
    apart: tuple[tuple[Point, ...], tuple[Point, ...]]
    pick: Ints
    lr: Floats
    score: Floats
    runs: Ints
    variance: Floats | None
    kept: int
    fit: Floats
    start: Floats | None = None

    @property
    def chance(self) -> float:
        """The best constant answer's score."""
        return self.scale.up(self.scale.chance)

    @property
    def full(self) -> float:
        """Full fine-tuning's mean score at its chosen rate."""
        return float(self.score[-1])

    @property
    def start_variance(self) -> float:
        """Of the score before training, by its rows, as far as the score alone tells it."""
        scale = self.scale
        if scale.untrained is None or scale.n_eval is None:
            return 0.0
        return float(sampling_variance(scale.metric, np.array(scale.untrained), scale.n_eval, scale.chance))

    def variance_over(self, level: str) -> float | None:
        """Variance of full fine-tuning's mean score less that of `level` (`Target.level`); None: unknown.

        Before training only the rows' part is noise, and both have the same rows.
        """
        if self.variance is None or self.noise is None:
            return None
        own = float(self.variance[-1])
        if level == CHANCE:
            return own
        if self.start is None or self.noise.rows is None:
            return own + self.start_variance
        width = self.table.count.shape[1]
        full = self.noise.rows[(len(self.runs) - 1) * width + int(self.pick[-1])]
        return own - float(np.sum(full**2)) + float(np.sum((full - self.start) ** 2))

    def crossing(self, target: float) -> float:
        """log2 of the d where the curve first reaches `target`; -inf and inf beyond the grid."""
        weight = np.where(np.arange(self.x.size) < self.kept, self.runs[:-1], 0)
        return float(crossing(self.x, self.score[None, :-1], weight[None], np.array([target]))[0])


def prepare(
    subspace: Sequence[Point], baseline: Sequence[Point], scale: Scale, selection: str = "validation"
) -> Study | str:
    """The study of these runs, or a sentence that says why there is none. `selection` as in `estimate`."""
    if not baseline or not subspace:
        if baseline:
            return "no subspace run has finished"
        return "no run of full fine-tuning on the same rows and weights, trained alike, has finished"
    ds, rows = by_d(rising(subspace, scale))
    rows = [*rows, rising(baseline, scale)]
    marks = collapsed(rows, scale)
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
    return _fitted(ds, tabulate(rows, selection, marks), scale, selection, (apart[0], apart[1]))


def _fitted(
    ds: list[int], table: Grid, scale: Scale, selection: str,
    apart: tuple[tuple[Point, ...], tuple[Point, ...]],
) -> Study:  # fmt: skip
    x = np.log2(ds)
    pick = choose(table.choice, table, scale.up(scale.chance))
    noise = measure_noise(table, pick, x, scale)
    score, runs = take(table.score, pick), take(table.count, pick)
    variance = None if noise is None else take(noise.of_means(table), pick)
    kept = x.size if variance is None else int(fallen(score[None, :-1], variance[None, :-1])[0])
    fit = isotonic_regression(score[:kept], weights=runs[:kept]).x
    return Study(
        ds, x, table, noise, scale, selection, apart, pick, take(table.lr, pick), score, runs,
        variance, kept, np.append(fit, np.full(x.size - kept, fit[-1])), _start(table, noise, scale),
    )  # fmt: skip


def _start(table: Grid, noise: Noise | None, scale: Scale) -> Floats | None:
    """`Study.start`: the rows must be those of the runs."""
    rows, sizes = scale.untrained_rows, {p.rows.size for p in table.runs if p.rows is not None}
    if scale.untrained is None or rows is None or noise is None or noise.rows is None or sizes != {rows.size}:
        return None
    return scale.up(blocks(rows))
