"""Whether d_t falls or rises along a row of models: Spearman's rank correlation with an exact p.

There is no interval. The models are few, and an interval that draws only their runs anew takes them as given:
it leaves out 0 in half of all studies without a trend. What speaks of models in general is p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from intrinsic_cli.statistics.points import Floats

FEWEST_MODELS = 3  # two models always correlate by +1 or -1
EXACT_MODELS = 8  # up to here all n! orders are counted, beyond it PERMUTATIONS random ones
PERMUTATIONS = math.factorial(EXACT_MODELS)


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation `rho` of `models` pairs, from -1 to 1.

    p           two-sided: the share of all orders (or of random ones, if not `exact`) with at least this |rho|.
    undefined   how many of the models have no d_t because they can't learn; they share the worst rank.
    reason      why there is no rho.
    """

    models: int
    rho: float | None = None
    p: float | None = None
    exact: bool = True
    undefined: int = 0
    reason: str = ""


def correlate(x: Floats, d_t: Floats) -> Correlation:
    """The correlation of x (n,) and d_t (n,): -inf and inf beyond the grid, and NaN, the worst, undefined."""
    from scipy.stats import permutation_test, rankdata  # a second of import, which d90 tables do without

    n, undefined = len(x), int(np.isnan(d_t).sum())
    if n < FEWEST_MODELS:
        return Correlation(n, reason=f"{n} models have a d_t; at least {FEWEST_MODELS} are needed")
    order = rankdata(np.where(np.isnan(d_t), np.inf, d_t), method="dense") + np.isnan(d_t)
    rho = spearman(x, order)
    if not math.isfinite(rho):
        return Correlation(n, undefined=undefined, reason="all ranks are tied")
    test = permutation_test(
        (x,), lambda a, axis: np.abs(spearman(a, order)), permutation_type="pairings", vectorized=True,
        alternative="greater", n_resamples=PERMUTATIONS, rng=np.random.default_rng(0),
    )  # fmt: skip
    return Correlation(n, float(rho), float(test.pvalue), n <= EXACT_MODELS, undefined)


def spearman(x: Floats, y: Floats) -> Floats:
    """Pearson's correlation of the ranks along the last axis, ties at their mean rank; NaN where all are tied.

    x and y broadcast: (..., n) and (..., n) -> (...).
    """
    from scipy.stats import rankdata

    a, b = (rankdata(values, axis=-1) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (a, b))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
