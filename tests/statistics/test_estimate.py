"""d_t: hand arithmetic, scipy's isotonic regression as oracle, simulated studies of known truth."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.statistics.bootstrap import replays
from intrinsic_cli.statistics.estimate import estimate, flattery
from intrinsic_cli.statistics.points import Point, choose, crossing


def load_simulation():
    path = Path(__file__).parents[2] / "scripts" / "simulate_d90.py"
    spec = importlib.util.spec_from_file_location("simulate_d90", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


simulation = load_simulation()


def full(*scores: float, lr: float = 1e-4) -> list[Point]:
    return [Point(None, seed, lr, score, score) for seed, score in enumerate(scores)]


def line(scores: dict[int, list[float]], lr: float = 0.1) -> list[Point]:
    return [Point(d, seed, lr, s, s) for d, row in scores.items() for seed, s in enumerate(row)]


def crossing_by_fit(x: np.ndarray, y: np.ndarray, w: np.ndarray, target: float) -> float:
    """The definition, written out: fit, then walk along the line."""
    fit = isotonic_regression(y, weights=w).x
    if fit[0] >= target - 1e-12:
        return -math.inf
    for k in range(1, len(x)):
        if fit[k] >= target - 1e-12:
            return x[k - 1] + (x[k] - x[k - 1]) * (target - fit[k - 1]) / (fit[k] - fit[k - 1])
    return math.inf


# Scores are shares of a validation set, so that ties and means equal to the target do occur.
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), min_size=1, max_size=9),
    st.integers(1, 80),
)
def test_crossing_is_that_of_the_isotonic_fit(points, target):
    y, w = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    x = np.cumsum(np.arange(1.0, len(y) + 1))
    got = crossing(x, y[None] / 20, w[None], np.array([target / 80]))[0]
    assert got == pytest.approx(crossing_by_fit(x, y / 20, w, target / 80), abs=1e-9)


def test_crossing_treats_each_row_by_itself():
    rng = np.random.default_rng(0)
    x, y, target = np.arange(6.0), rng.random((40, 6)).cumsum(axis=1) / 3, rng.random(40)
    w = rng.integers(1, 5, (40, 6)).astype(float)
    each = [crossing_by_fit(x, y[b], w[b], target[b]) for b in range(40)]
    np.testing.assert_allclose(crossing(x, y, w, target), each)


def test_d90_by_hand():
    # The target 0.9 * 0.8 = 0.72 lies a quarter of the way from d=64 (0.70) to d=256 (0.78): 2^6.5 = 90.5.
    runs = line({16: [0.5, 0.5], 64: [0.69, 0.71], 256: [0.77, 0.79], 1024: [0.80, 0.80]})
    found = estimate(runs, full(0.79, 0.81), chance=0.5)
    assert (found.status, found.d_t, found.reason) == ("estimated", 91, "")
    assert found.target == pytest.approx(0.72)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 91 <= found.high
    assert [level.d for level in found.curve] == [16, 64, 256, 1024]
    assert [level.fit for level in found.curve] == pytest.approx([0.5, 0.7, 0.78, 0.8])


def test_the_normalised_target_starts_at_chance():
    # 0.5 + 0.9 * 0.3 = 0.77: 7/8 of the way from 0.70 to 0.78, 2^(6 + 1.75) = 215.3.
    runs = line({16: [0.5, 0.5], 64: [0.69, 0.71], 256: [0.77, 0.79], 1024: [0.80, 0.80]})
    assert estimate(runs, full(0.79, 0.81), chance=0.5, normalised=True).d_t == 216


def test_a_dip_is_pooled_by_its_runs():
    # d=8 (1 run, .6) and d=16 (3 runs, .4) pool to .45; the target .54 is 1/5 of the way on to d=32 (.9).
    runs = line({4: [0.2], 8: [0.6], 16: [0.4, 0.4, 0.4], 32: [0.9]})
    assert estimate(runs, full(0.6), chance=0.1).d_t == math.ceil(16 * 2**0.2)


@pytest.mark.parametrize(
    ("scores", "status", "word"),
    [({10: 0.85, 100: 0.88}, "below_grid", "d=10 "), ({10: 0.55, 100: 0.70}, "above_grid", "d=100 ")],
)
def test_beyond_the_grid_there_is_no_number(scores, status, word):
    found = estimate(line({d: [s, s] for d, s in scores.items()}), full(0.9, 0.9), chance=0.5, n_eval=10_000)
    assert (found.status, found.d_t, found.logistic) == (status, None, None)
    assert word in found.reason
    # 0.81 is 10 standard errors away: the interval is wholly beyond the grid, whose end is its near end.
    if status == "below_grid":
        assert (found.low, found.low_open, found.high, found.high_open) == (None, True, 10, False)
    else:
        assert (found.low, found.low_open, found.high, found.high_open) == (100, False, None, True)


@pytest.mark.parametrize(
    ("subspace", "baseline", "chance", "word"),
    [
        (line({10: [0.7], 99: [0.8]}), full(0.74, 0.74), 0.684, "target"),
        (line({10: [0.7], 99: [0.8]}), full(0.68, 0.66), 0.684, "not clearly above chance"),
        (line({10: [0.1], 99: [0.2]}), full(0.3, -0.1, 0.2, -0.2), 0.0, "not clearly above chance"),
        ([], full(0.9), 0.5, "no subspace run"),
        (line({10: [0.7]}), [], 0.5, "no full fine-tuning run"),
    ],
)
def test_undefined_says_why(subspace, baseline, chance, word):
    found = estimate(subspace, baseline, chance=chance)
    assert (found.status, found.d_t, found.low, found.high) == ("undefined", None, None, None)
    assert word in found.reason


def test_without_repeats_or_n_eval_there_is_no_interval():
    runs = line({16: [0.5], 64: [0.7], 256: [0.78]})
    found = estimate(runs, full(0.8), chance=0.5)
    assert (found.d_t, found.low, found.high, found.noise) == (91, None, None, None)
    assert not found.low_open
    assert not found.high_open
    with_rows = estimate(runs, full(0.8), chance=0.5, n_eval=10_000)
    assert with_rows.low is not None
    assert with_rows.noise == pytest.approx(
        math.sqrt(np.mean([p * (1 - p) for p in (0.5, 0.7, 0.78, 0.8)])) / 100
    )


def test_noise_pools_repeated_runs():
    # Squares left over: 2 * 0.01^2 + 2 * 0.03^2 + 0 (one run) + 0 (equal runs), over 3 degrees of freedom.
    runs = line({16: [0.49, 0.51], 64: [0.67, 0.73], 256: [0.78]})
    found = estimate(runs, full(0.8, 0.8), chance=0.5)
    assert found.noise == pytest.approx(math.sqrt((2 * 1e-4 + 2 * 9e-4) / 3))


def test_the_learning_rate_is_chosen_by_the_selection():
    # On validation lr 0.3 is ahead by 0.04 at both d's; on holdout lr 0.1 is.
    runs = [
        Point(d, 0, lr, score + bonus, score - bonus)
        for d, score in ((10, 0.6), (1000, 0.8))
        for lr, bonus in ((0.1, 0.0), (0.3, 0.04))
    ]
    by_validation = estimate(runs, full(0.8), chance=0.5, selection="validation")
    by_holdout = estimate(runs, full(0.8), chance=0.5, selection="holdout")
    assert [(level.lr, round(level.score, 9)) for level in by_validation.curve] == [(0.3, 0.64), (0.3, 0.84)]
    assert [(level.lr, round(level.score, 9)) for level in by_holdout.curve] == [(0.1, 0.6), (0.1, 0.8)]
    assert flattery(runs) == by_holdout.flattery == pytest.approx(0.04)
    assert flattery([replace(p, holdout=None) for p in runs]) is None


def test_a_tie_goes_to_the_smallest_rate_and_one_lucky_run_does_not_win():
    count = np.array([[2, 2, 0], [5, 2, 3]])
    assert choose(np.array([[0.7, 0.7, 0.0], [0.6, 0.9, 0.7]]), count).tolist() == [0, 2]


def test_order_of_runs_does_not_matter_and_the_seed_does():
    study = simulation.draw_study(np.random.default_rng(3), "tune", rates=3, seeds=3)
    rng = np.random.default_rng(4)
    ds = np.geomspace(study.d_min, study.d_max, 7).round().astype(int)
    runs, baseline = study.world.grid(ds, 3, rng), study.world.grid(None, 3, rng)
    ask = {"chance": study.world.chance, "n_eval": study.world.n_eval}
    shuffled = [runs[i] for i in rng.permutation(len(runs))]
    assert estimate(shuffled, baseline[::-1], **ask) == estimate(runs, baseline, **ask)
    options = {"threshold": 0.9, "selection": "validation", "normalised": False, "resamples": 50}
    first, other = (replays(runs, baseline, seed=s, **ask, **options) for s in (0, 1))
    assert not np.array_equal(first, other)


def test_a_higher_confidence_gives_a_wider_interval():
    runs = line({2**k: [0.5 + 0.04 * k, 0.52 + 0.04 * k] for k in range(1, 10)})
    low, high = (estimate(runs, full(0.8, 0.82), chance=0.5, confidence=c) for c in (0.5, 0.99))
    assert low.low is not None
    assert high.low is not None
    assert high.low < low.low <= low.high < high.high


def test_what_cannot_be_used_is_refused():
    runs = line({10: [0.5], 100: [0.8]})
    with pytest.raises(ConfigError, match=r"threshold=1.5"):
        estimate(runs, full(0.8), chance=0.5, threshold=1.5)
    with pytest.raises(ConfigError, match="selection='best'"):
        estimate(runs, full(0.8), chance=0.5, selection="best")
    with pytest.raises(ConfigError, match=r"d=10 seed=0 .* holdout"):
        estimate([replace(p, holdout=None) for p in runs], full(0.8), chance=0.5, selection="holdout")
    with pytest.raises(DataError, match=r"d=10 .* not finite"):
        estimate([replace(p, score=math.nan) for p in runs], full(0.8), chance=0.5)
    with pytest.raises(DataError, match="d=None"):
        estimate(full(0.8), full(0.8), chance=0.5)


@pytest.mark.parametrize(("selection", "count"), [("validation", 1000), ("holdout", 200)])
def test_intervals_hold_the_truth(selection, count):
    done = simulation.studies(count, 2001, selection=selection, resamples=200)
    errors = [simulation.error(study.truth, found) for study, found in done]
    assert np.mean([simulation.holds(study.truth, found) for study, found in done]) >= 0.90
    assert np.median([abs(e) for e in errors if e is not None]) <= 0.35
    # Covering is no feat for an interval without ends.
    assert np.mean([math.isfinite(simulation.width(found)) for _, found in done]) >= 0.5


@pytest.mark.parametrize("where", ["below_grid", "above_grid"])
def test_truths_beyond_the_grid_are_called_so(where):
    done = simulation.studies(300, 2002, where=where, resamples=1)
    assert np.mean([found.status == where for _, found in done]) >= 0.95


def test_targets_under_chance_are_called_undefined():
    assert np.mean([found.status == "undefined" for found in simulation.undefined_studies(400, 2003)]) >= 0.95
