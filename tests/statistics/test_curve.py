"""Where curves cross and fall: scipy's isotonic regression as oracle, properties, hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression
from scipy.stats import beta

from intrinsic_cli.statistics.curve import STRETCH, crossing, fallen, spreads, within


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


def test_an_end_without_weight_takes_no_part():
    x, score = np.arange(5.0), np.array([[0.1, 0.5, 0.9, 0.2, 0.1]])
    weight = np.array([[1.0, 1, 1, 0, 0]])
    assert crossing(x, score, weight, np.array([0.7]))[0] == pytest.approx(1.5)
    assert crossing(x, score, weight, np.array([0.95]))[0] == math.inf
    assert crossing(x, score, weight, np.array([0.05]))[0] == -math.inf


def test_a_jump_may_lie_anywhere_in_its_gap():
    rng = np.random.default_rng(0)
    at = within(np.full(20_000, 0.9), np.full(20_000, 0.05), rng)
    low, high = np.quantile(at, [0.025, 0.975])
    assert low <= 0.01
    assert high >= 0.99
    assert np.median(at) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_path_inside_a_gap_is_a_gamma_process(share):
    """P(the path has reached `share` at p) = P(Beta(a p, a (1 - p)) >= share), at the ends of the parts."""
    a, n = 6.0, 40_000
    at = within(np.full(n, share), np.full(n, a), np.random.default_rng(1))
    for part in (2, 4, 6):
        p = part / 8
        reached = np.mean(at <= 0.5 + STRETCH * (p - 0.5))
        assert reached == pytest.approx(beta.sf(share, a * p, a * (1 - p)), abs=0.01)


def test_a_large_spread_is_a_straight_line():
    share = np.random.default_rng(2).random(5000)
    at = within(share, np.full(5000, 1e5), np.random.default_rng(3))
    assert np.max(np.abs(at - (0.5 + STRETCH * (share - 0.5)))) < STRETCH / 8 + 0.01


def test_a_gap_that_rises_alone_may_hold_a_jump():
    x = np.array([0.0, 1, 2, 4, 5])
    alone = spreads(x, np.array([0.1, 0.1, 0.8, 0.8, 0.8]))
    steady = spreads(x, np.array([0.1, 0.2, 0.3, 0.5, 0.6]))
    assert alone[1] == min(alone) < 0.5
    assert np.all(steady >= 5)


def test_a_wide_gap_is_no_line_however_steady_the_rise():
    fit = np.array([0.1, 0.2, 0.3, 0.4])
    narrow, wide = (spreads(np.arange(4.0) * octaves, fit) for octaves in (1.75, math.log2(10)))
    assert narrow == pytest.approx(8)
    assert np.all(wide < 2)


def test_the_tail_that_is_clearly_worse_is_a_fall():
    score = np.array([
        [0.5, 0.80, 0.82, 0.72, 0.69],  # 10 points under the best with a standard error of 1.4
        [0.5, 0.80, 0.82, 0.81, 0.81],  # within its noise
        [0.5, 0.80, 0.70, 0.80, 0.83],  # a dip on the way up: 0.83 is 2.1 errors above 0.80
        [0.5, 0.82, 0.80, 0.70, 0.60],  # gradual: it begins where all that follows is worse
    ])  # fmt: skip
    assert fallen(score, np.full_like(score, 1e-4)).tolist() == [3, 5, 5, 2]
    assert fallen(score, np.full_like(score, 1e-2)).tolist() == [5, 5, 5, 4]  # 0.22 is 1.6 errors


@pytest.mark.parametrize("last", [0.819, 0.821])
def test_what_comes_back_from_a_dip_takes_no_part_whether_or_not_it_is_the_best(last):
    """The first top is no worse than the last by more than noise, and 0.76 lies 4.2 errors below it."""
    score = np.array([[0.5, 0.75, 0.82, 0.79, 0.76, 0.77, 0.80, last]])
    assert fallen(score, np.full_like(score, 1e-4)).tolist() == [4 if last > 0.82 else 3]
    assert fallen(score, np.full_like(score, 2e-4)).tolist() == [8 if last > 0.82 else 3]  # 3.0 errors
    # All that follows 0.82 together is no worse by 1.5 errors, and 0.74 by itself is by 5.
    score = np.array([[0.5, 0.75, 0.82, 0.74, last, 0.82, 0.82, 0.82, 0.82]])
    assert fallen(score, np.full_like(score, 1.25e-4)).tolist() == [3]


@pytest.mark.parametrize("before", [0.70, 0.80])
def test_each_d_that_is_no_worse_than_the_best_tells_a_dip(before):
    """0.80 is within 1.5 errors of 0.82, and 0.76 lies 2.8 errors below it, and 4.2 below 0.82."""
    score = np.array([[0.5, before, 0.82, 0.76, 0.82, 0.82, 0.82]])
    assert fallen(score, np.full_like(score, 1e-4)).tolist() == [3]
