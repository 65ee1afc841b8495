"""d_t of several models against a number of each, as an `Axis` has it.

The strength of a trend is Spearman's rank correlation. A d_t beyond the grid has a rank all the same; where models
were tried on different grids, all that lies beyond the part common to all of them is beyond the grid.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from intrinsic_cli.errors import StoreError
from intrinsic_cli.reports.axes import Axis, Lacking, model_key
from intrinsic_cli.reports.curves import Curve, Found, settings_of_space, spelled, told_apart
from intrinsic_cli.settings import flat
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.ranks import FEWEST_MODELS, Correlation, correlate
from intrinsic_cli.statistics.targets import TARGETS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trend:
    """The d_t of several models in one setting: `members` with their `x`, rising, and by definition how d_t goes
    with it. `lacking` says which curves have no place in it, and why."""

    name: str
    members: tuple[tuple[Curve, Estimate], ...]
    x: tuple[float, ...]
    correlations: Mapping[str, Correlation]
    lacking: tuple[str, ...] = ()

    @property
    def correlation(self) -> Correlation:
        """That of the members' own definition."""
        return self.correlations[self.members[0][1].definition]


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
    rest = [line for key, (_, lines) in placed.items() if key not in several for line in lines]
    alone = [members[0][0].name for members in settings.values() if len(members) == 1]
    if not several:
        if rest:
            raise StoreError(f"no two curves have a {axis.name} to be held against: {rest[0]}")
        raise StoreError("no task has a d90 curve of two models or more; a trend needs at least two")
    if alone:
        rest.append(f"in no trend, as no other model was measured alike: {', '.join(alone)}")
    for line in rest:  # of settings that make no trend, so that no answer tells them
        log.warning("%s", line)
    heads = [members[0][1][0] for members, _ in several.values()]
    names = [f"{curve.task if axis.by_task else 'all tasks'} {spelled(curve.kind)}" for curve in heads]
    extras = told_apart([flat(json.loads(key)) for key in several], names, [""] * len(names))
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
    kept, twice = _once(placed)
    return sorted(kept, key=lambda pair: pair[0]), lacking + twice


def _once(placed: Placed) -> tuple[Placed, list[str]]:
    """One curve of each model on each task, that of most runs, and what is said of the others: weights that changed
    under a name, or were read by other code, make two curves and no second model."""
    best: dict[tuple[str, str], tuple[float, tuple[Curve, Estimate]]] = {}
    for pair in sorted(placed, key=lambda pair: -len(pair[1][0].runs)):
        best.setdefault(_model_and_task(pair[1][0]), pair)
    kept, twice = [], []
    for pair in placed:
        curve, stands = pair[1][0], best[_model_and_task(pair[1][0])]
        if stands is pair:
            kept.append(pair)
        else:
            twice.append(f"{curve.name}: a model counts once, and {stands[1][0].name} has no fewer runs")
    return kept, twice


def _model_and_task(curve: Curve) -> tuple[str, str]:
    """The model of a curve, and all that it shares with other models of one study."""
    return model_key(curve.spec.model), json.dumps(_study(curve), sort_keys=True)


def _study(curve: Curve) -> dict[str, object]:
    """What tells two studies of any model apart, less the space."""
    tree = curve.spec.settings()
    return {key: tree[key] for key in ("task", "data", "train")} | {
        "data_hash": curve.first.conditions["data_hash"], **_read_as(curve)
    }  # fmt: skip


def _read_as(curve: Curve) -> dict[str, object]:
    """In what numbers the model is read and trained: what was asked for may become another on another machine."""
    return {"precision": curve.first.precision, "model": {"quantize": curve.spec.model.quantize}}


def _trend(name: str, placed: Placed, lacking: Sequence[str]) -> Trend:
    at, members = [x for x, _ in placed], [member for _, member in placed]
    known = [key for key in TARGETS if any(key in c.beside(v) for c, v in members)]
    by = {key: correlation([(c, c.estimate(v.threshold, key)) for c, v in members], at) for key in known}
    return Trend(name, tuple(members), tuple(at), by, tuple(lacking))


def _settings(found: Found, axis: Axis) -> list[Mapping[str, object]]:
    """What tells two studies apart, of each curve.

    Across tasks the rows don't, nor does a key of training that has one value in each task: one that is always
    trained for three epochs and another for five are still one study. Nor do scores of which higher ones are
    better; a loss has its own direction and scale.
    """
    trees = [curve.spec.settings() for curve, _ in found]
    if axis.by_task:
        return [
            _study(curve) | settings_of_space(tree) for (curve, _), tree in zip(found, trees, strict=True)
        ]
    trains = [flat(tree["train"], "train.") for tree in trees]
    seen: dict[tuple[str, str], set[str]] = {}
    for (curve, _), train in zip(found, trains, strict=True):
        for key, value in train.items():
            seen.setdefault((curve.task, key), set()).add(value)
    apart = {key for (_, key), values in seen.items() if len(values) > 1}
    return [
        {key: value for key, value in train.items() if key in apart}
        | settings_of_space(tree) | _read_as(curve) | ({"metric": curve.metric} if curve.is_loss else {})
        for (curve, _), train, tree in zip(found, trains, trees, strict=True)
    ]  # fmt: skip


def correlation(members: Found, x: Sequence[float]) -> Correlation:
    """The rank correlation of `x` and d_t. A model whose d_t is undefined has the worst rank, also where all its
    runs collapsed or diverged; one with no full fine-tuning yet, or no score to count from, takes no part."""
    known = [
        (curve, value, at) for (curve, value), at in zip(members, x, strict=True) if takes_part(curve, value)
    ]
    tried = [
        ([point.d for point in curve.measured.subspace if point.d], curve.name)
        for curve, value, _ in known if value.status != "undefined"
    ]  # fmt: skip
    low = max((min(ds) for ds, _ in tried), default=1)
    high, shortest = min(((max(ds), name) for ds, name in tried), default=(math.inf, ""))
    if len(tried) > 1 and low >= high:
        none = f"no range in common up to {high:,}, where {shortest} ends"
        return Correlation(len(known), reason=f"the models were tried at d's that have {none}")
    least, most = np.array([_between(value, low, high) for _, value, _ in known]).reshape(-1, 2).T
    found = correlate(
        np.array([at for *_, at in known], dtype=float), least, most,
        [_model_and_task(curve) for curve, _, _ in known],
    )  # fmt: skip
    tied = len(known) >= FEWEST_MODELS and found.rho is None
    if tied and any(max(ds) > high for ds, _ in tried):
        return replace(found, reason=f"{found.reason} up to d = {high:,}, where {shortest} ends")
    return found


def takes_part(curve: Curve, value: Estimate) -> bool:
    """Whether a correlation ranks the curve: it has full fine-tuning, and a score to count from."""
    return bool(curve.measured.baseline) and value.definition in curve.definitions


def _between(value: Estimate, low: float, high: float) -> tuple[float, float]:
    """What log2 d_t is at least and at most, as far as d's from `low` to `high` can tell; inf where there is none.

    Beyond a fall nothing is known of a curve, as if it ended there.
    """
    if value.status == "undefined":
        return math.inf, math.inf
    at = math.inf if value.d_t is None else value.d_t
    if value.status == "below_grid" or at < low:
        return -math.inf, math.log2(max(low, value.grid[0].d))
    end = min(high, value.grid[-1].d)
    return (math.log2(end), math.inf) if at > end else (math.log2(at), math.log2(at))
