"""The score against d, as arrays: runs grouped by d and learning rate, and where a monotone curve crosses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.result import RunResult

PROPORTIONS = ("accuracy",)  # metrics whose noise is at least binomial in the rows of the validation set

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Point:
    """One finished run. `d` is None for full fine-tuning; `holdout` is its score on the held-out rows."""

    d: int | None
    seed: int
    lr: float
    score: float
    holdout: float | None = None

    @classmethod
    def of(cls, result: RunResult) -> Point:
        """The point of a finished run."""
        spec = result.spec
        return cls(d=spec.d, seed=spec.seed, lr=spec.lr, score=result.score, holdout=result.holdout)

    def choice(self, selection: str) -> float:
        """What the learning rate is chosen by. Raises ConfigError where that is a holdout score it lacks."""
        if selection != "holdout":
            return self.score
        if self.holdout is None:
            raise ConfigError(
                f"selection=holdout: the run d={self.d} seed={self.seed} lr={self.lr:g} has no "
                "holdout score; run with data.holdout above 0"
            )
        return self.holdout


@dataclass(frozen=True)
class Table:
    """Runs grouped into K rows (one per d) and L columns (the row's learning rates, rising, then padding).

    lr, count, score, choice (K, L): learning rate, runs, and means of the score and of what the learning rate
    is chosen by; a padded cell has count 0. cell (N,), rising: each run's row * L + column. score_left,
    choice_left (N,): what its cell's means leave of each run.
    """

    lr: Floats
    count: Ints
    score: Floats
    choice: Floats
    cell: Ints
    score_left: Floats
    choice_left: Floats


def by_d(points: Sequence[Point]) -> tuple[list[int], list[list[Point]]]:
    """The d's in rising order and the runs of each. Raises DataError at a run without d."""
    groups: dict[int, list[Point]] = {}
    for p in points:
        if p.d is None or p.d < 1:
            raise DataError(f"d={p.d} in a subspace run; a curve needs d of at least 1")
        groups.setdefault(p.d, []).append(p)
    ds = sorted(groups)
    return ds, [groups[d] for d in ds]


def tabulate(rows: Sequence[Sequence[Point]], selection: str) -> Table:
    """Group runs: `rows[k]` are row k's, in any order. Raises DataError at a score that is not finite."""
    for p in (p for row in rows for p in row):
        if not all(math.isfinite(s) for s in (p.score, p.holdout) if s is not None):
            raise DataError(
                f"the run d={p.d} seed={p.seed} lr={p.lr:g} has a score that is not finite; leave it out"
            )
    lrs = [sorted({p.lr for p in row}) for row in rows]
    shape = (len(rows), max(map(len, lrs)))
    runs = sorted(
        (k * shape[1] + lrs[k].index(p.lr), p.seed, p.score, p.choice(selection))
        for k, row in enumerate(rows)
        for p in row
    )
    cell = np.array([r[0] for r in runs])
    score, choice = (np.array([r[i] for r in runs], dtype=float) for i in (2, 3))
    count = np.bincount(cell, minlength=shape[0] * shape[1])
    sums = (np.bincount(cell, values, count.size) for values in (score, choice))
    score_mean, choice_mean = (total / np.maximum(count, 1) for total in sums)
    return Table(
        lr=np.array([row + [math.inf] * (shape[1] - len(row)) for row in lrs]),
        count=count.reshape(shape),
        score=score_mean.reshape(shape),
        choice=choice_mean.reshape(shape),
        cell=cell,
        score_left=score - score_mean[cell],
        choice_left=choice - choice_mean[cell],
    )


def choose(choice: Floats, count: Ints) -> Ints:
    """The column of each row's best learning rate: (..., K, L) and (K, L) -> (..., K).

    Only columns with at least half the runs of the row's best-covered one take part, so that one lucky run
    does not beat the mean of five. A tie goes to the first: the smallest learning rate.
    """
    covered = (count > 0) & (2 * count >= count.max(axis=-1, keepdims=True))
    return np.argmax(np.where(covered, choice, -np.inf), axis=-1)


def take(a: NDArray, pick: Ints) -> NDArray:
    """The picked column of every row: (..., K, L) and (..., K) -> (..., K)."""
    return np.take_along_axis(a, pick[..., None], -1)[..., 0]


def crossing(x: Floats, score: Floats, weight: Floats, target: Floats) -> Floats:
    """Where monotone fits reach their targets: x (K,) rising, score and weight (B, K), target (B,) -> (B,).

    The fit is the weighted isotonic regression of each row, linear between the x's. -inf: it is there at the
    first x; inf: it is not at the last. Found without the fit: the number of x's whose fitted value lies
    under t is the first minimum of the cumulative sums of weight * (score - t) (the switching relation,
    Groeneboom 1985), and the fitted values beside that boundary are the extreme means of the stretches that
    end or start there.
    """
    # A fit equal to its target reaches it, whatever the rounding of a mean.
    below = np.argmin(_cumulate(weight * (score - target[:, None] + 1e-12)), axis=1)[:, None]
    mass, total = _cumulate(weight), _cumulate(weight * score)
    mass_there, total_there = (np.take_along_axis(a, below, 1) for a in (mass, total))
    edge = np.arange(x.size + 1)
    span = np.where(edge == below, 1, mass - mass_there)
    mean = (total - total_there) / span
    under = np.where(edge < below, mean, -np.inf).max(axis=1)
    over = np.where(edge > below, mean, np.inf).min(axis=1)
    at = np.where(below[:, 0] == 0, -np.inf, np.inf)
    inside = np.isfinite(under) & np.isfinite(over)
    k = below[inside, 0]
    share = (target[inside] - under[inside]) / (over[inside] - under[inside])
    at[inside] = x[k - 1] + share * (x[k] - x[k - 1])
    return at


def _cumulate(a: Floats) -> Floats:
    """(B, K) -> (B, K + 1): cumulative sums that begin at 0."""
    return np.concatenate([np.zeros((len(a), 1)), np.cumsum(a, axis=1)], axis=1)
