"""An adaptive study for real: propose, train, look again, until the interval is narrow enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store

WAIT = 5.0  # seconds between two looks at runs that another process has


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
    study: Study, store: Store, train: Callable[[RunSpec], str], say: Callable[[str], None]
) -> list[str]:
    """Do the runs of `study` until it is finished; returns the ids of those that failed.

    `train` trains one spec and returns what became of it: `done`, `failed`, or `elsewhere` where another
    process has it. Whatever runs of the study the store holds count, so a search goes on from any point, and
    several processes that search on one folder share the runs.
    """
    from intrinsic_cli.adaptive import Proposal, Search, propose
    from intrinsic_cli.report import PROPORTIONS, point

    first = study.first()
    failed: dict[Proposal, str] = {}
    elsewhere: set[Proposal] = set()
    while True:
        elsewhere = {p for p in elsewhere if store.run(study.make(*p)).state == "running"}
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
        plan = propose(
            curve, [point(r) for r in full], search, running=elsewhere, failed=list(failed)
        )  # fmt: skip
        if plan.finished:
            say(f"search finished after {len(curve) + len(full)} runs: {plan.reason}")
            return list(failed.values())
        say(f"search: {plan.reason}")
        if not plan.runs:
            time.sleep(WAIT)
        for proposal in plan.runs:
            spec = study.make(*proposal)
            match train(spec):
                case "failed":
                    failed[proposal] = spec.run_id
                case "elsewhere":
                    elsewhere.add(proposal)


def _same_curve(spec: dict[str, Any], first: RunSpec) -> bool:
    run = RunSpec.from_dict(spec)
    return (run.subspace, run.projection.kind) == (first.subspace, first.projection.kind)
