"""Generalization bounds for a classifier that can be written down in few bits. Pure: numbers in, numbers out.

The setting is Occam's razor. Before any label is seen a prefix-free code is fixed, which gives a hypothesis
of `bits` bits the prior mass 2^-bits, so that KL = bits·ln 2 for the one hypothesis that training picks.
With probability at least 1 − δ over n independent training rows each bound below then holds for all
hypotheses at once. `errors` counts the wrong ones of n rows, nats measure KL, rates lie in [0, 1].
Sources: Langford, "Tutorial on Practical Prediction Theory", JMLR 6 (2005); McAllester, "Simplified
PAC-Bayesian Margin Bounds", COLT 2003; Catoni, "PAC-Bayesian Supervised Classification" (2007), in the form
of Zhou et al., arXiv 1804.05862, theorem 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, logsumexp

from intrinsic_cli.errors import ConfigError

CATONI_ALPHA = 1e-4
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Bound:
    """The true error rate is at most `risk`, by the method `kind`, with probability at least 1 − delta.

    `majority_error` is the error rate of always answering the most frequent class. A bound that does not
    beat it is `vacuous`. `bits` is the whole description length, the choices of the search included.
    """

    risk: float
    kind: str
    bits: float
    n: int
    delta: float
    majority_error: float
    vacuous: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vacuous", self.risk >= self.majority_error)


def bounds(errors: int, n: int, bits: float, majority_error: float, delta: float = 0.05) -> tuple[Bound, ...]:
    """The bounds of all five kinds on one hypothesis of `bits` bits that is wrong on `errors` of n rows.

    `binomial` is the smallest of them whatever the data say (kl is a Chernoff bound on the same tail, the
    others relax kl), so quoting it is no selection that delta would have to pay for.
    Raises ConfigError where 0 ≤ errors ≤ n, n ≥ 2, bits ≥ 0 or 0 < delta < 1 does not hold.
    """
    _check_nats("bits", bits)
    if not 0 < delta < 1:
        raise ConfigError(f"delta={delta} is the probability that a bound fails; use one between 0 and 1")
    if n < 2 or not 0 <= errors <= n:
        raise ConfigError(f"errors={errors} of n={n} rows must satisfy 0 <= errors <= n and n >= 2")
    kl_nats = bits * math.log(2)
    complexity = kl_nats + math.log(1 / delta)
    risks = {
        "binomial": binomial_inverse(errors, n, complexity),
        "kl": kl_inverse(errors / n, complexity / n),
        "catoni": catoni(errors / n, kl_nats, n, delta),
        "hoeffding": hoeffding(errors / n, kl_nats, n, delta),
        "mcallester": mcallester(errors / n, kl_nats, n, delta),
    }
    return tuple(Bound(risk, kind, bits, n, delta, majority_error) for kind, risk in risks.items())


def kl(q: float, p: float) -> float:
    """Relative entropy kl(q‖p) in nats of coins of bias q and p; infinite where p makes q impossible."""
    _check_rate("q", q)
    _check_rate("p", p)
    return _divergence(q, p, p - q) + _divergence(1 - q, 1 - p, q - p)


def kl_inverse(q: float, c: float) -> float:
    """sup{p : kl(q‖p) ≤ c} for a rate q and c ≥ 0 nats, to float64 precision and never too small."""
    _check_rate("q", q)
    _check_nats("c", c)
    if c == 0 or q == 1:
        return float(q)

    def reachable(p: float) -> bool:
        heads, tails = _divergence(q, p, p - q), _divergence(1 - q, 1 - p, q - p)
        return heads + tails - 8 * EPSILON * (abs(heads) + abs(tails)) <= c

    return _first_false(reachable, low=q)


def binomial_inverse(k: int, n: int, complexity: float) -> float:
    """sup{p : P[Bin(n, p) ≤ k] ≥ exp(−complexity)}, the exact tail bound, never too small.

    `complexity` is KL + ln(1/δ) in nats. The probability is summed in logs, because it is far below the
    smallest float64 (1,734 nats down in the test vectors): scipy's binom.logcdf is −inf there, and a
    bisection on it stops at a p that is too small to be a bound.
    """
    _check_nats("complexity", complexity)
    if n < 1 or not 0 <= k <= n:
        raise ConfigError(f"k={k} of n={n} must satisfy 0 <= k <= n and n >= 1")
    if k == n:
        return 1.0
    i = np.arange(k + 1, dtype=np.float64)
    log_factorial = float(gammaln(n + 1))
    log_choose = log_factorial - gammaln(i + 1) - gammaln(n - i + 1)

    def reachable(p: float) -> bool:
        log_p, log_q = math.log(p), math.log1p(-p)
        log_cdf = logsumexp(log_choose + i * log_p + (n - i) * log_q)
        # What rounding may have taken off the sum is given back, so that p errs upwards only.
        rounding = 16 * EPSILON * (log_factorial - k * log_p - n * log_q + 1)
        return bool(log_cdf + rounding >= -complexity)

    return _first_false(reachable, low=0.0)


def hoeffding(q: float, kl_nats: float, n: int, delta: float) -> float:
    """q + √((KL + ln(1/δ)) / 2n), at most 1."""
    return min(1.0, q + math.sqrt((kl_nats + math.log(1 / delta)) / (2 * n)))


def mcallester(q: float, kl_nats: float, n: int, delta: float) -> float:
    """q + √((KL + ln(n/δ)) / 2(n − 1)), at most 1. Holds for random hypotheses too, hence the extra ln n."""
    return min(1.0, q + math.sqrt((kl_nats + math.log(n / delta)) / (2 * (n - 1))))


def catoni(q: float, kl_nats: float, n: int, delta: float) -> float:
    """inf over λ > 1 of (1 − exp(−(λq + (1+α)·C)/n)) / (1 − exp(−λ/n)), at most 1, for α = 1e-4.

    C = KL + ln(1/δ) + 2 ln(2 + ln λ / ln(1+α)): the last term is the union bound over the powers of 1+α
    that lets λ be chosen after the fact. So each λ gives a bound, and a rough minimum is still one.
    """

    def at(log_lambda: float) -> float:
        lam = math.exp(log_lambda)
        union = 2 * math.log(2 + log_lambda / math.log1p(CATONI_ALPHA))
        paid = (1 + CATONI_ALPHA) * (kl_nats + math.log(1 / delta) + union)
        return math.expm1(-(lam * q + paid) / n) / math.expm1(-lam / n)

    best = minimize_scalar(at, bounds=(1e-9, math.log(100 * n)), method="bounded", options={"xatol": 1e-10})
    return min(1.0, float(best.fun))


def trend(d: int, m: int) -> float:
    """√(d/m) for d trained parameters and m training rows: the paper's O(√(d/m)), a trend and never a bound.

    Its constants are unknown, so only ratios between runs mean anything (arXiv 2012.13255, section 5).
    """
    if d < 0 or m < 1:
        raise ConfigError(f"d={d} and m={m} must satisfy d >= 0 and m >= 1")
    return math.sqrt(d / m)


def search_bits(choices: Mapping[str, int]) -> dict[str, float]:
    """The union bound over a search: bits for naming one of `choices[name]` options, for each name.

    The lists searched (grids of d, K, learning rates, seeds) must be fixed before the data are seen. The
    sum of the values is added to the bits of the hypothesis; names keep the report able to spell it out.
    """
    for name, options in choices.items():
        if options < 1:
            raise ConfigError(f"{name}={options} options were searched; a choice has at least one")
    return {name: math.log2(options) for name, options in choices.items()}


def relative_gap(train: float, validation: float) -> float | None:
    """(train − validation) / (1 − validation), accuracies in [0, 1]; None where validation is 1."""
    _check_rate("train", train)
    _check_rate("validation", validation)
    return None if validation == 1 else (train - validation) / (1 - validation)


def _divergence(q: float, p: float, step: float) -> float:
    """q ln(q/p) for step = p − q, given apart since it's exact where 1 − p and 1 − q are not."""
    if q == 0:
        return 0.0
    if p == 0:
        return math.inf
    # Near q the two halves of kl nearly cancel: log1p keeps their difference.
    return -q * (math.log1p(step / q) if abs(step) < q / 2 else math.log(p) - math.log(q))


def _first_false(predicate: Callable[[float], bool], low: float) -> float:
    """The first float64 at which a predicate that turns from true to false in (low, 1) is false, or 1."""
    high = 1.0
    while low < (middle := low + (high - low) / 2) < high:
        if predicate(middle):
            low = middle
        else:
            high = middle
    return high


def _check_rate(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name}={value} must be a rate between 0 and 1")


def _check_nats(name: str, value: float) -> None:
    if not value >= 0:
        raise ConfigError(f"{name}={value} nats must be at least 0")
