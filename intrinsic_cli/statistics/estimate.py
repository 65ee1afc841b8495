"""d_t as a statistic: the smallest d whose score reaches a share t of full fine-tuning's, with its interval.

Pure functions of finished runs; a higher score is better. d90 is t = 0.9 (Li et al. 2018, arXiv 1804.08838;
for language models Aghajanyan et al. 2021, arXiv 2012.13255). The curve is monotone in log2 d: isotonic
regression weighted by runs, linear between the d's that were run. docs/statistics.md shows by simulation
how far to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import isotonic_regression, least_squares
from scipy.special import expit
from scipy.stats import t as student

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.statistics.bootstrap import measure_noise, replays, target_score
from intrinsic_cli.statistics.points import Floats, Ints, Point, by_d, choose, crossing, tabulate, take

STATUSES = ("estimated", "below_grid", "above_grid", "undefined")
SELECTIONS = ("validation", "holdout")


@dataclass(frozen=True)
class Level:
    """The curve at one d: the chosen learning rate, the mean score of its `runs`, and the monotone fit."""

    d: int
    lr: float
    score: float
    fit: float
    runs: int


@dataclass(frozen=True)
class Estimate:
    """A d_t and how sure it is. None stands wherever there is no number.

    status      `estimated`; `below_grid` (d_t is at most the smallest d run); `above_grid` (it is more than
                the largest); `undefined`. `reason` is the sentence behind every status but the first.
    d_t         the estimate, in trained parameters.
    low, high   ends of the interval. One beyond the grid is None, with `low_open` or `high_open` set; both
                are None and neither is open where the noise is unknown (no repeated runs and no `n_eval`).
    logistic    the same crossing of a fitted logistic curve, a cross-check; None outside the grid.
    full_score, full_lr, full_runs      the baseline's mean score, its chosen learning rate, and runs there.
    runs, seeds subspace runs used; the fewest at any d's chosen learning rate.
    noise       standard deviation of one run's score (pooled over repeated runs, and at least binomial).
    flattery    what choosing the learning rate on validation adds to the score; None without holdout scores.
    """

    status: str
    reason: str
    threshold: float
    confidence: float
    selection: str
    normalised: bool
    chance: float
    runs: int
    d_t: int | None = None
    low: int | None = None
    high: int | None = None
    low_open: bool = False
    high_open: bool = False
    logistic: int | None = None
    full_score: float | None = None
    full_lr: float | None = None
    full_runs: int = 0
    target: float | None = None
    seeds: int = 0
    noise: float | None = None
    flattery: float | None = None
    curve: tuple[Level, ...] = ()


def estimate(
    subspace: Sequence[Point],
    baseline: Sequence[Point],
    *,
    chance: float,
    threshold: float = 0.9,
    confidence: float = 0.95,
    selection: str = "validation",
    normalised: bool = False,
    n_eval: int | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Estimate:
    """d_t of one study: subspace runs at several d, and full fine-tuning (`baseline`) on the same task.

    chance      score of the majority class (0 for correlations).
    threshold   t: 0.9 for d90.
    selection   what the learning rate is chosen by, at each d and for the baseline: `validation` (the score
                that is reported, so optimistic) or `holdout` (rows held out of the training set).
    normalised  target chance + t * (full - chance) instead of t * full.
    n_eval      rows of the validation set, where the score is a share of them: the noise is then taken to be
                at least binomial, and a study without repeated runs still has an interval.
    resamples   bootstrap replays behind the percentile interval of log2 d_t.

    Raises ConfigError at an option that can't be used, DataError at a run that can't.
    """
    _check(threshold, confidence, selection)
    found = Estimate("undefined", "", threshold, confidence, selection, normalised, chance, len(subspace))
    if not baseline or not subspace:
        return replace(found, reason=f"no {'subspace' if baseline else 'full fine-tuning'} run has finished")

    ds, rows = by_d(subspace)
    x = np.log2(ds)
    # The last row is the baseline: its learning rate is chosen, and its runs are replayed, as a d's are.
    table = tabulate([*rows, baseline], selection)
    pick = choose(table.choice, table.count)
    lr, score, runs = (take(a, pick) for a in (table.lr, table.score, table.count))
    fit = isotonic_regression(score[:-1], weights=runs[:-1]).x
    noise = measure_noise(table, n_eval)
    sd = None if noise is None else take(noise.score, pick)
    full = float(score[-1])
    target = float(target_score(score[-1], chance, threshold, normalised))
    found = replace(
        found,
        full_score=full,
        full_lr=float(lr[-1]),
        full_runs=int(runs[-1]),
        target=target,
        seeds=int(runs[:-1].min()),
        noise=None if sd is None else float(np.sqrt(np.mean(sd**2))),
        flattery=flattery(subspace),
        curve=tuple(map(Level, ds, lr.tolist(), score.tolist(), fit.tolist(), runs.tolist())),
    )
    # Scores within their own noise of chance would make any d reach the target by luck.
    error = 0.0 if sd is None else float(sd[-1] / np.sqrt(runs[-1]))
    margin = 0.0 if noise is None else error * float(student.ppf(0.95, noise.freedom))
    if full - margin <= chance:
        return replace(
            found, reason=f"full fine-tuning ({full:.4g}) is not clearly above chance ({chance:.4g})"
        )
    if target - threshold * error <= chance:
        return replace(found, reason=f"the target ({target:.4g}) is not clearly above chance ({chance:.4g})")

    at = float(crossing(x, score[None, :-1], runs[None, :-1], np.array([target]))[0])
    status, reason, d_t = "estimated", "", None
    if at == -math.inf:
        status, reason = "below_grid", f"d={ds[0]} already reaches the target ({target:.4g})"
    elif at == math.inf:
        status, reason = "above_grid", f"d={ds[-1]} does not reach the target ({target:.4g})"
    else:
        d_t = _up(at)
    logistic = _logistic(x, score[:-1], runs[:-1], chance, target)
    found = replace(found, status=status, reason=reason, d_t=d_t, logistic=logistic)
    spread = replays(
        subspace, baseline, chance=chance, threshold=threshold, selection=selection, normalised=normalised,
        n_eval=n_eval, seed=seed, resamples=resamples,
    )  # fmt: skip
    if spread is None:
        return found
    low = float(np.quantile(spread, (1 - confidence) / 2, method="lower"))
    high = float(np.quantile(spread, (1 + confidence) / 2, method="higher"))
    # Wholly beyond the grid, the interval's near end is the end of the grid.
    return replace(
        found,
        low=None if low == -math.inf else math.floor(2 ** min(low, x[-1]) + 1e-9),
        high=None if high == math.inf else _up(max(high, x[0])),
        low_open=low == -math.inf,
        high_open=high == math.inf,
    )


def _up(x: float) -> int:
    """The smallest whole d at or above 2 ** x."""
    return math.ceil(2**x - 1e-9)


def flattery(subspace: Sequence[Point]) -> float | None:
    """How much choosing the learning rate on validation flatters: the mean over d of the score at the rate
    chosen on validation minus the score at the rate chosen on holdout.

    Both scores are on validation, so it is never negative. None unless every run has a holdout score.
    """
    if not subspace or any(p.holdout is None for p in subspace):
        return None
    table = tabulate(by_d(subspace)[1], "holdout")
    best, honest = (take(table.score, choose(by, table.count)) for by in (table.score, table.choice))
    return float(np.mean(best - honest))


def _logistic(x: Floats, score: Floats, runs: Ints, chance: float, target: float) -> int | None:
    """d where a logistic curve in log2 d that rises from chance reaches the target; None outside the grid.

    Its top, middle and steepness are fitted by weighted least squares; so it needs at least four d's.
    """
    if x.size < 4:
        return None
    rise = max(float(score.max()) - chance, 1e-3)

    def curve(p: Floats) -> Floats:
        return chance + rise * p[0] * expit((x - p[1]) * np.exp(np.clip(p[2], -10, 10)))

    fit = least_squares(
        lambda p: np.sqrt(runs) * (curve(p) - score),
        [1.0, float(x.mean()), 0.0],
        method="lm",
        ftol=1e-5,
        max_nfev=500,
    )
    top, middle, steepness = fit.x
    share = (target - chance) / (rise * top)
    if not fit.success or not 0 < share < 1:
        return None
    at = middle + math.log(share / (1 - share)) / math.exp(np.clip(steepness, -10, 10))
    return _up(at) if x[0] <= at <= x[-1] else None


def _check(threshold: float, confidence: float, selection: str) -> None:
    """Raise ConfigError at an option that can't be used."""
    if selection not in SELECTIONS:
        raise ConfigError(f"selection={selection!r} is not known; use one of {', '.join(SELECTIONS)}")
    for key, value in (("threshold", threshold), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigError(f"{key}={value} must lie between 0 and 1, as 0.9")
