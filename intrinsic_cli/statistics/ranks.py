"""Whether d_t falls or rises along a row of models: Spearman's rank correlation with an exact p.

There is no interval. The models are few, and an interval that draws only their runs anew takes them as given:
it leaves out 0 in half of all studies without a trend. What speaks of models in general is p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, permutations

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.statistics.points import Floats

FEWEST_MODELS = 3  # two models always correlate by +1 or -1
EXACT_MODELS = 9  # up to here all n! orders are counted, beyond it PERMUTATIONS random ones
PERMUTATIONS = math.factorial(EXACT_MODELS)
ROUNDING = 1e-9  # two sums of the same numbers in another order differ by less


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation `rho` of `models` pairs, from -1 to 1.

    within      of several tasks: the same of the ranks within each task, to which a task's own level adds nothing.
    p           two-sided: the share of all orders (or of random ones, if not `exact`) with at least this |rho|, or
                of several tasks this |within|.
    undefined   how many of the models have no d_t because they can't learn; they share the worst rank.
    reason      why there is no rho, or no p.
    """

    models: int
    rho: float | None = None
    within: float | None = None
    p: float | None = None
    exact: bool = True
    undefined: int = 0
    reason: str = ""


def correlate(x: Floats, d_t: Floats, of: Sequence[tuple[str, str]] = ()) -> Correlation:
    """The correlation of x (n,) and d_t (n,): -inf and inf beyond the grid, and NaN, the worst, undefined.

    `of` says which model and task each pair is of, no two the same; without it, they are n models of one task.
    """
    from scipy.stats import rankdata  # a second of import, which d90 tables do without

    n, undefined = len(x), int(np.isnan(d_t).sum())
    if n < FEWEST_MODELS:
        return Correlation(n, reason=f"{n} models have a d_t; at least {FEWEST_MODELS} are needed")
    order = rankdata(np.where(np.isnan(d_t), np.inf, d_t), method="dense") + np.isnan(d_t)
    rho = spearman(x, order)
    if not math.isfinite(rho):
        return Correlation(n, undefined=undefined, reason="all ranks are tied")
    of = of or [(str(i), "") for i in range(n)]
    found = Correlation(n, float(rho), undefined=undefined)
    a, b = (_ranks_within(values, [task for _, task in of]) for values in (x, order))
    size = math.sqrt((a**2).sum() * (b**2).sum())
    if size == 0:
        return replace(found, reason="within tasks all ranks are tied")
    if len({task for _, task in of}) > 1:
        found = replace(found, within=float(a @ b / size))
    orders = _orders([a[rows] @ b[rows].T for rows in _alike(of)])
    if orders is None:
        return replace(found, reason="no two models have a d_t on the same tasks")
    sums, exact = orders
    least = abs(a @ b) - ROUNDING * size
    others = 0 if exact else 1  # the order that was found, which random ones may lack
    p = (np.count_nonzero(np.abs(sums) >= least) + others) / (sums.size + others)
    return replace(found, p=float(p), exact=exact)


def _ranks_within(values: Floats, tasks: Sequence[str]) -> Floats:
    """The rank of each value among those of its task, less their mean."""
    from scipy.stats import rankdata

    ranks, of = np.empty(len(values)), np.array(tasks)
    for task in set(tasks):
        mine = of == task
        ranks[mine] = rankdata(values[mine]) - (mine.sum() + 1) / 2
    return ranks


def _alike(of: Sequence[tuple[str, str]]) -> list[NDArray[np.int64]]:
    """The models that may change places, those of the same tasks: for each set of tasks the pairs of its models,
    (models, tasks). A model goes as a whole, as what makes it good at one task helps at another."""
    rows: dict[str, dict[str, int]] = {}
    for i, (model, task) in enumerate(of):
        rows.setdefault(model, {})[task] = i
    groups: dict[tuple[str, ...], list[list[int]]] = {}
    for mine in rows.values():
        tasks = tuple(sorted(mine))
        groups.setdefault(tasks, []).append([mine[task] for task in tasks])
    return [np.array(group) for group in groups.values()]


def _orders(products: Sequence[Floats]) -> tuple[Floats, bool] | None:
    """The sums of products (k, k) of each group over all orders of its models, or over random ones, and whether
    they are all; None where there is only one order. products[i, j]: of model i's x with model j's d_t."""
    count = math.prod(math.factorial(len(each)) for each in products)
    if count == 1:
        return None
    rng = np.random.default_rng(0)
    sums = np.zeros(1)
    for each in products:
        models = np.arange(len(each))
        if count <= PERMUTATIONS:
            sums = np.add.outer(sums, each[models, _all_orders(len(each))].sum(-1)).ravel()
        else:
            orders = rng.permuted(np.tile(models, (PERMUTATIONS, 1)), axis=1)
            sums = sums + each[models, orders].sum(-1)
    return sums, count <= PERMUTATIONS


@cache
def _all_orders(n: int) -> NDArray[np.int8]:
    """All n! orders of n models, (n!, n)."""
    return np.fromiter(chain.from_iterable(permutations(range(n))), np.int8).reshape(-1, n)


def spearman(x: Floats, y: Floats) -> Floats:
    """Pearson's correlation of the ranks along the last axis, ties at their mean rank; NaN where all are tied.

    x and y broadcast: (..., n) and (..., n) -> (...).
    """
    from scipy.stats import rankdata

    a, b = (rankdata(values, axis=-1) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (a, b))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
