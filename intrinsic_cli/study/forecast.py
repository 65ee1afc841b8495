"""How long the runs of a study take here, from steps that are trained and thrown away."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from intrinsic_cli.spec import RunSpec
from intrinsic_cli.study.sweep import cells
from intrinsic_cli.training.inputs import Inputs, Load
from intrinsic_cli.training.schedule import evaluation_steps, total_steps
from intrinsic_cli.training.trainer import Trainer
from intrinsic_cli.training.untrained import measure

STEPS = 4  # timed of each kind of run, the first of them apart, beside one evaluation
LR = 1e-6  # of these steps: a rate at which runs diverge takes no other time


@dataclass(frozen=True)
class Costs:
    """Seconds of one run: `once`, whatever its length (its model, P, rows held out, the training score), and of
    each `step` and `evaluation`."""

    once: float
    step: float = 0.0
    evaluation: float = 0.0

    def of(self, steps: int, evaluations: int) -> float:
        """Seconds of a run of so many."""
        return self.once + self.step * steps + self.evaluation * evaluations


def timed(spec: RunSpec, inputs: Inputs) -> Costs:
    """What a run of `spec` costs on this machine, by a few steps of it."""
    if spec.subspace.kind == "none":
        return Costs(measure(spec, inputs).seconds["total"])
    short = replace(spec.train, max_steps=STEPS, evals=1, patience=None)
    sample = replace(spec, lr=LR, train=short)
    Trainer(sample, inputs).run()  # the first one compiles and warms up
    ends: dict[int, float] = {}  # of each step

    def mark() -> None:
        ends.setdefault(trainer.at.step, time.perf_counter())  # an evaluation beats too, after its step

    trainer = Trainer(sample, inputs, beat=mark)
    seconds = trainer.run().seconds
    step = (ends[STEPS] - ends[1]) / (STEPS - 1)  # the first one begins with the run
    once = seconds["total"] - seconds["evaluation"] - STEPS * step
    return Costs(max(once, 0.0), step, seconds["evaluation"])


def forecast(
    specs: Sequence[RunSpec], load: Load, slots: int = 1, cost: Callable[[RunSpec, Inputs], Costs] = timed
) -> float:
    """Seconds that `specs` take on `slots` machines like this one, by the `cost` of some of them.

    Runs of one kind differ in d, lr and seed. Those of the smallest and of the largest d are looked at, and the
    others lie on the line between. A slot that shares this machine's processors is slower than that.
    """
    total = 0.0
    for cell in cells(specs):
        inputs = load(cell[0])
        kinds: dict[object, list[RunSpec]] = {}
        for spec in cell:
            kind = (spec.subspace, spec.adapter, spec.projection.kind, spec.train)
            kinds.setdefault(kind, []).append(spec)
        for runs in kinds.values():
            low, high = min(runs, key=_size), max(runs, key=_size)
            ends = [cost(run, inputs) for run in ((low, high) if _size(low) < _size(high) else (low,))]
            for spec in runs:
                steps = total_steps(spec, len(inputs.train))
                each = [end.of(steps, len(evaluation_steps(steps, spec.train.evals))) for end in ends]
                part = (_size(spec) - _size(low)) / max(_size(high) - _size(low), 1)
                total += each[0] + part * (each[-1] - each[0])
    return total / len(specs) * math.ceil(len(specs) / slots) if specs else 0.0


def _size(spec: RunSpec) -> int:
    return spec.d or 0
