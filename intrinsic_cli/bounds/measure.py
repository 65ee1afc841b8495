"""Generalization bounds of finished runs: quantise, code, decode, rebuild, count the errors, bound."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from intrinsic_cli.bounds import qat, theory
from intrinsic_cli.bounds.description import Description, decode, describe
from intrinsic_cli.bounds.theory import Bound
from intrinsic_cli.errors import ConfigError, DataError, StoreError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import attach, place
from intrinsic_cli.finetunes.scoring import answer
from intrinsic_cli.result import RunResult
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import RunDir
from intrinsic_cli.tasks.batches import Encoded
from intrinsic_cli.tasks.task import KINDS
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.inputs import Loader

LEVELS = (2, 3, 4, 6, 8, 16)
SCREEN = 4000


@dataclass(frozen=True)
class Bounded:
    """One run at its best K: the description it pays for, what the decoded model gets wrong, the bounds.

    `search` are the bits for what the description leaves open (which of several base models, say).
    `screened` is, by K, the bound that the rows of the screen promised.
    """

    run_id: str
    spec: RunSpec
    levels: int
    description: Description
    search: dict[str, float]
    n: int
    errors: int
    n_eval: int
    errors_eval: int
    majority_error: float
    bounds: tuple[Bound, ...]
    screened: dict[int, float]
    d90: int | None

    @property
    def gap(self) -> float | None:
        """(train − validation) / (1 − validation) of accuracies, of the decoded model."""
        return theory.relative_gap(1 - self.errors / self.n, 1 - self.errors_eval / self.n_eval)

    @property
    def best(self) -> Bound:
        """The exact binomial tail, which no other bound here beats."""
        return self.bounds[0]


def bounded(
    results: Sequence[RunResult],
    *,
    levels: Sequence[int] = LEVELS,
    delta: float = 0.05,
    screen: int = SCREEN,
    qat_steps: int = 0,
    d90s: Mapping[str, int] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Bounded]:
    """A bound for every subspace run among `results`, in their order by task, model and d.

    K is chosen for each run on the first `screen` training rows (0 takes them all), then all are counted.
    `qat_steps` fine-tunes θ at each K first. `d90s` is, by run_id, the d90 of the curve a run belongs to.
    Raises StoreError where no run can be bounded, DataError where
    the data are no longer those of the runs, ConfigError at an option that can't be used.
    """
    if not levels or min(levels) < 1 or screen < 0 or qat_steps < 0:
        raise ConfigError(
            f"levels={list(levels)}, screen={screen} and qat_steps={qat_steps} can't be negative"
        )
    runs = [r for r in results if r.spec.subspace.kind != "full" and KINDS[r.spec.task.kind].classes]
    if not runs:
        raise StoreError("no finished subspace run of a classification task here; bounds need one")
    runs.sort(key=lambda r: (r.data_hash or "", r.model_hash or "", r.spec.d or 0, r.run_id))
    searches = {key: _search(group) for key, group in _by_data(runs).items()}
    load = Loader()
    return [
        _one(run, load, levels, delta, screen, qat_steps, searches[run.data_hash],
             (d90s or {}).get(run.run_id), say)
        for run in runs
    ]  # fmt: skip


def _by_data(runs: Iterable[RunResult]) -> dict[str | None, list[RunResult]]:
    groups: dict[str | None, list[RunResult]] = {}
    for run in runs:
        groups.setdefault(run.data_hash, []).append(run)
    return groups


def _search(runs: Iterable[RunResult]) -> dict[str, float]:
    """Bits for the setting, which the description takes as known: one of those tried on the same rows."""
    settings = {json.dumps([r.model_hash, r.spec.data.max_length, r.spec.task.text]) for r in runs}
    return theory.search_bits({"base model and text length": len(settings)})


def _one(
    run: RunResult, load: Loader, levels: Sequence[int], delta: float, screen: int, qat_steps: int,
    search: dict[str, float], d90: int | None, say: Callable[[str], None],
) -> Bounded:  # fmt: skip
    found = FineTune.of_run(RunDir(run.directory))
    spec = run.spec
    inputs = load(spec)
    if (inputs.data_hash, inputs.base.weights_hash) != (run.data_hash, run.model_hash):
        raise DataError(f"the data or the base model of {run.run_id} have changed since it was trained")
    model = inputs.fresh_model(found.seed).to(Compute.here().device)
    space = attach(found, model, inputs.head)
    counts = np.bincount(inputs.train.labels, minlength=2)
    n, majority = len(inputs.train), 1 - float(counts.max()) / len(inputs.train)
    extra = sum(search.values())

    def errors(description: Description, rows: Encoded) -> int:
        """Of the model that the messages alone, and what is fixed, give back."""
        place(space, decode(description.messages, found).tensors)
        answers = answer(inputs.task, model, rows, found.precision, spec.train.eval_batch_size)
        return int(np.sum(~inputs.task.outcomes(answers)))

    def bound(wrong: int, description: Description) -> tuple[Bound, ...]:
        return theory.bounds(wrong, n, description.total + extra, majority, delta)

    with closing(space):
        described, screened = {}, {}
        rows = inputs.train.first(screen or n)
        for k in sorted(set(levels)):
            tuned = found
            if qat_steps:
                tuned = qat.finetune(found, spec, model, space, inputs.train, k, qat_steps)
            described[k] = describe(tuned, k)
            if len(set(levels)) > 1:
                wrong = round(errors(described[k], rows) / len(rows) * n)
                screened[k] = bound(wrong, described[k])[0].risk
                say(f"{run.run_id} K={k}: {described[k].total} bits, about {screened[k]:.4f}")
        best = min(screened, key=lambda k: screened[k]) if screened else levels[0]
        description = described[best]
        wrong = errors(description, inputs.train)
        wrong_eval = errors(description, inputs.validation)
    all_bounds = bound(wrong, description)
    say(f"{run.run_id} K={best}: {wrong} of {n} wrong, true error at most {all_bounds[0].risk:.4f}")
    return Bounded(
        run.run_id, spec, best, description, search, n, wrong, len(inputs.validation), wrong_eval,
        majority, all_bounds, screened, d90,
    )  # fmt: skip
