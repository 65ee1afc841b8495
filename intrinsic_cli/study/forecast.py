"""How long the runs of a study take here, from steps that are trained and thrown away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from intrinsic_cli.spec import RunSpec
from intrinsic_cli.study.sweep import cells
from intrinsic_cli.training.inputs import Inputs, Load
from intrinsic_cli.training.schedule import total_steps
from intrinsic_cli.training.trainer import Trainer
from intrinsic_cli.training.untrained import measure

STEPS = 3  # timed of each kind of run, beside one evaluation
LR = 1e-6  # of these steps: a rate at which runs diverge takes no other time


def forecast(specs: Sequence[RunSpec], load: Load, slots: int = 1) -> float:
    """Seconds that `specs` take on `slots` machines like this one: a few steps and an evaluation of each kind
    of run are timed. A slot that shares this machine's processors is slower than that."""
    total = 0.0
    for cell in cells(specs):
        inputs = load(cell[0])
        for kind in {(spec.subspace.kind, spec.adapter.label) for spec in cell}:
            runs = [spec for spec in cell if (spec.subspace.kind, spec.adapter.label) == kind]
            sample = replace(runs[0], train=replace(runs[0].train, max_steps=STEPS, evals=1, patience=None))
            per_step, per_eval = _time(sample, inputs)
            for spec in runs:
                evals = spec.train.evals if kind != "none" else 1
                total += per_step * total_steps(spec, len(inputs.train)) + per_eval * evals
    return total / len(specs) * math.ceil(len(specs) / slots) if specs else 0.0


def _time(sample: RunSpec, inputs: Inputs) -> tuple[float, float]:
    """Seconds of a step and of an evaluation."""
    if sample.subspace.kind == "none":
        return 0.0, measure(sample, inputs).seconds["total"]
    sample = replace(sample, lr=LR)
    Trainer(sample, inputs).run()  # the first one compiles and warms up
    seconds = Trainer(sample, inputs).run().seconds
    return (seconds["total"] - seconds["evaluation"]) / STEPS, seconds["evaluation"]
