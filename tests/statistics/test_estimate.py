"""d_t: hand arithmetic, scipy's isotonic regression as oracle, simulated studies of known truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support.scripts import load

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.statistics.bootstrap import replay
from intrinsic_cli.statistics.estimate import estimate
from intrinsic_cli.statistics.points import Point
from intrinsic_cli.statistics.rates import flattery
from intrinsic_cli.statistics.study import Study, prepare
from intrinsic_cli.statistics.targets import Scale

simulation = load("simulate_d90")


def full(*scores: float, lr: float = 1e-4) -> list[Point]:
    return [Point(None, seed, lr, score, score) for seed, score in enumerate(scores)]


def line(scores: dict[int, list[float]], lr: float = 0.1) -> list[Point]:
    return [Point(d, seed, lr, s, s) for d, row in scores.items() for seed, s in enumerate(row)]


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


def test_the_target_of_chance_starts_there():
    # 0.5 + 0.9 * 0.3 = 0.77: 7/8 of the way from 0.70 to 0.78, 2^(6 + 1.75) = 215.3.
    runs = line({16: [0.5, 0.5], 64: [0.69, 0.71], 256: [0.77, 0.79], 1024: [0.80, 0.80]})
    assert estimate(runs, full(0.79, 0.81), chance=0.5, definition="chance").d_t == 216


def test_a_loss_has_no_share_to_reach():
    """0.9 of a loss of 2 would be a better model than full fine-tuning's, and any bad one would reach it."""
    found = estimate(
        line({10: [5.0], 100: [2.1]}), full(2.0), chance=0.0, metric="loss", higher_is_better=False
    )
    assert (found.status, found.d_t, found.low, found.high) == ("undefined", None, None, None)
    assert "lower is better" in found.reason


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
        (
            line({10: [0.69], 99: [0.7]}),
            full(0.68, 0.66),
            0.684,
            "not clearly above chance (0.684): train it longer",
        ),
        (line({10: [0.1], 99: [0.2]}), full(0.3, -0.1, 0.2, -0.2), 0.0, "not clearly above chance"),
        ([], full(0.9), 0.5, "no subspace run"),
        (line({10: [0.7]}), [], 0.5, "no run of full fine-tuning"),
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
    assert flattery(runs, 0.5) == by_holdout.flattery == pytest.approx(0.04)
    assert flattery([replace(p, holdout=None) for p in runs], 0.5) is None


def test_order_of_runs_does_not_matter_and_the_seed_does():
    rng = np.random.default_rng(4)
    study = simulation.draw_study(rng, rates=3, seeds=3)
    ds = np.geomspace(study.d_min, study.d_max, 7).round().astype(int)
    runs, baseline = ([p for p, _ in study.world.grid(of, 3, rng)] for of in (map(int, ds), [None]))
    ask = {"chance": study.world.truth.chance, "n_eval": study.world.n_eval}
    shuffled = [runs[i] for i in rng.permutation(len(runs))]
    assert estimate(shuffled, baseline[::-1], **ask) == estimate(runs, baseline, **ask)
    prepared = prepare(runs, baseline, Scale(**ask))
    assert isinstance(prepared, Study)
    first, other = (replay(prepared, resamples=50, seed=s).crossings(0.0, 0.9) for s in (0, 1))
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


# A smaller version of the tables in docs/statistics.md: one that falls to 90 % is seen.
@pytest.mark.long
@pytest.mark.parametrize(
    "family",
    ["logistic", "double", "step", "stairs", "hump", "decline", "collapse_both", "heteroscedastic"],
)
def test_intervals_hold_the_truth(family):
    done = [
        pair
        for seeds in (1, 5)
        for pair in simulation.studies(25, 2001, family, draw={"seeds": seeds}, resamples=200)
    ]
    assert np.mean([simulation.holds(study.truth, found) for study, found in done]) >= 0.9
    errors = [e for study, found in done if (e := simulation.error(study.truth, found)) is not None]
    assert np.median(np.abs([*errors, 0.0])) <= 0.45
    # Covering is no feat for an interval without ends.
    assert np.mean([math.isfinite(simulation.width(found)) for _, found in done]) >= 0.2


@pytest.mark.long
@pytest.mark.parametrize("n_eval", [5463, 40000])
def test_one_seed_on_many_rows_knows_that_it_knows_little(n_eval):
    done = simulation.studies(20, 2004, "exponential", draw={"seeds": 1, "n_eval": n_eval}, resamples=200)
    assert np.mean([simulation.holds(study.truth, found) for study, found in done]) >= 0.9
    assert np.mean([found.floored for _, found in done]) >= 0.5


@pytest.mark.long
def test_a_hump_is_not_called_above_the_grid_nor_a_plateau_below_it():
    def said(family, seeds):
        return [found for _, found in simulation.studies(25, 2005, family, draw={"seeds": seeds})]

    humps = [found for seeds in (1, 3) for found in said("hump", seeds)]
    assert np.mean([found.status == "above_grid" for found in humps]) <= 0.08
    assert any(found.falls_at for found in humps)
    plateaus = [found for seeds in (1, 3) for found in said("plateau", seeds)]
    assert np.mean([found.high is None for found in plateaus]) >= 0.95


def test_choosing_on_holdout_holds_the_truth_too():
    done = simulation.studies(40, 2006, selection="holdout", resamples=200)
    assert np.mean([simulation.holds(study.truth, found) for study, found in done]) >= 0.92


@pytest.mark.parametrize("where", ["below_grid", "above_grid"])
def test_truths_beyond_the_grid_are_called_so(where):
    done = simulation.studies(60, 2002, where=where, resamples=1)
    assert np.mean([found.status == where for _, found in done]) >= 0.95


def test_targets_under_chance_are_called_undefined():
    assert np.mean([found.status == "undefined" for found in simulation.undefined_studies(60, 2003)]) >= 0.95


@pytest.mark.parametrize(("metric", "rates", "status"), [
    ("pearson", 1, "below_grid"), ("pearson", 7, "undefined"), ("accuracy", 7, "below_grid"),
])  # fmt: skip
def test_the_best_of_several_rates_has_to_beat_a_correlation_of_0_by_more(metric, rates, status):
    """A run of 0.08 has a standard error of 0.03: 1.9 of them count (6 degrees of freedom), of seven rates 3.4."""
    best = {"pearson": 0.08, "accuracy": 0.54}[metric]
    chance, low = (0.0, 0.05) if metric == "pearson" else (0.5, 0.48)
    baseline = [Point(None, 0, 1e-4 * 3**j, best if not j else low) for j in range(rates)]
    found = estimate(
        line({8: [best], 64: [best]}),
        baseline,
        chance=chance,
        metric=metric,
        n_eval=1000,
        definition="chance",
    )
    assert found.status == status


@pytest.mark.parametrize("last", [0.899, 0.901])
def test_a_curve_that_comes_back_from_a_dip_has_reached_its_target_before(last):
    scores = dict(zip(
        [2**k for k in range(3, 13)], [0.55, 0.70, 0.89, 0.90, 0.90, 0.84, 0.78, 0.84, 0.90, last], strict=True,
    ))  # fmt: skip
    noise = (-0.01, -0.005, 0, 0.005, 0.01)
    runs = line({d: [s + n for n in noise] for d, s in scores.items()})
    found = estimate(runs, full(*(0.9 + n for n in noise)), chance=0.5, n_eval=872, definition="chance")
    # 0.86 lies 16/19 of the way from 16 to 32.
    assert found.d_t == math.ceil(16 * 2 ** (16 / 19))
    assert found.falls_at == (128 if last < 0.9 else 256)
    assert found.slower_lr == pytest.approx(0.1 * math.sqrt(64 / found.falls_at))


@pytest.mark.parametrize("unit", [10, 1000])
def test_the_unit_of_a_loss_changes_nothing(unit):
    def study(unit):
        scores = {8: (2.8,) * 3, 64: (2.7,) * 3, 512: (2.6,) * 3, 4096: (2.6, 2.61)}
        runs = [
            Point(d, seed, lr, unit * (v + more * (1 + seed)))
            for d, row in scores.items() for lr, more in ((0.1, 0), (0.3, 0.05)) for seed, v in enumerate(row)
        ]  # fmt: skip
        base = [Point(None, seed, 0.1, unit * 2.6) for seed in range(3)]
        found = estimate(runs, base, chance=3.0 * unit, metric="loss", higher_is_better=False, n_eval=400)
        return found.status, found.d_t, found.low, found.high, found.low_open, found.high_open

    assert study(unit) == study(1)


@pytest.mark.long
def test_intervals_hold_where_ds_are_a_decade_apart():
    """A logistic curve bends inside such a gap, and crosses up to an octave before the line does."""
    held = []
    for i in range(150):
        rng = np.random.default_rng(i)
        truth, slope = rng.uniform(4.3, 15.6), rng.uniform(0.7, 3)

        def observed(d, rng=rng, truth=truth, slope=slope):
            mean = 0.5 + 0.4 / (1 + math.exp(-(math.log2(d) - truth) * slope - math.log(9))) if d else 0.9
            return rng.binomial(5000, min(mean + 0.005 * rng.standard_normal(), 1.0)) / 5000

        runs = line({10**j: [observed(10**j) for _ in range(5)] for j in range(1, 6)})
        found = estimate(
            runs, full(*(observed(None) for _ in range(5))), chance=0.5, n_eval=5000, definition="chance",
            resamples=300,
        )  # fmt: skip
        low = 0 if found.low_open else found.low
        held.append(low <= math.ceil(2**truth) and (found.high_open or found.high >= math.floor(2**truth)))
    assert np.mean(held) >= 0.95


def test_a_fall_at_large_d_takes_no_part():
    runs = line(
        {100: [0.6, 0.6], 1000: [0.80, 0.80], 3000: [0.82, 0.82], 10_000: [0.72, 0.72], 30_000: [0.69, 0.69]}
    )
    found = estimate(runs, full(0.88, 0.88), chance=0.5, n_eval=2000)
    # 0.792 lies 0.192 / 0.2 of the way from d=100 (0.60) to d=1000 (0.80).
    assert (found.status, found.d_t) == ("estimated", math.ceil(100 * 10**0.96))
    assert found.falls_at == 10_000
    # The rate 0.1 of d=3000 (the best d), scaled by 1 / sqrt(d).
    assert found.slower_lr == pytest.approx(0.1 * math.sqrt(0.3))
    assert [level.fit for level in found.curve] == pytest.approx([0.6, 0.8, 0.82, 0.82, 0.82])


def test_of_a_gradual_fall_all_takes_no_part():
    """The target, 0.81, is reached at 200: what follows says that the rate is too high there."""
    means = [0.60, 0.83, 0.85, 0.80, 0.75, 0.70, 0.65, 0.60]
    runs = line({100 << k: [mean] * 3 for k, mean in enumerate(means)})
    found = estimate(runs, full(0.90, 0.90, 0.90), chance=0.5, n_eval=1000)
    # 0.81 lies 0.21 / 0.23 of the octave from d=100 to d=200.
    assert (found.status, found.d_t, found.falls_at) == (
        "estimated",
        math.ceil(100 * 2 ** (0.21 / 0.23)),
        800,
    )
    assert [level.d for level in found.grid] == [100, 200, 400]


def test_d_beyond_a_fall_was_not_tried():
    """The best d, 400, is under the target, and the next ones fall: d_t is more than 400, perhaps less than 800."""
    means = {100: 0.60, 200: 0.70, 400: 0.78, 800: 0.65, 1600: 0.62}
    runs = line({d: [mean - 0.005, mean, mean + 0.005] for d, mean in means.items()})
    found = estimate(runs, full(0.90, 0.90, 0.90), chance=0.5, n_eval=1000)
    assert (found.status, found.falls_at) == ("above_grid", 800)
    assert found.reason.startswith("d=400 does not reach")
    assert (found.low, found.high_open) == (400, True)
    assert found.grid[-1].d == 400


@pytest.mark.parametrize("d", [3, 1_000_000, 50_000_017, 10**9 + 7])
def test_a_d_that_was_run_is_no_other_one(d):
    runs = line({d: [0.8, 0.8], 2 * d: [0.8, 0.8]})
    found = estimate(runs, full(0.8, 0.8), chance=0.5, n_eval=100_000)
    assert (found.status, found.high) == ("below_grid", d)
    low = estimate(line({d // 2: [0.5, 0.5], d: [0.6, 0.6]}), full(0.8, 0.8), chance=0.5, n_eval=100_000)
    assert (low.status, low.low) == ("above_grid", d)


def test_a_dip_within_its_noise_is_still_pooled():
    runs = line({100: [0.6], 1000: [0.80], 3000: [0.82], 10_000: [0.80], 30_000: [0.81]})
    assert estimate(runs, full(0.88), chance=0.5, n_eval=500).falls_at is None


def test_runs_that_failed_count_against_their_rate():
    good = {16: 0.55, 64: 0.62, 256: 0.66, 1024: 0.70, 4096: 0.78}
    runs = line({d: [s - 0.004, s, s + 0.004] for d, s in good.items()}, lr=0.1)
    # The rate 0.3 is better where it does not diverge, which it does for one seed of three at every d.
    fast = line({d: [s + 0.06, s + 0.064] for d, s in good.items()}, lr=0.3)
    died = [Point(d, 2, 0.3, None) for d in good]
    baseline = full(0.796, 0.8, 0.804)
    alone, beside = (
        estimate(part, baseline, chance=0.5, n_eval=2000) for part in (runs, [*runs, *fast, *died])
    )
    assert [level.lr for level in beside.curve] == [0.1] * 5
    assert (beside.d_t, beside.failed) == (alone.d_t, 5)
    without = estimate([*runs, *fast], baseline, chance=0.5, n_eval=2000)
    assert without.d_t < alone.d_t / 2
    # A d where every run failed has no place on the curve.
    lost = estimate([*runs, Point(9000, 0, 0.1, None)], baseline, chance=0.5, n_eval=2000)
    assert (lost.d_t, lost.curve[-1].d, lost.failed) == (alone.d_t, 4096, 1)


def test_nothing_is_left_where_all_runs_failed():
    dead = [Point(None, seed, 1e-4, None) for seed in range(2)]
    assert "every run of full fine-tuning failed" in estimate(line({9: [0.7]}), dead, chance=0.5).reason
    assert "every subspace run failed" in estimate([Point(9, 0, 0.1, None)], full(0.9), chance=0.5).reason


def test_one_collapsed_run_of_three_is_told_apart():
    runs = line(
        {d: [s - 0.01, s, s + 0.01] for d, s in {16: 0.6, 64: 0.66, 256: 0.7, 1024: 0.76, 4096: 0.79}.items()}
    )
    sound = estimate(runs, full(0.79, 0.81), chance=0.5, n_eval=872)
    fell = estimate(runs, full(0.79, 0.81, 0.5), chance=0.5, n_eval=872)
    assert (sound.full_collapsed, sound.mean_d_t) == (0, None)
    assert (fell.full_collapsed, fell.full_runs, fell.full_score) == (1, 2, pytest.approx(0.8))
    assert fell.d_t == sound.d_t
    # With the mean of all three, 0.7, the target is 0.63: half of the way from d=16 to d=64.
    assert fell.mean_d_t == 32


def test_the_mean_of_all_runs_leaves_out_what_lies_behind_a_fall():
    """As the number beside it does: pooled with them, no d would reach the target."""
    rising = {10: [0.55] * 4, 40: [0.7] * 4, 160: [0.82, 0.82, 0.83, 0.5], 640: [0.84] * 4}
    runs = line(rising | {2560: [0.7, 0.71, 0.7, 0.71], 10240: [0.6, 0.61, 0.6, 0.61]})
    options = {"chance": 0.5, "n_eval": 872, "threshold": 0.82}
    found = estimate(runs, full(0.88, 0.882, 0.884), **options)
    assert (found.falls_at, found.collapsed) == (2560, 1)
    before = estimate([p for p in runs if p.d < 2560], full(0.88, 0.882, 0.884), **options)
    assert before.mean_d_t is not None
    assert found.mean_d_t == before.mean_d_t


def test_matthews_has_the_noise_of_its_rows():
    runs = line({10: [0.0], 100: [0.01], 1000: [0.03], 10_000: [0.05]})
    lucky = estimate(runs, full(0.02), chance=0.0, n_eval=872, metric="matthews")
    assert (lucky.status, lucky.low) == ("undefined", None)
    assert "not clearly above chance" in lucky.reason
    # 1,043 rows of CoLA: a score of 0.5 has a standard deviation of at least sqrt(0.75 / 1043), 0.027.
    equal = line({100: [0.2, 0.2], 1000: [0.35, 0.35], 10_000: [0.6, 0.6], 30_000: [0.65, 0.65]})
    found = estimate(equal, full(0.55, 0.55), chance=0.0, n_eval=1043, metric="matthews")
    assert found.noise > 0.02
    assert found.high / found.low > 1.5


def test_rows_that_runs_share_narrow_the_interval():
    """Where all runs err on the same rows, most of the rows' noise cancels between a curve and its target."""
    wide = []
    for rows in (False, True):
        done = simulation.studies(
            25, 2007, "exponential", draw={"rho": 0.9, "seeds": 2, "n_eval": 408}, rows=rows
        )
        wide.append([simulation.width(found) for _, found in done])
        assert np.mean([simulation.holds(study.truth, found) for study, found in done]) >= 0.84
    closed = np.isfinite(wide[0]) & np.isfinite(wide[1])
    assert np.median(np.array(wide[1])[closed] / np.array(wide[0])[closed]) < 0.95


def test_a_share_of_a_negative_score_is_no_target():
    """As of a log-likelihood: 0.9 of −2 is −1.8, which is better."""
    found = estimate(
        line({10: [-9.0], 100: [-5.0], 1000: [-2.1], 3000: [-2.0]}), full(-2.0, -2.01), chance=-10.0,
        metric="loglik",
    )  # fmt: skip
    assert (found.status, found.d_t) == ("undefined", None)
    assert "is negative, and a share of it says nothing; count from chance" in found.reason
    from_chance = estimate(
        line({10: [-9.0], 100: [-5.0], 1000: [-2.1], 3000: [-2.0]}), full(-2.0, -2.01), chance=-10.0,
        metric="loglik", definition="chance",
    )  # fmt: skip
    assert from_chance.status == "estimated"


def of_872_rows(rng):
    """One run at each of ten d's, of which only the rows are noise."""
    ds = [2**k for k in range(4, 14)]
    p = 0.5 + 0.35 / (1 + np.exp(-0.9 * (np.log(ds) - 6)))
    return [Point(d, 0, 0.1, rng.binomial(872, q) / 872) for d, q in zip(ds, p, strict=True)]


@pytest.mark.parametrize("rates", [1, 3, 6])
def test_the_rates_of_full_fine_tuning_say_nothing_of_the_noise_of_a_curve(rates):
    """Scores whose only noise is that of their rows: the smooth curve leaves more in 5 % of studies (SURE)."""
    floored = 0
    for i in range(60):
        rng = np.random.default_rng([77, i])
        runs = of_872_rows(rng)
        whole = [Point(None, 0, 10.0**-j, rng.binomial(872, 0.85) / 872) for j in range(rates)]
        floored += estimate(runs, whole, chance=0.5, n_eval=872, resamples=50).floored
    assert floored <= 9  # of 60; 3 expected, and 10 or more in 1 of 1,000


def test_a_rate_that_was_tried_at_some_d_s_alone_is_no_noise_of_the_others():
    for slower in (0.03, 0.3):
        floored = 0
        for i in range(30):
            runs = of_872_rows(np.random.default_rng([78, i]))
            runs += [Point(d, 0, slower, 0.55) for d in (256, 512)]
            floored += estimate(runs, full(0.85), chance=0.5, n_eval=872, resamples=50).floored
        assert floored <= 6  # of 30; 1.5 expected
