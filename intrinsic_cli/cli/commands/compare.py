"""`idim compare`: show how d90 goes with another number of each model, or how it differs between two curves."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from intrinsic_cli.cli.arguments import check_trend, folder, print_answer, read, show_trends, trend

if TYPE_CHECKING:
    from collections.abc import Callable

    from intrinsic_cli.spec import RunSpec
    from intrinsic_cli.store import Survey

SUMMARY = (
    "show how d90 goes with size, step, accuracy, gap or bound, or differs between models, spaces or tasks"
)
EXAMPLES = """\
  idim compare outputs/
  idim compare outputs/ --models 'bert-*' --figures figures/
  idim compare outputs/ --against gap           # (train - eval) / (1 - eval), of runs with train.score_train=true
  idim compare outputs/ --against bound         # the smallest bound on the true error that a curve has
  idim compare outputs/ --pair subspace=said subspace=did       # is SAID's smaller? for each model and task
  idim compare outputs/ --pair model=minilm,task=rte model=bert-base,task=rte
  idim compare outputs/ --format json | jq '.trends[].rho'"""

AGAINST = ("parameters", "step", "accuracy", "gap", "bound")


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)
    parser.add_argument(
        "--models", metavar="PATTERN", default="*", help="only models of such a name, as 'bert-*'"
    )
    parser.add_argument(
        "--against", choices=AGAINST, metavar="|".join(AGAINST),  # None is the first
        help="what d90 is held against, of each model, or of each model on each task; default: parameters",
    )  # fmt: skip
    parser.add_argument(
        "--pair", nargs=2, metavar=("A", "B"),
        help="instead, log2 of A's d90 over B's, for curves that differ in A and B (key=value,...) alone",
    )  # fmt: skip
    trend(parser)


def execute(arguments: argparse.Namespace) -> int:
    from fnmatch import fnmatchcase

    from intrinsic_cli.errors import ConfigError
    from intrinsic_cli.reports.axes import AXES, step_axis
    from intrinsic_cli.settings import natural

    def members(spec: RunSpec) -> bool:
        return fnmatchcase(spec.model.label, arguments.models)

    check_trend(arguments)
    survey = read(arguments.dir)
    there = {look.spec.model.label for look in survey.runs if look.spec}
    if there and not any(fnmatchcase(label, arguments.models) for label in there):
        names = ", ".join(sorted(there, key=natural))
        raise ConfigError(f"--models {arguments.models} is no model in {arguments.dir}; it has {names}")
    if arguments.pair:
        return _show_pairs(survey, members, arguments)
    if arguments.against == "step":
        specs = [*(run.spec for run in survey.results), *survey.diverged]
        axis = step_axis(spec.model for spec in specs if spec.in_space and members(spec))
    else:
        axis = AXES[arguments.against or AGAINST[0]]
    show_trends(survey, members, axis, arguments)
    return 0


def _show_pairs(survey: Survey, members: Callable[[RunSpec], bool], arguments: argparse.Namespace) -> int:
    from intrinsic_cli.errors import ConfigError
    from intrinsic_cli.reports import curves, differences

    if arguments.figures:
        raise ConfigError("--figures draws trends; with --pair there is none, so leave one of both out")
    if arguments.against:
        raise ConfigError(
            f"--against {arguments.against} asks for trends; with --pair there is none, so leave one of both out"
        )
    chosen = curves.chosen_by(arguments.selection, curves.of(survey.only(members)))
    pairs = differences.pairs(chosen, *arguments.pair)
    found = [differences.Compared.of(a, b, arguments.threshold) for a, b in pairs]
    print_answer(differences.answer(found), arguments.format)
    return 0
