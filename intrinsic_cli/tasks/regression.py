"""A number for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from intrinsic_cli.errors import DataError
from intrinsic_cli.spec import TaskSpec
from intrinsic_cli.tasks.classification import Classification
from intrinsic_cli.tasks.metrics import REGRESSION, Answers, Metric, best_rounded
from intrinsic_cli.tasks.task import Base

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_cli.tasks.rows import Encoded, Part


SHORT_SCORE = 0.99  # a correlation that right answers must be able to pass in bfloat16


def check_short(task: TaskSpec, labels: np.ndarray) -> None:
    """Raise DataError where right answers, rounded to bfloat16, would score badly: labels (n,) far from zero."""
    import torch

    exact = labels.astype(np.float64)
    short = torch.from_numpy(exact).bfloat16().double().numpy()
    if best_rounded(exact, short) <= SHORT_SCORE < best_rounded(exact, exact):
        raise DataError(
            f"task.label={task.label}: labels from {exact.min():g} to {exact.max():g} lie too close together for "
            "their distance from 0 in bfloat16, in which answers are computed; subtract one number from all of "
            f"them, such as their mean ({exact.mean():g}), or add train.precision=fp32"
        )


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
