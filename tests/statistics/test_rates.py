"""The choice of a learning rate, by hand."""

from __future__ import annotations

import pytest

from intrinsic_cli.statistics.points import Point
from intrinsic_cli.statistics.rates import best_rate, flattery
from intrinsic_cli.statistics.targets import Scale

SCALE = Scale(0.5, 400)


def runs(lr: float, *scores: float | None, holdout: float | None = None) -> list[Point]:
    return [Point(10, seed, lr, score, holdout) for seed, score in enumerate(scores)]


def test_the_rate_of_the_best_mean_is_chosen_and_a_tie_goes_to_the_smaller():
    assert best_rate([*runs(0.3, 0.7, 0.8), *runs(0.1, 0.6, 0.8)], SCALE) == (0.3, pytest.approx(0.75))
    assert best_rate([*runs(0.3, 0.7), *runs(0.1, 0.7)], SCALE) == (0.1, 0.7)


def test_of_a_loss_the_lowest_is_best_and_told_as_its_negative():
    loss = Scale(3.0, 400, "loss", higher_is_better=False)
    assert best_rate([*runs(0.3, 2.0), *runs(0.1, 2.5)], loss) == (0.3, -2.0)


def test_a_run_that_collapsed_does_not_count_against_its_rate():
    """The third run of 0.3 is at chance, twelve standard errors below its like, whose mean alone is 0.8."""
    fell = [*runs(0.3, 0.8, 0.8, 0.5), *runs(0.1, 0.72, 0.72, 0.72)]
    assert best_rate(fell, SCALE) == (0.3, pytest.approx(0.8))
    assert best_rate(fell, Scale(0.0, 400)) == (
        0.1,
        pytest.approx(0.72),
    )  # no chance to fall to: the mean is 0.7


def test_runs_that_failed_count_as_chance_and_without_any_other_there_is_no_rate():
    assert best_rate([*runs(0.3, 0.8, None), *runs(0.1, 0.72, 0.72)], SCALE) == (0.1, pytest.approx(0.72))
    assert best_rate(runs(0.3, None, None), SCALE) is None


def test_a_run_that_failed_is_no_gain_where_chance_is_better_than_any_run():
    """Of a loss: 0.3 is worse than 0.1 by 0.1 and lost a run of four; counted as chance, 3.0, it would win."""
    loss = Scale(3.0, 400, "loss", higher_is_better=False)
    both = [*runs(0.3, 4.1, 4.1, 4.1, None), *runs(0.1, 4.0, 4.0, 4.0, 4.0)]
    assert best_rate(both, loss) == (0.1, pytest.approx(-4.0))


def test_the_rate_may_be_chosen_on_holdout():
    both = [*runs(0.3, 0.8, holdout=0.6), *runs(0.1, 0.7, holdout=0.7)]
    assert best_rate(both, SCALE) == (0.3, 0.8)
    assert best_rate(both, SCALE, "holdout") == (0.1, 0.7)


def test_a_rate_that_diverges_flatters_nobody():
    """By validation the rate 0.1 is chosen, and by holdout too: that 0.3 lost a run of four does not tell."""
    runs = [Point(10, seed, 0.1, 0.75, 0.75) for seed in range(4)]
    runs += [Point(10, seed, 0.3, 0.78, 0.9) for seed in range(3)] + [Point(10, 3, 0.3, None, None)]
    # 0.3 counts (3 * 0.78 + 0.5) / 4 = 0.71 by validation, and (3 * 0.9 + 0.5) / 4 = 0.8 by holdout.
    assert flattery(runs, 0.5) == pytest.approx(0.75 - 0.71)
