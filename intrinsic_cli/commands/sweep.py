"""`idim sweep`: train a grid of runs with its full fine-tuning baseline; again continues."""

from __future__ import annotations

import argparse
import sys

from intrinsic_cli.commands.arguments import overrides, print_config
from intrinsic_cli.spec import RunSpec

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


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli import config
    from intrinsic_cli.plan import expand, sweep_plan

    if arguments.cfg:
        return print_config(config.compose_config("sweep", expand(arguments.overrides)[0]))
    plan = sweep_plan(arguments.overrides)
    from intrinsic_cli import sweep
    from intrinsic_cli.inputs import Loader
    from intrinsic_cli.store import Store

    store, load = Store(plan.output_dir), Loader()
    if arguments.dry_run:
        todo = sweep.pending(plan.specs, store)
        sweep.check(todo, load)
        waiting = {spec.run_id for spec in todo}
        for spec in plan.specs:
            print(f"{'pending' if spec.run_id in waiting else 'done':8} {spec.run_id}")
        seconds = sweep.forecast(todo, load)
        print(f"{len(plan.specs)} runs, {len(todo)} pending, about {sweep.minutes(seconds)} on this machine")
        for study in plan.searches:
            print(
                f"and a search of at most {study.budget} runs in all, d from {study.d_min} to {study.d_max}"
            )
        return 0
    progress = sys.stderr.isatty()
    failed = list(sweep.sweep(plan.specs, store, load, sweep.to_stderr, progress=progress).failed)
    for study in plan.searches:
        from intrinsic_cli.search import run_study

        def train(spec: RunSpec) -> str:
            return sweep.sweep([spec], store, load, sweep.to_stderr, progress=progress).of(spec)

        failed += run_study(study, store, train, sweep.to_stderr)
    if any(spec.d is not None for spec in plan.specs) or plan.searches:
        from intrinsic_cli.report import estimates, group
        from intrinsic_cli.tables import text

        print(text(estimates(group(store.results()))))
    if failed:
        runs = "1 run" if len(failed) == 1 else f"{len(failed)} runs"
        print(f"idim: {runs} failed; `idim status {plan.output_dir}` says why", file=sys.stderr)
    return 1 if failed else 0
