"""A number for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from intrinsic_cli.tasks.classification import Classification
from intrinsic_cli.tasks.metrics import REGRESSION, Answers, Metric
from intrinsic_cli.tasks.task import Base

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_cli.tasks.rows import Encoded, Part


class Regression(Classification):
    """Squared error of a linear head's one output, which is the answer."""

    kind = "regression"
    metrics: ClassVar[Mapping[str, Metric]] = REGRESSION
    classes = False

    @classmethod
    def settings(cls, num_labels: int) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def encode(self, part: Part, names: Sequence[str], base: Base, max_length: int) -> Encoded:
        from intrinsic_cli.tasks.batches import tokenize

        return tokenize(part, base.tokenizer, max_length, np.float32)

    def answer(self, model: Any, questions: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(**questions)
        return output.loss, {"prediction": output.logits.float().squeeze(-1)}

    def blank(self, n: int) -> dict[str, np.ndarray]:
        return {"prediction": np.zeros(n, np.float64)}

    def outcomes(self, answers: Answers) -> np.ndarray:
        return answers["prediction"]

    def chance(self, metric: str, encoded: Encoded) -> float:
        return 0.0  # of a correlation with a constant
