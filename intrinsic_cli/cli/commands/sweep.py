"""`idim sweep`: train a grid of runs with its full fine-tuning baseline; again continues."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from intrinsic_cli.cli.arguments import overrides, print_answer, print_config

if TYPE_CHECKING:
    from intrinsic_cli.planning.plan import StudyPlan
    from intrinsic_cli.store import Store

SUMMARY = "train a grid of runs with its full fine-tuning baseline; again continues"
EXAMPLES = """\
  idim sweep                                   # the embedded default: a d90 in minutes
  idim sweep task=mrpc model=roberta-base d=100,300,1000,3000 seed=0,1,2
  idim sweep task=mrpc,rte model=bert-base,roberta-base subspace=did,said --dry-run"""


def configure(parser: argparse.ArgumentParser) -> None:
    overrides(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and its estimated time, train nothing"
    )
    parser.add_argument("--retry-failed", action="store_true", help="also try the runs again that failed")


def execute(arguments: argparse.Namespace, show: Callable[[StudyPlan, Store], None] | None = None) -> int:
    """Train what is to do and `show` what came of it: the d90 table where nothing else is wanted."""
    from intrinsic_cli.planning import compose
    from intrinsic_cli.planning.plan import sweep_plan
    from intrinsic_cli.planning.words import expand

    if arguments.cfg:
        return print_config(compose.compose_config("sweep", expand(arguments.overrides)[0]))
    plan = sweep_plan(arguments.overrides)
    from intrinsic_cli.store import Store
    from intrinsic_cli.study import sweep
    from intrinsic_cli.study.launchers import make_launcher
    from intrinsic_cli.study.search import run_study
    from intrinsic_cli.training import inputs
    from intrinsic_cli.training.stop import on_signals

    store = Store(plan.output_dir)
    if arguments.dry_run:
        return _forecast(plan, store, retry_failed=arguments.retry_failed)
    # A launcher that trains in this process keeps what the check loads; others load it themselves.
    options, load = plan.launcher, inputs.load
    if options["kind"] in ("inline", "local"):
        options = {**options, "progress": sys.stderr.isatty()}
    if options["kind"] == "inline":
        options["load"] = load = inputs.Loader()
    launcher = make_launcher(**options)
    with on_signals() as stop:
        report = sweep.sweep(
            plan.specs, store, launcher, load, sweep.to_stderr, stop=stop,
            retry_failed=arguments.retry_failed,
        )  # fmt: skip
        failed = list(report.failed)
        for study in plan.searches:
            failed += run_study(
                study, store, launcher, sweep.to_stderr, stop, retry_failed=arguments.retry_failed
            )
    wanted = any(spec.d is not None for spec in plan.specs) or plan.searches
    if wanted and (not failed or any(result.spec.d is not None for result in store.results())):
        (show or _show_table)(plan, store)
    if failed:
        runs = "1 run" if len(failed) == 1 else f"{len(failed)} runs"
        print(f"idim: {runs} failed; `idim status {plan.output_dir}` says why", file=sys.stderr)
    return 1 if failed else 0


def _show_table(plan: StudyPlan, store: Store) -> None:
    from intrinsic_cli.reports.curves import estimates, group
    from intrinsic_cli.reports.tables import answer

    print_answer(answer(estimates(group(store.results()))))


def _forecast(plan: StudyPlan, store: Store, *, retry_failed: bool) -> int:
    from intrinsic_cli.render import duration
    from intrinsic_cli.study import sweep
    from intrinsic_cli.training.inputs import Loader

    load = Loader()
    todo = sweep.pending(plan.specs, store, retry_failed=retry_failed)
    sweep.check(todo, load)
    for spec in plan.specs:
        print(f"{store.run(spec).state:8} {spec.run_id}")
    seconds = sweep.forecast(todo, load)
    print(f"{len(plan.specs)} runs, {len(todo)} to do, about {duration(seconds)} on this machine")
    for study in plan.searches:
        print(f"and a search of at most {study.budget} runs in all, d from {study.d_min} to {study.d_max}")
    return 0
