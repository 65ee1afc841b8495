"""`idim sweep`: train a grid of runs with its full fine-tuning baseline; again continues."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from intrinsic_cli.cli.arguments import overrides, own_configs, print_answer, print_config

if TYPE_CHECKING:
    from intrinsic_cli.planning.plan import StudyPlan
    from intrinsic_cli.planning.words import Override
    from intrinsic_cli.spec import RunSpec
    from intrinsic_cli.store import Store

    Show = Callable[[Store], None]

SUMMARY = "train a grid of runs with its full fine-tuning baseline; again continues"
EXAMPLES = """\
  idim sweep                                   # the embedded default: a d90 in minutes
  idim sweep task=mrpc model=roberta-base d=100,300,1000,3000 seed=0,1,2
  idim sweep task=mrpc,rte model=bert-base,roberta-base subspace=did,said --dry-run
  idim sweep study=paper-table1 task=mrpc --dry-run    # a study of the paper, or a part (idim list studies)
  idim sweep outputs/study.yaml seed=0,1,2     # a study again, with changes"""


def configure(parser: argparse.ArgumentParser) -> None:
    overrides(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan, load and train nothing")
    parser.add_argument(
        "--estimate", action="store_true", help="print the plan, and how long it takes by steps trained here"
    )
    parser.add_argument("--retry-failed", action="store_true", help="also try the runs again that failed")


def execute(
    arguments: argparse.Namespace,
    overrides: Sequence[Override] | None = None,
    shown: Callable[[StudyPlan], Show] | None = None,
) -> int:
    """Train what is to do and show what came of it: the d90 table where nothing else is wanted.

    `overrides` stand in place of the words of the command line. `shown` looks at the plan, may refuse it before
    anything is trained, and gives what shows the folder then.
    """
    from intrinsic_cli.planning import compose, study_file, words
    from intrinsic_cli.planning.plan import sweep_plan
    from intrinsic_cli.store import Store

    given = words_given(arguments) if overrides is None else overrides
    own = own_configs(arguments)
    if arguments.cfg:
        return print_config(compose.compose_config("sweep", words.expand(given)[0], own))
    file, typed = _split(arguments)
    plan = sweep_plan(given, own, {each.key_or_group for each in words.parse(typed)})
    show = shown(plan) if shown else _show_table
    store = Store(plan.output_dir)
    if (there := _beside(file, plan, store)) is not None:
        moved = f"runs of this study lie in {there} and none in {store.root}; output_dir={there} goes on with them"
        plan = replace(plan, notes=(moved, *plan.notes))
    if plan.searches:
        from intrinsic_cli.study.search import check_targets

        check_targets(plan.searches, store)
    if arguments.dry_run or arguments.estimate:
        return _show_plan(plan, store, estimate=arguments.estimate, retry_failed=arguments.retry_failed)
    failed = _train(plan, store, study_file.text(given, plan.cells), retry_failed=arguments.retry_failed)
    wanted = any(spec.in_space for spec in plan.specs) or plan.searches
    if wanted and (not failed or any(result.spec.in_space for result in store.results())):
        show(store)
    if failed:
        _say_lost(failed, store)
    return 1 if failed else 0


def _beside(file: str | None, plan: StudyPlan, store: Store) -> Path | None:
    """The folder of a study's file where its runs lie there alone: it was moved and names the old place."""
    from intrinsic_cli.store import Store

    if file is None or any(store.run(spec).path.exists() for spec in plan.specs):
        return None
    there = Store(Path(file).parent)
    return there.root if any(there.run(spec).path.exists() for spec in plan.specs) else None


def _say_lost(failed: Sequence[str], store: Store) -> None:
    """Say where the reasons of runs that failed are: those of runs that could not be begun were said alone."""
    from intrinsic_cli.result import RunState

    states = {look.spec.run_id: look.state for look in store.survey().runs if look.spec}
    told = sum(states.get(name) is RunState.FAILED for name in failed)
    unwritten = sum(states.get(name) not in (RunState.FAILED, RunState.DONE) for name in failed)
    for count, what in (
        (told, f"failed; `idim status {store.root}` says why"),
        (unwritten, "could not be written, for the reasons above; the same command tries again"),
    ):
        if count:
            print(f"idim: {count} run{'s' * (count > 1)} {what}", file=sys.stderr)


def _show_table(store: Store) -> None:
    from intrinsic_cli.reports import curves, tables

    print_answer(tables.answer(curves.estimates(curves.of(store.read()))))


def words_given(arguments: argparse.Namespace) -> list[Override]:
    """The words of the command line behind those of a study: a file, where the first is one, or `study=NAME`."""
    from intrinsic_cli.planning import study_file, words

    file, typed = _split(arguments)
    given = words.parse(typed)
    return study_file.preset(given) if file is None else study_file.read(file, given)


def _split(arguments: argparse.Namespace) -> tuple[str | None, list[str]]:
    """The file of a study among the words of the command line, where the first is one, and the others."""
    from intrinsic_cli.planning.study_file import SUFFIXES

    first, *others = arguments.overrides or [""]
    is_file = "=" not in first and first.endswith(SUFFIXES)
    return (first, others) if is_file else (None, arguments.overrides)


def _train(plan: StudyPlan, store: Store, study: str, *, retry_failed: bool) -> list[str]:
    """Do all runs of the plan, with `study` written beside them; returns the ids of those that failed."""
    from intrinsic_cli.render import can_draw
    from intrinsic_cli.study import progress, sweep
    from intrinsic_cli.study.launchers import make_launcher
    from intrinsic_cli.study.search import run_study
    from intrinsic_cli.training.stop import on_signals

    options, terminal = plan.launcher, can_draw(sys.stderr)
    specs = list(plan.specs)  # and those of searches, as they are proposed
    if options["kind"] in ("inline", "local"):
        options = {**options, "progress": terminal}
    launcher = make_launcher(**options)
    for note in plan.notes:
        progress.to_stderr(note)
    with (
        on_signals() as stop,
        progress.shown(specs, store, terminal=terminal, slots=launcher.slots) as say,
    ):
        ended = sweep.sweep(
            plan.specs, store, launcher, say, stop=stop, retry_failed=retry_failed,
            later=[spec for each in plan.searches for spec in each.ends()], study=study, prune=plan.prune,
        )  # fmt: skip
        failed = list(ended.failed)
        for search in plan.searches:
            failed += run_study(
                search, store, launcher, say, stop, retry_failed=retry_failed, prune=plan.prune,
                proposed=specs.extend,
            )  # fmt: skip
    return list(dict.fromkeys(failed))


def _show_plan(plan: StudyPlan, store: Store, *, estimate: bool, retry_failed: bool) -> int:
    """Print what a sweep would do; with `estimate` also how long, by training a few steps."""
    from intrinsic_cli.study.launchers import make_launcher
    from intrinsic_cli.study.pruning import Pruning
    from intrinsic_cli.study.sweep import clipped_otherwise, pending, without_weights

    slots = 1
    if estimate or plan.launcher["kind"] != "ray":  # which is only made by a cluster's start
        slots = make_launcher(**plan.launcher).slots  # which refuses options that can't be used
    pruning = Pruning(plan.specs, store) if plan.prune else None
    todo = pending(plan.specs, store, retry_failed=retry_failed, pruning=pruning)
    for spec in plan.specs:
        print(f"{store.run(spec).state:8} {spec.run_id}")
    for note in (*clipped_otherwise(todo, store), *without_weights(plan.specs, store)):
        print(note)
    line = f"{len(plan.specs)} runs, {len(todo)} to do"
    print(f"{line}, {_time(todo, slots)}" if estimate else line)
    if plan.prune and todo:
        print("search.prune=true may end some of them early, which takes less")
    for note in plan.notes:
        print(note)
    for study in plan.searches:
        print(f"and a search of at most {study.budget} runs in all, d from {study.d_min} to {study.d_max}")
    return 0


def _time(todo: Sequence[RunSpec], slots: int) -> str:
    """How long `todo` takes, and how that was found."""
    from intrinsic_cli.render import duration
    from intrinsic_cli.study import forecast
    from intrinsic_cli.study.sweep import cells
    from intrinsic_cli.training.inputs import Loader, check

    load = Loader()
    for cell in cells(todo):
        check(cell, load)
    at_once = f"{slots} at once" if slots > 1 else "one after the other"
    return (
        f"about {duration(forecast.forecast(todo, load, slots))}, {at_once}: by {forecast.STEPS} steps and one "
        "evaluation of each kind of run, timed on this machine"
    )
