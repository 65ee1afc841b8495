"""`idim trajectory`: measure d90 along the checkpoints of a pre-training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from intrinsic_cli.cli.arguments import show_trends, trend
from intrinsic_cli.cli.commands import sweep

if TYPE_CHECKING:
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
    from intrinsic_cli.planning.checkpoints import overrides

    def show(plan: StudyPlan, store: Store) -> None:
        from intrinsic_cli.reports.trends import model_key, step_axis, steps

        places = steps([spec.model for spec in plan.specs])
        # By study, as the same folder may have had another path when a run was made.
        by_study = {spec.study: places[model_key(spec.model)] for spec in plan.specs}
        axis = step_axis(lambda curve: by_study[curve.study])
        show_trends(store.read(), lambda spec: spec.study in by_study, axis, arguments)

    return sweep.execute(arguments, overrides(sweep.words_given(arguments)), show)
