"""The bound over groups against kl, Hoeffding, mpmath and exact enumeration; phrases against plain counting."""

import math
from itertools import product

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intrinsic_cli.bounds import theory
from intrinsic_cli.bounds.groups import effective, equal_texts, filled, halves, inverse, phrase_groups
from intrinsic_cli.errors import ConfigError

mpmath.mp.dps = 40


def slow(k, n, sizes, complexity):
    """The largest R with max over λ of [−λk − max over p of Σ ln(1 − p_j(1 − e^{−λs_j}))] ≤ C, by a grid of λ and
    water-filling of the p's by bisection: primal, where the code solves the dual."""

    def exponent(risk, lam):
        drop = [1 - mpmath.exp(-lam * s) for s in sizes]
        low, high = mpmath.mpf(0), mpmath.mpf(10) ** 6

        def filled(mu):
            return [
                min(1, max(0, 1 / a - 1 / (mu * s))) if mu else 0 for a, s in zip(drop, sizes, strict=True)
            ]

        for _ in range(50):
            middle = (low + high) / 2
            total = sum(s * p for s, p in zip(sizes, filled(middle), strict=True))
            low, high = (middle, high) if total < n * risk else (low, middle)
        p = filled(high)
        return -lam * k - sum(mpmath.log(1 - x * a) for x, a in zip(p, drop, strict=True))

    def reachable(risk):
        return max(exponent(risk, mpmath.mpf(2) ** (i / 4)) for i in range(-24, 12)) <= complexity

    low, high = k / n, 1.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if reachable(middle) else (low, middle)
    return high


@pytest.mark.long
@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.data(), st.floats(0.01, 500))
def test_groups_of_one_are_the_kl_bound(n, data, complexity):
    k = data.draw(st.integers(0, n))
    got = inverse(k, n, np.ones(n, int), complexity)
    kl = theory.kl_inverse(k / n, complexity / n)
    assert kl * (1 - 1e-12) <= got <= kl + 1e-6


@pytest.mark.long
@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 50), st.data(), st.floats(0.01, 50))
def test_equal_groups_are_the_chromatic_bound(groups, size, data, complexity):
    """Ralaivola et al.: kl(R̂‖R) ≤ χC/n with χ the size of the cliques."""
    n = groups * size
    k = data.draw(st.integers(0, n))
    got = inverse(k, n, np.full(groups, size), complexity)
    assert got == pytest.approx(theory.kl_inverse(k / n, complexity * size / n), abs=1e-6)


def test_room_for_more_rows_than_there_are_is_filled_from_the_largest_group():
    assert filled(7, np.array([2, 4, 1, 3])).tolist() == [4, 3]
    assert filled(8, np.array([2, 4, 1, 3])).tolist() == [4, 3, 1]
    assert filled(10, np.array([2, 4, 1, 3])).tolist() == [4, 3, 2, 1]
    # Ten rooms of ten for ten rows: at worst one group of ten, Janson's bound for it.
    assert inverse(2, 10, np.full(10, 10), 1.0) == pytest.approx(theory.kl_inverse(0.2, 1.0), abs=1e-6)
    assert effective(10, np.full(10, 10)) == 1


@pytest.mark.long
@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.data(), st.floats(0.1, 10))
def test_no_allocation_of_the_rows_to_the_rooms_is_bounded_higher(rooms, data, complexity):
    sizes = [data.draw(st.integers(0, room)) for room in rooms]
    if n := sum(sizes):
        k = data.draw(st.integers(0, n))
        own = inverse(k, n, np.array([size for size in sizes if size]), complexity)
        assert inverse(k, n, np.array(rooms), complexity) >= own - 1e-6


def test_equal_texts_are_a_group():
    assert sorted(equal_texts(["a", "b", "a", "c", "a"])) == [1, 1, 3]


@pytest.mark.long
@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.data(), st.floats(0.01, 30))
def test_no_worse_than_hoeffding_or_janson_and_no_better_than_one_row_each(sizes, data, complexity):
    n = sum(sizes)
    k = data.draw(st.integers(0, n))
    got = inverse(k, n, np.array(sizes), complexity)
    hoeffding = k / n + math.sqrt(complexity / (2 * effective(n, np.array(sizes))))
    janson = theory.kl_inverse(k / n, complexity * max(sizes) / n)
    assert got <= min(1, hoeffding) + 1e-6
    assert got <= janson + 1e-6
    assert got >= theory.kl_inverse(k / n, complexity / n) - 1e-12


@pytest.mark.long
@pytest.mark.parametrize(
    ("k", "sizes", "complexity"),
    [(3, [1, 2, 3, 4, 5], 1.0), (0, [1, 1, 6, 2], 2.0), (9, [1] * 12 + [9, 4], 3.0)],
)
def test_dual_and_primal_agree(k, sizes, complexity):
    got = inverse(k, sum(sizes), np.array(sizes), complexity)
    wanted = slow(k, sum(sizes), sizes, complexity)
    assert got == pytest.approx(wanted, abs=2e-3)  # the oracle's grid of λ is coarse
    assert got <= wanted + 2e-4


@pytest.mark.long
def test_coverage_over_every_outcome():
    """Five groups that fail as a whole, with unequal chances: over all 2^5 outcomes it fails in at most δ."""
    sizes, delta = np.array([1, 2, 2, 4, 6]), 0.05
    for chances in [(0.5,) * 5, (0.1, 0.3, 0.9, 0.6, 0.2), (0.9, 0.9, 0.9, 0.9, 0.8), (0, 0, 0, 0.95, 0.95)]:
        truth = float(sizes @ chances) / sizes.sum()
        fails = 0.0
        for outcome in product((0, 1), repeat=5):
            k = int(sizes @ outcome)
            chance = math.prod(c if o else 1 - c for c, o in zip(chances, outcome, strict=True))
            fails += chance * (inverse(k, int(sizes.sum()), sizes, math.log(1 / delta)) < truth)
        assert fails <= delta


@pytest.mark.long
@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=20), st.data())
def test_more_room_and_larger_groups_cost(sizes, data):
    n = sum(sizes)
    k = data.draw(st.integers(0, n))
    got = inverse(k, n, np.array(sizes), 2.0)
    assert inverse(k, n, np.array([sizes[0] + 3, *sizes[1:]]), 2.0) >= got - 1e-7
    assert inverse(k, n, np.array([sizes[0] + sizes[1], *sizes[2:]]), 2.0) >= got - 1e-7


@pytest.mark.parametrize(
    ("k", "n", "sizes", "complexity"), [(4, 3, [3], 1), (1, 3, [2], 1), (1, 3, [0, 3], 1), (1, 3, [3], -1)]
)
def test_what_is_no_sample_is_refused(k, n, sizes, complexity):
    with pytest.raises(ConfigError):
        inverse(k, n, np.array(sizes), complexity)


def test_phrases_by_hand():
    texts = [
        "a good film .",
        "good film",
        "good",
        "film .",
        "not good at all",
        "at all",
        "good",
        "dull",
        " a  good film .",
    ]
    # Sentences: the first (twice; with good film, good, good, film .), not good at all (good, good, at all), dull.
    assert sorted(phrase_groups(texts)) == [1, 4, 6]
    assert phrase_groups([""]).tolist() == [1]


@given(st.lists(st.text("ab ", max_size=7), min_size=1, max_size=12))
def test_phrases_by_plain_search(texts):
    words = [f" {' '.join(text.split())} " for text in texts]
    sentences = {w for w in words if not any(w in other and w != other for other in words)}
    rooms = [sum(w in sentence for w in words) for sentence in sentences]
    if all(text.split() for text in texts):
        assert sorted(phrase_groups(texts)) == sorted(rooms)
    assert phrase_groups(texts).sum() >= len(texts)


@given(st.lists(st.text("abc ", max_size=7).filter(str.strip), min_size=1, max_size=20))
def test_halves_share_no_sentence(texts):
    one, two = halves(texts)
    words = [f" {' '.join(text.split())} " for text in texts]
    sentences = {w for w in words if not any(w in other and w != other for other in words)}
    homes = [{s for s in sentences if w in s} for w in words]
    assert one == sorted(one)
    assert not set(one) & set(two)
    assert not any(homes[i] & homes[j] for i in one for j in two)
    left = set(range(len(texts))) - set(one) - set(two)
    assert all(len(homes[i]) > 1 for i in left)


def test_halves_are_halves_of_the_sentences():
    one, two = halves([f"sentence number {i} ." for i in range(1000)])
    assert len(one) + len(two) == 1000
    assert 400 < len(one) < 600
