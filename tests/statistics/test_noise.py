"""How much runs scatter: hand arithmetic, and a bootstrap of rows as oracle."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.statistics.estimate import estimate
from intrinsic_cli.statistics.logistic import fit_logistic
from intrinsic_cli.statistics.noise import measure_noise
from intrinsic_cli.statistics.points import Point, by_d, tabulate
from intrinsic_cli.statistics.rates import choose
from intrinsic_cli.statistics.rows import influence, of_answers, sampling_variance
from intrinsic_cli.statistics.study import prepare
from intrinsic_cli.statistics.targets import Scale
from intrinsic_cli.tasks.generation import Generation
from intrinsic_cli.tasks.lm import LanguageModelling
from intrinsic_cli.tasks.metrics import CLASSIFICATION, REGRESSION

METRICS = CLASSIFICATION | REGRESSION


def table_of(points: list[Point], baseline: list[Point]):
    ds, rows = by_d(points)
    return np.log2(ds), tabulate([*rows, baseline], "validation")


def noise_of(table, x, n_eval):
    return measure_noise(table, choose(table.choice, table, 0.5), x, Scale(0.5, n_eval))


def points(scores: dict[int | None, list[float | None]], lr: float = 0.1) -> list[Point]:
    return [Point(d, seed, lr, s) for d, row in scores.items() for seed, s in enumerate(row)]


def test_the_noise_at_a_d_leans_on_that_of_all():
    # Squares left over: 2 * 0.01^2, 2 * 0.03^2, none (one run), none (equal runs), over 3 degrees of freedom.
    x, table = table_of(points({16: [0.49, 0.51], 64: [0.67, 0.73], 256: [0.78]}), points({None: [0.8, 0.8]}))
    noise = noise_of(table, x, None)
    pooled = (2e-4 + 18e-4) / 3
    # Full fine-tuning's leans on it less, with two degrees of freedom.
    each = [(3 * pooled + 2e-4) / 4, (3 * pooled + 18e-4) / 4, 3 * pooled / 3, 2 * pooled / 3]
    assert noise.of_runs()[:, 0] == pytest.approx(each)
    assert noise.freedom.tolist() == [4, 4, 3, 3]
    # With 100 rows, binomial noise of 4 to 5 points stands above all of these but the second's.
    least = noise_of(table, x, 100).of_runs()[:, 0]
    assert least == pytest.approx([p * (1 - p) / 100 for p in (0.5, 0.7, 0.78, 0.8)])


def test_without_repeats_a_smooth_curve_says_what_noise_there_is():
    x = np.arange(4.0, 12)
    off = 0.02 * np.array([1, -1, 1, -1, -1, 1, -1, 1])
    curve = 0.5 + 0.3 / (1 + np.exp(-(x - 8))) + off
    at, table = table_of(
        points({2 ** int(k): [s] for k, s in zip(x, curve, strict=True)}), points({None: [0.8]})
    )
    noise = noise_of(table, at, 40_000)
    assert noise.floored
    # Eight points, three parameters, squares of at most 8 * 0.02^2.
    assert 0.01 < np.sqrt(noise.of_runs()[0, 0]) < 0.02 * np.sqrt(8 / 5) + 1e-9
    assert noise.freedom[0] == 6
    # The same with repeats that agree: the repeats say more.
    twice, table = table_of(
        points({2 ** int(k): [s, s] for k, s in zip(x, curve, strict=True)}), points({None: [0.8, 0.8]})
    )
    assert not noise_of(table, twice, 40_000).floored
    # And 200 rows explain all of it.
    assert not noise_of(table_of(points({2 ** int(k): [s] for k, s in zip(x, curve, strict=True)}),
                                 points({None: [0.8]}))[1], at, 200).floored  # fmt: skip


def test_a_rate_that_loses_and_scatters_far_more_speaks_for_itself_alone():
    """Chosen runs scatter by 0.01; at another rate, that no d chooses, by up to 0.2."""
    steady = {d: [q - 0.01, q, q + 0.01] for d, q in ((16, 0.6), (64, 0.7), (256, 0.75))}
    best = points({None: [0.79, 0.8, 0.81]}, lr=1e-4)
    alone_x, alone = table_of(points(steady), best)
    wild = {d: [0.2, 0.3, 0.4] for d in steady}
    x, table = table_of(points(steady) + points(wild, lr=0.3), best)
    noise, without = noise_of(table, x, None), noise_of(alone, alone_x, None)
    assert noise.score[:, 0] == pytest.approx(without.score[:, 0]) == [1e-4] * 4
    assert noise.score[:3, 1] == pytest.approx([0.01] * 3)
    assert noise.freedom == pytest.approx(without.freedom)
    # One that scatters a little more is pooled with the others: 6 * 4e-4 and 8 * 1e-4 over 14 degrees of freedom.
    uneven = {d: [0.48, 0.5, 0.52] for d in steady}
    pooled = (6 * 4e-4 + 8 * 1e-4) / 14
    x, table = table_of(points(steady) + points(uneven, lr=0.3), best)
    each = (10 * pooled + 2 * 1e-4 + 2 * 4e-4) / (10 + 4)
    assert noise_of(table, x, None).score[:3] == pytest.approx(np.full((3, 2), each))


def test_rows_of_a_rate_apart_do_not_explain_the_scatter_of_the_others():
    rng = np.random.default_rng(3)
    right = rng.random(500) < 0.8
    runs = []
    for d in (8, 64, 512, None):
        for seed, flips in enumerate((0, 5, 10)):  # runs that differ in five rows each
            rows = right.copy()
            rows[:flips] = ~rows[:flips]
            runs.append(Point(d, seed, 0.1, float(rows.mean()), rows=rows))
    best = [p for p in runs if p.d is None]
    tame = [p for p in runs if p.d]
    wild = [
        Point(d, seed, 0.3, float(rows.mean()), rows=rows)
        for d in (8, 64, 512)
        for seed, q in enumerate((0.1, 0.3, 0.5))
        for rows in [rng.random(500) < q]
    ]
    x, alone = table_of(tame, best)
    _, table = table_of(tame + wild, best)
    assert noise_of(table, x, None).told == pytest.approx(noise_of(alone, x, None).told)


def test_a_logistic_curve_is_found_again():
    x = np.linspace(4, 14, 9)
    fit = fit_logistic(x, 0.4 + 0.45 / (1 + np.exp(-0.9 * (x - 8.5))), np.full(9, 2), 0.4)
    assert (fit.rise, fit.middle, fit.steepness) == pytest.approx((0.45, 8.5, 0.9), rel=1e-3)
    assert fit.at(0.4 + 0.225) == pytest.approx(8.5, abs=1e-3)
    assert fit.at(0.9) is None
    assert np.trace(fit.maker) == pytest.approx(9 - 3)
    assert fit_logistic(x[:3], x[:3], np.ones(3), 0.0) is None


def test_rows_that_are_shared_cancel_and_those_that_are_not_do_not():
    rng = np.random.default_rng(0)
    hard = rng.random(4000)

    def run(d: int | None, seed: int, q: float, own: bool) -> Point:
        right = (rng.random(4000) if own else hard) < q
        return Point(d, seed, 0.1, float(right.mean()), rows=right)

    for own in (False, True):
        runs = [run(d, 0, q, own) for d, q in ((8, 0.6), (64, 0.7))]
        x, table = table_of(runs, [run(None, 0, 0.8, own)])
        noise = noise_of(table, x, 4000)
        assert noise.row == pytest.approx(np.mean([p * (1 - p) for p in (0.6, 0.7, 0.8)]) / 4000, rel=0.05)
        each = noise.rows @ noise.rows.T
        # Nested outcomes: cov(1[u < p], 1[u < q]) = p (1 - q) for p <= q.
        assert each[0, 1] * 4000 == pytest.approx(0.0 if own else 0.6 * 0.3, abs=0.02)


def test_repeats_do_not_count_their_rows_twice():
    """Runs without any noise of their own seeds: what their rows tell leaves next to nothing."""
    rng = np.random.default_rng(1)
    runs = []
    for d, q in ((8, 0.55), (64, 0.65), (512, 0.75), (None, 0.8)):
        for seed in range(6):
            right = rng.random(2000) < q
            runs.append(Point(d, seed, 0.1, float(right.mean()), rows=right))
    x, table = table_of([p for p in runs if p.d], [p for p in runs if not p.d])
    noise = noise_of(table, x, None)
    binomial = np.mean([q * (1 - q) for q in (0.55, 0.65, 0.75, 0.8)]) / 2000
    assert noise.told == pytest.approx(binomial, rel=0.05)
    assert np.mean(noise.of_means(table)) == pytest.approx(binomial / 6, rel=0.5)


@pytest.mark.long
@pytest.mark.parametrize("metric", ["accuracy", "f1", "f1_macro", "matthews", "pearson", "spearman"])
def test_influence_predicts_the_bootstrap_of_rows(metric):
    rng = np.random.default_rng(2)
    n = 800
    if metric in ("pearson", "spearman"):
        labels = rng.standard_normal(n)
        said = 0.7 * labels + rng.standard_normal(n) * 0.6
    else:
        labels = (rng.random(n) < 0.3).astype(int)
        said = np.where(rng.random(n) < 0.8, labels, rng.integers(0, 2, n))
    each = influence(metric, said, labels)
    assert each.shape == (n,)
    assert np.mean(each) == pytest.approx(METRICS[metric]({"prediction": said, "label": labels}), abs=1e-6)
    drawn = []
    for _ in range(600):
        rows = rng.integers(n, size=n)
        drawn.append(METRICS[metric]({"prediction": said[rows], "label": labels[rows]}))
    assert np.std(each) / np.sqrt(n) == pytest.approx(np.std(drawn), rel=0.15)


@pytest.mark.parametrize("metric", ["loss", "perplexity", "bits_per_byte", "exact_match"])
def test_rows_of_language_models_predict_the_bootstrap_of_rows(metric):
    """Long rows are dearer: a loss is a ratio of sums, whose noise is not that of the rows' own means."""
    rng = np.random.default_rng(3)
    n = 900
    tokens = rng.integers(2, 60, n)
    answers = {
        "nats": tokens * rng.gamma(4, 0.5, n) + 0.02 * tokens**2, "tokens": tokens, "bytes": tokens * 4 + 1,
        "exact_match": (rng.random(n) < 0.3).astype(float),
    }  # fmt: skip
    score = {**LanguageModelling.metrics, **Generation.metrics}[metric]
    each = of_answers(metric, answers)
    assert np.mean(each) == pytest.approx(score(answers), rel=1e-5)
    again = [score({name: v[rows] for name, v in answers.items()}) for rows in rng.integers(0, n, (600, n))]
    assert np.std(each, ddof=1) / np.sqrt(n) == pytest.approx(np.std(again), rel=0.12)


def test_answers_that_do_not_tell_have_no_rows():
    assert of_answers("loss", {"prediction": np.zeros(3), "label": np.zeros(3)}) is None
    assert of_answers("bleu", {"bleu": np.zeros(3)}) is None
    said, labels = np.array([1, 0, 1]), np.array([1, 1, 1])
    assert of_answers("accuracy", {"prediction": said, "label": labels}).tolist() == [True, False, True]
    assert sampling_variance("exact_match", np.array(0.2), 100) == pytest.approx(0.2 * 0.8 / 100)


def test_influence_of_three_classes_and_of_constant_answers():
    rng = np.random.default_rng(3)
    labels, said = rng.integers(0, 3, 300), rng.integers(0, 3, 300)
    assert np.mean(influence("matthews", said, labels)) == pytest.approx(matthews_corrcoef(labels, said))
    macro = f1_score(labels, said, average="macro")
    assert np.mean(influence("f1_macro", said, labels)) == pytest.approx(macro)
    assert not np.any(influence("matthews", np.zeros(300, int), labels > 0))
    with pytest.raises(ConfigError, match="'bleu'"):
        influence("bleu", said, labels)


@pytest.mark.parametrize("metric", ["f1_macro", "matthews"])
def test_influence_of_many_classes_needs_no_table_of_their_pairs(metric):
    """150 classes squared, for each of 4,500 rows, are 0.8 GB."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 150, 4500)
    said = np.where(rng.random(4500) < 0.5, labels, rng.integers(0, 150, 4500))
    tracemalloc.start()
    each = influence(metric, said, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
    assert np.mean(each) == pytest.approx(METRICS[metric]({"prediction": said, "label": labels}), abs=1e-6)


def test_the_least_variance_of_a_score():
    assert sampling_variance("accuracy", np.array(0.8), 100) == pytest.approx(0.0016)
    # With even margins matthews is 2 accuracy - 1, so its variance is four times accuracy's.
    assert sampling_variance("matthews", np.array(0.6), 100) == pytest.approx(4 * 0.0016)
    assert sampling_variance("perplexity", np.array(3.0), 100) == 0
    # Of F1, the rows that are positive count: a quarter, of which calling all so has 2 q / (1 + q) = 0.4.
    assert sampling_variance("f1", np.array(0.5), 100, 0.4) == pytest.approx(0.5 * 0.5 * 1.5 / (2 * 25))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_the_least_variance_of_f1_is_that_of_answers_of_such_rows(share):
    rng, n, hit = np.random.default_rng(5), 1000, 0.8
    labels = rng.random((2000, n)) < share
    false = hit * share * (1 / hit - 1) / (1 - share)  # as many rows are called positive as are
    said = np.where(labels, rng.random(labels.shape) < hit, rng.random(labels.shape) < false)
    f1 = 2 * (said & labels).sum(1) / (said.sum(1) + labels.sum(1))
    least = sampling_variance("f1", np.mean(f1), n, 2 * share / (1 + share))
    assert least == pytest.approx(np.var(f1), rel=0.25)


def test_a_tie_goes_to_the_smallest_rate_and_one_lucky_run_does_not_win():
    row = [*points({8: [0.7, 0.7]}, lr=0.1), *points({8: [0.7, 0.7]}, lr=0.2)]
    other = [
        *points({64: [0.6] * 5}, lr=0.1), *points({64: [0.9, 0.9]}, lr=0.2), *points({64: [0.7] * 3}, lr=0.3)
    ]  # fmt: skip
    table = tabulate([row, other], "validation")
    assert choose(table.choice, table, 0.5).tolist() == [0, 2]


@pytest.mark.parametrize("unit", [1, 10, 0.01])
def test_means_that_are_equal_but_for_rounding_are_a_tie(unit):
    """In floats the mean of three 0.8 is above that of two."""
    row = points({8: [unit * 0.8] * 2}, lr=0.1) + points({8: [unit * 0.8] * 3}, lr=0.3)
    table = tabulate([row], "validation")
    assert choose(table.choice, table, 0.5 * unit).tolist() == [0]


def test_a_rate_whose_scores_are_huge_is_wild_all_the_same():
    rows = [
        points({d: [v, v + 0.05, v - 0.05]}, lr=0.1) + points({d: [-1e9, -3e9, -2e9]}, lr=0.9)
        for d, v in ((8, -60), (64, -40), (512, -20))
    ]
    table = tabulate([*rows, points({1: [-20, -20.05, -19.95]}, lr=0.1)], "validation")
    noise = measure_noise(table, choose(table.choice, table, -70), np.log2([8, 64, 512]), Scale(0.0))
    assert noise.score[0, 0] < 0.01
    assert noise.score[0, 1] > 1e17


@pytest.mark.parametrize("value", [0.75, 0.8, 2.6])
def test_seeds_that_agree_make_no_other_rate_wild_whatever_their_mean_rounds_to(value):
    """One standard deviation of 0.05 in three cells, none in four: 3 * 2 * 0.05^2 over 14 degrees of freedom."""
    rows = [
        points({d: [v] * 3}, lr=0.1) + points({d: [v - 0.15, v - 0.1, v - 0.05]}, lr=0.2)
        for d, v in ((8, value - 0.2), (64, value - 0.1), (512, value))
    ]
    table = tabulate([*rows, [Point(None, seed, 0.1, value) for seed in range(3)]], "validation")
    x = np.log2([8, 64, 512])
    noise = measure_noise(table, choose(table.choice, table, 0.0), x, Scale(0.0))
    assert noise.score[0, 0] == pytest.approx((10 * 0.015 / 14 + 0.005) / (10 + 4))


def test_a_rate_most_of_whose_runs_failed_loses_to_any_other():
    row = [*points({8: [0.9, None, None]}, lr=0.3), *points({8: [0.55, 0.55, 0.55]}, lr=0.1)]
    table = tabulate([row], "validation")
    assert choose(table.choice, table, 0.5).tolist() == [0]
    # One failure of four counts as a score of chance: (0.9 + 0.9 + 0.9 + 0.5) / 4 = 0.8.
    for other, best in ((0.79, 1), (0.81, 0)):
        row = [*points({8: [0.9, 0.9, 0.9, None]}, lr=0.3), *points({8: [other] * 4}, lr=0.1)]
        table = tabulate([row], "validation")
        assert choose(table.choice, table, 0.5).tolist() == [best]


@pytest.mark.parametrize("kept", [False, True])
def test_rows_that_are_all_right_are_not_beyond_doubt(kept):
    """Of 10 rows that are right, one in 12 may be wrong (Laplace's rule of succession): ± 0.09 of a run."""
    rows = {"rows": np.ones(10, dtype=bool)} if kept else {}
    low = {"rows": np.arange(10) < 5} if kept else {}
    runs = [
        Point(d, s, 0.1, 0.5 if d < 400 else 1.0, **(low if d < 400 else rows))
        for d in (100, 400, 1600)
        for s in range(3)
    ]
    found = estimate(runs, [Point(None, s, 0.1, 1.0, **rows) for s in range(3)], chance=0.9, n_eval=10)
    assert found.status == "undefined"
    study = prepare(runs, [Point(None, s, 0.1, 1.0, **rows) for s in range(3)], Scale(0.5, 10))
    assert study.noise is not None
    assert study.noise.score[-1] - study.noise.told == pytest.approx(11 / 12 * 1 / 12 / 10)


def test_doubt_moves_no_score_that_is_not_at_an_end():
    scores = np.array([1 / 20, 0.3, 0.5, 19 / 20, 0.9999])
    for metric in ("accuracy", "f1_macro", "token_f1"):
        assert sampling_variance(metric, scores, 20) == pytest.approx(scores * (1 - scores) / 20)
    assert sampling_variance("matthews", scores, 20) == pytest.approx((1 - scores**2) / 20)
    positive = 20 * 0.5 / 1.5  # of which the score of calling all so is 0.5
    by_f1 = scores * (1 - scores) * (2 - scores) / (2 * positive)
    assert sampling_variance("f1", scores, 20, 0.5) == pytest.approx(by_f1)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "f1_macro", "matthews"])
def test_a_perfect_score_is_doubted_whether_its_rows_were_kept_or_not(metric):
    labels = np.arange(60) % 3 == 0
    chance = 0.5 if metric == "f1" else 0.0
    noise = []
    for kept in (False, True):
        rows = {"rows": influence(metric, labels, labels)} if kept else {}
        runs = [Point(d, 0, 0.1, 1.0, **rows) for d in (10, 100, 1000)]
        study = prepare(runs, [Point(None, 0, 0.1, 1.0, **rows)], Scale(chance, 60, metric))
        assert study.noise is not None
        noise.append(study.noise.score[-1, 0])
    assert noise[0] == noise[1] > 0
    assert sampling_variance(metric, np.array(59 / 60), 60, chance) > 0.5 * noise[0]  # of one wrong row
