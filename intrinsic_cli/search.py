"""An adaptive study for real: propose, train, look again, until the interval is narrow enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store


@dataclass(frozen=True)
class Study:
    """One curve to be found: how its runs are made, and between which bounds.

    `make(d, seed, lr)` gives a run's spec, full fine-tuning for d = None; `lrs(d)` the learning rates to try.
    `baseline` are the runs of full fine-tuning to start from. The rest is as in `adaptive.Search`.
    """

    baseline: tuple[RunSpec, ...]
    make: Callable[[int | None, int, float], RunSpec]
    lrs: Callable[[int], Sequence[float]]
    d_min: int
    d_max: int
    seeds: tuple[int, ...]
    rel_width: float
    budget: int

    def first(self) -> RunSpec:
        """A run of the search, for checks that need one."""
        return self.make(self.d_min, self.seeds[0], self.lrs(self.d_min)[0])


def run_study(
    study: Study,
    store: Store,
    train_all: Callable[[Sequence[RunSpec]], Iterable[str]],
    say: Callable[[str], None],
) -> list[str]:
    """Do the runs of `study` until it is finished; returns the ids of those that failed.

    `train_all` trains specs, skipping what is done, and returns the ids of those that failed. Whatever runs
    of the study the store already holds count, so a search goes on from any point.
    """
    from intrinsic_cli.adaptive import Proposal, Search, propose
    from intrinsic_cli.report import PROPORTIONS, point

    first = study.first()
    failed: dict[Proposal, str] = {}
    while True:
        results = [r for r in store.results() if r["study"] == first.study]
        full = [r for r in results if r["spec"]["subspace"]["kind"] == "full"]
        if not full:
            say("no full fine-tuning has finished, so there is no target to search for")
            return list(failed.values())
        search = Search(
            d_min=study.d_min,
            d_max=study.d_max,
            seeds=study.seeds,
            lrs=study.lrs,
            rel_width=study.rel_width,
            budget=study.budget,
            chance=full[0]["chance"],
            n_eval=full[0]["n_eval"] if full[0]["metric"] in PROPORTIONS else None,
        )
        curve = [point(r) for r in results if _same_curve(r["spec"], first)]
        plan = propose(curve, [point(r) for r in full], search, failed=list(failed))
        if plan.finished:
            say(f"search finished after {len(curve) + len(full)} runs: {plan.reason}")
            return list(failed.values())
        say(f"search: {plan.reason}")
        for proposal in plan.runs:
            for run_id in train_all([study.make(*proposal)]):
                failed[proposal] = run_id


def _same_curve(spec: dict[str, Any], first: RunSpec) -> bool:
    run = RunSpec.from_dict(spec)
    return (run.subspace, run.projection.kind) == (first.subspace, first.projection.kind)
