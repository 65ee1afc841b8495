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
from intrinsic_cli.reports.curves import Curve, Found, settings_of_space, spelled
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import ModelSpec, step_of
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.ranks import Correlation, correlate
from intrinsic_cli.statistics.targets import TARGETS


@dataclass(frozen=True)
class Trend:
    """The d_t of several models in one setting: `members` with their `x`, rising, and by definition how d_t goes
    with it. `lacking` says which curves have no x, and why."""

    name: str
    members: tuple[tuple[Curve, Estimate], ...]
    x: tuple[float, ...]
    correlations: Mapping[str, Correlation]
    lacking: tuple[str, ...] = ()

    @property
    def correlation(self) -> Correlation:
        """That of the members' own definition."""
        return self.correlations[self.members[0][1].definition]


class Lacking(StoreError):
    """A curve has no place on an axis, and why."""


@dataclass(frozen=True)
class Axis:
    """A number of each curve that d_t is held against: its `name`, the `label` of a plot, and how it is found.

    `of` raises Lacking where a curve has none and others may. `by_task`: it belongs to the model, so that each task
    has a trend of its own; else models and tasks make one together. `log`: a plot shows its logarithm.
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
    """Full fine-tuning's mean score at its chosen rate, as in tables. Raises StoreError where there is none."""
    found = curve.estimate()
    if found.full_score is None:
        raise StoreError(f"{curve.name}: {found.reason}")
    return found.full_score


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
    held, own = accuracy(curve), _mean_on_training_rows(curve)
    if held >= 1:
        raise StoreError(f"{curve.name}: full fine-tuning makes no error, so its relative gap is no number")
    return (own - held) / (1 - held)


def _mean_on_training_rows(curve: Curve) -> float:
    """Of the runs that `accuracy` is of: at the chosen rate, less those that collapsed."""
    study = curve.measured.study
    assert not isinstance(study, str)  # it has an accuracy
    rate, fell = study.lr[-1], {(point.seed, point.lr) for point in study.apart[1]}
    runs = [run for run in curve.baseline if run.spec.lr == rate and (run.spec.seed, rate) not in fell]
    return float(np.mean([(run.train_metrics or {})[run.metric] for run in runs]))


def bound(curve: Curve) -> float:
    """The smallest bound on the true error that `idim bound` has found of the curve's runs: they hold for all runs
    at once, so the choice is free.

    Raises Lacking where there is none that is valid, and StoreError where they hold with different probabilities.
    """
    found = [each for run in curve.runs if (each := RunDir(run.directory).bound()) is not None]
    if not found:
        raise Lacking(f"{curve.name}: no run has a bound; `idim bound DIR` makes one of each")
    if not any(each.valid for each in found):
        raise Lacking(f"{curve.name}: no bound is valid, as its base model was trained on the task's rows")
    if len(deltas := {each.delta for each in found}) > 1:
        raise StoreError(
            f"{curve.name}: its bounds hold with different probabilities "
            f"(delta {', '.join(map(str, sorted(deltas)))}); `idim bound DIR` makes them anew"
        )
    return min(each.risk for each in found if each.valid)


AXES = {
    axis.name: axis
    for axis in (
        Axis("parameters", "parameters of the model", parameters),
        Axis("accuracy", "score of full fine-tuning", accuracy, by_task=False, log=False),
        Axis("gap", "relative generalization gap of full fine-tuning", gap, by_task=False, log=False),
        Axis("bound", "bound on the true error of a run", bound, by_task=False, log=False),
    )
}


def step_axis(of: Callable[[Curve], float]) -> Axis:
    """The steps of pre-training, as `of` tells them."""
    return Axis("step", "pre-training step", of)


def trends(found: Found, axis: Axis) -> list[Trend]:
    """`found` (from `curves.estimates`, of one threshold) by all that is not the model, nor the task where the
    axis is not by task, sorted along `axis`.

    Raises StoreError where no setting has two curves that have a place on it.
    """
    settings: dict[str, list[tuple[Curve, Estimate]]] = {}
    for member, setting in zip(found, _settings(found, axis), strict=True):
        settings.setdefault(json.dumps(setting, sort_keys=True), []).append(member)
    placed = {key: _placed(members, axis) for key, members in settings.items() if len(members) > 1}
    several = {key: pair for key, pair in placed.items() if len(pair[0]) > 1}
    if not several:
        lacking = [line for _, lines in placed.values() for line in lines]
        if lacking:
            raise StoreError(f"no two curves have a {axis.name} to be held against: {lacking[0]}")
        raise StoreError("no task has a d90 curve of two models or more; a trend needs at least two")
    heads = [members[0][1][0] for members, _ in several.values()]
    names = [f"{curve.task if axis.by_task else 'all tasks'} {spelled(curve.kind)}" for curve in heads]
    extras = differences([flat(json.loads(key)) for key in several], names, [""] * len(names))
    return [
        _trend(f"{name} {extra}".rstrip(), members, lacking)
        for name, extra, (members, lacking) in zip(names, extras, several.values(), strict=True)
    ]


Placed = list[tuple[float, tuple[Curve, Estimate]]]  # curves with their places on an axis, rising


def _placed(members: Found, axis: Axis) -> tuple[Placed, list[str]]:
    """The members that have a place on the axis, and why the others have none."""
    placed: Placed = []
    lacking = []
    for curve, value in members:
        try:
            placed.append((axis.of(curve), (curve, value)))
        except Lacking as error:
            lacking.append(str(error))
    return sorted(placed, key=lambda pair: pair[0]), lacking


def _trend(name: str, placed: Placed, lacking: Sequence[str]) -> Trend:
    at, members = [x for x, _ in placed], [member for _, member in placed]
    known = [key for key in TARGETS if any(key in c.beside(v) for c, v in members)]
    by = {key: correlation([(c, c.estimate(v.threshold, key)) for c, v in members], at) for key in known}
    return Trend(name, tuple(members), tuple(at), by, tuple(lacking))


def _settings(found: Found, axis: Axis) -> list[Mapping[str, object]]:
    """What tells two studies apart, of each curve.

    Across tasks the rows don't, nor does a key of training that has one value in each task: one that is always
    trained for three epochs and another for five are still one study.
    """
    trees = [curve.spec.settings() for curve, _ in found]
    if axis.by_task:
        return [
            {key: tree[key] for key in ("task", "data", "train")} | settings_of_space(tree) for tree in trees
        ]
    trains = [flat(tree["train"], "train.") for tree in trees]
    seen: dict[tuple[str, str], set[str]] = {}
    for (curve, _), train in zip(found, trains, strict=True):
        for key, value in train.items():
            seen.setdefault((curve.task, key), set()).add(value)
    apart = {key for (_, key), values in seen.items() if len(values) > 1}
    return [
        {key: value for key, value in train.items() if key in apart} | settings_of_space(tree)
        for train, tree in zip(trains, trees, strict=True)
    ]


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
