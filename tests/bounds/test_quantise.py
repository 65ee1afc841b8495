"""1-D k-means against dynamic programming over all cuts, and its promises on any θ."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from intrinsic_cli.bounds.quantise import assign, quantise
from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.spec import stream_seed


def optimal_error(theta, levels):
    """Smallest squared error of any K-means of θ, by dynamic programming over all cuts of the sorted row."""
    theta = np.sort(theta)
    one, two = (np.concatenate([[0], np.cumsum(theta**power)]) for power in (1, 2))
    i, j = np.meshgrid(*2 * [np.arange(theta.size + 1)], indexing="ij")
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.where(
            j > i, two[j] - two[i] - (one[j] - one[i]) ** 2 / (j - i), np.where(j == i, 0, np.inf)
        )
    best = cost[0]
    for _ in range(levels - 1):
        best = (best[:, None] + cost).min(axis=0)
    return best[-1]


@pytest.mark.long
@pytest.mark.parametrize("levels", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["a", "b", "scales"])
def test_no_cut_is_better(levels, name):
    theta = np.random.default_rng(stream_seed(0, name)).standard_normal(200)
    if name == "scales":  # θ near 0 and λ near 1, as in a SAID run
        theta = np.concatenate([0.02 * theta[:180], 1 + 0.05 * theta[180:]])
    symbols, codebook = quantise(theta, levels)
    error = np.square(theta - codebook[symbols]).sum()
    rounding = theta.size * (np.abs(theta).max() * 2.0**-11) ** 2  # of the levels to float16
    assert error == pytest.approx(optimal_error(theta, levels), abs=rounding)


@pytest.mark.parametrize("levels", [2, 4, 8])
def test_a_mirrored_codebook_is_the_best_of_its_kind(levels):
    theta = np.random.default_rng(stream_seed(0, "mirrored")).standard_normal(200)
    symbols, codebook = quantise(theta, levels, mirrored=True)
    assert np.array_equal(codebook, -codebook[::-1])
    assert codebook.size == levels
    error = np.square(theta - codebook[symbols]).sum()
    assert error == pytest.approx(optimal_error(np.abs(theta), levels // 2), rel=1e-4)
    assert np.array_equal(assign(theta, codebook), symbols)


def test_where_there_is_no_mirror_levels_are_free():
    theta = np.array([0.0, 0.0, 0.0, 0.0, 3.0])
    for levels in (3, 4):  # an odd number; and a level at 0
        for one, two in zip(quantise(theta, levels, mirrored=True), quantise(theta, levels), strict=True):
            assert np.array_equal(one, two)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50),
    st.integers(1, 9),
)
@example([2050.8, 2051.4, 2054.2, 2054.5, 2055.0], 4)  # float16 counts in twos here
def test_quantise_assigns_the_nearest_of_at_most_k_levels(values, levels):
    theta = np.array(values)
    symbols, codebook = quantise(theta, levels)
    assert (symbols.dtype, codebook.dtype) == (np.uint8, np.float16)
    assert 1 <= codebook.size <= levels
    assert (np.diff(codebook.astype(np.float64)) > 0).all()
    assert set(symbols.tolist()) == set(range(codebook.size)), "a level that nothing uses is not paid for"
    distance = np.abs(theta[:, None] - codebook.astype(np.float64))
    assert np.array_equal(distance[np.arange(theta.size), symbols], distance.min(axis=1))
    assert np.array_equal(assign(theta, codebook), symbols)


def test_few_distinct_values_are_kept_exactly():
    theta = np.array([1.5, -0.25, 1.5, 0, 0, -0.25])
    symbols, codebook = quantise(theta, 4)
    assert codebook.tolist() == [-0.25, 0, 1.5]
    assert codebook[symbols].tolist() == theta.tolist()


@pytest.mark.parametrize(
    ("theta", "levels", "error", "match"),
    [
        ([np.nan], 2, DataError, "finite"),
        ([[1.0]], 2, DataError, r"\(1, 1\)"),
        ([1e6], 2, DataError, "beyond float16"),
        ([1.0], 0, ConfigError, "levels=0"),
        ([1.0], 257, ConfigError, "levels=257"),
    ],
)
def test_what_quantise_refuses(theta, levels, error, match):
    with pytest.raises(error, match=match):
        quantise(np.array(theta), levels)
