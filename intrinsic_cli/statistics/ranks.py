"""Whether d_t falls or rises along a row of models: Spearman's rank correlation with an exact p.

A d_t beyond its grid lies between two numbers. Its rank counts the others that surely lie below and above it (Gehan
1965, Biometrika 52); where every d_t is a number, that is the usual rank.

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
ROUNDING = 1e-9  # two sums of the same ranks in another order differ by less


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


def correlate(x: Floats, least: Floats, most: Floats, of: Sequence[tuple[str, str]] = ()) -> Correlation:
    """The correlation of x (n,) and d_t, which lies between `least` and `most`, (n,) each: the same number twice
    where it is known, and inf twice, the worst, where it is undefined.

    `of` says which model and task each pair is of, no two the same; without it, they are n models of one task.
    """
    n, undefined = len(x), int(np.count_nonzero(least == np.inf))
    if n < FEWEST_MODELS:
        return Correlation(n, reason=f"{n} curve{'s' * (n != 1)}; at least {FEWEST_MODELS} are needed")
    of = of or [(str(i), "") for i in range(n)]
    rho = _pearson(ranks(x, x), ranks(least, most))
    if rho is None:
        return Correlation(n, undefined=undefined, reason="all ranks are tied")
    found = Correlation(n, rho, undefined=undefined)
    a, b = np.zeros(n), np.zeros(n)
    tasks = np.array([task for _, task in of])
    for task in set(tasks):
        mine = tasks == task
        a[mine], b[mine] = ranks(x[mine], x[mine]), ranks(least[mine], most[mine])
    within = _pearson(a, b)
    if within is None:
        return replace(found, reason="within tasks all ranks are tied")
    if len(set(tasks)) > 1:
        found = replace(found, within=within)
    orders = _orders([a[rows] @ b[rows].T for rows in _alike(of)])
    if orders is None:
        return replace(found, reason="no two models were run on the same tasks")
    sums, exact = orders
    others = 0 if exact else 1  # the order that was found, which random ones may lack
    p = (np.count_nonzero(np.abs(sums) >= abs(a @ b) - ROUNDING) + others) / (sums.size + others)
    return replace(found, p=float(p), exact=exact)


def ranks(least: Floats, most: Floats) -> Floats:
    """The rank of each of n numbers, less their mean, (n,): half of how many surely lie below it, less half of how
    many surely lie above. `least` and `most` as those of `correlate`."""
    above = least[:, None] >= most  # of two equal numbers each, which cancels
    return (above.sum(1) - above.sum(0)) / 2


def _pearson(a: Floats, b: Floats) -> float | None:
    """The correlation of two rows of mean 0; None where one of them is all 0."""
    size = math.sqrt((a**2).sum() * (b**2).sum())
    return float(a @ b / size) if size else None


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
