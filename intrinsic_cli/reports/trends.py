"""d_t of several models against a number of each: the step of its pre-training, its size, or how well it does.

The strength of a trend is Spearman's rank correlation. A d_t beyond the grid has a rank all the same: where
models were tried on different grids, all that lies beyond the part common to all of them is tied at its end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from intrinsic_cli.errors import StoreError
from intrinsic_cli.render import differences, flat
from intrinsic_cli.reports.curves import Curve, Found, spelled
from intrinsic_cli.result import RunResult
from intrinsic_cli.spec import ModelSpec, step_of
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.ranks import Correlation, correlate
from intrinsic_cli.statistics.targets import TARGETS


@dataclass(frozen=True)
class Trend:
    """The d_t of several models in one setting: `members` with their `x`, rising, and by definition how d_t goes
    with it."""

    name: str
    members: tuple[tuple[Curve, Estimate], ...]
    x: tuple[float, ...]
    correlations: Mapping[str, Correlation]

    @property
    def correlation(self) -> Correlation:
        """That of the members' own definition."""
        return self.correlations[self.members[0][1].definition]


@dataclass(frozen=True)
class Axis:
    """A number of each curve that d_t is held against: its `name`, the `label` of a plot, and how it is found.

    `by_task`: it belongs to the model, so that each task has a trend of its own; else models and tasks make one
    together. `log`: a plot shows its logarithm.
    """

    name: str
    label: str
    of: Callable[[Curve], float]
    by_task: bool = True
    log: bool = True


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


def accuracy(curve: Curve) -> float:
    """Full fine-tuning's mean score at its chosen rate. Raises StoreError where there is none."""
    return _mean(curve, lambda run: run.score)


def gap(curve: Curve) -> float:
    """Full fine-tuning's relative generalization gap, (train − eval) / (1 − eval), of its mean scores at its chosen
    rate (Aghajanyan et al. 2021).

    Raises StoreError where its runs lack the score on the rows trained on, where that is a loss, and where full
    fine-tuning makes no error.
    """
    if any(run.train_metrics is None for run in curve.baseline):
        raise StoreError(
            f"{curve.name}: full fine-tuning was not scored on its training rows; a gap needs runs with "
            "train.score_train=true"
        )
    if not curve.runs[0].higher_is_better:
        raise StoreError(
            f"{curve.name}: a relative gap is of a score of at most 1, and {curve.metric} is a loss"
        )
    held, own = accuracy(curve), _mean(curve, lambda run: (run.train_metrics or {})[run.metric])
    if held >= 1:
        raise StoreError(f"{curve.name}: full fine-tuning makes no error, so its relative gap is no number")
    return (own - held) / (1 - held)


def _mean(curve: Curve, score: Callable[[RunResult], float]) -> float:
    rate = curve.estimate().full_lr
    at = [score(run) for run in curve.baseline if run.spec.lr == rate]
    if not at:
        raise StoreError(f"{curve.name}: no run of full fine-tuning has finished")
    return float(np.mean(at))


AXES = {
    axis.name: axis
    for axis in (
        Axis("parameters", "parameters of the model", parameters),
        Axis("accuracy", "score of full fine-tuning", accuracy, by_task=False, log=False),
        Axis("gap", "relative generalization gap of full fine-tuning", gap, by_task=False, log=False),
    )
}


def step_axis(of: Callable[[Curve], float]) -> Axis:
    """The steps of pre-training, as `of` tells them."""
    return Axis("step", "pre-training step", of)


def trends(found: Found, axis: Axis) -> list[Trend]:
    """`found` (from `curves.estimates`, of one threshold) by all that is not the model, nor the task where the
    axis is not by task, sorted along `axis`.

    Raises StoreError where no setting has two curves.
    """
    settings: dict[str, list[tuple[Curve, Estimate]]] = {}
    for curve, value in found:
        settings.setdefault(json.dumps(_setting(curve, axis), sort_keys=True), []).append((curve, value))
    several = {key: members for key, members in settings.items() if len(members) > 1}
    if not several:
        raise StoreError("no task has a d90 curve of two models or more; a trend needs at least two")
    heads = [members[0][0] for members in several.values()]
    names = [f"{curve.task if axis.by_task else 'all tasks'} {spelled(curve.kind)}" for curve in heads]
    extras = differences([flat(json.loads(key)) for key in several], names, [""] * len(names))
    made = []
    for name, extra, members in zip(names, extras, several.values(), strict=True):
        placed = [(axis.of(curve), (curve, value)) for curve, value in members]
        placed.sort(key=lambda pair: pair[0])
        at, members = [x for x, _ in placed], [member for _, member in placed]
        known = [key for key in TARGETS if any(key in c.beside(v) for c, v in members)]
        by = {key: correlation([(c, c.estimate(v.threshold, key)) for c, v in members], at) for key in known}
        made.append(Trend(f"{name} {extra}".rstrip(), tuple(members), tuple(at), by))
    return made


def _setting(curve: Curve, axis: Axis) -> Mapping[str, object]:
    tree = curve.spec.settings()
    rows = ("task", "data") if axis.by_task else ()
    return {key: tree[key] for key in (*rows, "train", "subspace", "projection")}


def correlation(members: Found, x: Sequence[float]) -> Correlation:
    """The rank correlation of `x` and d_t. A model whose d_t is undefined has the worst rank; one with no curve
    or no full fine-tuning yet takes no part."""
    known = [(value, at) for (_, value), at in zip(members, x, strict=True) if value.curve]
    defined = [value for value, _ in known if value.status != "undefined"]
    low, high = -math.inf, math.inf
    if defined:
        low = math.log2(max(value.curve[0].d for value in defined))
        high = math.log2(min(value.curve[-1].d for value in defined))
    if len(defined) > 1 and low >= high:
        return Correlation(len(known), reason="the models were tried at d's that have no range in common")
    d_t = [math.nan if v.status == "undefined" else min(max(_log2(v), low), high) for v, _ in known]
    return correlate(np.array([at for _, at in known]), np.array(d_t))


def _log2(value: Estimate) -> float:
    if value.d_t is not None:
        return math.log2(value.d_t)
    return -math.inf if value.status == "below_grid" else math.inf
