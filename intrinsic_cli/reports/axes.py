"""What d_t is held against: the step of a model's pre-training, its size, or how well it does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from intrinsic_cli.errors import StoreError
from intrinsic_cli.reports.curves import Curve
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import ModelSpec


class Lacking(StoreError):
    """A curve has no place on an axis, and why."""


@dataclass(frozen=True)
class Axis:
    """A number of each curve that d_t is held against: its `name`, the `label` of a plot, and how it is found.

    `of` raises Lacking where a curve has none and others may. `by_task`: it belongs to the model, so that each task
    has a trend of its own; else models and tasks make one together. `log`: a plot shows its logarithm.
    `score`: it is the curve's metric, by whose name a loss goes. `note` is what a table says of it.
    """

    name: str
    label: str
    of: Callable[[Curve], float]
    by_task: bool = True
    log: bool = True
    score: bool = False
    note: str = ""

    def called(self, curve: Curve) -> str:
        """What its number of this curve is called."""
        return curve.metric if self.score and curve.is_loss else self.name


def model_key(model: ModelSpec) -> str:
    """Which model it is, however it is fetched and read: its content or its name, its revision and its layers."""
    return json.dumps([model.fingerprint or model.name, model.revision, model.num_hidden_layers])


def parameters(curve: Curve) -> int:
    """The number of the model's parameters with its head: what full fine-tuning trains."""
    return (curve.baseline or curve.runs)[0].D


def accuracy(curve: Curve) -> float:
    """Full fine-tuning's mean score at its chosen rate, as in tables. Raises Lacking where there is none."""
    found = curve.estimate()
    if found.full_score is None:
        raise Lacking(f"{curve.name}: {found.reason}")
    return found.full_score


def gap(curve: Curve) -> float:
    """Full fine-tuning's relative generalization gap, (train − eval) / (1 − eval), of its mean scores at its chosen
    rate (Aghajanyan et al. 2021).

    Raises Lacking where that is a loss, where its runs lack the score on the rows trained on, and where full
    fine-tuning makes no error.
    """
    if curve.is_loss:
        raise Lacking(
            f"{curve.name}: a relative gap is of a score of at most 1, and {curve.metric} is a loss"
        )
    held = accuracy(curve)
    if any(run.train_metrics is None for run in curve.baseline):
        raise Lacking(
            f"{curve.name}: full fine-tuning was not scored on its training rows; a gap needs runs with "
            "train.score_train=true"
        )
    if held >= 1:
        raise Lacking(f"{curve.name}: full fine-tuning makes no error, so its relative gap is no number")
    own = _mean_on_training_rows(curve)
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

    Raises Lacking where there is none that is valid, and where they hold with different probabilities.
    """
    found = [each for run in curve.runs if (each := RunDir(run.directory).bound()) is not None]
    if not found:
        raise Lacking(f"{curve.name}: no run has a bound; `idim bound DIR` makes one of each")
    if not any(each.valid for each in found):
        raise Lacking(f"{curve.name}: no bound is valid, as its base model was trained on the task's rows")
    if len(deltas := {each.delta for each in found}) > 1:
        raise Lacking(
            f"{curve.name}: its bounds hold with different probabilities "
            f"(delta {', '.join(map(str, sorted(deltas)))}); `idim bound DIR` makes them anew"
        )
    return min(each.risk for each in found if each.valid)


AXES = {
    axis.name: axis
    for axis in (
        Axis("parameters", "parameters of the model", parameters),
        Axis("accuracy", "score of full fine-tuning", accuracy, by_task=False, log=False, score=True),
        Axis("gap", "relative generalization gap of full fine-tuning", gap, by_task=False, log=False),
        Axis("bound", "bound on the true error of a run", bound, by_task=False, log=False),
    )
}


def step_axis(models: Iterable[ModelSpec], *, in_order: bool = False) -> Axis:
    """The step of pre-training of each of `models`, as their names tell it.

    Where they don't tell, or tell one step of two models, the axis is their place if they are given `in_order`.
    Raises StoreError if they are not, as nothing says then which comes first.
    """
    named: dict[str, ModelSpec] = {}  # of each model, the first of its names that tells a step
    for model in models:
        key = model_key(model)
        if key not in named or named[key].step is None:
            named[key] = model
    if not (why := _without_steps(named.values())):
        return Axis("step", "pre-training step", lambda curve: named[model_key(curve.spec.model)].step or 0)
    if not in_order:
        raise StoreError(
            f"{why}; give the checkpoints of one pre-training in their order (idim trajectory model.name=A,B), or "
            "choose among runs by their models (idim compare --models 'bert-128-*')"
        )
    places = {key: place for place, key in enumerate(named, start=1)}
    return Axis(
        "place", "place in the order given", lambda curve: places[model_key(curve.spec.model)], log=False,
        note=f"place: where a model stands in the order given, as {why}.",
    )  # fmt: skip


def _without_steps(models: Iterable[ModelSpec]) -> str:
    """Why the names of different models tell no step of each; empty where they do."""
    by_step: dict[float | None, list[str]] = {}
    for model in models:
        layers = f" ({model.num_hidden_layers} layers)" if model.num_hidden_layers else ""
        by_step.setdefault(model.step, []).append(
            model.name + (f"@{model.revision}" if model.revision else "") + layers
        )
    if lacking := by_step.pop(None, []):
        return f"{', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no step in the name"
    same = [(step, names) for step, names in by_step.items() if len(names) > 1]
    return f"{' and '.join(same[0][1])} are different models of step {same[0][0]:,}" if same else ""
