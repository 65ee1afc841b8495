"""An adaptive study for real: propose, train, look again, until the interval is narrow enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intrinsic_cli.errors import ConfigError, StoreError
from intrinsic_cli.planning.plan import SearchPlan
from intrinsic_cli.result import RunResult, RunState
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.statistics import runs
from intrinsic_cli.statistics.points import Place
from intrinsic_cli.statistics.pruning import Known, counts
from intrinsic_cli.store import Store, Survey
from intrinsic_cli.study.launchers.base import Launcher
from intrinsic_cli.study.progress import outcome
from intrinsic_cli.study.pruning import known, limit
from intrinsic_cli.study.sweep import WAIT
from intrinsic_cli.training.stop import Stop

if TYPE_CHECKING:
    from intrinsic_cli.statistics.adaptive import Plan, Search
    from intrinsic_cli.statistics.points import Point


def run_study(
    study: SearchPlan,
    store: Store,
    launcher: Launcher,
    say: Callable[[str], None],
    stop: Stop | None = None,
    *,
    retry_failed: bool = False,
    prune: bool = False,
    proposed: Callable[[Iterable[RunSpec]], object] = iter,
) -> list[str]:
    """Do the runs of `study` until it is finished; returns the ids of those that failed. `proposed` is told of runs
    before they are begun.

    Whatever runs of the study the store holds count, so a search goes on from any point, and several
    processes that search on one folder share the runs. A run that failed in an earlier search is tried again
    only with `retry_failed`. With `prune`, runs that can't matter are ended early, by what has finished when they
    are proposed, and are no longer wanted; without, those of an earlier search go on first. Raises Stopped.
    """
    from intrinsic_cli.statistics.adaptive import Plan

    stop = stop or Stop()
    failed: dict[Place, str] = {}
    elsewhere: set[Place] = set()
    while True:
        elsewhere = {p for p in elsewhere if store.run(study.make(*p)).state is RunState.RUNNING}
        # What diverged in an earlier search tells of its rate, unless it is to be tried again.
        survey = store.read()
        members = Members.of(study, survey, set(failed.values()) if retry_failed else None)
        if not members.full:
            say("no full fine-tuning has finished, so there is no target to search for")
            return members.lost(failed.values())
        ended, left_out = members.ended, members.left_out
        again = [] if prune else [p for p in ended if p not in failed and p not in elsewhere]
        spent = members.done + len({*left_out, *failed, *elsewhere, *map(runs.place, members.diverged)})
        if again and spent < study.budget:
            room = min(launcher.slots, study.budget - spent)
            plan = Plan(tuple(again[:room]), False, "runs that were pruned")
        else:
            plan = members.plan(study, launcher.slots, elsewhere, [*failed, *ended, *left_out])
        if plan.finished:
            say(f"search finished after {members.done} runs: {plan.reason}")
            return members.lost(failed.values())
        say(f"search: {plan.reason}")
        if not plan.runs:
            time.sleep(WAIT)
        proposed(study.make(*proposal) for proposal in plan.runs)
        before = known(survey.only(_belongs_to(study))) if prune else None
        states = _launch(plan.runs, study, store, launcher, say, stop, before, retry_failed=retry_failed)
        failed |= {p: study.make(*p).run_id for p, state in states.items() if state is RunState.FAILED}
        elsewhere |= {p for p, state in states.items() if state is RunState.ELSEWHERE}
        stop.raise_if_requested(f"the search after {members.done} runs")


def check_targets(studies: Iterable[SearchPlan], store: Store) -> None:
    """Raise ConfigError where full fine-tuning, which sets what a search looks for, is neither planned nor done."""
    unplanned = [study for study in studies if not any(spec.is_full for spec in study.baseline)]
    survey = store.survey() if unplanned and store.root.is_dir() else None
    for study in unplanned:
        if survey is None or not Members.of(study, survey).full:
            raise ConfigError(
                f"baseline.run=false: search=adaptive looks for a share of full fine-tuning's score, and "
                f"{store.root} has no such run of {study.ends()[0].model.label}; use baseline.run=true"
            )


@dataclass(frozen=True)
class Members:
    """The runs of one search that are over: of the curve, full fine-tuning and d = 0, and those that diverged or
    were pruned (`ended`); what is left of pruned cells is `left_out`."""

    curve: tuple[RunResult, ...]
    full: tuple[RunResult, ...]
    untrained: tuple[RunResult, ...]
    diverged: tuple[RunSpec, ...]
    ended: tuple[Place, ...] = ()
    left_out: tuple[Place, ...] = ()

    @classmethod
    def of(cls, study: SearchPlan, survey: Survey, own: set[str] | None = None) -> Members:
        """Those of `study` in a folder; of diverged ones only `own`, by their names, where these are given."""
        survey = survey.only(_belongs_to(study))
        results = survey.results
        pruned = [(runs.place(spec), kind) for spec, kind in survey.pruned]
        whole = [run for run in results if counts(runs.place(run.spec), pruned)]
        counted = {run.run_id for run in whole}
        return cls(
            tuple(run for run in whole if run.spec.in_space),
            tuple(run for run in whole if run.spec.is_full),
            tuple(run for run in results if run.spec.subspace.kind == "none"),
            tuple(spec for spec in survey.diverged if own is None or spec.run_id in own),
            tuple(at for at, _ in pruned),
            tuple(
                runs.place(run.spec)
                for run in results
                if run.spec.subspace.kind != "none" and run.run_id not in counted
            ),
        )

    @property
    def done(self) -> int:
        """How many runs have a result."""
        return len(self.curve) + len(self.full)

    def lost(self, failed: Iterable[str]) -> list[str]:
        """The names of runs that diverged, and of those that `failed`, each once."""
        return list(dict.fromkeys([*failed, *(spec.run_id for spec in self.diverged)]))

    def search(self, study: SearchPlan) -> Search:
        """What is searched for."""
        return study.search(runs.scale(self.full[0], self.untrained))

    def points(self) -> tuple[list[Point], list[Point]]:
        """Subspace runs and those of full fine-tuning, with what each row said; diverged ones have no score."""
        lost = [runs.diverged(spec, spec.d) for spec in self.diverged]
        return (
            [*map(runs.finished, self.curve), *(p for p in lost if p.d is not None)],
            [*map(runs.finished, self.full), *(p for p in lost if p.d is None)],
        )

    def plan(self, study: SearchPlan, slots: int, running: set[Place], failed: Sequence[Place]) -> Plan:
        """The next runs."""
        from intrinsic_cli.statistics.adaptive import propose

        _check_alike([*self.full, *self.curve])
        return propose(*self.points(), self.search(study), slots=slots, running=running, failed=failed)


def _launch(
    places: Sequence[Place],
    study: SearchPlan,
    store: Store,
    launcher: Launcher,
    say: Callable[[str], None],
    stop: Stop,
    before: Known | None,
    *,
    retry_failed: bool,
) -> dict[Place, RunState]:
    """Do what was proposed, but for runs that failed before; what became of each."""
    proposals = {study.make(*proposal): proposal for proposal in places}
    lost = [spec for spec in proposals if store.run(spec).state is RunState.FAILED and not retry_failed]
    states = {proposals.pop(spec): RunState.FAILED for spec in lost}
    for spec in proposals:
        store.run(spec).plan(spec)
        limit(spec, store, before)
    with closing(launcher.launch(list(proposals), store, stop)) as ended:
        for spec, state in ended:
            states[proposals[spec]] = state
            if state.over:
                say(f"{spec.run_id}  {outcome(spec, store)}")
    return states


def _check_alike(results: Sequence[RunResult]) -> None:
    """Raise StoreError where scores can't be put into one curve."""
    for other in results:
        if other.conditions != results[0].conditions:
            told = [" ".join(f"{k}={v}" for k, v in r.conditions.items()) for r in (results[0], other)]
            raise StoreError(
                f"{results[0].run_id} was trained under {told[0]} and {other.run_id} under {told[1]}: a search "
                "needs runs of one kind; move the others away, or set train.precision"
            )


def _belongs_to(study: SearchPlan) -> Callable[[RunSpec], bool]:
    """Whether a run is one of the search's, of full fine-tuning or of the model before training."""
    first = study.ends()[0]
    return lambda run: run.curve in (first.curve, (first.study,))
