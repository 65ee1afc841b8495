"""d_t of several models against a number of each: the step of its pre-training, or its size.

The strength of a trend is Spearman's rank correlation. A d_t beyond the grid has a rank all the same: where
models were tried on different grids, all that lies beyond the part common to all of them is tied at its end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test, rankdata

from intrinsic_cli.errors import StoreError
from intrinsic_cli.render import differences, flat
from intrinsic_cli.reports.curves import Curve, Found
from intrinsic_cli.spec import ModelSpec, step_of
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.points import Floats

FEWEST_MODELS = 3  # two models always correlate by +1 or -1
EXACT_MODELS = 8  # up to here all n! orders are counted, beyond it PERMUTATIONS random ones
PERMUTATIONS = math.factorial(EXACT_MODELS)


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation `rho` of `models` pairs, from -1 to 1.

    p           two-sided: the share of all orders (or of random ones, if not `exact`) with at least this |rho|.
    low, high   what 95 % of bootstrap replays of the models' own runs give: the doubt about each d_t, not
                about which models were chosen. None where a d_t's noise is unknown.
    reason      why there is no rho.
    """

    models: int
    rho: float | None = None
    p: float | None = None
    exact: bool = True
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Trend:
    """The d_t of several models in one setting: `members` with their `x`, rising."""

    name: str
    members: tuple[tuple[Curve, Estimate], ...]
    x: tuple[float, ...]
    correlation: Correlation


def steps(models: Sequence[ModelSpec]) -> dict[ModelSpec, int]:
    """The step of each model; the places 1, 2, ... in the order given where any name has no number."""
    unique = list(dict.fromkeys(models))
    named = [step_of(model.revision or model.label) for model in unique]
    if any(number is None for number in named) or len(set(named)) < len(named):
        return {model: place for place, model in enumerate(unique, start=1)}
    return {model: number for model, number in zip(unique, named, strict=True) if number is not None}


def parameters(curve: Curve) -> int:
    """The number of the model's parameters with its head: what full fine-tuning trains."""
    return (curve.baseline or curve.runs)[0].D


def trends(found: Found, x: Callable[[Curve], float]) -> list[Trend]:
    """`found` (from `report.estimates`, of one threshold) by all that is not the model, sorted by `x`.

    Raises StoreError where no setting has two models.
    """
    settings: dict[str, list[tuple[Curve, Estimate]]] = {}
    for curve, value in found:
        settings.setdefault(json.dumps(_setting(curve), sort_keys=True), []).append((curve, value))
    several = {key: members for key, members in settings.items() if len(members) > 1}
    if not several:
        raise StoreError("no task has a d90 curve of two models or more; a trend needs at least two")
    heads = [members[0][0] for members in several.values()]
    names = [f"{curve.task} {curve.kind.upper()}" for curve in heads]
    extras = differences([flat(json.loads(key)) for key in several], names, [""] * len(names))
    made = []
    for name, extra, members in zip(names, extras, several.values(), strict=True):
        members.sort(key=lambda member: x(member[0]))
        at = [x(curve) for curve, _ in members]
        made.append(Trend(f"{name} {extra}".rstrip(), tuple(members), tuple(at), correlation(members, at)))
    return made


def _setting(curve: Curve) -> Mapping[str, object]:
    tree = curve.spec.settings()
    return {key: tree[key] for key in ("task", "data", "train", "subspace", "projection")}


def correlation(members: Found, x: Sequence[float]) -> Correlation:
    """The rank correlation of `x` and d_t; a d_t that is undefined takes no part."""
    defined = [(curve, value, at) for (curve, value), at in zip(members, x, strict=True) if value.curve
               and value.status != "undefined"]  # fmt: skip
    n = len(defined)
    if n < FEWEST_MODELS:
        return Correlation(n, reason=f"{n} models have a d_t; at least {FEWEST_MODELS} are needed")
    common = (
        math.log2(max(value.curve[0].d for _, value, _ in defined)),
        math.log2(min(value.curve[-1].d for _, value, _ in defined)),
    )
    if common[0] >= common[1]:
        return Correlation(n, reason="the models were tried at d's that have no range in common")
    at = np.array([x for _, _, x in defined])
    d_t = np.clip([_log2(value) for _, value, _ in defined], *common)
    rho = spearman(at, d_t)
    if not math.isfinite(rho):
        return Correlation(n, reason="all ranks are tied")
    test = permutation_test(
        (at,), lambda a, axis: np.abs(spearman(a, d_t)), permutation_type="pairings", vectorized=True,
        alternative="greater", n_resamples=PERMUTATIONS, rng=np.random.default_rng(0),
    )  # fmt: skip
    low, high = _interval(at, [(curve, value) for curve, value, _ in defined], common)
    return Correlation(n, float(rho), float(test.pvalue), n <= EXACT_MODELS, low, high)


def _log2(value: Estimate) -> float:
    if value.d_t is not None:
        return math.log2(value.d_t)
    return -math.inf if value.status == "below_grid" else math.inf


def spearman(x: Floats, y: Floats) -> Floats:
    """Pearson's correlation of the ranks along the last axis, ties at their mean rank; NaN where all are tied.

    x and y broadcast: (..., n) and (..., n) -> (...).
    """
    a, b = (rankdata(values, axis=-1) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (a, b))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def _interval(at: Floats, members: Found, common: tuple[float, float]) -> tuple[float | None, float | None]:
    """Ends of the central 95 % of rho over replays; a replay in which all ranks are tied counts as 0."""
    drawn = [curve.replays(value, seed=i) for i, (curve, value) in enumerate(members)]
    known = [spread for spread in drawn if spread is not None]
    if len(known) < len(drawn):
        return None, None
    rho = np.nan_to_num(spearman(at, np.clip(np.stack(known, axis=-1), *common)))
    return float(np.quantile(rho, 0.025)), float(np.quantile(rho, 0.975))
