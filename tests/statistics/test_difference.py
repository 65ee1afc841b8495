"""The difference of two d_t: by hand, and by studies that share their full fine-tuning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.simulation import simulation

from intrinsic_cli.statistics.bootstrap import Study, prepare
from intrinsic_cli.statistics.difference import difference
from intrinsic_cli.statistics.points import Point


def prepared(scores: dict[int, float], full: float = 0.8, n_eval: int = 100_000) -> Study:
    runs = [Point(d, seed, 0.1, s) for d, s in scores.items() for seed in range(3)]
    baseline = [Point(None, seed, 1e-4, full) for seed in range(3)]
    made = prepare(runs, baseline, chance=0.5, selection="validation", n_eval=n_eval, metric="accuracy")
    assert isinstance(made, Study)
    return made


def test_by_hand():
    a = prepared({16: 0.6, 64: 0.70, 256: 0.78, 1024: 0.8, 4096: 0.8})
    b = prepared({64: 0.6, 256: 0.70, 1024: 0.78, 4096: 0.8, 16_384: 0.8})
    found = difference(a, b)
    assert found.value == pytest.approx(-2)
    assert found.paired
    assert found.low < -2 < found.high
    back = difference(b, a)
    assert back.value == pytest.approx(2)
    assert not difference(a, a, seed=1).clear
    far = prepared({1 << k: 0.6 + 0.02 * (k - 14) for k in range(14, 26)})
    assert difference(a, far).clear


def test_beyond_the_grid_an_end_is_open():
    a, never = prepared({16: 0.6, 64: 0.7, 256: 0.78, 1024: 0.8}), prepared({16: 0.6, 64: 0.62, 256: 0.63})
    found = difference(a, never)
    assert (found.value, found.low, found.paired) == (None, None, True)
    assert difference(never, never).low is None


def test_sharing_full_fine_tuning_narrows_the_interval_and_it_holds_the_truth():
    held, widths = [], {True: [], False: []}
    for i in range(24):
        rng = np.random.default_rng([4001, i])
        study = simulation.draw_study(rng, "exponential", seeds=2, rates=1, rho=0.0, n_eval=872)
        ds = np.unique(np.geomspace(study.d_min, study.d_max, 8).round().astype(int))
        baseline = [p for p, _ in study.world.grid([None], 2, rng)]
        two = [
            prepare(
                [p for p, _ in study.world.grid(map(int, ds), 2, rng)], baseline, selection="validation",
                chance=study.world.truth.chance, n_eval=872, metric="accuracy",
            )
            for _ in range(2)
        ]  # fmt: skip
        for paired in (True, False):
            found = difference(*two, paired=paired, resamples=400)
            low, high = (found.low or -math.inf), (found.high or math.inf)
            widths[paired].append(high - low)
            if paired:
                held.append(low <= 0 <= high)
    assert np.mean(held) >= 0.9
    both = np.isfinite(widths[True]) & np.isfinite(widths[False])
    assert np.median(np.array(widths[True])[both] / np.array(widths[False])[both]) < 0.95
