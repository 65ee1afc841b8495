"""Which runs collapsed: by hand."""

from __future__ import annotations

import numpy as np

from intrinsic_cli.statistics.collapse import collapsed
from intrinsic_cli.statistics.estimate import estimate
from intrinsic_cli.statistics.points import Point
from intrinsic_cli.statistics.targets import Scale


def row(d: int | None, *scores: float | None, lr: float = 0.1) -> list[Point]:
    return [Point(d, seed, lr, score) for seed, score in enumerate(scores)]


def marks(*rows: list[Point], chance: float = 0.5, n_eval: int | None = 872, metric: str = "accuracy"):
    return [[int(m) for m in mark] for mark in collapsed(rows, Scale(chance, n_eval, metric))]


def test_a_run_at_chance_among_runs_far_above_it_collapsed():
    assert marks(row(8, 0.51, 0.5), row(64, 0.7, 0.5, 0.72), row(None, 0.8, 0.82, 0.5)) == [
        [0, 0], [0, 1, 0], [0, 0, 1],
    ]  # fmt: skip


def test_a_small_d_at_chance_did_not_collapse_nor_a_step():
    assert marks(row(8, 0.5), row(64, 0.51), row(512, 0.8), row(None, 0.82)) == [[0], [0], [0], [0]]


def test_one_seed_is_held_against_its_curve():
    assert marks(row(8, 0.6), row(64, 0.7), row(512, 0.5), row(4096, 0.8), row(None, 0.82))[2] == [1]
    # And full fine-tuning against all d's.
    assert marks(row(8, 0.6), row(64, 0.7), row(None, 0.5))[2] == [1]


def test_runs_near_chance_are_not_judged_where_all_are_near():
    assert marks(row(8, 0.69), row(64, 0.70), row(None, 0.68, 0.74), chance=0.684, n_eval=408)[2] == [0, 0]


def test_runs_below_chance_did_not_collapse_where_their_like_are_no_better():
    """Of 872 rows a run has a standard deviation of 1.3 points: 0.61 and 0.70 are both far below 0.83."""
    assert marks(row(8, 0.7), row(64, 0.72), row(None, 0.60, 0.61, 0.62), chance=0.8333)[2] == [0, 0, 0]
    assert marks(row(8, 0.7), row(64, 0.9), row(None, 0.60, 0.61, 0.92), chance=0.8333)[2] == [1, 1, 0]


def test_an_f1_of_few_positive_rows_scatters_more_than_a_share_of_all():
    """Of 5 % of 872 rows a run has a standard deviation of 4 points, and 0.11 is no collapse behind 0.16."""
    rows = row(8, 0.16), row(64, 0.11), row(512, 0.30), row(4096, 0.6), row(None, 0.62)
    assert not any(map(any, marks(*rows, chance=2 * 0.05 / 1.05, metric="f1")))


def test_a_wide_scatter_is_no_collapse():
    rng = np.random.default_rng(0)
    rows = [row(d, *(0.62 + 0.06 * rng.standard_normal(4)).clip(0.5, 1).tolist()) for d in (8, 64, 512)]
    assert not any(map(any, marks(*rows, row(None, 0.7, 0.76, 0.66))))


def test_without_any_known_noise_nothing_is_marked():
    assert marks(row(8, 0.7), row(64, 0.8), row(None, 0.5), n_eval=None) == [[0], [0], [0]]
    assert marks(row(8, 0.3), row(64, 0.5), row(None, 0.55, 0.0, None), chance=0.0, metric="matthews")[2] == [
        0, 1, 0,
    ]  # fmt: skip


def test_a_loss_worse_than_chance_is_no_collapse_where_the_model_began_worse():
    """Nats of a model at 5.5 before training: runs at 4.8 to 3.9 have learned, though a constant answer has 1.9."""
    scale = Scale(1.9, 400, "loss", higher_is_better=False, untrained=5.5)
    losses = [row(8, -4.8, -4.81), row(64, -2.0, -2.01, -5.49), row(None, -3.9, -3.91)]
    assert collapsed(losses, scale) == [[False, False], [False, False, True], [False, False]]
    # From a start that beats chance, chance is the level: the model was good, and is as a constant answer now.
    began_well = [row(8, -2.8, -2.81), row(64, -2.0, -2.01, -6.0), row(None, -1.9, -1.91)]
    assert collapsed(began_well, Scale(5.9, 400, "loss", False, 3.0))[1] == [False, False, True]
    # And an accuracy at chance is a collapse wherever the model began.
    assert collapsed([row(8, 0.7, 0.5), row(None, 0.8, 0.8)], Scale(0.5, 400, untrained=0.4))[0] == [
        False,
        True,
    ]


def test_a_rate_that_was_tried_at_one_d_alone_is_not_held_against_another():
    """The slowest of three at d = 1,000 has learned nothing there, and fallen from nothing."""
    runs = [
        Point(d, s, 0.1, q + s / 1000) for d, q in ((10, 0.60), (100, 0.75), (3000, 0.85)) for s in range(3)
    ]
    runs += [
        Point(1000, s, lr, q + s / 1000)
        for lr, q in ((0.001, 0.51), (0.1, 0.82), (1.0, 0.80))
        for s in range(3)
    ]
    whole = [Point(None, s, 1e-4, 0.88 + s / 1000) for s in range(3)]
    found = estimate(runs, whole, chance=0.5, n_eval=2000)
    assert (found.status, found.collapsed) == ("estimated", 0)
