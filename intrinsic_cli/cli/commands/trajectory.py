"""`idim trajectory`: measure d90 along the checkpoints of a pre-training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from intrinsic_cli.cli.arguments import check_trend, show_trends, trend
from intrinsic_cli.cli.commands import sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from intrinsic_cli.planning.plan import StudyPlan
    from intrinsic_cli.store import Store

SUMMARY = "measure d90 along the checkpoints of a pre-training; again continues"
EXAMPLES = """\
  idim trajectory model.name='checkpoints/step-*' task=sst2 seed=0,1,2
  idim trajectory model.name=EleutherAI/pythia-70m revisions=step0,step512,step8000,step143000 task=rte
  idim trajectory study=paper-pretraining task=mrpc --dry-run
  idim trajectory model.name='checkpoints/step-*' d=300,3000,30000 --dry-run
  idim trajectory model.name='checkpoints/step-*' --figures figures/ --format csv"""


def configure(parser: argparse.ArgumentParser) -> None:
    sweep.configure(parser)
    trend(parser)


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.planning import checkpoints

    def shown(plan: StudyPlan) -> Callable[[Store], None]:
        from intrinsic_cli.errors import ConfigError
        from intrinsic_cli.reports.axes import model_key, step_axis

        specs = [*plan.specs, *(end for study in plan.searches for end in study.ends())]
        if len({model_key(spec.model) for spec in specs}) < 2:
            raise ConfigError(
                "a trajectory needs at least two checkpoints of different weights; give revisions=step0,step1000 "
                "or folders by model.name='checkpoints/step-*'"
            )
        if arguments.selection == "holdout" and not all(spec.data.holdout for spec in specs):
            raise ConfigError(
                "--selection holdout needs runs with a holdout score; add data.holdout=500, say"
            )
        axis = step_axis((spec.model for spec in specs), in_order=checkpoints.in_order(given))
        studies = {spec.study for spec in specs}
        return lambda store: show_trends(store.read(), lambda spec: spec.study in studies, axis, arguments)

    check_trend(arguments)
    given = sweep.words_given(arguments)
    return sweep.execute(arguments, checkpoints.overrides(given), shown)
