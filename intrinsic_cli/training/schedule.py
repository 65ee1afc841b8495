"""How many steps a run takes, when it is evaluated, and its learning rate at each."""

from __future__ import annotations

import math
from fractions import Fraction

from intrinsic_cli.spec import RunSpec


def total_steps(spec: RunSpec, n_train: int) -> int:
    """Optimizer steps of a run over `n_train` rows."""
    per_epoch = math.ceil(n_train / (spec.train.batch_size * spec.train.accumulate))
    return spec.train.max_steps or math.ceil(Fraction(str(spec.train.epochs)) * per_epoch)


def evaluation_steps(steps: int, evals: int) -> set[int]:
    """The steps (from 1) behind which a run is evaluated: `evals` spread evenly, the last behind the last."""
    return {math.ceil(steps * (i + 1) / evals) for i in range(evals)}


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Learning rate of `step` (from 0) ÷ the rate asked for: up over the first `warmup` of the steps, then
    down towards 0 behind the last."""
    rise = math.ceil(Fraction(str(warmup)) * steps)
    return (step + 1) / (rise + 1) if step < rise else (steps - step) / max(1, steps - rise)
