"""Bounds against the issue's vectors, against mpmath at 60 digits, and against each other."""

import dataclasses
import json
import math

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from intrinsic_cli.bounds import theory as b
from intrinsic_cli.errors import ConfigError

mpmath.mp.dps = 60

# Ê, KL in nats (ln(1/δ) not in it, δ = 0.05), n, k, then kl⁻¹, binomial, McAllester, Hoeffding, Catoni.
VECTORS = [
    (0.15, 416.8, 3668, 550, 0.36497, 0.36383, 0.3916, 0.3892, 0.3716),
    (0.15, 1731.2, 363846, 54576, 0.18703, 0.18697, 0.1990, 0.1988, 0.1873),
]


def exact_kl(q, p):
    q, p = mpmath.mpf(q), mpmath.mpf(p)
    parts = [(q, p), (1 - q, 1 - p)]
    if any(x > 0 and y == 0 for x, y in parts):
        return mpmath.inf
    return sum(x * mpmath.log(x / y) for x, y in parts if x > 0)


def exact_log_cdf(k, n, p):
    p = mpmath.mpf(p)
    return mpmath.log(sum(mpmath.binomial(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)))


@pytest.mark.parametrize(
    ("q", "kl", "n", "k", "inverse", "tail", "mcallester", "hoeffding", "catoni"), VECTORS
)
def test_vectors(q, kl, n, k, inverse, tail, mcallester, hoeffding, catoni):
    complexity = kl + math.log(1 / 0.05)
    assert round(b.kl_inverse(q, complexity / n), 5) == inverse
    assert round(b.binomial_inverse(k, n, complexity), 5) == tail
    assert round(b.mcallester(q, kl, n, 0.05), 4) == mcallester
    assert round(b.hoeffding(q, kl, n, 0.05), 4) == hoeffding
    assert round(b.catoni(q, kl, n, 0.05), 4) == catoni


def test_small_vectors():
    assert b.kl_inverse(0, 0.1) == pytest.approx(0.0951626, abs=5e-8)
    assert b.kl_inverse(0.1, 0.05) == pytest.approx(0.2200786, abs=5e-8)


@given(st.floats(0, 1), st.floats(0, 1))
def test_kl_is_exact_to_float64(q, p):
    exact = exact_kl(q, p)
    got = b.kl(q, p)
    if mpmath.isinf(exact):
        assert got == math.inf
    else:
        # 1 − p is rounded before its logarithm is taken, which is all the error there is.
        assert abs(got - exact) <= 1e-14 * (1 + abs(exact))


@settings(max_examples=200)
@given(st.floats(0, 1), st.floats(1e-12, 50))
@example(0.99999, 1e-12)
def test_kl_inverse_brackets_the_exact_root(q, c):
    p = b.kl_inverse(q, c)
    assert q <= p <= 1
    if p < 1:
        assert exact_kl(q, p) >= c, "too small to be a bound"
    if p < 1 - 1e-6:  # nearer to 1 float64 has too few numbers to ask
        below = min(q + (p - q) * (1 - 1e-8), p - 2 * math.ulp(p))
        assert exact_kl(q, below) < c, "larger than it needs to be"


@pytest.mark.parametrize(
    ("q", "c", "expected"),
    [(0.3, 0, 0.3), (0, 0, 0), (1, 0.2, 1), (0.3, 1e4, 1), (0.3, math.inf, 1), (0, 2, 1 - math.exp(-2))],
)
def test_kl_inverse_at_the_edges(q, c, expected):
    assert b.kl_inverse(q, c) == pytest.approx(expected, rel=1e-15)


@pytest.mark.long
@settings(max_examples=100, deadline=None)
@given(st.integers(1, 120), st.data(), st.floats(0.05, 400))
def test_binomial_inverse_brackets_the_exact_root(n, data, complexity):
    k = data.draw(st.integers(0, n - 1))
    p = b.binomial_inverse(k, n, complexity)
    if p < 1:
        assert exact_log_cdf(k, n, p) <= -complexity, "too small to be a bound"
    if p < 1 - 1e-6:
        assert exact_log_cdf(k, n, p * (1 - 1e-9)) > -complexity, "larger than it needs to be"


def test_binomial_inverse_at_the_edges():
    assert b.binomial_inverse(7, 7, 3.0) == 1
    assert b.binomial_inverse(0, 1000, 5.0) == pytest.approx(1 - math.exp(-0.005), rel=1e-9)


def test_scipy_underflows_to_a_bound_that_is_too_small():
    """Why the tail is summed in logs: the same bisection over scipy's logcdf ends 0.014 below the truth."""
    _, kl, n, k, _, tail, *_ = VECTORS[1]
    complexity = kl + math.log(20)
    low, high = k / n, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if binom.logcdf(k, n, middle) >= -complexity else (low, middle)
    assert binom.logcdf(k, n, tail) == -np.inf
    # One term of the cdf is already a lower bound of it: at scipy's p the tail is far more likely than
    # exp(−complexity), so a larger p is still possible and scipy's is no upper bound.
    assert binom.logpmf(k, n, high) > -complexity + 500
    assert b.binomial_inverse(k, n, complexity) > high + 0.01


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 5000), st.data(), st.floats(0, 5000), st.floats(1e-6, 0.5))
def test_order_of_the_bounds(n, data, bits, delta):
    errors = data.draw(st.integers(0, n))
    risk = {bound.kind: bound.risk for bound in b.bounds(errors, n, bits, 0.5, delta)}
    assert risk["binomial"] <= risk["kl"] + 1e-9
    assert risk["kl"] <= risk["catoni"] + 1e-9
    assert risk["kl"] <= risk["hoeffding"] + 1e-9 <= risk["mcallester"] + 2e-9
    assert all(errors / n <= value <= 1 for kind, value in risk.items() if kind != "binomial")


def test_more_bits_cost_and_more_rows_pay():
    def risk(n, bits):
        return np.array([bound.risk for bound in b.bounds(n // 10, n, bits, 0.5)])

    assert (risk(1000, 100) < risk(1000, 200)).all()
    assert (risk(10_000, 100) < risk(1000, 100)).all()


@pytest.mark.long
def test_coverage_of_the_binomial_tail():
    """Over Bin(200, 0.3) the bound at δ = 0.05 may fail in at most 5 % of the draws: summed exactly."""
    n, truth = 200, 0.3
    fails = [k for k in range(n + 1) if b.binomial_inverse(k, n, math.log(20)) < truth]
    chance = sum(math.comb(n, k) * truth**k * (1 - truth) ** (n - k) for k in fails)
    assert 0.03 < chance <= 0.05


def test_bound_record():
    tight, loose = (b.bounds(550, 3668, bits, majority_error=0.38)[0] for bits in (600, 700))
    assert (tight.kind, tight.n, tight.bits, tight.delta) == ("binomial", 3668, 600, 0.05)
    assert not tight.vacuous
    assert loose.vacuous
    assert dataclasses.replace(tight, majority_error=tight.risk).vacuous, "a tie does not beat the majority"
    assert json.loads(json.dumps(dataclasses.asdict(tight)))["vacuous"] is False


def test_search_is_paid_like_bits():
    bits = b.search_bits({"d": 8, "K": 4, "seed": 1})
    assert bits == {"d": 3, "K": 2, "seed": 0}
    # A union bound over 32 hypotheses is the same as δ / 32.
    paid = b.bounds(100, 1000, 64 + sum(bits.values()), 0.5)[0].risk
    assert paid == pytest.approx(b.bounds(100, 1000, 64, 0.5, delta=0.05 / 32)[0].risk, rel=1e-12)


def test_trend_and_relative_gap():
    assert b.trend(200, 5000) == pytest.approx(0.2)
    assert b.relative_gap(0.95, 0.9) == pytest.approx(0.5)
    assert b.relative_gap(0.8, 0.9) == pytest.approx(-1)
    assert b.relative_gap(1, 1) is None


@pytest.mark.parametrize(
    ("call", "value"),
    [
        (lambda: b.kl(1.5, 0.5), "1.5"),
        (lambda: b.kl(0.5, math.nan), "nan"),
        (lambda: b.kl_inverse(0.5, -1), "-1"),
        (lambda: b.kl_inverse(0.5, math.nan), "nan"),
        (lambda: b.binomial_inverse(8, 7, 1.0), "8"),
        (lambda: b.bounds(8, 7, 10, 0.5), "8"),
        (lambda: b.bounds(1, 7, -10, 0.5), "-10"),
        (lambda: b.bounds(1, 7, 10, 0.5, delta=0), "delta=0"),
        (lambda: b.trend(5, 0), "m=0"),
        (lambda: b.search_bits({"d": 0}), "d=0"),
        (lambda: b.relative_gap(90, 0.9), "90"),
    ],
)
def test_bad_values_are_named(call, value):
    with pytest.raises(ConfigError, match=value):
        call()
