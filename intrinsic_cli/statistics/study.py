"""The runs of one study as arrays: collapsed ones set apart, the noise measured, rates chosen, the curve fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from intrinsic_cli.statistics.collapse import collapsed
from intrinsic_cli.statistics.curve import crossing, fallen
from intrinsic_cli.statistics.noise import Noise, measure_noise
from intrinsic_cli.statistics.points import Floats, Grid, Ints, Point, by_d, choose, tabulate, take
from intrinsic_cli.statistics.targets import Scale


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

    @property
    def full(self) -> float:
        """Full fine-tuning's mean score at its chosen rate."""
        return float(self.score[-1])

    def crossing(self, target: float) -> float:
        """log2 of the d where the curve first reaches `target`; -inf and inf beyond the grid."""
        weight = np.where(np.arange(self.x.size) < self.kept, self.runs[:-1], 0)
        return float(crossing(self.x, self.score[None, :-1], weight[None], np.array([target]))[0])


def prepare(
    subspace: Sequence[Point], baseline: Sequence[Point], scale: Scale, selection: str = "validation"
) -> Study | str:
    """The study of these runs, or a sentence that says why there is none. `selection` as in `estimate`."""
    if not baseline or not subspace:
        return f"no {'subspace' if baseline else 'full fine-tuning'} run has finished"
    ds, rows = by_d(subspace)
    rows = [*rows, list(baseline)]
    marks = collapsed(rows, scale.chance, scale.n_eval, scale.metric)
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
    noise = measure_noise(table, x, scale.chance, scale.n_eval, scale.metric)
    pick = choose(table.choice, table, scale.chance)
    score, runs = take(table.score, pick), take(table.count, pick)
    variance = None if noise is None else take(noise.of_means(table), pick)
    kept = x.size if variance is None else int(fallen(score[None, :-1], variance[None, :-1])[0])
    fit = isotonic_regression(score[:kept], weights=runs[:kept]).x
    return Study(
        ds, x, table, noise, scale, selection, apart, pick, take(table.lr, pick), score, runs,
        variance, kept, np.append(fit, np.full(x.size - kept, fit[-1])),
    )  # fmt: skip
