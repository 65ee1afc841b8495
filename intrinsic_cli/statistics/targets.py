"""What a d_t has to reach: a share t of the way to full fine-tuning's score; from where, its definition says.

A definition is a row of TARGETS. One alone tells little: where chance is high, a share of the score is easy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from intrinsic_cli.errors import ConfigError

Value = TypeVar("Value", float, np.ndarray)


@dataclass(frozen=True)
class Scale:
    """What the scores of a study mean.

    chance      score of the best constant answer (0 for correlations).
    n_eval      rows of the validation set; None where it is unknown.
    metric      the score's name.
    higher_is_better    False for a loss.
    """

    chance: float
    n_eval: int | None = None
    metric: str = "accuracy"
    higher_is_better: bool = True


@dataclass(frozen=True)
class Target:
    """`begin` is the score from which the way to full fine-tuning counts, None where the scale has none; `goal` is
    what the score does at d_t, in words about a `{share}`."""

    begin: Callable[[Scale], float | None]
    goal: str


TARGETS = {
    "score": Target(
        lambda scale: 0.0 if scale.higher_is_better else None, "reaches {share} of full fine-tuning's"
    ),
    "chance": Target(
        lambda scale: scale.chance if scale.higher_is_better else None,
        "has gone {share} of the way from chance to full fine-tuning's",
    ),
}
HEADLINE = "score"  # the paper's


def begin(definition: str, scale: Scale) -> float | None:
    """The score that `definition` counts from. Raises ConfigError at a definition that is not in TARGETS."""
    if definition not in TARGETS:
        raise ConfigError(f"definition={definition!r} is not known; use one of {', '.join(TARGETS)}")
    return TARGETS[definition].begin(scale)


def target_score(full: Value, begin: float, threshold: float) -> Value:
    """The score that lies the share `threshold` of the way from `begin` to `full`."""
    return begin + threshold * (full - begin)
