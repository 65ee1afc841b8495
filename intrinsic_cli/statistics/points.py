"""The score against d, as arrays: runs grouped by d and learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.result import RunResult
from intrinsic_cli.spec import LARGEST
from intrinsic_cli.statistics.targets import Scale

ROUNDING = 1e-9  # equal means of scores differ by less, as a part of their size

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Place(NamedTuple):
    """Where a run stands in its study. `size` is its d, or an adapter's rank; None for full fine-tuning."""

    size: int | None
    seed: int
    lr: float


@dataclass(frozen=True)
class Point:
    """One run. `d` is None for full fine-tuning; `holdout` is its score on the held-out rows.

    `score` is None where the run failed (its loss diverged): it has no place on the curve and counts against
    its learning rate. `rows` (n_eval,) says what each row of the validation set adds, with the score as its
    mean: right or wrong for accuracy, `rows.influence` for other metrics. None where it was not kept.
    """

    d: int | None
    seed: int
    lr: float
    score: float | None
    holdout: float | None = None
    rows: NDArray[Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, result: RunResult) -> Point:
        """The point of a finished run."""
        spec = result.spec
        return cls(
            d=None if spec.is_full else result.d,
            seed=spec.seed,
            lr=spec.lr,
            score=result.score,
            holdout=result.holdout,
        )

    def choice(self, selection: str) -> float | None:
        """What the learning rate is chosen by; None where the run failed.

        Raises ConfigError where that is a holdout score it lacks.
        """
        if selection != "holdout" or self.score is None:
            return self.score
        if self.holdout is None:
            raise ConfigError(
                f"selection=holdout: the run d={self.d} seed={self.seed} lr={self.lr:g} has no "
                "holdout score; run with data.holdout above 0"
            )
        return self.holdout


@dataclass(frozen=True)
class Grid:
    """Runs grouped into K rows (one per d) and L columns (the row's learning rates, rising, then padding).

    lr, tried, count, score, choice (K, L): learning rate; runs; those that count for the curve; and the means
    of their score and of what the learning rate is chosen by. lost (K, L): of `tried`, runs that failed.
    runs (N,): the runs that count, by cell; cell (N,), rising: each one's row * L + column. score_left,
    choice_left (N,): what its cell's means leave of each.
    """

    lr: Floats
    tried: Ints
    lost: Ints
    count: Ints
    score: Floats
    choice: Floats
    runs: tuple[Point, ...]
    cell: Ints
    score_left: Floats
    choice_left: Floats


def rising(points: Sequence[Point], scale: Scale) -> list[Point]:
    """The runs with scores of which a higher one is better: of a loss, its negative."""
    if scale.higher_is_better:
        return list(points)

    def negative(value: Any) -> Any:
        return None if value is None else 0 - value  # numpy has no negative of truth values

    return [
        replace(p, score=negative(p.score), holdout=negative(p.holdout), rows=negative(p.rows))
        for p in points
    ]


def counted(points: Sequence[Point], chance: float) -> list[Point]:
    """These `rising` runs, those that failed as ones that scored `chance`, or as the worst of all: of a loss,
    chance may be better than what any run has reached."""
    score, holdout = (
        min([chance, *(value for p in points if (value := getattr(p, name)) is not None)])
        for name in ("score", "holdout")
    )
    return [p if p.score is not None else replace(p, score=score, holdout=holdout) for p in points]


def by_d(points: Sequence[Point]) -> tuple[list[int], list[list[Point]]]:
    """The d's in rising order and the runs of each. Raises DataError at a run without d."""
    groups: dict[int, list[Point]] = {}
    for p in points:
        if not isinstance(p.d, Real) or not 1 <= p.d <= LARGEST:
            raise DataError(f"d={p.d!r} in a subspace run; a curve needs d from 1 to {LARGEST}")
        groups.setdefault(p.d, []).append(p)
    ds = sorted(groups)
    return ds, [groups[d] for d in ds]


def tabulate(
    rows: Sequence[Sequence[Point]], selection: str, apart: Sequence[Sequence[bool]] | None = None
) -> Grid:
    """Group runs: `rows[k]` are row k's, in any order; `apart` marks those that are tried and do not count.

    Raises DataError at a score that is not finite.
    """
    _check_finite(p for row in rows for p in row)
    lrs = [sorted({p.lr for p in row}) for row in rows]
    shape = (len(rows), max(map(len, lrs)))
    places = [{lr: k * shape[1] + j for j, lr in enumerate(row)} for k, row in enumerate(lrs)]
    marked = [
        (places[k][p.lr], p, p.score is not None and not (apart and apart[k][i]))
        for k, row in enumerate(rows)
        for i, p in enumerate(row)
    ]
    kept = sorted(
        ((cell, p) for cell, p, counts in marked if counts),
        key=lambda pair: (pair[0], pair[1].seed, pair[1].score, pair[1].choice(selection)),
    )
    tried, lost, count = (
        _histogram(cells, shape)
        for cells in (
            [c for c, _, _ in marked], [c for c, p, _ in marked if p.score is None], [c for c, _ in kept]
        )
    )  # fmt: skip
    cell = np.array([c for c, _ in kept], dtype=np.int64)
    score, score_left = _means([p.score for _, p in kept], cell, count)
    choice, choice_left = _means([p.choice(selection) for _, p in kept], cell, count)
    lr = np.array([row + [math.inf] * (shape[1] - len(row)) for row in lrs])
    runs = tuple(p for _, p in kept)
    return Grid(lr, tried, lost, count, score, choice, runs, cell, score_left, choice_left)


def _check_finite(points: Iterable[Point]) -> None:
    for p in points:
        if not all(np.all(np.isfinite(s)) for s in (p.score, p.holdout, p.rows) if s is not None):
            raise DataError(
                f"the run d={p.d} seed={p.seed} lr={p.lr:g} has a score, or a row's, that is not finite; leave it "
                "out"
            )


def _histogram(cells: Sequence[int], shape: tuple[int, int]) -> Ints:
    return np.bincount(np.array(cells, dtype=np.int64), minlength=shape[0] * shape[1]).reshape(shape)


def _means(values: Sequence[float | None], cell: Ints, count: Ints) -> tuple[Floats, Floats]:
    """The mean of every cell (K, L), and what it leaves of each value (N,)."""
    each = np.array(values, dtype=float)
    mean = np.bincount(cell, each, count.size).reshape(count.shape) / np.maximum(count, 1)
    return mean, each - mean.ravel()[cell]


def take(a: NDArray, pick: Ints) -> NDArray:
    """The picked column of every row: (..., K, L) and (..., K) -> (..., K)."""
    return np.take_along_axis(a, pick[..., None], -1)[..., 0]
