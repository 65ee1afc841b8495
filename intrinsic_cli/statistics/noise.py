"""How much the score of one run scatters: from repeats, from its rows, and from what a smooth curve leaves.

A run's score is its expected score, plus what its own seed adds, plus what the rows of the validation set
add; the rows are the same for all runs. Where runs keep what each row said, the rows' part is known, and how
far runs share it. Else all of it is taken as independent, and as no less than the rows' number allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtr, gammaincinv  # the quantiles of χ² are 2 · gammaincinv(freedom / 2, p)

from intrinsic_cli.statistics.logistic import PARAMETERS, fit_logistic
from intrinsic_cli.statistics.points import ROUNDING, Floats, Grid, Ints
from intrinsic_cli.statistics.rows import BLOCKS, MARKS, sampling_variance
from intrinsic_cli.statistics.targets import Scale

KNOWN = 6  # degrees of freedom that stand for noise known from the rows alone
ENOUGH = 5  # below so many, repeats say too little, and what a smooth curve leaves of the points counts too
POOLED = 10  # the pooled noise weighs as so many degrees of freedom for the noise at one d
POOLED_FULL = 2  # and for full fine-tuning's, which is another procedure and may scatter more
WILD = 0.999  # of an F test: a rate that scatters so surely more than the chosen ones has its own noise
SURE = 0.95  # residuals count where the rows' noise would exceed them in fewer studies than the rest of this


@dataclass(frozen=True)
class Noise:
    """Scatter of runs in K rows (d's, then full fine-tuning) and L columns (rates).

    score, choice (K, L): variances of one run. told: the part of `score` that `rows` adds already. freedom
    (K,): degrees of freedom behind them. rows (K * L, G): what G blocks of rows add to each cell's mean, or
    None where it is unknown; rows_freedom as `freedom`, inf where repeats speak for the seeds. row: variance
    of one run by its rows. floored: what a smooth curve leaves of the points is part of it.
    """

    score: Floats
    choice: Floats
    told: float
    freedom: Floats
    rows: Floats | None = None
    rows_freedom: float = np.inf
    row: float = 0.0
    floored: bool = False

    def of_means(self, table: Grid) -> Floats:
        """Variance (K, L) of the cells' mean scores."""
        variance = np.maximum(self.score - self.told, 0) / np.maximum(table.count, 1)
        return variance if self.rows is None else variance + (self.rows**2).sum(1).reshape(variance.shape)

    def of_runs(self) -> Floats:
        """Variance (K, L) of one run's score."""
        return np.maximum(self.score - self.told, 0) + self.row


def measure_noise(table: Grid, pick: Ints, x: Floats, scale: Scale) -> Noise | None:
    """The noise of `table`, whose last row is full fine-tuning and whose others lie at x (K - 1,), log2 d. `pick`
    (K,) are the columns chosen.

    A rate that is not chosen and surely scatters more than those that are, as one too high does, says nothing of
    theirs: its cells keep the scatter of their own runs. None where the noise is unknown: no repeats, no rows, and
    too few d's for a smooth curve.
    """
    wild = _wild(table, pick)
    rows = _Rows.of(table, wild)
    least = np.zeros_like(table.score)
    if scale.n_eval is not None:
        least = sampling_variance(scale.metric, table.score, scale.n_eval, scale.chance)
    if rows is not None:  # which tell more, but where all of them are alike: right, or wrong
        alike = ~rows.cells.any(axis=1).reshape(least.shape) & (table.count > 0)
        none_right = (table.score == 0) & (scale.metric in ("accuracy", *MARKS))
        least = np.where(alike & ((np.abs(table.score) == 1) | none_right), least, 0)
    here = table.count > 0  # the table is as wide as its widest row
    known = rows is not None or bool(np.any(least[here] > 0))
    degrees = np.where(wild, 0, np.maximum(table.count - 1, 0)).sum(axis=1)
    repeats = int(degrees.sum())
    rest, spare, by_rows = _residuals(table, x, scale.bottom, rows) if repeats < ENOUGH else (0.0, 0, 0.0)
    floored = spare > 0 and rest > 2 * gammaincinv(spare / 2, SURE) * (
        by_rows / spare if rows else np.mean(least[:-1][here[:-1]])
    )
    if not floored:
        rest, spare, by_rows = 0.0, 0, 0.0
    total = repeats + spare
    if total < 2 and not known:
        return None
    prior = np.minimum([POOLED] * (len(degrees) - 1) + [POOLED_FULL], total)
    parts = []
    for left in (table.score_left, table.choice_left):
        cells = _squares(table, left)
        squares = np.where(wild, 0, cells).sum(axis=1)
        pooled = (squares.sum() + rest) / max(total, 1)
        each = (prior * pooled + squares) / np.maximum(prior + degrees, 1)
        own = cells / np.maximum(table.count - 1, 1)
        parts.append(np.maximum(np.where(wild, own, each[:, None]), least))
    told = (rows.own * repeats + by_rows) / max(total, 1) if rows else 0.0
    return Noise(
        score=parts[0],
        choice=parts[1],
        told=told,
        freedom=np.maximum(prior + degrees, KNOWN if known else 1).astype(float),
        rows=rows.cells if rows else None,
        rows_freedom=np.inf if total else KNOWN,
        row=rows.single if rows else 0.0,
        floored=floored,
    )


def _squares(table: Grid, left: Floats) -> Floats:
    """The sum of squares (K, L) of what the cells' means leave of their runs."""
    return np.asarray(np.bincount(table.cell, left**2, table.count.size).reshape(table.count.shape))


def _wild(table: Grid, pick: Ints) -> NDArray[np.bool_]:
    """The cells (K, L) that are not chosen and scatter more than the chosen ones together, by an F test. None where
    the chosen ones have few repeats, or all alike."""
    squares, degrees = _squares(table, table.score_left), np.maximum(table.count - 1, 0)
    chosen = np.arange(table.count.shape[1]) == pick[:, None]
    freedom, scatter = int(degrees[chosen].sum()), float(squares[chosen].sum())
    if freedom < ENOUGH or scatter <= freedom * (ROUNDING * np.abs(table.score[chosen]).max()) ** 2:
        return np.zeros_like(chosen)
    times = squares / np.maximum(degrees, 1) / (scatter / freedom)
    return ~chosen & (degrees > 0) & (fdtr(np.maximum(degrees, 1), freedom, times) > WILD)


@dataclass(frozen=True)
class _Rows:
    """cells (K * L, G) as in Noise; own: variance of a run by its rows that repeats don't share; single: all
    of it."""

    cells: Floats
    own: float
    single: float

    @classmethod
    def of(cls, table: Grid, wild: NDArray[np.bool_]) -> _Rows | None:
        """None unless every run says what each row adds, of equally many rows."""
        if not table.runs or any(p.rows is None or p.rows.size < 2 for p in table.runs):
            return None
        if len({p.rows.size for p in table.runs if p.rows is not None}) > 1:
            return None
        each = np.stack([blocks(p.rows) for p in table.runs if p.rows is not None])
        count = table.count.ravel()
        cells = np.zeros((count.size, each.shape[1]))
        some = np.flatnonzero(count)
        cells[some] = np.add.reduceat(each, np.searchsorted(table.cell, some)) / count[some, None]
        tame = ~wild.ravel()
        repeats = int(np.sum((count[some] - 1)[tame[some]]))
        own = float(np.sum((each - cells[table.cell])[tame[table.cell]] ** 2)) / max(repeats, 1)
        return cls(cells, own if repeats else 0.0, float(np.sum(each**2)) / len(each))


def blocks(rows: Floats) -> Floats:
    """What G blocks of rows add to a run's mean score, about their mean: (n,) -> (G,). The sum of its squares
    is the variance of that score."""
    n = rows.size
    each = (rows - np.mean(rows, dtype=np.float64)) / np.sqrt(n * (n - 1.0))
    return each if n <= BLOCKS else np.asarray(np.bincount(np.arange(n) % BLOCKS, each), dtype=float)


def _residuals(table: Grid, x: Floats, bottom: float, rows: _Rows | None) -> tuple[float, int, float]:
    """What smooth curves leave of single runs: squares, degrees of freedom, and the squares that rows explain.

    Each learning rate's curve is fitted by itself: that of a rank among equally many, as rates fall with d.
    """
    rest, degrees, by_rows = 0.0, 0, 0.0
    width = table.count.shape[1]
    tried = (table.tried[:-1] > 0).sum(axis=1)
    for number, column in [(n, j) for n in np.unique(tried).tolist() for j in range(n)]:
        count = np.where(tried == number, table.count[:-1, column], 0)
        some = np.flatnonzero(count)
        fit = fit_logistic(x[some], table.score[some, column], count[some], bottom)
        if some.size < PARAMETERS + 2 or fit is None:
            continue
        rest += float(np.sum(count[some] * fit.left**2))
        degrees += some.size - PARAMETERS
        if rows is not None:
            moved = fit.maker @ (np.sqrt(count[some])[:, None] * rows.cells[some * width + column])
            by_rows += float(np.sum(moved**2))
    return rest, degrees, by_rows
