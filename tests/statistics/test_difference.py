"""The difference of two d_t: by hand, and by studies that share their full fine-tuning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.scripts import load

from intrinsic_cli.statistics.difference import difference
from intrinsic_cli.statistics.estimate import Measured
from intrinsic_cli.statistics.points import Point
from intrinsic_cli.statistics.targets import Scale

simulation = load("simulate_d90")


def measured(scores: dict[int, float], full: float = 0.8, **options: int) -> Measured:
    runs = [Point(d, seed, 0.1, s) for d, s in scores.items() for seed in range(3)]
    baseline = [Point(None, seed, 1e-4, full) for seed in range(3)]
    return Measured(runs, baseline, Scale(0.5, 100_000), **options)


def test_by_hand():
    a = measured({16: 0.6, 64: 0.70, 256: 0.78, 1024: 0.8, 4096: 0.8})
    b = measured({64: 0.6, 256: 0.70, 1024: 0.78, 4096: 0.8, 16_384: 0.8})
    found = difference(a, b, same_full=True)
    assert found.value == pytest.approx(-2)
    assert found.shared == ("full fine-tuning",)
    assert found.low < -2 < found.high
    back = difference(b, a)
    assert back.value == pytest.approx(2)
    assert not difference(a, a).clear
    far = measured({1 << k: 0.6 + 0.02 * (k - 14) for k in range(14, 26)})
    assert difference(a, far).clear


def test_where_one_is_beyond_its_grid_they_are_apart_by_at_least_what_lies_between():
    """B's d_t lies between 64 and 256, and A's is more than 4,096: log2 A/B is at least 4 to 6."""
    a, b = (
        measured({16: 0.6, 64: 0.61, 256: 0.62, 1024: 0.62, 4096: 0.62}),
        measured({16: 0.6, 64: 0.7, 256: 0.78, 1024: 0.8}),
    )
    found = difference(a, b)
    assert (found.value, found.high) == (None, None)
    assert 4 <= found.low <= 6
    assert found.clear
    back = difference(b, a)
    assert (back.low, back.clear) == (None, True)
    assert back.high == pytest.approx(-found.low, abs=0.3)


def test_beyond_the_grid_an_end_is_open():
    a, never = measured({16: 0.6, 64: 0.7, 256: 0.78, 1024: 0.8}), measured({16: 0.6, 64: 0.62, 256: 0.63})
    found = difference(a, never)
    assert (found.value, found.low, found.reason) == (None, None, "")
    assert difference(never, never).low is None


def test_sharing_full_fine_tuning_narrows_the_interval_and_it_holds_the_truth():
    held, widths = [], {True: [], False: []}
    for i in range(24):
        rng = np.random.default_rng([4001, i])
        study = simulation.draw_study(rng, "exponential", seeds=2, rates=1, rho=0.0, n_eval=872)
        ds = np.unique(np.geomspace(study.d_min, study.d_max, 8).round().astype(int))
        baseline = [p for p, _ in study.world.grid([None], 2, rng)]
        two = [
            Measured(
                [p for p, _ in study.world.grid(map(int, ds), 2, rng)], baseline,
                Scale(study.world.truth.chance, 872), resamples=400,
            )
            for _ in range(2)
        ]  # fmt: skip
        for paired in (True, False):
            found = difference(*two, same_full=paired)
            low = -math.inf if found.low is None else found.low
            high = math.inf if found.high is None else found.high
            widths[paired].append(high - low)
            if paired:
                held.append(low <= 0 <= high)
    assert np.mean(held) >= 0.9
    both = np.isfinite(widths[True]) & np.isfinite(widths[False])
    assert np.median(np.array(widths[True])[both] / np.array(widths[False])[both]) < 0.95


def test_a_difference_that_can_not_be_told_says_why():
    sound, weak = measured({16: 0.6, 64: 0.7, 256: 0.78}), measured({16: 0.5, 64: 0.5}, full=0.51)
    found = difference(sound, weak)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.reason == "B has no d_t: the target (0.459) is not clearly above chance (0.5)"
    bare = Measured([Point(16, 0, 0.1, 0.6), Point(64, 0, 0.1, 0.8)], [Point(None, 0, 1e-4, 0.8)], Scale(0.5))
    assert difference(bare, sound).reason == "the noise of A is unknown: it needs more than one seed"


def test_what_is_shared_is_drawn_once_however_the_rest_differs():
    """The same full fine-tuning beside curves with other d's, rates and seeds: its draws are the same."""
    from intrinsic_cli.statistics.bootstrap import replay

    rng = np.random.default_rng(5)
    baseline = [Point(None, s, lr, 0.8 + 0.01 * s) for s in range(3) for lr in (1e-4, 3e-4)]
    sides = [
        Measured(
            [Point(d, s, lr, 0.6 + 0.02 * rng.random()) for d in ds for lr in lrs for s in range(seeds)],
            baseline,
            Scale(0.5, 872),
        )
        for ds, lrs, seeds in (((10, 30, 90), (0.1,), 2), ((10, 100, 300, 900), (0.1, 0.2, 0.3), 4))
    ]
    one, other = (replay(m.study, seed=i, resamples=200, full_seed=9) for i, m in enumerate(sides))
    alone = replay(sides[1].study, seed=1, resamples=200)
    assert np.corrcoef(one.score[:, -1], other.score[:, -1])[0, 1] > 0.99
    assert abs(np.corrcoef(one.score[:, -1], alone.score[:, -1])[0, 1]) < 0.3
