"""d_t as a statistic: the smallest d whose score reaches a share t of full fine-tuning's, with its interval.

Pure functions of finished runs. d90 is t = 0.9 (Li et al. 2018, arXiv 1804.08838;
for language models Aghajanyan et al. 2021, arXiv 2012.13255). The curve is monotone in log2 d: isotonic
regression weighted by runs, linear between the d's that were run. docs/statistics.md shows by simulation
how far to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import stdtrit  # Student's quantiles; scipy.stats takes longer to import than the table

from intrinsic_cli.errors import ConfigError, DataError, one_of
from intrinsic_cli.statistics.bootstrap import Replays, percentiles, replay
from intrinsic_cli.statistics.curve import crossing
from intrinsic_cli.statistics.logistic import Logistic, fit_logistic
from intrinsic_cli.statistics.points import Floats, Point, by_d, counted, rising, tabulate, take
from intrinsic_cli.statistics.rates import choose, flattery
from intrinsic_cli.statistics.rows import CORRELATIONS, INFLUENCES, MARKS
from intrinsic_cli.statistics.study import Study, prepare
from intrinsic_cli.statistics.targets import CHANCE, TARGETS, THRESHOLD, Scale, begin, headline, target_score

SELECTIONS = ("validation", "holdout")
CONFIDENCE = 0.95
ROUNDING = 1e-12  # more than 2 ** log2(d) is off by, as a part of d


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
                the largest of the `grid`); `undefined`. `reason` is the sentence behind every status but the first.
    definition  from where the share counts: a name of `targets.TARGETS`.
    d_t         the estimate, in trained parameters.
    low, high   ends of the interval. One beyond the grid is None, with `low_open` or `high_open` set; both
                are None and neither is open where the noise is unknown (no repeated runs and no `n_eval`).
    logistic    the same crossing of a fitted logistic curve, a cross-check; None outside the grid.
    full_score, full_lr, full_runs      the baseline's mean score, its chosen learning rate, and runs there.
    runs, seeds subspace runs used; the fewest at any d's chosen learning rate.
    noise       standard deviation of one run's score (pooled over repeated runs, and at least what its rows
                allow); `floored`: what a smooth curve leaves of the points is part of it.
    failed, full_failed         subspace and full fine-tuning runs that diverged: they count against their rate.
    collapsed, full_collapsed   runs that ended at chance while their like are far above: left out of `d_t`,
                which asks how many numbers suffice when training works.
    mean_d_t    d_t of the means over all runs, collapsed ones included and failed ones at chance; None where
                there are none, or outside the grid.
    falls_at    the first d of a fall, or of a dip, from which on none takes part; slower_lr: a rate to try there.
    flattery    what choosing the learning rate on validation adds to the score; None without holdout scores.
    untrained   the score before training (d = 0); None where it was not measured.

    Scores are those of the metric, whether or not `higher_is_better`.
    """

    status: str
    reason: str
    threshold: float
    confidence: float
    selection: str
    definition: str
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
    floored: bool = False
    failed: int = 0
    full_failed: int = 0
    collapsed: int = 0
    full_collapsed: int = 0
    mean_d_t: int | None = None
    falls_at: int | None = None
    slower_lr: float | None = None
    flattery: float | None = None
    curve: tuple[Level, ...] = ()
    untrained: float | None = None
    higher_is_better: bool = True

    @property
    def has_interval(self) -> bool:
        """Whether `low` and `high` are known or open."""
        return self.status != "undefined" and (self.low is not None or self.low_open)

    @property
    def grid(self) -> tuple[Level, ...]:
        """The levels of the curve that take part: those before a fall."""
        return tuple(level for level in self.curve if self.falls_at is None or level.d < self.falls_at)

    @property
    def reached(self) -> tuple[Level, ...]:
        """The levels that take part whose fit is at the target, or better."""
        if self.target is None:
            return ()
        sign = 1 if self.higher_is_better else -1
        return tuple(level for level in self.grid if sign * (level.fit - self.target) >= -1e-12)


def check_share(key: str, value: float) -> None:
    """Raise ConfigError where `value` is no share, as a threshold is one."""
    if not 0 < value < 1:
        raise ConfigError(f"{key}={value} must lie between 0 and 1, as 0.9")


def check_selection(value: str) -> None:
    """Raise ConfigError where learning rates can't be chosen by `value`."""
    if value not in SELECTIONS:
        raise ConfigError(f"selection={value!r}{one_of(value, SELECTIONS)}")


@dataclass(frozen=True)
class Measured:
    """The runs of one study, measured once, so that many targets can be asked of them.

    What no target changes is worked out when first needed and kept: the noise, the choice of rates, the fits and
    the replays; and so is every estimate. Parameters as those of `estimate`.
    """

    subspace: Sequence[Point]
    baseline: Sequence[Point]
    scale: Scale
    selection: str = "validation"
    seed: int = 0
    resamples: int = 1000
    _asked: dict[tuple[float, str, float], Estimate] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_selection(self.selection)
        if self.resamples < 1:
            raise ConfigError(f"resamples={self.resamples} must be at least 1 replay")

    @cached_property
    def study(self) -> Study | str:
        """The runs as arrays, or why there is no curve."""
        return prepare(self.subspace, self.baseline, self.scale, self.selection)

    @cached_property
    def replays(self) -> Replays | None:
        """Studies drawn anew; None where there is no curve, or its noise is unknown."""
        if isinstance(self.study, str):
            return None
        return replay(self.study, seed=self.seed, resamples=self.resamples)

    @cached_property
    def flattery(self) -> float | None:
        """As in `Estimate`."""
        return flattery(rising(self.subspace, self.scale), self.scale.up(self.scale.chance))

    @cached_property
    def _logistic(self) -> Logistic | None:
        assert isinstance(self.study, Study)
        return fit_logistic(self.study.x, self.study.score[:-1], self.study.runs[:-1], self.scale.bottom)

    @cached_property
    def _of_all(self) -> tuple[Floats, Floats, Floats] | None:
        """x (K,), mean scores (K + 1,) and their runs over all runs, those that collapsed with their scores and
        those that failed at chance, or as the worst run does; None where no run did either."""
        points = (*self.subspace, *self.baseline)
        apart = () if isinstance(self.study, str) else (*self.study.apart[0], *self.study.apart[1])
        if not (apart or _count_failed(points)):
            return None
        chance = self.scale.up(self.scale.chance)
        runs = counted(rising(points, self.scale), chance)
        ds, rows = by_d(runs[: len(self.subspace)])
        table = tabulate([*rows, runs[len(self.subspace) :]], self.selection)
        pick = choose(table.choice, table, chance)
        return np.log2(ds), take(table.score, pick), take(table.count, pick)

    def estimate(
        self, threshold: float = THRESHOLD, definition: str | None = None, confidence: float = CONFIDENCE
    ) -> Estimate:
        """d_t at one target; None is the definition that stands first for the scale (`targets.headline`). Raises
        ConfigError at an option that can't be used."""
        asked = threshold, definition or headline(self.scale), confidence
        if asked not in self._asked:
            self._asked[asked] = self._estimate(*asked)
        return self._asked[asked]

    def hopeless(self, threshold: float = THRESHOLD, definition: str | None = None) -> bool:
        """Whether there is no d_t however little runs scatter: full fine-tuning's mean, or the target, is no better
        than what it has to beat. Runs to come may tell that they scatter less than they seem to."""
        definition = definition or headline(self.scale)
        base, study = begin(definition, self.scale), self.study
        if isinstance(study, str) or base is None:
            return not isinstance(study, str)
        target = target_score(study.full, base, threshold)
        return bool(_undefined(replace(study, noise=None), definition, target, threshold))

    def _estimate(self, threshold: float, definition: str, confidence: float) -> Estimate:
        check_share("threshold", threshold)
        check_share("confidence", confidence)
        found = Estimate(
            "undefined", "", threshold, confidence, self.selection, definition, self.scale.chance,
            len(self.subspace), failed=_count_failed(self.subspace), full_failed=_count_failed(self.baseline),
            untrained=self.scale.untrained, higher_is_better=self.scale.higher_is_better,
        )  # fmt: skip
        base = begin(definition, self.scale)
        if base is None:
            return replace(found, reason=TARGETS[definition].lacks.format(metric=self.scale.metric))
        study = self.study
        if isinstance(study, str):
            return replace(found, reason=study)
        target = target_score(study.full, base, threshold)
        described = _described(study)
        found = replace(found, target=self.scale.up(target), flattery=self.flattery, **described)
        if reason := _undefined(study, definition, target, threshold):
            return replace(found, reason=reason)
        found = replace(
            found, **_crossed(study, target), mean_d_t=self._mean_d_t(base, threshold),
            logistic=self._by_logistic(study, target),
        )  # fmt: skip
        if self.replays is None:
            return found
        bounds = self.replays.bounds(self.replays.begin(definition), threshold)
        return replace(found, **_interval(*bounds, confidence))

    def _mean_d_t(self, base: float, threshold: float) -> int | None:
        if self._of_all is None:
            return None
        x, score, runs = self._of_all
        target = target_score(score[-1:], base, threshold)
        assert isinstance(self.study, Study)
        behind = np.append(self.study.x, math.inf)[self.study.kept]  # a fall, from which on no d takes part
        weight = np.where(x < behind, runs[:-1], 0)
        at = float(crossing(x, score[None, :-1], weight[None], target)[0])
        return _up(at) if math.isfinite(at) else None

    def _by_logistic(self, study: Study, target: float) -> int | None:
        at = self._logistic.at(target) if self._logistic else None
        return _up(at) if at is not None and study.x[0] <= at <= study.x[-1] else None


def estimate(
    subspace: Sequence[Point],
    baseline: Sequence[Point],
    *,
    chance: float,
    threshold: float = THRESHOLD,
    definition: str | None = None,
    confidence: float = CONFIDENCE,
    selection: str = "validation",
    n_eval: int | None = None,
    metric: str = "accuracy",
    higher_is_better: bool = True,
    untrained: float | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Estimate:
    """d_t of one study: subspace runs at several d, and full fine-tuning (`baseline`) on the same task.

    chance      score of the majority class (0 for correlations).
    threshold   t: 0.9 for d90.
    definition  `score`: the target is t * full. `chance`: chance + t * (full - chance). `gain`: the same from
                `untrained`, the score before training. None: `score`; of a loss `gain`, or `chance` without it.
    selection   what the learning rate is chosen by, at each d and for the baseline: `validation` (the score
                that is reported, so optimistic) or `holdout` (rows held out of the training set).
    n_eval      rows of the validation set: the noise of one run is then at least what so many rows allow
                for this `metric`, where it is one of idim's. Where every run has `rows`, they say more, and it
                is not used.
    resamples   bootstrap replays behind the percentile interval of log2 d_t.
    higher_is_better    of the metric: a share of a loss says nothing, so its d_t by `score` is undefined.

    Raises ConfigError at an option that can't be used, DataError at a run that can't.
    """
    scale = Scale(chance, n_eval, metric, higher_is_better, untrained)
    if metric in (*INFLUENCES, *MARKS):
        _check_shares(subspace, baseline, scale)
    measured = Measured(subspace, baseline, scale, selection, seed, resamples)
    return measured.estimate(threshold, definition, confidence)


def _check_shares(subspace: Sequence[Point], baseline: Sequence[Point], scale: Scale) -> None:
    """Raise ConfigError or DataError at what no share of rows, or correlation, is."""
    for name in ("chance", "untrained"):
        if (value := getattr(scale, name)) is not None and abs(value) > 1 and scale.higher_is_better:
            raise ConfigError(f"{name}={value:g} is no {scale.metric}; divide percent by 100")
    for p in (*subspace, *baseline):
        if p.score is not None and abs(p.score) > 1:
            way = "divide percent by 100" if scale.higher_is_better else "give metric='loss', or what it is"
            raise DataError(f"{scale.metric}={p.score:g} of the run d={p.d} is no share; {way}")


def _crossed(study: Study, target: float) -> dict[str, Any]:
    """Where the curve reaches its target, by the fields of an estimate."""
    at, told = study.crossing(target), f"the target ({study.scale.up(target):.4g})"
    if at == -math.inf:
        return {"status": "below_grid", "reason": f"d={study.ds[0]} already reaches {told}"}
    if at == math.inf:
        reason = f"d={study.ds[study.kept - 1]} does not reach {told}"
        return {"status": "above_grid", "reason": reason}
    return {"status": "estimated", "d_t": _up(at)}


def _interval(least: Floats, most: Floats, confidence: float) -> dict[str, Any]:
    """The middle of replays, which lie between `least` and `most` (B,), by the fields of an estimate."""
    low, high = percentiles(least, most, confidence)
    return {
        "low": None if low == -math.inf else _down(low),
        "high": None if high == math.inf else _up(high),
        "low_open": low == -math.inf,
        "high_open": high == math.inf,
    }


def _described(study: Study) -> dict[str, Any]:
    """What an estimate says of its study, by field."""
    score, fit = study.scale.up(study.score), study.scale.up(study.fit)
    columns = (study.ds, study.lr.tolist(), score.tolist(), fit.tolist(), study.runs.tolist())
    noise = None
    if study.noise is not None:
        noise = float(np.sqrt(np.mean(take(study.noise.of_runs(), study.pick))))
    return {
        "full_score": study.scale.up(study.full),
        "full_lr": float(study.lr[-1]),
        "full_runs": int(study.runs[-1]),
        "seeds": int(study.runs[:-1].min()),
        "noise": noise,
        "floored": study.noise is not None and study.noise.floored,
        "collapsed": len(study.apart[0]),
        "full_collapsed": len(study.apart[1]),
        "curve": tuple(map(Level, *columns)),
        "falls_at": study.ds[study.kept] if study.kept < len(study.ds) else None,
        "slower_lr": _slower(study),
    }


def _undefined(study: Study, definition: str, target: float, threshold: float) -> str:
    """Why there is no d_t: scores within their own noise of the level to beat would reach the target by luck."""
    wanted, up = TARGETS[definition], study.scale.up
    full, level = study.full, up(wanted.over(study.scale))
    than, more = ("above", "") if study.scale.higher_is_better else ("below", "; lower is better")
    error = margin = 0.0
    variance = study.variance_over(wanted.level)
    if study.noise is not None and variance is not None:
        # The best of several rates beats a level by luck so much the easier. Chance is most often the best constant
        # answer to these very rows, which is hard enough to beat by luck (docs/statistics.md).
        by_rows = wanted.level == CHANCE and study.scale.metric not in CORRELATIONS
        tries = 1 if by_rows else int(np.sum(study.table.tried[-1] > 0))
        error = math.sqrt(variance)
        margin = error * float(stdtrit(study.noise.freedom[-1], 1 - 0.05 / tries))
    told = f"is not clearly {than} {wanted.level} ({up(level):.4g}){more}"
    if full - margin <= level:
        return (
            f"full fine-tuning ({up(full):.4g}) {told}: train it longer, at other rates, or score more rows"
        )
    if target - threshold * error <= level:
        return f"the target ({up(target):.4g}) {told}"
    if target > full:
        return f"full fine-tuning's {up(full):.4g} is negative, and a share of it says nothing; count from chance"
    return ""


def _slower(study: Study) -> float | None:
    """The learning rate to try where the curve falls: the best d's, scaled by 1 / sqrt(d), and below the one
    that was best there."""
    if study.kept == len(study.ds):
        return None
    best = int(np.argmax(study.score[: study.kept]))
    scaled = study.lr[best] * math.sqrt(study.ds[best] / study.ds[study.kept])
    return float(scaled if scaled < study.lr[study.kept] else study.lr[study.kept] / 3)


def _count_failed(points: Sequence[Point]) -> int:
    return sum(p.score is None for p in points)


def _up(x: float) -> int:
    """The smallest whole d at or above 2 ** x."""
    return math.ceil(2**x * (1 - ROUNDING))


def _down(x: float) -> int:
    """The largest whole d at or below 2 ** x."""
    return math.floor(2**x * (1 + ROUNDING))
