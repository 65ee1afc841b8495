"""What a d_t has to reach: a share t of the way to full fine-tuning's score; from where, its definition says.

A definition is a row of TARGETS. One alone tells little: where chance is high, a share of the score is easy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.errors import ConfigError, one_of

Value = TypeVar("Value", float, np.ndarray)


@dataclass(frozen=True)
class Scale:
    """What the scores of a study mean.

    chance      score of the best constant answer (0 for correlations).
    n_eval      rows of the validation set; None where it is unknown.
    metric      the score's name.
    higher_is_better    False for a loss.
    untrained   score of the model before training (d = 0); None where it was not measured.
    untrained_rows  (n_eval,): what each row adds to it, as `Point.rows`.
    """

    chance: float
    n_eval: int | None = None
    metric: str = "accuracy"
    higher_is_better: bool = True
    untrained: Any = None  # a float, or one per replay
    untrained_rows: NDArray[Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("chance", "untrained"):
            value = getattr(self, name)
            if value is None and name == "untrained":
                continue
            known: bool = isinstance(value, Real | np.ndarray)
            if not known:
                raise ConfigError(f"{name}={value!r} is no number; give the score as a float")
            if not np.all(np.isfinite(value)):
                raise ConfigError(f"{name}={value} is not finite; give the score as a number")
        if self.n_eval is not None and not self.n_eval >= 1:
            raise ConfigError(
                f"n_eval={self.n_eval} must be at least 1 row; leave it out where it is unknown"
            )

    @property
    def floor(self) -> float:
        """What a run that learned nothing scores, as `up`: chance, or of a loss what the model before training has,
        where that is worse. It may be far worse, and runs in between have learned."""
        chance = self.up(self.chance)
        return (
            chance
            if self.higher_is_better or self.untrained is None
            else min(chance, self.up(self.untrained))
        )

    @property
    def bottom(self) -> float:
        """Where a curve rises from as d falls, as `up`: the model before training where measured, else chance."""
        return self.up(self.chance if self.untrained is None else self.untrained)

    def up(self, score: Any) -> Any:
        """A score (or an array of them) as statistics take it, where higher is better: a loss as its negative.
        The same again gives the score back."""
        return score if self.higher_is_better else 0.0 - score  # of nothing, -score would be -0.0


@dataclass(frozen=True)
class Target:
    """`begin` is the score from which the way to full fine-tuning counts, None where the scale has none, for the
    reason `lacks`. `over` is the score that full fine-tuning and the target must clearly beat, and `level`
    its name. `verb` and `way` say what the score does at d_t, in words about a `{share}`."""

    begin: Callable[[Scale], Any]
    over: Callable[[Scale], float]
    level: str
    lacks: str
    verb: str
    way: str


CHANCE, BEFORE = "chance", "the model before training"
TARGETS = {
    "score": Target(
        lambda scale: 0.0 if scale.higher_is_better else None, lambda scale: scale.chance, CHANCE,
        "a share of a full {metric} says nothing where lower is better",
        "reaches", "{share} of full fine-tuning's",
    ),
    "chance": Target(
        lambda scale: scale.chance, lambda scale: scale.chance, CHANCE, "",
        "has gone", "{share} of the way from chance to full fine-tuning's",
    ),
    "gain": Target(
        lambda scale: scale.untrained, lambda scale: scale.untrained, BEFORE,
        "the model before training was not measured (d=0)",
        "has gone", "{share} of the way from the model before training to full fine-tuning's",
    ),
}  # fmt: skip
HEADLINE = "score"  # the paper's
THRESHOLD = 0.9  # the paper's share; searches and pruning look for its d_t


def headline(scale: Scale) -> str:
    """The definition that stands first: the paper's, or for a loss the share of the gain, else that from chance."""
    return next(name for name in (HEADLINE, "gain", "chance") if TARGETS[name].begin(scale) is not None)


def begin(definition: str, scale: Scale) -> Any:
    """The score that `definition` counts from, as `scale.up` gives it; None where there is none. Raises ConfigError
    at a definition that is not in TARGETS."""
    if definition not in TARGETS:
        raise ConfigError(f"definition={definition!r}{one_of(definition, list(TARGETS))}")
    found = TARGETS[definition].begin(scale)
    return None if found is None else scale.up(found)


def target_score(full: Value, begin: Any, threshold: float) -> Value:
    """The score that lies the share `threshold` of the way from `begin` to `full`."""
    return begin + threshold * (full - begin)
