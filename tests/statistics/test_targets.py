"""Targets beside the paper's: the share of a gain, and what is mirrored where lower is better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.statistics.adaptive import Search, propose
from intrinsic_cli.statistics.estimate import Measured, estimate
from intrinsic_cli.statistics.points import Point
from intrinsic_cli.statistics.targets import TARGETS, Scale, begin, headline

CURVE = {16: [0.5, 0.5], 64: [0.69, 0.71], 256: [0.77, 0.79], 1024: [0.80, 0.80]}


def runs(scores: dict[int | None, list[float]], lr: float = 0.1) -> list[Point]:
    return [Point(d, seed, lr, s, s) for d, row in scores.items() for seed, s in enumerate(row)]


def full(*scores: float, lr: float = 1e-4) -> list[Point]:
    return runs({None: list(scores)}, lr)


def mirrored(points: list[Point]) -> list[Point]:
    """The same runs with a loss of 1 − score."""
    return [replace(p, score=1 - p.score, holdout=1 - p.holdout) for p in points]


def test_the_target_of_a_gain_starts_before_training():
    # 0.6 + 0.9 * 0.2 = 0.78, which d=256 reaches; 0.6 + 0.5 * 0.2 = 0.70, which d=64 reaches.
    options = {"chance": 0.5, "untrained": 0.6, "definition": "gain"}
    found = estimate(runs(CURVE), full(0.79, 0.81), **options)
    assert (found.status, found.d_t, found.untrained, found.definition) == ("estimated", 256, 0.6, "gain")
    assert found.target == pytest.approx(0.78)
    assert estimate(runs(CURVE), full(0.79, 0.81), threshold=0.5, **options).d_t == 64


def test_a_gain_needs_the_score_before_training():
    found = estimate(runs(CURVE), full(0.79, 0.81), chance=0.5, definition="gain")
    assert (found.status, found.target) == ("undefined", None)
    assert "d=0" in found.reason
    with pytest.raises(ConfigError, match="score, chance, gain"):
        estimate(runs(CURVE), full(0.8), chance=0.5, definition="lift")


@pytest.mark.parametrize("definition", ["chance", "gain"])
@given(
    scores=st.lists(st.lists(st.floats(0.3, 0.9), min_size=1, max_size=3), min_size=2, max_size=5),
    best=st.lists(st.floats(0.5, 0.95), min_size=1, max_size=4),
    untrained=st.floats(0.25, 0.6),
)
def test_a_loss_is_the_mirror_of_a_score(definition, scores, best, untrained):
    """With 1 − score as the loss, every d is the same, and every score its mirror, from no less than chance on."""
    subspace, baseline = runs({4 ** (k + 1): row for k, row in enumerate(scores)}), full(*best)
    options = {"metric": "loss", "definition": definition, "resamples": 40}
    one = estimate(subspace, baseline, chance=0.25, untrained=untrained, **options)
    other = estimate(
        mirrored(subspace), mirrored(baseline), chance=0.75, untrained=1 - untrained, higher_is_better=False,
        **options,
    )  # fmt: skip
    for key in ("status", "d_t", "low_open", "high_open", "mean_d_t", "falls_at", "collapsed"):
        assert getattr(one, key) == getattr(other, key), key
    for key, off in (("low", 0), ("high", 0), ("logistic", 0.1)):  # a fit stops near its optimum
        twin = getattr(other, key)
        near = twin if twin is None else pytest.approx(twin, abs=1, rel=off)
        assert getattr(one, key) == near, key
    if one.target is not None:
        assert (1 - one.target, 1 - one.full_score) == pytest.approx((other.target, other.full_score))
        for level, twin in zip(one.curve, other.curve, strict=True):
            assert (level.d, level.lr, 1 - level.score) == (twin.d, twin.lr, pytest.approx(twin.score))
        assert [level.d for level in one.reached] == [level.d for level in other.reached]


def test_what_stands_first():
    assert headline(Scale(0.5)) == headline(Scale(0.5, untrained=0.6)) == "score"
    assert headline(Scale(5.0, higher_is_better=False)) == "chance"
    assert headline(Scale(5.0, higher_is_better=False, untrained=4.0)) == "gain"
    assert begin("gain", Scale(5.0, higher_is_better=False, untrained=4.0)) == -4.0
    assert all(begin(name, Scale(5.0, untrained=4.0)) is not None for name in TARGETS)


@pytest.mark.parametrize("n_eval", [None, 872, 10**6])
def test_no_gain_where_training_does_not_beat_what_was_there(n_eval):
    """85 % before training and twelve trained models from 84 to 86 %."""
    twelve = [0.84, 0.842, 0.845, 0.847, 0.849, 0.85, 0.851, 0.853, 0.855, 0.857, 0.859, 0.86]
    found = estimate(
        runs({100: [0.843, 0.85], 1000: [0.848, 0.856], 10000: [0.852, 0.858]}), full(*twelve), chance=0.5,
        untrained=0.85, definition="gain", n_eval=n_eval,
    )  # fmt: skip
    assert (found.status, found.d_t) == ("undefined", None)
    assert "not clearly above the model before training (0.85)" in found.reason


def test_the_best_of_several_rates_is_no_gain_yet():
    """Scores without any gain, whose best rate of six beats the level by as much as one rate alone may."""
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(60):
        baseline = [
            Point(None, s, lr, 0.5 + 0.02 * rng.standard_normal()) for lr in range(1, 7) for s in range(4)
        ]
        subspace = runs({d: list(0.5 + 0.02 * rng.standard_normal(2)) for d in (10, 100)})
        found = estimate(
            subspace, baseline, chance=0.1, untrained=0.5, definition="gain", resamples=10, metric="loss"
        )
        wrong += found.status != "undefined"
    assert wrong / 60 <= 0.12


def answers(score: float, n: int, rng: np.random.Generator, common: np.ndarray) -> np.ndarray:
    """Right or wrong of n rows that are hard alike for every model, with a mean of `score`."""
    order = np.argsort(common + 0.1 * rng.random(n))
    right = np.zeros(n, dtype=bool)
    right[order[: round(score * n)]] = True
    return right


def test_rows_that_all_runs_share_do_not_hide_a_gain():
    """Two points of gain on 400 rows: lost in the noise of rows, unless they are known to be the same rows."""
    rng, n = np.random.default_rng(0), 400
    common = rng.random(n)

    def run(d, seed, score):
        return Point(d, seed, 0.1, score, rows=answers(score, n, rng, common))

    subspace = [
        run(d, seed, score) for d, score in ((10, 0.80), (100, 0.81), (1000, 0.82)) for seed in range(3)
    ]
    baseline = [run(None, seed, score) for seed, score in enumerate((0.82, 0.8225, 0.82))]
    scale = Scale(0.5, n, "accuracy", untrained=0.80, untrained_rows=answers(0.80, n, rng, common))
    known = Measured(subspace, baseline, scale).estimate(definition="gain")
    blind = Measured(subspace, baseline, replace(scale, untrained_rows=None)).estimate(definition="gain")
    assert (known.status, blind.status) == ("estimated", "undefined")


def test_the_score_before_training_is_drawn_with_the_rows_of_the_others():
    rng, n = np.random.default_rng(1), 300
    rows = rng.random(n) < 0.7
    baseline = [Point(None, seed, 0.1, rows.mean(), rows=rows) for seed in range(4)]
    subspace = [Point(d, seed, 0.1, rows.mean() - 0.2, rows=rows) for d in (10, 100) for seed in range(4)]
    scale = Scale(0.1, n, untrained=rows.mean() - 0.4, untrained_rows=rows)
    drawn = Measured(subspace, baseline, scale, resamples=4000).replays
    start = drawn.begin("gain")
    assert np.std(start) == pytest.approx(np.sqrt(0.7 * 0.3 / n), rel=0.1)
    assert np.mean(start) == pytest.approx(scale.untrained, abs=0.003)
    assert np.corrcoef(start, drawn.score[:, -1])[0, 1] > 0.999  # the same answers
    apart = Measured(subspace, baseline, replace(scale, untrained_rows=None), resamples=4000).replays
    assert np.std(apart.begin("gain")) == pytest.approx(
        np.sqrt(scale.untrained * (1 - scale.untrained) / n), rel=0.1
    )
    assert abs(np.corrcoef(apart.begin("gain"), apart.score[:, -1])[0, 1]) < 0.1


def test_a_search_on_a_loss_does_what_one_on_its_mirror_does():
    """Losses 1 − score: the same runs, proposed in the same order, to the same end."""

    def score(run):
        at = 0.8 if run.size is None else 0.3 + 0.5 / (1 + (200 / run.size) ** 1.5)
        off = {0.01: -0.1, 0.1: 0.0, 1.0: -0.05}.get(run.lr, 0.0)
        return at + off + 0.01 * np.sin(7 * run.seed + (run.size or 0))

    plans = []
    for lower in (False, True):

        def up(value, lower=lower):
            return 1 - value if lower else value

        search = Search(
            d_min=10, d_max=10000, seeds=(0, 1, 2, 3, 4), lrs=lambda d: [0.01, 0.1, 1.0], rel_width=0.5, budget=45,
            scale=Scale(up(0.1), metric="loss", higher_is_better=not lower, untrained=up(0.3)), definition="gain",
            resamples=100,
        )  # fmt: skip
        subspace, baseline, made = [], [Point(None, s, 1e-4, up(0.8 + 0.01 * s)) for s in range(2)], []
        while not (plan := propose(subspace, baseline, search)).finished:
            for run in plan.runs:
                made.append(run)
                (baseline if run.size is None else subspace).append(
                    Point(run.size, run.seed, run.lr, up(score(run)))
                )
        plans.append((made, plan.reason))
    assert plans[0] == plans[1]
    assert len(plans[0][0]) > 20
