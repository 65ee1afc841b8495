"""From finished runs to curves: which runs belong together, what tells curves apart, and the d_t of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from intrinsic_cli.errors import StoreError
from intrinsic_cli.result import RunResult
from intrinsic_cli.settings import differences, flat, natural
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.statistics import runs as points
from intrinsic_cli.statistics.estimate import Estimate, Level, Measured
from intrinsic_cli.statistics.pruning import counts
from intrinsic_cli.statistics.targets import TARGETS, THRESHOLD, begin
from intrinsic_cli.store import Survey

KINDS = ("full", "said", "did")  # in the order of the paper's columns, before those of adapters
FEW_SEEDS = 3  # an interval from fewer says little


@dataclass(frozen=True)
class Curve:
    """The runs behind one d_t: one study, subspace and projection, with full fine-tuning (`baseline`), all on the
    same rows and weights in the same precision.

    `spec` is the first run's, or a diverged one's where none has finished; only its d, lr and seed vary (and so P,
    unless `projection.seed` is set). `row` and `variant` name the curve among the others: the model with what
    differs between its studies, and what differs between its subspaces. `settings` are those differences alone.
    `diverged` are runs, full fine-tuning's among them, that have no result as their loss was not finite.
    `untrained` are runs of d = 0.
    `pruned` is how many ended early as they could not matter; finished ones of their cells are not among `runs`.
    `selection` is what learning rates are chosen by.
    """

    study: str
    spec: RunSpec
    runs: tuple[RunResult, ...]
    baseline: tuple[RunResult, ...]
    row: str = ""
    variant: str = ""
    settings: str = ""
    diverged: tuple[RunSpec, ...] = ()
    untrained: tuple[RunResult, ...] = ()
    selection: str = "validation"
    pruned: int = 0

    @property
    def task(self) -> str:
        return self.spec.task.title

    @property
    def kind(self) -> str:
        """The name of its space: `did`, `lora`, `did lora`."""
        return space_name(self.spec)

    @property
    def first(self) -> RunResult:
        """A finished run of its study, by which is told what all of them share."""
        return (self.runs or self.baseline)[0]

    @property
    def metric(self) -> str:
        return self.first.metric

    @property
    def is_loss(self) -> bool:
        """Whether a lower score is better."""
        return not self.first.higher_is_better

    @property
    def name(self) -> str:
        """`minilm sst2 SAID`, unique among the curves it was grouped with."""
        return " ".join(filter(None, [self.row, self.task, spelled(self.kind), self.variant]))

    @cached_property
    def measured(self) -> Measured:
        """Its runs, ready for any target; what tables, figures and the page say of a d_t comes from here."""
        # The numbers of an adapter are counted when a run ends: those of one that diverged are as many as those of
        # its like. Without any, it has no place on the curve.
        sizes = {run.spec.adapter.r: run.d for run in self.runs}
        lost = [(spec, spec.d or sizes.get(spec.adapter.r)) for spec in self.diverged if not spec.is_full]
        full = [spec for spec in self.diverged if spec.is_full]
        return Measured(
            [points.finished(run) for run in self.runs] + [points.diverged(spec, d) for spec, d in lost if d],
            [points.finished(run) for run in self.baseline] + [points.diverged(spec, None) for spec in full],
            points.scale(self.first, self.untrained),
            self.selection,
        )

    def estimate(self, threshold: float = THRESHOLD, definition: str | None = None) -> Estimate:
        """d_t of this curve; None is the definition that stands first for its scores."""
        return self.measured.estimate(threshold, definition)

    def beside(self, value: Estimate) -> dict[str, Estimate]:
        """d_t at the threshold of `value` by every definition that its scores have, by its name."""
        return {name: self.estimate(value.threshold, name) for name in self.definitions}

    def shown(self, value: Estimate) -> list[Estimate]:
        """`value`, and what stands beside it: d_t by the other definitions, where they ask for another score."""
        others = [each for name, each in self.beside(value).items() if name != value.definition]
        return [value, *(each for each in others if each.target not in (None, value.target))]

    @property
    def definitions(self) -> list[str]:
        """The definitions of a target that its scores have."""
        return [name for name in TARGETS if begin(name, self.measured.scale) is not None]


Found = Sequence[tuple[Curve, Estimate]]


def of(survey: Survey) -> list[Curve]:
    """The curves of a folder, as `group` makes them. Raises StoreError where it does."""
    return group(survey.results, survey.diverged, survey.pruned)


def group(
    results: Iterable[RunResult],
    diverged: Iterable[RunSpec] = (),
    pruned: Iterable[tuple[RunSpec, str]] = (),
) -> list[Curve]:
    """The curves among finished runs, in the order of a table; `diverged` ones (`Survey.diverged`) count
    against their learning rates, and what the `pruned` ones (`Survey.pruned`) leave of their cells is left out.
    Where all of a space diverged beside full fine-tuning that has finished, there is a curve without runs.

    Raises StoreError where there is none.
    """
    baselines: dict[str, list[RunResult]] = {}
    untrained: dict[str, list[RunResult]] = {}
    members: dict[tuple[str, str], list[RunResult]] = {}  # by setting and by space
    for result in results:
        spec, setting = result.spec, json.dumps([result.study, result.conditions])
        if spec.is_full:
            baselines.setdefault(setting, []).append(result)
        elif spec.subspace.kind == "none":
            untrained.setdefault(setting, []).append(result)
        else:
            members.setdefault((setting, spec.space), []).append(result)
    lost, ended = list(diverged), list(pruned)
    measured = {(runs[0].study, space) for (_, space), runs in members.items()}
    homes = {runs[0].study: setting for setting, runs in reversed(baselines.items())}
    for spec in lost:
        if spec.d and spec.study in homes and (spec.study, spec.space) not in measured:
            members.setdefault((homes[spec.study], spec.space), [])
    if not members:
        raise StoreError("no finished subspace run here; `idim status DIR` shows what is pending or failed")
    curves = []
    for (setting, space), finished in members.items():
        study = (finished or baselines[setting])[0].study

        def mine(spec: RunSpec, study: str = study, space: str = space) -> bool:
            return spec.study == study and (spec.is_full or spec.space == space)

        without = [(points.place(spec), kind) for spec, kind in ended if mine(spec)]
        runs = tuple(run for run in finished if counts(points.place(run.spec), without))
        own = tuple(spec for spec in lost if mine(spec) and counts(points.place(spec), without))
        if not runs and (finished or not any(spec.d for spec in own)):  # a search that has only begun
            continue
        first = finished[0].spec if finished else next(spec for spec in own if spec.d)
        full = tuple(run for run in baselines.get(setting, ()) if counts(points.place(run.spec), without))
        curves.append(
            Curve(
                study, first, runs, full, untrained=tuple(untrained.get(setting, ())), diverged=own,
                pruned=len(without),
            )
        )  # fmt: skip
    if not curves:
        raise StoreError(
            "of no size here are all runs whole: the others were pruned; sweep without search.prune"
        )
    return sorted(
        _name(curves),
        key=lambda c: (natural(c.row), natural(c.task), place(c.kind), natural(c.variant)),
    )


def space_name(spec: RunSpec) -> str:
    """`did`, `lora` for an adapter that is trained itself, `did lora` for θ over its numbers."""
    if not spec.adapter:
        return spec.subspace.kind
    return spec.adapter.kind if spec.subspace.kind == "full" else f"{spec.subspace.kind} {spec.adapter.kind}"


def spelled(kind: str) -> str:
    """A space's name as tables have it: `DID lora`."""
    return " ".join(word.upper() if word in KINDS[1:] else word for word in kind.split())


def place(kind: str) -> tuple[int, str]:
    """Where a space stands among the columns: a sort key."""
    return (KINDS.index(kind) if kind in KINDS else len(KINDS)), kind


def estimates(
    curves: Iterable[Curve], *, thresholds: Sequence[float] = (THRESHOLD,), selection: str = "validation"
) -> list[tuple[Curve, Estimate]]:
    """d_t of every curve at every threshold, with learning rates chosen by `selection`."""
    chosen = chosen_by(selection, curves)
    return [(curve, curve.estimate(t)) for t in thresholds for curve in chosen]


def chosen_by(selection: str, curves: Iterable[Curve]) -> list[Curve]:
    """The same curves with learning rates chosen by `selection`."""
    return [
        curve if curve.selection == selection else replace(curve, selection=selection) for curve in curves
    ]


def d90s(curves: Iterable[Curve]) -> dict[str, int]:
    """The d90 of the curve each subspace run belongs to, by run_id, where there is a number."""
    found = estimates(curves)
    return {run.run_id: value.d_t for curve, value in found if value.d_t for run in curve.runs}


def _name(curves: Sequence[Curve]) -> list[Curve]:
    """Fill in `row` and `variant` with the settings that differ between curves of otherwise equal names."""
    plain = [
        c.spec.model.label + (f"@{c.spec.model.revision}" if c.spec.model.revision else "") for c in curves
    ]
    trees = [c.spec.settings() for c in curves]
    study = [
        flat({k: tree[k] for k in ("model", "task", "data", "train")} | c.first.conditions)
        for c, tree in zip(curves, trees, strict=True)
    ]
    suffixes = told_apart(study, plain, [c.task for c in curves])
    rows = [" ".join(filter(None, pair)) for pair in zip(plain, suffixes, strict=True)]
    space = [settings_of_space(tree) for tree in trees]
    variants = differences(
        space, [c.kind for c in curves], [f"{r}\n{c.task}" for r, c in zip(rows, curves, strict=True)]
    )
    return [
        replace(c, row=row, variant=variant, settings=f"{suffix} {variant}".strip())
        for c, row, suffix, variant in zip(curves, rows, suffixes, variants, strict=True)
    ]


def told_apart(study: Sequence[Mapping[str, str]], labels: Sequence[str], within: Sequence[str]) -> list[str]:
    """`settings.differences` without hashes and chance, unless nothing else tells two studies apart: they follow
    from the labels or the folder, which are named already."""
    follows = ("_hash", "fingerprint", "chance")
    plain = [{key: tree[key] for key in tree if not key.endswith(follows)} for tree in study]
    told = differences(plain, labels, within)
    named = {(*name, *tree.values()) for *name, tree in zip(labels, within, told, study, strict=True)}
    enough = len(named) == len({name[:3] for name in named})
    return told if enough else differences(study, labels, within)


def settings_of_space(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's settings that is its space; of an adapter trained itself, its size is on the curve."""
    found: dict[str, Any] = {key: tree[key] for key in ("subspace", "projection", "adapter") if key in tree}
    if "adapter" in found and tree["subspace"]["kind"] == "full":
        found["adapter"] = {key: value for key, value in found["adapter"].items() if key != "r"}
    return flat(found)


def levels_at(value: Estimate) -> list[Level]:
    """The one or two d's of the curve that decide where it crosses the target, of those that take part."""
    first = len(value.grid) - len(value.reached)
    return list(value.grid[max(first - 1, 0) : first + 1])


def untrained_at_the_end(value: Estimate) -> bool:
    """Whether no d reaches the target and the largest, where it is easiest, is not clearly above chance: its score
    is within two standard errors of it, or below."""
    if value.status != "above_grid" or not value.curve:
        return False
    last = value.grid[-1]
    above = last.score - value.chance if value.higher_is_better else value.chance - last.score
    return above <= 2 * (value.noise or 0.0) / last.runs**0.5


def few_seeds(value: Estimate) -> bool:
    """Whether the crossing, or full fine-tuning's score, rests on fewer than FEW_SEEDS runs."""
    return min([value.full_runs, *(level.runs for level in levels_at(value))]) < FEW_SEEDS
