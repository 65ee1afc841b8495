"""What a kind of task decides: how rows become a model's input, what its answers are, and how they are scored.

A kind is one module with a class that keeps this contract, and its name in KINDS. Trainer, scoring, bounds and
the loading of models ask the task and know no kind. Nothing here loads torch, so that a plan can ask too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from intrinsic_cli.errors import ConfigError, DataError, RunError, near
from intrinsic_cli.registry import Registry
from intrinsic_cli.spec import TaskSpec
from intrinsic_cli.tasks.metrics import Answers, Metric

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_cli.tasks.rows import Encoded, Part

KINDS = Registry(
    "task.kind",
    {
        "classification": "intrinsic_cli.tasks.classification:Classification",
        "regression": "intrinsic_cli.tasks.regression:Regression",
        "lm": "intrinsic_cli.tasks.lm:LanguageModelling",
        "choice": "intrinsic_cli.tasks.choice:Choice",
        "generation": "intrinsic_cli.tasks.generation:Generation",
    },
)


class Base(Protocol):
    """A loaded model and its tokenizer."""

    @property
    def model(self) -> Any: ...

    @property
    def tokenizer(self) -> Any: ...


class Task(ABC):
    """One kind of task, for the rows and metrics of a spec.

    `classes` says that an answer is one of the classes of the rows, so that errors can be counted (`outcomes` are
    booleans); `fresh_head` that the model gets a head that was not pre-trained; `writes` that a decoder continues
    prompts, which are padded on the left.
    Raises ConfigError at a metric that the kind does not have.
    """

    kind: ClassVar[str]
    metrics: ClassVar[Mapping[str, Metric]]
    classes: ClassVar[bool]
    fresh_head: ClassVar[bool]
    writes: ClassVar[bool] = False

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

    @classmethod
    @abstractmethod
    def model_class(cls, config: Any) -> str:
        """The class of transformers for a model of this config. Raises ModelError where it can't do the task."""

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
    def encode(self, part: Part, names: Sequence[str], base: Base, max_length: int) -> Encoded:
        """Rows of the classes `names` as token ids. Raises DataError at a row that leaves nothing to learn."""

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
    def table(self, encoded: Encoded, columns: Answers) -> Answers:
        """The answers to all rows beside what is right: columns (n,), of which every metric is made."""

    def check(self, names: Sequence[str]) -> None:
        """Raise DataError where a metric is not of as many classes as there are `names`."""
        for metric in self.spec.metrics:
            wanted = self.metrics[metric].classes
            if wanted is not None and len(names) != wanted:
                raise DataError(
                    f"task.metrics: {metric} is of {wanted} classes, and task {self.spec.name} has {len(names)}; "
                    f"use {metric}_macro"
                )

    # --- answers -> numbers ------------------------------------------------------------------------------

    @abstractmethod
    def outcomes(self, answers: Answers) -> np.ndarray:
        """One number per row, (n,): whether the answer is right, or what there is to compare."""

    @abstractmethod
    def chance(self, metric: str, encoded: Encoded) -> float:
        """What the best constant answer scores on these rows."""

    def score(self, answers: Answers) -> dict[str, float]:
        """Every metric of the spec, primary first, from a `table`.

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
