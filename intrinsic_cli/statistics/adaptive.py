"""Which runs to do next, so that the interval of d_t narrows fastest. Pure: a function of the runs so far.

First a coarse curve over the whole range at the middle learning rate; then every learning rate at the two
d's around the crossing, and more seeds of the best two; then, one after the other, the runs that take most
variance out of the crossing, full fine-tuning's included.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.statistics.collapse import collapsed
from intrinsic_cli.statistics.estimate import Estimate, Measured
from intrinsic_cli.statistics.points import Floats, Place, Point, counted, rising
from intrinsic_cli.statistics.rates import best_rate
from intrinsic_cli.statistics.targets import THRESHOLD, Scale

# Octaves between the d's of the coarse curve, and the longest gap left where the crossing lies.
COARSE, FINE = 2.0, 1.0
SPLIT = 0.1  # share of replays that cross in a gap, from which on it may not be long
# With 3 seeds the second-best learning rate won often enough to shift d_t; more than 5 cost runs for little.
TUNING_SEEDS = 5
# Runs of full fine-tuning that an idle slot may add early; the interval asks for them sooner or later.
FULL_RUNS = 5


@dataclass(frozen=True)
class Plan:
    """Runs to start now. `finished`: none will follow, for `reason`. Neither: wait for those in flight."""

    runs: tuple[Place, ...]
    finished: bool
    reason: str


@dataclass(frozen=True)
class Search:
    """What is searched for.

    lrs         learning rates to try at a d, in the same order and number at every d (multiples of
                c / sqrt(d), say): the j-th ones of all d's are one column, and the column is what is tuned.
    seeds       seeds to use, in this order.
    rel_width   stop when high / low - 1 is below it.
    budget      stop at this many runs, full fine-tuning's included.
    scale       what scores mean.
    definition  of the target, as in `estimate`, and resamples too.

    Raises ConfigError at a value that can't be used.
    """

    d_min: int
    d_max: int
    seeds: tuple[int, ...]
    lrs: Callable[[int], Sequence[float]]
    rel_width: float
    budget: int
    scale: Scale
    definition: str | None = None
    resamples: int = 500

    def __post_init__(self) -> None:
        if not 1 <= self.d_min < self.d_max:
            raise ConfigError(
                f"d from {self.d_min} to {self.d_max}: search=adaptive looks between a smallest d, of at least "
                "1, and a larger one; give both, as in d=10,10000"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"search.seeds={list(self.seeds)} must name at least one seed, and each once")
        if not self.rel_width > 0:
            raise ConfigError(
                f"search.rel_width={self.rel_width} must be above 0; 0.5 asks for high < 1.5 low"
            )
        if self.budget < 1:
            raise ConfigError(f"search.budget={self.budget} must be at least 1 run")
        if not self.lrs(self.d_min):
            raise ConfigError("search: no learning rate to try; give at least one")

    def coarse(self) -> list[int]:
        """The d's of the coarse curve: log-spaced, both ends included."""
        n = max(3, math.ceil(math.log2(self.d_max / self.d_min) / COARSE) + 1)
        return sorted({round(d) for d in np.geomspace(self.d_min, self.d_max, n)})

    def finest(self) -> float:
        """The longest gap in octaves that is left where the crossing lies: half of the interval asked for."""
        return min(FINE, math.log2(1 + self.rel_width) / 2)

    def measured(self, subspace: Sequence[Point], baseline: Sequence[Point]) -> Measured:
        """These runs, to be asked for an estimate."""
        return Measured(subspace, baseline, self.scale, resamples=self.resamples)


def propose(
    subspace: Sequence[Point],
    baseline: Sequence[Point],
    search: Search,
    *,
    slots: int = 1,
    running: Collection[Place] = (),
    failed: Collection[Place] = (),
) -> Plan:
    """Up to `slots` runs to start now, given the runs done (`subspace`, `baseline`), in flight, and failed.

    The same runs give the same plan, in whatever order they ended, so a search goes on from any point. Runs
    in flight and failed ones count against the budget and are not proposed again. Start full fine-tuning
    over its own learning rates first: the search only adds seeds to the best.
    """
    taken = {*(Place(p.d, p.seed, p.lr) for p in (*subspace, *baseline)), *running, *failed}
    room = min(slots, search.budget - len(taken))
    if room <= 0 and slots > 0:
        return Plan((), True, f"the budget of {search.budget} runs is spent")
    measured = search.measured(subspace, baseline)
    found = measured.estimate(THRESHOLD, search.definition)
    if measured.hopeless(THRESHOLD, search.definition):
        return Plan((), True, found.reason)
    for stage in _opening(subspace, baseline, search):
        column, runs, reason = stage
        pending = [run for run in runs if run not in taken]
        if pending or any(run in running for run in runs):
            return Plan((*pending, *_spare(baseline, search, taken))[:room], False, reason)
        if not baseline:
            on_its_way = any(run.size is None for run in running)
            return Plan((), not on_its_way, "full fine-tuning, which sets the target, has not finished")
    return _narrow(measured, found, search, column, taken, room)


def _opening(
    subspace: Sequence[Point], baseline: Sequence[Point], search: Search
) -> Iterator[tuple[int, list[Place], str]]:
    """The stages before narrowing: the best column known, the runs, and why. Ask for the next stage when the
    runs of the last are done; the last one's column is the tuned one.

    A stage depends on the runs of the earlier stages alone, so that later runs never reopen it.
    """
    coarse, first, columns = search.coarse(), search.seeds[0], range(len(search.lrs(search.d_min)))
    middle = len(columns) // 2

    def runs(ds: Sequence[int], js: Sequence[int], seeds: Sequence[int]) -> list[Place]:
        places = [Place(d, seed, search.lrs(d)[j]) for seed in seeds for d in ds for j in js]
        return list(dict.fromkeys(places))  # two columns of a d may have one rate

    yield middle, runs(coarse, [middle], [first]), "coarse curve"
    pair = _around_crossing(subspace, baseline, search, coarse, middle)
    yield middle, runs(pair, columns, [first]), f"learning rates at d={pair[0]} and {pair[1]}"
    known = [p for p in baseline if p.seed == first]
    best = _rank(subspace, known, search, pair, columns, [first])[:2]
    yield best[0], runs(pair, best, search.seeds[:TUNING_SEEDS]), "seeds of the two best learning rates"
    column = _rank(subspace, known, search, pair, best, search.seeds[:TUNING_SEEDS])[0]
    yield column, runs(coarse, [column], [first]), "coarse curve at the tuned learning rate"


def _around_crossing(
    subspace: Sequence[Point], baseline: Sequence[Point], search: Search, coarse: list[int], column: int
) -> list[int]:
    """The two neighbouring coarse d's between which the first seed reaches its target."""
    first = search.seeds[0]
    curve = [p for p in subspace if p.seed == first and p.d in coarse and p.lr == search.lrs(p.d)[column]]
    full = [p for p in baseline if p.seed == first] or baseline
    if not curve:
        return coarse[len(coarse) // 2 - 1 :][:2]
    quick = replace(search, resamples=1)  # the interval is not looked at
    found = quick.measured(curve, full).estimate(THRESHOLD, search.definition)
    k = coarse.index(found.reached[0].d) if found.reached else len(coarse) - 1
    return coarse[max(k, 1) - 1 :][:2]


def _rank(
    subspace: Sequence[Point], baseline: Sequence[Point], search: Search, ds: Sequence[int],
    columns: Sequence[int], seeds: Sequence[int],
) -> list[int]:  # fmt: skip
    """The columns by mean score over the d's, best first; ties keep their order. Runs that failed score at chance,
    or as the worst one; those that collapsed do not count, and columns without any that does come last."""
    scores: dict[tuple[int | None, float], list[float]] = {
        (d, search.lrs(d)[j]): [] for d in ds for j in columns
    }
    scale, runs = search.scale, [p for p in subspace if p.seed in seeds and (p.d, p.lr) in scores]
    rows = [rising([p for p in runs if p.d == d], scale) for d in ds]
    marks = collapsed([*rows, rising(baseline, scale)], scale)
    whole = counted([p for row in rows for p in row], scale.up(scale.chance))
    for p, fell in zip(whole, chain.from_iterable(marks), strict=False):
        if not fell and p.score is not None:
            scores[p.d, p.lr].append(p.score)

    def mean(column: int) -> float:
        each = [scores[d, search.lrs(d)[column]] for d in ds]
        return math.fsum(math.fsum(s) / len(s) for s in each) if all(each) else -math.inf

    return sorted(columns, key=mean, reverse=True)


def _spare(baseline: Sequence[Point], search: Search, taken: set[Place]) -> list[Place]:
    """Work for slots that would wait: seeds of full fine-tuning at its best learning rate."""
    if not baseline:
        return []
    best = best_rate(baseline, search.scale)
    lr = best[0] if best else min(p.lr for p in baseline)
    return [run for s in search.seeds[:FULL_RUNS] if (run := Place(None, s, lr)) not in taken]


def _narrow(
    measured: Measured, found: Estimate, search: Search, column: int, taken: set[Place], room: int
) -> Plan:
    """The runs that take most variance out of the crossing, unless its interval is narrow enough."""
    if isinstance(measured.study, str):
        return Plan((), True, measured.study)
    if found.status == "undefined":
        return Plan((), True, found.reason)
    base = None if measured.replays is None else measured.replays.begin(found.definition)
    if measured.replays is None or found.full_lr is None or base is None:
        return Plan((), True, "the noise is unknown: give more than one seed, or n_eval")
    spread, runs = measured.replays.crossings(base, THRESHOLD), list[Place]()
    while len(runs) < room:
        run = _most_telling(spread, found.full_lr, search, column, taken | set(runs))
        if run is None:
            break
        runs.append(run)
    # An interval is believed only when the gaps that it lies in are narrow: a line over more may hide a jump.
    wide = any(run.size is not None and run.size not in {p.d for p in measured.subspace} for run in runs)
    if (reason := _reached(found, search)) and not wide:
        return Plan((), True, reason)
    if not runs:
        return Plan((), True, f"the seeds {list(search.seeds)} are used up around the crossing")
    return Plan(tuple(runs), False, "narrowing the interval")


def _most_telling(
    spread: Floats, full_lr: float, search: Search, column: int, taken: set[Place]
) -> Place | None:
    """The run that takes most variance out of the crossing, whose replays `spread` (B,) holds in log2 d.

    A replay that crosses between two d's, w of the way from one to the other, takes (1 - w)^2 s^2 / n of the
    one's variance and w^2 s^2 / n of the other's; one run more on n lessens s^2 / n by s^2 / (n (n + 1)). The
    target takes t^2 s^2 / n from full fine-tuning. Gaps where replays cross are split first, while they are long.
    None where no seed is left.
    """
    count = Counter((run.size, run.lr) for run in taken)
    # Older runs of other d's tell of the crossing, and the search keeps to the range that it was given.
    inside_range = [(d, lr) for d, lr in count if d is not None and search.d_min <= d <= search.d_max]
    ds = sorted(d for d, lr in inside_range if lr == search.lrs(d)[column])
    x = np.log2(ds)
    at = np.clip(spread, x[0], x[-1])
    weight = [np.interp(at, x, hat) for hat in np.eye(x.size)]
    share = [(d, search.lrs(d)[column], float(np.mean(w**2))) for d, w in zip(ds, weight, strict=True)]
    gain = {}
    for d, lr, part in (*share, (None, full_lr, THRESHOLD**2)):
        unused = [s for s in search.seeds if Place(d, s, lr) not in taken]
        if unused:
            gain[Place(d, unused[0], lr)] = part / (count[d, lr] * (count[d, lr] + 1))
    inside = np.histogram(at, x)[0] / at.size
    long = (np.diff(x) > search.finest()) & (inside >= SPLIT)
    gap = int(np.argmax(np.where(long, inside, 0) if long.any() else inside))
    between = round(math.sqrt(ds[gap] * ds[gap + 1]))
    if ds[gap] < between < ds[gap + 1] and (long.any() or not gain):
        return Place(between, search.seeds[0], search.lrs(between)[column])
    return max(gain, key=gain.__getitem__, default=None)


def _reached(found: Estimate, search: Search) -> str:
    """Why the search may stop at this estimate; empty where it may not."""
    if found.low is not None and found.high is not None and found.high / found.low - 1 < search.rel_width:
        return f"the interval {found.low} to {found.high} is narrower than rel_width={search.rel_width:g}"
    if found.high is not None and found.high <= search.d_min:
        return f"d_t lies below d_min={search.d_min}"
    if found.low is not None and found.low >= search.d_max:
        return f"d_t lies above d_max={search.d_max}"
    return ""
