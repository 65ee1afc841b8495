"""The single-draw bound: its constant by fractions, its densities by SciPy, its promise by enumeration."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from intrinsic_cli.bounds import gaussian, theory
from intrinsic_cli.bounds.coder import delta
from intrinsic_cli.errors import ConfigError, DataError

THETA = np.random.default_rng(0).normal(0, 0.04, size=1000)


@pytest.mark.parametrize("n", [1, 2, 8, 60])
def test_xi_is_the_mean_of_exp_n_kl_whatever_the_rate(n):
    exact = sum(math.comb(n, k) * Fraction(k, n) ** k * Fraction(n - k, n) ** (n - k) for k in range(n + 1))
    assert gaussian.log_xi(n) == pytest.approx(math.log(exact), abs=1e-12)
    for p in (0.1, 0.5, 0.97):
        mean = sum(
            math.comb(n, k) * p**k * (1 - p) ** (n - k) * math.exp(n * theory.kl(k / n, p))
            for k in range(n + 1)
        )
        assert mean == pytest.approx(float(exact), rel=1e-9)


@given(st.integers(8, 20000))
def test_xi_lies_where_maurer_says(n):
    assert math.log(n) / 2 <= gaussian.log_xi(n) <= math.log(2 * math.sqrt(n))


@pytest.mark.parametrize("noise", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("name", "centre"), [("theta", 0), ("lam", 1)])
def test_a_draw_and_its_bits_by_scipy(noise, name, centre):
    told = gaussian.draw({name: THETA + centre}, noise, 3)
    at = told.tensors[name].astype(float)
    v = np.mean(THETA**2)
    scale = math.sqrt((1 - noise) * v)
    j = min(range(-200, 200), key=lambda i: abs(math.log2(scale) - i / 8))
    q = norm(centre + (1 - noise) * THETA, math.sqrt(noise * (1 - noise) * v)).logpdf(at)
    p = norm(centre, 2 ** (j / 8)).logpdf(at)
    # The densities are of the draw before it is rounded to float32.
    assert told.bits == pytest.approx((q - p).sum() / math.log(2) + len(delta(-2 * j - 1)), rel=1e-5)
    # About what rate and distortion of a Gaussian source promise; the draw's own luck is about √d.
    assert told.bits == pytest.approx(
        -500 * math.log2(noise) + len(delta(-2 * j - 1)), abs=4 * math.sqrt(1000)
    )
    assert np.mean((at - centre - THETA) ** 2) == pytest.approx(noise * v, rel=0.2)


def test_a_scale_that_hardly_moved_pays_for_its_draw():
    """Steps of float32 at 1 are many σ here. The mean of 2^−bits over draws is P's share of all there is, 1."""
    lam = {"lam": np.nextafter(np.ones(6, np.float32), np.float32(2))}
    lam["lam"][1:] = 1
    bits = np.array([gaussian.draw(lam, 0.5, seed).bits for seed in range(4000)])
    code = len(delta(2 * 30))  # of τ, at least
    assert np.mean(2.0 ** -(bits - code)) < 3


def test_a_draw_is_its_seeds_and_each_tensor_has_its_own():
    one, two, other = (gaussian.draw({"theta": THETA, "lam": THETA + 1}, 0.5, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.tensors["theta"], two.tensors["theta"])
    assert not np.array_equal(one.tensors["theta"], other.tensors["theta"])
    noise = one.tensors["theta"] - 0.5 * THETA, one.tensors["lam"] - 1 - 0.5 * THETA
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.2


@pytest.mark.long
def test_the_promise_holds_over_all_samples_and_draws():
    """Twelve rows, eight models with true rates of their own, a Q that runs after the fewest errors: the bound
    fails for less than δ of many samples and draws."""
    n, delta_ = 12, 0.2
    rates = np.array([0.05, 0.2, 0.3, 0.3, 0.5, 0.5, 0.7, 0.9])
    prior = np.full(8, 1 / 8)
    k = np.arange(n + 1)
    chance = np.array([[math.comb(n, i) * r**i * (1 - r) ** (n - i) for i in k] for r in rates])
    draws = np.random.default_rng(0)
    failed, trials = 0, 4000
    for _ in range(trials):
        errors = np.array([draws.choice(k, p=row / row.sum()) for row in chance])
        weight = np.exp(-3.0 * (errors - errors.min()))
        q = weight / weight.sum()
        i = draws.choice(8, p=q)
        bits = math.log2(q[i] / prior[i])
        failed += gaussian.bound(int(errors[i]), n, bits, delta_) < rates[i]
    assert failed / trials < delta_


def test_fewer_bits_bound_lower():
    assert gaussian.bound(100, 1000, 0.0, 0.05) < gaussian.bound(100, 1000, 50.0, 0.05) < 1
    # ln(1/δ) + ln ξ + nats is all there is to pay.
    nats = 50 * math.log(2) + gaussian.log_xi(1000) + math.log(20)
    assert gaussian.bound(100, 1000, 50.0, 0.05) == theory.kl_inverse(0.1, nats / 1000)


def test_what_has_no_posterior():
    for noise in (0, 1, -0.1, math.nan):
        with pytest.raises(ConfigError, match="noise"):
            gaussian.draw({"theta": THETA}, noise, 0)
    for tensor in (np.zeros(3), np.array([1, np.inf])):
        with pytest.raises(DataError, match="theta"):
            gaussian.draw({"theta": tensor}, 0.5, 0)
