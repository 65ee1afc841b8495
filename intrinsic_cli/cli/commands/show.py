"""`idim show`: what a run is, what came of it, and where its files are."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from intrinsic_cli.cli.arguments import in_shell, tell

if TYPE_CHECKING:
    from intrinsic_cli.result import RunResult
    from intrinsic_cli.rundir import RunDir

SUMMARY = "show what a run is, what came of it, and where its files are"
EXAMPLES = """\
  idim show outputs/RUN                        # its words, its curve, its files
  idim show outputs/RUN --json | jq '.metrics'"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of a run")
    parser.add_argument("--json", action="store_true", help="its result.json, checked")


def execute(arguments: argparse.Namespace) -> int:
    import json
    import os
    from pathlib import Path

    from intrinsic_cli.cli.commands import status
    from intrinsic_cli.errors import StoreError
    from intrinsic_cli.planning.specs import words_of
    from intrinsic_cli.rundir import RunDir, missing_run

    if not os.path.isdir(arguments.run):
        hint = missing_run(arguments.run) or "; give that of a run, DIR/NAME where idim status DIR lists NAME"
        raise StoreError(f"{arguments.run} is not a folder{hint}")
    path = Path(arguments.run)
    run = RunDir(path if path.name not in ("", "..") else path.resolve())
    look = run.look()
    spec = look.spec or run.spec()
    if arguments.json:
        if look.result is None:
            raise StoreError(f"{run.path} has no result, as it is {look.state}; leave --json out")
        print(json.dumps(look.result.to_dict(), indent=1, allow_nan=False))
        return 0
    told = status.words(status.record_of(look)) if look.result is None else []
    tell(f"{run.path.name}: {', '.join([look.state, *told])}")
    tell(in_shell(["idim", "run", *words_of(spec, run.path.parent)]))
    if look.result is not None:
        _print_result(look.result)
    _print_curve(run)
    for path in sorted(path for path in run.path.iterdir() if not path.name.startswith(".")):
        tell(f"{path}  {path.lstat().st_size:,} bytes")
    return 0


def _print_result(result: RunResult) -> None:
    from intrinsic_cli.render import duration

    tell("  ".join(f"{name} {value:.4f}" for name, value in result.metrics.items()))
    scales = f" ({result.m} of them SAID's scales)" if result.m else ""
    tell(
        f"{result.d:,} of {result.D:,} numbers trained{scales} on {result.n_train:,} rows, {result.n_eval:,} "
        f"scored; {result.steps:,} steps in {duration(result.total_seconds)} on {result.device}, {result.precision}"
    )


def _print_curve(run: RunDir) -> None:
    """The losses and scores of its history, at most ten lines of it; why not, where it is damaged."""
    from intrinsic_cli.errors import StoreError

    try:
        lines = run.history()
    except StoreError as error:
        tell(f"{error}; its losses are not shown")
        return
    kept = (
        sorted({round(i * (len(lines) - 1) / 9) for i in range(10)}) if len(lines) > 10 else range(len(lines))
    )
    for line in (lines[i] for i in kept):
        values = (
            f"{key} {value:.4g}" for key, value in line.items() if key not in ("step", "steps", "epoch")
        )
        tell(f"step {line['step']:>6}  {'  '.join(values)}")
