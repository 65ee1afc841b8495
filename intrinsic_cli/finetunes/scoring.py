"""What a finished model answers on encoded rows, in the precision it was trained in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intrinsic_cli.errors import DataError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import base_of, build
from intrinsic_cli.spec import DataSpec, TaskSpec
from intrinsic_cli.tasks import metrics, splits
from intrinsic_cli.tasks.batches import Encoded, tokenize
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.evaluation import evaluate


def predict(model: Any, encoded: Encoded, precision: str, batch_size: int) -> np.ndarray:
    """Class ids (n,) int64, or values float64 for regression, in the rows' order. Moves `model` to the
    device in use and leaves it in evaluation mode."""
    compute = Compute.here(precision)
    predictions, _ = evaluate(model.to(compute.device), encoded, compute, batch_size)
    model.eval()
    return predictions


def score(
    found: FineTune, task: TaskSpec, data: DataSpec, *, model: str | None = None,
    trust_remote_code: bool = False, batch_size: int = 128,
) -> tuple[dict[str, float], int]:  # fmt: skip
    """Every metric of `task` on its validation split, and the number of rows.

    Raises DataError where the task's labels are not the fine-tune's, and as `rebuild.load`.
    """
    rows = splits.load(task, data)
    check_labels(found, task, rows.label_names)
    base = base_of(found, model, trust_remote_code=trust_remote_code)
    encoded = tokenize(rows.validation, base.tokenizer, data.max_length)
    predictions = predict(build(found, base), encoded, found.precision, batch_size)
    return metrics.score(task.metrics, predictions, encoded.labels), len(encoded)


def check_labels(found: FineTune, task: TaskSpec, labels: Sequence[str]) -> None:
    """Raise DataError unless the model answers in the labels of the task."""
    if task.regression != found.regression or tuple(labels) != found.labels:
        own, wanted = (", ".join(names[:5]) or "a number" for names in (found.labels, tuple(labels)))
        raise DataError(
            f"the fine-tune answers {own} and task {task.name} asks for {wanted}; "
            "evaluate it on a task with its labels"
        )
