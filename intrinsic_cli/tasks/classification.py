"""One of several classes for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from intrinsic_cli.tasks.metrics import CLASSIFICATION, Answers, Metric, best_constant
from intrinsic_cli.tasks.task import Base, Task

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_cli.tasks.rows import Encoded, Part


class ClassAnswers(Task):
    """Tasks whose answer is one of several classes, however a model gives it: columns `prediction` and `label`."""

    metrics: ClassVar[Mapping[str, Metric]] = CLASSIFICATION
    classes = True

    def blank(self, n: int) -> dict[str, np.ndarray]:
        return {"prediction": np.zeros(n, np.int64)}

    def table(self, encoded: Encoded, columns: Answers) -> Answers:
        return {**columns, "label": encoded.labels}

    def outcomes(self, answers: Answers) -> np.ndarray:
        return answers["prediction"] == answers["label"]

    def chance(self, metric: str, encoded: Encoded) -> float:
        return best_constant(self.metrics[metric], encoded.labels)


class Classification(ClassAnswers):
    """Cross-entropy of a linear head's logits; the answer is the class of the largest one."""

    kind = "classification"
    fresh_head = True

    @classmethod
    def settings(cls, num_labels: int) -> dict[str, Any]:
        return {"num_labels": num_labels, "problem_type": "single_label_classification"}

    @classmethod
    def model_class(cls, config: Any) -> str:
        return "AutoModelForSequenceClassification"

    def encode(self, part: Part, names: Sequence[str], base: Base, max_length: int) -> Encoded:
        from intrinsic_cli.tasks.batches import tokenize

        return tokenize(part, base.tokenizer, max_length)

    def batch(self, encoded: Encoded, rows: Sequence[int]) -> dict[str, Tensor]:
        from intrinsic_cli.tasks.batches import collate

        return collate(encoded, rows)

    def loss(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        return model(**batch).loss

    def answer(self, model: Any, questions: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(**questions)
        return output.loss, {"prediction": output.logits.float().argmax(-1)}
