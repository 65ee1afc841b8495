"""`idim run`: train once and print the score."""

from __future__ import annotations

import argparse
import os
import sys

from intrinsic_cli.cli.arguments import overrides, own_configs, print_config

SUMMARY = "train once and print the score"
EXAMPLES = """\
  idim run                                     # MiniLM, DID with d=1000, on the embedded task
  idim run task=mrpc model=roberta-base subspace=said d=500
  idim run subspace=full task.path=../glue task=sst2 lr=5e-5 train.epochs=2"""


def configure(parser: argparse.ArgumentParser) -> None:
    overrides(parser)


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.planning import compose
    from intrinsic_cli.planning.words import parse

    cfg = compose.compose_config("run", parse(arguments.overrides), own_configs(arguments))
    if arguments.cfg:
        return print_config(cfg)
    spec = compose.run_spec(cfg)
    from intrinsic_cli.store import Store
    from intrinsic_cli.training import ranks, run
    from intrinsic_cli.training.inputs import Loader, check
    from intrinsic_cli.training.stop import on_signals

    store, load = Store(cfg.output_dir), Loader()
    summary = check([spec], load)
    store.check_writable()
    if os.environ.get("RANK", "0") == "0":  # the first of the processes of torchrun
        print(summary, file=sys.stderr)
    with on_signals() as stop:
        result = run.execute(spec, store, load, progress=sys.stderr.isatty(), stop=stop)
    if ranks.rank() > 0:
        return 0
    if result is None:
        print(f"idim: {spec.run_id} is running in another process", file=sys.stderr)
        return 1
    print(f"{result.metric} {result.score:.4f}")
    print(store.run(spec).path)
    return 0
