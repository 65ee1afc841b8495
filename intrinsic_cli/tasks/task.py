"""What a kind of task decides: how rows become a model's input, what its answers are, and how they are scored.

A kind is one module with a class that keeps this contract, and its name in KINDS. Trainer, scoring, bounds and
the loading of models ask the task and know no kind. Nothing here loads torch, so that a plan can ask too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from intrinsic_cli.errors import ConfigError, RunError, near
from intrinsic_cli.spec import Registry, TaskSpec
from intrinsic_cli.tasks.metrics import Answers, Metric

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_cli.tasks.batches import Encoded
    from intrinsic_cli.tasks.splits import Part

KINDS = Registry(
    "task.kind",
    {
        "classification": "intrinsic_cli.tasks.classification:Classification",
        "regression": "intrinsic_cli.tasks.regression:Regression",
    },
)


class Task(ABC):
    """One kind of task, for the rows and metrics of a spec.

    `model_class` is the class of transformers that answers it, with a head of `settings`. `classes` says
    that it is one of the classes of the rows, so that errors can be counted (`outcomes` are booleans).
    Raises ConfigError at a metric that the kind does not have.
    """

    kind: ClassVar[str]
    model_class: ClassVar[str]
    metrics: ClassVar[Mapping[str, Metric]]
    classes: ClassVar[bool]

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        for name in spec.metrics:
            if name not in self.metrics:
                hint = near(name, self.metrics) or f"; use {', '.join(self.metrics)}"
                raise ConfigError(f"task.metrics: {name!r} is no {self.kind} metric{hint}")

    @classmethod
    @abstractmethod
    def settings(cls, num_labels: int) -> dict[str, Any]:
        """Keys of the model's config that `num_labels` outputs ask for."""

    @property
    def primary(self) -> str:
        """The metric that d90 uses."""
        return self.spec.metrics[0]

    @property
    def higher_is_better(self) -> bool:
        """Of the primary metric."""
        return self.metrics[self.primary].higher_is_better

    # --- rows -> a model's input -------------------------------------------------------------------------

    @abstractmethod
    def encode(self, part: Part, tokenizer: Any, max_length: int) -> Encoded:
        """The rows as token ids. Raises DataError at a row that leaves nothing to learn."""

    @abstractmethod
    def batch(self, encoded: Encoded, rows: Sequence[int]) -> dict[str, Tensor]:
        """What `loss` takes, for rows that are trained on."""

    def questions(self, encoded: Encoded, rows: Sequence[int]) -> dict[str, Tensor]:
        """What `answer` takes, for rows that are evaluated."""
        return self.batch(encoded, rows)

    def weight(self, encoded: Encoded, rows: Sequence[int]) -> int:
        """What rows count in a mean loss: one each, or the tokens that they are scored on."""
        return len(rows)

    # --- a model's output -> answers ---------------------------------------------------------------------

    @abstractmethod
    def loss(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean loss of a batch, by `weight`, with its graph."""

    @abstractmethod
    def answer(self, model: Any, questions: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of a batch, and what the model answers: the columns of `blank` for its rows."""

    @abstractmethod
    def blank(self, n: int) -> dict[str, np.ndarray]:
        """Columns (n,) of zeros for the answers to n rows."""

    @abstractmethod
    def facts(self, encoded: Encoded) -> Answers:
        """The columns (n,) that the rows themselves hold, such as what is right."""

    # --- answers -> numbers ------------------------------------------------------------------------------

    @abstractmethod
    def outcomes(self, answers: Answers) -> np.ndarray:
        """One number per row, (n,): whether the answer is right, or what there is to compare."""

    @abstractmethod
    def chance(self, metric: str, facts: Answers) -> float:
        """What the best constant answer scores on these rows."""

    def score(self, answers: Answers) -> dict[str, float]:
        """Every metric of the spec, primary first, from the columns of `blank` and `facts`.

        Raises RunError at answers or a metric that are not finite.
        """
        if len({len(values) for values in answers.values()}) != 1:
            counts = " and ".join(f"{len(values)} {name}s" for name, values in answers.items())
            raise ValueError(f"{counts}: every row has an answer")
        for name, values in answers.items():
            if bad := int(np.sum(~np.isfinite(values))):
                raise RunError(
                    f"{bad} of {len(values)} {name}s are not finite; a lower learning rate may help"
                )
        scores = {name: self.metrics[name](answers) for name in self.spec.metrics}
        if broken := [name for name, value in scores.items() if not np.isfinite(value)]:
            raise RunError(f"{', '.join(broken)} of these answers is not a finite number")
        return scores


def task_of(spec: TaskSpec) -> Task:
    """The task of a spec. Raises ConfigError at a kind that is not known, or a metric that does not fit it."""
    return KINDS[spec.kind](spec)
