"""p of a rank correlation within tasks, against a count of all orders by hand and studies without a trend."""

from __future__ import annotations

from itertools import permutations, product
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test, rankdata, spearmanr

from intrinsic_cli.statistics import ranks


def correlate(x, y, of=(), most=None):
    return ranks.correlate(x, y, y if most is None else most, of)


def together(x, y, of):
    """Pearson's correlation of the ranks within each task, less their means; by a loop."""
    a, b = [], []
    for task in sorted({task for _, task in of}):
        mine = [i for i, (_, t) in enumerate(of) if t == task]
        for values, out in ((x, a), (y, b)):
            ranks = [
                sum(values[j] < values[i] for j in mine) + sum(values[j] == values[i] for j in mine) / 2
                for i in mine
            ]
            out += [rank - np.mean(ranks) for rank in ranks]
    return np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))


def by_hand(x, y, of, groups):
    """The share of orders, each group of models among themselves, with at least that |correlation|."""
    at = {pair: i for i, pair in enumerate(of)}
    found, count, all_orders = abs(together(x, y, of)), 0, 0
    for orders in product(*(permutations(group) for group in groups)):
        swap = {
            a: b
            for group, order in zip(groups, orders, strict=True)
            for a, b in zip(group, order, strict=True)
        }
        moved = [y[at[swap[model], task]] for model, task in of]
        count += abs(together(x, moved, of)) >= found - 1e-12
        all_orders += 1
    return count / all_orders


def test_models_of_one_task_are_as_before():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=5), rng.integers(0, 4, 5).astype(float)
    found = correlate(x, y)
    oracle = permutation_test((x,), lambda a: abs(spearmanr(a, y).statistic), permutation_type="pairings",
                              alternative="greater", n_resamples=120)  # fmt: skip
    assert (found.p, found.exact, found.within) == (pytest.approx(oracle.pvalue), True, None)
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)


@pytest.mark.parametrize("seed", range(4))
def test_models_change_places_within_tasks(seed):
    """Three models on both tasks, two on one alone, and one on the other alone, which keeps its place."""
    of = [(m, "rte") for m in "abcde"] + [(m, "sst2") for m in "fabc"]
    rng = np.random.default_rng(seed)
    x = np.array([rng.normal() + 9 * (task == "rte") for _, task in of])
    y = np.array([float(rng.integers(0, 6)) + 9 * (task == "rte") for _, task in of])
    found = correlate(x, y, of)
    assert found.within == pytest.approx(together(x, y, of))
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    assert (found.p, found.exact) == (pytest.approx(by_hand(x, y, of, ["abc", "de", "f"])), True)


def test_an_undefined_one_is_the_worst_of_its_task():
    of = [(m, t) for t in ("rte", "sst2") for m in "abc"]
    x = np.array([1.0, 2, 3, 11, 12, 13])
    found = correlate(x, np.array([5.0, 9, np.inf, 1, 2, 3]), of, np.array([5.0, np.inf, np.inf, 1, 2, 3]))
    assert (found.within, found.undefined) == (pytest.approx(1), 1)
    assert found.p == pytest.approx(2 / 6)


def surely_above(a, b):
    """Of what two d_t are at least and at most, whether each that may be a is above each that may be b; one that
    is known where the other begins or ends is above or below it."""
    worst = (np.inf, np.inf)
    if a == worst or b == worst:
        return a == worst and b != worst
    return a[0] >= b[1] and a != b


between = st.one_of(
    st.integers(0, 4).map(lambda at: (float(at), float(at))),
    st.integers(0, 4).map(lambda end: (float(end), np.inf)),
    st.integers(0, 4).map(lambda end: (-np.inf, float(end))),
    st.just((np.inf, np.inf)),
)


@given(st.lists(between, min_size=2, max_size=9))
def test_a_rank_counts_what_surely_lies_below_and_above(pairs):
    least, most = np.array(pairs).T
    assert ranks.ranks(least, most).tolist() == [
        sum(surely_above(a, b) - surely_above(b, a) for b in pairs) / 2 for a in pairs
    ]


@given(st.lists(st.integers(0, 5).map(float), min_size=2, max_size=9))
def test_ranks_of_numbers_are_scipys(values):
    found = ranks.ranks(np.array(values), np.array(values))
    assert found == pytest.approx(rankdata(values) - (len(values) + 1) / 2)


def test_one_unknown_order_leaves_the_others_their_ranks():
    """The first lies somewhere above 2, so that it is above 1 and 2, and neither above nor below 5 and 9."""
    least, most = np.array([2.0, 9, 5, 2, 1]), np.array([np.inf, 9, 5, 2, 1])
    found = correlate(np.arange(5.0), least, (), most)
    scores = np.array([1, 1.5, 0.5, -1, -2])
    assert found.rho == pytest.approx(np.corrcoef(np.arange(5), scores)[0, 1])
    every = [abs(np.dot(order, scores)) for order in permutations(range(-2, 3))]
    assert found.p == pytest.approx(np.mean(np.array(every) >= abs(np.dot(range(-2, 3), scores)) - 1e-9))


def test_few_studies_without_a_trend_are_called_one_where_curves_end_early():
    """Falls come as they like: each of six curves ends at a place of its own, which has to do with nothing."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        d_t, end = rng.normal(size=6), rng.normal(1, 1, size=6)
        least, most = np.minimum(d_t, end), np.where(d_t > end, np.inf, d_t)
        found.append(correlate(np.arange(6.0), least, (), most).p)
    assert np.mean(np.array([1 if p is None else p for p in found]) <= 0.05) <= 0.07


def test_without_models_of_the_same_tasks_there_is_no_p():
    of = [("a", "rte"), ("b", "rte"), ("a", "sst2"), ("c", "sst2"), ("b", "mrpc"), ("d", "mrpc")]
    found = correlate(np.arange(6.0), np.array([1.0, 2, 4, 3, 5, 6]), of)
    assert (found.p, found.reason) == (None, "no two models were run on the same tasks")
    assert found.rho is not None
    alone = correlate(np.arange(3.0), np.array([3.0, 1, 2]), [("a", "rte"), ("b", "sst2"), ("c", "mrpc")])
    assert (alone.p, alone.within, alone.reason) == (None, None, "within tasks all ranks are tied")


def test_nine_models_are_counted_in_full():
    """Of 9! orders of distinct ranks two have |rho| = 1; of four that share the worst rank 4! times as many."""
    steps = np.arange(9.0)
    found = correlate(steps, 7 - steps)
    assert (found.p, found.exact) == (pytest.approx(2 / factorial(9)), True)
    tied = correlate(steps, np.where(steps < 4, 9, -steps))
    assert (tied.p, tied.exact) == (pytest.approx(2 * factorial(4) / factorial(9)), True)


def test_random_orders_are_near_all_of_them():
    """Ten models have too many orders to count; a trend that a normal's tail gives within a few per cent."""
    rng = np.random.default_rng(1)
    of = [(str(m), t) for t in ("rte", "sst2") for m in range(10)]
    x = rng.normal(size=20)
    y = x + 1.5 * rng.normal(size=20)
    found = correlate(x, y, of)
    assert found.exact is False
    orders = np.array([rng.permutation(10) for _ in range(4000)])
    sums = [abs(together(x, np.concatenate([y[:10][o], y[10:][o]]), of)) for o in orders]
    assert found.p == pytest.approx(np.mean(np.array(sums) >= abs(found.within) - 1e-12), abs=0.02)


def without_a_trend(rng, models, tasks):
    """x and d_t that have nothing to do with each other, each with a level of its model and one of its task."""
    sides = [rng.normal(size=(models, 1)) + 3 * rng.normal(size=(1, tasks)) + 0.5 * rng.normal(size=(models, tasks))
             for _ in range(2)]  # fmt: skip
    return (side.ravel() for side in sides)


def test_levels_of_tasks_and_of_models_make_no_trend():
    rng = np.random.default_rng(0)
    of = [(str(m), str(t)) for m in range(5) for t in range(3)]
    found = [correlate(*without_a_trend(rng, 5, 3), of).p for _ in range(400)]
    assert np.mean(np.array(found) <= 0.05) <= 0.07
