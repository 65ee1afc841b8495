"""Runs that collapsed: they score as a constant answer does, where their like are far above it.

Fine-tuning a large model on few rows does so in a share of seeds (Mosbach et al. 2021, arXiv 2006.04884).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intrinsic_cli.statistics.points import Floats, Point
from intrinsic_cli.statistics.rows import CORRELATIONS, sampling_variance
from intrinsic_cli.statistics.targets import Scale

AT_CHANCE = 2.5  # a collapsed run scores at most so many standard deviations above `Scale.floor`,
CLEAR = 4.0  # and what it should have scored is so many above what it did
FEW = 5  # of fewer repeated runs, one that collapsed may make up the scatter: that of the rows stands in


def collapsed(rows: Sequence[Sequence[Point]], scale: Scale) -> list[list[bool]]:
    """Which runs of each row collapsed: the last row is full fine-tuning's, the others are d's, rising.

    Scores are as `scale.up` gives them. A run is held against the median of its like (same d, same rate), and
    against the best median that its rate (by rank among equally many of a d) has reached at a smaller d; full
    fine-tuning against the best of any d too. Where its like are at chance themselves, or below, a run has nothing
    to fall from. None is marked where the scatter of runs is unknown.
    """
    cells, floor = [_cells(row) for row in rows], scale.floor
    sd = _scatter(cells, floor, scale)
    if sd == 0:
        return [[False] * len(row) for row in rows]
    reached: dict[
        tuple[int, int], float
    ] = {}  # by number of rates and rank: the best median of the d's so far
    marks: list[list[bool]] = []
    for row, of in zip(rows, cells, strict=True):
        full = len(marks) == len(rows) - 1
        rank = {lr: (len(of), j) for j, lr in enumerate(sorted(of))}
        best = max(reached.values(), default=-np.inf)
        before = {lr: best if full else reached.get(j, -np.inf) for lr, j in rank.items()}
        marks.append([_fell(p, row, before[p.lr], floor, sd) for p in row])
        for lr, scores in of.items():
            if scores.size:
                reached[rank[lr]] = max(reached.get(rank[lr], -np.inf), float(np.median(scores)))
    return marks


def _fell(p: Point, row: Sequence[Point], before: float, floor: float, sd: float) -> bool:
    if p.score is None or p.score > floor + AT_CHANCE * sd:
        return False
    like = [q.score for q in row if q is not p and q.lr == p.lr and q.score is not None]
    level = max([before, *([float(np.median(like))] if like else [])])
    return level - p.score > CLEAR * sd and level > floor + AT_CHANCE * sd


def _cells(row: Sequence[Point]) -> dict[float, Floats]:
    """Scores by rate."""
    scores: dict[float, list[float]] = {}
    for p in row:
        scores.setdefault(p.lr, []).extend([] if p.score is None else [p.score])
    return {lr: np.array(s, dtype=float) for lr, s in scores.items()}


def _scatter(cells: Sequence[dict[float, Floats]], floor: float, scale: Scale) -> float:
    """Standard deviation of a run, deaf to a few that collapsed, and no less than its rows allow; 0: unknown."""
    left: list[float] = []
    for scores in (s for of in cells for s in of.values() if s.size > 1):
        off = np.sort(np.abs(scores - np.median(scores)))
        # The median of an odd number of runs is one of them.
        left += (off[scores.size % 2 :] * np.sqrt(scores.size / (scores.size - 1))).tolist()
    rows = 0.0
    # What answers nothing right has no share of rows at all, and so no noise of theirs.
    exact = floor in (0, 1) and scale.metric not in CORRELATIONS
    if scale.n_eval is not None and not exact:
        rows = float(np.sqrt(sampling_variance(scale.metric, np.array(floor), scale.n_eval, scale.chance)))
    if len(left) < (FEW if rows else 2):
        return rows
    return max(1.4826 * float(np.median(left)), rows)
