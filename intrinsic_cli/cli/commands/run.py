"""`idim run`: train once and print the score."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from intrinsic_cli.cli.arguments import overrides, own_configs, print_config, tell

if TYPE_CHECKING:
    from intrinsic_cli.result import RunResult
    from intrinsic_cli.spec import RunSpec
    from intrinsic_cli.store import Store

SUMMARY = "train once and print the score"
EXAMPLES = """\
  idim run                                     # MiniLM, DID with d=1000, on the embedded task
  idim run task=mrpc model=roberta-base subspace=said d=500
  idim run subspace=full task.path=../glue task=sst2 lr=5e-5 train.epochs=2"""


def configure(parser: argparse.ArgumentParser) -> None:
    overrides(parser)


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.planning import compose, specs
    from intrinsic_cli.planning.words import parse

    cfg = compose.compose_config("run", parse(arguments.overrides), own_configs(arguments))
    if arguments.cfg:
        return print_config(cfg)
    spec = specs.run_spec(cfg)
    from intrinsic_cli.spec import BUILTIN_MODELS
    from intrinsic_cli.store import Store

    store = Store(specs.output_dir(cfg))
    together = "WORLD_SIZE" in os.environ  # one of several processes, of which the first alone has the folder
    result = None if together else _finished(spec, store)
    if result is not None:
        from intrinsic_cli.study.progress import to_stderr
        from intrinsic_cli.study.sweep import without_weights

        for line in without_weights([spec], store):
            to_stderr(line)
    else:
        apart = not together and spec.model.name not in BUILTIN_MODELS
        result = _train_apart(spec, store) if apart else _train_here(spec, store)
    if os.environ.get("RANK", "0") != "0":
        return 0
    if result is None:
        print(f"idim: {spec.run_id} is running in another process", file=sys.stderr)
        return 1
    print(f"{result.metric} {result.score:.4f}")
    tell(str(store.run(spec).path))
    return 0


def _finished(spec: RunSpec, store: Store) -> RunResult | None:
    """The result that is there. Raises StoreError at one to keep that can't be read."""
    from intrinsic_cli.errors import DamagedError, StoreError

    try:
        return store.run(spec).result()
    except DamagedError:
        return None
    except StoreError:
        store.check_writable()  # where no folder can be, that is why
        raise


def _train_here(spec: RunSpec, store: Store) -> RunResult | None:
    """Train in this process; None where another one has the run."""
    from intrinsic_cli.render import can_draw
    from intrinsic_cli.study.progress import to_stderr
    from intrinsic_cli.training import run
    from intrinsic_cli.training.device import Compute
    from intrinsic_cli.training.inputs import Loader, check
    from intrinsic_cli.training.stop import on_signals

    with on_signals() as stop:
        load = Loader()
        summary = check([spec], load)
        store.check_writable()
        if os.environ.get("RANK", "0") == "0":
            to_stderr(summary)
            to_stderr(Compute.here(spec.train.precision).words(spec))
        return run.execute(spec, store, load, progress=can_draw(sys.stderr), stop=stop)


def _train_apart(spec: RunSpec, store: Store) -> RunResult | None:
    """Train in another process, which a stranger's model may take down; None where yet another one has the run."""
    from contextlib import closing

    from intrinsic_cli.errors import RunError
    from intrinsic_cli.render import can_draw
    from intrinsic_cli.result import RunState
    from intrinsic_cli.study.launchers.local import Local
    from intrinsic_cli.study.progress import outcome, to_stderr
    from intrinsic_cli.training.stop import on_signals

    with on_signals() as stop:
        launcher = Local(slots=1, retries=0, progress=can_draw(sys.stderr))
        lines = launcher.check([[spec]], store, stop)
        store.check_writable()
        store.run(spec).limit([])  # of a sweep that would have ended it early
        store.run(spec).plan(spec)  # again, where it has failed
        for line in lines:
            to_stderr(line)
        with closing(launcher.launch([spec], store, stop)) as ended:
            states = [state for _, state in ended]
        stop.raise_if_requested(f"before the end of {spec.run_id}")
    if states == [RunState.FAILED]:
        raise RunError(f"{spec.run_id} {outcome(spec, store)}")
    return store.run(spec).result()
