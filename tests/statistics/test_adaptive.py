"""Adaptive search: the story of a search run by run, and its intervals against those of a full grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.scripts import load

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.statistics.adaptive import Search, _most_telling, propose
from intrinsic_cli.statistics.points import Place, Point
from intrinsic_cli.statistics.targets import Scale

simulation = load("simulate_d90")

RATES = (0.5, 1.0, 2.0)


def lrs(d: int) -> list[float]:
    return [rate / math.sqrt(d) for rate in RATES]


def search(**changes) -> Search:
    options = {
        "d_min": 16, "d_max": 4096, "seeds": tuple(range(12)), "lrs": lrs, "rel_width": 0.6, "budget": 90,
        "scale": Scale(0.5, 2000), "resamples": 200,
    }  # fmt: skip
    return Search(**(options | changes))


def outcome(run: Place, seed: int = 0) -> Point:
    """A run's score, a function of the run alone: the curve reaches 0.72 at d=256 with the rate 2."""
    if run.size is None:
        mean = 0.8
    else:
        column = lrs(run.size).index(run.lr)
        mean = 0.5 + 0.3 / (1 + math.exp(-1.2 * math.log(run.size / 256) - math.log(0.22 / 0.08)))
        mean -= 0.04 * (2 - column)
    key = [seed, run.size or 0, run.seed, round(1e9 * run.lr)]
    return Point(
        run.size, run.seed, run.lr, mean + 0.008 * float(np.random.default_rng(key).standard_normal())
    )


BASELINE = [outcome(Place(None, s, 1e-4)) for s in range(2)]


def finish(
    plan_for: Search, done: list[Point], slots: int = 3, outcome: Callable[[Place], Point] = outcome
) -> tuple[list[Point], str]:
    done = list(done)
    while not (plan := propose(*split(done), plan_for, slots=slots)).finished:
        assert 1 <= len(plan.runs) <= slots
        done += map(outcome, plan.runs)
    return done, plan.reason


def split(points: list[Point]) -> tuple[list[Point], list[Point]]:
    return [p for p in points if p.d is not None], [p for p in points if p.d is None]


def test_a_search_from_coarse_to_narrow():
    plan = propose([], BASELINE, search(), slots=99)
    # 8 octaves in steps of 2, first seed, middle rate.
    coarse = tuple(Place(d, 0, lrs(d)[1]) for d in (16, 64, 256, 1024, 4096))
    assert plan.runs[:5] == coarse
    # With the rate 1 the curve reaches the target between 256 and 1024: there the other rates are tried.
    plan = propose([outcome(run) for run in coarse], BASELINE, search(), slots=4)
    assert set(plan.runs) == {Place(d, 0, lrs(d)[j]) for d in (256, 1024) for j in (0, 2)}

    done, reason = finish(search(), BASELINE)
    assert "narrower than rel_width=0.6" in reason
    assert len(done) < 90
    found = simulation.estimate(*split(done), chance=0.5, n_eval=2000, resamples=200)
    assert found.high / found.low < 1.7
    assert found.low <= 256 <= found.high
    rates = [round(p.lr * math.sqrt(p.d), 6) for p in done if p.d is not None]
    assert rates.count(2.0) > len(rates) / 2
    near = [p for p in done if p.d is not None and 64 <= p.d <= 1024]
    assert len(near) > 0.7 * len(rates)
    assert len(split(done)[1]) > len(BASELINE)


def test_rates_that_round_to_one_at_a_d_are_one_run_there():
    """Of the multiples 1 and 1.003, a rate of three digits can be the same at one d and not at another."""

    def rounded(d: int) -> list[float]:
        return [float(f"{multiple / math.sqrt(d):.3g}") for multiple in (1, 1.003, 2)]

    def outcome(run: Place) -> Point:
        score = 0.8 if run.size is None else 0.5 + 0.3 / (1 + 64 / run.size) + 0.01 * (run.seed % 3)
        return Point(run.size, run.seed, run.lr, score)

    assert len({len(set(rounded(d))) for d in (16, 64, 256)}) == 2
    asked, baseline = search(d_max=256, lrs=rounded), [outcome(Place(None, s, 1e-4)) for s in range(2)]
    done, _ = finish(asked, baseline, outcome=outcome)
    assert len({(p.d, p.seed, p.lr) for p in done}) == len(done)


def test_a_search_goes_on_from_any_point():
    rng = np.random.default_rng(0)
    done, seen = list(BASELINE), set()
    while not (plan := propose(*split(done), search(), slots=3)).finished:
        shuffled = [done[i] for i in rng.permutation(len(done))]
        assert propose(*split(shuffled), search(), slots=3) == plan
        assert not set(plan.runs) & seen
        seen |= set(plan.runs)
        done += map(outcome, plan.runs)
    assert len(seen) == len(done) - len(BASELINE)


def test_runs_in_flight_and_failed_ones_are_not_proposed_again():
    first = propose([], BASELINE, search(), slots=2)
    then = propose([], BASELINE, search(), slots=2, running=first.runs[:1], failed=first.runs[1:])
    assert not set(then.runs) & set(first.runs)
    assert len(then.runs) == 2


def test_idle_slots_get_more_seeds_of_full_fine_tuning():
    *finished, last = propose([], BASELINE, search(), slots=5).runs
    done = [outcome(run) for run in finished]
    plan = propose(done, BASELINE, search(), slots=2, running=[last])
    assert plan.runs == (Place(None, 2, 1e-4), Place(None, 3, 1e-4))
    assert not plan.finished
    five = [outcome(Place(None, s, 1e-4)) for s in range(5)]
    assert propose(done, five, search(), slots=2, running=[last]).runs == ()


def test_full_fine_tuning_is_waited_for_only_while_it_runs():
    done = [outcome(run) for run in propose([], [], search(), slots=99).runs]
    waiting = propose(done, [], search(), running=[Place(None, 0, 1e-4)])
    assert (waiting.runs, waiting.finished) == ((), False)
    assert propose(done, [], search()).finished


@pytest.mark.parametrize("budget", [1, 7, 20])
def test_the_budget_counts_every_run(budget):
    done, reason = finish(search(budget=budget + len(BASELINE), rel_width=1e-6), BASELINE)
    assert len(done) == budget + len(BASELINE)
    assert reason == f"the budget of {budget + 2} runs is spent"
    plan = propose(*split(BASELINE), search(budget=5), slots=9, running=[Place(None, 8, 1e-4)])
    assert len(plan.runs) == 2


@pytest.mark.parametrize(
    ("change", "word"),
    [({"d_min": 4000, "d_max": 60_000}, "below d_min"), ({"d_min": 4, "d_max": 16}, "above d_max")],
)
def test_a_crossing_beyond_the_range_ends_the_search(change, word):
    done, reason = finish(search(**change), BASELINE)
    assert word in reason
    assert len(done) < 60


def test_an_undefined_d90_ends_the_search():
    weak = [Point(None, s, 1e-4, 0.54) for s in range(12)]
    done, reason = finish(search(), weak)
    assert "the target (0.486) is not clearly above chance" in reason
    assert len(done) <= len(weak) + 3


def test_a_rate_that_explodes_does_not_end_the_search_before_the_others_are_tried():
    """A loss whose middle rate, with which a search begins, takes runs far up in half of its seeds."""
    loss = Scale(6.0, 400, "loss", higher_is_better=False, untrained=3.0)
    plan_for = replace(
        search(), d_min=100, d_max=10_000, lrs=lambda d: (0.1, 0.3), scale=loss, definition=None
    )
    best = [Point(None, s, 1e-4, 2.8 + 0.002 * s) for s in range(2)]

    def loss_of(run: Place) -> Point:
        level = 3.0 - 0.205 / (1 + math.exp(-(math.log2(run.size or 1) - 9) / 0.9))
        rng = np.random.default_rng([run.size or 0, run.seed, run.lr == 0.1])
        burst = 0.02 + abs(rng.standard_normal()) * (rng.random() < 0.5) if run.lr == 0.3 else 0.0
        return Point(run.size, run.seed, run.lr, level + 0.004 * rng.standard_normal() + burst)

    done: list[Point] = []
    full = list(best)
    while not (plan := propose(done, full, plan_for)).finished:
        for run in plan.runs:
            if run.size is None:
                full.append(Point(None, run.seed, run.lr, 2.8 + 0.004 * math.sin(run.seed)))
            else:
                done.append(loss_of(run))
    assert "not clearly" not in plan.reason
    assert {p.lr for p in done} == {0.1, 0.3}


def test_the_search_ends_where_seeds_and_whole_d_run_out():
    done, reason = finish(search(seeds=(0, 1), rel_width=1e-6, budget=999, d_min=240, d_max=270), BASELINE)
    assert reason == "the seeds [0, 1] are used up around the crossing"
    assert {p.seed for p in done} == {0, 1}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"d_min": 0}, "d from 0 to 4096"), ({"d_max": 16}, "d from 16 to 16"), ({"seeds": ()}, r"seeds=\[\]"),
        ({"seeds": (1, 1)}, r"seeds=\[1, 1\]"), ({"rel_width": 0.0}, "rel_width=0"),
        ({"budget": 0}, "budget=0"), ({"lrs": lambda d: []}, "learning rate"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused(change, word):
    with pytest.raises(ConfigError, match=word):
        search(**change)


def test_the_gap_at_the_crossing_is_narrowed_before_an_interval_is_believed():
    """A jump between two coarse d's: the interval is narrower than the gap only once the gap is."""
    jump = 500

    def run(of: Place) -> Point:
        return Point(of.size, of.seed, of.lr, 0.8 if of.size is None or of.size >= jump else 0.55)

    done = [run(Place(None, s, 1e-4)) for s in range(3)]
    plan_for = search(rel_width=1.0, scale=Scale(0.5, 100_000))
    while not (plan := propose(*split(done), plan_for, slots=3)).finished:
        done += map(run, plan.runs)
    assert "narrower than rel_width=1" in plan.reason
    ds = sorted({p.d for p in done if p.d is not None})
    below, above = max(d for d in ds if d < jump), min(d for d in ds if d >= jump)
    assert math.log2(above / below) <= 0.51


@pytest.mark.long
@pytest.mark.parametrize("family", ["logistic", "step", "collapse_full"])
def test_the_default_search_holds_the_truth_within_its_budget(family):
    covered = []
    for i in range(12):
        rng = np.random.default_rng([3001, i])
        study = simulation.draw_study(rng, family, rates=3, seeds=1)
        found, runs, _ = simulation.search_adaptively(study, rng, resamples=200)
        assert runs <= 40
        covered.append(simulation.holds(study.truth, found))
    assert np.mean(covered) >= 0.83


def test_a_rate_that_diverges_or_collapses_is_not_taken_for_the_best():
    """The best rate, 2, diverges at the seeds 0, 2, 4, ...; and at d=4096 all rates do at seed 0."""

    def unstable(run: Place) -> Point:
        point = outcome(run)
        if run.size is None:
            return point
        fast = lrs(run.size).index(run.lr) == 2
        return replace(point, score=None) if run.seed % 2 == 0 and (fast or run.size == 4096) else point

    done, reason = finish(search(), BASELINE, outcome=unstable)
    assert "narrower than rel_width=0.6" in reason
    assert {round(p.lr * 4, 6) for p in done if p.d == 16} == {1.0}

    def collapsing(run: Place) -> Point:
        point = outcome(run)
        return replace(point, score=0.5) if run.seed == 1 and run.lr == lrs(run.size or 1)[2] else point

    for each in (outcome, collapsing):
        done, _ = finish(search(), BASELINE, outcome=each)
        # The coarse curve at the middle rate, and then at the tuned one.
        assert {round(p.lr * 4, 6) for p in done if p.d == 16} == {1.0, 2.0}


def test_a_first_run_that_diverges_does_not_end_the_search():
    first = propose([], BASELINE, search(), slots=1).runs[0]
    plan = propose([Point(first.size, first.seed, first.lr, None)], BASELINE, search(), slots=3)
    assert not plan.finished
    assert first not in plan.runs


def test_every_gap_that_may_hold_the_crossing_is_split_before_an_interval_is_believed():
    """Half of the replays cross in a short gap and a third in a long one: the long one may hide a jump."""
    ds = (16, 64, 256, 300, 4096)
    spread = np.repeat(np.log2([270.0, 32.0, 3.0]), [60, 35, 5])
    taken = {Place(d, seed, lrs(d)[1]) for d in ds for seed in range(5)} | {Place(None, 0, 1e-4)}
    assert _most_telling(spread, 1e-4, search(), 1, taken).size == 32
    sure = np.repeat(np.log2([270.0, 32.0]), [95, 5])
    assert _most_telling(sure, 1e-4, search(), 1, taken).size in (256, 300, None)


def test_runs_of_other_sizes_leave_a_search_in_its_range():
    """The curve reaches its target at 256, which older runs tell; the search is of d up to 64."""
    older = [
        outcome(Place(d, seed, lrs(d)[j])) for d in (4, 256, 1024) for seed in range(4) for j in range(3)
    ]
    done, reason = finish(search(d_max=64, budget=120), [*BASELINE, *older])
    assert {p.d for p in done[len(BASELINE) + len(older) :] if p.d and not 16 <= p.d <= 64} == set()
    assert reason == "d_t lies above d_max=64"
