"""The command line: subcommands that call the library. The only place that turns errors into text.

Nothing heavy is imported here at the top, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from intrinsic_cli import __version__
from intrinsic_cli.errors import IdimError
from intrinsic_cli.spec import RunSpec

EXAMPLES = {
    "run": """examples:
  idim run                                     # MiniLM, DID with d=1000, on the embedded task
  idim run task=mrpc model=roberta-base subspace=said d=500
  idim run subspace=full task.path=../glue task=sst2 lr=5e-5 train.epochs=2""",
    "sweep": """examples:
  idim sweep                                   # the embedded default: a d90 in minutes
  idim sweep task=mrpc model=roberta-base d=100,300,1000,3000 seed=0,1,2
  idim sweep task=mrpc,rte model=bert-base,roberta-base subspace=did,said --dry-run""",
    "summarize": """examples:
  idim summarize outputs/
  idim summarize outputs/ --format tex > table.tex
  idim summarize outputs/ --threshold 0.95 --format json | jq '.[].d90'
  idim summarize outputs/ --threshold 0.8,0.9,0.95 --reference paper""",
    "report": """examples:
  idim report outputs/                         # writes outputs/report.html
  idim report outputs/ --out d90.html --figures figures/""",
    "list": """examples:
  idim list tasks
  idim list models""",
    "status": """examples:
  idim status outputs/""",
    "completion": """examples:
  idim completion bash > ~/.local/share/bash-completion/completions/idim
  source <(idim completion zsh)""",
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of `idim`."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"idim: {message} ({self.prog} --help shows the usage)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands, each with an example in its help."""
    parser = Parser(
        prog="idim",
        description="Measure the intrinsic dimension (d90) of fine-tuning a language model.",
        epilog="example: idim sweep task=mrpc model=roberta-base && idim summarize outputs/",
    )
    parser.add_argument("--version", action="version", version=f"idim {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    run = add("run", "train once and print the score")
    sweep = add("sweep", "train a grid of runs with its full fine-tuning baseline; again continues")
    for command in (run, sweep):
        command.add_argument(
            "overrides", nargs="*", metavar="key=value", help="configuration, in Hydra's syntax"
        )
        command.add_argument("--cfg", choices=["job"], help="print the resolved configuration and stop")
    sweep.add_argument(
        "--dry-run", action="store_true", help="print the plan and its estimated time, train nothing"
    )
    summarize = add("summarize", "print the d90 table of finished runs")
    summarize.add_argument("dir", metavar="DIR", help="output folder of a sweep")
    summarize.add_argument(
        "--format", default="table", metavar="table|md|csv|tex|json", help="default: table"
    )
    summarize.add_argument(
        "--threshold",
        type=_numbers,
        default=[0.9],
        metavar="T,...",
        help="share of the full score; default 0.9 (d90)",
    )
    summarize.add_argument("--normalised", action="store_true", help="also of the score above chance level")
    summarize.add_argument("--reference", metavar="paper", help="set the paper's numbers beside yours")
    report = add("report", "write a page of tables, figures and runs to open in a browser")
    report.add_argument("dir", metavar="DIR", help="output folder of a sweep")
    report.add_argument("--out", metavar="FILE", help="default: DIR/report.html")
    report.add_argument("--figures", metavar="FOLDER", help="also write the figures as SVG and PDF files")
    report.add_argument(
        "--threshold", type=float, default=0.9, help="share of the full score; default 0.9 (d90)"
    )
    for command in (summarize, report):
        command.add_argument(
            "--selection", default="validation", metavar="validation|holdout",
            help="what learning rates are chosen by; default: validation",
        )  # fmt: skip
    status = add("status", "show what is done, running, failed and pending")
    status.add_argument("dir", metavar="DIR", help="output folder of a sweep")
    listing = add("list", "list what can be chosen")
    kinds = ["models", "tasks", "projections", "subspaces"]
    listing.add_argument("what", choices=kinds, metavar="|".join(kinds))
    completion = add("completion", "print a shell's completion script")
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 (a run failed), 2 (the user's mistake), 130 (Ctrl-C)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["_complete"]:
        from intrinsic_cli.completion import candidates

        print("\n".join(candidates(build_parser(), words[1:])))
        return 0
    arguments = build_parser().parse_args(words)
    try:
        return COMMANDS[arguments.command](arguments)
    except IdimError as error:
        print(f"idim: {error}", file=sys.stderr)
        return error.exit_status
    except Exception as error:
        if isinstance(error, BrokenPipeError):  # the reader of a pipe has seen enough
            sys.stderr.close()
            return 1
        if os.environ.get("IDIM_TRACEBACK"):
            raise
        reason = " ".join(str(error).split())
        print(
            f"idim: unforeseen {type(error).__name__}: {reason} (IDIM_TRACEBACK=1 shows where; please report it)",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nidim: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace) -> int:
    from intrinsic_cli import config

    cfg = config.compose_config("run", arguments.overrides)
    if arguments.cfg:
        return _print_config(cfg)
    spec = config.run_spec(cfg)
    from intrinsic_cli.store import Store

    store = Store(cfg.output_dir)
    from intrinsic_cli.inputs import Loader
    from intrinsic_cli.run import execute
    from intrinsic_cli.sweep import check

    load = Loader()
    check([spec], load)
    store.check_writable()
    result = execute(spec, store, load, progress=sys.stderr.isatty())
    if result is None:
        print(f"idim: {spec.run_id} is running in another process", file=sys.stderr)
        return 1
    print(f"{result['metric']} {result['score']:.4f}")
    print(store.run(spec).path)
    return 0


def _sweep(arguments: argparse.Namespace) -> int:
    from intrinsic_cli import config
    from intrinsic_cli.plan import expand, sweep_plan

    if arguments.cfg:
        return _print_config(config.compose_config("sweep", expand(arguments.overrides)[0]))
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


def _summarize(arguments: argparse.Namespace) -> int:
    from intrinsic_cli import report, tables
    from intrinsic_cli.store import Store

    found = report.estimates(
        report.group(Store(arguments.dir).results()),
        thresholds=arguments.threshold,
        selection=arguments.selection,
        normalised=arguments.normalised,
    )
    print(tables.text(found, arguments.format, arguments.reference))
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from intrinsic_cli import figures, page, plots, report
    from intrinsic_cli.store import Store

    if arguments.figures:
        figures.require_matplotlib()
    store = Store(arguments.dir)
    results = store.results()
    found = report.estimates(
        report.group(results), thresholds=[arguments.threshold], selection=arguments.selection
    )  # fmt: skip
    out = Path(arguments.out or store.root / "report.html")
    page.write(store, results, found, out)
    print(out)
    if arguments.figures:
        written = figures.write(plots.every(found), Path(arguments.figures))
        print(f"{len(written)} figures in {arguments.figures}")
    return 0


def _numbers(text: str) -> list[float]:
    """`0.8,0.9` as numbers, each once."""
    try:
        return list(dict.fromkeys(float(word) for word in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0.8,0.9") from error


def _status(arguments: argparse.Namespace) -> int:
    from collections import Counter

    from intrinsic_cli.store import Store

    runs = Store(arguments.dir).runs()
    for run in runs:
        line = f"{run.state:8} {run.path.name}"
        if run.state == "done":
            result = run.result() or {}
            line += f"  {result['metric']} {result['score']:.4f}"
        elif run.state == "failed":
            line += f"  {run.error()['message']}"
        print(line)
    counts = Counter(run.state for run in runs)
    print(", ".join(f"{counts[state]} {state}" for state in ("done", "running", "failed", "pending")))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from intrinsic_cli import config

    for name, summary in config.describe(arguments.what.removesuffix("s")):
        print(f"{name:20} {summary}".rstrip())
    return 0


def _completion(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.completion import SCRIPTS

    print(SCRIPTS[arguments.shell])
    return 0


def _print_config(cfg: object) -> int:
    from omegaconf import OmegaConf

    print(OmegaConf.to_yaml(cfg), end="")
    return 0


COMMANDS = {
    "run": _run,
    "sweep": _sweep,
    "summarize": _summarize,
    "report": _report,
    "status": _status,
    "list": _list,
    "completion": _completion,
}
