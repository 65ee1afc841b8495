"""An adaptive study for real: propose, train, look again, until the interval is narrow enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from intrinsic_cli.errors import ConfigError, StoreError
from intrinsic_cli.planning.plan import Study
from intrinsic_cli.result import RunResult, RunState
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.launchers.base import Launcher
from intrinsic_cli.study.sweep import WAIT, outcome
from intrinsic_cli.training.stop import Stop

if TYPE_CHECKING:
    from intrinsic_cli.statistics.adaptive import Proposal


def run_study(
    study: Study,
    store: Store,
    launcher: Launcher,
    say: Callable[[str], None],
    stop: Stop | None = None,
    *,
    retry_failed: bool = False,
) -> list[str]:
    """Do the runs of `study` until it is finished; returns the ids of those that failed.

    Whatever runs of the study the store holds count, so a search goes on from any point, and several
    processes that search on one folder share the runs. A run that failed in an earlier search is tried again
    only with `retry_failed`. Raises Stopped.
    """
    from intrinsic_cli.statistics.adaptive import Search, propose
    from intrinsic_cli.statistics.points import Point

    stop = stop or Stop()
    first = study.ends()[0]
    failed: dict[Proposal, str] = {}
    elsewhere: set[Proposal] = set()
    while True:
        elsewhere = {p for p in elsewhere if store.run(study.make(*p)).state is RunState.RUNNING}
        results = [r for r in store.results() if r.study == first.study]
        full = [r for r in results if r.spec.subspace.kind == "full"]
        if not full:
            say("no full fine-tuning has finished, so there is no target to search for")
            return list(failed.values())
        if not full[0].higher_is_better:
            raise ConfigError(
                f"search=adaptive looks for a share of the full score, which the metric {full[0].metric} has not "
                "(lower is better); use search=grid"
            )
        search = Search(
            d_min=study.d_min,
            d_max=study.d_max,
            seeds=study.seeds,
            lrs=study.lrs,
            rel_width=study.rel_width,
            budget=study.budget,
            chance=full[0].chance,
            n_eval=full[0].n_eval,
            metric=full[0].metric,
        )
        members = [r for r in results if _same_curve(r.spec, first)]
        _check_alike([*full, *members])
        curve = [Point.of(r) for r in members]
        plan = propose(
            curve, [Point.of(r) for r in full], search, slots=launcher.slots, running=elsewhere,
            failed=list(failed),
        )  # fmt: skip
        if plan.finished:
            say(f"search finished after {len(curve) + len(full)} runs: {plan.reason}")
            return list(failed.values())
        say(f"search: {plan.reason}")
        if not plan.runs:
            time.sleep(WAIT)
        states = _launch(plan.runs, study, store, launcher, say, stop, retry_failed=retry_failed)
        failed |= {p: study.make(*p).run_id for p, state in states.items() if state is RunState.FAILED}
        elsewhere |= {p for p, state in states.items() if state is RunState.ELSEWHERE}
        stop.raise_if_requested(f"the search after {len(curve) + len(full)} runs")


def _launch(
    runs: Sequence[Proposal],
    study: Study,
    store: Store,
    launcher: Launcher,
    say: Callable[[str], None],
    stop: Stop,
    *,
    retry_failed: bool,
) -> dict[Proposal, RunState]:
    """Do what was proposed, but for runs that failed before; what became of each."""
    proposals = {study.make(*proposal): proposal for proposal in runs}
    lost = [spec for spec in proposals if store.run(spec).state is RunState.FAILED and not retry_failed]
    states = {proposals.pop(spec): RunState.FAILED for spec in lost}
    for spec in proposals:
        store.run(spec).plan(spec)
    for spec, state in launcher.launch(list(proposals), store, stop):
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


def _same_curve(run: RunSpec, first: RunSpec) -> bool:
    return (run.subspace, *_of_p(run)) == (first.subspace, *_of_p(first))


def _of_p(run: RunSpec) -> tuple[str, int | None]:
    """What of P is the same for all runs of a curve."""
    return run.projection.kind, run.projection.seed
